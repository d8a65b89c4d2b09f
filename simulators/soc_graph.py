"""Task graphs: the software that runs on a system on chip, as data.

A task does `ops` operations on a general core; it reads what its parents wrote and writes what its children read. What
is there from the start comes `from = "source"`, results go `to = "sink"`. A graph is a TOML file:

    description = "blur an image, then find its edges"
    burst_bytes = 1024
    tasks = [
      { name = "blur", ops = 2e6, accelerator_cycles = 9e4, accelerator_energy_fj = 30, accelerator_area_um2 = 900 },
      { name = "edges", ops = 3e6 },
    ]
    edges = [
      { from = "source", to = "blur", bytes = 65536 },
      { from = "blur", to = "edges", bytes = 65536 },
      { from = "edges", to = "sink", bytes = 8192 },
    ]

`read_farsi_csv` reads the databases of FARSI, from which the three AR graphs that ship here were made.
"""

from __future__ import annotations

import csv
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]

GRAPH_FOLDER = Path(__file__).parent / "graphs"
OUTSIDE = -1
"""In `edge_from` the source, in `edge_to` the sink."""

_TASK_KEYS = (
    "name",
    "ops",
    "loop_iterations",
    "accelerator_cycles",
    "accelerator_energy_fj",
    "accelerator_area_um2",
)
_ACCELERATOR_KEYS = _TASK_KEYS[3:]
_GRAPH_KEYS = ("description", "burst_bytes", "tasks", "edges")
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_RESERVED = ("source", "sink", "none", "core")
_DUMMIES = ("souurce", "siink", "dummy_last")  # FARSI's spelling


@dataclass(frozen=True, slots=True, eq=False)
class TaskGraph:
    """A directed acyclic graph of T tasks and E edges, as a struct of arrays.

    Attributes:
        name: of the file, without its ending.
        description: one line.
        tasks: T names.
        ops: shape (T,), operations of a general core (FARSI: instructions), above 0.
        loop_iterations: shape (T,), iterations of the task's loop that can run in parallel on an accelerator.
        accelerator_cycles: shape (T,), cycles of the task's own accelerator, not unrolled; NaN if it has none.
        accelerator_energy_fj: shape (T,), its energy for the whole task, as the database gives it.
        accelerator_area_um2: shape (T,), its area.
        edge_from: shape (E,), the task that writes, or `OUTSIDE` for data that are there from the start.
        edge_to: shape (E,), the task that reads, or `OUTSIDE` for results.
        edge_bytes: shape (E,), bytes moved, above 0.
        burst_bytes: size of a burst on the buses.
    """

    name: str
    description: str
    tasks: tuple[str, ...]
    ops: FloatArray
    loop_iterations: IntArray
    accelerator_cycles: FloatArray
    accelerator_energy_fj: FloatArray
    accelerator_area_um2: FloatArray
    edge_from: IntArray
    edge_to: IntArray
    edge_bytes: FloatArray
    burst_bytes: int

    def __post_init__(self) -> None:
        """Refuse names, numbers and edges that cannot be, and cycles."""
        for name in self.tasks:
            if not _NAME.fullmatch(name) or name in _RESERVED:
                raise ValueError(
                    f"{self.name}.tasks: {name!r} is not a name; use letters, digits and _, not {', '.join(_RESERVED)}"
                )
        if not self.tasks or len(set(self.tasks)) != len(self.tasks):
            raise ValueError(f"{self.name}.tasks: {list(self.tasks)} is empty or names a task twice")
        bad = np.flatnonzero(~(np.isfinite(self.ops) & (self.ops > 0) & (self.loop_iterations >= 1)))
        if bad.size:
            first = self.tasks[bad[0]]
            raise ValueError(f"{self.name}.tasks: {first!r} needs ops above 0 and loop_iterations of at least 1")
        if not (np.isfinite(self.edge_bytes) & (self.edge_bytes > 0)).all() or self.burst_bytes < 1:
            raise ValueError(f"{self.name}: bytes of every edge and burst_bytes must be above 0")
        ends = list(zip(self.edge_from.tolist(), self.edge_to.tolist(), strict=True))
        if len(set(ends)) != len(ends) or (OUTSIDE, OUTSIDE) in ends:
            raise ValueError(f"{self.name}.edges: an edge is given twice, or leads from the source to the sink")
        self._refuse_cycles(ends)

    def _refuse_cycles(self, ends: Sequence[tuple[int, int]]) -> None:
        parents: dict[str, list[str]] = {name: [] for name in self.tasks}
        for writer, reader in ends:
            if OUTSIDE not in (writer, reader):
                parents[self.tasks[reader]].append(self.tasks[writer])
        try:
            TopologicalSorter(parents).prepare()
        except CycleError as error:
            raise ValueError(f"{self.name}.edges: the tasks {' -> '.join(error.args[1])} form a cycle") from None

    def __len__(self) -> int:
        """Number of tasks."""
        return len(self.tasks)

    @property
    def has_accelerator(self) -> NDArray[np.bool_]:
        """Shape (T,), whether the task has an accelerator of its own."""
        found: NDArray[np.bool_] = ~np.isnan(self.accelerator_cycles)
        return found

    def bursts(self) -> tuple[FloatArray, FloatArray]:
        """Bytes of an edge in one slice of its reader's and of its writer's work, each of shape (E,).

        A task moves data and works in slices, so that the smallest of what it reads fills one burst per slice (FARSI,
        workload.py: `set_dice_factor`, `calc_work_unit`); tasks on one wire share it in proportion to these figures.
        """
        per_reader, per_writer = self.edge_bytes.copy(), self.edge_bytes.copy()
        for task, ops in enumerate(self.ops):
            reads, writes = self.edge_to == task, self.edge_from == task
            smallest_read = self.edge_bytes[reads].min(initial=np.inf)
            smallest_write = self.edge_bytes[writes].min(initial=np.inf)
            slices = np.floor(smallest_read / self.burst_bytes) if reads.any() else 0.0
            if slices == 0 or min(smallest_write, ops) < slices:
                slices = 1.0
            per_reader[reads] = np.floor(self.edge_bytes[reads] / slices)
            per_writer[writes] = np.floor(self.edge_bytes[writes] / slices)
        return per_reader, per_writer


def graph_names() -> list[str]:
    """Names of the graphs that ship with the package, sorted."""
    return sorted(path.stem for path in GRAPH_FOLDER.glob("*.toml"))


def load_graph(name: str | Path) -> TaskGraph:
    """A task graph by name, or from a user's own file.

    Args:
        name: one of `graph_names()`, or a path that ends in `.toml`.

    Raises:
        ValueError: unknown name, unreadable file, unknown key or wrong value.
    """
    path = Path(name)
    if path.suffix != ".toml":
        if str(name) not in graph_names():
            raise _unknown("graph", str(name), graph_names())
        path = GRAPH_FOLDER / f"{name}.toml"
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"graph: cannot read {str(path)!r}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"graph: {str(path)!r} is not valid TOML: {error}") from error
    check_keys(path.stem, data, _GRAPH_KEYS, _GRAPH_KEYS)
    description, burst = data["description"], data["burst_bytes"]
    if not isinstance(description, str) or not description:
        raise ValueError(f"{path.stem}.description: {description!r} is not allowed; use a text")
    if isinstance(burst, bool) or not isinstance(burst, int):
        raise ValueError(f"{path.stem}.burst_bytes: {burst!r} is not allowed; use an integer")
    return _graph(path.stem, description, burst, _tables(path.stem, data, "tasks"), _tables(path.stem, data, "edges"))


def read_farsi_csv(
    folder: str | Path, workload: str, *, ops_per_cycle: float = 2.0, burst_bytes: int = 1024
) -> TaskGraph:
    """A task graph from FARSI's CSV databases (`specs/database_data/parsing`).

    Its dummy tasks become the source and the sink, edges from a task to itself are left out as FARSI leaves them out,
    and the suffix `_fxp_cloned` of its names is dropped.

    Args:
        folder: where `<workload>_database - Task Data Movement.csv`, `... Task PE Performance.csv`, `... Task PE
            Energy.csv`, `... Task PE Area.csv` and `... Task Itr Count.csv` lie.
        workload: such as `audio_decoder`.
        ops_per_cycle: instructions per cycle of the reference core, in whose cycles the database states work.
        burst_bytes: size of a burst.

    Raises:
        ValueError: a file cannot be read, a column is missing, or the graph is none.
    """
    movement = _farsi_table(folder, workload, "Task Data Movement")
    cycles = _farsi_table(folder, workload, "Task PE Performance")
    energy, area = (_farsi_table(folder, workload, f"Task PE {what}") for what in ("Energy", "Area"))
    loops = _farsi_table(folder, workload, "Task Itr Count")
    tasks: list[dict[str, object]] = []
    for name in (name for name in cycles if name not in _DUMMIES):
        task: dict[str, object] = {"name": name, "ops": ops_per_cycle * float(cycles[name]["A53"])}
        task["loop_iterations"] = int(loops[name]["number of iterations"])
        if cycles[name].get("IP0"):
            figures = (table[name]["IP0"] for table in (cycles, energy, area))
            task |= {key: float(figure) for key, figure in zip(_ACCELERATOR_KEYS, figures, strict=True)}
        tasks.append(task)
    edges: list[dict[str, object]] = []
    for writer, row in movement.items():
        for reader, moved in row.items():
            ends = ("source" if writer in _DUMMIES else writer, "sink" if reader in _DUMMIES else reader)
            if moved and writer != reader and ends != ("source", "sink"):
                edges.append({"from": ends[0], "to": ends[1], "bytes": float(moved)})
    return _graph(workload, f"{workload} of FARSI's databases", burst_bytes, tasks, edges)


def _farsi_table(folder: str | Path, workload: str, table: str) -> dict[str, dict[str, str]]:
    path = Path(folder) / f"{workload}_database - {table}.csv"
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
    except OSError as error:
        raise ValueError(f"graph: cannot read {str(path)!r}: {error.strerror}") from error
    plain = [{(key or "").removesuffix("_fxp_cloned"): value for key, value in row.items()} for row in rows]
    if not plain or "Task Name" not in plain[0]:
        raise ValueError(f"graph: {str(path)!r} has no column 'Task Name'")
    return {row.pop("Task Name").removesuffix("_fxp_cloned"): row for row in plain}


def _graph(
    name: str,
    description: str,
    burst_bytes: int,
    tasks: Sequence[Mapping[str, object]],
    edges: Sequence[Mapping[str, object]],
) -> TaskGraph:
    names: list[str] = []
    for i, task in enumerate(tasks):
        key = f"{name}.tasks[{i}]"
        has_accelerator = any(k in task for k in _ACCELERATOR_KEYS)
        check_keys(key, task, _TASK_KEYS, ("name", "ops", *(_ACCELERATOR_KEYS if has_accelerator else ())))
        names.append(str(task["name"]))
    ends: dict[str, list[int]] = {"from": [], "to": []}
    for i, edge in enumerate(edges):
        check_keys(f"{name}.edges[{i}]", edge, ("from", "to", "bytes"), ("from", "to", "bytes"))
        for end, outside in (("from", "source"), ("to", "sink")):
            if edge[end] not in (*names, outside):
                raise _unknown(f"{name}.edges[{i}].{end}", edge[end], [*names, outside])
            ends[end].append(OUTSIDE if edge[end] == outside else names.index(str(edge[end])))
    figures = {key: _numbers(f"{name}.tasks", tasks, key) for key in _TASK_KEYS[1:]}
    loops = np.nan_to_num(figures["loop_iterations"], nan=1.0)
    return TaskGraph(
        name,
        description,
        tuple(names),
        ops=figures["ops"],
        loop_iterations=loops.astype(np.int64),
        accelerator_cycles=figures["accelerator_cycles"],
        accelerator_energy_fj=figures["accelerator_energy_fj"],
        accelerator_area_um2=figures["accelerator_area_um2"],
        edge_from=np.array(ends["from"], dtype=np.int64),
        edge_to=np.array(ends["to"], dtype=np.int64),
        edge_bytes=_numbers(f"{name}.edges", edges, "bytes"),
        burst_bytes=burst_bytes,
    )


def _numbers(key: str, rows: Sequence[Mapping[str, object]], column: str) -> FloatArray:
    """A column as floats, NaN where a row has no such key."""
    numbers = np.full(len(rows), np.nan)
    for i, row in enumerate(rows):
        value = row.get(column, np.nan)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or (column in row and not value > 0):
            raise ValueError(f"{key}[{i}].{column}: {value!r} is not allowed; use a number above 0")
        numbers[i] = value
    return numbers


def _tables(name: str, data: Mapping[str, object], key: str) -> list[Mapping[str, object]]:
    rows = data[key]
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise ValueError(f"{name}.{key}: {rows!r} is not allowed; use a list of tables")
    return rows


def check_keys(key: str, table: Mapping[str, object], known: Sequence[str], needed: Iterable[str]) -> None:
    """Refuse a table read from a file with a key that is not `known`, or without one that is `needed`.

    Raises:
        ValueError: with `key`, where the table stands, and the nearest known name.
    """
    for name in table:
        if name not in known:
            raise _unknown(key, name, known)
    for name in needed:
        if name not in table:
            raise ValueError(f"{key}.{name}: this key is missing")


def _unknown(key: str, value: object, names: Iterable[str]) -> ValueError:
    allowed = list(names)
    close = get_close_matches(str(value).lower(), allowed, n=1, cutoff=0.5)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    return ValueError(f"{key}: {value!r} is not one of {', '.join(allowed)}{hint}")
