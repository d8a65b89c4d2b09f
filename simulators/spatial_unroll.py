"""Spatial mappings to choose from: which loops are unrolled over which dimensions of the array.

Each array dimension takes one loop, or two where one leaves at least half of it idle. Combinations are built dimension
by dimension, the most promising kept: fewest temporal iterations first, then fewest words needed per cycle.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from simulators.spatial_hierarchy import Hierarchy
from simulators.spatial_nest import FX, FY, OX, OY, B, C, G, K, Layers, default_unrolling, feed_limit
from simulators.workload import FloatArray

_BEAM = 48
_WORDS = ((B, G, K, OY, OX), (G, K, C, FY, FX), (B, G, C, OY, OX, FY, FX))


def unrolling_choices(
    layers: Layers, hierarchy: Hierarchy, n_choices: int, pes: FloatArray | None = None, gain: float = 1.0
) -> list[FloatArray]:
    """Spatial mappings of each layer: the hierarchy's default, and others that keep as many PEs busy.

    Args:
        layers: P layers.
        hierarchy: what they run on.
        n_choices: mappings per layer at most.
        pes: shape (array dimensions, P), PEs along each, where they are not the hierarchy's.
        gain: another than the default one may need at most this share of its iterations.

    Returns:
        For each layer an array of shape (array dimensions, 8, choices), the default first; whole numbers.
    """
    default = default_unrolling(layers, hierarchy, pes)
    names = list(hierarchy.array)
    limits = np.array([[feed_limit(layers, hierarchy, name, d) for d in range(8)] for name in names])
    if pes is None:
        pes = np.repeat(np.array([[float(size)] for size in hierarchy.array.values()]), len(layers), axis=1)
    result = []
    for p in range(len(layers)):
        sizes = tuple(map(float, layers.sizes[:, p]))
        bounds = tuple(tuple(map(float, row)) for row in limits[:, :, p])
        others = _ranked(sizes, bounds, tuple(map(float, pes[:, p])), n_choices)
        own = default[:, :, p : p + 1]
        iterations = np.ceil(layers.sizes[:, p, None] / others.prod(axis=0)).prod(axis=0)
        allowed = gain * np.ceil(layers.sizes[:, p, None] / own.prod(axis=0)).prod(axis=0)
        is_other = (others != own).any(axis=(0, 1))
        better = others[:, :, is_other & (iterations <= allowed)][:, :, : n_choices - 1]
        result.append(np.concatenate([own, better], axis=2))
    return result


def narrower(unrolling: FloatArray) -> FloatArray:
    """The same spatial mappings with the widest loop of each halved; shape as given, (array dimensions, 8, P)."""
    flat = unrolling.reshape(-1, unrolling.shape[2]).copy()
    widest = flat.argmax(axis=0), np.arange(flat.shape[1])
    flat[widest] = np.maximum(np.floor(flat[widest] / 2.0), 1.0)
    return np.asarray(flat.reshape(unrolling.shape))


@lru_cache(maxsize=16_384)
def _ranked(
    sizes: tuple[float, ...], limits: tuple[tuple[float, ...], ...], pes: tuple[float, ...], n_kept: int
) -> FloatArray:
    """The best combinations, shape (array dimensions, 8, choices)."""
    loops = np.array(sizes)
    chosen = np.ones((1, len(pes), 8))
    for a, along in enumerate(pes):
        options = _options(loops, np.array(limits[a]), along)
        grown = np.repeat(chosen, len(options), axis=0)
        grown[:, a] = np.tile(options, (len(chosen), 1))
        # a loop unrolled over two dimensions needs no more than its size in all
        grown = grown[(grown.prod(axis=1) < 2.0 * loops).all(axis=1)]
        chosen = grown[_order(loops, grown)[:_BEAM]]
    best = chosen[:n_kept].transpose(1, 2, 0)
    best.setflags(write=False)
    return np.asarray(best)


def _order(loops: FloatArray, unrollings: FloatArray) -> np.ndarray[tuple[int], np.dtype[np.intp]]:
    total = unrollings.prod(axis=1)
    iterations = np.ceil(loops / total).prod(axis=1)
    words = sum((total[:, list(dims)].prod(axis=1) for dims in _WORDS), start=np.zeros(len(total)))
    return np.lexsort((words, iterations))


def _options(loops: FloatArray, limits: FloatArray, along: float) -> FloatArray:
    """Unrollings of one array dimension, shape (options, 8)."""
    widest = np.maximum(np.minimum(np.minimum(loops, limits), along), 1.0)
    rows = [np.ones(8)]
    for first in np.flatnonzero(widest > 1.0):
        row = np.ones(8)
        row[first] = widest[first]
        rows.append(row)
        room = along // widest[first]
        for second in np.flatnonzero(np.minimum(widest, room) > 1.0):
            if second != first:
                both = row.copy()
                both[second] = min(widest[second], room)
                rows.append(both)
    return np.array(rows)
