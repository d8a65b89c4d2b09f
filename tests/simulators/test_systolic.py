"""The closed forms against a simulation of every PE, SCALE-Sim's own figures and arithmetic by hand."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulators import scalesim_events
from simulators.accelerator import columns
from simulators.roofline import Roofline
from simulators.scalesim_costs import input_size
from simulators.systolic import (
    DATAFLOWS,
    MODES,
    Systolic,
    compute_utilisation,
    gemm_shape,
    mapping_efficiency,
    output_size,
    scalesim_cycles,
)
from simulators.systolic_energy import systolic_area_mm2
from simulators.workload import Workload

# E, F, W, R, C, dataflow -> compute cycles, mapping efficiency and compute utilisation in per cent, as SCALE-Sim 3.0.0
# reports them.
SCALESIM = [
    (42, 32, 240, 16, 16, "ws", 2639, 100.0, 40.77669903),
    (197, 192, 192, 128, 128, "ws", 2315, 56.25, 15.69582153),
    (81, 1, 16, 32, 32, "is", 284, 42.1875, 0.3348214286),
    (9, 1, 9, 8, 8, "os", 45, 7.03125, 2.751358696),
    (50, 50, 64, 32, 32, "ws", 575, 78.125, 22.32142857),
    (1, 1000, 512, 12, 14, "ws", 114551, 98.43730774, 1.968746155),
    (50, 64, 50, 16, 16, "os", 1279, 78.125, 48.828125),
    (325, 1, 20, 12, 14, "is", 1775, 80.60515873, 1.612103175),
    (50, 50, 64, 8, 8, "is", 4031, 89.28571429, 56.50994575),
    (9, 1, 9, 16, 16, "ws", 54, 3.515625, 0.4520089286),
    (196, 10, 256, 12, 14, "ws", 5103, 69.26406926, 55.41125541),
]

sizes = st.integers(1, 40)
sides = st.integers(1, 9)
flows = st.sampled_from(DATAFLOWS)


def simulate_every_pe(
    pixels: int, filters: int, window: int, rows: int, columns: int, dataflow: str
) -> tuple[int, float, float]:
    """Number of the last cycle, share of PEs with work and busy PEs per cycle, fold by fold, PE by PE.

    Operands enter at the left and upper edges, one cycle later per row and column; a stationary operand is first
    shifted in, one row a cycle. PEs without work pass on what they get, so that every fold lasts as long as a full one.
    """
    spatial_rows, spatial_columns, time = {
        "os": (pixels, filters, window), "ws": (window, filters, pixels), "is": (window, pixels, filters),
    }[dataflow]  # fmt: skip
    load = 0 if dataflow == "os" else rows
    clock, busy, used, folds = 0, 0, 0, 0
    for top, left in product(range(0, spatial_rows, rows), range(0, spatial_columns, columns)):
        start, end = clock + load, clock
        for r, c in product(range(rows), range(columns)):
            has_work = top + r < spatial_rows and left + c < spatial_columns
            used += has_work
            busy += time * has_work
            end = max(end, start + r + c + time)
        clock, folds = end, folds + 1
    return clock - 1, used / (folds * rows * columns), busy / (clock * rows * columns)


@given(sizes, sizes, sizes, sides, sides, flows)
def test_closed_forms_equal_the_simulation_of_every_pe(
    pixels: int, filters: int, window: int, rows: int, columns_: int, dataflow: str
) -> None:
    layer = (pixels, filters, window, rows, columns_, dataflow)
    cycles, efficiency, busy = simulate_every_pe(*layer)
    assert scalesim_cycles(*layer) == cycles
    assert mapping_efficiency(*layer) == pytest.approx(efficiency, rel=1e-12)
    if dataflow == "os":  # elsewhere SCALE-Sim divides by more cycles than the layer takes
        assert compute_utilisation(*layer) == pytest.approx(busy, rel=1e-12)
    else:
        assert compute_utilisation(*layer) <= busy * (1 + 1e-12)


@pytest.mark.parametrize("row", SCALESIM)
def test_figures_of_scalesim(row: tuple[int, int, int, int, int, str, int, float, float]) -> None:
    *layer, cycles, efficiency_pct, utilisation_pct = row
    assert scalesim_cycles(*layer) == cycles  # type: ignore[arg-type]
    assert 100 * mapping_efficiency(*layer) == pytest.approx(efficiency_pct, rel=1e-9)  # type: ignore[arg-type]
    assert 100 * compute_utilisation(*layer) == pytest.approx(utilisation_pct, rel=1e-9)  # type: ignore[arg-type]


def test_by_hand() -> None:
    # a 3x3 convolution, 16 -> 32 channels, 8x8 outputs on 16 x 16: E = 64, F = 32, W = 144
    os, ws, is_ = (float(scalesim_cycles(64, 32, 144, 16, 16, flow)) for flow in DATAFLOWS)
    assert os == 4 * 2 * (144 + 16 + 16 - 2) - 1  # 64/16 x 32/16 folds
    assert ws == 9 * 2 * (64 + 32 + 16 - 2) - 1  # 144/16 x 32/16 folds
    assert is_ == 9 * 4 * (32 + 32 + 16 - 2) - 1  # 144/16 x 64/16 folds
    # one multiply-accumulate on one PE: nothing to skew, and the last cycle is number 0
    assert scalesim_cycles(1, 1, 1, 1, 1, "os") == 0
    assert scalesim_cycles(1, 1, 1, 1, 1, "ws") == 1


def test_gates_of_a_fold() -> None:
    one = scalesim_cycles(16, 16, 10, 16, 16, "os")
    assert one == 10 + 16 + 16 - 2 - 1
    assert scalesim_cycles(17, 16, 10, 16, 16, "os") == 2 * (one + 1) - 1
    assert scalesim_cycles(17, 17, 10, 16, 16, "os") == 4 * (one + 1) - 1


def test_unknown_dataflow() -> None:
    with pytest.raises(ValueError, match="dataflow: 'rs' is not one of os, ws, is"):
        scalesim_cycles(1, 1, 1, 1, 1, "rs")


@given(st.integers(1, 2**40), st.integers(1, 2**12))
def test_ceilings_are_exact_for_large_whole_numbers(size: int, rows: int) -> None:
    folds = -(-size // rows)
    exact = folds * (1 + rows + 1 - 2) - 1
    if exact < 2**53:
        assert int(scalesim_cycles(size, 1, 1, rows, 1, "os")) == exact


def test_products_beyond_64_bits_stay_close() -> None:
    e = f = w = 2**24
    assert float(scalesim_cycles(e, f, w, 1, 1, "os")) == pytest.approx(2.0**72, rel=1e-12)


def test_output_size_rounds_up() -> None:
    assert output_size(np.array([8, 9, 5]), 3, np.array([1, 2, 2])).tolist() == [6, 4, 2]
    assert output_size(8, 3, 2) == 4  # a framework would say 3


def workloads(n_layers: int, rng: np.random.Generator) -> Workload:
    groups = rng.choice([1, 2, 5], n_layers)
    draws = rng.integers(1, 50, size=(5, n_layers))
    return Workload.from_layers(
        in_channels=groups * draws[0],
        out_channels=groups * draws[1],
        out_y=draws[2],
        out_x=draws[3],
        filter_y=rng.choice([1, 3], n_layers),
        filter_x=rng.choice([1, 5], n_layers),
        batch=rng.choice([1, 3], n_layers),
        groups=groups,
    )


def test_groups_and_images_run_one_after_another() -> None:
    accelerators = columns(Systolic.fields, [{"rows": 4, "columns": 5, "dataflow": flow} for flow in DATAFLOWS])
    layer = Workload.from_layers(
        batch=3, in_channels=12, out_channels=24, out_y=7, out_x=2, filter_y=3, filter_x=2, groups=6
    )
    cycles = Systolic().simulate(layer, accelerators).columns["latency_cycles"][0]
    one_group = [simulate_every_pe(7 * 2, 4, 2 * 3 * 2, 4, 5, flow)[0] for flow in DATAFLOWS]
    assert cycles.tolist() == [3 * 6 * cycles_of_one for cycles_of_one in one_group]
    e, f, w = gemm_shape(layer)
    assert (e.item(), f.item(), w.item()) == (14, 4, 12)


def test_a_batch_larger_than_a_block_equals_a_loop() -> None:
    rng = np.random.default_rng(1)
    workload = workloads(40, rng)
    records = [
        {"rows": int(r), "columns": int(c), "dataflow": DATAFLOWS[d]}
        for r, c, d in zip(rng.integers(1, 40, 700), rng.integers(1, 40, 700), rng.integers(0, 3, 700), strict=True)
    ]
    found = Systolic().simulate(workload, columns(Systolic.fields, records)).columns["latency_cycles"]
    e, f, w = gemm_shape(workload)
    for a in rng.integers(0, 700, 25):
        array = tuple(records[a].values())
        runs = workload.groups * workload.batch
        expected = [int(runs[i]) * scalesim_cycles(e[i], f[i], w[i], *array) for i in range(40)]
        assert found[:, a].tolist() == [float(x) for x in expected]


def test_latency_and_the_figures_of_the_accelerator() -> None:
    accelerators = columns(Systolic.fields, [{"clock_ghz": 0.5, "rows": 4, "columns": 3, "ifmap_kib": 1}])
    report = Systolic().simulate(Workload.from_layers(in_channels=100, out_channels=7), accelerators)
    cycles = report.columns["latency_cycles"]
    assert report.columns["latency_ms"] == pytest.approx(cycles / 0.5e9 * 1e3)
    assert report.per_accelerator["pes"].tolist() == [12]
    assert report.per_accelerator["scratchpad_kib"].tolist() == [1 + 32 + 16]
    assert any("DRAM" in phrase for phrase in report.uncounted)
    assert any("static power" in phrase for phrase in report.uncounted)
    assert report.per_accelerator["area_mm2"].item() == systolic_area_mm2(accelerators).item()


def test_scratchpads_leave_the_cycles_alone_without_a_limit_on_bandwidth() -> None:
    small, large = columns(Systolic.fields, [{"ifmap_kib": 1}]), columns(Systolic.fields, [{"ifmap_kib": 9999}])
    layer = Workload.from_layers(in_channels=64, out_channels=64, out_y=32, out_x=32, filter_y=3, filter_x=3)
    a, b = (Systolic().simulate(layer, x).columns["latency_cycles"] for x in (small, large))
    assert a == b


def test_a_report_computes_what_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise AssertionError("events were followed")

    for name in ("limited", "unlimited_writes", "window_reads"):
        monkeypatch.setattr(scalesim_events, name, fail)
    layer = Workload.from_layers(in_channels=64, out_channels=64, out_y=32, out_x=32, filter_y=3, filter_x=3)
    tiny, large = {"ifmap_kib": 1, "ofmap_kib": 1}, {"ifmap_kib": 2_000, "filter_kib": 999, "ofmap_kib": 999}
    report = Systolic().simulate(layer, columns(Systolic.fields, [tiny]))
    closed = [
        "latency_ms", "latency_cycles", "stall_cycles", "sram_ifmap_reads", "sram_filter_reads", "sram_ofmap_writes",
        "dram_filter_reads",
    ]  # fmt: skip
    assert list(report.columns)[: len(closed)] != list(report.columns)
    for name in closed:
        assert report.columns[name].shape == (1, 1)
        assert report.provenance[name] == "closed form"
    for name in ("dram_ifmap_reads", "dram_ofmap_writes", "dram_bytes", "energy_uj"):
        with pytest.raises(AssertionError, match="events were followed"):
            report.columns[name]
    # with room for everything nothing needs events, be the bandwidth limited or not
    for bandwidth in ("limited", "unlimited"):
        accelerators = columns(Systolic.fields, [large | {"bandwidth": bandwidth, "dataflow": "os"}])
        report = Systolic().simulate(layer, accelerators)
        assert all(report.provenance[name] == "closed form" for name in report.columns)
        assert report.columns["stall_cycles"] == 0
        assert report.columns["dram_ofmap_writes"] == 64 * 32 * 32
        assert report.columns["dram_bytes"] == sum(
            report.columns[f"dram_{name}"] for name in ("ifmap_reads", "filter_reads", "ofmap_writes")
        )


def test_only_the_metrics_that_are_wanted() -> None:
    simulator = Systolic(["latency_cycles", "area_mm2"])
    report = simulator.simulate(Workload.from_layers(out_y=9), columns(Systolic.fields, [{}]))
    assert simulator.metrics == ("latency_cycles", "area_mm2")
    assert list(report.columns) == ["latency_cycles"]
    assert list(report.per_accelerator) == ["area_mm2"]
    with pytest.raises(KeyError):
        report.columns["energy_uj"]
    with pytest.raises(ValueError, match="'latency' is not one of .* did you mean 'latency_ms'"):
        Systolic(["latency"])
    with pytest.raises(ValueError, match="names one twice"):
        Systolic(["pes", "pes"])


def test_both_modes_in_one_batch() -> None:
    rng = np.random.default_rng(5)
    workload = workloads(9, rng)
    names = ["latency_ms", "latency_cycles", "sram_ifmap_reads", "sram_filter_reads", "dram_filter_reads"]
    records = [
        {"rows": 3, "columns": 8, "mode": mode, "bandwidth": "unlimited", "dataflow": flow}
        for mode in MODES + MODES
        for flow in DATAFLOWS
    ]
    accelerators = columns(Systolic.fields, records)
    simulator = Systolic(names)
    report = simulator.simulate(workload, accelerators)
    for a in range(len(records)):
        one = simulator.simulate(workload, {name: values[a : a + 1] for name, values in accelerators.items()})
        for name in names:
            assert report.columns[name][:, a].tolist() == one.columns[name][:, 0].tolist()
    which = rng.integers(0, len(records), 9)
    paired = simulator.simulate(workload, {k: v[which] for k, v in accelerators.items()}, paired=True)
    for name in names:
        assert paired.columns[name].tolist() == report.columns[name][np.arange(9), which].tolist()
    assert report.provenance["latency_ms"] == "scalesim: closed form; physical: closed form"
    # drained folds, loads that are not hidden and unused PEs make SCALE-Sim's cycles the larger ones
    scalesim, physical = (report.columns["latency_cycles"][:, accelerators["mode"] == mode] for mode in MODES)
    assert (scalesim + workload.batch[:, None] * workload.groups[:, None] >= physical).mean() > 0.9


def test_the_input_is_padded_where_scalesim_would_not_get_the_output() -> None:
    common = {"filter_y": 3, "filter_x": 3, "out_x": 1}
    layers = Workload.from_layers(
        **common,
        out_y=[8, 8, 8, 4, 4],
        in_y=[8, 10, 12, 8, 9],  # padded by 2; as it is; more than is needed; a partial last window; as it is
        stride=[1, 1, 1, 2, 2],
    )
    assert [size.tolist() for size in input_size(layers)] == [[10, 10, 10, 8, 9], [3] * 5]


def test_words_of_more_bits_fill_the_scratchpads_earlier() -> None:
    layer = Workload.from_layers(in_channels=600, out_channels=1, out_y=1, bits=[8, 16])
    report = Systolic().simulate(layer, columns(Systolic.fields, [{"dataflow": "is", "columns": 1, "filter_kib": 1}]))
    assert report.columns["dram_filter_reads"].tolist() == [[600], [600]]
    assert report.columns["dram_bytes"].tolist() == [[600 + 600 + 38], [2 * (600 + 600 + 38)]]


def test_utilisation_per_layer() -> None:
    rng = np.random.default_rng(2)
    workload = workloads(12, rng)
    accelerators = columns(Systolic.fields, [{"rows": 4, "columns": 6, "dataflow": flow} for flow in DATAFLOWS])
    outer = Systolic().utilisation(workload, accelerators)
    for name, values in outer.items():
        assert values.shape == (12, 3)
        assert ((values > 0) & (values <= 1)).all(), name
    which = rng.integers(0, 3, 12)
    paired = Systolic().utilisation(workload, {k: v[which] for k, v in accelerators.items()}, paired=True)
    for name, values in paired.items():
        assert values.tolist() == outer[name][np.arange(12), which].tolist()
    # a layer that fills the array: its utilisation is its work over its PE-cycles
    full = Workload.from_layers(in_channels=4, out_channels=6, out_y=100)
    found = Systolic().utilisation(full, accelerators)
    assert found["mapping_efficiency"][0, 1] == 1
    assert found["overall_utilisation"][0, 1] == pytest.approx(100 / (100 + 2 * 4 + 6 - 2 - 1))


@given(sizes, sizes, sizes, st.integers(2, 9), st.integers(2, 9), flows, st.integers(1, 3))
def test_the_roofline_of_equal_peak_is_never_slower(
    pixels: int, filters: int, window: int, rows: int, columns_: int, dataflow: str, groups: int
) -> None:
    layer = Workload.from_layers(
        out_y=pixels, out_channels=groups * filters, in_channels=groups * window, groups=groups
    )
    array = columns(Systolic.fields, [{"rows": rows, "columns": columns_, "dataflow": dataflow}])
    peak = columns(Roofline.fields, [{"macs_per_cycle": rows * columns_, "dram_bytes_per_cycle": 1e30}])
    bound = Roofline().simulate(layer, peak).columns["latency_cycles"]
    assert (bound <= Systolic().simulate(layer, array).columns["latency_cycles"]).all()


@given(sizes, sizes, sizes, sides, sides, flows)
def test_output_and_input_stationary_mirror_each_other(e: int, f: int, w: int, r: int, c: int, flow: str) -> None:
    """Exchanging the operands exchanges ws and is; transposing the array as well leaves os."""
    other = {"os": "os", "ws": "is", "is": "ws"}[flow]
    if flow == "os":
        assert scalesim_cycles(e, f, w, r, c, flow) == scalesim_cycles(f, e, w, c, r, other)
    else:
        assert scalesim_cycles(e, f, w, r, c, flow) == scalesim_cycles(f, e, w, r, c, other)
