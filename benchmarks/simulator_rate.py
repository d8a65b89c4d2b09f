"""How fast the simulators are beside the tools whose figures they give: `python benchmarks/simulator_rate.py`.

Every rate is per second of CPU time of this process (all its threads; NumPy is held to one), best of a few repeats of
about `--seconds` each, on designs, layers or mappings drawn from a fixed seed. Compilation of event loops, imports and
the making of inputs are not counted: one evaluation runs before the clock starts. The tools' rates are those stated in
`TOOLS`: CPU seconds per evaluation as measured once on a 2-core x86 machine, start of the process included where the
tool is a command. Exit status 0: every rate that is to be held is held; 1: one is missed; 2: a wrong argument.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

if __name__ == "__main__":
    for _library in ("OMP", "OPENBLAS", "MKL"):
        os.environ[f"{_library}_NUM_THREADS"] = "1"

import numpy as np

from simulators.accelerator import Columns, load_preset
from simulators.dataflow import Dataflow
from simulators.design import DesignModel, OnWorkload, design_columns
from simulators.dram import Dram
from simulators.dram_trace import Trace, make_trace, read_trace
from simulators.dramsim3 import Dramsim3
from simulators.mapping_model import MappingModel, random_designs
from simulators.networks import load_network
from simulators.roofline import Roofline
from simulators.simulator import Simulator
from simulators.soc import Soc
from simulators.spatial import Spatial
from simulators.spatial_evaluate import BLOCK, evaluate
from simulators.spatial_hierarchy import load_hierarchy
from simulators.spatial_nest import layers_of, nests_of
from simulators.systolic import Systolic

TOOLS = {
    "SCALE-Sim 3.0.0, layer": 0.86,  # mean of 483 runs with estimated bandwidth
    "SCALE-Sim 3.0.0, layer, stalls": 0.80,  # mean of 545 runs with a given bandwidth
    "SCALE-Sim 3.0.0, ResNet-18": 34.0,  # 12 distinct layers at 64 x 64 pixels, 32 x 32 array, weight stationary
    "ZigZag 3.9.1, mapping": 1 / 212,  # inside its own search
    "ZigZag 3.9.1, search": 3.0,  # median of 152 searches, one layer each
    "DRAMSys 4, stream": 0.022,  # the build that ArchGym ships, 10,000 requests
    "DRAMSys 4, random": 0.031,
    "DRAMSys 4, cloud-1": 0.027,
    "DRAMsim3": 0.021,  # DDR4, 2,500 requests, 60,000 cycles
    "FARSI, toy": 0.0036,
    "FARSI, audio_decoder": 0.016,  # initial design
    "MAESTRO": 0.0033,  # a layer, the process's start included
}
"""CPU seconds per evaluation."""

COUNTS = ("latency_cycles", "sram_ifmap_reads", "sram_filter_reads", "sram_ofmap_writes")


@dataclass(frozen=True, slots=True)
class Rate:
    """One line of the table.

    Attributes:
        simulator: ours.
        unit: what is counted.
        rate: per CPU second.
        tool: the published one; "" if there is none.
        tool_rate: its rate; 0 if there is none.
        hold: the least rate; 0 if none is held.
    """

    simulator: str
    unit: str
    rate: float
    tool: str = ""
    tool_rate: float = 0.0
    hold: float = 0.0

    @property
    def is_held(self) -> bool:
        """Whether the rate is at least what it must be."""
        return self.rate >= self.hold


@dataclass(frozen=True, slots=True)
class Settings:
    """What the measurements share."""

    seconds: float
    repeats: int
    traces: Path | None


def measured(call: Callable[[], object], n: int, settings: Settings) -> float:
    """Evaluations per CPU second: the best of some repeats of whole calls, n evaluations each."""
    call()
    best = 0.0
    for _ in range(settings.repeats):
        done, start = 0, time.process_time()
        while (spent := time.process_time() - start) < settings.seconds:
            call()
            done += n
        best = max(best, done / spent)
    return best


def against(
    simulator: str, unit: str, rate: float, tool: str, *, hold: float = 0.0, hold_ratio: float = 0.0, share: float = 1.0
) -> Rate:
    """A line beside a tool; `share` of its evaluation is one of ours."""
    tool_rate = 1 / (TOOLS[tool] * share)
    return Rate(simulator, unit, rate, tool, tool_rate, max(hold, hold_ratio * tool_rate))


def drawn(model: DesignModel | Simulator, preset_name: str, n: int, **fixed: object) -> Columns:
    """Random designs of a shipped preset's space, shape (n,) per field."""
    preset = load_preset(preset_name, model)
    rng = np.random.default_rng(0)
    picks = {name: np.array(options)[rng.integers(len(options), size=n)] for name, options in preset.search.items()}
    return design_columns(model.fields, {**preset.values, **fixed}, picks)  # type: ignore[dict-item]


def systolic(settings: Settings) -> Iterator[Rate]:
    """Closed forms, the event model and the physical mode, on ResNet-18 at 64 x 64."""
    layers, count = load_network("resnet18-64")
    n_designs, unit = 512, "(layer, design)"
    model = Systolic(metrics=COUNTS)
    designs = drawn(model, "edge-sizing", n_designs, mode="scalesim", bandwidth="unlimited")

    def closed() -> None:
        report = model.simulate(layers, designs)
        for name in COUNTS:
            _ = report.columns[name]

    rate = measured(closed, n_designs * len(layers), settings)
    yield against("systolic, closed forms", unit, rate, "SCALE-Sim 3.0.0, layer", hold=1e7)
    network = OnWorkload(model, layers, count)
    rate = measured(lambda: network.evaluate(designs), n_designs, settings)
    yield against("systolic, closed forms", "ResNet-18 design", rate, "SCALE-Sim 3.0.0, ResNet-18", hold=1e6)
    some = drawn(model, "edge-sizing", 8, mode="scalesim", bandwidth="limited")
    events = Systolic(metrics=("latency_cycles",))
    rate = measured(lambda: events.simulate(layers, some).columns["latency_cycles"], 8 * len(layers), settings)
    yield against("systolic, event model", unit, rate, "SCALE-Sim 3.0.0, layer, stalls")
    physical = Systolic(metrics=("latency_cycles", "energy_uj"))
    real = drawn(physical, "edge-sizing", n_designs)

    def all_costs() -> None:
        report = physical.simulate(layers, real)
        _ = report.columns["latency_cycles"], report.columns["energy_uj"]

    rate = measured(all_costs, n_designs * len(layers), settings)
    yield against("systolic, physical mode", unit, rate, "SCALE-Sim 3.0.0, layer")


def spatial(settings: Settings) -> Iterator[Rate]:
    """The cost of given mappings, and a layer's search for the best one."""
    layers, _ = load_network("resnet18-224")
    one = layers.take(np.array([1]))
    hierarchy, model = load_hierarchy("edge-like"), MappingModel(one, "edge-like")
    drawn_designs = random_designs(model, 64, np.random.default_rng(0))
    mappings = [model.mapping({n: v[i].item() for n, v in drawn_designs.items()}) for i in range(64)]
    nests = nests_of(layers_of(one.take(np.zeros(64, dtype=np.int64))), hierarchy, mappings)
    rows = np.tile(np.arange(64), BLOCK // 64)
    block = replace(
        nests,
        layers=nests.layers.take(rows),
        loop_dims=nests.loop_dims[:, rows],
        loop_sizes=nests.loop_sizes[:, rows],
        bounds={op: bounds[:, rows] for op, bounds in nests.bounds.items()},
        spatial={op: values[..., rows] for op, values in nests.spatial.items()},
        drain_cycles=nests.drain_cycles[rows],
    )
    rate = measured(lambda: evaluate(block, hierarchy), BLOCK, settings)
    yield against("spatial, cost model", "(layer, mapping)", rate, "ZigZag 3.9.1, mapping", hold=1e5)
    designs = drawn(Spatial(), "spatial-edge-like", 4)
    rate = measured(lambda: Spatial().simulate(layers, designs), 4 * len(layers), settings)
    yield against("spatial, mapper (fast)", "layer's search", rate, "ZigZag 3.9.1, search")


def mapping(settings: Settings) -> Iterator[Rate]:
    """One layer's mapping as a design."""
    model = MappingModel()
    designs = random_designs(model, 2_000, np.random.default_rng(0))
    rate = measured(lambda: model.evaluate(designs), 2_000, settings)
    yield against("mapping", "design", rate, "MAESTRO")


def dram(settings: Settings) -> Iterator[Rate]:
    """Batches of 1,000 random controllers on traces of 10,000 requests."""
    traces: dict[str, Trace] = {name: make_trace(name) for name in ("stream", "random", "hot_cold")}
    if settings.traces is not None:
        found = {path.stem.removeprefix("dramsys_"): path for path in sorted(settings.traces.glob("*.stl"))}
        traces = {name: read_trace(path) for name, path in found.items()}
        if not traces:
            raise ValueError(f"--traces: {settings.traces} has no .stl files")
    for name, trace in traces.items():
        model = Dram(trace=trace)
        designs = drawn(model, "dram-ddr3", 1_000)
        rate = measured(lambda model=model, designs=designs: model.evaluate(designs), 1_000, settings)  # type: ignore[misc]
        tool = f"DRAMSys 4, {name}"
        label = f"dram, {name}, {len(trace)} requests"
        yield against(label, "design", rate, tool, hold_ratio=100.0) if tool in TOOLS else Rate(label, "design", rate)


def dramsim3(settings: Settings) -> Iterator[Rate]:
    """Random controllers of the DDR4 space on 2,500 requests."""
    model = Dramsim3(device="ddr4-2400", trace=make_trace("random", n_requests=2_500, write_share=0.3, period=20))
    designs = drawn(model, "dramsim3-ddr4", 50)
    yield against("dramsim3", "design", measured(lambda: model.evaluate(designs), 50, settings), "DRAMsim3")


def soc(settings: Settings) -> Iterator[Rate]:
    """Random systems on chip, of which only those that work are counted."""
    for graph in ("toy", "audio_decoder"):
        model = Soc(graph=graph)
        designs = drawn(model, f"soc-{graph}", 20_000)
        n_working = sum(reason == "" for reason in model.evaluate(designs).reasons)
        rate = measured(lambda model=model, designs=designs: model.evaluate(designs), n_working, settings)  # type: ignore[misc]
        yield against(f"soc, {graph}", "working design", rate, f"FARSI, {graph}")


def dataflow(settings: Settings) -> Iterator[Rate]:
    """ResNet-18 at 224 x 224 under the shipped directives."""
    layers, _ = load_network("resnet18-224")
    model = Dataflow()
    rng = np.random.default_rng(0)
    searched = {"pes": rng.choice([64, 128, 256, 512, 1024], 256), "noc_elements_per_cycle": rng.choice([16, 64], 256)}
    designs = design_columns(model.fields, {}, searched)
    rate = measured(lambda: model.simulate(layers, designs), 256 * len(layers), settings)
    yield against("dataflow", "(layer, design)", rate, "MAESTRO")


def roofline(settings: Settings) -> Iterator[Rate]:
    """The bound, for comparison."""
    layers, _ = load_network("resnet18-64")
    model = Roofline()
    designs = drawn(model, "roofline-edge", 512)
    yield Rate(
        "roofline", "(layer, design)", measured(lambda: model.simulate(layers, designs), 512 * len(layers), settings)
    )


MEASUREMENTS: dict[str, Callable[[Settings], Iterator[Rate]]] = {
    f.__name__: f for f in (systolic, spatial, mapping, dram, dramsim3, soc, dataflow, roofline)
}


def table(rates: Sequence[Rate]) -> str:
    """The rates as text."""
    rows = [("simulator", "unit", "per CPU s", "tool", "per CPU s", "ratio", "to hold", "held")]
    for rate in rates:
        tool = (rate.tool, f"{rate.tool_rate:,.3g}", f"{rate.rate / rate.tool_rate:,.3g} x") if rate.tool else ("",) * 3
        held = (f"{rate.hold:,.0f}", "yes" if rate.is_held else "NO") if rate.hold else ("", "")
        rows.append((rate.simulator, rate.unit, f"{rate.rate:,.0f}", *tool, *held))
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    is_number = (False, False, True, False, True, True, True, False)
    lines = []
    for row in rows:
        cells = zip(row, widths, is_number, strict=True)
        lines.append("  ".join(cell.rjust(width) if right else cell.ljust(width) for cell, width, right in cells))
    return "\n".join(line.rstrip() for line in lines)


def main(arguments: Sequence[str]) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description="How fast the simulators are beside the tools they stand for.")
    parser.add_argument("--only", choices=MEASUREMENTS, action="append", help="measure this one; may be repeated")
    parser.add_argument("--json", action="store_true", help="print JSON in place of the table")
    parser.add_argument("--seconds", type=float, default=0.5, help="CPU seconds a repeat (default 0.5)")
    parser.add_argument("--repeats", type=int, default=3, help="the best of so many (default 3)")
    parser.add_argument("--traces", type=Path, help="folder of DRAMSys's .stl traces, in place of generated ones")
    options = parser.parse_args(arguments)
    if options.seconds <= 0 or options.repeats < 1:
        parser.error("--seconds must be above 0 and --repeats at least 1")
    settings = Settings(options.seconds, options.repeats, options.traces)
    try:
        rates = [rate for name in options.only or MEASUREMENTS for rate in MEASUREMENTS[name](settings)]
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    if options.json:
        print(json.dumps([{**asdict(rate), "is_held": rate.is_held} for rate in rates], indent=2))
    else:
        print(table(rates))
    return 0 if all(rate.is_held for rate in rates) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
