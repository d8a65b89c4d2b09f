"""Lowering against a loop over ops, and totals against a loop over networks."""

from __future__ import annotations

import time
from collections import Counter
from typing import cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from codesign.lower import Lowered, distinct_rows, lower, network_totals, paired_totals, row_keys
from search_spaces.ops import COLUMNS, OpKind, OpTable
from simulators.accelerator import Columns, columns
from simulators.report import CostReport
from simulators.roofline import Roofline
from simulators.systolic import Systolic
from simulators.workload import Workload
from tests.codesign.tiny_network import TinyNetwork

SPACE = TinyNetwork()
WORKLOAD_COLUMNS = (
    "out_channels", "in_channels", "out_y", "out_x", "filter_y", "filter_x", "stride", "groups", "in_y", "in_x",
)  # fmt: skip
OP_COLUMNS = (
    "out_channels", "in_channels", "out_height", "out_width", "kernel_height", "kernel_width", "stride", "groups",
    "in_height", "in_width",
)  # fmt: skip


def random_table(n_candidates: int, n_ops: int, rng: np.random.Generator, largest: int = 3) -> OpTable:
    """Ops with columns of 1..largest, groups 1, in no order."""
    table = {name: rng.integers(1, largest + 1, n_ops) for name in COLUMNS}
    table["candidate"] = rng.integers(0, n_candidates, n_ops)
    table["kind"] = rng.choice(np.array(OpKind), n_ops)
    table["groups"] = np.ones(n_ops, dtype=np.int64)
    return OpTable(n_candidates=n_candidates, labels=(), **table)


def layers_by_loop(table: OpTable) -> dict[tuple[int, tuple[int, ...]], int]:
    """(network, loop nest) -> count, op by op."""
    found: Counter[tuple[int, tuple[int, ...]]] = Counter()
    for i in range(len(table)):
        if table.kind[i] in (OpKind.CONV, OpKind.LINEAR, OpKind.MATMUL):
            nest = tuple(int(getattr(table, name)[i]) for name in OP_COLUMNS)
            found[int(table.candidate[i]), nest] += int(table.repeat[i])
    return dict(found)


def layers_of(lowered: Lowered) -> dict[tuple[int, tuple[int, ...]], int]:
    nests = [tuple(int(getattr(lowered.workload, name)[j]) for name in WORKLOAD_COLUMNS) for j in lowered.layer]
    pairs = list(zip(lowered.network.tolist(), nests, strict=True))
    assert len(set(pairs)) == len(pairs), "a (network, layer) pair stands twice"
    return dict(zip(pairs, lowered.count.tolist(), strict=True))


@given(st.integers(1, 6), st.integers(0, 60), st.sampled_from([1, 2, 3, 2**20]), st.integers(0, 2**32 - 1))
def test_lowering_equals_a_loop_over_ops(n_candidates: int, n_ops: int, largest: int, seed: int) -> None:
    """`largest` 2**20 packs no more than three columns into 62 bits: the fallback of ranks is used."""
    table = random_table(n_candidates, n_ops, np.random.default_rng(seed), largest)
    lowered = lower(table)
    assert layers_of(lowered) == layers_by_loop(table)
    rows = [tuple(int(getattr(lowered.workload, n)[j]) for n in WORKLOAD_COLUMNS) for j in range(len(lowered.workload))]
    assert rows == sorted(set(rows)), "layers are not distinct and sorted"
    assert lowered.n_networks == n_candidates
    others = ~np.isin(table.kind, (OpKind.CONV, OpKind.LINEAR, OpKind.MATMUL))
    assert sum(lowered.uncounted.values()) == table.repeat[others].sum()


def test_networks_stay_apart_when_layer_and_network_do_not_fit_into_one_key() -> None:
    """Two columns of 31 and 23 bits and eight that are 1 take 62 bits: none are left for the network."""
    one = {name: np.ones(401, dtype=np.int64) for name in COLUMNS}
    one["kind"] = np.full(401, int(OpKind.CONV))
    one["candidate"] = np.arange(401)
    one["out_channels"] = np.where(np.arange(401) % 2, 2**31 - 1, 5)
    one["in_channels"] = np.where(np.arange(401) % 3, 2**23 - 1, 7)
    table = OpTable(n_candidates=401, labels=(), **one)
    _, radix = row_keys([one[name] for name in OP_COLUMNS])
    assert radix == 2**62
    assert layers_of(lower(table)) == layers_by_loop(table)


def test_macs_are_conserved() -> None:
    codes = SPACE.sample(50, np.random.default_rng(0))
    table = SPACE.ops(codes)
    lowered = lower(table)
    macs = network_totals({"macs": lowered.workload.macs[:, None].astype(np.float64)}, lowered)["macs"][:, 0]
    assert macs.tolist() == table.per_candidate(table.macs()).tolist()
    assert len(lowered.workload) < len(lowered.layer), "nothing was shared"


def test_uncounted_ops_by_kind() -> None:
    codes = np.array([[0, 0, 2, 0, 1], [0, 0, 0, 0, 2]])
    assert lower(SPACE.ops(codes)).uncounted == {"norm": 4, "max_pool": 1, "avg_pool": 1}


def test_bits_and_batch() -> None:
    lowered = lower(SPACE.ops(SPACE.sample(3, np.random.default_rng(0))), bits=16, batch=4)
    assert set(lowered.workload.bits.tolist()) == {16}
    assert set(lowered.workload.batch.tolist()) == {4}
    with pytest.raises(ValueError, match="bits 0 and batch 1 must be at least 1"):
        lower(SPACE.ops(SPACE.sample(1, np.random.default_rng(0))), bits=0)


def test_a_convolution_and_a_linear_op_of_one_loop_nest_are_one_layer() -> None:
    one = {name: np.ones(2, dtype=np.int64) for name in COLUMNS}
    one["candidate"] = np.zeros(2, dtype=np.int64)
    one["kind"] = np.array([OpKind.CONV, OpKind.LINEAR])
    one["repeat"] = np.array([3, 4])
    lowered = lower(OpTable(n_candidates=1, labels=(), **one))
    assert (len(lowered.workload), lowered.count.tolist()) == (1, [7])


@pytest.mark.parametrize("simulator", [Systolic(), Roofline()], ids=lambda s: s.id)
def test_totals_equal_a_loop_over_networks(simulator: Systolic | Roofline) -> None:
    rng = np.random.default_rng(3)
    lowered = lower(random_table(5, 80, rng))
    accelerators = columns(simulator.fields, [{"clock_ghz": 0.1}, {"clock_ghz": 0.3}])
    report = simulator.simulate(lowered.workload, accelerators)
    totals = network_totals(report.columns, lowered)
    for name, column in report.columns.items():
        expected = np.zeros((5, 2))
        for network, layer, count in zip(lowered.network, lowered.layer, lowered.count, strict=True):
            expected[network] += count * column[layer]
        assert totals[name] == pytest.approx(expected, rel=1e-12)


def test_networks_without_layers_cost_nothing() -> None:
    table = random_table(4, 0, np.random.default_rng(0))
    lowered = lower(table)
    accelerators = columns(Systolic.fields, [{}, {}])
    totals = network_totals(Systolic().simulate(lowered.workload, accelerators).columns, lowered)
    assert totals["latency_cycles"].tolist() == [[0, 0]] * 4
    paired = paired_totals(Systolic(), lowered, accelerators, np.array([0, 1, 0, 1]))
    assert paired["latency_cycles"].tolist() == [0] * 4


class CountingSystolic(Systolic):
    """Counts the layers it is asked for."""

    n_layers = 0

    def simulate(self, workload: Workload, accelerators: Columns, *, paired: bool = False) -> CostReport:
        """As the parent's."""
        self.n_layers += len(workload)
        return super().simulate(workload, accelerators, paired=paired)


def test_paired_totals_are_the_diagonal_and_simulate_each_pair_once() -> None:
    rng = np.random.default_rng(4)
    lowered = lower(SPACE.ops(SPACE.sample(60, rng)))
    accelerators = columns(Systolic.fields, [{"rows": 4}, {"rows": 8, "dataflow": "os"}, {"columns": 5}])
    which = rng.integers(0, 3, 60)
    simulator = CountingSystolic()
    paired = paired_totals(simulator, lowered, accelerators, which)
    n_pairs = len(set(zip(lowered.layer.tolist(), which[lowered.network].tolist(), strict=True)))
    assert simulator.n_layers == n_pairs < len(lowered.layer)
    outer = network_totals(Systolic().simulate(lowered.workload, accelerators).columns, lowered)
    for name, total in paired.items():
        assert total.tolist() == outer[name][np.arange(60), which].tolist()


def test_a_network_costs_the_same_in_every_batch() -> None:
    codes = SPACE.sample(40, np.random.default_rng(5))
    accelerators = columns(Roofline.fields, [{"clock_ghz": 0.3, "dram_bytes_per_cycle": 1.7}])
    together = _totals(codes, accelerators)
    for i in range(40):
        alone = _totals(codes[i : i + 1], accelerators)
        assert {name: values[i].tolist() for name, values in together.items()} == {
            name: values[0].tolist() for name, values in alone.items()
        }


def _totals(codes: NDArray[np.int64], accelerators: dict[str, NDArray[np.generic]]) -> dict[str, NDArray[np.float64]]:
    lowered = lower(SPACE.ops(codes))
    return network_totals(Roofline().simulate(lowered.workload, accelerators).columns, lowered)


@given(
    st.integers(1, 4).flatmap(
        lambda d: st.lists(
            st.tuples(*[st.sampled_from([0, 1, 2, 2**31, 2**61, 2**63 - 2])] * d), min_size=1, max_size=30
        )
    )
)
def test_row_keys_order_rows_as_tuples(rows: list[tuple[int, ...]]) -> None:
    table = np.array(rows, dtype=np.int64)
    keys, radix = row_keys(list(table.T))
    assert keys.min() >= 0
    assert keys.max() < radix <= 2**62
    order = cast("list[int]", keys.tolist())
    for i, first in enumerate(rows):
        for j, second in enumerate(rows):
            assert (first < second) == (order[i] < order[j])


def test_distinct_rows_of_mixed_columns() -> None:
    numbers, texts = np.array([3, 3, 1, 3]), np.array(["os", "ws", "os", "os"])
    first, kind = distinct_rows([numbers, texts])
    assert len(first) == 3
    assert numbers[first[kind]].tolist() == numbers.tolist()
    assert texts[first[kind]].tolist() == texts.tolist()


def test_lowering_a_thousand_networks_of_a_hundred_ops_is_fast() -> None:
    rng = np.random.default_rng(6)
    table = random_table(1000, 100_000, rng, largest=4)
    best = min(_seconds(table) for _ in range(5))
    assert best < 0.1, f"{best * 1e3:.0f} ms"  # measured: 10 ms; a loop over ops takes a second


def _seconds(table: OpTable) -> float:
    start = time.perf_counter()
    lower(table)
    return time.perf_counter() - start
