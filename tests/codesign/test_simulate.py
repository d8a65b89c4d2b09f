"""`codesign simulate`, and published simulators beside ours (played by stand-ins that answer what they are told to)."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from codesign.cli import main
from codesign.errors import ExternalError
from codesign.external.compare import comparable, run_external, zigzag_entry
from codesign.simulate import read_network, simulate
from simulators.accelerator import check_values
from simulators.spatial import Spatial
from simulators.spatial_hierarchy import hierarchy_from_zigzag, hierarchy_names, load_hierarchy
from simulators.systolic import Systolic
from simulators.workload import Workload

LAYERS = """out_channels,in_channels,out_y,out_x,filter_y,filter_x,stride,groups,count
16,8,6,6,3,3,1,1,2
8,8,5,5,3,3,2,8,1
"""


@pytest.fixture
def network(tmp_path: Path) -> Path:
    path = tmp_path / "net.csv"
    path.write_text(LAYERS, encoding="utf-8")
    return path


def stand_in(folder: Path, answer: object) -> str:
    """A Python interpreter that keeps the request it gets in `request.json` and gives the answer."""
    path = folder / "python"
    request = folder / "request.json"
    path.write_text(f"#!/bin/sh\ncat > '{request}'\ncat <<'END'\n{json.dumps(answer)}\nEND\n", encoding="utf-8")
    path.chmod(0o755)
    return str(path)


def test_totals_are_layers_times_counts(network: Path) -> None:
    found = simulate(str(network), "edge-16x16", {"rows": 8})
    assert found.accelerator["rows"] == 8
    for name in ("latency_cycles", "dram_bytes", "energy_uj"):
        assert found.totals[name] == pytest.approx(2 * found.layers[name][0] + found.layers[name][1])
    assert found.totals["pes"] == 8 * 16


def test_batch_and_bits_reach_the_layers(network: Path) -> None:
    workload, count = read_network(str(network), batch=3, bits=16)
    assert workload.batch.tolist() == [3, 3]
    assert workload.bits.tolist() == [16, 16]
    assert count.tolist() == [2, 1]


def test_scalesim_is_asked_for_one_padded_group_and_counted_for_all(tmp_path: Path, network: Path) -> None:
    workload, _ = read_network(str(network))
    padded = replace(workload, in_y=workload.in_y - 2, batch=workload.batch * 2)
    names = ("latency_cycles", "stall_cycles", "sram_ifmap_reads")
    answer = {"version": "3.0.0", "layers": [dict.fromkeys(names, 10.0), dict.fromkeys(names, 7.0)]}
    values = check_values(Systolic.fields, {"bandwidth": "limited", "dram_bytes_per_cycle": 4.0})
    found = run_external("scalesim", padded, values, stand_in(tmp_path, answer))
    assert found.version == "3.0.0"
    assert found.columns["latency_cycles"].tolist() == [10.0 * 2, 7.0 * 2 * 8]
    request = json.loads((tmp_path / "request.json").read_text())
    assert request["accelerator"]["mode"] == "USER"
    assert request["accelerator"]["bandwidth"] == 4
    assert request["layers"][1] == {
        "in_y": 11, "in_x": 11, "filter_y": 3, "filter_x": 3, "in_channels": 1, "out_channels": 1, "stride": 2,
    }  # fmt: skip


def test_differences_are_relative_and_zero_where_equal(tmp_path: Path, network: Path) -> None:
    ours = simulate(str(network), "edge-16x16").layers
    layers = [{n: float(ours[n][0]) for n in ("latency_cycles", "stall_cycles")}]
    layers.append({"latency_cycles": float(ours["latency_cycles"][1]) / 8 * 0.5, "stall_cycles": 0.0})
    found = simulate(
        str(network), "edge-16x16", against="scalesim", python=stand_in(tmp_path, {"version": "3", "layers": layers})
    )
    assert found.differences()["latency_cycles"].tolist() == [0.0, 1.0]
    assert found.differences()["stall_cycles"].tolist() == [0.0, 0.0]


def test_zigzag_gets_the_hierarchy_and_its_mapping_is_costed_by_our_model(tmp_path: Path) -> None:
    # A row of a ZigZag 3.9.1 run: 64 filters on 64 channels, 56 x 56 pixels, 3 x 3, its TPU-like example.
    workload = Workload.from_layers(out_channels=64, in_channels=64, out_y=56, out_x=56, filter_y=3, filter_x=3)
    spatial = (
        "SpatialMapping({O: [[], [(K, 32.0), (C, 32.0)], [], []], W: [[], [(K, 32.0), (C, 32.0)], []], "
        "I: [[(K, 32.0), (C, 32.0)], [], []]})"
    )
    inner = "[(C, 2), (FY, 3), (FX, 3)], [(OY, 56), (OX, 56), (K, 2)]"
    whole = "[(C, 2), (FY, 3), (FX, 3), (OY, 56), (OX, 56), (K, 2)]"
    temporal = f"{{O: [{inner}, []], W: [{whole}, []], I: [{whole}, []]}}"
    record = {"latency_cycles": 139872.0, "energy_uj": 68.294568736}
    record |= {"spatial_mapping": spatial, "temporal_mapping": temporal}  # type: ignore[dict-item]
    python = stand_in(tmp_path, {"version": "3.9.1", "layers": [record]})
    found = run_external("zigzag", workload, check_values(Spatial.fields, {"base": "zigzag-tpu-like"}), python)
    assert found.ours["latency_cycles"][0] == 139872
    assert found.ours["energy_uj"][0] == pytest.approx(68.294568736, rel=1e-9)
    request = json.loads((tmp_path / "request.json").read_text())
    assert request["layers"][0]["K"] == 64
    assert request["objective"] == "latency"


@pytest.mark.parametrize("name", hierarchy_names())
def test_hierarchies_survive_zigzags_form(name: str) -> None:
    hierarchy = load_hierarchy(name)
    again = hierarchy_from_zigzag(name, zigzag_entry(hierarchy))
    assert again.array == hierarchy.array
    assert again.mac_pj == hierarchy.mac_pj
    assert again.systolic == hierarchy.systolic
    assert again.spatial == hierarchy.spatial
    for ours, theirs in zip(hierarchy.memories, again.memories, strict=True):
        assert replace(ours, field="", ports=theirs.ports) == theirs
        assert [(p.kind, p.min_bits, p.max_bits, p.moves) for p in ours.ports] == [
            (p.kind, p.min_bits, p.max_bits, p.moves) for p in theirs.ports
        ]


@pytest.mark.skipif(find_spec("scalesim") is not None, reason="SCALE-Sim is installed here")
def test_a_missing_simulator_says_how_to_install_it(network: Path) -> None:
    workload, _ = read_network(str(network))
    with pytest.raises(ExternalError, match=r"install it there: .* -m pip install scalesim 'numpy<2.4'"):
        run_external("scalesim", workload, check_values(Systolic.fields, {}), sys.executable)


def test_comparable_layers_have_no_padding() -> None:
    layer = Workload.from_layers(out_y=8, out_x=8, filter_y=3, filter_x=3, in_y=8, in_x=8)
    assert comparable(layer).in_y.tolist() == [10]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["resnet18-46", "--on", "edge-16x16"], "did you mean 'resnet18-64'"),
        (["absent.csv", "--on", "edge-16x16"], "absent.csv"),
        (["NET", "--on", "edge-16x61"], "edge-16x16"),
        (["NET", "--on", "edge-16x16", "--set", "row=8"], "'rows'"),
        (["NET", "--on", "edge-16x16", "--set", "rows"], "field=value"),
        (["NET", "--on", "edge-16x16", "--set", "rows=0"], "rows"),
        (["NET", "--on", "edge-16x16", "--against", "scalsim"], "did you mean 'scalesim'"),
        (["NET", "--on", "edge-16x16", "--against", "zigzag"], "zigzag is compared with spatial"),
        (["NET", "--on", "edge-sizing", "--against", "scalesim"], "mode scalesim"),
        (["NET", "--on", "edge-16x16", "--bits", "16", "--against", "scalesim"], "8 bits"),
        (["NET", "--on", "edge-16x16", "--against", "scalesim", "--python", "/no/python"], "/no/python"),
    ],
)
def test_wrong_calls_exit_with_two(
    network: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["simulate", *(str(network) if a == "NET" else a for a in arguments)])
    assert ended.value.code == 2
    assert message in capsys.readouterr().err


def test_the_command_prints_a_table_and_json(network: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["simulate", str(network), "--on", "edge-16x16"])
    printed = capsys.readouterr().out
    assert ended.value.code == 0
    assert "8x8 5x5 3x3/2 g8" in printed
    assert "not counted:" in printed
    with pytest.raises(SystemExit):
        main(["simulate", str(network), "--on", "edge-16x16", "--json"])
    record = json.loads(capsys.readouterr().out)
    assert record["totals"]["latency_cycles"] == np.dot([2, 1], [row["latency_cycles"] for row in record["layers"]])
