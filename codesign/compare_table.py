"""Tasks from tables in which every candidate's results are known: lookups instead of trainings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from codesign.compare import Task
from codesign.compare_score import Curve
from codesign.errors import DataError, InputError
from codesign.strategies.foresight import Foreseen, Foresight
from codesign.trial import FloatArray
from search_spaces.ops import IntArray
from search_spaces.space import Choice, Genotype, SearchSpace

MAX_CODES = 2**24
"""Codes of a space whose table may be looked up; more than that nobody has listed."""
_TRIES = 8


@dataclass(frozen=True)
class Rows:
    """Finds the rows of codes in a table.

    Attributes:
        n_options: shape (d,), of the space.
        codes: shape (n, d), all different.

    Raises:
        DataError: two rows have one code.
        InputError: the space has more codes than a table could list.
    """

    n_options: IntArray
    codes: IntArray

    def __post_init__(self) -> None:
        if float(np.prod(self.n_options.astype(np.float64))) > MAX_CODES:
            raise InputError(f"a table task is for spaces of at most {MAX_CODES:,} codes; give a function instead")
        places, counts = np.unique(self._places(self.codes), return_counts=True)
        if (counts > 1).any():
            twice = np.unravel_index(int(places[np.argmax(counts > 1)]), tuple(self.n_options.tolist()))
            raise DataError(f"the table lists the candidate {tuple(int(value) for value in twice)} more than once")

    @cached_property
    def _row_of(self) -> NDArray[np.int32]:
        rows = np.full(int(np.prod(self.n_options)), -1, dtype=np.int32)
        rows[self._places(self.codes)] = np.arange(len(self.codes))
        return rows

    def _places(self, codes: IntArray) -> IntArray:
        return np.asarray(np.ravel_multi_index(tuple(codes.T), tuple(self.n_options.tolist())), dtype=np.int64)

    def find(self, codes: IntArray) -> IntArray:
        """The row of each valid code, shape (n,); -1 for one that the table does not have."""
        return self._row_of[self._places(codes)].astype(np.int64)


@dataclass(frozen=True)
class TableLosses:
    """Losses by lookup: NaN for what the table does not have; shapes (n, d) to (n, m)."""

    rows: Rows
    losses: FloatArray

    def __call__(self, codes: IntArray) -> FloatArray:
        """See `codesign.compare.Evaluate`."""
        found = self.rows.find(codes)
        return np.where((found >= 0)[:, None], self.losses[found], np.nan)


@dataclass(frozen=True)
class TableDurations:
    """Mean durations by lookup, shapes (n, d) to (n,)."""

    rows: Rows
    durations: FloatArray

    def __call__(self, codes: IntArray) -> FloatArray:
        """See `codesign.compare.Duration`."""
        return self.durations[self.rows.find(codes)]


@dataclass(frozen=True)
class TableForesight(Foresight):
    """What is known of the candidates of a table, by lookup.

    Attributes:
        rows: finds them.
        losses: shape (n, m), NaN columns for what only an evaluation tells.
        violations: shape (n,).
        features: shape (n, k).
        upper: shape (m,), see `Foresight.limits`.
    """

    rows: Rows
    losses: FloatArray
    violations: FloatArray
    features: FloatArray
    upper: FloatArray

    @property
    def limits(self) -> FloatArray:
        """See `Foresight.limits`."""
        return self.upper.copy()

    @property
    def prior_of(self) -> tuple[int, ...]:
        """Nothing was learned elsewhere."""
        return ()

    def __call__(self, codes: IntArray) -> Foreseen:
        """See `Foresight.__call__`; a candidate that the table lacks cannot work."""
        found = self.rows.find(codes)
        is_listed = found >= 0
        return Foreseen(
            losses=np.where(is_listed[:, None], self.losses[found], np.nan),
            violations=np.where(is_listed, self.violations[found], np.inf),
            features=self.features[found],
            priors=np.zeros((len(codes), 0)),
        )


class PartOf(SearchSpace):
    """The candidates of a space that a table lists; the others are not valid.

    Args:
        space: the whole; its codes must be canonical as they are.
        codes: those that are listed, shape (n, d).
    """

    def __init__(self, space: SearchSpace, codes: IntArray) -> None:
        self.whole = space
        self._codes = codes
        self._rows = Rows(space.n_options, codes)

    @property
    def choices(self) -> tuple[Choice, ...]:
        """See `SearchSpace.choices`."""
        return self.whole.choices

    def decode(self, code: IntArray) -> Genotype:
        """See `SearchSpace.decode`."""
        return self.whole.decode(code)

    def encode(self, genotype: Mapping[str, object]) -> IntArray:
        """See `SearchSpace.encode`."""
        return self.whole.encode(genotype)

    def sample(self, n: int, rng: np.random.Generator) -> IntArray:
        """Uniform over what is listed."""
        return self._codes[rng.integers(0, len(self._codes), size=n)]

    def mutate(self, codes: IntArray, rng: np.random.Generator) -> IntArray:
        """See `SearchSpace.mutate`; drawn again a few times where the result is not listed, then any other one."""
        result = self.whole.mutate(codes, rng)
        for _ in range(_TRIES):
            missing = np.flatnonzero(~self.valid(result))
            if len(missing) == 0:
                break
            result[missing] = self.whole.mutate(codes[missing], rng)
        alone = np.flatnonzero(~self.valid(result))
        steps = rng.integers(1, max(2, len(self._codes)), size=len(alone))
        result[alone] = self._codes[(self._rows.find(codes[alone]) + steps) % len(self._codes)]
        return result

    def crossover(self, first: IntArray, second: IntArray, rng: np.random.Generator) -> IntArray:
        """See `SearchSpace.crossover`; the first parent where the child is not listed."""
        children = self.whole.crossover(first, second, rng)
        return np.where(self.valid(children)[:, None], children, first)

    def valid(self, codes: IntArray) -> NDArray[np.bool_]:
        """Valid in the whole space, and listed."""
        is_valid = self.whole.valid(codes)
        is_valid[is_valid] = self._rows.find(codes[is_valid]) >= 0
        return is_valid

    def canonical(self, codes: IntArray) -> IntArray:
        """Every listed candidate stands for itself."""
        return codes.copy()

    def features(self, codes: IntArray) -> FloatArray:
        """See `SearchSpace.features`."""
        return self.whole.features(codes)


def table_task(
    name: str,
    space: SearchSpace,
    codes: IntArray,
    losses: FloatArray,
    score: Curve,
    *,
    known: Sequence[int] = (),
    features: FloatArray | None = None,
    violations: FloatArray | None = None,
    limits: Sequence[float] | None = None,
    durations: FloatArray | None = None,
    spread: float = 0.0,
) -> Task:
    """A task whose evaluations are lookups.

    Args:
        name: in tables.
        space: of the codes, whose canonical form must be themselves.
        codes: shape (n, d), all different; candidates that are not listed are not valid.
        losses: shape (n, m), finite, all minimised.
        score: of the losses visited.
        known: columns of the losses that are known before an evaluation.
        features: shape (n, k), for models of the unknown losses; None asks the space.
        violations: shape (n,), of budgets on what is known; None: there are none.
        limits: largest loss of each objective that the budgets allow.
        durations: shape (n,), mean duration of each evaluation; None: all alike.
        spread: standard deviation of the logarithm of durations.

    Raises:
        DataError: a candidate is listed twice, or a loss is not finite.
        InputError: a code is not canonical, or the space too large to list.
    """
    losses = np.asarray(losses, dtype=np.float64)
    if not np.isfinite(losses).all():
        raise DataError(f"{name}: row {int(np.argmin(np.isfinite(losses).all(axis=1)))} has a loss that is not finite")
    if not space.valid(codes).all() or not np.array_equal(space.canonical(codes), codes):
        raise InputError(f"{name}: a table task needs valid codes that are their own canonical form")
    rows = Rows(space.n_options, codes)
    unknown = np.setdiff1d(np.arange(losses.shape[1]), np.asarray(known, dtype=np.int64))
    foreseen = losses.copy()
    foreseen[:, unknown] = np.nan
    foresight = TableForesight(
        rows,
        foreseen,
        np.zeros(len(codes)) if violations is None else violations,
        space.features(codes) if features is None else features,
        np.full(losses.shape[1], np.inf) if limits is None else np.asarray(limits, dtype=np.float64),
    )
    task = Task(
        name=name,
        space=space if len(codes) == space.size else PartOf(space, codes),
        n_objectives=losses.shape[1],
        evaluate=TableLosses(rows, losses),
        score=score,
        foresight=foresight,
        spread=spread,
    )
    return task if durations is None else replace(task, duration=TableDurations(rows, durations))
