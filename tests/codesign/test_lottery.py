from __future__ import annotations

import json
import math
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import yaml

from codesign.cli import main
from codesign.errors import InputError, StoreError
from codesign.lottery import Outcome, make_problem, run_ticket
from codesign.lottery_job import Lottery, Ticket, dump_lottery, load_lottery, parse_lottery, plan_tickets
from codesign.lottery_progress import TimeLeft
from codesign.lottery_report import cells
from codesign.lottery_result import Result, summarise
from codesign.lottery_run import books_of
from codesign.lottery_store import LotteryStore, ticket_key
from codesign.lottery_svg import lottery_svg
from codesign.objectives import Objective, Objectives
from codesign.pareto import hypervolume
from codesign.run import exclusive
from tests.codesign.lottery_files import CONTENT, lottery_file

ROOT = Path(__file__).parents[2]


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as caught:
        main(list(arguments))
    captured = capsys.readouterr()
    return int(caught.value.code or 0), captured.out, captured.err


def ticket(agent: str = "genetic", setting: int = 0, repeat: int = 0, **options: Any) -> Ticket:
    strategy = {"chance": "random"}.get(agent, agent)
    return Ticket(agent, strategy, setting, repeat, options, 7 + repeat, 20, 5)


def outcome(losses: list[Any], violations: list[float] | None = None) -> Outcome:
    values = np.array(losses, dtype=np.float64).reshape(len(losses), -1)
    return Outcome(values, np.zeros(len(values)) if violations is None else np.array(violations), 0.5, 0.25)


# --- the file


def test_every_agent_has_as_many_tickets_and_no_setting_twice() -> None:
    agents = {"random": None, "genetic": None, "ant-colony": {"ants": [4, 8]}}
    lottery = parse_lottery(CONTENT | {"agents": agents, "settings": 5, "seeds": 4})
    tickets = plan_tickets(lottery)
    assert Counter(t.agent for t in tickets) == dict.fromkeys(agents, 20)
    assert len({ticket_key(t) for t in tickets}) == 60
    assert len({t.seed for t in tickets}) == 60
    settings = {(t.agent, t.setting): json.dumps(dict(t.options), sort_keys=True) for t in tickets}
    assert Counter(agent for agent, _ in settings) == {"random": 1, "genetic": 5, "ant-colony": 2}
    assert len(set(settings.values())) == len(settings)
    assert max(t.repeat for t in tickets if t.agent == "random") == 19


def test_a_ticket_does_not_depend_on_the_other_agents() -> None:
    alone = plan_tickets(parse_lottery(CONTENT | {"agents": ["genetic"]}))
    among = plan_tickets(parse_lottery(CONTENT | {"agents": ["annealing", "genetic", "random"]}))
    assert [t for t in among if t.agent == "genetic"] == alone
    assert plan_tickets(parse_lottery(CONTENT | {"agents": ["genetic"], "seed": 1})) != alone


def test_all_combinations_are_drawn_if_there_are_few() -> None:
    agents = {"g": {"type": "genetic", "population_size": [4, 8], "elite_share": 0.5, "tournament_size": [2, 3]}}
    tickets = plan_tickets(parse_lottery(CONTENT | {"agents": agents, "settings": 9}))
    drawn = {(t.options["population_size"], t.options["tournament_size"], t.options["elite_share"]) for t in tickets}
    assert drawn == {(4, 2, 0.5), (4, 3, 0.5), (8, 2, 0.5), (8, 3, 0.5)}
    assert {t.strategy for t in tickets} == {"genetic"}


def test_options_of_options() -> None:
    agents = {
        "bo": {"type": "optuna", "sampler_options.n_startup_trials": [5, 10], "sampler_options.multivariate": True}
    }
    tickets = plan_tickets(parse_lottery(CONTENT | {"agents": agents}))
    assert {json.dumps(t.options["sampler_options"]) for t in tickets} == {
        '{"n_startup_trials": 5, "multivariate": true}',
        '{"n_startup_trials": 10, "multivariate": true}',
    }


def test_a_resolved_lottery_reads_the_same() -> None:
    lottery = parse_lottery(CONTENT)
    assert parse_lottery(yaml.safe_load(dump_lottery(lottery))) == lottery


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "unknown key": ({"setings": 3}, "unknown key in lottery: 'setings' .* did you mean 'settings'"),
    "wrong type": ({"evaluations": "many"}, "evaluations: 'many'"),
    "no agent": ({"agents": []}, "agents"),
    "agent twice": ({"agents": ["random", "random"]}, "agents: an agent is listed twice"),
    "unknown agent": ({"agents": ["genetik"]}, "agents: 'genetik' .* did you mean 'genetic'"),
    "unknown strategy": ({"agents": {"x": {"type": "genetik"}}}, "agents.x.type: .* did you mean 'genetic'"),
    "unknown option": ({"agents": {"genetic": {"population": [4]}}}, "agents.genetic.* 'population_size'"),
    "wrong value": ({"agents": {"genetic": {"population_size": [4, "x"]}}}, "agents.genetic.population_size: 'x'"),
    "refused value": ({"agents": {"genetic": {"population_size": 1}}}, "agents.genetic: population_size: 1 is not"),
    "no values": ({"agents": {"genetic": {"population_size": []}}}, "agents.genetic.population_size: no values"),
    "unknown driver": ({"driver": "ray"}, "driver: 'ray' is not one of tune, serial"),
    "search in the problem": (
        {"problem": CONTENT["problem"] | {"search": {}}},
        "unknown key in problem: 'search' is not one of data, space",
    ),
    "wrong space": ({"problem": CONTENT["problem"] | {"space": "nasnett"}}, "problem: space.type: 'nasnett'"),
    "wrong metric": (
        {"problem": CONTENT["problem"] | {"objectives": {"minimize": "latency_m"}}},
        "problem: .*did you mean 'latency_ms'",
    ),
    "impossible budget": (
        {"problem": CONTENT["problem"] | {"budgets": ["latency_ms <= 1e-9"]}},
        "problem: budgets: none of",
    ),
    "training": (
        {
            "problem": {
                "space": {"type": "nasnet", "blocks": 2, "cells": 1, "channels": 4},
                "objectives": {"maximize": "accuracy"},
                "evaluate": {"type": "train", "epochs": 1},
            }
        },
        "problem: evaluate: a lottery .* trains nothing",
    ),
    "too many combinations": (
        {"agents": {"genetic": {name: [0.1] * 220 for name in ("mutation_probability", "elite_share")} | {
            "population_size": [8] * 220}}},
        "agents.genetic: 10,648,000 combinations",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_wrong_lotteries(case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    change, message = WRONG[case]
    status, out, err = run(capsys, "lottery", str(lottery_file(tmp_path, **change)), "--out", str(tmp_path / "out"))
    assert (status, out) == (2, "")
    assert err.startswith("error: ")
    assert len(err.strip().splitlines()) == 1
    assert re.search(message, err), err
    assert not (tmp_path / "out").exists()


def test_wrong_files_folders_and_addresses(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = lottery_file(tmp_path)
    (tmp_path / "file").write_text("")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "job.yaml").write_text("")
    (tmp_path / "list.yaml").write_text("[1]")
    (tmp_path / "twice.yaml").write_text("name: a\nname: b\n")
    for arguments, message in (
        (["nowhere.yaml"], "lottery file 'nowhere.yaml' cannot be read"),
        ([str(tmp_path / "list.yaml")], "a lottery is a mapping of keys"),
        ([str(tmp_path / "twice.yaml")], "'name' stands twice"),
        ([str(path), "settings"], "override 'settings'"),
        ([str(path), "--out", str(tmp_path / "file")], "is a file; name a folder"),
        ([str(path), "--out", str(tmp_path / "run")], "holds a run"),
        ([str(path), "--address", "127.0.0.1:9"], "nothing answers"),
    ):
        status, out, err = run(capsys, "lottery", *arguments)
        assert (status, out, message in err) == (2, "", True), err


# --- a ticket


def problem_of(tmp_path: Path, **changes: Any) -> tuple[Any, Lottery]:
    lottery = load_lottery(lottery_file(tmp_path, **changes))
    return make_problem(lottery, tmp_path / "out", tmp_path)[0], lottery


def test_a_ticket_spends_exactly_its_evaluations_on_distinct_candidates(tmp_path: Path) -> None:
    problem, lottery = problem_of(tmp_path)
    judged: list[tuple[int, ...]] = []
    inner = problem.judge

    class Spy:
        space, objectives = problem.space, problem.objectives

        def judge(self, codes: Any) -> Any:
            judged.extend(map(tuple, codes.tolist()))
            return inner(codes)

    for one in plan_tickets(lottery)[:2]:
        judged.clear()
        found = run_ticket(Spy(), one)  # type: ignore[arg-type]
        assert len(found.losses) == len(judged) == len(set(judged)) == 30
        again = run_ticket(problem, one)
        np.testing.assert_array_equal(again.losses, found.losses)
        np.testing.assert_array_equal(again.violations, found.violations)


def test_a_small_space_ends_a_ticket_early(tmp_path: Path) -> None:
    space = CONTENT["problem"]["space"] | {"search": {"rows": [1, 2, 3], "columns": [4, 5, 6, 7]}}
    problem, lottery = problem_of(tmp_path, problem=CONTENT["problem"] | {"space": space}, evaluations=1000)
    assert len(run_ticket(problem, plan_tickets(lottery)[0]).losses) == 12


def test_judging_follows_budgets_and_failures(tmp_path: Path) -> None:
    problem, _ = problem_of(tmp_path)
    codes = np.array([[0, 0, 0], [31, 31, 0], [30, 0, 0]])  # 1 x 1, 32 x 32 and 31 x 1 PEs
    losses, violations = problem.judge(codes)
    assert violations.tolist() == [0.0, pytest.approx((1024 - 200) / 200), np.inf]
    assert losses[:2, 0].tolist() == [4097.0, 36.0]
    assert np.isnan(losses[2, 0])

    class Faulty:
        metrics = ("latency_ms", "pes")

        def evaluate(self, codes: Any) -> Any:
            raise RuntimeError("no")

    broken = type(problem)(problem.space, problem.objectives, (Faulty(),))
    losses, violations = broken.judge(codes)
    assert np.isnan(losses).all()
    assert np.isinf(violations).all()


def test_the_fingerprint_tells_problems_apart(tmp_path: Path) -> None:
    first, _ = problem_of(tmp_path)
    assert first.fingerprint() == problem_of(tmp_path)[0].fingerprint()
    changes = (
        {"budgets": ["pes <= 201"]},
        {"objectives": {"minimize": "pes"}},
        {"space": CONTENT["problem"]["space"] | {"set": {"dataflow": "os"}, "search": {"rows": [1, 2]}}},
    )
    others = {problem_of(tmp_path, problem=CONTENT["problem"] | change)[0].fingerprint() for change in changes}
    assert len(others | {first.fingerprint()}) == 4


# --- the result


MINIMIZE = Objectives((Objective("latency_ms"),))


def test_quartiles_spread_and_the_rest_by_hand() -> None:
    tickets = [ticket("chance", repeat=i) for i in range(3)]
    found = [outcome([9.0, 6.0, 7.0]), outcome([5.0]), outcome([8.0, 4.0])]  # 6, 5, 4: median 5
    tickets += [ticket("genetic", setting=i // 2, repeat=i % 2, size=i // 2) for i in range(4)]
    found += [outcome([3.0]), outcome([5.0]), outcome([2.0, 1.0]), outcome([10.0])]  # medians 4 and 5.5
    result = summarise(MINIMIZE, tickets, found)
    genetic = next(agent for agent in result.agents if agent.agent == "genetic")
    assert genetic.scores == (3.0, 5.0, 1.0, 10.0)
    assert genetic.quartiles == tuple(np.quantile([1, 3, 5, 10], [0.25, 0.5, 0.75]))
    assert (genetic.best, genetic.worst, genetic.spread, genetic.behind) == (1.0, 10.0, 9.0, 0.0)
    assert genetic.iqr == pytest.approx(6.25 - 2.5)
    assert genetic.beats_random == 0.5
    assert genetic.best_options == {"size": 1}
    assert genetic.strategy_seconds == 0.5
    chance = next(agent for agent in result.agents if agent.agent == "chance")
    assert (chance.behind, chance.n_settings) == (3.0, 1)
    assert math.isnan(chance.beats_random)
    assert [agent.agent for agent in result.agents] == ["genetic", "chance"]  # medians 4 and 5
    assert result.steps[0] == 1
    assert result.steps[-1] == 20
    assert (chance.curve[0], chance.curve[-1]) == (8.0, 5.0)


def test_more_may_be_better() -> None:
    tickets = [ticket("chance"), ticket("genetic"), ticket("genetic", repeat=1)]
    found = [outcome([-3.0]), outcome([-4.0, -9.0]), outcome([-5.0])]  # losses of a maximised metric are negative
    result = summarise(Objectives((Objective("params", maximize=True),)), tickets, found)
    assert result.maximize
    assert [agent.agent for agent in result.agents] == ["genetic", "chance"]
    genetic = result.agents[0]
    assert (genetic.best, genetic.worst, genetic.beats_random) == (9.0, 5.0, 1.0)
    assert genetic.quartiles == (8.0, 7.0, 6.0)


def test_tickets_that_found_nothing_feasible_count_as_worst() -> None:
    tickets = [ticket("chance"), *(ticket("genetic", repeat=i) for i in range(4))]
    none = outcome([1.0, np.nan], [0.5, np.inf])
    found = [none, outcome([2.0]), none, outcome([4.0]), none]
    result = summarise(MINIMIZE, tickets, found)
    genetic, chance = result.agents
    assert math.isnan(genetic.scores[1])
    assert (genetic.best, genetic.worst, genetic.quartiles[0]) == (2.0, 4.0, 3.5)
    assert all(map(math.isnan, (*genetic.quartiles[1:], genetic.iqr)))
    assert all(map(math.isnan, (chance.best, chance.spread, chance.behind)))
    assert json.loads(result.to_json())["agents"][1]["best"] is None
    assert "–" in cells(result, chance)
    assert lottery_svg(result, "t").count("<circle") == 2


def test_several_objectives_are_scored_by_their_share_of_the_hypervolume() -> None:
    objectives = Objectives((Objective("a"), Objective("b")))
    tickets = [ticket("chance"), ticket("genetic"), ticket("annealing")]
    fronts = [[[0.0, 10.0], [10.0, 0.0]], [[5.0, 5.0], [0.0, 10.0]], [[2.0, 2.0]]]
    result = summarise(objectives, tickets, [outcome(front) for front in fronts])
    reference = np.array([11.0, 11.0])  # a tenth of the range behind the worst
    total = hypervolume(np.concatenate(fronts), reference)
    assert result.score == "hypervolume share"
    assert result.maximize
    for agent, front in zip(("chance", "genetic", "annealing"), fronts, strict=True):
        expected = hypervolume(np.array(front), reference) / total
        assert next(a for a in result.agents if a.agent == agent).best == pytest.approx(expected)
    infeasible = summarise(objectives, tickets[:2], [outcome(fronts[0]), outcome(fronts[1], [1.0, 1.0])])
    assert math.isnan(infeasible.agents[1].best)


def test_the_picture_is_xml_with_a_point_for_every_ticket() -> None:
    tickets = [ticket(agent, repeat=i) for agent in ("chance", "genetic") for i in range(5)]
    found = [outcome([10.0**i]) for i in range(10)]
    text = lottery_svg(summarise(MINIMIZE, tickets, found), "a <title> & more")
    root = ElementTree.fromstring(text)
    kinds = Counter(element.tag.split("}")[1] for element in root.iter())
    assert (kinds["circle"], kinds["rect"]) == (10, 3)
    assert "logarithmic" in text
    for element in root.iter():
        for name in ("x", "cx"):
            if name in element.attrib:
                assert 0 <= float(element.attrib[name]) <= 920
    one = summarise(MINIMIZE, tickets[:1], [outcome([3.0])])
    assert lottery_svg(one, "one").count("<circle") == 1


# --- the folder


def test_tickets_are_kept_whole_or_not_at_all(tmp_path: Path) -> None:
    found = outcome([[1.0, np.nan], [0.1, -3.0]], [np.inf, 0.0])
    store = LotteryStore(tmp_path, "f", 2)
    store.add(ticket(), found)
    store.add(ticket(repeat=1), found)
    (tmp_path / "tickets" / ".x.parquet.partial").write_bytes(b"half")
    for compact in (False, True):
        if compact:
            store.compact()
            assert not list((tmp_path / "tickets").iterdir())
        again = LotteryStore(tmp_path, "f", 2)
        assert ticket() in again
        assert ticket(repeat=2) not in again
        assert ticket(size=3) not in again
        np.testing.assert_array_equal(again.outcome(ticket(repeat=1)).losses, found.losses)
        np.testing.assert_array_equal(again.outcome(ticket(repeat=1)).violations, found.violations)
    with pytest.raises(InputError, match="holds tickets of another problem"):
        LotteryStore(tmp_path, "g", 2)
    (tmp_path / "tickets.parquet").write_bytes(b"PAR1" + b"\0" * 64)
    with pytest.raises(StoreError, match=r"tickets\.parquet' cannot be read"):
        LotteryStore(tmp_path, "f", 2)


def test_one_process_at_a_time(tmp_path: Path) -> None:
    store = LotteryStore(tmp_path, "f", 1)
    with exclusive(store.folder), pytest.raises(InputError, match="another process"), exclusive(store.folder):
        pass


def test_books_hold_tickets_of_one_setting() -> None:
    tickets = plan_tickets(parse_lottery(CONTENT))
    books = books_of(tickets, 2)
    assert sorted(map(ticket_key, [t for book in books for t in book])) == sorted(map(ticket_key, tickets))
    assert all(len(book) <= 2 and len({(t.agent, t.setting) for t in book}) == 1 for book in books)
    assert len(books) == 6


def test_time_left_by_hand() -> None:
    pending = [ticket("genetic", repeat=i) for i in range(3)] + [ticket("chance", repeat=i) for i in range(4)]
    left = TimeLeft(pending, workers=2)
    assert left.seconds is None
    left.add("genetic", 10.0)
    assert left.seconds == (2 * 10 + 4 * 10) / 2
    left.add("chance", 2.0)
    assert left.seconds == (2 * 10 + 3 * 2) / 2
    for _ in range(3):
        left.add("chance", 2.0)
    left.add("genetic", 30.0)
    assert left.seconds == 20.0  # one ticket cannot be shared


# --- the verb


def result_of(folder: Path) -> Any:
    """The result without times."""
    content = json.loads((folder / "lottery.json").read_text())
    for agent in content["agents"]:
        del agent["strategy_seconds"]
    return content


def test_the_verb_draws_once_and_tells_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, out = lottery_file(tmp_path), tmp_path / "out"
    status, text, err = run(capsys, "lottery", str(path), "--out", str(out), "--check")
    assert (status, err) == (0, "")
    assert "2 agents x 6 tickets x 30 evaluations, 3,072 candidates" in text
    assert not out.exists()
    status, text, err = run(capsys, "lottery", str(path), "--out", str(out))
    assert status == 0, err
    assert "genetic" in text
    assert "tickets 12/12" in text
    names = {"lottery.yaml", "problem.json", "tickets.parquet", "lottery.json", "lottery.html", "lottery.svg"}
    assert {entry.name for entry in out.iterdir()} == names | {"tickets", ".lock"}
    first = result_of(out)
    status, text, err = run(capsys, "lottery", str(path), "--out", str(out), "--json")
    assert status == 0
    assert "resuming: 12 of 12 tickets are done" in err
    assert json.loads(text)["agents"][0]["agent"] in ("genetic", "random")
    assert result_of(out) == first
    status, text, _ = run(capsys, "lottery", str(path), "--out", str(out), "settings=4")
    assert "resuming: 6 of 16" not in text
    assert status == 0
    page = (out / "lottery.html").read_text()
    assert "Plotly" in page
    assert "<script src=" not in page


def test_more_seeds_draw_only_what_is_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, out = lottery_file(tmp_path, agents=["random"]), tmp_path / "out"
    assert run(capsys, "lottery", str(path), "--out", str(out))[0] == 0
    status, text, _ = run(capsys, "lottery", str(path), "--out", str(out), "seeds=3")
    assert status == 0
    assert "resuming: 6 of 9 tickets are done" in text


def test_another_problem_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert run(capsys, "lottery", str(lottery_file(tmp_path, agents=["random"])), "--out", str(out))[0] == 0
    problem = CONTENT["problem"] | {"budgets": ["pes <= 100"]}
    status, _, err = run(capsys, "lottery", str(lottery_file(tmp_path, problem=problem)), "--out", str(out))
    assert status == 2
    assert "holds tickets of another problem" in err


FAULTY = """
from codesign.strategies.random import Random

class Faulty(Random):
    def tell(self, codes, losses, violations):
        raise RuntimeError("out of ideas")
"""


def test_a_faulty_agent_costs_the_others_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "faulty_agent.py").write_text(FAULTY)
    agents = {"bad": {"type": "faulty_agent:Faulty"}, "random": None}
    path, out = lottery_file(tmp_path, agents=agents), tmp_path / "out"
    status, _, err = run(capsys, "lottery", str(path), "--out", str(out))
    assert status == 1
    assert "6 of 12 tickets failed; the first: bad with {}: RuntimeError: out of ideas" in err
    status, text, _ = run(capsys, "lottery", str(lottery_file(tmp_path, agents=["random"])), "--out", str(out))
    assert (status, "resuming: 6 of 6" in text) == (0, True)


@pytest.mark.slow
def test_a_killed_lottery_goes_on_as_if_nothing_had_happened(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = lottery_file(tmp_path, settings=4, seeds=10, evaluations=60)
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    process = subprocess.Popen(
        [sys.executable, "-m", "codesign", "lottery", str(path), "--out", str(cut)], stdout=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 120
    while len(list(cut.glob("tickets/*.parquet"))) < 5:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    n_done = len(list(cut.glob("tickets/*.parquet")))
    assert 5 <= n_done < 80
    status, text, _ = run(capsys, "lottery", str(path), "--out", str(cut))
    assert (status, f"resuming: {n_done} of 80 tickets are done" in text) == (0, True)
    assert run(capsys, "lottery", str(path), "--out", str(whole))[0] == 0
    assert result_of(cut) == result_of(whole)


@pytest.mark.torch
def test_the_example_reads_and_names_every_kind_of_agent() -> None:
    lottery = load_lottery(ROOT / "examples" / "lottery.yaml")
    strategies = {t.strategy for t in plan_tickets(lottery)}
    assert strategies == {"random", "random-walk", "genetic", "ant-colony", "annealing", "ppo", "optuna"}


def test_results_are_told_with_the_metric_s_unit() -> None:
    result = summarise(MINIMIZE, [ticket()], [outcome([1.23456789])])
    assert isinstance(result, Result)
    assert (result.score, result.text(1.23456789), result.text(math.nan)) == ("latency (ms)", "1.2346", "–")
