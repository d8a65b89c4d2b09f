"""The compiled loop against a slow model written otherwise: wires between named blocks, as FARSI's code has them."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import pytest

from simulators.accelerator import Value, load_preset
from simulators.design import design_columns
from simulators.soc import Soc
from simulators.soc_graph import OUTSIDE, graph_names

Block = tuple[str, int]
Wire = tuple[Block, Block, str]  # from, to, read or write; data of a read flow the other way


@dataclass
class Slow:
    """One design, step by step."""

    model: Soc
    values: dict[str, Value]
    on_wire: dict[Wire, dict[str, list[int]]] = field(default_factory=lambda: defaultdict(lambda: defaultdict(list)))
    moved: dict[tuple[Block, str, str], float] = field(default_factory=lambda: defaultdict(float))

    def __post_init__(self) -> None:
        graph = self.model.task_graph
        self.edges = list(zip(graph.edge_from.tolist(), graph.edge_to.tolist(), graph.edge_bytes.tolist(), strict=True))
        for number, (writer, reader, size) in enumerate(self.edges):
            memory = self.values["source_mem"] if writer == OUTSIDE else self.values[f"{graph.tasks[writer]}_mem"]
            for task, way in ((reader, "read"), (writer, "write")):
                if task == OUTSIDE:
                    continue
                path = self.path(int(self.values[f"{graph.tasks[task]}_pe"]), int(memory))
                for one, other in pairwise(path):
                    self.on_wire[one, other, way][graph.tasks[task]].append(number)
                    self.moved[other, way, graph.tasks[task]] += size

    def path(self, pe: int, memory: int) -> list[Block]:
        first, last = int(self.values[f"pe_{pe}_bus"]), int(self.values[f"mem_{memory}_bus"])
        between = range(first, last + 1) if first <= last else range(first, last - 1, -1)
        buses = [("bus", b) for b in between if self.values[f"bus_{b}_kind"] == "bus"]
        return [("pe", pe), *buses, ("mem", memory)]

    def burst(self, task: str, numbers: list[int]) -> int:
        graph, index = self.model.task_graph, self.model.task_graph.tasks.index(task)
        reads = [size for _, reader, size in self.edges if reader == index]
        writes = [size for writer, _, size in self.edges if writer == index]
        slices = math.floor(min(reads) / graph.burst_bytes) if reads else 1
        small = [math.floor(min(writes) / slices)] if writes and slices else []
        if slices == 0 or 0 in [*small, math.floor(graph.ops[index] / slices)]:
            slices = 1
        return sum(int(self.edges[number][2] / slices) for number in numbers)

    def seconds(self, task: str) -> float:
        graph, index = self.model.task_graph, self.model.task_graph.tasks.index(task)
        pe = f"pe_{self.values[f'{task}_pe']}"
        hertz = float(self.values[f"{pe}_clock_mhz"]) * 1e6
        if self.values[f"{pe}_kind"] == "core":
            return float(graph.ops[index]) / (2 * hertz)
        unroll = min(int(self.values[f"{pe}_unroll"]), int(graph.loop_iterations[index]))
        return float(graph.accelerator_cycles[index]) / hertz / unroll

    def bandwidth(self, block: Block) -> float:
        name = f"{block[0]}_{block[1]}"
        return float(self.values[f"{name}_width_bytes"]) * float(self.values[f"{name}_clock_mhz"]) * 1e6

    def rate(self, task: str, running: list[str]) -> float:
        same_pe = [other for other in running if self.values[f"{other}_pe"] == self.values[f"{task}_pe"]]
        bounds = [1 / self.seconds(task) / len(same_pe)]
        for wire, tasks in self.on_wire.items():
            if task not in tasks:
                continue
            block, way = wire[1], wire[2]
            weights = {other: self.burst(other, tasks[other]) for other in running if other in tasks}
            share = weights[task] / sum(weights.values())
            outs: list[Wire | None] = [
                w for w in self.on_wire if w[0] == block and w[2] == way and task in self.on_wire[w]
            ]
            for out in outs or [None]:
                inputs = [w for w in self.on_wire if w[1] == block and w[2] == way]
                on_way = [other for other in running if out is None or other in self.on_wire[out]]
                used = [w for w in inputs if any(other in self.on_wire[w] for other in on_way)]
                bounds.append(self.bandwidth(block) * share / len(used) / self.moved[block, way, task])
        return min(bounds)

    def finish_seconds(self) -> dict[str, float]:
        graph = self.model.task_graph
        parents: dict[str, set[str]] = {task: set() for task in graph.tasks}
        for writer, reader, _ in self.edges:
            if OUTSIDE not in (writer, reader):
                parents[graph.tasks[reader]].add(graph.tasks[writer])
        clock, finish, queue = 0.0, dict[str, float](), list[str]()
        left = dict.fromkeys(graph.tasks, 1.0)
        running: list[str] = []
        while len(finish) < len(graph.tasks):
            queue += [t for t in graph.tasks if t not in finish and t not in queue and parents[t] <= set(finish)]
            for task in [t for t in queue if t not in finish and t not in running]:
                busy = {self.values[f"{other}_pe"] for other in running}
                if self.model.pe_sharing == "equal" or self.values[f"{task}_pe"] not in busy:
                    running.append(task)
            rates = {task: self.rate(task, running) for task in running}
            step = min(left[task] / rates[task] for task in running)
            clock += step
            for task in list(running):
                left[task] -= rates[task] * step
                if left[task] <= 1e-12:
                    running.remove(task)
                    finish[task] = clock
        return finish


@pytest.mark.parametrize("sharing", ["queue", "equal"])
@pytest.mark.parametrize("graph", graph_names())
def test_random_designs_agree(graph: str, sharing: str) -> None:
    model = Soc(graph, pe_sharing=sharing)  # type: ignore[arg-type]
    preset, rng = load_preset(f"soc-{graph}", model), np.random.default_rng(7)
    searched = {name: np.array(options)[rng.integers(0, len(options), 120)] for name, options in preset.search.items()}
    searched |= {"bus_2_kind": rng.choice(["none", "bus"], 120), "bus_2_width_bytes": rng.choice([1, 2, 4, 16], 120)}
    places = [name for name in searched if name.endswith("_bus")]
    searched |= {name: rng.choice([0, 1, 2], 120) for name in places}
    searched |= {name: rng.choice([1, 2, 4, 16, 64], 120) for name in searched if name.endswith("_width_bytes")}
    designs = design_columns(model.fields, preset.values, searched)
    report, schedule = model.evaluate(designs), model.schedule(designs)
    works = [i for i, reason in enumerate(report.reasons) if not reason][: 12 if graph == "toy" else 3]
    assert works
    for i in works:
        slow = Slow(model, {name: values[i].item() for name, values in designs.items()}).finish_seconds()
        expected = [slow[task] * 1e3 for task in model.task_graph.tasks]
        assert schedule.finish_ms[i] == pytest.approx(expected, rel=1e-9)
        assert report.metrics["latency_ms"][i] == pytest.approx(max(expected), rel=1e-9)
