"""No candidate over a cheap budget is ever trained, whatever is searched, by whom, and however often it is cut off."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from codesign.drive_serial import drive_serial
from codesign.expressions import parse_budget
from codesign.objectives import Objective, Objectives
from codesign.registry import lookup
from codesign.store import Store
from codesign.strategies.strategy import StateDict, Strategy
from codesign.study import MAX_OVER_BUDGET, Study
from codesign.trial import Evaluation, State
from search_spaces.ops import IntArray
from tests.codesign.fakes import CheapCost, Grid, Quality

STRATEGIES = (
    "random", "evolution", "local-search", "nsga2", "random-walk", "genetic", "ant-colony", "annealing",
)  # fmt: skip
BUDGETS = st.lists(
    st.tuples(st.sampled_from(["cost <=", "cost <", "cost >=", "cost >", "spread <="]), st.integers(0, 12)),
    min_size=1,
    max_size=3,
)


@dataclass
class Spread(CheapCost):
    """A second screen: `spread` is the largest decision less the smallest."""

    metrics: tuple[str, ...] = ("spread",)

    def evaluate(self, codes: IntArray) -> Evaluation:
        return Evaluation({"spread": np.ptp(codes, axis=1).astype(float)}, [""] * len(codes))


@dataclass
class Hostile:
    """Proposes what it was told to: one over the budget forever, or ever another one."""

    width: int
    is_stuck: bool
    n_asked: int = 0
    told: list[float] = field(default_factory=list)

    def ask(self, n: int) -> IntArray:
        codes = np.full((n, self.width), 7, dtype=np.int64)
        if not self.is_stuck:
            index = self.n_asked + np.arange(n)
            codes[:, -5:] = np.stack(np.unravel_index(index % 8**5, (8,) * 5), axis=1)
        self.n_asked += n
        return codes

    def tell(self, codes: IntArray, losses: object, violations: object) -> None:
        self.told.extend(np.asarray(violations).tolist())

    def state_dict(self) -> StateDict:
        return {"n_asked": self.n_asked}

    def load_state_dict(self, state: StateDict) -> None:
        self.n_asked = state["n_asked"]


def study_of(
    path: Path, strategy: Strategy, space: Grid, budgets: list[str], trials: int, batch: int, in_flight: int = 1
) -> Study:
    store = Store(f"sqlite:///{path}")
    known = {str(study["name"]) for study in store.studies()}
    study_id = store.study_id("study") if "study" in known else store.add_study("study", "{}")
    objectives = Objectives(
        (Objective("accuracy", maximize=True), Objective("cost")), tuple(parse_budget(text) for text in budgets)
    )
    return Study(space, strategy, objectives, store, study_id, Quality(), [CheapCost(), Spread()],
                 trials=trials, batch=batch, in_flight=in_flight)  # fmt: skip


def keeps(code: tuple[int, ...], budgets: list[str]) -> bool:
    names = {"cost": sum(code), "spread": max(code) - min(code)}
    return all(eval(text, {}, names) for text in budgets)  # a budget is Python too


@pytest.mark.slow
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.filter_too_much])
@given(
    name=st.sampled_from(STRATEGIES),
    chosen=BUDGETS,
    batch=st.integers(1, 6),
    in_flight=st.integers(1, 3),
    steps=st.integers(2, 6),
    seed=st.integers(0, 5),
)
def test_no_evaluation_ever_sees_a_candidate_over_a_cheap_budget(
    name: str, chosen: list[tuple[str, int]], batch: int, in_flight: int, steps: int, seed: int
) -> None:
    """Cut off after a few steps, again and again; the space is small enough to be searched to its end."""
    budgets = [f"{left} {right}" for left, right in chosen]
    assume(sum(keeps(code, budgets) for code in product(range(6), repeat=3)) >= 20)  # the search need not run dry
    space = Grid(width=3, options=6)
    quality = Quality(options=6)
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(400):
            strategy = lookup("strategies", name)(space, 2, seed)
            study = study_of(Path(folder) / "a.db", strategy, space, budgets, 8, batch, in_flight)
            for _ in range(steps):
                found = study.ask()
                if found is None:
                    break
                study.finish(found.numbers, quality.evaluate(found.codes))
            is_done = study.is_done
            trials = study.store.trials(study.id) if is_done else []
            study.store.close()
            if is_done:
                break
    assert is_done
    assert all(keeps(code, budgets) for code in quality.evaluated)
    for trial in trials:
        code: tuple[int, ...] = tuple(trial.genotype["x"])  # type: ignore[arg-type]
        assert (trial.violation == 0) == keeps(code, budgets)
        assert ("accuracy" in trial.metrics) == keeps(code, budgets)
        assert trial.state is State.MEASURED


@pytest.mark.parametrize("is_stuck", [True, False])
def test_a_strategy_that_proposes_nothing_within_the_budgets_ends(is_stuck: bool, tmp_path: Path) -> None:
    space, quality = Grid(width=6, options=8), Quality()
    hostile = Hostile(6, is_stuck)
    study = study_of(tmp_path / "a.db", hostile, space, ["cost <= 3"], 10, 2)  # type: ignore[arg-type]
    drive_serial(study, quality)
    assert study.is_exhausted
    assert study.is_done
    assert quality.evaluated == []
    assert study.n_finished == 0
    assert 0 < study.n_proposed <= MAX_OVER_BUDGET + 256
    assert min(hostile.told) > 0, "it was told of everything that was over the budget"
    again = study_of(tmp_path / "a.db", Hostile(6, is_stuck), space, ["cost <= 3"], 10, 2)  # type: ignore[arg-type]
    assert again.is_done, "a run that ended does not begin to search again"
