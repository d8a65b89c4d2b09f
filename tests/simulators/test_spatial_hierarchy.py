"""Memory hierarchies as data."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from simulators.spatial_hierarchy import (
    HIERARCHY_FOLDER,
    OPERANDS,
    hierarchy_names,
    load_hierarchy,
    load_zigzag_accelerators,
)

EDGE = (HIERARCHY_FOLDER / "edge-like.toml").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", hierarchy_names())
def test_shipped_hierarchies_are_whole_and_say_where_they_come_from(name: str) -> None:
    hierarchy = load_hierarchy(name)
    assert hierarchy.description
    assert hierarchy.source
    for operand in OPERANDS:
        sizes = [hierarchy.memories[i].bits * hierarchy.copies(i) for i in hierarchy.levels(operand)]
        assert sizes[-1] == max(sizes)
        assert hierarchy.memories[hierarchy.levels(operand)[-1]].name == "dram"
        # every array dimension fans out at exactly one place
        assert sorted(d for group in hierarchy.unrolled_at(operand) for d in group) == sorted(hierarchy.array)
    assert {memory.field for memory in hierarchy.memories} - {""}


def test_levels_copies_and_fan_out() -> None:
    hierarchy = load_hierarchy("edge-like")
    assert hierarchy.level_names("O") == ("output_registers", "global_buffer", "dram")
    assert hierarchy.unrolled_at("O") == (("D2",), ("D1",), (), ())
    assert hierarchy.unrolled_at("W") == ((), ("D1", "D2"), (), ())
    assert [hierarchy.copies(i) for i in hierarchy.levels("O")] == [16, 1, 1]
    assert hierarchy.pes == 256


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('operands = ["W"]', 'operands = ["X"]', "'X' is not one of O, W, I"),
        ('serves = ["D2"]', 'serves = ["D3"]', "'D3' is not one of D1, D2"),
        ("min_bits = 64", "min_bits = 640", "0 < min_bits <= max_bits"),
        ('moves = ["W wr_in_by_high"]', "moves = []", "no port moves W wr_in_by_high"),
        ('"O rd_out_to_high"', '"O rd_out_to_hig"', "did you mean 'rd_out_to_high'"),
        ('name = "global_buffer"', 'name = "dram"', "two memories have one name"),
        ("mac_pj = ", "mac = ", "did you mean 'mac_pj'"),
        ('D1 = ["K, 16"]', 'D1 = ["Q, 16"]', "'Q' is not one of B, G, K"),
        ("D1 = 16", "D1 = 0", "at least 1 PE"),
        ("[array]", "[array", "not valid TOML"),
        ("read_pj = ", "reed_pj = ", "did you mean 'read_pj'"),
    ],
)
def test_wrong_files_are_refused(old: str, new: str, message: str, tmp_path: Path) -> None:
    assert old in EDGE
    path = tmp_path / "own.toml"
    path.write_text(EDGE.replace(old, new), encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        load_hierarchy(path)


def test_names_and_files_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="did you mean 'tpu-like'"):
        load_hierarchy("tpu-lik")
    with pytest.raises(ValueError, match="cannot read"):
        load_hierarchy(tmp_path / "none.toml")
    with pytest.raises(ValueError, match="cannot read"):
        load_zigzag_accelerators(tmp_path / "none.json")
    path = tmp_path / "accelerators.json"
    path.write_text(json.dumps({"a": {"hardware": {}}}))
    with pytest.raises(ValueError, match="accelerator 'a': 'default_mapping' is missing"):
        load_zigzag_accelerators(path)
    path.write_text("{")
    with pytest.raises(ValueError, match="not valid JSON"):
        load_zigzag_accelerators(path)
