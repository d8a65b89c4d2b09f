"""The honesty meter: what it reads from a run's trials, and what a user is told."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from itertools import count
from pathlib import Path

import numpy as np
import pytest

from codesign.assemble import Parts
from codesign.cli import main
from codesign.cost_only import CostOnly
from codesign.honesty import compare_with_random, from_plain, honesty_of, improvement_of, to_plain
from codesign.honesty_draw import draw_runs, is_cheap
from codesign.honesty_random import compare_runs
from codesign.honesty_shadow import SHADOW
from codesign.honesty_text import improvement_text, lines, ratio_text, verdict
from codesign.report_honesty import honesty_figure, honesty_html
from codesign.run import Run, open_run
from codesign.strategies.evolution import RegularizedEvolution
from codesign.strategies.random import Random
from codesign.strategies.strategy import FloatArray, Strategy
from tests.codesign.fakes import CheapCost, Grid, Quality
from tests.codesign.made_up_run import MadeUpRun
from tests.codesign.test_cli import run
from tests.codesign.test_study import OBJECTIVES

NAN = math.nan


# --- what the meter reads


def made_up(n: int = 60, gain: float = 0.0, n_drawn: int = 0, seed: int = 0, **more: object) -> MadeUpRun:
    """A run of two objectives; trials after the drawn ones are better by `gain`."""
    rng = np.random.default_rng(seed)
    better = np.where(np.arange(n) >= n_drawn, gain, 0.0)
    columns = {"accuracy": 0.5 + 0.1 * rng.random(n) + better / 10, "latency_ms@edge": 2 + rng.random(n) - better}
    return MadeUpRun(columns, **more)  # type: ignore[arg-type]


def mark_drawn(run: MadeUpRun, n_drawn: int, forecast: FloatArray | None = None) -> tuple[Run, Parts]:
    made, parts = run.make()
    with made.store._engine.begin() as connection:
        forecasts = {} if forecast is None else {"accuracy": forecast}
        made.store.notes.insert(connection, made.study_id, 0, forecasts, [SHADOW] * n_drawn)
    return made, parts


def told(run: MadeUpRun, n_drawn: int, forecast: FloatArray | None = None) -> list[str]:
    made, parts = mark_drawn(run, n_drawn, forecast)
    return lines(honesty_of(made, parts), parts.objectives.objectives)


def test_a_run_with_random_trials_is_compared_with_them() -> None:
    better, same, worse = (told(made_up(80, gain, 20), 20)[0] for gain in (1.0, 0.0, -1.0))
    assert better.startswith("beat random search: hypervolume 3.")
    assert "better than the 20 random ones (p = 0.00" in better
    assert better.endswith("beyond 20 draws the estimate is extrapolated")
    assert same.startswith("did NOT beat random search: ")
    assert worse.startswith("did NOT beat random search, it was worse: ")


def test_too_few_random_trials_are_not_compared_with() -> None:
    assert told(made_up(), 3)[0] == (
        "not compared with random search: not enough random trials to compare with (3, it takes 8); "
        "set search.shadow: 0.1"
    )
    assert "only 5 evaluations" in told(made_up(5), 0)[0]
    assert "60 of the 60 trials were drawn at random: this was random search so far" in told(made_up(), 60)[0]


def test_nothing_within_the_budgets_beats_nobody() -> None:
    assert told(made_up(budgets=["latency_ms@edge <= 0.1"]), 20)[:2] == [
        "did NOT beat random search: neither found a candidate within the budgets",
        "improved the front: none of 60 evaluations",
    ]


def test_one_objective_is_told_as_best_values() -> None:
    text = told(made_up(80, 1.0, 20, objectives=["+accuracy"]), 20)[0]
    assert "best accuracy 69.9" in text
    assert "%, what random search is estimated to reach, in 80 evaluations (95 %: " in text


def test_improvements_are_counted_over_evaluations_and_by_thirds() -> None:
    losses = np.array([[3.0, 3], [4, 4], [2, 4], [NAN, NAN], [3, 3], [1, 1], [1, 1], [2, 0.5], [9, 9]])
    found = improvement_of(losses, np.arange(10, 19))
    assert (found.n_evaluations, found.n_improved, found.last) == (9, 4, 17)
    assert found.thirds == (2 / 3, 1 / 3, 1 / 3)
    assert improvement_text(found) == (
        "improved the front: 4 of 9 evaluations (44 %; by thirds of the run 67 %, 33 %, 33 %), last by trial 17"
    )


def test_screened_and_running_trials_are_no_evaluations_and_failed_ones_are() -> None:
    run, parts = made_up(
        30, screened=[0, 1], running=[29], failed={5: "crash"}, budgets=["latency_ms@edge <= 2.5"]
    ).make()
    assert honesty_of(run, parts).improvement.n_evaluations == 27


def test_forecasts_are_rated_overall_later_and_on_random_trials() -> None:
    run = made_up(90)
    truth = np.asarray(run.columns["accuracy"])
    forecast = np.where(np.arange(90) < 45, truth, truth[::-1])
    forecast[80:] = NAN
    made, parts = mark_drawn(run, 20, forecast)
    (ranking,) = honesty_of(made, parts).rankings
    assert ranking.metric == "accuracy"
    assert ranking.overall.n == 80
    assert (ranking.later.n, ranking.drawn.n, ranking.drawn.tau) == (40, 20, 1.0)
    text = told(run, 20, forecast)[2]
    assert text.startswith("forecasts of accuracy: rank correlation 0.")
    assert "later half" in text
    assert ", no better than chance; drawn at random 1.00" in text
    assert told(run, 20, -truth)[2].count("WORSE than chance") == 3
    assert "cannot be rated" in told(run, 20, np.ones(90))[2]
    assert "5 with a result; it takes 8" in told(run, 20, np.where(np.arange(90) < 5, truth, NAN))[2]


def test_results_that_the_run_had_seen_are_no_test_of_a_forecast() -> None:
    accuracy = np.linspace(0.5, 0.9, 20)
    accuracy[10:] = accuracy[3]
    run = MadeUpRun({"accuracy": accuracy, "latency_ms@edge": np.arange(20.0)}, reused=list(range(8, 20)))
    made, parts = mark_drawn(run, 0, accuracy)
    (ranking,) = honesty_of(made, parts).rankings
    assert ranking.overall.n == 10  # trials 8 and 9 were reused from elsewhere, those from 10 on repeat trial 3


# --- the report


@pytest.mark.parametrize("objectives", [("+accuracy", "latency_ms@edge"), ("+accuracy",), ("latency_ms@edge",)])
def test_the_report_draws_random_search_below_the_run(objectives: tuple[str, ...]) -> None:
    made, parts = mark_drawn(made_up(80, 1.0, 20, objectives=objectives), 20, np.linspace(0, 1, 80))
    found = honesty_of(made, parts)
    figure = honesty_figure(found, parts.objectives.objectives)
    assert figure is not None
    lines_by_name = {trace["name"]: trace for trace in figure["data"] if "name" in trace}
    own, median = lines_by_name["this run"], lines_by_name["the 20 random draws, median"]
    assert own["x"][-1] == 80
    assert max(median["x"]) <= 20
    low, high = figure["layout"]["yaxis"]["range"]
    assert low <= own["y"][-1] <= high
    best = min(made.store.columns(1, ["latency_ms@edge"])["latency_ms@edge"])
    if objectives == ("latency_ms@edge",):
        assert own["y"][-1] == pytest.approx(best, rel=1e-5)
    json.dumps(figure, allow_nan=False)
    html = honesty_html(found, parts.objectives.objectives)
    assert html.startswith("<p><strong>Beat random search: ")
    assert ("Kendall" in html) == ("+accuracy" in objectives)
    assert html.count("<table>") == ("+accuracy" in objectives)


def test_the_report_warns_of_a_strategy_that_did_not_beat_random_search() -> None:
    made, parts = mark_drawn(made_up(80, 0.0, 20), 20)
    assert honesty_html(honesty_of(made, parts), parts.objectives.objectives).startswith(
        "<p class='notice'><strong>Did NOT beat random search: "
    )
    made, parts = made_up().make()
    assert honesty_figure(honesty_of(made, parts), parts.objectives.objectives) is None


# --- random searches beside cheap runs


@pytest.fixture(scope="module")
def array(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a cost-only job and its finished run: the fields of a systolic array, small beside ResNet-18."""
    folder = tmp_path_factory.mktemp("array")
    (folder / "job.yaml").write_text(
        "name: array\nspace: {type: fixed, network: resnet18, image_size: 32}\n"
        "targets: {edge: {type: systolic, preset: edge-sizing, search: true}}\n"
        "objectives: {minimize: [latency_ms@edge, area_mm2@edge]}\n"
        "search: {strategy: {type: evolution, population_size: 20}, trials: 120, batch: 10}\nevaluate: {type: cost}\n"
    )
    with pytest.raises(SystemExit) as caught:
        main(["run", str(folder / "job.yaml"), "--out", str(folder / "out")])
    assert caught.value.code == 0
    return folder


def reading_of(capsys: pytest.CaptureFixture[str], folder: Path) -> dict[str, object]:
    _, out, _ = run(capsys, "front", str(folder), "--json")
    (found,) = json.loads(out)["honesty"]
    assert isinstance(found, dict)
    return found


@pytest.mark.slow
def test_a_cheap_run_is_compared_with_random_searches_outside_its_ledger(
    array: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = reading_of(capsys, array / "out")
    random = found["random_search"]
    assert isinstance(random, dict)
    assert random["n_evaluations"] == 120
    assert random["p"] <= 1
    assert random["own"] > 0
    assert random["curve"]["counts"][-1] == 120
    opened = open_run(array / "out")
    assert len(opened.store.ledger(opened.study_id)) == 120
    assert found["n_drawn"] == 20  # evolution's first generation
    assert found["rankings"] == []
    report = (array / "out/report.html").read_text()
    assert "Was the strategy worth it?" in report
    assert "honesty-plot" in report
    status, out, _ = run(capsys, "show", str(array / "out"), "0", "--json")
    assert status == 0
    assert json.loads(out)["forecasts"] == {}
    assert json.loads(out)["drawn"] == "random"
    assert "drawn at random\n" in run(capsys, "show", str(array / "out"), "0")[1]


@pytest.mark.slow
def test_the_meter_is_of_whole_runs(array: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for option in (("--upto", "10"), ("--where", "area_mm2@edge <= 3")):
        _, out, _ = run(capsys, "front", str(array / "out"), "--json", *option)
        assert "honesty" not in json.loads(out)


@pytest.mark.slow
def test_a_run_under_way_says_that_its_comparison_is_yet_to_come(array: Path) -> None:
    opened = open_run(array / "out")
    parts = opened.parts()
    kept = opened.store.notes.comparison(opened.study_id)
    opened.store.notes.keep_comparison(opened.study_id, kept.replace('"n_evaluations": 120', '"n_evaluations": 60'))
    found = honesty_of(opened, parts)
    assert found.comparison is None
    assert verdict(found, parts.objectives.objectives).endswith("random searches are made when the run ends")
    compare_with_random(opened, parts)
    again = honesty_of(opened, parts).comparison
    assert again is not None
    assert again.n_evaluations == 120


def grid_parts(space: Grid) -> Parts:
    """A cost-only search of a grid, as far as random searches beside it need one."""
    _, parts = made_up().make()
    evaluator = CostOnly((CheapCost(), Quality(options=space.options)))
    return replace(parts, space=space, screens=(), evaluator=evaluator, objectives=OBJECTIVES)


def test_the_same_is_drawn_whatever_the_clock_says_only_less_of_it() -> None:
    parts = grid_parts(Grid())
    ticks = count(0.0, 0.1)
    patient, late = draw_runs(parts, 30, 1, clock=lambda: 0.0), draw_runs(parts, 30, 1, clock=lambda: next(ticks))
    assert len(patient.runs) == 200
    assert 0 < len(late.runs) < 60
    assert len(late.draws) < len(patient.draws) == 6000
    np.testing.assert_array_equal(late.draws, patient.draws[: len(late.draws)])
    assert all(len(losses) == 30 for losses in (*patient.runs, *late.runs))


def test_only_evaluations_count_and_a_cheap_budget_spares_them() -> None:
    """As a screen, the budget rejects before anything is evaluated; as a part of the evaluation, after."""
    after = grid_parts(Grid())
    before = replace(after, screens=(CheapCost(),), evaluator=(quality := Quality()))
    quality.is_instant = True  # type: ignore[attr-defined]
    lost = np.isnan(draw_runs(after, 40, 0).draws).any(axis=1)
    assert 0.1 < lost.mean() < 0.9
    assert not np.isnan(draw_runs(before, 40, 0).draws).any()
    assert all(sum(code) <= 24 for code in quality.evaluated)


def test_random_runs_hold_no_candidate_twice_and_end_with_the_space() -> None:
    small = grid_parts(Grid(2, 3))
    assert is_cheap(small)
    found = draw_runs(small, 50, 0)
    assert {len(losses) for losses in found.runs} == {9}


def losses_of(strategy: Strategy, parts: Parts, n: int) -> FloatArray:
    """What a strategy finds in n evaluations, as the meter sees it, shape (n, m)."""
    seen: dict[bytes, FloatArray] = {}
    while len(seen) < n:
        codes = strategy.ask(1)
        metrics = parts.evaluator.evaluate(codes).metrics
        losses, violations = parts.objectives.losses(metrics), parts.objectives.violations(metrics)
        strategy.tell(codes, losses, violations)
        seen.setdefault(codes.tobytes(), np.where(violations[:, None] > 0, NAN, losses)[0])
    return np.array(list(seen.values()))


@pytest.mark.slow
def test_evolution_beats_random_search_and_random_search_does_not() -> None:
    parts = grid_parts(Grid())
    runs = draw_runs(parts, 200, 0, clock=lambda: 0.0).runs[:60]
    evolved = [RegularizedEvolution(Grid(), 2, seed, population_size=30, sample_size=10) for seed in range(5)]
    assert sum(compare_runs(losses_of(one, parts, 200), runs).beats_random for one in evolved) >= 4
    random = [compare_runs(losses_of(Random(Grid(), 2, seed), parts, 200), runs) for seed in range(20)]
    assert sum(found.beats_random for found in random) <= 4  # 1 of 20 is to be expected


@pytest.mark.parametrize("measures", [True, False])
def test_only_what_is_arithmetic_or_says_so_is_evaluated_besides(measures: bool) -> None:
    _, parts = made_up(is_cost_only=True).make()
    quality = Quality(metrics=("accuracy", "latency_ms@edge"))
    assert not is_cheap(replace(parts, evaluator=quality))
    assert not is_cheap(parts)  # it lacks the metrics of the objectives
    instant = Quality(metrics=("accuracy", "latency_ms@edge"))
    instant.is_instant = True  # type: ignore[attr-defined]
    if measures:
        instant.intervals = None  # type: ignore[attr-defined]
    assert is_cheap(replace(parts, evaluator=CostOnly((instant,)))) is not measures
    assert is_cheap(replace(parts, evaluator=instant))


@pytest.mark.parametrize(
    ("ratio", "text"),
    [(1.2345, "1.23"), (0.5, "0.50"), (1.0, "1.00"), (1.0042, "1.004"), (0.99931, "0.9993"), (2.0, "2.00")],
)
def test_a_ratio_has_the_digits_that_tell_it_from_one(ratio: float, text: str) -> None:
    assert ratio_text(ratio) == text


def test_a_comparison_survives_json() -> None:
    made, parts = mark_drawn(made_up(80, 1.0, 20), 20)
    found = honesty_of(made, parts).comparison
    assert found is not None
    again = from_plain(json.loads(json.dumps(to_plain(found))))
    for name in ("counts", "own", "low", "median", "high"):
        np.testing.assert_array_equal(getattr(again.curve, name), getattr(found.curve, name))
    assert replace(again, curve=found.curve, reference=found.reference) == replace(found)
