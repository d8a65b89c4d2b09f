"""The default strategy: known costs are looked up, unknown losses are modelled, and the front decides what to try.

Each proposal is the candidate of a pool with the largest expected growth of the hypervolume. The pool is the whole
space where it can be listed, else candidates that moves and crosses of the front generate, with random ones. A loss
that the run can foresee is exact and never modelled; every other one is predicted by a Gaussian process on what
describes candidates. Candidates at work count as evaluated: their expectation stands in the front, and the models'
variance is that of having seen them. What is foreseen to be over a budget is not proposed; other violations are
predicted. Where left-out predictions rank no better than chance, half of the proposals are moves of the front as they
come.

Source: Emmerich et al. 2006 (expected hypervolume improvement), Ginsbourger et al. 2010, section 4.2 (the kriging
believer, for candidates at work).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

import numpy as np

from codesign.strategies.auto_belief import VIOLATION, WAITING, Base, Belief, Outlook, targets
from codesign.strategies.auto_fit import best_codes, fit_all, rows_to_learn
from codesign.strategies.auto_gain import advance, expected_gain, gain, thinned, undominated
from codesign.strategies.auto_ledger import Ledger
from codesign.strategies.auto_model import Fit
from codesign.strategies.auto_pool import (
    LISTED,
    SCALED,
    Insight,
    Pool,
    Scale,
    all_codes,
    describe,
    distinct,
    generate,
    row_keys,
)
from codesign.strategies.auto_start import first_candidates
from codesign.strategies.foresight import Foresight
from codesign.strategies.strategy import (
    BoolArray,
    FloatArray,
    StateDict,
    Strategy,
    check_header,
    check_told,
    header,
    make_options,
    require,
    tunable,
)
from search_spaces.ops import IntArray
from search_spaces.space import SearchSpace

GROWTH = 1.1
"""The models are fitted anew whenever results have grown by this factor."""
REFRESHED = 24
"""A generated pool is made anew after so many results."""
LIKED = 50
"""Candidates that the models like best, whose surroundings are searched as well."""
STAGES = 1
"""How often that is done, to find what they like better still."""
SHORTLIST = 400
"""Candidates whose expected gain is computed: those with the largest optimistic gain."""
CORNERS = 40
"""Members that stand for the front of three losses or more: what it leaves undominated has many corners."""
OPTIMISM = 2.0
"""Standard deviations below the mean at which candidates are shortlisted."""
BLOCKS = 16
"""A batch is chosen in so many steps at most."""
UNGUIDED = 0.5
"""Share of proposals that the models do not choose where they are of no use."""
CHANCE = 1.645
"""Standard deviations of a rank correlation above which it is no chance (one in twenty)."""


@dataclass(frozen=True, slots=True)
class AutoOptions:
    """Options of `Auto`.

    Attributes:
        start: how many results the models wait for.
        pool: candidates generated to choose from, where the space cannot be listed.
    """

    start: int = tunable(10, 6, 10, 20)
    pool: int = tunable(3_000, 1_000, 3_000, 10_000)

    def __post_init__(self) -> None:
        require(self.start >= 1, "start", self.start, "a number from 1")
        require(self.pool >= 16, "pool", self.pool, "a number from 16")


class Auto(Strategy):
    """Proposes by expected hypervolume improvement, with known costs exact.

    Args:
        space: where candidates come from.
        n_objectives: number of losses told for each.
        seed: of the random generator.
        foresight: what is known of candidates before they are evaluated.
        options: see `AutoOptions`.
    """

    Options = AutoOptions

    def __init__(
        self,
        space: SearchSpace,
        n_objectives: int,
        seed: int,
        foresight: Foresight | None = None,
        **options: object,
    ) -> None:
        self.options = make_options(AutoOptions, options)
        self._space = space
        self._m = n_objectives
        self._rng = np.random.default_rng(seed)
        self._pool_seed = int(np.random.default_rng([seed % 2**63, 1]).integers(2**31))
        self._insight = Insight(space, n_objectives, foresight)
        self._ledger = Ledger(len(space.choices), n_objectives)
        self._base: Base | None = None
        self._clear()

    def _clear(self) -> None:
        """Drop what is computed from the state."""
        self._scale: Scale | None = None
        self._first: Pool | None = None
        self._plan: IntArray | None = None
        self._belief: Belief | None = None
        self._pool: Pool | None = None
        self._is_taken: BoolArray = np.zeros(0, dtype=np.bool_)

    # --- the protocol

    def ask(self, n: int) -> IntArray:
        """See `Strategy.ask`."""
        codes = np.zeros((0, len(self._space.choices)), dtype=np.int64)
        block = ceil(n / BLOCKS)
        while len(codes) < n:
            wanted = min(block, n - len(codes))
            found = self._choose(wanted)
            numbers = self._ledger.enter(found)
            self._mark(found)
            if self._belief is not None:
                self._belief.hold(numbers[: ceil(WAITING / BLOCKS)])  # of a large batch some stand for the others
            if len(found) < wanted:
                found = np.vstack([found, self._leftovers(wanted - len(found))])
            codes = np.vstack([codes, found])
        return codes

    def tell(self, codes: IntArray, losses: FloatArray, violations: FloatArray) -> None:
        """See `Strategy.tell`."""
        told = check_told(self._space, self._m, codes, losses, violations)
        told = type(told)(self._space.canonical(told.codes), told.losses, told.violations)
        self._ledger.learn(told)
        self._mark(told.codes)

    def state_dict(self) -> StateDict:
        """See `Strategy.state_dict`."""
        return {
            **header("auto", self._space, self._m),
            "rng": self._rng.bit_generator.state,
            "pool_seed": self._pool_seed,
            "ledger": self._ledger.state_dict(),
            "base": None if self._base is None else self._base.state_dict(),
        }

    def load_state_dict(self, state: StateDict) -> None:
        """See `Strategy.load_state_dict`."""
        check_header(state, header("auto", self._space, self._m))
        self._rng.bit_generator.state = state["rng"]
        self._pool_seed = state["pool_seed"]
        self._ledger.load_state_dict(state["ledger"])
        self._base = None if state["base"] is None else Base.from_state_dict(state["base"])
        self._clear()

    # --- what else a run may want to know

    @property
    def uses_model(self) -> bool:
        """Whether predictions choose candidates: there are some, and left-out results are ranked better than chance."""
        if self._base is None:
            return False
        skills = [fitted.skill for column, fitted in self._base.fits.items() if column != VIOLATION]
        return bool(skills) and min(skills) > CHANCE / max(1, self._base.n_fitted) ** 0.5

    def forecast(self, codes: IntArray) -> FloatArray | None:
        """Expected losses of candidates before they are told, shape (n, m); None while nothing is modelled.

        Args:
            codes: shape (n, d), valid.

        Returns:
            Known losses as they are, modelled ones as expected; NaN where there is no model.
        """
        if self._base is None:
            return None
        return self._believe().forecast(self._space.canonical(codes))

    # --- choosing

    def _choose(self, n: int) -> IntArray:
        """Up to `n` new candidates, shape (k, d)."""
        if self._base is None and not self._is_ready():
            return self._from_plan(n)
        self._refresh()
        belief = self._believe()
        rows = np.flatnonzero(belief.pool.is_allowed & ~self._is_taken)
        if len(rows) == 0 and self._listed() is None:
            return self._elsewhere(n)
        if len(rows) == 0:
            return self._nearest_to_budget(belief.pool, n)
        if self._base is not None and self._base.fits and not self.uses_model and self._rng.random() < UNGUIDED:
            return belief.pool.codes[rows[self._rng.permutation(len(rows))[:n]]]
        return belief.pool.codes[self._best_rows(belief, rows, n)]

    def _is_ready(self) -> bool:
        """Whether there are results enough for models, or nothing to model."""
        unknown = self._unknown()
        enough = min(self.options.start, max(1, self._space.size // 2))
        counts = [int(np.isfinite(targets(self._ledger, column)).sum()) for column in unknown]
        return min(counts, default=enough) >= enough

    def _unknown(self) -> list[int]:
        """Objectives that only evaluations tell."""
        known = self._start_pool().known
        return [column for column in range(self._m) if column not in known]

    def _best_rows(self, belief: Belief, rows: IntArray, n: int) -> IntArray:
        """The rows with the largest expected gain, best first; where none is expected, those nearest to one."""
        outlook = belief.outlook()
        is_many = self._m > 2
        front = thinned(outlook.front, CORNERS) if is_many else outlook.front
        boxes = undominated(front, outlook.reference)
        mean, deviation, chance = outlook.mean[rows], outlook.deviation[rows], outlook.chance[rows]
        hopeful = _shortlist(mean - OPTIMISM * deviation, outlook, max(SHORTLIST // 4 if is_many else SHORTLIST, n))
        expected = expected_gain(mean[hopeful], deviation[hopeful], boxes) * chance[hopeful]
        order = np.argsort(-expected, kind="stable")[:n]
        best = hopeful[order[expected[order] > 0]]
        if len(best) < n:
            span = np.maximum(mean.std(axis=0), 1e-12)
            distance = ((mean - outlook.reference) / span).max(axis=1) - chance
            distance[best] = np.inf
            nearest = np.argsort(distance, kind="stable")
            best = np.concatenate([best, nearest[: min(n, len(rows)) - len(best)]])
        return rows[best]

    def _from_plan(self, n: int) -> IntArray:
        """The next of the first candidates, then random ones, shape (k, d)."""
        pool = self._start_pool()
        if not pool.is_allowed.any():
            return self._nearest_to_budget(pool, n)
        if self._plan is None:
            self._plan = first_candidates(pool, self.options.start, np.random.default_rng([self._pool_seed, 2]))
        is_new = ~self._known_rows(pool)
        rows = self._plan[is_new[self._plan]][:n]
        is_new[rows] = False
        others = np.flatnonzero(is_new & pool.is_allowed)
        rows = np.concatenate([rows, others[self._rng.permutation(len(others))[: n - len(rows)]]])
        return pool.codes[rows]

    def _nearest_to_budget(self, pool: Pool, n: int) -> IntArray:
        """What violates known budgets least, while nothing feasible is known, shape (k, d)."""
        if self._ledger.is_feasible.any() or (pool.is_allowed.any() and self._listed() is not None):
            return pool.codes[:0]
        rows = np.flatnonzero(~self._known_rows(pool))
        return pool.codes[rows[np.argsort(pool.violations[rows], kind="stable")[:n]]]

    def _elsewhere(self, n: int) -> IntArray:
        """New random candidates of a space too large to list, for when a pool is used up, shape (k, d)."""
        seed = int(self._rng.integers(2**31))
        codes, seen, _ = generate(self._space, best_codes(self._ledger), 4 * n + 64, self._insight, seed)
        allowed = codes[~(seen.violations > 0)]
        new = [i for i, key in enumerate(row_keys(allowed)) if key not in self._ledger][:n]
        return allowed[new]

    def _leftovers(self, n: int) -> IntArray:
        """Candidates where nothing new is left: those whose results are awaited, else any, shape (n, d)."""
        waiting = self._ledger.codes[~self._ledger.is_told]
        waiting = waiting[self._rng.permutation(len(waiting))[:n]]
        drawn = self._space.sample(n - len(waiting), self._rng)
        return np.vstack([waiting, drawn])

    # --- models and pools

    def _listed(self) -> Pool | None:
        """All candidates, if they can be listed."""
        return self._start_pool() if self._space.size <= LISTED else None

    def _start_pool(self) -> Pool:
        """All candidates, or random ones, on whose features the scale rests."""
        if self._first is None:
            rng = np.random.default_rng([self._pool_seed, 1])
            if self._space.size <= LISTED:
                codes = all_codes(self._space)
            else:
                drawn = self._space.sample(SCALED, rng)
                codes = distinct(self._space.canonical(drawn[self._space.valid(drawn)]))
            self._first, self._scale = describe(codes, self._insight(codes), None, len(codes))
        return self._first

    def _refresh(self) -> None:
        """Fit the models and make the pool anew if results have grown enough since."""
        n_told = int(self._ledger.is_told.sum())
        base = self._base
        is_due = base is None or n_told >= max(base.n_fitted + 1, ceil(base.n_fitted * GROWTH))
        is_stale = base is not None and (
            (self._listed() is None and n_told >= base.n_pooled + REFRESHED)
            or len(base.appended) > WAITING + base.n_fitted  # asks that are never told do not weigh for ever
        )
        if not (is_due or is_stale):
            return
        fits = self._fit() if is_due or base is None else base.fits
        n_fitted = n_told if is_due or base is None else base.n_fitted
        parents = best_codes(self._ledger) if self._listed() is None else self._ledger.codes[:0]
        self._found(
            Base(fits, parents, self._draw_seed(), rows_to_learn(self._ledger), n_fitted=n_fitted, n_pooled=n_told)
        )
        for _ in range(STAGES if self._listed() is None and len(parents) and fits else 0):
            belief = self._believe()
            rows = np.flatnonzero(belief.pool.is_allowed & ~self._is_taken)
            if len(rows) == 0:
                break
            liked = belief.pool.codes[self._best_rows(belief, rows, LIKED)]
            both = distinct(
                np.vstack([liked, parents])
            )  # the surroundings of what the models like are searched as well
            self._found(
                Base(fits, both, self._draw_seed(), rows_to_learn(self._ledger), n_fitted=n_fitted, n_pooled=n_told)
            )

    def _found(self, base: Base) -> None:
        self._base = base
        self._belief = None

    def _draw_seed(self) -> int:
        return int(self._rng.integers(2**31)) if self._listed() is None else 0

    def _fit(self) -> dict[int, Fit]:
        """A fit of each loss that needs one."""
        unknown = self._unknown()
        assert self._scale is not None
        levels = {} if self._base is None else self._levels(unknown)
        old = {} if self._base is None else self._base.fits
        return fit_all(self._ledger, self._insight, self._scale, unknown, levels, old)

    def _levels(self, unknown: list[int]) -> dict[int, float]:
        """The losses expected of a median random candidate, by objective."""
        belief = self._believe()
        expected = belief.expected()
        return {column: float(np.median(expected[:, column])) for column in unknown if column in belief.modelled}

    def _believe(self) -> Belief:
        """The models and the pool, computed from the state where need be."""
        if self._belief is None:
            pool, base = self._start_pool(), self._base
            assert base is not None
            assert self._scale is not None
            if self._listed() is None:
                codes, seen, n_random = generate(self._space, base.parents, self.options.pool, self._insight, base.seed)
                pool, _ = describe(codes, seen, self._scale, n_random)
            if pool is not self._pool:
                self._pool, self._is_taken = pool, self._known_rows(pool)
            self._belief = Belief(self._insight, self._scale, self._ledger, pool, base)
        return self._belief

    def _mark(self, codes: IntArray) -> None:
        """Candidates of the pool are not to be proposed again."""
        if self._pool is not None:
            rows = [self._pool.row_of.get(key) for key in row_keys(codes)]
            self._is_taken[[row for row in rows if row is not None]] = True

    def _known_rows(self, pool: Pool) -> BoolArray:
        """Which candidates of a pool were asked for or told, shape (p,)."""
        return np.array([key in self._ledger for key in pool.row_of], dtype=np.bool_)


def _shortlist(losses: FloatArray, outlook: Outlook, n: int) -> IntArray:
    """The rows that would gain most if their losses were these, at most `n`, in ascending order."""
    inside = np.flatnonzero((losses < outlook.reference).all(axis=1))
    if len(inside) <= n:
        return inside
    measure = gain if losses.shape[1] <= 2 else advance
    gained = measure(losses[inside], outlook.front, outlook.reference)
    return np.sort(inside[np.argpartition(-gained, n - 1)[:n]])
