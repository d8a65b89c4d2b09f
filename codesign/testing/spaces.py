"""Conformance kit for search spaces: run `check_space` on your own."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any, cast

import numpy as np

from search_spaces.ops import COLUMNS, IntArray, OpKind, OpTable, total_macs, total_params
from search_spaces.space import NetworkSpace, SearchSpace


def check_space(
    space: SearchSpace,
    rng: np.random.Generator,
    n: int = 32,
    build: int = 0,
    image_shape: Sequence[int] | None = None,
) -> None:
    """Check that a space keeps the promises of `SearchSpace`, and of `NetworkSpace` if it has ops.

    Args:
        space: what to check.
        rng: draws the candidates.
        n: how many candidates to check.
        build: how many of them to build as torch modules and compare with their ops; 0 leaves torch alone.
        image_shape: channels, height, width that the modules take; by default the space's `image_shape`.

    Raises:
        AssertionError: a promise is broken; the message says which, and for which code.
    """
    codes = _check_sampling(space, rng, n)
    _check_valid(space, codes)
    _check_mutation(space, codes, rng)
    _check_genotypes(space, codes)
    _check_canonical(space, codes)
    if hasattr(space, "ops"):
        network = cast(NetworkSpace, space)
        _check_ops(network, codes)
        if build:
            _check_modules(network, codes[:build], image_shape)


def _check_sampling(space: SearchSpace, rng: np.random.Generator, n: int) -> IntArray:
    names = [choice.name for choice in space.choices]
    _require(len(names) > 0, "a space needs at least one choice")
    _require(len(set(names)) == len(names), f"two choices share a name: {names}")
    options = [len(choice.options) for choice in space.choices]
    _require(space.n_options.tolist() == options, f"n_options {space.n_options} differs from the choices' {options}")
    _require(type(space.size) is int, f"size is a {type(space.size).__name__}, not an exact int")
    _require(space.size == math.prod(options), f"size {space.size} is not the product of the options")
    seed = int(rng.integers(2**32))
    codes = space.sample(n, np.random.default_rng(seed))
    _require(codes.shape == (n, len(names)), f"sample({n}) has shape {codes.shape}, not {(n, len(names))}")
    _require(codes.dtype == np.int64, f"codes are {codes.dtype}, not int64")
    again = space.sample(n, np.random.default_rng(seed))
    _require(np.array_equal(codes, again), "the same generator state gives different samples")
    return codes


def _check_valid(space: SearchSpace, codes: IntArray) -> None:
    valid = space.valid(codes)
    _require(valid.shape == (len(codes),) and valid.dtype == np.bool_, "valid must give one bool per row")
    _require(bool(valid.all()), f"sample gave the invalid code {_first(codes, ~valid)}")
    for column, n_options in enumerate(space.n_options):
        for value in (-1, int(n_options)):
            wrong = codes[:1].copy()
            wrong[0, column] = value
            _require(not space.valid(wrong)[0], f"value {value} of {space.choices[column].name!r} counts as valid")
    try:
        space.valid(np.zeros((1, len(space.choices) + 1), dtype=np.int64))
    except ValueError:
        return
    raise AssertionError("valid takes codes with a column too many; it must raise ValueError")


def _check_mutation(space: SearchSpace, codes: IntArray, rng: np.random.Generator) -> None:
    before = codes.copy()
    mutants = space.mutate(codes, rng)
    _require(np.array_equal(codes, before), "mutate changes its argument")
    expected = int((space.n_options > 1).any())
    changes = (mutants != codes).sum(axis=1)
    is_own = type(space).mutate is not SearchSpace.mutate  # which may first go to an equal code
    is_right = changes >= expected if is_own else changes == expected
    wrong = changes[~is_right]
    _require(len(wrong) == 0, f"mutate changed {wrong.max(initial=0)} decisions, not {expected}")
    _require(bool(space.valid(mutants).all()), "mutate makes an invalid code")
    other = codes[::-1]
    children = space.crossover(codes, other, rng)
    _require(bool(((children == codes) | (children == other)).all()), "crossover invents a value neither parent has")
    _require(bool(space.valid(children).all()), "crossover makes an invalid code")


def _check_genotypes(space: SearchSpace, codes: IntArray) -> None:
    """Decoding may forget what does not matter; encoding must bring back an equal candidate."""
    for code in codes:
        genotype = space.decode(code)
        _require(
            json.loads(json.dumps(genotype)) == genotype, f"the genotype of {code} is not plain JSON data: {genotype}"
        )
        encoded = space.encode(genotype)
        _require(encoded.shape == code.shape, f"encode gives shape {encoded.shape}, not {code.shape}")
        pair = space.canonical(np.stack((code, encoded)))
        _require(np.array_equal(pair[0], pair[1]), f"decode then encode makes {encoded} of {code}")
        _require(space.decode(encoded) == genotype, f"encode then decode changes {genotype}")


def _check_canonical(space: SearchSpace, codes: IntArray) -> None:
    before = codes.copy()
    canonical = space.canonical(codes)
    _require(np.array_equal(codes, before), "canonical changes its argument")
    _require(canonical.shape == codes.shape, f"canonical has shape {canonical.shape}, not {codes.shape}")
    _require(
        bool(space.valid(canonical).all()), f"canonical makes an invalid code of {codes[~space.valid(canonical)][:1]}"
    )
    again = space.canonical(canonical)
    moved = (again != canonical).any(axis=1)
    _require(not moved.any(), f"canonical is not idempotent for {_first(codes, moved)}")
    alone = np.concatenate([space.canonical(code[None]) for code in codes])
    moved = (alone != canonical).any(axis=1)
    _require(not moved.any(), f"canonical depends on the other rows for {_first(codes, moved)}")


def _check_ops(space: NetworkSpace, codes: IntArray) -> None:
    table = space.ops(codes)
    _require(table.n_candidates == len(codes), f"ops tell of {table.n_candidates} candidates, not {len(codes)}")
    _require(len(space.ops(codes[:0])) == 0, "ops of an empty batch must have no rows")
    _require(bool((np.diff(table.candidate) >= 0).all()), "ops are not sorted by candidate")
    _require(bool(np.isin(table.kind, list(OpKind)).all()), "ops hold a kind that OpKind does not know")
    _require(bool(np.isin(table.bias, (0, 1)).all()), "bias must be 0 or 1")
    for name in COLUMNS:
        column = getattr(table, name)
        _require(
            column.shape == (len(table),) and column.dtype == np.int64, f"ops column {name} is not int64 of shape (L,)"
        )
        is_count = name not in ("candidate", "kind", "bias", "label")
        _require(not is_count or bool((column >= 1).all()), f"ops column {name} holds a number below 1")
    _require(bool((table.in_channels % table.groups == 0).all()), "groups must divide in_channels")
    for i, code in enumerate(codes):
        alone = space.ops(code[None])
        _require(_lines(alone, 0) == _lines(table, i), f"ops of {code} depend on the other rows of its batch")
    canonical = space.ops(space.canonical(codes))
    for name, total in (("MACs", total_macs), ("parameters", total_params)):
        differs = total(table) != total(canonical)
        _require(not differs.any(), f"the canonical form of {_first(codes, differs)} has other {name}")


def _check_modules(space: NetworkSpace, codes: IntArray, image_shape: Sequence[int] | None) -> None:
    from codesign.profile_torch import hooked_macs, used_params

    shape = image_shape if image_shape is not None else getattr(space, "image_shape", None)
    _require(shape is not None, "say which image_shape the modules take")
    table = space.ops(codes)
    for code, macs, params in zip(codes, total_macs(table), total_params(table), strict=True):
        module: Any = space.build(code)
        counted = hooked_macs(module, cast(Sequence[int], shape)).macs
        _require(counted == macs, f"the module of {code} computes {counted} MACs, its ops {macs}")
        weights = used_params(module, cast(Sequence[int], shape))
        _require(weights == params, f"the module of {code} has {weights} parameters, its ops {params}")


def _lines(table: OpTable, candidate: int) -> list[tuple[object, ...]]:
    """The rows of one candidate, comparable between tables."""
    rows = table.candidate == candidate
    columns = [getattr(table, name)[rows].tolist() for name in COLUMNS if name not in ("candidate", "label")]
    labels = [table.labels[label] for label in table.label[rows]] if table.labels else []
    return list(zip(*columns, *([labels] if labels else []), strict=True))


def _first(codes: IntArray, rows: np.ndarray[tuple[int, ...], np.dtype[np.bool_]]) -> list[int]:
    found = codes[rows]
    return [int(value) for value in found[0]] if len(found) else []


def _require(holds: bool, broken: str) -> None:
    if not holds:
        raise AssertionError(broken)
