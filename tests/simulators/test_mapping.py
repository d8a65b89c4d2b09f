"""Mappings as text and as loops."""

from __future__ import annotations

import pytest

from simulators.mapping import Mapping, parse_mapping
from simulators.spatial_hierarchy import load_hierarchy

SPATIAL = (
    "SpatialMapping({O: [[(C, 2.0)], [(K, 32.0), (OY, 3.5)], [], []], "
    "W: [[(OY, 3.5)], [(K, 32.0), (C, 2.0)], [], [], []], I: [[(K, 32.0), (C, 2.0), (OY, 3.5)], [], [], []]})"
)
TEMPORAL = (
    "{O: [[(C, 32), (FY, 3)], [(OY, 14)], [(K, 2)]], W: [[], [(C, 32), (FY, 3), (OY, 14), (K, 2)], [], []], "
    "I: [[(C, 32)], [(FY, 3), (OY, 14), (K, 2)], []]}"
)


def test_text_reads_and_prints_back() -> None:
    mapping = parse_mapping(SPATIAL, TEMPORAL)
    assert mapping.spatial_text == SPATIAL
    assert mapping.temporal_text == TEMPORAL
    assert parse_mapping(mapping.spatial_text, mapping.temporal_text) == mapping


def test_order_and_bounds() -> None:
    mapping = parse_mapping(SPATIAL, TEMPORAL)
    assert mapping.order == (("C", 32.0), ("FY", 3.0), ("OY", 14.0), ("K", 2.0))
    assert mapping.bounds("O") == (2, 3, 4)
    assert mapping.bounds("W") == (0, 4, 4, 4)
    assert mapping.bounds("I") == (1, 4, 4)


def test_description_names_the_memory_of_every_operand() -> None:
    lines = parse_mapping(SPATIAL, TEMPORAL).describe(load_hierarchy("zigzag-meta-prototype")).splitlines()
    assert lines[0] == "for K  in 2: O in dram, W in sram_64KB, I in sram_1MB_A"
    assert lines[-2] == "for C  in 32: O in rf_2B, W in sram_64KB, I in sram_32KB"
    assert lines[-1] == "in parallel: C 2, K 32, OY 3.5"


@pytest.mark.parametrize(
    ("spatial", "temporal", "message"),
    [
        (SPATIAL, TEMPORAL.replace("I: [[(C, 32)], [(FY, 3)", "I: [[(C, 32)], [(FX, 3)"), "temporal loops of I"),
        (SPATIAL, TEMPORAL.replace("K", "Q"), "loop"),
        (SPATIAL, TEMPORAL.replace("I:", "J:"), "operands must be O, W, I"),
        (SPATIAL, "nothing", "operands must be O, W, I, not none"),
        (SPATIAL.replace("I: [[(K, 32.0), (C, 2.0), (OY, 3.5)], []", "I: [[(K, 32.0)]"), TEMPORAL, "one more spatial"),
        (SPATIAL, TEMPORAL[:-3], "not closed"),
    ],
)
def test_malformed_text_is_refused(spatial: str, temporal: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_mapping(spatial, temporal)


def test_a_mapping_without_loops_is_allowed() -> None:
    empty = Mapping(dict.fromkeys("OWI", ((), (), ())), dict.fromkeys("OWI", ((), ())))
    assert empty.order == ()
    assert empty.temporal_text == "{O: [[], []], W: [[], []], I: [[], []]}"
