"""Budgets before a run: the verdict, how it was reached, what is said, and what the command line does with it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import yaml

from codesign.assemble import Parts, assemble
from codesign.cli import main
from codesign.errors import BudgetError
from codesign.expressions import parse_budget
from codesign.feasible import find_feasible, look_into, require_feasible
from codesign.feasible_problem import Problem, problem_of
from codesign.feasible_result import Feasibility, Method, Verdict
from codesign.feasible_search import Seen, descend, distinct_codes
from codesign.feasible_text import lines, note, refusal
from codesign.job import parse_job
from codesign.testing.strategies import ListedSpace, MixedSpace, SortedSpace
from codesign.trial import Evaluation, Evaluator
from search_spaces.ops import IntArray
from search_spaces.space import Choice, SearchSpace
from tests.codesign.fakes import Grid

DIGITS: dict[str, object] = {
    "name": "digits",
    "space": {"type": "nasnet", "blocks": 3, "cells": 1, "channels": [1, 2, 4, 8]},
    "targets": {"edge": {"type": "systolic", "preset": "edge-16x16"}},
    "objectives": {"maximize": "accuracy", "minimize": "params"},
}
PAIRS: dict[str, object] = {
    "name": "pairs",
    "space": {"type": "nasnet", "blocks": 1, "cells": 1, "channels": 4, "operations": ["sep3x3"]},
    "targets": {
        "edge": {"type": "systolic", "preset": "edge-16x16", "search": {"rows": [4, 8, 16], "columns": [4, 8, 16]}}
    },
    "objectives": {"minimize": ["latency_ms@edge", "area_mm2@edge"]},
    "evaluate": "cost",
}


def parts_of(base: dict[str, object], *budgets: str, **changes: object) -> Parts:
    return assemble(parse_job({**base, "budgets": list(budgets), **changes}), Path("unused"), Path())


@dataclass
class Formula(Evaluator):
    """Metrics that are formulas of the codes; a candidate whose first two decisions are equal cannot work."""

    formulas: dict[str, Callable[[IntArray], IntArray]]
    fails: bool = False
    metrics: tuple[str, ...] = ("total", "spread")

    def evaluate(self, codes: IntArray) -> Evaluation:
        failed = (codes[:, 0] == codes[:, 1]) & self.fails
        metrics = {name: np.where(failed, np.nan, formula(codes)) for name, formula in self.formulas.items()}
        return Evaluation(metrics, ["equal" if bad else "" for bad in failed])


def total(codes: IntArray) -> IntArray:
    return np.asarray(codes.sum(axis=1))


def spread(codes: IntArray) -> IntArray:
    return np.asarray(np.ptp(codes, axis=1))


def made_up(space: SearchSpace, *budgets: str, fails: bool = False) -> Problem:
    formula = Formula({"total": total, "spread": spread}, fails)
    return Problem(space, tuple(parse_budget(text) for text in budgets), (), (formula,), None)


@pytest.mark.parametrize("space", [MixedSpace(), SortedSpace(), ListedSpace(Choice("only", ("one",))), Grid(3, 4)])
def test_a_space_is_listed_whole_and_each_candidate_once(space: SearchSpace) -> None:
    index = np.unravel_index(np.arange(space.size), tuple(space.n_options.tolist()))
    every = np.stack(index, axis=1)
    every = every[space.valid(every)]
    expected = {tuple(row) for row in space.canonical(every).tolist()}
    codes = distinct_codes(space)
    assert {tuple(row) for row in codes.tolist()} == expected
    assert len(codes) == len(expected)


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize(
    ("budgets", "is_feasible"),
    [
        (("total <= 7",), True),
        (("total <= 1", "spread >= 4"), False),
        (("total <= -1",), False),
        (("total < 5", "spread > 2"), True),
    ],
)
def test_a_listed_space_is_judged_as_by_hand(budgets: tuple[str, ...], is_feasible: bool, fails: bool) -> None:
    problem = made_up(Grid(4, 6), *budgets, fails=fails)
    found = look_into(problem, 0)
    codes = distinct_codes(problem.space)
    works = np.full(len(codes), True) if not fails else codes[:, 0] != codes[:, 1]
    names = {"total": total(codes), "spread": spread(codes)}
    within = works & np.all([eval(text, {}, names) for text in budgets], axis=0)  # a budget is Python too
    assert (found.verdict is Verdict.FEASIBLE) is is_feasible is bool(within.any())
    assert (found.method, found.n_candidates, found.n_within) == (Method.LISTED, len(codes), int(within.sum()))
    if is_feasible:
        assert found.interval == (found.share, found.share) == (within.mean(), within.mean())
        assert found.witness is not None
        code = problem.space.encode(found.witness)
        assert within[(codes == code).all(axis=1)].all()
        assert found.witness_metrics == {
            b.metric: float(names[b.metric][(codes == code).all(axis=1)][0]) for b in problem.budgets
        }
    else:
        assert found.verdict is Verdict.PROVEN
        assert found.conflicts


def test_a_large_space_is_sampled_with_an_interval_that_holds_the_truth() -> None:
    problem = made_up(Grid(9, 9), "total <= 30")  # 387 million codes
    found = look_into(problem, 0)
    ways = np.zeros(1)
    ways[0] = 1
    for _ in range(9):
        ways = np.convolve(ways, np.ones(9))
    share = ways[:31].sum() / 9**9
    assert (found.verdict, found.method) == (Verdict.FEASIBLE, Method.SAMPLED)
    assert found.interval[0] <= share <= found.interval[1]
    assert found.n_drawn == 1_024
    assert note(found).startswith(f"about {100 * found.share:.3g} % of the candidates meet the budgets (95 %: ")


def test_what_no_sample_holds_is_found_downhill() -> None:
    found = look_into(made_up(Grid(9, 9), "total <= 0"), 0)
    assert found.verdict is Verdict.FEASIBLE
    assert found.witness == {"x": [0] * 9}
    assert found.n_within == 0
    assert note(found).startswith("fewer than 0.36 % of the candidates meet the budgets (95 %: none of 1,024 drawn)")


def test_what_is_neither_found_nor_excluded_is_unknown_with_an_interval() -> None:
    found = look_into(made_up(Grid(9, 9), "total <= 4", "spread >= 7"), 0)
    assert (found.verdict, found.method) == (Verdict.UNKNOWN, Method.SAMPLED)
    assert found.n_drawn == 20_000
    assert found.interval[0] == 0
    assert found.interval[1] == pytest.approx(1 - 0.025 ** (1 / 20_000))
    assert [[b.text for b in conflict] for conflict in found.conflicts] == [["total <= 4", "spread >= 7"]]
    assert [item.text for item in found.relaxations] == ["total <= 7", "spread >= 4"], "the descents reach the best"
    assert all(np.isnan(item.least) for item in found.relaxations)
    text = refusal(found)
    assert "no proof: 95 % sure that fewer than 0.018 % do" in text
    assert "search.unproven_budgets=try" in text
    assert "total <= 4 and spread >= 7 were never met together, each alone can" in text


@pytest.mark.slow
def test_the_same_seed_finds_the_same() -> None:
    problem = made_up(Grid(9, 9), "total <= 4", "spread >= 5")
    first, second = (look_into(problem, 3) for _ in range(2))
    assert first.to_dict() | {"seconds": 0} == second.to_dict() | {"seconds": 0}


def test_a_descent_ends_where_it_has_nothing_to_begin_with() -> None:
    problem = made_up(Grid(9, 9), "total <= 4")
    empty = Seen(np.zeros((0, 9), np.int64), np.zeros((0, 1)))
    rng = np.random.default_rng(0)
    assert len(descend(problem, lambda values: values[:, 0], empty, rng, 8, 3, np.inf)) == 0


def test_a_network_budget_below_the_floor_is_proven_impossible_without_listing() -> None:
    found = find_feasible(parts_of(DIGITS, "params <= 10", "macs <= 1M"), 0)
    assert (found.verdict, found.method) == (Verdict.PROVEN, Method.BOUNDS)
    assert [[b.text for b in conflict] for conflict in found.conflicts] == [["params <= 10"]]
    relaxed = found.relaxations[0]
    assert relaxed.least <= relaxed.value < 2 * relaxed.least
    assert found.relaxations[1].is_useless
    text = refusal(found)
    assert text.startswith("budgets: none of 1.9e+21 candidates meets them (proven by bounds): params <= 10: the stem,")
    assert f"{relaxed.text} can be met with the others kept" in text
    assert text.endswith("relax a budget or widen the space")
    assert "\n" not in text
    again = find_feasible(parts_of(DIGITS, relaxed.text, "macs <= 1M"), 0)
    assert again.verdict is Verdict.FEASIBLE, "the relaxation can be pasted"


def test_a_joint_space_is_listed_and_its_conflict_named() -> None:
    alone = [find_feasible(parts_of(PAIRS, text), 0) for text in ("latency_ms@edge <= 1", "area_mm2@edge <= 100")]
    least = {}
    for found in alone:
        assert found.n_within == found.n_candidates
    listed = problem_of(parts_of(PAIRS, "latency_ms@edge <= 1", "area_mm2@edge <= 100"))
    values = listed.values(distinct_codes(listed.space))
    least = {budget.metric: value for budget, value in zip(listed.budgets, values.min(axis=0).tolist(), strict=True)}
    budgets = [f"{metric} <= {value * 1.05:.6g}" for metric, value in least.items()]
    found = find_feasible(parts_of(PAIRS, *budgets), 0)
    assert (found.verdict, found.method) == (Verdict.PROVEN, Method.LISTED)
    assert [[b.text for b in conflict] for conflict in found.conflicts] == [budgets]
    assert f"{budgets[0]} and {budgets[1]} cannot be met together, each alone can" in refusal(found)
    assert found.together is not None
    assert find_feasible(parts_of(PAIRS, *found.together.texts), 0).verdict is Verdict.FEASIBLE
    for i, item in enumerate(found.relaxations):
        changed = [item.text if j == i else text for j, text in enumerate(budgets)]
        assert find_feasible(parts_of(PAIRS, *changed), 0).verdict is Verdict.FEASIBLE


def test_budgets_that_only_training_or_measuring_tells_are_named() -> None:
    parts = parts_of(DIGITS, "accuracy >= 0.9", "latency_ms@cpu <= 3", "params <= 60k",
                     targets={"cpu": {"type": "onnxruntime"}})  # fmt: skip
    found = find_feasible(parts, 0)
    assert [budget.text for budget in found.unchecked] == ["accuracy >= 0.9", "latency_ms@cpu <= 3"]
    assert found.verdict is Verdict.FEASIBLE
    assert note(found).endswith(
        "accuracy >= 0.9 and latency_ms@cpu <= 3 cannot be checked before the run: only training or measuring tells"
    )
    alone = find_feasible(parts_of(DIGITS, "accuracy >= 0.9"), 0)
    assert (alone.verdict, alone.method) == (Verdict.UNKNOWN, Method.NONE)
    assert require_feasible(parts_of(DIGITS, "accuracy >= 0.9"), 0).startswith("accuracy >= 0.9 cannot be checked")
    assert require_feasible(parts_of(DIGITS), 0) == ""
    assert lines(find_feasible(parts_of(DIGITS), 0)) == ["no budgets"]


UNPROVEN = ("params >= 2M", "params <= 3M")


def test_unproven_budgets_stop_a_training_unless_the_job_says_try() -> None:
    with pytest.raises(BudgetError, match=r"no proof.*params >= 2M.*search\.unproven_budgets=try"):
        require_feasible(parts_of(DIGITS, *UNPROVEN), 0, seconds=0)
    said = require_feasible(parts_of(DIGITS, *UNPROVEN, search={"unproven_budgets": "try"}), 0, seconds=0)
    assert said.endswith("it goes on all the same")
    costs = parts_of(DIGITS, *UNPROVEN, evaluate="cost", objectives={"minimize": "macs"})
    assert require_feasible(costs, 0, seconds=0).endswith("it goes on all the same"), "nothing is trained"
    with pytest.raises(BudgetError, match="proven by bounds"):
        require_feasible(parts_of(DIGITS, "params <= 10", search={"unproven_budgets": "try"}), 0)


def job_file(folder: Path, *budgets: str) -> Path:
    path = folder / "job.yaml"
    path.write_text(yaml.safe_dump({**PAIRS, "budgets": list(budgets)}))
    return path


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as exit_:
        main(list(arguments))
    out, err = capsys.readouterr()
    return int(exit_.value.code or 0), out, err


def test_check_prints_what_is_known(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = job_file(tmp_path, "params <= 60k", "area_mm2@edge <= 100")
    status, out, err = run(capsys, "check", str(path))
    assert (status, err) == (0, "")
    assert "every part fits; 576 candidates" in out
    assert "verdict: feasible, all " in out
    assert "share: 100 % of " in out
    status, out, _ = run(capsys, "check", str(path), "--json")
    record = json.loads(out)
    assert (status, record["refused"]) == (0, "")
    assert record["feasibility"]["share"] == 1
    assert record["feasibility"]["verdict"] == "feasible"


def test_check_refuses_what_run_refuses_and_nothing_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = job_file(tmp_path, "params <= 60k", "area_mm2@edge <= 0.01")
    refused = run(capsys, "run", str(path), "--out", str(tmp_path / "out"))
    status, out, err = run(capsys, "check", str(path))
    assert refused == (2, "", err)
    assert status == 2
    assert "conflict: area_mm2@edge <= 0.01: the nearest of them has" in out
    status, out, err = run(capsys, "check", str(path), "--json")
    assert (status, err) == (2, "")
    record = json.loads(out)
    assert refused[2] == f"error: {record['refused']}\n"
    assert record["feasibility"]["conflicts"] == [["area_mm2@edge <= 0.01"]]
    assert [entry.name for entry in tmp_path.iterdir()] == ["job.yaml"]


@pytest.mark.slow
def test_everything_known_is_json() -> None:
    for budgets in (("params <= 10",), ("params <= 60k", "accuracy >= 0.9"), ("params >= 2M",)):
        found: Feasibility = find_feasible(parts_of(DIGITS, *budgets), 0, seconds=0.3)
        record = json.loads(json.dumps(found.to_dict(), allow_nan=False))
        assert record["budgets"] + record["unchecked"] == list(budgets)
        assert lines(found)[0] == f"budgets: {', '.join(budgets)}"


def test_budgets_on_what_a_table_knows_are_checked_and_cells_without_a_row_cannot_meet_them(tmp_path: Path) -> None:
    rows = [("skip_connect", 3.0), ("nor_conv_1x1", 5.0), ("nor_conv_3x3", 9.0)]
    cell = "|{0}~0|+|{0}~0|{0}~1|+|{0}~0|{0}~1|{0}~2|"
    lines_ = ["arch,seconds,accuracy", *(f"{cell.format(name)},{value},0.9" for name, value in rows)]
    (tmp_path / "cells.csv").write_text("\n".join(lines_) + "\n")
    job: dict[str, object] = {
        "name": "cells",
        "space": "nasbench201",
        "objectives": {"maximize": "accuracy"},
        "evaluate": {
            "type": "table", "path": "cells.csv", "architecture": "arch",
            "metrics": {"latency_ms@pi": "seconds", "accuracy": "accuracy"}, "known": ["latency_ms@pi"],
        },
    }  # fmt: skip

    def look(*budgets: str) -> Feasibility:
        return find_feasible(assemble(parse_job({**job, "budgets": list(budgets)}), tmp_path, tmp_path), 0)

    assert [look(f"latency_ms@pi <= {limit}").n_within for limit in (4, 5, 100)] == [1, 2, 3]
    refused = look("latency_ms@pi <= 2", "accuracy >= 0.5")
    assert (refused.verdict, refused.method) == (Verdict.PROVEN, Method.LISTED)
    assert refused.relaxations[0].text == "latency_ms@pi <= 3"
    assert [budget.text for budget in refused.unchecked] == ["accuracy >= 0.5"]
