"""On-chip memories: time, energy, leakage and area of an SRAM macro, from CACTI 7.

CACTI (Balasubramonian et al., "CACTI 7", ACM TACO 14(2), 2017) tries thousands of organisations of a memory, and the
one it picks jumps from size to size; a smooth formula misses by tens of per cent. So its outputs are shipped as data:
`data/sram_cacti7.csv` holds what CACTI 7 reports for a grid of memories. They are facts about a tool's output; none of
its code is here. Inputs are those of the tool's default file, `cache.cfg` (high-performance cells and periphery, 360 K,
objective cycle time within 20 % of the best delay, ECC as there), with type `ram`, one bank, associativity 1 and a bus
as wide as the word.

- On a point of the grid the figures are CACTI's own.
- Between points, the logarithm of each figure is interpolated linearly in the logarithms of size, word and technology.
- `monotone=True` replaces each figure by its running maximum over the smaller sizes of the same word, technology and
  ports, and gives a memory too small for its word the figures of the smallest that CACTI can build. CACTI itself is not
  monotone (a larger memory may be cut into smaller subarrays); a search would otherwise be paid for capacity.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cache
from itertools import product
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from simulators.workload import FloatArray, IntArray

TABLE = Path(__file__).parent / "data" / "sram_cacti7.csv"


BLOCK = 8_192  # memories worked on at once: temporaries that stay in a core's cache

_Between = tuple[IntArray, FloatArray]


@dataclass(frozen=True, slots=True)
class SramCost:
    """Figures of memories, one array each, all of one shape.

    Attributes:
        access_ns: time of one access.
        cycle_ns: shortest time between two accesses.
        read_energy_nj, write_energy_nj: dynamic energy of one access of a whole word.
        leakage_mw: static power of the whole memory, without gate leakage, as CACTI prints it.
        area_mm2: of the data array with its periphery.
    """

    access_ns: FloatArray
    cycle_ns: FloatArray
    read_energy_nj: FloatArray
    write_energy_nj: FloatArray
    leakage_mw: FloatArray
    area_mm2: FloatArray


@dataclass(frozen=True, slots=True)
class SramRange:
    """The memories that were run, sorted; any size, word and technology between the first and the last has figures.

    Attributes:
        ports: sets of (read-write, read, write) ports.
        tech_nm, block_bytes, size_bytes: the values of the grid.
    """

    ports: tuple[tuple[int, int, int], ...]
    tech_nm: tuple[int, ...]
    block_bytes: tuple[int, ...]
    size_bytes: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class _Grid:
    """Logarithms of CACTI's outputs, shape (ports, tech, block, size, figure); NaN where it finds no organisation."""

    ports: tuple[tuple[int, int, int], ...]
    tech_nm: FloatArray
    block_bytes: FloatArray
    size_bytes: FloatArray
    log_figures: FloatArray


def sram(
    size_bytes: ArrayLike,
    block_bytes: ArrayLike = 8,
    tech_nm: ArrayLike = 45,
    rw_ports: ArrayLike = 1,
    read_ports: ArrayLike = 0,
    write_ports: ArrayLike = 0,
    *,
    monotone: bool = False,
) -> SramCost:
    """Figures of SRAM macros, all inputs broadcast together.

    Args:
        size_bytes: capacity, within the grid (`sram_range`).
        block_bytes: width of a word, which one access reads or writes.
        tech_nm: feature size.
        rw_ports, read_ports, write_ports: ports that do both, or one; one of the sets of `sram_range`.
        monotone: never cheaper, smaller or faster with more capacity; see the module.

    Returns:
        Arrays of the broadcast shape.

    Raises:
        ValueError: outside the grid, a set of ports it does not hold, or (unless `monotone`) a memory too small for
            its word.

    Source: CACTI 7; see the module.
    """
    grid = _envelope() if monotone else _grid()
    arrays = np.broadcast_arrays(
        *(np.asarray(a, np.float64) for a in (size_bytes, block_bytes, tech_nm, rw_ports, read_ports, write_ports))
    )
    shape = arrays[0].shape
    size, block, tech, *ports = (a.ravel() for a in arrays)
    corners = [
        _neighbours("tech_nm", tech, grid.tech_nm),
        _neighbours("block_bytes", block, grid.block_bytes),
        _neighbours("size_bytes", size, grid.size_bytes),
    ]
    port = _port_set(ports, grid.ports)
    logs = np.empty((size.size, len(fields(SramCost))))
    for start in range(0, size.size, BLOCK):
        part = slice(start, start + BLOCK)
        logs[part] = _interpolated(grid, port[part], *((low[part], share[part]) for low, share in corners))
    missing = np.isnan(logs[:, 0])
    if missing.any():
        i = int(np.flatnonzero(missing)[0])
        raise ValueError(
            f"sram: no figures for size_bytes {size[i]:g} with block_bytes {block[i]:g}, tech_nm {tech[i]:g} and "
            f"ports {tuple(int(p[i]) for p in ports)}; a word as wide as that needs a larger memory, a "
            "memory as large as that fewer ports"
        )
    values = np.exp(logs).T.reshape(len(fields(SramCost)), *shape)
    return SramCost(**{f.name: value for f, value in zip(fields(SramCost), values, strict=True)})


def sram_range() -> SramRange:
    """The grid."""
    grid = _grid()
    axes = (tuple(int(v) for v in axis) for axis in (grid.tech_nm, grid.block_bytes, grid.size_bytes))
    return SramRange(grid.ports, *axes)


def _interpolated(grid: _Grid, port: IntArray, tech: _Between, block: _Between, size: _Between) -> FloatArray:
    """Logarithms of the figures, shape (N, figure), between grid points given as lower point and share of the upper."""
    n_tech, n_block, n_size, n_figures = grid.log_figures.shape[1:]
    table = grid.log_figures.reshape(-1, n_figures)
    logs = np.zeros((len(port), n_figures))
    share = size[1][:, None]
    for newer, wider in product((0, 1), repeat=2):
        weight = np.where(newer, tech[1], 1.0 - tech[1]) * np.where(wider, block[1], 1.0 - block[1])
        used = np.flatnonzero(weight > 0.0)  # a corner of no weight may be a memory that cannot be built
        if not len(used):
            continue
        at = (((port * n_tech + tech[0] + newer) * n_block + block[0] + wider) * n_size + size[0])[used]
        low, high = table.take(at, axis=0), table.take(at + 1, axis=0)
        # this form keeps the order of sizes through rounding
        logs[used] += weight[used, None] * np.where(share[used] > 0.0, low + share[used] * (high - low), low)
    return logs


def _neighbours(name: str, values: FloatArray, points: FloatArray) -> tuple[IntArray, FloatArray]:
    """Lower grid point of each value, and the share of the upper one in the logarithm."""
    outside = ~((values >= points[0]) & (values <= points[-1]))
    if outside.any():
        bad = values[outside][0]
        raise ValueError(f"sram: {name} {bad:g} is not allowed; use {points[0]:g} to {points[-1]:g}")
    low = np.clip(np.searchsorted(points, values, side="right") - 1, 0, len(points) - 2)
    logs = np.log(points)
    share = (np.log(values) - logs[low]) / (logs[low + 1] - logs[low])
    share = np.where(values == points[low], 0.0, np.where(values == points[low + 1], 1.0, share))
    return low, share


def _port_set(ports: list[FloatArray], known: tuple[tuple[int, int, int], ...]) -> IntArray:
    index = np.full(ports[0].size, -1)
    for i, wanted in enumerate(known):
        match = (ports[0] == wanted[0]) & (ports[1] == wanted[1]) & (ports[2] == wanted[2])
        index[match] = i
    if (index < 0).any():
        i = int(np.flatnonzero(index < 0)[0])
        bad = tuple(int(p[i]) for p in ports)
        raise ValueError(f"sram: ports (rw, read, write) {bad} are not one of {', '.join(map(str, known))}")
    return index


@cache
def _grid() -> _Grid:
    rows = np.loadtxt(TABLE, delimiter=",", skiprows=1, ndmin=2)
    keys = rows[:, :6].astype(np.int64)
    ports = tuple(sorted({(int(p[0]), int(p[1]), int(p[2])) for p in keys[:, 3:]}, key=lambda p: (sum(p), p)))
    size, block, tech = (np.unique(keys[:, i]) for i in range(3))
    at_port = np.array([ports.index((int(p[0]), int(p[1]), int(p[2]))) for p in keys[:, 3:]])
    logs = np.full((len(ports), len(tech), len(block), len(size), rows.shape[1] - 6), np.nan)
    at = (np.searchsorted(axis, keys[:, i]) for axis, i in ((tech, 2), (block, 1), (size, 0)))
    logs[(at_port, *at)] = np.log(rows[:, 6:])
    _fill_between(logs, np.log(size), axis=3)
    _fill_between(logs, np.log(tech), axis=1)
    for array in (tech, block, size, logs):
        array.setflags(write=False)
    return _Grid(ports, tech.astype(np.float64), block.astype(np.float64), size.astype(np.float64), logs)


def _fill_between(logs: FloatArray, log_axis: FloatArray, axis: int) -> None:
    """Grid points that were not run, between two that were, by the interpolation that any other point gets."""
    by_line = np.moveaxis(logs, axis, -2)
    for index in np.ndindex(by_line.shape[:-2]):
        line = by_line[index]
        known = np.flatnonzero(~np.isnan(line[:, 0]))
        missing = np.setdiff1d(np.arange(known[0], known[-1]), known) if len(known) else known
        for figure in range(line.shape[1]) if len(missing) else ():
            line[missing, figure] = np.interp(log_axis[missing], log_axis[known], line[known, figure])


@cache
def _envelope() -> _Grid:
    """The grid with running maxima over size, and memories too small for their word as large as they must be."""
    grid = _grid()
    is_known = ~np.isnan(grid.log_figures)
    has_larger = np.logical_or.accumulate(is_known[:, :, :, ::-1], axis=3)[:, :, :, ::-1]
    filled = np.where(has_larger, np.fmax.accumulate(grid.log_figures, axis=3), np.nan)
    for i in range(filled.shape[3] - 2, -1, -1):
        unbuilt = np.isnan(filled[:, :, :, i])
        filled[:, :, :, i][unbuilt] = filled[:, :, :, i + 1][unbuilt]
    filled.setflags(write=False)
    return _Grid(grid.ports, grid.tech_nm, grid.block_bytes, grid.size_bytes, filled)
