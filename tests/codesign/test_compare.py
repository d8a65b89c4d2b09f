"""Runs and races: what counts, what is told, what is screened, and that processes change nothing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np
import pytest

from codesign.compare import MAX_OVER_BUDGET, PATIENCE, Outcome, Task, run_task
from codesign.compare_race import named_strategy, race
from codesign.compare_score import Regret
from codesign.compare_table import PartOf, Rows, TableForesight, table_task
from codesign.errors import DataError, InputError
from codesign.strategies.foresight import Foresight
from codesign.strategies.random import Random
from codesign.strategies.strategy import StateDict, Strategy
from codesign.testing.spaces import check_space
from codesign.testing.strategies import ListedSpace
from codesign.trial import FloatArray
from search_spaces.ops import IntArray
from search_spaces.space import Choice, SearchSpace
from tests.codesign.fakes import Grid

SPACE = Grid(width=2, options=8)
CODES = np.stack(np.unravel_index(np.arange(64), (8, 8)), axis=1).astype(np.int64)
ERRORS: FloatArray = (CODES @ np.array([[8], [1]])).astype(np.float64)  # the place in the list


def grid_task(**changes: Any) -> Task:
    return table_task("grid", SPACE, CODES, ERRORS, Regret(0.0), **changes)


@dataclass
class Scripted(Strategy):
    """Proposes what it was told to, by place in the list, and writes down what it learns."""

    script: Iterator[int]
    told: list[tuple[int, float, float]] = field(default_factory=list)
    Options: ClassVar[type] = object

    def ask(self, n: int) -> IntArray:
        return CODES[[next(self.script) for _ in range(n)]]

    def tell(self, codes: IntArray, losses: FloatArray, violations: FloatArray) -> None:
        places = (codes @ np.array([8, 1])).tolist()
        self.told += list(zip(places, losses[:, 0].tolist(), violations.tolist(), strict=True))

    def state_dict(self) -> StateDict:
        return {}

    def load_state_dict(self, state: StateDict) -> None:
        pass


def scripted(task: Task, *places: int, evaluations: int, workers: int = 1) -> tuple[Outcome, Scripted]:
    strategy = Scripted(iter(places))
    outcome = run_task(
        task, lambda space, n_objectives, seed, **_: strategy, evaluations=evaluations, seed=0, workers=workers
    )
    return outcome, strategy


def test_distinct_candidates_count_and_repeated_ones_are_neither_told_nor_counted() -> None:
    outcome, strategy = scripted(grid_task(), 9, 9, 5, 9, 7, evaluations=3)
    assert outcome.losses[:, 0].tolist() == [9, 5, 7]
    assert outcome.scores.tolist() == [9, 5, 5]
    assert [place for place, _, _ in strategy.told] == [9, 5, 7]
    assert outcome.n_proposals.tolist() == [1, 3, 5]
    assert (outcome.at(1), outcome.at(2), outcome.at(3)) == (9, 5, 5)


def test_at_most_four_proposals_count_for_each_evaluation() -> None:
    repeated = [9] * 8
    outcome, _ = scripted(grid_task(), *repeated, 5, 4, *[4] * 20, evaluations=3)
    assert outcome.losses[:, 0].tolist() == [9, 5, 4]
    assert outcome.n_proposals.tolist() == [1, 9, 10]
    assert outcome.at(1) == 9
    assert outcome.at(2) == 9, "the second candidate was the ninth proposal, and eight are allowed"
    assert outcome.at(3) == 4
    stuck, _ = scripted(grid_task(), *[9] * 12, evaluations=3)
    assert len(stuck.codes) == 1
    assert stuck.at(3) == 9


def test_a_budget_on_what_is_known_keeps_candidates_from_being_evaluated() -> None:
    over: FloatArray = np.maximum(0.0, ERRORS[:, 0] - 31) / 31
    task = grid_task(violations=over)
    outcome, strategy = scripted(task, 40, 30, 63, 62, 10, 11, *range(64), evaluations=2)
    assert outcome.losses[:, 0].tolist() == [30, 10]
    assert outcome.n_infeasible == 0
    assert outcome.n_proposals.tolist() == [1, 2], "what is screened out is no proposal of the budget"
    assert outcome.n_screened.tolist() == [1, 2], "63 came behind 30, which was enough"
    by_place = {place: (loss, violation) for place, loss, violation in strategy.told}
    assert np.isnan(by_place[40][0])
    assert by_place[40][1] == pytest.approx(9 / 31)
    assert by_place[30] == (30, 0)


def test_known_losses_of_screened_candidates_are_told() -> None:
    losses = np.hstack([ERRORS, 64 - ERRORS])
    over = (ERRORS[:, 0] < 8).astype(np.float64)
    task = table_task("two", SPACE, CODES, losses, Regret(0.0), known=(1,), violations=over)
    seen: list[FloatArray] = []

    class Watcher(Random):
        def tell(self, codes: IntArray, losses: FloatArray, violations: FloatArray) -> None:
            seen.append(losses[violations > 0])
            super().tell(codes, losses, violations)

    run_task(task, Watcher, evaluations=40, seed=0)
    told = np.concatenate(seen)
    assert len(told)
    assert np.isnan(told[:, 0]).all()
    assert np.isfinite(told[:, 1]).all()


def test_a_search_that_finds_nothing_within_the_budget_ends() -> None:
    @dataclass(frozen=True)
    class Nothing(Grid):
        pass

    space = Nothing(width=8, options=8)
    nowhere = TableForesight(
        Rows(np.array([1]), np.zeros((1, 1), np.int64)), np.zeros((1, 1)), np.ones(1), np.zeros((1, 1)), np.ones(1)
    )

    class Forbidden:
        limits = np.zeros(1)
        prior_of = ()

        def __call__(self, codes: IntArray) -> Any:
            return nowhere(np.zeros((len(codes), 1), dtype=np.int64))

    task = Task("none", space, 1, lambda codes: np.zeros((len(codes), 1)), Regret(0.0), foresight=Forbidden())
    outcome = run_task(task, Random, evaluations=5, seed=0)
    assert len(outcome.codes) == 0
    assert np.isnan(outcome.at(5))
    assert np.isnan(outcome.ms_per_candidate())
    assert MAX_OVER_BUDGET < 8**8


def test_a_strategy_that_names_foresight_is_given_it_and_others_are_not() -> None:
    given: list[Foresight | None] = []

    class Seer(Random):
        def __init__(
            self, space: SearchSpace, n_objectives: int, seed: int, foresight: Foresight | None = None
        ) -> None:
            given.append(foresight)
            super().__init__(space, n_objectives, seed)

    task = grid_task()
    run_task(task, Seer, evaluations=2, seed=0)
    assert given == [task.foresight]
    run_task(task, Random, evaluations=2, seed=0)  # would refuse the keyword
    assert not named_strategy("random").takes_foresight


def test_workers_learn_late_and_the_clock_says_when() -> None:
    task = grid_task(durations=1.0 + CODES[:, 0])
    outcome, strategy = scripted(task, 63, 0, 1, 2, 3, evaluations=5, workers=2)
    assert outcome.losses[:, 0].tolist() == [63, 0, 1, 2, 3], "in the order of asking"
    assert [place for place, _, _ in strategy.told] == [0, 1, 2, 3, 63], "in the order of arrival"
    assert outcome.ended.tolist() == [8, 1, 2, 3, 4]


def test_a_worker_waits_when_nothing_new_is_proposed() -> None:
    places = [5, *[5] * (PATIENCE + 1), 6]
    outcome, strategy = scripted(grid_task(), *places, *[6] * 60, evaluations=10, workers=2)
    assert [place for place, _, _ in strategy.told] == [5, 6]
    assert outcome.ended.tolist() == [1, 2], "the second candidate was asked for when the first had arrived"


def test_durations_belong_to_candidates_and_seeds() -> None:
    task = replace(grid_task(), spread=0.5)
    first, _ = scripted(task, 1, 2, 3, evaluations=3)
    other, _ = scripted(task, 3, 2, 1, evaluations=3)
    assert np.diff(first.ended, prepend=0) == pytest.approx(np.diff(other.ended, prepend=0)[::-1])
    many = run_task(task, Random, evaluations=64, seed=3)
    lengths = np.log(np.diff(many.ended, prepend=0))
    assert lengths.std() == pytest.approx(0.5, rel=0.3)


def test_noise_is_learned_and_the_truth_is_scored() -> None:
    task = replace(grid_task(), evaluate=lambda codes: -ERRORS[codes @ np.array([8, 1])], truth=grid_task().evaluate)
    outcome, strategy = scripted(task, 7, 3, evaluations=2)
    assert [loss for _, loss, _ in strategy.told] == [-7, -3]
    assert outcome.scores.tolist() == [7, 3]


def test_equal_seeds_equal_runs_and_a_salt_makes_another() -> None:
    task = grid_task()
    runs = [run_task(task, Random, evaluations=20, seed=seed).codes.tolist() for seed in (1, 1, 2)]
    assert runs[0] == runs[1] != runs[2]
    salted = run_task(replace(task, salt=1), Random, evaluations=20, seed=0)
    assert salted.codes.tolist() == runs[0]
    assert salted.seed == 1


def test_random_search_is_as_good_as_drawing_without_replacement() -> None:
    """The expected lowest of n from 0..63 is (64 - n) / (n + 1)."""
    found = [run_task(grid_task(), Random, evaluations=16, seed=seed).at(15) for seed in range(60)]
    assert np.mean(found) == pytest.approx(49 / 16, abs=4 * np.std(found) / np.sqrt(60))


def test_times_are_of_every_candidate() -> None:
    outcome = run_task(grid_task(), Random, evaluations=30, seed=0)
    assert outcome.cpu_s.shape == (30,)
    assert (outcome.cpu_s > 0).all()
    assert outcome.ms_per_candidate(10, 20) == pytest.approx(1e3 * outcome.cpu_s[10:20].mean())


# --- tables


def test_parts_of_a_space_are_spaces() -> None:
    listed = CODES[::3]
    part = PartOf(SPACE, listed)
    check_space(part, np.random.default_rng(0))
    assert part.valid(CODES).tolist() == [place % 3 == 0 for place in range(64)]
    drawn = part.sample(2000, np.random.default_rng(1))
    assert len(np.unique(drawn, axis=0)) == len(listed)
    assert np.array_equal(part.features(listed), SPACE.features(listed))


def test_a_table_with_gaps_is_searched_whole_and_nothing_else_is() -> None:
    listed = CODES[5::7]
    task = table_task("gaps", SPACE, listed, ERRORS[5::7], Regret(0.0))
    for name in ("random", "nsga2", "local-search"):
        outcome = run_task(task, named_strategy(name), evaluations=len(listed), seed=0)
        assert np.isfinite(outcome.losses).all()
        assert outcome.at(len(listed)) == 5.0


def test_lookups_find_rows_and_know_what_they_lack() -> None:
    rows = Rows(SPACE.n_options, CODES[::2])
    assert rows.find(CODES[:5]).tolist() == [0, -1, 1, -1, 2]
    foresight = table_task("half", SPACE, CODES[::2], ERRORS[::2], Regret(0.0), known=(0,), limits=[9.0]).foresight
    assert foresight is not None
    foreseen = foresight(CODES[2:4])
    assert foreseen.losses[0, 0] == 2.0
    assert np.isnan(foreseen.losses[1, 0])
    assert foreseen.violations.tolist() == [0, np.inf]
    assert foresight.limits.tolist() == [9.0]
    assert foresight.prior_of == ()
    assert foreseen.priors.shape == (2, 0)


def test_tables_that_cannot_be_tasks_are_refused() -> None:
    with pytest.raises(DataError, match=r"\(0, 0\) more than once"):
        table_task("twice", SPACE, CODES[[0, 1, 0]], ERRORS[:3], Regret(0.0))
    with pytest.raises(DataError, match="row 1 has a loss that is not finite"):
        table_task("nan", SPACE, CODES[:2], np.array([[0.0], [np.nan]]), Regret(0.0))
    with pytest.raises(InputError, match="at most"):
        Rows(np.full(30, 9), np.zeros((1, 30), np.int64))
    merged = ListedSpace(Choice("only", ("a", "b")))
    merged.canonical = lambda codes: codes * 0  # type: ignore[method-assign]
    with pytest.raises(InputError, match="canonical"):
        table_task("merged", merged, np.array([[1]]), np.ones((1, 1)), Regret(0.0))


# --- races


def test_strategies_are_named_with_options() -> None:
    task = grid_task()
    made = named_strategy("evolution:population_size=8:sample_size=2")(task.space, 1, 0)
    assert made.options.population_size == 8  # type: ignore[attr-defined]
    assert named_strategy("nsga2:mutation_probability=0.25").options["mutation_probability"] == 0.25
    assert named_strategy("nsga2:mutation_probability=null").options["mutation_probability"] is None
    tpe = named_strategy("optuna-tpe:n_startup_trials=4")
    assert (tpe.options["sampler"], tpe.options["sampler_options"]) == ("tpe", {"n_startup_trials": 4})
    own = named_strategy("codesign.strategies.evolution:RegularizedEvolution:sample_size=3")
    assert own.plugin.__name__ == "RegularizedEvolution"
    assert own.options["sample_size"] == 3


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nsga", "did you mean 'nsga2'"),
        ("nsga2:population=3", "population"),
        ("nsga2:population_size=x", "population_size"),
        ("evolution:sample_size=2:huge", "'huge' is not an option"),
        ("evolution:sample_size=[", "is no value"),
    ],
)
def test_wrong_strategies_say_what_is_right(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        named_strategy(text)


def test_a_race_runs_everything_in_order_and_reports_progress() -> None:
    tasks = [replace(grid_task(), name=name) for name in ("one", "two")]
    seen: list[tuple[int, int]] = []
    outcomes = race(
        tasks,
        {"b": Random, "a": named_strategy("nsga2")},
        evaluations=6,
        seeds=range(2),
        workers=(1, 3),
        progress=lambda done, total, left_s: seen.append((done, total)),
    )
    expected = [(w, t, s, seed) for w in (1, 3) for t in ("one", "two") for s in "ba" for seed in (0, 1)]
    assert [(o.workers, o.task, o.strategy, o.seed) for o in outcomes] == expected
    assert seen == [(done, 16) for done in range(1, 17)]


@pytest.mark.slow
def test_processes_change_nothing() -> None:
    tasks, strategies = [grid_task()], {name: named_strategy(name) for name in ("random", "nsga2", "evolution")}
    alone, spread = (race(tasks, strategies, evaluations=20, seeds=range(3), jobs=jobs) for jobs in (0, 2))
    for here, there in zip(alone, spread, strict=True):
        assert np.array_equal(here.codes, there.codes)
        assert (here.strategy, here.seed) == (there.strategy, there.seed)
