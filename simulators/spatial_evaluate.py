"""Figures of loop nests on a memory hierarchy: accesses, energy, latency, and whether the tiles fit."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simulators.spatial_cost import Accesses, Numbers, count_accesses, fits_by_memory, numbers_of, prefixes, tiles_of
from simulators.spatial_hierarchy import OPERANDS, Hierarchy
from simulators.spatial_latency import Latency, estimate_latency
from simulators.spatial_nest import Nests
from simulators.workload import FloatArray

BLOCK = 4_096  # nests worked on at once: temporaries that stay in a core's cache


@dataclass(frozen=True, slots=True)
class NestCosts:
    """Figures of N nests.

    Attributes:
        accesses: by operand, level and direction, with their energy.
        latency: cycles and what they consist of.
        fits_by_memory: shape (memories, N), whether each memory holds its tiles.
    """

    accesses: Accesses
    latency: Latency
    fits_by_memory: NDArray[np.bool_]

    @property
    def fits(self) -> NDArray[np.bool_]:
        """Whether every memory holds its tiles, shape (N,); the figures of a nest that does not fit mean nothing."""
        return np.asarray(self.fits_by_memory.all(axis=0))

    @property
    def energy_pj(self) -> FloatArray:
        """Energy, shape (N,)."""
        return self.accesses.energy_pj

    @property
    def latency_cycles(self) -> FloatArray:
        """Latency with stalls, loading and drain, as ZigZag counts it, shape (N,)."""
        return self.latency.total_cycles


def evaluate(nests: Nests, hierarchy: Hierarchy, numbers: Numbers | None = None) -> NestCosts:
    """Figures of every nest.

    Args:
        nests: N layers with a mapping each, on `hierarchy`.
        hierarchy: what they are mapped on.
        numbers: sizes, bandwidths and costs, where they are not those of `hierarchy`; arrays may differ by nest.
    """
    numbers = numbers_of(hierarchy) if numbers is None else numbers
    pre = prefixes(nests)
    tiles = {op: tiles_of(nests, op, pre, whole=False) for op in OPERANDS}
    if all((spatial == np.floor(spatial)).all() for spatial in nests.spatial.values()):
        whole = tiles
    else:
        whole = {op: tiles_of(nests, op, pre, whole=True) for op in OPERANDS}
    return NestCosts(
        accesses=count_accesses(nests, hierarchy, numbers, tiles),
        latency=estimate_latency(nests, hierarchy, numbers, tiles, whole),
        fits_by_memory=fits_by_memory(nests, hierarchy, numbers, tiles),
    )
