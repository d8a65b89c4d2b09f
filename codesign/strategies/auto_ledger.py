"""Every candidate that was asked for or told, with its latest result."""

from __future__ import annotations

import numpy as np

from codesign.strategies.auto_pool import row_keys
from codesign.strategies.strategy import BoolArray, FloatArray, StateDict, Told, pack, unpack
from search_spaces.ops import IntArray


class Ledger:
    """Candidates by number, in the order in which they first appeared.

    Args:
        n_decisions: columns of a code.
        n_objectives: losses of a result.
    """

    def __init__(self, n_decisions: int, n_objectives: int) -> None:
        self._codes = np.zeros((0, n_decisions), dtype=np.int64)
        self._losses = np.zeros((0, n_objectives))
        self._violations = np.zeros(0)
        self._is_told = np.zeros(0, dtype=np.bool_)
        self._number: dict[bytes, int] = {}

    def __len__(self) -> int:
        return len(self._number)

    def __contains__(self, key: bytes) -> bool:
        return key in self._number

    @property
    def codes(self) -> IntArray:
        """Canonical codes, shape (n, d)."""
        return self._codes[: len(self)]

    @property
    def losses(self) -> FloatArray:
        """Shape (n, m), NaN where nothing was told."""
        return self._losses[: len(self)]

    @property
    def violations(self) -> FloatArray:
        """Shape (n,), NaN where nothing was told."""
        return self._violations[: len(self)]

    @property
    def is_told(self) -> BoolArray:
        """Shape (n,)."""
        return self._is_told[: len(self)]

    @property
    def is_feasible(self) -> BoolArray:
        """Which candidates were told to be within all budgets, shape (n,)."""
        return np.asarray(self.violations == 0)

    def number(self, key: bytes) -> int:
        """Number of the candidate with this key; raises KeyError."""
        return self._number[key]

    def enter(self, codes: IntArray) -> IntArray:
        """The numbers of candidates, new ones where needed, shape (n,). Codes are canonical."""
        self._reserve(len(codes))
        numbers = []
        for key, code in zip(row_keys(codes), codes, strict=True):
            number = self._number.setdefault(key, len(self._number))
            self._codes[number] = code
            numbers.append(number)
        return np.array(numbers, dtype=np.int64)

    def learn(self, told: Told) -> None:
        """Write results down; of two for one candidate the later holds."""
        for number, losses, violation in zip(self.enter(told.codes), told.losses, told.violations, strict=True):
            self._losses[number] = losses
            self._violations[number] = violation
            self._is_told[number] = True

    def _reserve(self, n: int) -> None:
        wanted = len(self) + n
        if wanted <= len(self._codes):
            return
        room = max(wanted, 2 * len(self._codes), 64) - len(self._codes)
        self._codes = np.vstack([self._codes, np.zeros((room, self._codes.shape[1]), dtype=np.int64)])
        self._losses = np.vstack([self._losses, np.full((room, self._losses.shape[1]), np.nan)])
        self._violations = np.append(self._violations, np.full(room, np.nan))
        self._is_told = np.append(self._is_told, np.zeros(room, dtype=np.bool_))

    def state_dict(self) -> StateDict:
        """JSON-able."""
        codes = self.codes
        kind = np.uint8 if codes.max(initial=0) < 256 else np.int32
        return {
            "codes": pack(codes.astype(kind)),
            "told": pack(np.flatnonzero(self.is_told).astype(np.int32)),
            "losses": pack(self.losses[self.is_told]),
            "violations": pack(self.violations[self.is_told]),
        }

    def load_state_dict(self, state: StateDict) -> None:
        """Continue from `state_dict`."""
        codes = unpack(state["codes"]).astype(np.int64)
        self.__init__(codes.shape[1], self._losses.shape[1])  # type: ignore[misc]
        self.enter(codes)
        told = unpack(state["told"])
        self._losses[told] = unpack(state["losses"])
        self._violations[told] = unpack(state["violations"])
        self._is_told[told] = True
