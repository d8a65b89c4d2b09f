"""The phase model against arithmetic by hand, and what must hold of every design."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulators.accelerator import Columns, Value, columns, load_preset
from simulators.compile_numba import IS_COMPILED
from simulators.design import DesignModel, DesignReport, design_columns
from simulators.soc import Soc
from simulators.soc_blocks import BLOCKS_FILE
from simulators.soc_graph import GRAPH_FOLDER, graph_names
from simulators.soc_kernel import highest_power, task_rates

FAST: dict[str, Value] = {"mem_0_width_bytes": 10**9, "bus_0_width_bytes": 10**9}  # data cost no time
TWO_CORES: dict[str, Value] = {"pe_1_kind": "core"}


def soc(tmp_path: Path, tasks: str, edges: str = "", **options: object) -> Soc:
    path = tmp_path / "graph.toml"
    path.write_text(f'description = "test"\nburst_bytes = 64\ntasks = [{tasks}]\nedges = [{edges}]\n')
    return Soc(graph=str(path), **options)  # type: ignore[arg-type]


def task(name: str, ops: float = 2e6) -> str:
    return f'{{ name = "{name}", ops = {ops} }},'


def edge(writer: str, reader: str, moved: float = 6400) -> str:
    return f'{{ from = "{writer}", to = "{reader}", bytes = {moved} }},'


def run(model: Soc, **values: Value) -> dict[str, float]:
    report = model.evaluate(columns(model.fields, [values]))
    assert report.reasons == [""]
    return {name: float(column[0]) for name, column in report.metrics.items()}


def latency_ms(model: Soc, **values: Value) -> float:
    return run(model, **values)["latency_ms"]


def random_designs(graph: str, n: int, seed: int = 0) -> tuple[Soc, Columns]:
    model = Soc(graph=graph)
    preset, rng = load_preset(f"soc-{graph}", model), np.random.default_rng(seed)
    searched = {name: np.array(options)[rng.integers(0, len(options), n)] for name, options in preset.search.items()}
    return model, design_columns(model.fields, preset.values, searched)


def test_one_task_takes_work_over_rate(tmp_path: Path) -> None:
    model = soc(tmp_path, task("a", 3e6))
    assert latency_ms(model) == pytest.approx(3e6 / (2 * 1e9) * 1e3)  # two operations a cycle
    assert latency_ms(model, pe_0_clock_mhz=250) == pytest.approx(4 * latency_ms(model))


def test_tasks_in_sequence_add_up(tmp_path: Path) -> None:
    model = soc(tmp_path, task("a", 2e6) + task("b", 6e6), edge("a", "b"))
    for values in (FAST, FAST | TWO_CORES | {"b_pe": 1}):
        assert latency_ms(model, **values) == pytest.approx(1 + 3)


@pytest.mark.parametrize("sharing", ["queue", "equal"])
def test_parallel_tasks_need_two_pes_to_overlap(tmp_path: Path, sharing: str) -> None:
    model = soc(tmp_path, task("a") + task("b"), pe_sharing=sharing)
    assert latency_ms(model) == pytest.approx(2)
    assert latency_ms(model, **TWO_CORES, b_pe=1) == pytest.approx(1)


def test_a_queue_serves_what_was_ready_first_and_equal_shares_end_together(tmp_path: Path) -> None:
    tasks = task("long", 8e6) + task("first", 2e6) + task("second", 4e6)
    queue, equal = soc(tmp_path, tasks), soc(tmp_path, tasks, pe_sharing="equal")
    designs = columns(queue.fields, [{}])
    assert queue.schedule(designs).start_ms[0] == pytest.approx([0, 4, 5])
    assert equal.schedule(designs).start_ms[0] == pytest.approx([0, 0, 0])
    assert equal.schedule(designs).finish_ms[0] == pytest.approx([7, 3, 5])  # thirds, then halves, then all of it


@pytest.mark.parametrize(("writer", "reader"), [("source", "a"), ("a", "sink")])
def test_a_bandwidth_bound_task_takes_bytes_over_bandwidth(tmp_path: Path, writer: str, reader: str) -> None:
    model = soc(tmp_path, task("a", 1), edge(writer, reader, 1e6))
    wide: dict[str, Value] = {"mem_0_width_bytes": 64, "bus_0_width_bytes": 64}
    for narrow in ("mem_0", "bus_0"):
        values = wide | {f"{narrow}_width_bytes": 4, f"{narrow}_clock_mhz": 50}
        assert latency_ms(model, **values) == pytest.approx(1e6 / (4 * 50e6) * 1e3)


def test_reads_and_writes_have_ways_of_their_own(tmp_path: Path) -> None:
    model = soc(tmp_path, task("a", 1), edge("source", "a", 1e6) + edge("a", "sink", 1e6))
    assert latency_ms(model, mem_0_width_bytes=4) == pytest.approx(1e6 / 400e6 * 1e3)


def test_contention_halves_the_rate(tmp_path: Path) -> None:
    reads = edge("source", "a", 1e6) + edge("source", "b", 1e6)
    model = soc(tmp_path, task("a", 1) + task("b", 1), reads)
    alone = 1e6 / (4 * 100e6) * 1e3
    shared: dict[str, Value] = TWO_CORES | {"b_pe": 1, "bus_0_width_bytes": 4, "mem_0_width_bytes": 4}
    assert latency_ms(model, **shared) == pytest.approx(2 * alone)
    writes = soc(tmp_path, task("a", 1) + task("b", 1), edge("a", "sink", 1e6) + edge("b", "sink", 1e6))
    assert latency_ms(writes, **shared) == pytest.approx(2 * alone)
    apart = shared | {"mem_1_kind": "sram", "mem_1_width_bytes": 4, "b_mem": 1}  # two outputs of one bus
    assert latency_ms(writes, **apart) == pytest.approx(alone)
    two_buses = apart | {"bus_1_kind": "bus", "mem_0_bus": 1, "mem_1_bus": 1, "bus_1_width_bytes": 64}  # one wire
    assert latency_ms(writes, **two_buses) == pytest.approx(2 * alone)


def test_an_input_of_a_bus_shares_with_inputs_and_a_task_with_the_tasks_on_its_wire(tmp_path: Path) -> None:
    reads = edge("source", "a", 4e6) + edge("source", "b", 1e6) + edge("source", "c", 1e6)
    model = soc(tmp_path, task("a", 1) + task("b", 1) + task("c", 1), reads)
    values: dict[str, Value] = TWO_CORES | {"pe_2_kind": "core", "b_pe": 1, "c_pe": 2, "bus_1_kind": "bus"}
    values |= {"pe_1_bus": 1, "pe_2_bus": 1, "mem_0_width_bytes": 64, "bus_0_width_bytes": 4, "bus_1_width_bytes": 64}
    finish = model.schedule(columns(model.fields, [values])).finish_ms[0]
    # Bus 0 gives one half of 0.4 GB/s to a, the other to the wire from bus 1, where b and c have a half each.
    assert finish[1:] == pytest.approx(1e6 / 0.1e9 * 1e3)
    assert finish[0] == pytest.approx(10 + (4e6 - 0.2e9 * 10e-3) / 0.4e9 * 1e3)


def test_buses_cost_what_a_file_of_ones_own_says(tmp_path: Path) -> None:
    own = tmp_path / "blocks.toml"
    text = BLOCKS_FILE.read_text(encoding="utf-8").replace("bus_pj_per_byte = 0", "bus_pj_per_byte = 3")
    own.write_text(text.replace("bus_area_mm2_per_byte = 0", "bus_area_mm2_per_byte = 0.01"), encoding="utf-8")
    edges = edge("source", "a", 1e6) + edge("a", "sink", 2e6)
    free, paid = soc(tmp_path, task("a"), edges), soc(tmp_path, task("a"), edges, blocks=str(own))
    assert any("buses" in phrase for phrase in free.uncounted)
    assert not any("buses" in phrase for phrase in paid.uncounted)
    second: dict[str, Value] = {"bus_1_kind": "bus", "mem_0_bus": 1, "bus_1_width_bytes": 8}
    cases: list[tuple[int, dict[str, Value]]] = [(1, {}), (2, second)]
    for n_buses, values in cases:
        before, after = run(free, **values), run(paid, **values)
        assert after["energy_uj"] - before["energy_uj"] == pytest.approx(n_buses * 3e6 * 3e-6)
        assert after["area_mm2"] - before["area_mm2"] == pytest.approx(0.32 + 0.08 * (n_buses - 1))


def test_absent_buses_are_no_part_of_the_chain(tmp_path: Path) -> None:
    model = soc(tmp_path, task("a", 1), edge("source", "a", 1e6))
    ends: dict[str, Value] = {"bus_2_kind": "bus", "mem_0_bus": 2, "bus_1_width_bytes": 1}
    assert latency_ms(model, **ends) == pytest.approx(1e6 / 3.2e9 * 1e3)
    assert latency_ms(model, **ends, bus_1_kind="bus") == pytest.approx(1e6 / 0.1e9 * 1e3)


def test_an_accelerator_unrolls_its_loop_and_no_more() -> None:
    model = Soc("toy")
    base: dict[str, Value] = FAST | {"pe_1_kind": "left", "pe_1_clock_mhz": 100, "left_pe": 1}
    start = columns(model.fields, [base | {"pe_1_unroll": unroll} for unroll in (1, 4, 64, 1000)])
    found, area = model.schedule(start), model.evaluate(start).metrics["area_mm2"]
    taken = found.finish_ms[:, 1] - found.start_ms[:, 1]
    assert taken == pytest.approx([0.4, 0.1, 0.4 / 64, 0.4 / 64])  # 40,000 cycles, 64 iterations
    assert area[1] - area[0] == pytest.approx(3 * 20_000e-6 * 0.0374)
    assert area[3] == area[2] > area[1]
    spent = found.energy_uj[:, 1]
    assert spent[1] - spent[0] == pytest.approx(3 * 200e-9 * 0.064)


def test_a_memory_is_as_large_as_what_it_keeps_at_once(tmp_path: Path) -> None:
    chain = edge("source", "a", 100_000) + edge("a", "b", 90_000) + edge("b", "c", 50_000) + edge("c", "sink", 20_000)
    model = soc(tmp_path, task("a") + task("b") + task("c"), chain)
    kept = model.schedule(columns(model.fields, [{}, {"mem_1_kind": "sram", "b_mem": 1}])).memory_bytes
    assert kept[:, :2].tolist() == [[240_000, 0], [190_000, 50_000]]  # a's data are gone when c starts
    sizes = (255_999, 256_000)
    areas = [run(soc(tmp_path, task("a"), edge("source", "a", size)))["area_mm2"] for size in sizes]
    table = model.block_figures.sram.area_mm2
    assert areas == pytest.approx([0.65 + table[0], 0.65 + table[1]])


def test_energy_is_that_of_operations_and_bytes_and_adds_up_over_tasks(tmp_path: Path) -> None:
    edges = edge("source", "a", 1000) + edge("a", "b", 2000) + edge("b", "sink", 500)
    model = soc(tmp_path, task("a", 3e6) + task("b", 5e6), edges)
    designs = columns(model.fields, [{"mem_1_kind": "dram", "a_mem": 1}])
    spent, sram, dram = model.schedule(designs).energy_uj[0], model.block_figures.sram, model.block_figures.dram
    core = 1e6 / 47_019_607_843  # microjoules per instruction of the A53
    moved = 1000 * sram.read_pj_per_byte[0] + 2000 * dram.write_pj_per_byte[0]
    assert spent[0] == pytest.approx(3e6 * core + moved * 1e-6)
    moved = 2000 * dram.read_pj_per_byte[0] + 500 * sram.write_pj_per_byte[0]
    assert spent[1] == pytest.approx(5e6 * core + moved * 1e-6)
    metrics = run(model, mem_1_kind="dram", a_mem=1)
    assert metrics["energy_uj"] == pytest.approx(spent.sum())
    assert metrics["power_mw"] == pytest.approx(metrics["energy_uj"] / metrics["latency_ms"])


@pytest.mark.parametrize(
    ("seconds", "joules", "watts"),
    [
        ([0.02, 0.004], [2, 2], 500),  # 20 ms close a window at once; 4 ms are the last one
        ([0.004, 0.004, 0.004, 0.004], [1, 1, 1, 9], 2250),  # the third phase is longer than the 2 ms that are left
        ([0.004, 0.004, 0.002, 0.004], [1, 1, 1, 9], 12 / 0.014),  # no longer than what is left: it stays open
        ([0.001, 0.002], [3, 3], 2000),  # shorter than a window: the mean
    ],
)
def test_peak_power_is_the_highest_mean_of_ten_milliseconds(
    seconds: list[float], joules: list[float], watts: float
) -> None:
    n = len(seconds)
    assert highest_power(n, np.array(seconds), np.eye(n), 0, np.array([joules], float), 0.01) == pytest.approx(watts)


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"pe_0_bus": 2}, "pe_0 hangs on bus_2, which is absent"),
        ({"mem_1_kind": "dram", "mem_1_bus": 1}, "mem_1 hangs on bus_1, which is absent"),
        ({"source_mem": 2}, "the source's data are in mem_2, which is absent"),
        ({"left_mem": 1}, "left writes to mem_1, which is absent"),
        ({"join_pe": 7}, "join is mapped to pe_7, which is absent"),
        ({"pe_3_kind": "left", "right_pe": 3}, "pe_3 is the accelerator of left and cannot run right"),
    ],
)
def test_designs_that_cannot_work_have_a_reason_and_no_number(values: dict[str, Value], reason: str) -> None:
    model = Soc("toy")
    report = model.evaluate(columns(model.fields, [values, {}]))
    assert report.reasons == [reason, ""]
    for column in report.metrics.values():
        assert np.isnan(column[0])
        assert np.isfinite(column[1])
    assert np.isnan(model.schedule(columns(model.fields, [values])).finish_ms).all()


def test_a_memory_that_outgrows_the_table_is_refused(tmp_path: Path) -> None:
    model = soc(tmp_path, task("a"), edge("source", "a", 1e9))
    report = model.evaluate(columns(model.fields, [{}]))
    largest = model.block_figures.largest_bytes
    assert report.reasons == [f"mem_0 would have to keep {largest} bytes or more: beyond the largest memory"]
    assert all(np.isnan(column[0]) for column in report.metrics.values())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"graph": "audio"}, r"graph: 'audio' is not one of .*did you mean 'audio_decoder'"),
        ({"pes": 0}, r"soc.pes: 0 is not allowed; use an integer from 1 to 32"),
        ({"pe_sharing": "fair"}, r"soc.pe_sharing: 'fair' is not one of queue, equal"),
        ({"blocks": "none.toml"}, r"blocks: cannot read 'none.toml'"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Soc(**options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "value"),
    [("join_pe", 8), ("bus_0_clock_mhz", np.nan), ("pe_0_kind", "right "), ("mem_0_width_bytes", 0), ("left_mem", 0.5)],
)
def test_wrong_values_in_columns_are_refused(name: str, value: Value) -> None:
    model = Soc("toy")
    designs = {**columns(model.fields, [{}, {}]), name: np.array([value, value])}
    with pytest.raises(ValueError, match=f"designs.{name}: .* is not allowed|designs.{name}: .* is not one of"):
        model.evaluate(designs)


def test_a_missing_column_is_refused_and_no_designs_are_fine() -> None:
    model: DesignModel = Soc("toy")
    with pytest.raises(ValueError, match="column 'pe_0_kind' is missing"):
        model.evaluate({})
    report = model.evaluate(columns(model.fields, []))
    assert list(report.reasons) == []
    assert [column.shape for column in report.metrics.values()] == [(0,)] * 5


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=10, deadline=None)
def test_a_batch_is_its_designs_one_by_one_in_any_order(seed: int) -> None:
    model, designs = random_designs("toy", 12, seed)
    whole, order = model.evaluate(designs), np.random.default_rng(seed).permutation(12)
    for i in order[:4]:
        one = model.evaluate({name: values[i : i + 1] for name, values in designs.items()})
        same_figures(one, whole, [int(i)])
    same_figures(model.evaluate({name: values[order] for name, values in designs.items()}), whole, order.tolist())


def same_figures(found: DesignReport, expected: DesignReport, rows: list[int]) -> None:
    assert list(found.reasons) == [expected.reasons[row] for row in rows]
    for name, column in found.metrics.items():
        np.testing.assert_array_equal(column, expected.metrics[name][rows])


@given(seed=st.integers(0, 2**32 - 1), factor=st.sampled_from([2.0, 3.0, 0.25]))
@settings(max_examples=10, deadline=None)
def test_all_clocks_faster_is_as_much_faster_at_the_same_energy(seed: int, factor: float) -> None:
    model, designs = random_designs("toy", 20, seed)
    clocks = {name: values.astype(float) for name, values in designs.items() if name.endswith("clock_mhz")}
    faster = {**designs, **{name: values * factor for name, values in clocks.items()}}
    before, after = model.evaluate(designs).metrics, model.evaluate(faster).metrics
    np.testing.assert_allclose(after["latency_ms"], before["latency_ms"] / factor, rtol=1e-9)
    np.testing.assert_allclose(after["energy_uj"], before["energy_uj"], rtol=1e-12)


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=4, deadline=None)
def test_on_a_chain_no_faster_block_is_slower(seed: int) -> None:
    """Where tasks overlap this is not so: one that ends sooner may start another that gets in a third one's way."""
    model, designs = random_designs("hpvm_cava", 40, seed)
    before = model.evaluate(designs).metrics["latency_ms"]
    for name in (name for name in designs if name.endswith(("_clock_mhz", "_width_bytes"))):
        after = model.evaluate({**designs, name: 2 * designs[name].astype(float)}).metrics["latency_ms"]
        np.testing.assert_array_equal(np.isnan(after), np.isnan(before))
        works = np.isfinite(before)
        assert (after[works] <= before[works] * (1 + 1e-12)).all(), name


def test_a_faster_core_may_make_a_system_slower(tmp_path: Path) -> None:
    """The anomaly (Graham 1969): `a` ends first only on the faster core, and then its child goes before `c`."""
    tasks = task("a", 4e6) + task("b", 3e6) + task("late", 8e6) + task("c", 4e6) + task("end", 20e6)
    edges = edge("a", "late") + edge("b", "c") + edge("c", "end")
    model = soc(tmp_path, tasks, edges)
    values: dict[str, Value] = FAST | TWO_CORES | {"pe_2_kind": "core"}
    values |= {"b_pe": 1, "late_pe": 2, "c_pe": 2, "end_pe": 1}
    slow, fast = latency_ms(model, **values), latency_ms(model, **values, pe_0_clock_mhz=2000)
    assert slow == pytest.approx(1.5 + 2 + 10)
    assert fast == pytest.approx(1 + 4 + 2 + 10)


def test_names_do_not_matter(tmp_path: Path) -> None:
    text = (GRAPH_FOLDER / "toy.toml").read_text(encoding="utf-8")
    path = tmp_path / "renamed.toml"
    path.write_text(text.replace('"left"', '"zzz"').replace('"split"', '"mmm"'))
    model, designs = random_designs("toy", 50)
    names = {"left": "zzz", "split": "mmm"}

    def renamed(name: str) -> str:
        stem, _, end = name.rpartition("_")
        return f"{names.get(stem, stem)}_{end}"

    other = {
        renamed(name): np.where(values == "left", "zzz", values) if values.dtype.kind == "U" else values
        for name, values in designs.items()
    }
    for name, column in Soc(str(path)).evaluate(other).metrics.items():
        np.testing.assert_array_equal(column, model.evaluate(designs).metrics[name])


@pytest.mark.slow
@pytest.mark.parametrize("graph", graph_names())
def test_every_knob_of_a_preset_changes_something_somewhere(graph: str) -> None:
    """Not every choice: two equal cores are the same to a task that never overlaps with another."""
    search = dict(load_preset(f"soc-{graph}").search)
    for n in (150, 1_000, 20_000):  # the rarer a knob decides, the more designs it takes to see it
        model, designs = random_designs(graph, n)
        search = {name: options for name, options in search.items() if n_outcomes(model, designs, name, options) == 1}
    assert not search


def test_every_choice_of_every_field_changes_something_somewhere() -> None:
    model, rng = Soc("toy", pes=3), np.random.default_rng(3)
    options = {f.name: f.allowed or (1, 2, 4) for f in model.fields}  # of clocks, widths and unrolling
    left = dict(options)
    for n in (200, 2_000):
        designs = dict(design_columns(model.fields, {}, {k: rng.choice(np.array(o), n) for k, o in options.items()}))
        for name in (name for name in options if name.endswith("_kind")):  # mostly cores, mostly present
            kind = {"pe": "core", "me": "dram", "bu": "bus"}[name[:2]]
            designs[name] = np.where(rng.random(n) < 0.8, kind, designs[name])
        seen = {name: n_outcomes(model, designs, name, values) for name, values in left.items()}
        left = {name: values for name, values in left.items() if seen[name] < len(values)}
    assert not left


def n_outcomes(model: Soc, designs: Columns, name: str, options: Sequence[Value]) -> int:
    """How many options of a field give some design other figures than the options before."""
    n = len(next(iter(designs.values())))
    reports = [model.evaluate({**designs, name: np.full(n, option)}) for option in options]
    return len({b"".join(column.tobytes() for column in report.metrics.values()) for report in reports})


@pytest.mark.parametrize("graph", graph_names())
def test_presets_fit_their_graph_and_random_designs_often_work(graph: str) -> None:
    model, designs = random_designs(graph, 400)
    preset = load_preset(f"soc-{graph}", model)
    assert all(preset.values[name] in options for name, options in preset.search.items())
    report = model.evaluate(designs)
    works = np.isfinite(report.metrics["latency_ms"])
    assert works.mean() > 0.1
    assert works.tolist() == [reason == "" for reason in report.reasons]
    assert all((column[works] > 0).all() for column in report.metrics.values())
    assert (report.metrics["peak_power_mw"][works] >= report.metrics["power_mw"][works] * (1 - 1e-12)).all()


@pytest.mark.parametrize(
    ("graph", "expected_ms"),
    [("toy", 4.3), ("audio_decoder", 6.6508865), ("hpvm_cava", 84882.331754), ("edge_detection", 3294.825984)],
)
def test_one_core_does_one_task_after_the_other(graph: str, expected_ms: float) -> None:
    model = Soc(graph)
    found = model.task_graph
    by_hand = 0.0
    for t, ops in enumerate(found.ops):
        read, written = (found.edge_bytes[ends == t].sum() for ends in (found.edge_to, found.edge_from))
        by_hand += max(ops / 2e9, read / 3.2e9, written / 3.2e9) * 1e3
    assert latency_ms(model) == pytest.approx(by_hand, rel=1e-12)
    assert by_hand == pytest.approx(expected_ms, rel=1e-9)


@pytest.mark.skipif(not IS_COMPILED, reason="needs numba")
def test_the_compiled_loop_is_the_python_one(monkeypatch: pytest.MonkeyPatch) -> None:
    model, designs = random_designs("toy", 20)
    compiled = model.evaluate(designs).metrics
    from simulators import soc, soc_kernel

    for name in ("route", "task_rates", "highest_power"):
        monkeypatch.setattr(soc_kernel, name, getattr(soc_kernel, name).py_func)
    monkeypatch.setattr(soc, "simulate", soc_kernel.simulate.py_func)  # type: ignore[attr-defined]
    for name, column in model.evaluate(designs).metrics.items():
        np.testing.assert_allclose(column, compiled[name], rtol=1e-12)
    assert task_rates is not soc_kernel.task_rates
