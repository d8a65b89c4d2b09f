"""Pools of mappings, and the neighbours of each that a local search looks at.

A mapping is a column: its loops from the inside out, how many of them each operand's levels hold, and the share of each
memory that may be filled.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from simulators.spatial_hierarchy import OPERANDS, Hierarchy
from simulators.spatial_nest import PAD
from simulators.workload import FloatArray, IntArray


@dataclass(frozen=True, slots=True)
class Pool:
    """Mappings, one per column.

    Attributes:
        owner: shape (n,), the layer that each belongs to.
        dims, sizes: shape (M, n), loops as in `Nests`.
        bounds: shape (slots, n), the levels of O, then those of W, then those of I.
        shares: shape (memories, n), see `allocate`.
    """

    owner: IntArray
    dims: NDArray[np.int8]
    sizes: FloatArray
    bounds: NDArray[np.intp]
    shares: FloatArray

    def take(self, columns: IntArray | NDArray[np.bool_]) -> Pool:
        """Some of the mappings."""
        return Pool(**{f.name: getattr(self, f.name)[..., columns] for f in fields(self)})


def joined(pools: Sequence[Pool]) -> Pool:
    """All mappings of some pools, in their order."""
    return Pool(**{f.name: np.concatenate([getattr(p, f.name) for p in pools], axis=-1) for f in fields(Pool)})


def swapped(pool: Pool) -> Pool:
    """Every pair of loops exchanged, where that makes a difference."""
    n_loops = len(pool.dims)
    parts = []
    for i, j in combinations(range(n_loops), 2):
        differ = (pool.dims[i] != pool.dims[j]) | (pool.sizes[i] != pool.sizes[j])
        part = pool.take(differ & (pool.dims[j] != PAD))
        order = np.arange(n_loops)
        order[[i, j]] = j, i
        parts.append(replace(part, dims=part.dims[order], sizes=part.sizes[order]))
    return joined(parts) if parts else pool.take(np.zeros(0, dtype=np.intp))


def refactored(pool: Pool, most: int) -> Pool:
    """A prime factor of one loop moved into another of its dimension, or made a loop of its own up to `most` loops."""
    n_loops = len(pool.dims)
    has_room = (pool.dims != PAD).sum(axis=0) < most
    parts = []
    for i in range(n_loops):
        for prime in (2, 3, 5, 7):
            divides = (pool.sizes[i] % prime == 0) & (pool.sizes[i] > 1)
            for j in range(n_loops):
                if i == j:
                    continue
                part = pool.take(divides & (pool.dims[j] == pool.dims[i]))
                if len(part.owner):
                    sizes = part.sizes.copy()
                    sizes[i] /= prime
                    sizes[j] *= prime
                    dims = part.dims.copy()
                    dims[i] = np.where(sizes[i] == 1.0, PAD, dims[i])
                    parts.append(_compact(replace(part, dims=dims, sizes=sizes)))
            part = pool.take(divides & (pool.sizes[i] > prime) & has_room)
            if len(part.owner):
                parts.extend(_split(part, i, prime))
    return joined(parts) if parts else pool.take(np.zeros(0, dtype=np.intp))


def _compact(pool: Pool) -> Pool:
    """Empty positions moved to the end; bounds are to be found anew."""
    order = np.argsort(pool.dims == PAD, axis=0, kind="stable")
    return replace(
        pool, dims=np.take_along_axis(pool.dims, order, axis=0), sizes=np.take_along_axis(pool.sizes, order, axis=0)
    )


def _split(pool: Pool, position: int, prime: int) -> list[Pool]:
    """A loop cut in two: the prime as a loop of its own at each other place."""
    n_loops = len(pool.dims)
    used = (pool.dims != PAD).sum(axis=0)
    sizes = pool.sizes.copy()
    sizes[position] /= prime
    parts = []
    for place in range(n_loops):
        dims_new = np.insert(pool.dims, place, pool.dims[position], axis=0)[:-1]
        sizes_new = np.insert(sizes, place, float(prime), axis=0)[:-1]
        part = replace(pool, dims=dims_new, sizes=sizes_new)
        parts.append(part.take(place <= used))
    return parts


def shifted(pool: Pool, hierarchy: Hierarchy) -> Pool:
    """Each bound below an operand's top level moved by one loop."""
    parts, slot = [], 0
    # empty positions at the end are no place of their own
    used = (pool.dims != PAD).sum(axis=0)
    at = np.minimum(pool.bounds, used)
    for op in OPERANDS:
        n_levels = len(hierarchy.levels(op))
        for level in range(n_levels - 1):
            low = at[slot + level - 1] if level else np.zeros_like(used)
            for step in (-1, 1):
                bounds = pool.bounds.copy()
                bounds[slot + level] = at[slot + level] + step
                inside = (bounds[slot + level] >= low) & (bounds[slot + level] <= at[slot + level + 1])
                parts.append(replace(pool, bounds=bounds).take(inside))
        slot += n_levels
    return joined(parts) if parts else pool.take(np.zeros(0, dtype=np.intp))
