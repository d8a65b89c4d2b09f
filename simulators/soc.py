"""Systems on chip: a task graph on cores, accelerators, memories and buses, simulated phase by phase as FARSI does.

A design has slots for PEs, memories and buses. A PE is a general core or the accelerator of one task; every task names
its PE and the memory its output goes to; PEs and memories hang on buses; the buses that are present form a chain in the
order of their slots, and data take the only way there is.

Every running task reads, works and writes at once, at one rate. With t its compute time alone, D the bytes it moves in
one direction through a block of bandwidth W (width times clock, each way), its rate is the least of 1 / t and, over
blocks and directions, W s / D. The share s of the tasks that run together: at an output of a bus every input in use
gets the same, and on one wire tasks share in proportion to their bursts. A phase lasts until the first task ends. A
core takes ops / (ops_per_cycle clock), an accelerator cycles / (clock unroll), where no more of a loop than its
iterations can be unrolled.

Dynamic energy: operations on the core, or the accelerator's energy times its unrolling; bytes read from and written to
memories, at CACTI's figures for the capacity. A memory is as large as the most bytes it keeps at once, up to the next
multiple of 256,000: what is there from the start and results stay, what tasks write is kept from the writer's being
ready to the end of its last reader. Area: every block that is present, an accelerator times its unrolling.

Source: Boroujerdian et al., FARSI, 2022 (arXiv:2201.05232), and its code, facebookresearch/Project_FARSI:
SIM_utils/components/perf_sim.py (phases), design_utils/components/krnel.py (rates, sw_model "gables_inspired_exact"),
hardware.py (wires, memory sizes), design.py (CACTI, power). The design space is that of ArchGym's FARSI environment
(3 PEs, memories and buses in "limited" mode) and more slots. Departures from the code:

- A task ends when its work is done; FARSI lets it go at 99 %, and skips the rest.
- A PE with a queue serves what was ready first, as FARSI's policy ("FRFS") has it, ties in the order of the graph; its
  code puts those that just became ready before those that wait.
- The source and the sink take no PE. Data are freed when all readers have ended; FARSI's bookkeeping forgets some.
- Buses form a chain; ArchGym leaves their links to the design, and most random links are no network.
- Blocks that no task uses count in the area: a search sees what they cost. FARSI removes them.
- Windows of the peak power skip phases of no length, which shift FARSI's windows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from simulators.accelerator import Columns, Field, Value, count_accelerators
from simulators.design import DesignReport
from simulators.soc_blocks import BLOCKS_FILE, MEMORY_KINDS, Blocks, load_blocks
from simulators.soc_graph import TaskGraph, load_graph
from simulators.soc_kernel import simulate

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

BATCH = 8_192  # designs simulated at once, to bound memory
_NONE, _CORE = 0, 1


@dataclass(frozen=True, slots=True, eq=False)
class Schedule:
    """What A designs do over time; NaN for those that cannot work.

    Attributes:
        start_ms: shape (A, T), when each task of the graph begins.
        finish_ms: shape (A, T), when it ends.
        energy_uj: shape (A, T), its dynamic energy.
        memory_bytes: shape (A, M), the most bytes each memory keeps at once.
    """

    start_ms: FloatArray
    finish_ms: FloatArray
    energy_uj: FloatArray
    memory_bytes: FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class _Designs:
    """Decoded designs: kinds as numbers (0 none, 1 core, 2 + t the accelerator of task t; 0 none, 1 SRAM, 2 DRAM)."""

    pe_kind: IntArray
    pe_hertz: FloatArray
    pe_unroll: IntArray
    pe_bus: IntArray
    mem_kind: IntArray
    mem_rate: FloatArray
    mem_bus: IntArray
    bus_width: IntArray
    bus_rate: FloatArray
    task_pe: IntArray
    task_mem: IntArray
    source_mem: IntArray

    def take(self, rows: BoolArray) -> _Designs:
        """Some of the designs."""
        return _Designs(*(np.ascontiguousarray(getattr(self, name)[rows]) for name in self.__slots__))


@dataclass(frozen=True)
class Soc:
    """A task graph on a system on chip; see the module.

    Fields, for every slot i: `pe_i_kind`, `_clock_mhz`, `_unroll`, `_bus`; `mem_i_kind`, `_width_bytes`, `_clock_mhz`,
    `_bus`; `bus_i_kind`, `_width_bytes`, `_clock_mhz`; for every task `<task>_pe` and `<task>_mem`; `source_mem`. Those
    of an absent slot do nothing, nor does the unrolling of a core. By default there is one core, one SRAM and one bus.

    Metrics: `latency_ms`; `energy_uj`, dynamic; `power_mw`, energy over latency; `peak_power_mw`, the highest mean of
    windows of 10 ms (FARSI's "power"); `area_mm2`. A design cannot work, and has a reason and NaN, if a task goes to an
    absent slot or to the accelerator of another task, if a block that is present hangs on an absent bus, or if a memory
    would outgrow the table.

    Attributes:
        graph: name of a graph that ships with the package, or a .toml file.
        pes, memories, buses: slots of each kind, at most 32.
        pe_sharing: `queue`, a PE does one task at a time, first ready first served (FARSI's default,
            "serialized_read_write"); `equal`, all ready tasks at once, each at an equal share.
        blocks: a .toml file of figures of the blocks in place of the package's `soc_blocks.toml`.

    Raises:
        ValueError: an unknown graph, a file that is none, or a wrong number of slots.
    """

    graph: str = "audio_decoder"
    pes: int = 8
    memories: int = 3
    buses: int = 3
    pe_sharing: Literal["queue", "equal"] = "queue"
    blocks: str = ""

    id: ClassVar[str] = "soc-v1"
    metrics: ClassVar[tuple[str, ...]] = ("latency_ms", "energy_uj", "power_mw", "peak_power_mw", "area_mm2")

    def __post_init__(self) -> None:
        """Read the graph and the blocks, and refuse options that cannot be."""
        for name in ("pes", "memories", "buses"):
            if not 1 <= getattr(self, name) <= 32:
                raise ValueError(f"soc.{name}: {getattr(self, name)!r} is not allowed; use an integer from 1 to 32")
        if self.pe_sharing not in ("queue", "equal"):
            raise ValueError(f"soc.pe_sharing: {self.pe_sharing!r} is not one of queue, equal")
        _ = self.task_graph, self.block_figures

    @cached_property
    def task_graph(self) -> TaskGraph:
        """The graph that runs."""
        return load_graph(self.graph)

    @cached_property
    def block_figures(self) -> Blocks:
        """Figures of the blocks."""
        return load_blocks(self.blocks or BLOCKS_FILE)

    @cached_property
    def fields(self) -> tuple[Field, ...]:
        """What describes one design: of every slot, then of every task."""
        graph, buses = self.task_graph, tuple(range(self.buses))
        kinds = ("none", "core", *(t for t, has in zip(graph.tasks, graph.has_accelerator, strict=True) if has))
        found: list[Field] = []
        for i in range(self.pes):
            pe, first = f"pe_{i}", "none" if i else "core"
            found += [
                Field(f"{pe}_kind", "str", "", first, allowed=kinds, doc="none, core, or the task it accelerates"),
                Field(f"{pe}_clock_mhz", "float", "MHz", 1000.0, lowest=1e-3, doc="clock of the PE"),
                Field(f"{pe}_unroll", "int", "", 1, lowest=1, doc="loop iterations an accelerator does at once"),
                Field(f"{pe}_bus", "int", "", 0, allowed=buses, doc="bus the PE hangs on"),
            ]
        for i in range(self.memories):
            memory, first = f"mem_{i}", "none" if i else "sram"
            found += [
                Field(f"{memory}_kind", "str", "", first, allowed=("none", *MEMORY_KINDS), doc="kind of the memory"),
                Field(f"{memory}_width_bytes", "int", "B", 32, lowest=1, doc="bytes per cycle, each way"),
                Field(f"{memory}_clock_mhz", "float", "MHz", 100.0, lowest=1e-3, doc="clock of the memory"),
                Field(f"{memory}_bus", "int", "", 0, allowed=buses, doc="bus the memory hangs on"),
            ]
        for i in range(self.buses):
            bus, first = f"bus_{i}", "none" if i else "bus"
            found += [
                Field(f"{bus}_kind", "str", "", first, allowed=("none", "bus"), doc="whether there is a bus"),
                Field(f"{bus}_width_bytes", "int", "B", 32, lowest=1, doc="bytes per cycle and output, each way"),
                Field(f"{bus}_clock_mhz", "float", "MHz", 100.0, lowest=1e-3, doc="clock of the bus"),
            ]
        slots = {"pe": tuple(range(self.pes)), "mem": tuple(range(self.memories))}
        for task in graph.tasks:
            found.append(Field(f"{task}_pe", "int", "", 0, allowed=slots["pe"], doc=f"PE that runs {task}"))
            found.append(Field(f"{task}_mem", "int", "", 0, allowed=slots["mem"], doc=f"memory that {task} writes to"))
        doc = "memory that holds the graph's inputs"
        found.append(Field("source_mem", "int", "", 0, allowed=slots["mem"], doc=doc))
        return tuple(found)

    @property
    def uncounted(self) -> tuple[str, ...]:
        """What no figure holds."""
        free = self.block_figures.bus_pj_per_byte == 0 and self.block_figures.bus_area_mm2_per_byte == 0
        buses = ("energy and area of buses: FARSI sets both to zero",) if free else ()
        return (
            "leakage of every block",
            *buses,
            "clocks and widths cost neither energy nor area: FARSI's database has one figure for all",
            "latency of a single access: pipelines, hops, arbitration, queues, DRAM banks and refresh",
            "software that schedules tasks and moves data",
        )

    def evaluate(self, designs: Columns) -> DesignReport:
        """Figures of designs; see `DesignModel.evaluate`."""
        n_designs = count_accelerators(self.fields, designs)
        metrics = {name: np.full(n_designs, np.nan) for name in self.metrics}
        reasons: list[str] = []
        for first in range(0, n_designs, BATCH):
            rows = slice(first, first + BATCH)
            decoded, schedule, peak_power_mw, why = self._run({k: np.asarray(v)[rows] for k, v in designs.items()})
            latency_ms, energy_uj = schedule.finish_ms.max(axis=1), schedule.energy_uj.sum(axis=1)
            metrics["latency_ms"][rows] = np.where(why == "", latency_ms, np.nan)
            metrics["energy_uj"][rows] = energy_uj
            metrics["power_mw"][rows] = energy_uj / latency_ms
            metrics["peak_power_mw"][rows] = peak_power_mw
            metrics["area_mm2"][rows] = np.where(why == "", self._area_mm2(decoded, schedule.memory_bytes), np.nan)
            reasons += why.tolist()
        return DesignReport(metrics, reasons, self.uncounted)

    def schedule(self, designs: Columns) -> Schedule:
        """When every task runs, what it costs and what the memories keep; arguments and errors as of `evaluate`."""
        count_accelerators(self.fields, designs)
        return self._run({name: np.asarray(values) for name, values in designs.items()})[1]

    def _run(self, designs: Columns) -> tuple[_Designs, Schedule, FloatArray, NDArray[np.object_]]:
        """Decoded designs, their schedules, peak power in mW, and why they cannot work."""
        decoded, graph, blocks = self._decode(designs), self.task_graph, self.block_figures
        reasons = self._reasons(decoded)
        works = np.equal(reasons, "").astype(bool)
        run = decoded.take(works)
        n_run = len(run.source_mem)
        start, finish, joules = (np.empty((n_run, len(graph))) for _ in range(3))
        memory, watts = np.empty((n_run, self.memories)), np.empty(n_run)
        seconds, pe_joules = self._compute(run)
        tables = [getattr(blocks, kind) for kind in MEMORY_KINDS]
        simulate(
            np.stack([graph.edge_to, graph.edge_from]),
            graph.edge_bytes,
            np.stack(graph.bursts()),
            seconds,
            pe_joules,
            run.task_pe,
            run.task_mem,
            run.source_mem,
            run.pe_bus,
            run.mem_bus,
            run.mem_kind - 1,
            np.concatenate([run.mem_rate, run.bus_rate], axis=1),
            np.array([[table.read_pj_per_byte, table.write_pj_per_byte] for table in tables]) * 1e-12,
            blocks.bus_pj_per_byte * 1e-12,
            float(blocks.sram.step_bytes),
            blocks.power_window_ms * 1e-3,
            self.pe_sharing == "queue",
            start,
            finish,
            joules,
            memory,
            watts,
        )
        filled = []
        for part, factor in ((start, 1e3), (finish, 1e3), (joules, 1e6), (memory, 1.0), (watts, 1e3)):
            filled.append(np.full((len(works), *part.shape[1:]), np.nan))
            filled[-1][works] = part * factor
        for m in range(self.memories):
            full = np.nan_to_num(filled[3][:, m]) >= blocks.largest_bytes
            reasons[full] = (
                f"mem_{m} would have to keep {blocks.largest_bytes} bytes or more: beyond the largest memory"
            )
        for whole in filled:
            whole[np.not_equal(reasons, "").astype(bool)] = np.nan
        return decoded, Schedule(*filled[:4]), filled[4], reasons

    def _compute(self, designs: _Designs) -> tuple[FloatArray, FloatArray]:
        """Seconds and joules of every task's work on its PE, each of shape (A, T)."""
        graph, blocks = self.task_graph, self.block_figures
        row = np.arange(len(designs.task_pe))[:, None]
        hertz = designs.pe_hertz[row, designs.task_pe]
        unroll = np.minimum(designs.pe_unroll[row, designs.task_pe], graph.loop_iterations)
        on_core = designs.pe_kind[row, designs.task_pe] == _CORE
        seconds = np.where(
            on_core, graph.ops / (blocks.core_ops_per_cycle * hertz), graph.accelerator_cycles / (hertz * unroll)
        )
        accelerator_joules = graph.accelerator_energy_fj * 1e-15 * blocks.accelerator_energy_scale * unroll
        return seconds, np.where(on_core, graph.ops * blocks.core_pj_per_op * 1e-12, accelerator_joules)

    def _area_mm2(self, designs: _Designs, memory_bytes: FloatArray) -> FloatArray:
        """Area of all blocks that are present, shape (A,)."""
        graph, blocks = self.task_graph, self.block_figures
        scale = 1e-6 * blocks.accelerator_area_scale
        alone = np.array([0.0, blocks.core_area_mm2, *np.nan_to_num(graph.accelerator_area_um2 * scale)])
        most = np.array([1, 1, *graph.loop_iterations])[designs.pe_kind]
        unroll = np.minimum(designs.pe_unroll, most)
        by_kind = np.stack([np.zeros_like(blocks.sram.area_mm2), blocks.sram.area_mm2, blocks.dram.area_mm2])
        capacity = (np.ceil(np.nan_to_num(memory_bytes)) // blocks.sram.step_bytes).astype(np.int64)
        memory = by_kind[designs.mem_kind, np.minimum(capacity, by_kind.shape[1] - 1)]
        bus = blocks.bus_area_mm2_per_byte * np.where(designs.bus_rate > 0, designs.bus_width, 0)
        total: FloatArray = (alone[designs.pe_kind] * unroll).sum(axis=1) + memory.sum(axis=1) + bus.sum(axis=1)
        return total

    def _decode(self, designs: Columns) -> _Designs:
        tasks, by_name = self.task_graph.tasks, {f.name: f for f in self.fields}

        def numbers(names: Sequence[str]) -> NDArray[np.float64]:
            return _checked_numbers([by_name[name] for name in names], designs)

        def integers(names: Sequence[str]) -> IntArray:
            return numbers(names).astype(np.int64)

        def kinds(names: Sequence[str], options: Sequence[str]) -> IntArray:
            return np.stack([_codes(by_name[name], designs[name], options) for name in names], axis=1)

        pes, memories, buses = (
            [f"{slot}_{i}" for i in range(n)]
            for slot, n in (("pe", self.pes), ("mem", self.memories), ("bus", self.buses))
        )
        bus_width = integers([f"{bus}_width_bytes" for bus in buses])
        bus_rate = bus_width * numbers([f"{bus}_clock_mhz" for bus in buses]) * 1e6
        mem_rate = numbers([f"{m}_width_bytes" for m in memories]) * numbers([f"{m}_clock_mhz" for m in memories]) * 1e6
        return _Designs(
            pe_kind=kinds([f"{pe}_kind" for pe in pes], ("none", "core", *tasks)),
            pe_hertz=numbers([f"{pe}_clock_mhz" for pe in pes]) * 1e6,
            pe_unroll=integers([f"{pe}_unroll" for pe in pes]),
            pe_bus=integers([f"{pe}_bus" for pe in pes]),
            mem_kind=kinds([f"{memory}_kind" for memory in memories], ("none", *MEMORY_KINDS)),
            mem_rate=mem_rate,
            mem_bus=integers([f"{memory}_bus" for memory in memories]),
            bus_width=bus_width,
            bus_rate=bus_rate * (kinds([f"{bus}_kind" for bus in buses], ("none", "bus")) > 0),
            task_pe=integers([f"{task}_pe" for task in tasks]),
            task_mem=integers([f"{task}_mem" for task in tasks]),
            source_mem=integers(["source_mem"])[:, 0],
        )

    def _reasons(self, designs: _Designs) -> NDArray[np.object_]:
        """Why each design cannot work, "" for one that can; shape (A,)."""
        tasks = self.task_graph.tasks
        reasons = np.full(len(designs.source_mem), "", dtype=object)
        working = np.ones(len(reasons), dtype=bool)

        def blame(fails: BoolArray, code: IntArray, text: Callable[[int], str]) -> None:
            rows = np.flatnonzero(fails & working)
            for value in np.unique(code[rows]):
                reasons[rows[code[rows] == value]] = text(int(value))
            working[rows] = False

        row = np.arange(len(reasons))
        for slot, kind, bus in (("pe", designs.pe_kind, designs.pe_bus), ("mem", designs.mem_kind, designs.mem_bus)):
            for i in range(kind.shape[1]):
                fails = (kind[:, i] != _NONE) & (designs.bus_rate[row, bus[:, i]] == 0)
                blame(fails, bus[:, i], lambda b, name=f"{slot}_{i}": f"{name} hangs on bus_{b}, which is absent")  # type: ignore[misc]
        fails = designs.mem_kind[row, designs.source_mem] == _NONE
        blame(fails, designs.source_mem, lambda m: f"the source's data are in mem_{m}, which is absent")
        for t, task in enumerate(tasks):
            memory, pe = designs.task_mem[:, t], designs.task_pe[:, t]
            fails = designs.mem_kind[row, memory] == _NONE
            blame(fails, memory, lambda m, task=task: f"{task} writes to mem_{m}, which is absent")  # type: ignore[misc]
            kind = designs.pe_kind[row, pe]
            blame(kind == _NONE, pe, lambda p, task=task: f"{task} is mapped to pe_{p}, which is absent")  # type: ignore[misc]
            code = kind * self.pes + pe
            blame((kind > _CORE) & (kind != 2 + t), code, lambda c, task=task: self._cannot_run(c, task))  # type: ignore[misc]
        return reasons

    def _cannot_run(self, code: int, task: str) -> str:
        kind, pe = divmod(code, self.pes)
        return f"pe_{pe} is the accelerator of {self.task_graph.tasks[kind - 2]} and cannot run {task}"


def _checked_numbers(fields: Sequence[Field], designs: Columns) -> FloatArray:
    """Columns of numbers side by side, shape (A, fields); ValueError if one holds a value its field refuses."""
    found = np.stack([np.asarray(designs[f.name], dtype=np.float64) for f in fields], axis=1)
    least = np.array([f.lowest if f.lowest is not None else 0.0 for f in fields])
    most = np.array([float(len(f.allowed) - 1) if f.allowed else np.inf for f in fields])
    whole = np.array([f.kind == "int" for f in fields])
    bad = np.argwhere(~((found >= least) & (found <= most) & np.isfinite(found)) | (whole & (found != np.rint(found))))
    if bad.size:
        _refuse(fields[bad[0, 1]], np.asarray(designs[fields[bad[0, 1]].name])[bad[0, 0]])
    return found


def _codes(field: Field, column: NDArray[np.generic], options: Sequence[str]) -> IntArray:
    """Places of a column's texts among the options, shape (A,); ValueError if its field refuses one."""
    order = np.argsort(np.array(options))
    names = np.array(options)[order]
    place = np.minimum(np.searchsorted(names, column), len(names) - 1)
    codes = order[place]
    allowed = np.isin(np.array(options), np.array(field.allowed))
    bad = np.flatnonzero((names[place] != column) | ~allowed[codes])
    if bad.size:
        _refuse(field, np.asarray(column)[bad[0]])
    return codes.astype(np.int64)


def _refuse(field: Field, value: Value | np.generic) -> None:
    field.check(value, f"designs.{field.name}")
    raise ValueError(f"designs.{field.name}: {value!r} is not allowed; use {field.expected}")
