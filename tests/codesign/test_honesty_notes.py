"""What a study notes for the honesty meter: forecasts, and which trials were drawn at random; kills change neither."""

from __future__ import annotations

import math
from itertools import count
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st

from codesign.drive_serial import drive_serial
from codesign.errors import InputError
from codesign.honesty_shadow import RANDOM, SHADOW, Shadow
from codesign.job import parse_job
from codesign.store import Store
from codesign.strategies.evolution import RegularizedEvolution
from codesign.strategies.random import Random
from codesign.strategies.strategy import FloatArray, Strategy
from codesign.study import Study
from search_spaces.ops import IntArray
from tests.codesign.fakes import CheapCost, Grid, Quality
from tests.codesign.test_study import OBJECTIVES

NAN = math.nan


class Knowing(RegularizedEvolution):
    """Forecasts the accuracy well and the cost absurdly, once it has been told anything."""

    is_told = False

    def forecast(self, codes: IntArray) -> FloatArray | None:
        if not self.is_told:
            return None
        noise = np.cos(codes @ np.arange(1.0, codes.shape[1] + 1)) / 20
        return np.stack([-1 + np.mean((codes - 3.5) ** 2, axis=1) / 3.5**2 + noise, np.full(len(codes), -7.0)], axis=1)

    def tell(self, codes: IntArray, losses: FloatArray, violations: FloatArray) -> None:
        super().tell(codes, losses, violations)
        self.is_told = True

    def load_state_dict(self, state: dict[str, object]) -> None:
        super().load_state_dict(state)
        self.is_told = len(self._state.population) > 0


class Drawing(Random):
    """Random search that says so."""

    draws_at_random = True


class Renewed(Knowing):
    """Takes over nothing of a state, not even whose it is."""

    def load_state_dict(self, state: dict[str, object]) -> None:
        self.is_told = True


class Plain:
    """A strategy with the four methods that one must have, and no others."""

    def __init__(self, space: Grid, n_objectives: int, seed: int) -> None:
        inner = Random(space, n_objectives, seed)
        self.ask, self.tell, self.state_dict = inner.ask, inner.tell, inner.state_dict
        self.load_state_dict = inner.load_state_dict


def make_study(
    path: Path,
    strategy: type[Strategy] = Knowing,
    shadow: float = 0.0,
    trials: int = 40,
    batch: int = 3,
    in_flight: int = 2,
) -> Study:
    store = Store(f"sqlite:///{path}")
    study_id = store.study_id("s") if store.studies() else store.add_study("s", "{}")
    made = strategy(Grid(), OBJECTIVES.n, 0)  # type: ignore[call-arg]
    return Study(
        Grid(), made, OBJECTIVES, store, study_id, Quality(), [CheapCost()],
        trials=trials, batch=batch, in_flight=in_flight, shadow=Shadow(shadow, 3),
    )  # fmt: skip


def noted(study: Study) -> tuple[object, ...]:
    """Everything in the ledger but the times, forecasts and origins included."""
    notes = study.store.notes
    forecasts = {name: [part.tolist() for part in found] for name, found in notes.forecasts(study.id).items()}
    trials = [(t.number, dict(t.genotype), dict(t.metrics), t.violation) for t in study.store.trials(study.id)]
    return trials, forecasts, notes.drawn(study.id).tolist()


# --- what a study notes


def test_forecasts_are_of_the_unknown_metric_in_its_own_sign_and_made_before_the_result(tmp_path: Path) -> None:
    study = make_study(tmp_path / "a.db")
    drive_serial(study, Quality())
    forecasts = study.store.notes.forecasts(study.id)
    assert list(forecasts) == ["accuracy"]  # the cost is known from a screen
    numbers, values = forecasts["accuracy"]
    evaluated, _ = study.store.evaluated(study.id)
    assert set(numbers) < set(evaluated)
    assert 0 < len(evaluated) - len(numbers) <= 6  # two rounds are asked for before the first is told
    trials = {trial.number: trial for trial in study.store.trials(study.id)}
    for number, value in zip(numbers.tolist(), values.tolist(), strict=True):
        assert value == pytest.approx(trials[number].metrics["accuracy"], abs=0.051)
        assert study.store.notes.forecast_of(study.id, number) == {"accuracy": value}


def test_a_strategy_without_a_model_costs_the_store_nothing(tmp_path: Path) -> None:
    study = make_study(tmp_path / "a.db", Plain)  # type: ignore[arg-type]
    drive_serial(study, Quality())
    with sa.create_engine(study.store.url).connect() as connection:
        assert {"forecasts", "origins", "comparisons"}.isdisjoint(sa.inspect(connection).get_table_names())
    assert study.store.notes.forecasts(study.id) == {}
    assert study.store.notes.drawn(study.id).tolist() == []
    assert study.store.notes.comparison(study.id) == ""
    assert study.store.notes.origin_of(study.id, 0) == ""


@settings(max_examples=30, deadline=None)
@given(st.floats(0, 0.9), st.lists(st.integers(1, 9), min_size=1, max_size=40))
def test_the_shadow_has_its_share_however_the_rounds_fall(share: float, rounds: list[int]) -> None:
    shadow = Shadow(share)
    asked = drawn = 0
    for wanted in rounds:
        due = shadow.n_due(asked, wanted)
        assert 0 <= due <= wanted
        asked, drawn = asked + wanted, drawn + due
        assert drawn == pytest.approx(share * asked, abs=1 + 1e-6)


def test_shadow_trials_are_evenly_spread_marked_and_told(tmp_path: Path) -> None:
    study = make_study(tmp_path / "a.db", shadow=0.25, batch=4)
    told: list[IntArray] = []
    tell = study._strategy.tell

    def note(codes: IntArray, losses: FloatArray, violations: FloatArray) -> None:
        told.append(codes)
        tell(codes, losses, violations)

    study._strategy.tell = note  # type: ignore[method-assign]
    drive_serial(study, Quality())
    evaluated, _ = study.store.evaluated(study.id)
    drawn = np.flatnonzero([study.store.notes.origin_of(study.id, number) == SHADOW for number in evaluated.tolist()])
    assert drawn.tolist() == list(range(0, 40, 4))  # one in each round of four
    assert study.store.notes.origin_of(study.id, int(evaluated[-1])) == ""
    codes = study.store.codes(study.id, evaluated[drawn[:5]].tolist())
    assert {tuple(code) for code in codes} <= {tuple(code) for part in told for code in part}


@pytest.mark.slow
def test_the_shadow_is_drawn_from_the_space_within_the_budgets_alone(tmp_path: Path) -> None:
    """Shadow draws do not depend on the strategy, and their mean is that of random search, not of an evolved run."""
    seen = []
    for name, strategy in (("a", Knowing), ("b", Random)):
        study = make_study(tmp_path / f"{name}.db", strategy, shadow=0.5, trials=60, batch=2)
        drive_serial(study, Quality())
        evaluated, _ = study.store.evaluated(study.id)
        drawn = [number for number in evaluated.tolist() if study.store.notes.origin_of(study.id, number) == SHADOW]
        seen.append({tuple(code) for code in study.store.codes(study.id, drawn)})
        assert len(seen[-1]) == 30
    assert len(seen[0] & seen[1]) >= 27  # but for what the strategy happened to propose before


def test_a_strategy_that_draws_at_random_is_noted(tmp_path: Path) -> None:
    study = make_study(tmp_path / "a.db", Drawing)
    drive_serial(study, Quality())
    assert study.store.notes.drawn(study.id).tolist() == list(range(study.n_proposed))
    assert study.store.notes.origin_of(study.id, 0) == RANDOM


@pytest.mark.parametrize("cut", [1, 4, 7])
def test_a_run_that_is_killed_and_resumed_has_the_same_ledger_and_notes(tmp_path: Path, cut: int) -> None:
    whole = make_study(tmp_path / "whole.db", shadow=0.3, trials=24)
    drive_serial(whole, Quality())
    broken = make_study(tmp_path / "broken.db", shadow=0.3, trials=24)
    for n in count():
        batch = broken.ask()
        if batch is None:
            break
        if n % cut == 0:  # this batch is lost with the process
            broken.store.close()
            broken = make_study(tmp_path / "broken.db", shadow=0.3, trials=24)
            batch = broken.ask()
            assert batch is not None
        broken.finish(batch.numbers, Quality().evaluate(batch.codes))
    assert broken.is_done
    assert noted(broken) == noted(whole)
    assert len(noted(whole)[1]["accuracy"][0]) > 10  # type: ignore[index]


def test_a_forecast_of_another_shape_is_refused(tmp_path: Path) -> None:
    class Flat(RegularizedEvolution):
        def forecast(self, codes: IntArray) -> FloatArray:
            return np.zeros(len(codes))

    with pytest.raises(ValueError, match=r"forecast has shape \(\d,\), expected \(\d, 2\)"):
        make_study(tmp_path / "a.db", Flat).ask()


def test_a_store_of_before_is_read_and_continued(tmp_path: Path) -> None:
    study = make_study(tmp_path / "a.db", Plain, trials=20)  # type: ignore[arg-type]
    drive_serial(study, Quality())
    study.store.close()
    old = Store(f"sqlite:///{tmp_path / 'a.db'}", create=False)
    assert old.notes.forecasts(1) == {}
    longer = Study(Grid(), Renewed(Grid(), 2, 0), OBJECTIVES, old, 1, Quality(), [CheapCost()], trials=30, batch=3)
    drive_serial(longer, Quality())
    assert len(old.notes.forecasts(1)["accuracy"][0]) == 10


@pytest.mark.parametrize("share", [-0.1, 0.95, "much"])
def test_the_shadow_is_a_share(share: object) -> None:
    with pytest.raises(InputError, match="shadow"):
        parse_job({"name": "a", "space": "nasnet", "objectives": {"minimize": "macs"}, "search": {"shadow": share}})
