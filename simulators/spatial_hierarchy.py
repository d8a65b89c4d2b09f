"""Memory hierarchies as data: an array of PEs, its memories, their ports, and which array dimensions each one serves.

A hierarchy is a TOML file (see `hierarchies/`), or a file of accelerators as ZigZag writes them. Words: operands are W
(weights), I (inputs) and O (outputs); the memories of one operand, from the PE outwards, are its levels 0, 1, ... A
memory that serves an array dimension is shared by the PEs along it; one that does not is repeated along it. Data moves
in four directions at a memory, seen from it: read out to the level below, written by the level below, read out to the
level above, written by the level above. Each port states which operand's movements pass through it.

Source of the concepts: Mei et al., "ZigZag", IEEE TC 70(8), 2021, section 3; the fields are those of ZigZag 3.9.1.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any

HIERARCHY_FOLDER = Path(__file__).parent / "hierarchies"

OPERANDS = ("O", "W", "I")
DIMENSIONS = ("B", "G", "K", "C", "OY", "OX", "FY", "FX")
DIRECTIONS = ("rd_out_to_low", "wr_in_by_low", "rd_out_to_high", "wr_in_by_high")
READ_LOW, WRITE_LOW, READ_HIGH, WRITE_HIGH = range(4)

_ZIGZAG_DIRECTIONS = {"tl": READ_LOW, "fl": WRITE_LOW, "th": READ_HIGH, "fh": WRITE_HIGH}
_NEEDED = {"O": (0, 1, 2, 3), "W": (READ_LOW, WRITE_HIGH), "I": (READ_LOW, WRITE_HIGH)}


@dataclass(frozen=True, slots=True)
class Port:
    """One physical port of a memory.

    Attributes:
        kind: `read`, `write` or `read_write`.
        min_bits, max_bits: smallest access and width, in bits a cycle; an access costs a multiple of the smallest.
        moves: (operand, direction index into `DIRECTIONS`) pairs that pass through it.
    """

    kind: str
    min_bits: float
    max_bits: float
    moves: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class Memory:
    """One memory, repeated along the array dimensions that it does not serve.

    Attributes:
        name: unique in its hierarchy.
        bits: capacity of one copy.
        read_pj, write_pj: energy of an access of a port's whole width.
        operands: what it holds.
        serves: array dimensions whose PEs share it.
        ports: see `Port`.
        area_mm2: of one copy; 0 where the source gives none.
        is_double_buffered: a tile occupies twice its size unless it is the whole operand.
        field: name of the accelerator field that sizes it (`spatial_numbers.SIZES`), "" if none does.
    """

    name: str
    bits: float
    read_pj: float
    write_pj: float
    operands: tuple[str, ...]
    serves: tuple[str, ...]
    ports: tuple[Port, ...]
    area_mm2: float = 0.0
    is_double_buffered: bool = False
    field: str = ""

    def port_of(self, operand: str, direction: int) -> int | None:
        """Index of the port through which an operand moves in a direction; None if there is none."""
        for index, port in enumerate(self.ports):
            if (operand, direction) in port.moves:
                return index
        return None


@dataclass(frozen=True, slots=True)
class Hierarchy:
    """An array of PEs and its memories, innermost first for each operand.

    Attributes:
        name: of the file, or of the entry in a file of accelerators.
        array: array dimension -> PEs along it.
        mac_pj: energy of one multiply-accumulate.
        memories: an operand's levels are those of these memories that hold it, in this order.
        spatial: array dimension -> ((loop dimension, largest unrolling), ...), the default spatial mapping.
        systolic: array dimensions along which results leave the array one PE a cycle.
        mac_mm2: area of one PE's arithmetic; 0 where the source gives none.
        description, source: one line each.
    """

    name: str
    array: Mapping[str, int]
    mac_pj: float
    memories: tuple[Memory, ...]
    spatial: Mapping[str, tuple[tuple[str, int], ...]]
    systolic: tuple[str, ...] = ()
    mac_mm2: float = 0.0
    description: str = ""
    source: str = ""
    _levels: Mapping[str, tuple[int, ...]] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Refuse hierarchies that no mapping can use."""
        levels = {op: tuple(i for i, m in enumerate(self.memories) if op in m.operands) for op in OPERANDS}
        object.__setattr__(self, "_levels", levels)
        _check(self)

    @property
    def pes(self) -> int:
        """PEs of the array."""
        total = 1
        for size in self.array.values():
            total *= size
        return total

    def levels(self, operand: str) -> tuple[int, ...]:
        """Indices into `memories` of an operand's levels, innermost first."""
        return self._levels[operand]

    def level_names(self, operand: str) -> tuple[str, ...]:
        """Names of an operand's levels, innermost first."""
        return tuple(self.memories[i].name for i in self.levels(operand))

    def copies(self, memory: int) -> int:
        """How often a memory occurs: PEs along the array dimensions that it does not serve."""
        total = 1
        for name, size in self.array.items():
            total *= 1 if name in self.memories[memory].serves else size
        return total

    def unrolled_at(self, operand: str) -> tuple[tuple[str, ...], ...]:
        """Array dimensions unrolled below each level of an operand, and one entry more for those that none serves."""
        left, result = list(self.array), []
        for index in self.levels(operand):
            here = tuple(name for name in left if name in self.memories[index].serves)
            left = [name for name in left if name not in here]
            result.append(here)
        return (*result, tuple(left))


def hierarchy_names() -> list[str]:
    """Names of the hierarchies that ship with the package, sorted."""
    return sorted(path.stem for path in HIERARCHY_FOLDER.glob("*.toml"))


def load_hierarchy(name: str | Path) -> Hierarchy:
    """A hierarchy by name, or from a user's own TOML file.

    Args:
        name: one of `hierarchy_names()`, or a path that ends in `.toml`.

    Raises:
        ValueError: unknown name, unreadable file, or a hierarchy that is wrong or incomplete.
    """
    path = Path(name)
    if path.suffix != ".toml":
        if str(name) not in hierarchy_names():
            raise _unknown("hierarchy", str(name), hierarchy_names())
        return _shipped(str(name))
    return _read(path)


def load_zigzag_accelerators(path: Path) -> dict[str, Hierarchy]:
    """Accelerators of a JSON file in ZigZag's form: name -> {"hardware": ..., "default_mapping": ...}.

    Raises:
        ValueError: unreadable file or an entry that lacks something.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"accelerators: cannot read {str(path)!r}: {error.strerror}") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"accelerators: {str(path)!r} is not valid JSON: {error}") from error
    if not isinstance(data, dict):
        raise ValueError(f"accelerators: {str(path)!r} must hold an object of accelerators by name")
    return {name: hierarchy_from_zigzag(name, entry) for name, entry in data.items()}


def hierarchy_from_zigzag(name: str, entry: Mapping[str, Any]) -> Hierarchy:
    """A hierarchy from ZigZag's own description: its accelerator (`hardware`) and its default mapping.

    Areas are left out: they have no stated unit there.

    Raises:
        ValueError: a key is missing.
    """
    try:
        hardware, default = entry["hardware"], entry["default_mapping"]
        links = {memory: layer for layer, memory in default["memory_operand_links"].items()}
        array = hardware["operational_array"]
        return Hierarchy(
            name=name,
            array=dict(zip(array["dimensions"], map(int, array["sizes"]), strict=True)),
            mac_pj=float(array["unit_energy"]),
            memories=tuple(_zigzag_memory(key, value, links) for key, value in hardware["memories"].items()),
            spatial={
                key: tuple(map(_unrolling, loops)) for key, loops in (default.get("spatial_mapping") or {}).items()
            },
            systolic=tuple(array.get("systolic_dimensions") or ()),
        )
    except KeyError as error:
        raise ValueError(f"accelerator {name!r}: {error.args[0]!r} is missing") from error


def _zigzag_memory(name: str, data: Mapping[str, Any], links: Mapping[str, str]) -> Memory:
    ports = []
    for port in data["ports"]:
        pairs = [text.split(", ") for text in port["allocation"]]
        moves = tuple((links[operand], _ZIGZAG_DIRECTIONS[way]) for operand, way in pairs if operand in links)
        ports.append(Port(port["type"], float(port["bandwidth_min"]), float(port["bandwidth_max"]), moves))
    return Memory(
        name=name,
        bits=float(data["size"]),
        read_pj=float(data["r_cost"]),
        write_pj=float(data["w_cost"]),
        operands=tuple(links[operand] for operand in data["operands"] if operand in links),
        serves=tuple(data["served_dimensions"]),
        ports=tuple(ports),
        is_double_buffered=bool(data.get("force_double_buffering", False)),
    )


def _unrolling(text: str) -> tuple[str, int]:
    dimension, _, size = text.partition(",")
    return dimension.strip(), int(size)


@cache
def _shipped(name: str) -> Hierarchy:
    return _read(HIERARCHY_FOLDER / f"{name}.toml")


def _read(path: Path) -> Hierarchy:
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"hierarchy: cannot read {str(path)!r}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"hierarchy: {str(path)!r} is not valid TOML: {error}") from error
    known = ("description", "source", "mac_pj", "mac_mm2", "systolic", "array", "spatial", "memory")
    for key in data:
        if key not in known:
            raise _unknown(path.stem, key, known)
    try:
        return Hierarchy(
            name=path.stem,
            array={name: int(size) for name, size in data["array"].items()},
            mac_pj=float(data["mac_pj"]),
            memories=tuple(_memory(memory, f"{path.stem}.memory[{i}]") for i, memory in enumerate(data["memory"])),
            spatial={name: tuple(map(_unrolling, loops)) for name, loops in data["spatial"].items()},
            systolic=tuple(data.get("systolic", ())),
            mac_mm2=float(data.get("mac_mm2", 0.0)),
            description=str(data.get("description", "")),
            source=str(data.get("source", "")),
        )
    except KeyError as error:
        raise ValueError(f"{path.stem}: {error.args[0]!r} is missing") from error


def _memory(data: Mapping[str, Any], key: str) -> Memory:
    known = (
        "name",
        "bits",
        "read_pj",
        "write_pj",
        "operands",
        "serves",
        "port",
        "area_mm2",
        "double_buffered",
        "field",
    )
    for name in data:
        if name not in known:
            raise _unknown(key, name, known)
    ports = []
    for i, port in enumerate(data["port"]):
        moves = []
        for text in port["moves"]:
            operand, _, way = text.partition(" ")
            if way not in DIRECTIONS:
                raise _unknown(f"{key}.port[{i}].moves", way, DIRECTIONS)
            moves.append((operand, DIRECTIONS.index(way)))
        ports.append(Port(port["kind"], float(port["min_bits"]), float(port["max_bits"]), tuple(moves)))
    return Memory(
        name=str(data["name"]),
        bits=float(data["bits"]),
        read_pj=float(data["read_pj"]),
        write_pj=float(data["write_pj"]),
        operands=tuple(data["operands"]),
        serves=tuple(data["serves"]),
        ports=tuple(ports),
        area_mm2=float(data.get("area_mm2", 0.0)),
        is_double_buffered=bool(data.get("double_buffered", False)),
        field=str(data.get("field", "")),
    )


def _check(hierarchy: Hierarchy) -> None:
    name = hierarchy.name
    if not hierarchy.array or any(size < 1 for size in hierarchy.array.values()):
        raise ValueError(
            f"{name}.array: {dict(hierarchy.array)} is not allowed; use at least 1 PE along each dimension"
        )
    if len({memory.name for memory in hierarchy.memories}) != len(hierarchy.memories):
        raise ValueError(f"{name}: two memories have one name")
    for operand in OPERANDS:
        if not hierarchy.levels(operand):
            raise ValueError(f"{name}: no memory holds operand {operand!r}")
    for memory in hierarchy.memories:
        for dimension in memory.serves:
            if dimension not in hierarchy.array:
                raise _unknown(f"{name}.{memory.name}.serves", dimension, tuple(hierarchy.array))
        for port in memory.ports:
            if not 0 < port.min_bits <= port.max_bits:
                raise ValueError(f"{name}.{memory.name}: a port needs 0 < min_bits <= max_bits, not {port}")
        for operand in memory.operands:
            if operand not in OPERANDS:
                raise _unknown(f"{name}.{memory.name}.operands", operand, OPERANDS)
            _check_moves(hierarchy, memory, operand)
    for dimension, loops in hierarchy.spatial.items():
        if dimension not in hierarchy.array:
            raise _unknown(f"{name}.spatial", dimension, tuple(hierarchy.array))
        for loop, _ in loops:
            if loop not in DIMENSIONS:
                raise _unknown(f"{name}.spatial.{dimension}", loop, DIMENSIONS)


def _check_moves(hierarchy: Hierarchy, memory: Memory, operand: str) -> None:
    is_top = hierarchy.memories[hierarchy.levels(operand)[-1]] is memory
    for direction in _NEEDED[operand]:
        if is_top and direction in (READ_HIGH, WRITE_HIGH):
            continue
        if memory.port_of(operand, direction) is None:
            raise ValueError(f"{hierarchy.name}.{memory.name}: no port moves {operand} {DIRECTIONS[direction]}")


def _unknown(key: str, value: str, names: Sequence[str]) -> ValueError:
    close = get_close_matches(value.lower(), names, n=1, cutoff=0.5)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    return ValueError(f"{key}: {value!r} is not one of {', '.join(names)}{hint}")
