"""DRAMsim3's controller against closed forms, its own printed figures, and the promises of a design model."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from simulators import dramsim3_banks, dramsim3_kernel, dramsim3_queues
from simulators.accelerator import columns, load_preset
from simulators.dram_trace import Trace
from simulators.dramsim3 import Dramsim3
from simulators.dramsim3_device import Device, make_device


def use_python(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run the loop as Python, which needs no compilation, except in tests marked slow."""
    if request.node.get_closest_marker("slow") is None:
        for module in (dramsim3_banks, dramsim3_queues, dramsim3_kernel):
            for name, function in list(vars(module).items()):
                if hasattr(function, "py_func"):
                    monkeypatch.setattr(module, name, function.py_func)


python_loop = pytest.fixture(autouse=True)(use_python)

OPEN: dict[str, int | str] = {"row_buf_policy": "OPEN_PAGE", "address_mapping": "robabgrachco"}
TIMING = {
    "CL": 9, "CWL": 8, "tRCD": 11, "tRP": 12, "tRAS": 25, "tRTP": 6, "tWR": 10, "tCCD_L": 7, "tCCD_S": 5, "tRRD_L": 6,
    "tRRD_S": 4, "tFAW": 16, "tRTRS": 2, "tWTR_L": 8, "tWTR_S": 4, "tREFI": 1 << 30, "tRFC": 60,
}  # fmt: skip
BURST, ROW, READ_DONE = 4, 1024 * 64 // 8, 9 + 4
BANK_GROUP, BANK, NEXT_ROW = ROW, 4 * ROW, 16 * ROW  # apart under OPEN's mapping: one rank of 4 groups of 4 banks


def device(**timing: float) -> Device:
    structure = {"protocol": "DDR4", "bankgroups": 4, "banks_per_group": 4, "rows": 1 << 15}
    system = {"channel_size": 4096, "cmd_queue_size": 8, "trans_queue_size": 32}
    return make_device("test", {"dram_structure": structure, "timing": TIMING | timing, "system": system})


def run(
    requests: Sequence[tuple[int, str, int]], on: Device, cycles: int = 3000, **knobs: int | str
) -> dict[str, float]:
    """Figures for requests of (cycle, r or w, address), with the sum of the read latencies."""
    cycle, kind, address = zip(*requests, strict=True)
    model = Dramsim3(on, Trace(np.array(cycle), np.array(kind) == "w", np.array(address)), 3000)
    report = model.evaluate(columns(model.fields, [OPEN | knobs]))
    figures = {name: float(values[0]) for name, values in report.metrics.items()}
    return figures | {"sum": figures["read_latency_cycles"] * figures["reads_done"]}


# Of a request offered in cycle t, DRAMsim3 counts from t + 1; it is queued then, and its first command comes in t + 2.
# The last request of a trace is offered again a cycle later, so one that waits counts twice, once with a cycle less.
FIRST = 1 + TIMING["tRCD"] + READ_DONE
HIT = 1 + READ_DONE
CONFLICT = 1 + TIMING["tRP"] + TIMING["tRCD"] + READ_DONE


def test_a_single_read() -> None:
    figures = run([(0, "r", 0)], device())
    assert (figures["reads_done"], figures["sum"]) == (2, FIRST + FIRST - 1)
    assert (figures["activates"], figures["precharges"], figures["read_row_hits"]) == (1, 0, 0)
    assert figures["read_latency_ns"] == figures["read_latency_cycles"]  # tCK is 1 ns


@pytest.mark.parametrize(
    ("second", "latency", "counts"), [(64, HIT, (1, 0, 1)), (NEXT_ROW, CONFLICT, (2, 1, 0)), (BANK, FIRST, (2, 0, 0))]
)
def test_hit_conflict_and_other_bank(second: int, latency: int, counts: tuple[int, int, int]) -> None:
    figures = run([(0, "r", 0), (200, "r", second)], device())
    assert figures["sum"] == FIRST + latency + latency - 1
    assert (figures["activates"], figures["precharges"], figures["read_row_hits"]) == counts


def test_a_closed_page_is_activated_every_time() -> None:
    figures = run([(0, "r", 0), (200, "r", 64)], device(), row_buf_policy="CLOSE_PAGE")
    assert figures["sum"] == FIRST + FIRST + FIRST - 1
    assert (figures["activates"], figures["precharges"]) == (2, 0)


WARM = [(0, "r", 0), (100, "r", BANK), (200, "r", BANK_GROUP)]  # rows open in two banks of a group and in another group


@pytest.mark.parametrize(("name", "where"), [("tCCD_L", BANK), ("tCCD_S", BANK_GROUP)])
def test_column_commands_keep_apart_by_bank_group(name: str, where: int) -> None:
    """Illegal a cycle earlier, legal at the gap: each cycle of it delays the second read and its repetition by one."""

    def total(gap: int) -> float:
        return run([*WARM, (400, "r", 128), (401, "r", where + 128)], device(**{name: gap}))["sum"]

    for gap in range(BURST + 1, 12):
        assert total(gap) - total(BURST) == 2 * (gap - BURST)
    assert total(1) == total(BURST)  # the bus is busy for the burst


def test_the_fifth_activation_waits_for_the_window() -> None:
    five_banks = (0, BANK, BANK_GROUP, 2 * BANK_GROUP, 3 * BANK_GROUP)  # in the order of the round robin
    requests = [(i, "r", address) for i, address in enumerate(five_banks)]

    def total(window: int) -> float:
        return run(requests, device(tFAW=window, tRRD_L=4, tCCD_L=4, tCCD_S=4, tRCD=40))["sum"]

    for window in range(10, 31):
        # four gaps of tRRD_S; the fifth read and its repetition move together
        assert total(window) - total(10) == 2 * max(0, window - 4 * 4)


def test_activations_keep_apart_by_bank_group() -> None:
    for where, name in ((BANK, "tRRD_L"), (BANK_GROUP, "tRRD_S")):
        sums = [run([(0, "r", 0), (1, "r", where)], device(tRCD=40, **{name: gap}))["sum"] for gap in range(8, 13)]
        assert np.diff(sums).tolist() == [2, 2, 2, 2]


def test_a_read_after_a_write_waits_for_the_turnaround() -> None:
    for name, where in (("tWTR_L", BANK), ("tWTR_S", BANK_GROUP)):
        requests = [(0, "r", 0), (30, "r", where), (100, "w", 64), (101, "r", where + 256)]
        sums = [run(requests, device(**{name: gap}), unified_queue="true")["sum"] for gap in range(3, 9)]
        assert np.diff(sums).tolist() == [2] * 5
        # the read's command follows the write's by CWL, the burst and the gap
        assert sums[0] == FIRST + FIRST + sum(1 + 8 + BURST + 3 - 1 + READ_DONE - i for i in (0, 1))


def test_a_conflict_waits_for_the_row_and_the_write() -> None:
    for name, first, gaps in (("tRAS", "r", range(40, 45)), ("tRTP", "r", range(35, 40)), ("tWR", "w", range(30, 35))):
        requests = [(0, first, 0), (1, "r", NEXT_ROW)]
        figures = [run(requests, device(**{name: gap}), unified_queue="true") for gap in gaps]
        assert np.diff([f["sum"] for f in figures]).tolist() == [2] * 4
        assert figures[0]["precharges"] == 1


def test_four_hits_and_then_the_conflict() -> None:
    """Hits may overtake a conflict, but not more than four in a row."""
    hits = [(2 + i, "r", 64 * i) for i in range(8)]
    figures = run([(0, "r", 0), (1, "r", NEXT_ROW), *hits], device())
    assert figures["activates"] == 3  # back to the first row after the conflict
    # request 0 and the read of its address at cycle 2 join
    assert figures["read_row_hits"] == 3 + 3


def test_writes_are_answered_at_once_and_drained_later() -> None:
    figures = run([(i, "w", 64 * i) for i in range(8)], device())
    assert (figures["writes_done"], figures["activates"]) == (8, 0)  # eight stay in the buffer
    # the repetition reads an address still to be written
    assert (figures["reads_done"], figures["sum"]) == (1, 1)
    figures = run([(i, "w", 64 * i) for i in range(9)], device())
    assert (figures["writes_done"], figures["write_row_hits"]) == (9, 8)  # nine do not
    assert run([(i, "w", 0) for i in range(9)], device(), unified_queue="true")["writes_done"] == 9  # written once


N = 5000


@pytest.mark.parametrize(
    ("policy", "interval", "expected"),
    [
        ("RANK_LEVEL_STAGGERED", 700, (N - 1) // (700 // 2)),
        ("RANK_LEVEL_SIMULTANEOUS", 700, (N - 1) // 700),  # the first rank alone
        ("BANK_LEVEL_STAGGERED", 700, 1 + (N - 1 - 100) // 700),  # a bank's refresh holds the others for tREFI
    ],
)
def test_refreshes_of_an_idle_memory(policy: str, interval: int, expected: int) -> None:
    data = {
        "dram_structure": {"protocol": "DDR4", "bankgroups": 4, "banks_per_group": 4, "rows": 1 << 15},
        "timing": TIMING | {"tREFI": interval, "tREFIb": 100, "tRFCb": 33},
        "system": {"channel_size": 8192},
        "power": {"VDD": 1.2, "IDD2N": 34, "IDD3N": 43, "IDD5AB": 250, "IDD5PB": 60},
    }
    nothing = Trace(np.zeros(0, np.int64), np.zeros(0, np.bool_), np.zeros(0, np.int64))
    model = Dramsim3(make_device("idle", data), nothing, N)
    report = model.evaluate(columns(model.fields, [{"refresh_policy": policy}]))
    assert report.metrics["refreshes"][0] == expected
    once = 1.2 * (60 - 43) * 33 * 8 if policy.startswith("BANK") else 1.2 * (250 - 43) * 60 * 8
    energy_mw_cycles = 2 * N * 1.2 * 34 * 8 + expected * once
    assert report.metrics["energy_pj"][0] == pytest.approx(energy_mw_cycles)  # tCK is 1 ns
    assert report.metrics["power_mw"][0] == pytest.approx(energy_mw_cycles / N)
    assert report.reasons[0] == f"no read is answered within {N} cycles"
    assert np.isnan(report.metrics["read_latency_ns"][0])


def test_energy_of_one_read() -> None:
    power = {"VDD": 1.5, "IDD0": 60.0, "IDD2N": 30.0, "IDD3N": 40.0, "IDD4R": 140.0}
    data = {
        "dram_structure": {"bankgroups": 1, "banks_per_group": 8, "rows": 1 << 15},
        "timing": TIMING,
        "power": power,
    }
    model = Dramsim3(make_device("one", data), Trace(np.array([0]), np.array([False]), np.array([0])), 1000)
    report = model.evaluate(columns(model.fields, [{"row_buf_policy": "CLOSE_PAGE"}]))
    active = 11  # from the activation to the read with precharge
    activate = 1.5 * (60 * (25 + 12) - (40 * 25 + 30 * 12)) * 8
    expected = activate + 1.5 * (140 - 40) * 4 * 8 + 1.5 * 8 * (40 * active + 30 * (1000 - active))
    assert report.metrics["energy_pj"][0] == pytest.approx(expected)
    assert report.metrics["bandwidth_gb_per_s"][0] == pytest.approx(2 * 64 / 1000)


# DRAMsim3, state of April 2021, 60,000 cycles: device, 2,500 requests, knobs, then reads and writes done, mean read
# latency, GB/s, energy in mW x cycles, activations, read and write row hits, refreshes
PRINTED = """
ddr3-1600,stream_rd,CLOSE_PAGE,PER_RANK,4,16,rorabgbachco,RANK_LEVEL_SIMULTANEOUS,true,1507,0,804.4917054,1.285973333,71120149.2,1508,0,0,7
ddr3-1600,stream_rd,CLOSE_PAGE,PER_RANK,4,64,chrarobabgco,BANK_LEVEL_STAGGERED,true,181,0,21993.56906,0.1544533333,49020379.2,182,0,0,9
ddr3-1600,stream_rw,CLOSE_PAGE,PER_BANK,16,8,chrarobabgco,BANK_LEVEL_STAGGERED,true,707,719,1036.439887,1.216853333,65655576,1414,0,0,9
ddr3-1600,stream_rw,OPEN_PAGE,PER_RANK,16,8,robabgrachco,RANK_LEVEL_SIMULTANEOUS,true,1250,1250,138.68,2.133333333,71246898,90,1205,1205,7
ddr4-2400,stream_rd,OPEN_PAGE,PER_BANK,8,32,rorabgbachco,RANK_LEVEL_STAGGERED,false,2500,0,277.518,3.212851406,59856192,22,2478,0,12
ddr4-2400,stream_rd,CLOSE_PAGE,PER_BANK,8,8,robabgrachco,BANK_LEVEL_STAGGERED,false,1197,0,854.6959064,1.538313253,50088777.6,1198,0,0,7
ddr4-2400,stream_rw,OPEN_PAGE,PER_BANK,8,16,chrarobabgco,RANK_LEVEL_STAGGERED,false,1250,1250,383.7968,3.212851406,60129360,187,1152,1162,12
ddr4-2400,stream_rw,CLOSE_PAGE,PER_BANK,4,32,rochrababgco,RANK_LEVEL_SIMULTANEOUS,false,512,544,3763.103516,1.357108434,53435625.6,1041,0,0,6
hbm2,stream_rd,CLOSE_PAGE,PER_BANK,16,16,chrarobabgco,RANK_LEVEL_STAGGERED,true,2501,0,769.2670932,2.667733333,34804416,2509,0,0,120
hbm2,stream_rw,OPEN_PAGE,PER_BANK,8,8,rorabgbachco,RANK_LEVEL_STAGGERED,false,1251,1250,123.3908873,2.667733333,34208538,274,1093,1131,120
hbm2,stream_rw,OPEN_PAGE,PER_RANK,16,8,rochrababgco,BANK_LEVEL_STAGGERED,false,27,40,58,0.07146666667,23992176,4,25,22,128
"""
STEPS = np.arange(2500)
TRACES = {
    "stream_rd": Trace(4 * STEPS, STEPS < 0, 64 * STEPS),
    "stream_rw": Trace(4 * STEPS, STEPS % 2 == 1, STEPS // 2 * 64 + STEPS % 2 * 0x8000000),
}


@pytest.mark.slow
@pytest.mark.parametrize("row", PRINTED.split())
def test_the_figures_that_dramsim3_prints(row: str) -> None:
    name, trace, page, queue, n_cmd, n_trans, mapping, refresh, unified, *figures = row.split(",")
    model = Dramsim3(name, TRACES[trace])
    values = (page, queue, int(n_cmd), int(n_trans), mapping, refresh, unified)
    knobs = dict(zip([f.name for f in model.fields], values, strict=True))
    ours = model.evaluate(columns(model.fields, [knobs])).metrics
    names = ("reads_done", "writes_done", "read_latency_cycles", "bandwidth_gb_per_s", "energy_pj", "activates")
    for metric, text in zip((*names, "read_row_hits", "write_row_hits", "refreshes"), figures, strict=True):
        value = ours[metric][0] / (model.device.tck_ns if metric == "energy_pj" else 1)
        assert float(f"{value:.10g}") == float(text), metric


@pytest.fixture(scope="module")
def model() -> Dramsim3:
    rng = np.random.default_rng(3)
    trace = Trace(np.arange(300) * 3, rng.random(300) < 0.3, rng.integers(0, 1 << 24, 300) * 64)
    return Dramsim3("ddr4-2400", trace, 4000)


def every_kind(model: Dramsim3, n: int, rng: np.random.Generator) -> list[dict[str, int | str]]:
    search = load_preset("dramsim3-ddr4", model).search
    return [{name: options[rng.integers(len(options))] for name, options in search.items()} for _ in range(n)]  # type: ignore[misc]


@pytest.mark.slow
def test_a_batch_is_its_designs_in_any_order(model: Dramsim3) -> None:
    rng = np.random.default_rng(0)
    designs = every_kind(model, 40, rng)
    together = model.evaluate(columns(model.fields, designs)).metrics
    order = rng.permutation(40)
    shuffled = model.evaluate(columns(model.fields, [designs[i] for i in order])).metrics
    for i in (0, 7, 39):
        alone = model.evaluate(columns(model.fields, [designs[i]])).metrics
        assert all(alone[name][0] == together[name][i] for name in model.metrics)
    assert set(together) == set(model.metrics)
    assert all(np.array_equal(shuffled[name], together[name][order]) for name in model.metrics)
    assert np.ptp(together["read_latency_ns"]) > 0


def test_designs_that_differ_without_effect_are_simulated_once(monkeypatch: pytest.MonkeyPatch) -> None:
    model = Dramsim3(device(), "stream", 500)  # one channel, one rank
    n_simulated: list[int] = []
    simulate = model._simulate

    def counted(parameters: NDArray[np.int64], mappings: Sequence[str]) -> NDArray[np.int64]:
        n_simulated.append(len(parameters))
        return simulate(parameters, mappings)

    monkeypatch.setattr(model, "_simulate", counted)
    rank = {"refresh_policy": "RANK_LEVEL_SIMULTANEOUS"}, {"refresh_policy": "RANK_LEVEL_STAGGERED"}
    mappings = {"address_mapping": "robabgrachco"}, {"address_mapping": "chrobarabgco"}
    report = model.evaluate(columns(model.fields, [a | b for a in rank for b in mappings] * 3))
    assert n_simulated == [1]
    assert len(report.reasons) == 12
    assert np.ptp(report.metrics["energy_pj"]) == 0


def test_no_designs(model: Dramsim3) -> None:
    report = model.evaluate(columns(model.fields, []))
    assert all(values.shape == (0,) for values in report.metrics.values())
    assert list(report.reasons) == []


@pytest.mark.parametrize("name", ["ddr3", "ddr4"])
def test_presets_fit_the_model(name: str) -> None:
    model = Dramsim3("ddr3-1600" if name == "ddr3" else "ddr4-2400", "gemm", 2000)
    preset = load_preset(f"dramsim3-{name}", model)
    assert preset.values == {f.name: f.default for f in model.fields}
    assert model.evaluate(columns(model.fields, [preset.values])).reasons[0] == ""


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("row_buf_policy", "OPEN", "row_buf_policy: 'OPEN' is not one of OPEN_PAGE, CLOSE_PAGE"),
        ("cmd_queue_size", 0, "cmd_queue_size: 0 is not allowed; use an integer of at least 1"),
        ("address_mapping", "rochrababg", "address_mapping: 'rochrababg' is not allowed; use each of ch, ra, bg"),
        ("address_mapping", "rochrababgro", "as in 'rochrababgco'"),
    ],
)
def test_a_wrong_value_is_one_message(model: Dramsim3, column: str, value: int | str, message: str) -> None:
    designs = dict(columns(model.fields, [{}]))
    with pytest.raises(ValueError, match=message):
        model.evaluate(designs | {column: np.array([value])})


def test_wrong_options_and_missing_columns(model: Dramsim3) -> None:
    with pytest.raises(ValueError, match="cycles: 0 is not allowed"):
        Dramsim3(cycles=0)
    with pytest.raises(ValueError, match="'ddr5' is not one of"):
        Dramsim3(device="ddr5")
    designs = dict(columns(model.fields, [{}]))
    del designs["unified_queue"]
    with pytest.raises(ValueError, match="column 'unified_queue' is missing"):
        model.evaluate(designs)
