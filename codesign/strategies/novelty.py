"""Keeps proposals new: remembers the latest candidates, and redraws those that come again."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np

from codesign.strategies.strategy import BoolArray, StateDict, pack, unpack
from search_spaces.ops import IntArray
from search_spaces.space import SearchSpace

_CAPACITY = 1024
_ROUNDS = 8
_INVALID = -1
"""No hash: those are not negative."""

Redraw = Callable[[IntArray], IntArray]
"""Replaces codes, shape (k, d), that are not new."""


class Memory:
    """The latest distinct candidates that were proposed or told, as 64-bit hashes of their canonical rows.

    It is bounded, so that a strategy's state stays small however long the search; what it forgets, the study's own
    ledger still filters.
    """

    def __init__(self, space: SearchSpace) -> None:
        self._space = space
        # Random odd weights: two rows of small integers share a hash with a probability of about 2^-64.
        weights = np.random.default_rng(64).integers(0, 2**64, size=len(space.choices), dtype=np.uint64)
        self._weights = weights | np.uint64(1)
        self._is_told: dict[int, bool] = {}  # in order of first appearance

    def keys(self, codes: IntArray) -> list[int]:
        """A number for each row, shape (n, d), equal for equal candidates."""
        canonical = self._space.canonical(codes).astype(np.uint64)
        hashes: list[int] = (canonical * self._weights).sum(axis=1, dtype=np.uint64).tolist()
        return hashes

    def add(self, keys: Iterable[int], *, told: bool) -> None:
        """Remember candidates by their keys; the oldest make room."""
        for key in keys:
            self._is_told[key] = told or self._is_told.get(key, False)
        for key in list(self._is_told)[: max(0, len(self._is_told) - _CAPACITY)]:
            del self._is_told[key]

    def is_new(self, keys: Sequence[int]) -> BoolArray:
        """Which of the keys are neither remembered nor equal to an earlier one, shape (n,)."""
        seen: set[int] = set()
        result = np.zeros(len(keys), dtype=np.bool_)
        for i, key in enumerate(keys):
            result[i] = key not in self._is_told and key not in seen
            seen.add(key)
        return result

    def untold(self, excluded: IntArray) -> tuple[IntArray, IntArray]:
        """What a small space still offers: codes never met, and codes proposed but not told.

        Args:
            excluded: codes that do not count, shape (n, d).

        Returns:
            Two arrays of codes, each candidate once; both are empty if the space is too large to list.
        """
        nothing = np.zeros((0, len(self._space.choices)), dtype=np.int64)
        if self._space.size > _CAPACITY:
            return nothing, nothing
        index = np.unravel_index(np.arange(self._space.size), tuple(self._space.n_options.tolist()))
        codes = np.stack(index, axis=1).astype(np.int64)
        codes = codes[self._space.valid(codes)]
        found = {key: row for row, key in reversed(list(enumerate(self.keys(codes))))}
        for key in self.keys(excluded):
            found.pop(key, None)
        never = sorted(row for key, row in found.items() if key not in self._is_told)
        open_ = sorted(row for key, row in found.items() if not self._is_told.get(key, True))
        return codes[never], codes[open_]

    def state_dict(self) -> StateDict:
        """JSON-able."""
        keys = np.array(list(self._is_told), dtype=np.uint64)
        return {"keys": pack(keys), "is_told": pack(np.array(list(self._is_told.values()), dtype=np.bool_))}

    def load_state_dict(self, state: StateDict) -> None:
        """Continue from `state_dict`."""
        self._is_told = dict(zip(unpack(state["keys"]).tolist(), unpack(state["is_told"]).tolist(), strict=True))


def renew(codes: IntArray, space: SearchSpace, memory: Memory, rng: np.random.Generator, redraw: Redraw) -> IntArray:
    """Proposals with invalid, known and repeated rows replaced as far as a few rounds can.

    Args:
        codes: shape (n, d).
        space: where they are from.
        memory: what is known; the result is added to it.
        rng: source of randomness for what `redraw` leaves over.
        redraw: called on the rows to replace; applied again and again, a mutation so reaches ever further.

    Returns:
        Shape (n, d), all valid. Rows may still repeat, if the space has nothing else or is too large to list.
    """
    codes = codes.copy()
    keys: list[int] = [_INVALID] * len(codes)
    stale = np.ones(len(codes), dtype=np.bool_)
    for round_ in range(_ROUNDS + 1):
        rows = np.flatnonzero(stale)
        if len(rows) == 0:
            break
        if round_ > 0:
            codes[rows] = redraw(codes[rows])
        _update(keys, rows, codes, space, memory)
        stale = ~memory.is_new(keys) | np.array([key == _INVALID for key in keys])
    if stale.any():
        for offered in memory.untold(codes[~stale]):
            rows = np.flatnonzero(stale)
            chosen = rng.permutation(len(offered))[: len(rows)]
            codes[rows[: len(chosen)]] = offered[chosen]
            stale[rows[: len(chosen)]] = False
        invalid = ~space.valid(codes)
        codes[invalid] = space.sample(int(invalid.sum()), rng)
        keys = memory.keys(codes)
    memory.add(keys, told=False)
    return codes


def _update(keys: list[int], rows: IntArray, codes: IntArray, space: SearchSpace, memory: Memory) -> None:
    """Write the keys of the given rows, `_INVALID` for invalid ones (a space need not know their canonical form)."""
    is_valid = space.valid(codes[rows])
    for row in rows[~is_valid].tolist():
        keys[row] = _INVALID
    valid = rows[is_valid]
    for row, key in zip(valid.tolist(), memory.keys(codes[valid]), strict=True):
        keys[row] = key
