"""IP blocks of a system on chip, as data: what cores, accelerators, memories and buses do, cost and measure.

The figures that ship (`soc_blocks.toml`, sources in it) are those of FARSI's block database and, for the energy and
area of memories, of CACTI as FARSI runs it. A user's own file has the same keys.
"""

from __future__ import annotations

import math
import tomllib
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from simulators.soc_graph import check_keys

FloatArray = NDArray[np.float64]

BLOCKS_FILE = Path(__file__).parent / "soc_blocks.toml"
MEMORY_KINDS = ("sram", "dram")


@dataclass(frozen=True, slots=True, eq=False)
class Memories:
    """Energy and area of one kind of memory by capacity: row i holds (i + 1) * step_bytes.

    Attributes:
        step_bytes: capacities come in multiples of this.
        read_pj_per_byte: shape (S,).
        write_pj_per_byte: shape (S,).
        area_mm2: shape (S,).
    """

    step_bytes: int
    read_pj_per_byte: FloatArray
    write_pj_per_byte: FloatArray
    area_mm2: FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class Blocks:
    """Figures of the blocks.

    Attributes:
        core_ops_per_cycle: operations of the general core per cycle.
        core_pj_per_op: its dynamic energy per operation.
        core_area_mm2: its area.
        accelerator_energy_scale: technology factor on the graph's `accelerator_energy_fj`.
        accelerator_area_scale: technology factor on the graph's `accelerator_area_um2`.
        bus_pj_per_byte: dynamic energy of one byte crossing one bus.
        bus_area_mm2_per_byte: area of a bus per byte of its width.
        power_window_ms: the window over which peak power is averaged.
        sram: memories of kind `sram`.
        dram: memories of kind `dram`.
    """

    core_ops_per_cycle: float
    core_pj_per_op: float
    core_area_mm2: float
    accelerator_energy_scale: float
    accelerator_area_scale: float
    bus_pj_per_byte: float
    bus_area_mm2_per_byte: float
    power_window_ms: float
    sram: Memories
    dram: Memories

    def __post_init__(self) -> None:
        """Refuse figures that cannot be."""
        for name in _SCALARS:
            value = getattr(self, name)
            least_is_zero = name.startswith("bus_")
            if not math.isfinite(value) or value < 0 or (value == 0 and not least_is_zero):
                bound = "of at least 0" if least_is_zero else "above 0"
                raise ValueError(f"blocks.{name}: {value!r} is not allowed; use a number {bound}")
        if self.sram.step_bytes != self.dram.step_bytes or len(self.sram.area_mm2) != len(self.dram.area_mm2):
            raise ValueError("blocks: the tables of sram and dram must have one step_bytes and one length")

    @property
    def largest_bytes(self) -> int:
        """Capacity of the largest memory in the tables."""
        return self.sram.step_bytes * len(self.sram.area_mm2)


_SCALARS = tuple(f.name for f in fields(Blocks) if f.name not in MEMORY_KINDS)
_MEMORY_KEYS = tuple(f.name for f in fields(Memories))


def load_blocks(path: str | Path = BLOCKS_FILE) -> Blocks:
    """The blocks of a TOML file; the package's own by default.

    Raises:
        ValueError: unreadable file, unknown or missing key, or a wrong value.
    """
    try:
        data = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"blocks: cannot read {str(path)!r}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"blocks: {str(path)!r} is not valid TOML: {error}") from error
    check_keys("blocks", data, (*_SCALARS, *MEMORY_KINDS), (*_SCALARS, *MEMORY_KINDS))
    scalars = {name: _number(f"blocks.{name}", data[name]) for name in _SCALARS}
    return Blocks(**scalars, sram=_memories("sram", data["sram"]), dram=_memories("dram", data["dram"]))


def _memories(kind: str, table: object) -> Memories:
    key = f"blocks.{kind}"
    if not isinstance(table, dict):
        raise ValueError(f"{key}: {table!r} is not allowed; use a table")
    check_keys(key, table, _MEMORY_KEYS, _MEMORY_KEYS)
    step = table["step_bytes"]
    if isinstance(step, bool) or not isinstance(step, int) or step < 1:
        raise ValueError(f"{key}.step_bytes: {step!r} is not allowed; use an integer of at least 1")
    columns = {}
    for name in _MEMORY_KEYS[1:]:
        values = table[name]
        if not isinstance(values, list) or not values:
            raise ValueError(f"{key}.{name}: {values!r} is not allowed; use a list of numbers")
        columns[name] = np.array([_number(f"{key}.{name}", value) for value in values])
        if not (columns[name] > 0).all():
            raise ValueError(f"{key}.{name}: every figure must be above 0")
    if len({len(column) for column in columns.values()}) != 1:
        raise ValueError(f"{key}: its lists differ in length: { {name: len(c) for name, c in columns.items()} }")
    return Memories(step, **columns)


def _number(key: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError(f"{key}: {value!r} is not allowed; use a number")
    return float(value)
