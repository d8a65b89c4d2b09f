from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from simulators.energy import accumulator_bits
from simulators.roofline import ideal_dram_bytes
from simulators.systolic_energy import COUNTS, systolic_area_mm2, systolic_energy_uj, systolic_leakage_mw
from simulators.systolic_physical import COLUMNS, PER_ACCELERATOR, physical_report
from simulators.systolic_traffic import layer_shapes
from simulators.workload import Workload

DATAFLOWS = ("os", "ws", "is")

Accelerators = dict[str, NDArray[np.generic]]


def accelerators(**columns: object) -> Accelerators:
    """Arrays of one shape, defaults generous: no limit of bandwidth or capacity."""
    values: dict[str, object] = {
        "rows": 4, "columns": 4, "dataflow": "ws", "clock_ghz": 1.0, "ifmap_kib": 1 << 20, "filter_kib": 1 << 20,
        "ofmap_kib": 1 << 20, "dram_bytes_per_cycle": 1e30, "tech_nm": 45,
    }  # fmt: skip
    arrays = np.broadcast_arrays(*(np.atleast_1d(np.asarray(v)) for v in (values | columns).values()))
    return dict(zip(values | columns, arrays, strict=True))


def random_accelerators(rng: np.random.Generator, n: int) -> Accelerators:
    return accelerators(
        rows=rng.integers(1, 40, n),
        columns=rng.integers(1, 40, n),
        dataflow=rng.choice(DATAFLOWS, n),
        clock_ghz=rng.uniform(0.1, 2, n),
        ifmap_kib=rng.integers(0, 80, n),
        filter_kib=rng.integers(0, 80, n),
        ofmap_kib=rng.integers(0, 80, n),
        dram_bytes_per_cycle=rng.uniform(0.25, 64, n),
        tech_nm=rng.choice([22, 28, 45, 65], n),
    )


def random_workload(rng: np.random.Generator, n: int) -> Workload:
    """Layers with "same" padding: convolutions, grouped, depthwise, dilated, products."""
    groups = rng.choice([1, 1, 2, 8], n)
    taps, stride = rng.choice([1, 3, 5], n), rng.choice([1, 2], n)
    in_y, in_x = rng.integers(2, 30, n), rng.integers(2, 30, n)
    return Workload.from_layers(
        batch=rng.choice([1, 1, 3], n),
        groups=groups,
        in_channels=groups * rng.integers(1, 20, n),
        out_channels=groups * rng.integers(1, 20, n),
        filter_y=taps,
        filter_x=taps,
        stride=stride,
        dilation=np.where(stride == 1, rng.choice([1, 1, 2], n), 1),
        in_y=in_y,
        in_x=in_x,
        out_y=-(-in_y // stride),
        out_x=-(-in_x // stride),
        bits=rng.choice([8, 16], n),
    )


def simulated_cycles(
    groups: int, pixels: int, filters: int, window: int, rows: int, columns: int, dataflow: str, pack: bool
) -> int:
    """Fold by fold, PE by PE: when each multiply-accumulate and each shift happens, nothing happening twice at once."""
    rng = np.random.default_rng(0)
    inputs = rng.integers(-9, 9, (groups, pixels, window))
    weights = rng.integers(-9, 9, (groups, window, filters))
    outputs = np.zeros((groups, pixels, filters), dtype=np.int64)
    space_rows, space_columns, length = {
        "os": (pixels, filters, window), "ws": (window, filters, pixels), "is": (window, pixels, filters)
    }[dataflow]  # fmt: skip
    room = min(rows // space_rows, columns // space_columns)
    folds: list[list[tuple[int, range, range, int, int]]] = []  # parts: group, its rows and columns, and where they lie
    if pack and groups > 1 and room > 1:
        todo = list(range(groups))
        first = len(todo) % room
        packs = ([todo[:first]] if first else []) + [todo[i : i + room] for i in range(first, groups, room)]
        every = range(space_rows), range(space_columns)
        folds = [[(g, *every, i * space_rows, i * space_columns) for i, g in enumerate(pack)] for pack in packs]
    else:
        cut_rows = [range(i, min(i + rows, space_rows)) for i in range(0, space_rows, rows)]
        cut_columns = [range(i, min(i + columns, space_columns)) for i in range(0, space_columns, columns)]
        cut_rows, cut_columns = sorted(cut_rows, key=len), sorted(cut_columns, key=len)
        folds = [[(g, r, c, 0, 0)] for r in cut_rows for g in range(groups) for c in cut_columns]
    busy: set[tuple[int, int, int]] = set()
    start, previous_rows, last = 0, 0, 0
    for number, parts in enumerate(folds):
        used = max(at + len(r) for _, r, _, at, _ in parts)
        if dataflow == "os":  # the results of the fold before shift out, a row a cycle, while this one computes
            start = 0 if number == 0 else start + max(length, previous_rows)
        else:  # the stationary operand shifts in, a row a cycle, from when the fold before began
            loading = start if number else 0
            start = max(start + length if number else 0, loading + used)
        for g, r, c, at_row, at_column in parts:
            for t in range(length):
                for i, row in enumerate(r, at_row):
                    for j, column in enumerate(c, at_column):
                        cycle = start + t + i + j
                        assert (cycle, i, j) not in busy
                        busy.add((cycle, i, j))
                        last = max(last, cycle + 1)
                        e, f, w = {"os": (row, column, t), "ws": (t, column, row), "is": (column, t, row)}[dataflow]
                        outputs[g, e, f] += inputs[g, e, w] * weights[g, w, f]
        previous_rows = used
    assert np.array_equal(outputs, inputs @ weights)
    return last + (previous_rows if dataflow == "os" else 0)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 7), st.integers(1, 9), st.integers(1, 9), st.integers(1, 9), st.integers(1, 6), st.integers(1, 6),
    st.sampled_from(DATAFLOWS),
)  # fmt: skip
def test_cycles_without_limits_are_those_of_a_simulated_array(
    groups: int, pixels: int, filters: int, window: int, rows: int, columns: int, dataflow: str
) -> None:
    layer = Workload.from_layers(
        groups=groups, out_y=pixels, out_channels=groups * filters, in_channels=groups * window
    )
    report, _, _ = physical_report(layer, accelerators(rows=rows, columns=columns, dataflow=dataflow))
    shape = groups, pixels, filters, window, rows, columns, dataflow
    expected = min(simulated_cycles(*shape, pack=pack) for pack in (False, True))
    assert report["latency_cycles"][0, 0] == expected
    assert report["stall_cycles"][0, 0] == 0


def test_one_full_fold_by_hand() -> None:
    # ws: 4 cycles to load, 10 vectors, 3 + 3 to cross; os: 10 steps, 3 + 3 across, 4 to shift out
    layer = Workload.from_layers(out_y=10, out_channels=4, in_channels=4)
    assert physical_report(layer, accelerators())[0]["latency_cycles"][0, 0] == 4 + 10 + 6
    layer = Workload.from_layers(out_y=4, out_channels=4, in_channels=10)
    assert physical_report(layer, accelerators(dataflow="os"))[0]["latency_cycles"][0, 0] == 10 + 6 + 4


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_folds_that_overlap_are_never_slower_than_folds_one_after_another(seed: int) -> None:
    rng = np.random.default_rng(seed)
    m, n, k = rng.integers(1, 300, (3, 40))
    rows, columns = rng.integers(1, 40, (2, 30))
    layers = Workload.from_layers(out_y=m, out_channels=n, in_channels=k)
    for dataflow, across, time in (("ws", n, m), ("is", m, n)):
        report, _, _ = physical_report(layers, accelerators(rows=rows, columns=columns, dataflow=dataflow))
        n_folds = -(-k[:, None] // rows) * -(-across[:, None] // columns)
        one_after_another = n_folds * (time[:, None] + 2 * rows + columns - 2)
        assert (report["latency_cycles"] <= one_after_another).all()
        assert (report["latency_cycles"] >= time[:, None] * n_folds).all()


def same(left: dict[str, NDArray[np.float64]], right: dict[str, NDArray[np.float64]]) -> None:
    assert left.keys() == right.keys()
    for name, values in left.items():
        np.testing.assert_array_equal(values, right[name], err_msg=name)


def take(designs: Accelerators, rows: NDArray[np.int64]) -> Accelerators:
    return {name: values[rows] for name, values in designs.items()}


def test_batch_shuffled_and_paired_equal_one_by_one() -> None:
    rng = np.random.default_rng(1)
    layers, designs = random_workload(rng, 12), random_accelerators(rng, 20)
    report, alone, _ = physical_report(layers, designs)
    assert tuple(report) == COLUMNS
    assert tuple(alone) == PER_ACCELERATOR
    some_layers, some_designs = rng.permutation(12), rng.permutation(20)
    shuffled, shuffled_alone, _ = physical_report(layers.take(some_layers), take(designs, some_designs))
    same(shuffled, {name: values[np.ix_(some_layers, some_designs)] for name, values in report.items()})
    same(shuffled_alone, {name: values[some_designs] for name, values in alone.items()})
    for i, j in ((0, 0), (5, 7), (11, 19)):
        single, _, _ = physical_report(layers.take(np.array([i])), take(designs, np.array([j])))
        same(single, {name: values[i : i + 1, j : j + 1] for name, values in report.items()})
    which = rng.integers(12, size=20)
    paired, _, _ = physical_report(layers.take(which), designs, paired=True)
    same(paired, {name: values[which, np.arange(20)] for name, values in report.items()})


GROWING = {
    "dram_bytes_per_cycle": (1.5, 0), "clock_ghz": (1.5, 0), "ifmap_kib": (1, 7), "filter_kib": (1, 7),
    "ofmap_kib": (1, 7),
}  # fmt: skip


@pytest.mark.parametrize("name", GROWING)
@settings(max_examples=8, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_more_bandwidth_scratchpad_or_clock_is_never_slower(name: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    layers, designs = random_workload(rng, 30), random_accelerators(rng, 30)
    before, _, _ = physical_report(layers, designs)
    times, plus = GROWING[name]
    after, _, _ = physical_report(layers, designs | {name: designs[name].astype(np.float64) * times + plus})
    assert (after["latency_ms"] <= before["latency_ms"] * (1 + 1e-12)).all()
    if name.endswith("kib"):
        assert (after["dram_bytes"] <= before["dram_bytes"]).all()


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_bounds_of_a_layer(seed: int) -> None:
    rng = np.random.default_rng(seed)
    layers, designs = random_workload(rng, 30), random_accelerators(rng, 30)
    report, _, _ = physical_report(layers, designs)
    peak = designs["rows"].astype(np.float64) * designs["columns"].astype(np.float64)
    bandwidth = designs["dram_bytes_per_cycle"].astype(np.float64)
    roofline = np.maximum(layers.macs[:, None] / peak, ideal_dram_bytes(layers)[:, None] / bandwidth)
    assert (roofline <= report["latency_cycles"] * (1 + 1e-12)).all()
    assert (report["dram_bytes"] / bandwidth <= report["latency_cycles"] * (1 + 1e-12)).all()
    outputs = (layers.batch * layers.out_channels * layers.out_y * layers.out_x)[:, None]
    weights = (layers.out_channels * layers.in_channels // layers.groups * layers.filter_y * layers.filter_x)[:, None]
    assert (report["dram_filter_reads"] >= weights).all()
    assert (report["dram_ofmap_writes"] >= outputs).all()
    assert (report["sram_filter_reads"] >= weights).all()
    assert (report["sram_ofmap_writes"] >= outputs).all()
    sums = report["dram_ofmap_writes"] - outputs
    words = report["dram_ifmap_reads"] + report["dram_filter_reads"] + outputs
    by_hand = words * layers.bits[:, None] / 8 + 2 * sums * accumulator_bits(layers.bits)[:, None] / 8
    np.testing.assert_allclose(report["dram_bytes"], by_hand, rtol=1e-12)


def test_everything_is_read_once_where_everything_fits() -> None:
    rng = np.random.default_rng(2)
    layers = random_workload(rng, 60)
    for dataflow in DATAFLOWS:
        report, _, _ = physical_report(layers, accelerators(dataflow=dataflow))
        shapes = layer_shapes(layers)
        np.testing.assert_array_equal(report["dram_ifmap_reads"][:, 0], layers.groups * shapes.unique)
        np.testing.assert_array_equal(report["dram_filter_reads"][:, 0], layers.groups * shapes.filters * shapes.window)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 12), st.integers(1, 5), st.integers(1, 4), st.integers(1, 3), st.integers(0, 3), st.integers(0, 3)
)
def test_pixels_and_windows_are_counted_one_by_one(
    size: int, taps: int, stride: int, dilation: int, before: int, after: int
) -> None:
    before = min(before, after)
    after = min(after, before + 1)  # even padding, the odd one at the end
    reach = size + before + after
    out = (reach - (taps - 1) * dilation - 1) // stride + 1
    if out < 1 or (out - 1) * stride + (taps - 1) * dilation + 1 < reach:  # a partial window: padding is not even
        return
    layer = Workload.from_layers(
        out_y=out, filter_y=taps, stride=stride, dilation=dilation, in_y=size, out_x=1, filter_x=1, in_x=1
    )
    hits = [o * stride + k * dilation - before for o in range(out) for k in range(taps)]
    hits = [at for at in hits if 0 <= at < size]
    shapes = layer_shapes(layer)
    assert shapes.repeated[0] == max(len(hits), 1)
    assert shapes.unique[0] >= len(set(hits))
    if (stride <= taps and dilation == 1) or before == after == 0:
        assert shapes.unique[0] == max(len(set(hits)), 1)


def test_padding_is_computed_and_not_read() -> None:
    sizes = {"in_channels": 4, "out_channels": 4, "out_y": 8, "out_x": 8, "filter_y": 3, "filter_x": 3}
    padded, whole = Workload.from_layers(**sizes, in_y=8, in_x=8), Workload.from_layers(**sizes)
    here, _, _ = physical_report(padded, accelerators())
    there, _, _ = physical_report(whole, accelerators())
    assert here["latency_cycles"] == there["latency_cycles"]
    assert here["dram_ifmap_reads"] == 4 * 8 * 8
    assert there["dram_ifmap_reads"] == 4 * 10 * 10


def test_depthwise_groups_share_the_array() -> None:
    layer = Workload.from_layers(groups=12, in_channels=12, out_channels=12, out_y=100, filter_y=3, filter_x=3)
    cycles = {
        side: physical_report(layer, accelerators(rows=side, columns=side))[0]["latency_cycles"][0, 0]
        for side in (9, 18, 36)
    }
    assert cycles[9] == 9 + 12 * 100 + 9 + 1 - 2
    assert cycles[18] == 18 + 6 * 100 + 18 + 2 - 2
    assert cycles[36] == 36 + 3 * 100 + 36 + 4 - 2


def dram_words(report: dict[str, NDArray[np.float64]]) -> tuple[float, ...]:
    names = ("dram_ifmap_reads", "dram_filter_reads", "dram_ofmap_writes")
    return tuple(float(report[name][0, 0]) for name in names)


def test_traffic_of_small_scratchpads_by_hand() -> None:
    # ws on 4 x 4: E = 32, F = 8, W = 8 one-byte words. Halves of 1 KiB scratchpads hold all of it.
    layer = Workload.from_layers(out_y=32, out_channels=8, in_channels=8)
    fits, _, _ = physical_report(layer, accelerators(ifmap_kib=1, filter_kib=1, ofmap_kib=1))
    assert dram_words(fits) == (256, 64, 256)
    # nothing on chip: inputs once per column block, weights once, the sums of the first row block out and back
    bare, _, _ = physical_report(layer, accelerators(ifmap_kib=0, filter_kib=0, ofmap_kib=0))
    assert dram_words(bare) == (512, 64, 512)
    assert bare["dram_bytes"] == 512 + 64 + 256 + 2 * 256 * 4
    # os keeps the sums in its PEs: inputs once per column block, weights once per row block
    bare, _, _ = physical_report(layer, accelerators(dataflow="os", ifmap_kib=0, filter_kib=0, ofmap_kib=0))
    assert dram_words(bare) == (512, 512, 256)


def test_latency_is_the_slower_of_compute_and_memory_with_fill_and_drain() -> None:
    layer = Workload.from_layers(out_y=10, out_channels=4, in_channels=4)
    slow, _, _ = physical_report(layer, accelerators(dram_bytes_per_cycle=0.5))
    assert slow["dram_bytes"] == 40 + 16 + 40
    assert slow["latency_cycles"] == 96 / 0.5
    quick, _, _ = physical_report(layer, accelerators(dram_bytes_per_cycle=8.0))
    assert quick["latency_cycles"] == (16 + 4) / 8 + 20 + 4 / 8
    assert quick["stall_cycles"] == 3
    assert quick["latency_ms"] == quick["latency_cycles"] * 1e-6


def test_energy_adds_up_and_grows_with_every_count() -> None:
    rng = np.random.default_rng(3)
    layers, designs = random_workload(rng, 8), random_accelerators(rng, 9)
    report, _, _ = physical_report(layers, designs)
    counts = {name: report[name] for name in COUNTS}
    np.testing.assert_allclose(systolic_energy_uj(layers, designs, counts), report["energy_uj"], rtol=1e-12)
    for name in COUNTS:
        more = systolic_energy_uj(layers, designs, counts | {name: counts[name] + 1000})
        assert (more > report["energy_uj"]).all(), name
    outputs = (layers.batch * layers.out_channels * layers.out_y * layers.out_x)[:, None] * np.ones((8, 9))
    least = {name: outputs if "ofmap" in name else 0 * outputs for name in COUNTS}
    assert (systolic_energy_uj(layers, designs, least) > layers.macs[:, None] * 0.02e-6).all()  # multipliers


def test_a_larger_batch_is_never_quicker() -> None:
    rng = np.random.default_rng(4)
    layers, designs = random_workload(rng, 40), random_accelerators(rng, 30)
    values = {f.name: getattr(layers, f.name) for f in fields(Workload)}
    one, _, _ = physical_report(layers, designs)
    two, _, _ = physical_report(Workload(**(values | {"batch": 2 * layers.batch})), designs)
    for name in ("latency_cycles", "sram_ifmap_reads", "sram_ofmap_writes"):
        assert (two[name] >= one[name]).all(), name


def test_area_and_leakage_grow_with_pes_and_scratchpads() -> None:
    base = accelerators(rows=16, columns=16, ifmap_kib=32, filter_kib=32, ofmap_kib=16)
    area, leakage = systolic_area_mm2(base), systolic_leakage_mw(base)
    assert 0.3 < area[0] < 3.0  # mm2 at 45 nm: 256 PEs near 860 um2 each, and 80 KiB
    for name, value in (("rows", 32), ("columns", 32), ("ifmap_kib", 64), ("filter_kib", 64), ("ofmap_kib", 32)):
        grown = base | {name: np.array([value])}
        assert systolic_area_mm2(grown)[0] > area[0], name
        assert systolic_leakage_mw(grown)[0] > leakage[0], name
    sizes = accelerators(ifmap_kib=np.arange(0, 50_000, 7), filter_kib=1, ofmap_kib=1)
    assert (np.diff(systolic_area_mm2(sizes)) >= 0).all()
    small = accelerators(rows=16, columns=16, ifmap_kib=32, filter_kib=32, ofmap_kib=16, tech_nm=22)
    assert systolic_area_mm2(small)[0] < area[0] / 2


def test_more_scratchpad_never_makes_an_access_cheaper() -> None:
    layer = Workload.from_layers(out_y=64, out_channels=64, in_channels=64)
    kib = np.arange(32, 40_000, 97)
    for name in ("ifmap_kib", "filter_kib", "ofmap_kib"):
        designs = accelerators(rows=16, columns=16, **{name: kib})
        counts = {count: np.full((1, len(kib)), 1e6) for count in COUNTS}
        assert (np.diff(systolic_energy_uj(layer, designs, counts)[0]) >= -1e-9).all(), name


def test_a_dram_of_less_energy_and_a_smaller_technology_cost_less() -> None:
    layer = Workload.from_layers(out_y=64, out_channels=64, in_channels=64)
    base = accelerators(rows=8, columns=8)
    energy = physical_report(layer, base)[0]["energy_uj"]
    for change in ({"dram_kind": np.array(["lpddr4"])}, {"tech_nm": np.array([22])}):
        assert physical_report(layer, base | change)[0]["energy_uj"] < energy
    with pytest.raises(ValueError, match="did you mean 'lpddr4'"):
        physical_report(layer, base | {"dram_kind": np.array(["lpddr5"])})
    with pytest.raises(ValueError, match="tech_nm 7 is not allowed"):
        physical_report(layer, base | {"tech_nm": np.array([7])})


def test_no_layers_and_no_accelerators_have_reports_of_their_shapes() -> None:
    rng = np.random.default_rng(5)
    layers, designs = random_workload(rng, 3), random_accelerators(rng, 4)
    nothing = np.zeros(0, dtype=np.int64)
    for n_layers, n_designs in ((0, 4), (3, 0), (0, 0)):
        report, alone, _ = physical_report(
            layers.take(np.arange(n_layers)),
            take(designs, np.arange(n_designs)),
        )
        assert all(values.shape == (n_layers, n_designs) for values in report.values())
        assert all(values.shape == (n_designs,) for values in alone.values())
    paired, _, _ = physical_report(layers.take(nothing), take(designs, nothing), paired=True)
    assert all(values.shape == (0,) for values in paired.values())
