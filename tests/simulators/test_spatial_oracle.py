"""The cost of loop nests against a slow walk through them, and what must hold for any nest."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulators.mapping import Levels, Loop, Mapping
from simulators.spatial_cost import numbers_of
from simulators.spatial_evaluate import NestCosts, evaluate
from simulators.spatial_hierarchy import OPERANDS, READ_HIGH, READ_LOW, WRITE_HIGH, WRITE_LOW, Hierarchy, Memory, Port
from simulators.spatial_nest import Layers, layers_of, nests_of
from simulators.workload import Workload
from tests.simulators.spatial_oracle import moved_words

_MOVES = {"O": range(4), "W": (READ_LOW, WRITE_HIGH), "I": (READ_LOW, WRITE_HIGH)}


def memory(name: str, bits: float, operands: str, serves: tuple[str, ...], width: float = 1.0) -> Memory:
    ports = tuple(Port("read_write", 1.0, width, tuple((op, way) for way in _MOVES[op])) for op in operands)
    return Memory(name, bits, 1.0, 1.0, tuple(operands), serves, ports)


def three_levels(buffer_bits: float = 1e6, width: float = 1.0, dram_width: float = 1.0) -> Hierarchy:
    """Registers for W and O, a buffer for all three, DRAM; ports count single bits."""
    both = ("X", "Y")
    memories = (
        memory("weights", 1e6, "W", (), width),
        memory("sums", 1e6, "O", ("Y",), width),
        memory("buffer", buffer_bits, "WIO", both, width),
        memory("dram", 1e12, "WIO", both, dram_width),
    )
    return Hierarchy("test", {"X": 4, "Y": 4}, 1.0, memories, {"X": (("K", 4),), "Y": (("C", 4),)})


@st.composite
def nests(draw: st.DrawFn) -> tuple[Layers, Mapping, int]:
    """A tiny layer, with K unrolled over X and C over Y, and an uneven mapping."""
    dims = ("B", "K", "C", "OY", "OX", "FY", "FX")
    loops: list[Loop] = draw(
        st.lists(st.tuples(st.sampled_from(dims), st.sampled_from((2.0, 3.0))), min_size=1, max_size=5)
    )
    wide = draw(st.sampled_from((1.0, 2.0, 4.0))), draw(st.sampled_from((1.0, 2.0)))
    spatial: dict[str, list[list[Loop]]] = {
        "O": [[("C", wide[1])], [("K", wide[0])], [], []],
        "W": [[], [("K", wide[0]), ("C", wide[1])], [], []],
        "I": [[("K", wide[0]), ("C", wide[1])], [], []],
    }
    temporal: dict[str, Levels] = {}
    for op in OPERANDS:
        n_levels = len(spatial[op]) - 1
        cuts = sorted(draw(st.lists(st.integers(0, len(loops)), min_size=n_levels - 1, max_size=n_levels - 1)))
        ends = [0, *cuts, len(loops)]
        temporal[op] = tuple(tuple(loops[a:b]) for a, b in pairwise(ends))
    sizes = dict.fromkeys(("B", "G", "K", "C", "OY", "OX", "FY", "FX"), 1)
    for dimension, size in [*loops, ("K", wide[0]), ("C", wide[1])]:
        sizes[dimension] *= int(size)
    stride = draw(st.integers(1, 3))
    workload = Workload.from_layers(
        batch=sizes["B"], out_channels=sizes["K"], in_channels=sizes["C"], out_y=sizes["OY"], out_x=sizes["OX"],
        filter_y=sizes["FY"], filter_x=sizes["FX"], stride=stride,
    )  # fmt: skip
    frozen = {op: tuple(map(tuple, levels)) for op, levels in spatial.items()}
    return layers_of(workload), Mapping(frozen, temporal), stride


def cost(layers: Layers, mapping: Mapping, hierarchy: Hierarchy) -> NestCosts:
    return evaluate(nests_of(layers, hierarchy, [mapping]), hierarchy)


@given(nests())
@settings(max_examples=30, deadline=None)
def test_accesses_are_those_of_a_walk_through_the_nest(nest: tuple[Layers, Mapping, int]) -> None:
    layers, mapping, stride = nest
    hierarchy = three_levels()
    words = cost(layers, mapping, hierarchy).accesses.words
    # copies of a level in use: the spatial loops above it
    copies = {
        op: [np.prod([s for level in mapping.spatial[op][i + 1 :] for _, s in level]) for i in range(3)] for op in "OWI"
    }
    for op in "WI":
        n_levels = len(hierarchy.levels(op))
        for level in range(n_levels):
            moved, _ = moved_words(mapping, op, level, stride)
            assert words[op][level, READ_LOW, 0] == 8 * moved * copies[op][level]
            if level:
                # what a level receives: its own tile, whatever number of copies below it get the same
                # every copy below receives its own tile; no loop here gives two copies the same one
                assert words[op][level - 1, WRITE_HIGH, 0] == words[op][level, READ_LOW, 0]
    for level in range(3):
        moved, again = moved_words(mapping, "O", level, stride)
        bits = 16 if again else 8
        assert words["O"][level, WRITE_LOW, 0] == bits * moved * copies["O"][level]
        assert words["O"][level, READ_LOW, 0] == (bits * moved * copies["O"][level] if again else 0)
    assert (words["O"][-1, [READ_HIGH, WRITE_HIGH]] == 0).all()


@given(nests())
@settings(max_examples=15, deadline=None)
def test_every_operand_crosses_every_boundary_at_least_once(nest: tuple[Layers, Mapping, int]) -> None:
    layers, mapping, _ = nest
    found = cost(layers, mapping, three_levels())
    sizes = layers.sizes[:, 0]
    outputs = sizes[[0, 1, 2, 4, 5]].prod()
    weights = sizes[[1, 2, 3, 6, 7]].prod()
    inputs = sizes[[0, 1, 3]].prod() * layers.in_y[0] * layers.in_x[0]
    assert found.accesses.words["O"][-1, WRITE_LOW, 0] >= 8 * outputs
    assert found.accesses.words["W"][-1, READ_LOW, 0] >= 8 * weights
    assert found.accesses.words["I"][-1, READ_LOW, 0] >= 8 * inputs
    unrolled = np.prod([s for level in mapping.spatial["O"] for _, s in level])
    assert found.latency.temporal_cycles[0] * unrolled == layers.macs[0]
    assert found.accesses.mac_pj[0] == layers.macs[0]


@given(nests(), st.floats(1.0, 16.0), st.sampled_from((1.0, 8.0, 64.0)))
@settings(max_examples=15, deadline=None)
def test_more_bandwidth_or_capacity_never_slows_the_same_mapping(
    nest: tuple[Layers, Mapping, int], factor: float, width: float
) -> None:
    layers, mapping, _ = nest
    base = cost(layers, mapping, three_levels(1e5, width, width))
    for other in (
        three_levels(1e5, width * factor, width),
        three_levels(1e5, width, width * factor),
        three_levels(1e5 * factor, width, width),
    ):
        changed = cost(layers, mapping, other).latency
        assert changed.compute_cycles[0] <= base.latency.compute_cycles[0]
        assert changed.port_cycles[0] <= base.latency.port_cycles[0]


@given(nests())
@settings(max_examples=15, deadline=None)
def test_latency_is_ordered_from_the_ideal_up(nest: tuple[Layers, Mapping, int]) -> None:
    layers, mapping, _ = nest
    latency = cost(layers, mapping, three_levels(width=16.0, dram_width=8.0)).latency
    assert latency.ideal_cycles[0] <= latency.temporal_cycles[0] <= latency.compute_cycles[0]
    assert latency.compute_cycles[0] <= latency.total_cycles[0] <= latency.bounded_cycles[0]
    assert latency.bounded_cycles[0] >= latency.port_cycles[0]


def test_numbers_may_differ_by_nest() -> None:
    layers = layers_of(Workload.from_layers(out_channels=4, in_channels=8))
    mapping = Mapping(
        {"O": ((), (), (), ()), "W": ((), (), (), ()), "I": ((), (), ())},
        {op: ((), *((),) * (n - 2), (("K", 4.0), ("C", 8.0))) for op, n in (("O", 3), ("W", 3), ("I", 2))},
    )
    hierarchy = three_levels()
    two = layers.take(np.array([0, 0]))
    numbers = replace(numbers_of(hierarchy), mac_pj=np.array([1.0, 3.0]))
    costs = evaluate(nests_of(two, hierarchy, [mapping, mapping]), hierarchy, numbers)
    assert costs.accesses.mac_pj.tolist() == [32.0, 96.0]
    assert costs.energy_pj[1] - costs.energy_pj[0] == pytest.approx(64.0)


def test_a_mapping_that_does_not_cover_its_layer_is_refused() -> None:
    layers = layers_of(Workload.from_layers(out_channels=4))
    n_levels = {"O": 3, "W": 3, "I": 2}
    mapping = Mapping(
        {op: ((),) * (n + 1) for op, n in n_levels.items()}, {op: ((),) * n for op, n in n_levels.items()}
    )
    with pytest.raises(ValueError, match="its loops cover 1 of K = 4"):
        nests_of(layers, three_levels(), [mapping])
