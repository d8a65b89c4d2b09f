"""A mapper: the best mapping it finds for each layer on each accelerator, many searches side by side.

Orders of the temporal loops, cut into prime factors (the smallest merged until few are left), become mappings
(`spatial_allocate`), once filling the memories and once half of them. The best ones are refined: every combination of
full and half memories, then a local search that swaps loops, moves factors between loops of one dimension, and moves
single loops between memories, all neighbours of the best few at once, until none improves.

Orders that differ by loops of equal dimension and size are tried once; mappings that do not fit are never kept.
Source of the order enumeration: Symons et al., "LOMA", AICAS 2021.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import permutations, product
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from simulators.spatial_allocate import allocate
from simulators.spatial_cost import Numbers, numbers_of
from simulators.spatial_evaluate import NestCosts, evaluate
from simulators.spatial_hierarchy import OPERANDS, Hierarchy
from simulators.spatial_moves import Pool, joined, refactored, shifted, swapped
from simulators.spatial_nest import PAD, Layers, Nests, drain, fan_out, fractional
from simulators.workload import FloatArray, IntArray

Objective = Literal["latency", "energy", "edp"]
OBJECTIVES: tuple[Objective, ...] = ("latency", "energy", "edp")

CHUNK = 4_096  # mappings evaluated at once


@dataclass(frozen=True, slots=True)
class Effort:
    """How hard to search.

    Attributes:
        loops: temporal loops of an order; prime factors are merged until no more are left.
        orders: orders tried per layer at most, evenly picked from all.
        kept: mappings refined per layer.
        rounds: rounds of local search at most.
        fine_loops: loops while refining, which may cut factors further.
    """

    loops: int = 6
    orders: int = 720
    kept: int = 12
    rounds: int = 12
    fine_loops: int = 8


THOROUGH = Effort()
FAST = Effort(loops=5, orders=60, kept=2, rounds=3, fine_loops=6)


@dataclass(frozen=True, slots=True)
class Found:
    """The best mapping of each of P layers.

    Attributes:
        found: shape (F,), the layers with a mapping that fits, ascending: all P unless `allow_missing`.
        nests: F nests.
        costs: their figures.
        n_evaluated: shape (P,), mappings evaluated for each layer.
    """

    found: IntArray
    nests: Nests
    costs: NestCosts
    n_evaluated: IntArray


@dataclass(frozen=True, slots=True)
class _Problem:
    """P layers with their spatial mappings, on one hierarchy with maybe P sets of numbers."""

    layers: Layers
    hierarchy: Hierarchy
    numbers: Numbers
    spatial: Mapping[str, FloatArray]
    drain_cycles: FloatArray
    objective: Objective
    bounded: bool

    def take(self, rows: IntArray) -> _Problem:
        """One column per row of a pool; a single layer is left to broadcasting."""
        if len(self.layers) == 1:
            return self
        return replace(
            self,
            layers=self.layers.take(rows),
            numbers=take_numbers(self.numbers, rows),
            spatial={op: spatial[:, :, rows] for op, spatial in self.spatial.items()},
            drain_cycles=self.drain_cycles[rows],
        )


def search_mappings(
    layers: Layers,
    hierarchy: Hierarchy,
    unrolling: FloatArray,
    objective: Objective = "latency",
    effort: Effort = THOROUGH,
    numbers: Numbers | None = None,
    *,
    allow_missing: bool = False,
    bounded: bool = False,
) -> Found:
    """The best temporal mapping found for each layer, given its spatial mapping.

    Args:
        layers: P layers.
        hierarchy: what they run on.
        unrolling: shape (array dimensions, 8, P), whole numbers, as `default_unrolling` gives them.
        objective: `latency` (cycles), `energy`, or `edp`, their product.
        effort: `THOROUGH`, `FAST`, or another.
        numbers: of the hierarchy, where they differ from it; arrays of shape (1,) or (P,).
        allow_missing: leave out layers of which no mapping fits.
        bounded: count `Latency.bounded_cycles`, not ZigZag's own latency.

    Returns:
        The best of each; the same whether layers are searched alone or together.

    Raises:
        ValueError: no mapping of some layer fits, unless `allow_missing`; the message names the layer's number.
    """
    spatial = fan_out(hierarchy, fractional(layers, unrolling))
    numbers = numbers_of(hierarchy) if numbers is None else numbers
    problem = _Problem(layers, hierarchy, numbers, spatial, drain(hierarchy, unrolling), objective, bounded)
    n_evaluated = np.zeros(len(layers), dtype=np.int64)
    temporal = np.ceil(layers.sizes / unrolling.prod(axis=0)).astype(np.int64)
    pool, values = _first_mappings(problem, temporal, effort, n_evaluated)
    pool, values = _with_less_memory(problem, pool, values, effort, n_evaluated)
    pool, values = _local_search(problem, pool, values, effort, n_evaluated)
    pool, values = _best(pool, values, 1)
    missing = np.setdiff1d(np.arange(len(layers)), pool.owner)
    if len(missing) and not allow_missing:
        raise ValueError(f"layer {missing[0]}: no mapping fits the memories of {hierarchy.name}")
    order = np.argsort(pool.owner)
    pool = pool.take(order)
    chosen = problem.take(pool.owner)
    nests = _nests(chosen, pool)
    return Found(pool.owner, nests, evaluate(nests, hierarchy, chosen.numbers), n_evaluated)


@lru_cache(maxsize=65_536)
def temporal_factors(sizes: tuple[int, ...], limit: int) -> tuple[tuple[int, int], ...]:
    """Factors of the temporal loops: (loop dimension, factor), at most `limit` unless more loops need one each.

    Args:
        sizes: temporal size of each of the 8 loop dimensions.
        limit: the two smallest factors of the dimension with most of them are merged until so many are left.

    Source: LOMA's loop prime factors, as ZigZag 3.9.1 limits them.
    """
    factors = {d: _primes(size) for d, size in enumerate(sizes) if size > 1}
    limit = max(limit, len(factors))
    while sum(map(len, factors.values())) > limit:
        most = max(factors, key=lambda d: len(factors[d]))
        first, second, *rest = sorted(factors[most])
        factors[most] = sorted([first * second, *rest])
    return tuple((d, factor) for d, some in factors.items() for factor in some)


def _primes(number: int) -> list[int]:
    found, divisor = [], 2
    while divisor * divisor <= number:
        while number % divisor == 0:
            found.append(divisor)
            number //= divisor
        divisor += 1
    return [*found, number] if number > 1 else found


@lru_cache(maxsize=4_096)
def _orders(factors: tuple[tuple[int, int], ...], limit: int) -> NDArray[np.intp]:
    """Distinct orders of some factors as indices, shape (orders, factors), evenly picked down to `limit`."""
    n = len(factors)
    if n > 8:
        rng = np.random.default_rng(n)
        every = np.array([rng.permutation(n) for _ in range(4 * limit)], dtype=np.intp)
    else:
        every = np.array(list(permutations(range(n))), dtype=np.intp)
    kind = {factor: i for i, factor in enumerate(dict.fromkeys(factors))}
    code = np.array([kind[factor] for factor in factors])[every]
    _, first = np.unique(code @ (len(kind) ** np.arange(n)), return_index=True)
    first = np.sort(first)
    if len(first) > limit:
        first = first[np.linspace(0, len(first) - 1, limit).astype(np.intp)]
    return every[first]


def _first_mappings(
    problem: _Problem, temporal: IntArray, effort: Effort, n_evaluated: IntArray
) -> tuple[Pool, FloatArray]:
    """The best mappings of all orders, each with full and with half memories."""
    pools, kept_values = [], []
    for rows, chunk in _order_chunks(temporal, problem, effort):
        both = []
        for share in (1.0, 0.5):
            shares = np.ones((len(problem.hierarchy.memories), len(chunk.owner)))
            shares[_divisible(problem.hierarchy)] = share
            both.append(_allocated(problem, replace(chunk, shares=shares)))
        pool = joined(both)
        values = _values(problem, pool)
        n_evaluated[rows] += np.bincount(pool.owner, minlength=len(n_evaluated))[rows]
        pool, values = _best(pool, values, effort.kept)
        pools.append(pool)
        kept_values.append(values)
    return joined(pools), np.concatenate(kept_values)


def _order_chunks(temporal: IntArray, problem: _Problem, effort: Effort) -> Iterator[tuple[IntArray, Pool]]:
    """Orders of some layers at a time, as a pool without bounds."""
    n_loops = max(effort.fine_loops, effort.loops, int((temporal > 1).sum(axis=0).max(initial=0)), 1)
    per_layer: list[tuple[int, NDArray[np.int8], FloatArray]] = []
    waiting = 0
    for layer in range(temporal.shape[1]):
        cut = {temporal_factors(tuple(map(int, temporal[:, layer])), effort.loops - fewer): None for fewer in range(3)}
        for factors in cut:
            order = _orders(factors, effort.orders) if factors else np.zeros((1, 0), dtype=np.intp)
            dims = np.full((n_loops, len(order)), PAD, dtype=np.int8)
            sizes = np.ones((n_loops, len(order)))
            if factors:
                table = np.array(factors)
                dims[: len(factors)] = table[order, 0].T
                sizes[: len(factors)] = table[order, 1].T
            per_layer.append((layer, dims, sizes))
            waiting += 2 * len(order)
        if waiting >= CHUNK:
            yield _unbounded(per_layer, problem)
            per_layer, waiting = [], 0
    if per_layer:
        yield _unbounded(per_layer, problem)


def _unbounded(parts: Sequence[tuple[int, NDArray[np.int8], FloatArray]], problem: _Problem) -> tuple[IntArray, Pool]:
    owner = np.concatenate([np.full(dims.shape[1], layer) for layer, dims, _ in parts])
    dims, sizes = (np.concatenate([part[i] for part in parts], axis=1) for i in (1, 2))
    n_slots = sum(len(problem.hierarchy.levels(op)) for op in OPERANDS)
    empty = np.zeros((n_slots, len(owner)), dtype=np.intp)
    shares = np.ones((len(problem.hierarchy.memories), len(owner)))
    return np.array(sorted({layer for layer, *_ in parts})), Pool(
        owner, np.asarray(dims, np.int8), sizes, empty, shares
    )


def _divisible(hierarchy: Hierarchy) -> list[int]:
    """Memories below the top ones that hold more than a few words."""
    tops = {hierarchy.levels(op)[-1] for op in OPERANDS}
    return [i for i, m in enumerate(hierarchy.memories) if i not in tops and m.bits >= 64]


def _with_less_memory(
    problem: _Problem, pool: Pool, values: FloatArray, effort: Effort, n_evaluated: IntArray
) -> tuple[Pool, FloatArray]:
    """The pool, with every combination of memories filled to a half, a quarter, ... for its members."""
    inner = _divisible(problem.hierarchy)
    depth = next((depth for depth in (4, 3, 2) if depth ** len(inner) <= 64), 1)
    tried = np.array(list(product([0.5**i for i in range(depth)], repeat=len(inner))))[1:]
    if effort.rounds == 0 or not len(tried):
        return pool, values
    new = pool.take(np.repeat(np.arange(len(pool.owner)), len(tried)))
    shares = np.ones_like(new.shares)
    shares[inner] = np.tile(tried, (len(pool.owner), 1)).T
    return _extended(problem, pool, values, replace(new, shares=shares), effort, n_evaluated, realloc=True)


def _local_search(
    problem: _Problem, pool: Pool, values: FloatArray, effort: Effort, n_evaluated: IntArray
) -> tuple[Pool, FloatArray]:
    """Neighbours of the best, until a round improves no layer."""
    n_layers = len(problem.layers)
    is_open = np.ones(n_layers, dtype=bool)
    for _ in range(effort.rounds):
        members = is_open[pool.owner]
        if not members.any():
            break
        before = _best_values(pool, values, n_layers)
        some, some_values = pool.take(members), values[members]
        rest, rest_values = pool.take(~members), values[~members]
        moved = joined([swapped(some), refactored(some, effort.fine_loops)])
        some, some_values = _extended(problem, some, some_values, moved, effort, n_evaluated, realloc=True)
        moved = shifted(some, problem.hierarchy)
        some, some_values = _extended(problem, some, some_values, moved, effort, n_evaluated, realloc=False)
        pool, values = joined([some, rest]), np.concatenate([some_values, rest_values])
        is_open &= _best_values(pool, values, n_layers) < before * (1.0 - 1e-12)
    return pool, values


def _extended(
    problem: _Problem,
    pool: Pool,
    values: FloatArray,
    new: Pool,
    effort: Effort,
    n_evaluated: IntArray,
    *,
    realloc: bool,
) -> tuple[Pool, FloatArray]:
    """The best of a pool and new mappings."""
    parts, new_values = [pool], [values]
    for start in range(0, len(new.owner), CHUNK):
        part = new.take(np.arange(start, min(start + CHUNK, len(new.owner))))
        if realloc:
            part = _allocated(problem, part)
        parts.append(part)
        new_values.append(_values(problem, part))
    n_evaluated += np.bincount(new.owner, minlength=len(n_evaluated))
    return _best(joined(parts), np.concatenate(new_values), effort.kept)


def _allocated(problem: _Problem, pool: Pool) -> Pool:
    here = problem.take(pool.owner)
    bounds = allocate(here.layers, here.hierarchy, here.numbers, here.spatial, pool.dims, pool.sizes, pool.shares)
    return replace(pool, bounds=np.concatenate([bounds[op] for op in OPERANDS]))


def _nests(problem: _Problem, pool: Pool) -> Nests:
    """The pool as nests; the problem has one column for each of them, or one for all."""
    bounds, slot = {}, 0
    for op in OPERANDS:
        n_levels = len(problem.hierarchy.levels(op))
        bounds[op] = pool.bounds[slot : slot + n_levels]
        slot += n_levels
    return Nests(problem.layers, pool.dims, pool.sizes, bounds, problem.spatial, problem.drain_cycles)


def _values(problem: _Problem, pool: Pool) -> FloatArray:
    """The objective of each mapping; infinite where it does not fit."""
    here = problem.take(pool.owner)
    costs = evaluate(_nests(here, pool), here.hierarchy, here.numbers)
    return np.where(costs.fits, objective_of(costs, problem.objective, problem.bounded), np.inf)


def objective_of(costs: NestCosts, objective: Objective, bounded: bool = False) -> FloatArray:
    """Cycles, pJ or their product, shape (N,); `bounded` as in `search_mappings`."""
    if objective == "energy":
        return costs.energy_pj
    cycles = costs.latency.bounded_cycles if bounded else costs.latency_cycles
    return cycles if objective == "latency" else np.asarray(cycles * costs.energy_pj)


def _best(pool: Pool, values: FloatArray, kept: int) -> tuple[Pool, FloatArray]:
    """The `kept` best mappings of each layer that fit, each distinct."""
    finite = np.flatnonzero(np.isfinite(values))
    order = finite[np.lexsort((values[finite], pool.owner[finite]))]
    owner = pool.owner[order]
    # equal neighbours in value are almost always the same mapping written differently
    same = np.zeros(len(order), dtype=bool)
    same[1:] = (owner[1:] == owner[:-1]) & (values[order][1:] == values[order][:-1])
    order, owner = order[~same], owner[~same]
    first = np.searchsorted(owner, owner, side="left")
    order = order[np.arange(len(order)) - first < kept]
    return pool.take(order), values[order]


def _best_values(pool: Pool, values: FloatArray, n_layers: int) -> FloatArray:
    result = np.full(n_layers, np.inf)
    np.minimum.at(result, pool.owner, values)
    return result


def take_numbers(numbers: Numbers, rows: IntArray) -> Numbers:
    """The numbers of some nests; those that all nests share are left."""

    def one(values: FloatArray) -> FloatArray:
        return values if len(values) == 1 else values[rows]

    return Numbers(
        bits=[one(v) for v in numbers.bits],
        read_pj=[one(v) for v in numbers.read_pj],
        write_pj=[one(v) for v in numbers.write_pj],
        port_min=[[one(v) for v in ports] for ports in numbers.port_min],
        port_max=[[one(v) for v in ports] for ports in numbers.port_max],
        mac_pj=one(numbers.mac_pj),
    )
