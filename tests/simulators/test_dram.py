"""The memory controller: closed forms, properties, the design space and what is refused."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from math import prod

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulators import dram_codes as codes
from simulators.accelerator import Columns, columns, load_preset
from simulators.dram import Dram
from simulators.dram_device import load_device
from simulators.dram_trace import Trace, make_trace

DDR3 = load_device("ddr3-1600-1gb-x8")
T = DDR3.timing_cycles
ROW, BANK = 1 << 16, 1 << 13
READ_END = T["RCD"] + T["RL"] + DDR3.burst_cycles


def trace_of(*addresses: int, writes: tuple[int, ...] = (), cycles: tuple[int, ...] = ()) -> Trace:
    n = len(addresses)
    is_write = np.isin(np.arange(n), writes)
    return Trace(np.array(cycles or range(n), dtype=np.int64), is_write, np.array(addresses, dtype=np.int64))


def outcome(trace: Trace, **knobs: object) -> dict[str, int]:
    """Counts of one design without refresh, FIFO unless told otherwise."""
    design = {"refresh_policy": "NoRefresh", "scheduler": "Fifo"} | knobs
    row = Dram(DDR3, trace).outcomes(columns(Dram.fields, [design]))[0]
    return {"end": int(row[codes.END]), "acts": int(row[codes.ACTIVATES]), "pres": int(row[codes.PRECHARGES])}


def sampled(n_designs: int, seed: int = 0) -> Columns:
    preset, rng = load_preset("dram-ddr3", Dram()), np.random.default_rng(seed)
    return columns(Dram.fields, [{k: rng.choice(v).item() for k, v in preset.search.items()} for _ in range(n_designs)])


def test_a_read_takes_activation_latency_and_burst() -> None:
    assert outcome(trace_of(0)) == {"end": READ_END, "acts": 1, "pres": 0}
    assert outcome(trace_of(0), page_policy="Closed") == {"end": READ_END, "acts": 1, "pres": 1}


def test_a_write_takes_its_own_latency() -> None:
    assert outcome(trace_of(0, writes=(0,)))["end"] == T["RCD"] + T["WL"] + DDR3.burst_cycles


def test_a_row_hit_waits_for_the_data_bus_alone() -> None:
    assert outcome(trace_of(0, 64)) == {"end": READ_END + T["CCD"], "acts": 1, "pres": 0}


def test_a_row_conflict_waits_for_precharge_and_activation() -> None:
    # the row must stay open for RAS, and the next activation is RC after the first
    assert outcome(trace_of(0, ROW)) == {"end": T["RC"] + READ_END, "acts": 2, "pres": 1}


def test_another_bank_waits_for_rrd() -> None:
    assert outcome(trace_of(0, BANK)) == {"end": T["RRD"] + READ_END, "acts": 2, "pres": 0}


def test_the_fifth_bank_waits_for_four_activations() -> None:
    assert outcome(trace_of(*(i * BANK for i in range(5))))["end"] == T["FAW"] + READ_END


def test_a_read_after_a_write_waits_for_the_turn_around() -> None:
    written = T["RCD"] + T["WL"] + DDR3.burst_cycles + T["WTR"]
    assert outcome(trace_of(0, 64, writes=(0,)))["end"] == written + T["RL"] + DDR3.burst_cycles
    read_to_write = T["RL"] + DDR3.burst_cycles + 2 - T["WL"]
    assert outcome(trace_of(0, 64, writes=(1,)))["end"] == T["RCD"] + read_to_write + T["WL"] + DDR3.burst_cycles


def test_a_refresh_holds_up_the_request_behind_it() -> None:
    # with nothing to wait for, the refresh starts at REFI and the request's activation RFC later
    late = trace_of(0, cycles=(T["REFI"] + 1,))
    knobs = {"refresh_policy": "AllBank", "refresh_max_pulledin": 1}
    assert outcome(late, **knobs)["end"] == T["REFI"] + T["RFC"] + READ_END
    assert outcome(late)["end"] == T["REFI"] + 1 + READ_END


def test_energy_of_one_read_by_hand() -> None:
    energy = Dram(DDR3, trace_of(0)).evaluate(columns(Dram.fields, [{"refresh_policy": "NoRefresh"}])).metrics
    last_cycle = T["RCD"] + T["RL"] + DDR3.burst_cycles  # DRAMPower ends with the read; the row is still open
    current = (70 - 45) * T["RAS"] + (140 - 45) * 4 + 45 * last_cycle
    assert energy["energy_pj"][0] == pytest.approx(8 * 1.5 * 1.25 * current, rel=1e-12)
    assert energy["power_mw"][0] == pytest.approx(8 * 1.5 * current / last_cycle, rel=1e-12)


def test_bandwidth_counts_completed_transactions() -> None:
    trace = make_trace("stream", n_requests=100)
    designs = columns(Dram.fields, [{"arbiter": "Fifo"}, {"arbiter": "Simple"}])
    metrics = Dram(DDR3, trace).evaluate(designs).metrics
    assert metrics["bandwidth_gb_per_s"] == pytest.approx(np.array([100, 99]) * 64 / metrics["latency_ns"])


TIMINGS = [name for name in T if name not in ("AL", "DQSCK", "RTRS", "REFI", "RFC")]


@pytest.mark.parametrize("name", TIMINGS)
def test_every_timing_is_felt_and_a_lower_one_is_never_slower_one_by_one(name: str) -> None:
    """With one request in flight, commands follow each other by the rules alone."""
    faster = replace(DDR3, timing_cycles={**T, name: T[name] - 1})
    one_by_one = {"refresh_policy": "NoRefresh", "arbiter": "Fifo", "max_active_transactions": 1}
    many = {"refresh_policy": "NoRefresh", "scheduler": "Fifo", "request_buffer_size": 16}
    designs = columns(
        Dram.fields, [{**base, "page_policy": policy} for base in (one_by_one, many) for policy in ("Open", "Closed")]
    )
    trace = make_trace("hot_cold", n_requests=400, write_share=0.5, n_hot=8, capacity_bytes=1 << 20)
    base, changed = Dram(DDR3, trace).outcomes(designs), Dram(faster, trace).outcomes(designs)
    assert (base != changed).any()
    assert (changed[:2, codes.END] <= base[:2, codes.END]).all()


def test_the_space_has_the_442_368_points_of_dramgym() -> None:
    for name in ("dram-ddr3", "dram-ddr4"):
        preset = load_preset(name, Dram())
        assert prod(len(options) for options in preset.search.values()) == 442_368
        assert set(preset.search) == {field.name for field in Dram.fields}
        assert all(preset.values[knob] in options for knob, options in preset.search.items())


def test_a_batch_equals_its_designs_one_by_one_in_any_order() -> None:
    model, designs = Dram(DDR3, make_trace("hot_cold", n_requests=300)), sampled(60)
    together = model.evaluate(designs).metrics
    order = np.random.default_rng(1).permutation(60)
    shuffled = model.evaluate({name: column[order] for name, column in designs.items()}).metrics
    for i in range(0, 60, 7):
        alone = model.evaluate({name: column[i : i + 1] for name, column in designs.items()}).metrics
        assert all(alone[name][0] == together[name][i] for name in model.metrics)
    assert all((shuffled[name] == together[name][order]).all() for name in model.metrics)


@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 10_000), share=st.sampled_from([0.0, 0.3]), name=st.sampled_from(["hot_cold", "random"]))
def test_recognised_designs_have_the_figures_of_simulated_ones(seed: int, share: float, name: str) -> None:
    trace = make_trace(name, seed, 250, write_share=share, capacity_bytes=1 << 19)
    device = replace(DDR3, timing_cycles={**T, "REFI": 500, "RFC": 40})
    model, designs = Dram(device, trace), sampled(80, seed)
    assert (model.outcomes(designs) == model.outcomes(designs, merge=False)).all()


def test_every_option_of_every_knob_changes_some_outcome() -> None:
    device = replace(DDR3, timing_cycles={**T, "REFI": 400, "RFC": 40})
    dense = make_trace("hot_cold", 1, 700, write_share=0.4, n_hot=4, hot_share=0.9, capacity_bytes=1 << 19)
    gaps = Trace(dense.cycle + 700 * (np.arange(700) // 50), dense.is_write, dense.address)
    models = [Dram(device, dense), Dram(device, gaps)]
    preset = load_preset("dram-ddr3", models[0])
    bases: list[Mapping[str, object]] = [
        {"arbiter": "Fifo", "max_active_transactions": 128, "request_buffer_size": 16, "refresh_max_postponed": 2},
        {"arbiter": "Reorder", "scheduler": "FrFcfsGrp", "request_buffer_size": 4, "max_active_transactions": 64},
        {"arbiter": "Fifo", "page_policy": "OpenAdaptive", "scheduler_buffer": "Shared", "request_buffer_size": 128},
        {"arbiter": "Fifo", "max_active_transactions": 128, "request_buffer_size": 128, "scheduler_buffer": "Shared"},
    ]
    for knob, options in preset.search.items():
        ends = []
        for base in bases:
            designs = columns(Dram.fields, [{**base, knob: option} for option in options])
            ends.append(np.hstack([model.outcomes(designs) for model in models]))
        table = np.hstack(ends)
        assert len(np.unique(table, axis=0)) == len(options), knob


def test_no_refresh_is_never_slower_in_order() -> None:
    model = Dram(DDR3, make_trace("random", n_requests=2000))
    base = {"scheduler": "Fifo", "arbiter": "Fifo", "max_active_transactions": 1}
    metrics = model.evaluate(
        columns(Dram.fields, [{**base, "refresh_policy": "NoRefresh"}, {**base, "refresh_policy": "AllBank"}])
    ).metrics
    assert metrics["latency_ns"][0] < metrics["latency_ns"][1]
    assert metrics["refreshes"].tolist()[0] == 0


def test_an_empty_batch_has_a_report() -> None:
    report = Dram(DDR3, trace_of(0)).evaluate({f.name: np.array([], dtype=object) for f in Dram.fields})
    assert all(report.metrics[name].shape == (0,) for name in Dram.metrics)


def test_wrong_input_is_refused() -> None:
    good = columns(Dram.fields, [{}])
    model = Dram(DDR3, trace_of(0))
    with pytest.raises(ValueError, match="column 'arbiter' is missing"):
        model.evaluate({name: column for name, column in good.items() if name != "arbiter"})
    with pytest.raises(ValueError, match=r"designs\[0\].page_policy: 'Opn' is not one of .*did you mean 'Open'"):
        model.evaluate({**good, "page_policy": np.array(["Opn"])})
    with pytest.raises(ValueError, match=r"designs\[0\].request_buffer_size"):
        model.evaluate({**good, "request_buffer_size": np.array([0])})
    with pytest.raises(ValueError, match="0 requests"):
        Dram(DDR3, trace_of())
    with pytest.raises(ValueError, match="use cycles below"):
        Dram(DDR3, trace_of(0, cycles=(1 << 40,)))
