"""The event model against SCALE-Sim's own figures and against a simulation of every word."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from simulators import scalesim_closed as closed
from simulators import scalesim_events as events
from simulators.accelerator import columns
from simulators.scalesim_kernel import IFMAP_READS, STALLS, TOTAL
from simulators.scalesim_layer import BANDWIDTH, IntArray, layer_numbers
from simulators.systolic import DATAFLOWS, Systolic
from simulators.workload import Workload
from tests.simulators.scalesim_oracle import Case, simulate

pytestmark = pytest.mark.slow  # the loops are compiled here

# As SCALE-Sim 3.0.0 reports them; scratchpads in words, words_per_cycle 0: no limit (its mode CALC).
with Path(__file__).with_name("scalesim_rows.csv").open(newline="", encoding="utf-8") as file:
    ROWS = list(csv.DictReader(file))

GIVEN = (
    "rows", "columns", "in_y", "in_x", "filter_y", "filter_x", "channels", "filters", "stride", "ifmap_words",
    "filter_words", "ofmap_words", "words_per_cycle",
)  # fmt: skip


def case_of(row: Mapping[str, str]) -> Case:
    return Case(row["dataflow"], *(int(row[name]) for name in GIVEN))


def numbers(*cases: Case) -> IntArray:
    return layer_numbers(
        np.array([
            [
                DATAFLOWS.index(c.dataflow), c.rows, c.columns, *c.out, c.filter_y, c.filter_x, c.channels, c.filters,
                c.stride, c.dilation, c.in_y, c.in_x, c.ifmap, c.filter, c.ofmap, c.bandwidth,
            ]
            for c in cases
        ])
    )  # fmt: skip


@st.composite
def cases(draw: st.DrawFn, limited: bool | None = None) -> Case:
    taps_y, taps_x, stride = draw(st.integers(1, 4)), draw(st.integers(1, 4)), draw(st.integers(1, 3))
    dilation = draw(st.sampled_from([1, 1, 1, 2]))
    least_y, least_x = ((taps - 1) * dilation + 1 for taps in (taps_y, taps_x))
    size = st.sampled_from([100, 128, 150, 199, 256, 400])
    speeds = {None: [0, 1, 3, 16], True: [1, 2, 3, 7, 16, 500], False: [0]}[limited]
    return Case(
        draw(st.sampled_from(DATAFLOWS)), draw(st.integers(1, 7)), draw(st.integers(1, 7)),
        draw(st.integers(least_y, least_y + 7)), draw(st.integers(least_x, least_x + 7)), taps_y, taps_x,
        draw(st.integers(1, 7)), draw(st.integers(1, 15)), stride, draw(size), draw(size), draw(size),
        draw(st.sampled_from(speeds)), dilation,
    )  # fmt: skip


def test_every_figure_of_scalesim() -> None:
    report = events.scalesim_report(numbers(*map(case_of, ROWS)))
    checked = 0
    for name in ROWS[0]:
        if name in report:
            expected = [float(row[name]) for row in ROWS]
            assert report[name].tolist() == expected, name
            checked += 1
    assert checked == 18


def test_the_simulator_reports_what_scalesim_does() -> None:
    rows = [row for row in ROWS if all(int(row[f"{name}_words"]) % 1024 == 0 for name in ("ifmap", "filter", "ofmap"))]
    assert len(rows) > 50
    made = [case_of(row) for row in rows]
    layers = Workload.from_layers(
        out_y=[c.out[0] for c in made], out_x=[c.out[1] for c in made], filter_y=[c.filter_y for c in made],
        filter_x=[c.filter_x for c in made], in_channels=[c.channels for c in made],
        out_channels=[c.filters for c in made], stride=[c.stride for c in made], in_y=[c.in_y for c in made],
        in_x=[c.in_x for c in made],
    )  # fmt: skip
    arrays = columns(Systolic.fields, [
        {
            "rows": c.rows, "columns": c.columns, "dataflow": c.dataflow, "ifmap_kib": c.ifmap // 1024,
            "filter_kib": c.filter // 1024, "ofmap_kib": c.ofmap // 1024,
            "bandwidth": "limited" if c.bandwidth else "unlimited", "dram_bytes_per_cycle": float(c.bandwidth or 1),
        }
        for c in made
    ])  # fmt: skip
    report = Systolic().simulate(layers, arrays, paired=True)
    names = {"latency_cycles": "total_cycles"} | {name: name for name in report.columns if name in rows[0]}
    assert len(names) == 8
    for metric, name in names.items():
        assert report.columns[metric].tolist() == [float(row[name]) for row in rows], name
    used = Systolic().utilisation(layers, arrays, paired=True)
    for metric, name in (
        ("mapping_efficiency", "mapping_eff_pct"),
        ("compute_utilisation", "compute_util_pct"),
        ("overall_utilisation", "overall_util_pct"),
    ):
        assert 100 * used[metric] == pytest.approx([float(row[name]) for row in rows], rel=1e-9)
    assert "event model" in report.provenance["stall_cycles"]


@settings(max_examples=120, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(cases())
def test_events_equal_the_simulation_of_every_word(case: Case) -> None:
    expected = simulate(case)
    report = events.scalesim_report(numbers(case))
    assert {name: report[name].item() for name in expected} == expected


@settings(max_examples=200, deadline=None)
@given(cases(limited=False))
def test_closed_forms_without_a_limit_equal_the_events(case: Case) -> None:
    g = numbers(case)
    report = events.scalesim_report(g)
    reads, is_closed = closed.unlimited_input_reads(g)
    assert not is_closed[0] or reads[0] == report["dram_ifmap_reads"]
    assert closed.unlimited_filter_reads(g)[0] == report["dram_filter_reads"]
    assert not closed.undrained(g)[0] or closed.output_words(g)[0] == report["dram_ofmap_writes"]
    assert report["stall_cycles"] == 0
    distinct, every = closed.input_words(g)
    y, x = case.out
    taps = case.filter_y * case.filter_x * case.channels
    words = [case.input_word(i, j) for i in range(y * x) for j in range(taps)]
    assert every[0] == sum(word is not None for word in words)
    assert distinct[0] == len(set(words) - {None})


@settings(max_examples=200, deadline=None)
@given(cases(limited=True))
def test_quiet_layers_do_not_stall(case: Case) -> None:
    g = numbers(replace(case, ifmap=4 * case.ifmap, filter=4 * case.filter, ofmap=4 * case.ofmap))
    report = events.scalesim_report(g)
    if closed.quiet(g)[0]:
        lines = closed.first_fill_lines(g)
        assert report["stall_cycles"] == 0
        assert report["dram_ifmap_reads"] == lines[0] * case.bandwidth
        assert report["dram_filter_reads"] == lines[1] * case.bandwidth
        assert report["dram_ofmap_writes"] == closed.output_words(g)
    assert report["total_cycles"] >= report["stall_cycles"]


def test_more_bandwidth_nearly_always_stalls_less() -> None:
    base = numbers(*[case_of(row) for row in ROWS if int(row["stall_cycles"]) > 0])
    stalls = []
    for words in range(1, 65):
        base[:, BANDWIDTH] = words
        stalls.append(events.limited(base)[:, STALLS])
    steps = np.diff(np.array(stalls), axis=0)
    assert (steps <= 0).all()
    assert (steps < 0).mean() > 0.5


def test_but_not_always() -> None:
    """SCALE-Sim 3.0.0 itself gives these figures: a wait counts twice, an early prefetch is taken off the next wait."""
    slow = Case("ws", 7, 4, 4, 7, 4, 1, 5, 17, 1, 256, 100, 1024, 16)
    report = events.scalesim_report(numbers(slow, replace(slow, bandwidth=17)))
    assert report["stall_cycles"].tolist() == [109, 110]
    assert report["total_cycles"].tolist() == [453, 454]


def test_rows_do_not_influence_one_another() -> None:
    rng = np.random.default_rng(3)
    g = numbers(*[case_of(row) for row in ROWS if int(row["words_per_cycle"])])
    together = events.limited(g)
    order = rng.permutation(len(g))
    assert (events.limited(g[order]) == together[order]).all()
    for n in rng.integers(0, len(g), 5):
        assert (events.limited(g[n : n + 1])[0] == together[n]).all()


def test_loops_without_numba() -> None:
    """The loops as Python functions, called as numba would call them, give the same figures."""
    rows = [row for row in ROWS if int(row["rows"]) < 10 and int(row["total_cycles"]) < 3_000][:4]
    assert len(rows) == 4
    g = numbers(*map(case_of, rows))
    with pytest.MonkeyPatch.context() as patch:
        for module_name in ("layer", "prefetch", "windows", "flush", "kernel", "events"):
            module = import_module(f"simulators.scalesim_{module_name}")
            for key, value in list(vars(module).items()):
                if hasattr(value, "py_func"):
                    patch.setattr(module, key, value.py_func)
        report = events.scalesim_report(g)
    for name in ("total_cycles", "stall_cycles", "dram_ifmap_reads", "dram_filter_reads", "dram_ofmap_writes"):
        assert report[name].tolist() == [float(row[name]) for row in rows]


def test_the_reads_of_a_stalled_layer_are_whole_fetches() -> None:
    g = numbers(*[case_of(row) for row in ROWS if int(row["words_per_cycle"])])
    out = events.limited(g)
    lines, _ = closed.first_fill_lines(g)
    fetch = -(-(g[:, 13] // 2) // g[:, BANDWIDTH]) * g[:, BANDWIDTH]
    assert ((out[:, IFMAP_READS] - lines * g[:, BANDWIDTH]) % fetch == 0).all()
    assert (out[:, TOTAL] >= out[:, STALLS]).all()
