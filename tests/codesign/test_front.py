from __future__ import annotations

import csv
import io
import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from codesign.errors import InputError
from codesign.expressions import parse_condition
from codesign.front import FrontTable, axes_of, front_table, fronts, known_metrics, print_front
from codesign.front_print import PRINTED_ROWS
from codesign.objectives import Objective
from codesign.store import Final
from tests.codesign.made_up_run import MadeUpRun

NAN = math.nan

PLAIN = MadeUpRun(
    {
        "accuracy": [0.90, 0.95, 0.93, 0.97, 0.99, 0.80, NAN, 0.85],
        "latency_ms@edge": [0.1, 0.2, 0.3, 0.4, 0.5, 9.0, 0.1, 0.05],
        "params": [10e3, 20e3, 30e3, 40e3, 50e3, 60e3, 5e3, 70e3],
    },
    budgets=["params <= 55k"],
    failed={6: "out of memory"},
)
"""Front: 0, 1, 3, 4. Trial 2 is dominated by 1; 5 and 7 are over budget; 6 failed."""


@st.composite
def made_up(draw: st.DrawFn) -> MadeUpRun:
    n = draw(st.integers(1, 30))
    # few distinct values, so that ties and equal rows are common
    value = st.sampled_from([0.1, 0.2, 0.3, 0.5, 0.8])
    columns = {name: draw(st.lists(value, min_size=n, max_size=n)) for name in ("a", "b", "c", "size")}
    senses = draw(st.lists(st.booleans(), min_size=1, max_size=3))
    objectives = [f"{'+' if more else ''}{name}" for more, name in zip(senses, "abc", strict=False)]
    failed = dict.fromkeys(draw(st.sets(st.integers(0, n - 1), max_size=3)), "crash")
    running = draw(st.sets(st.integers(0, n - 1), max_size=2)) - set(failed)
    budgets = draw(st.sampled_from([[], ["size <= 0.4"], ["size >= 0.2", "a <= 0.6"]]))
    return MadeUpRun(columns, objectives, budgets, failed, sorted(running), costly=("a", "b", "c"))


def slow_front(made: MadeUpRun, where: str = "", upto: int | None = None) -> set[int]:
    """Every pair compared, from the definition."""
    n = len(made.columns["a"])
    keep = []
    for i in range(n if upto is None else min(n, upto)):
        row = {name: values[i] for name, values in made.columns.items()}
        held = i not in made.failed and i not in made.running
        held = held and all(eval(text, {}, row) for text in made.budgets)  # the budgets above are Python too
        if held and (not where or eval(where, {}, row)):
            losses = [-row[name[1:]] if name[0] == "+" else row[name] for name in made.objectives]
            keep.append((i, losses))
    return {
        i
        for i, own in keep
        if not any(all(x <= y for x, y in zip(other, own, strict=True)) and other != own for j, other in keep if i != j)
    }


@settings(max_examples=40, deadline=None)
@given(made_up(), st.sampled_from(["", "b <= 0.3", "a > 0.2 and c < 0.8"]), st.none() | st.integers(1, 30))
def test_the_front_is_what_nothing_dominates(made: MadeUpRun, where: str, upto: int | None) -> None:
    run, parts = made.make()
    table = front_table(run, parts, parse_condition(where) if where else None, upto)
    assert set(table.numbers) == slow_front(made, where, upto)
    assert len(table.numbers) == len(set(table.numbers))
    if not where and upto is None:
        assert table.numbers == run.front(parts)
    last = table.metrics[made.objectives[-1].removeprefix("+")]
    assert (np.diff(-last if made.objectives[-1].startswith("+") else last) >= 0).all()


@settings(max_examples=20, deadline=None)
@given(made_up(), st.integers(0, 30))
def test_two_halves_of_a_run_have_the_front_of_the_whole(made: MadeUpRun, cut: int) -> None:
    n = len(made.columns["a"])
    cut = min(cut, n)

    def part(low: int, high: int) -> MadeUpRun:
        failed = {i - low: text for i, text in made.failed.items() if low <= i < high}
        running = [i - low for i in made.running if low <= i < high]
        columns = {name: values[low:high] for name, values in made.columns.items()}
        return MadeUpRun(columns, made.objectives, made.budgets, failed, running, costly=made.costly)

    (one, parts), two = part(0, cut).make(), part(cut, n).make()
    table = fronts([(replace(one, folder=Path("one")), parts), two])
    found = {number + (0 if run == "one" else cut) for run, number in zip(table.runs, table.numbers, strict=True)}
    assert found == slow_front(made)
    assert table.counts.trials == n


def test_members_carry_metrics_finals_and_genotypes(tmp_path: Path) -> None:
    finals = {1: {"test_accuracy": Final(0.94, 0.92, 0.96), "latency_ms@edge": Final(0.21)}}
    made = MadeUpRun(PLAIN.columns, budgets=PLAIN.budgets, failed=PLAIN.failed, finals=finals)
    table = front_table(*made.make(tmp_path))
    assert table.numbers == [0, 1, 3, 4]
    assert list(table.metrics) == ["accuracy", "latency_ms@edge", "params"]
    assert table.metrics["params"].tolist() == [10e3, 20e3, 40e3, 50e3]
    assert list(table.finals) == ["test_accuracy", "latency_ms@edge"]
    assert table.finals["test_accuracy"] == [None, Final(0.94, 0.92, 0.96), None, None]
    assert table.genotypes[2] == {"x": [3, 0]}
    assert table.considered.tolist() == [[0.90, 0.1], [0.95, 0.2], [0.93, 0.3], [0.97, 0.4], [0.99, 0.5]]


def test_counts(tmp_path: Path) -> None:
    made = MadeUpRun(PLAIN.columns, budgets=PLAIN.budgets, failed=PLAIN.failed, running=[4])
    counts = front_table(*made.make(tmp_path), parse_condition("accuracy >= 0.92")).counts
    assert (counts.trials, counts.over_budget, counts.failed, counts.running, counts.filtered) == (8, 2, 1, 1, 1)


def test_a_condition_is_met_before_the_front_is_taken(tmp_path: Path) -> None:
    made = PLAIN.make(tmp_path)
    table = front_table(*made, where=parse_condition("params >= 30k"))
    assert table.numbers == [2, 3, 4]  # 2 is on it now: what dominates it does not meet the condition


def test_a_condition_on_an_unknown_metric_names_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"--where.*did you mean 'latency_ms@edge'"):
        front_table(*PLAIN.make(tmp_path), where=parse_condition("latency_ms@egde < 1"))


def test_a_metric_of_one_run_alone_filters_out_the_other(tmp_path: Path) -> None:
    other = MadeUpRun({"accuracy": [0.999], "latency_ms@edge": [0.01]})
    runs = [PLAIN.make(tmp_path / "a"), other.make(tmp_path / "b")]
    assert fronts(runs).runs == [str(tmp_path / "b")]
    assert set(fronts(runs, parse_condition("params > 0")).runs) == {str(tmp_path / "a")}
    assert "params" in known_metrics(runs)
    assert "violation" not in known_metrics(runs)


def test_runs_must_share_their_objectives_in_any_order(tmp_path: Path) -> None:
    turned = MadeUpRun(PLAIN.columns, ["latency_ms@edge", "+accuracy"]).make(tmp_path / "turned")
    lessened = MadeUpRun(PLAIN.columns, ["accuracy", "latency_ms@edge"]).make(tmp_path / "lessened")
    first = PLAIN.make(tmp_path / "first")
    assert len(fronts([first, turned])) == 4 + 5  # equal rows are kept; without a budget trial 7 is on it too
    with pytest.raises(InputError, match=r"maximize accuracy.*minimize accuracy"):
        fronts([first, lessened])
    with pytest.raises(InputError, match="at least one run"):
        fronts([])


def test_each_run_keeps_its_own_budgets(tmp_path: Path) -> None:
    loose = MadeUpRun(PLAIN.columns, failed=PLAIN.failed).make(tmp_path / "loose")
    table = fronts([PLAIN.make(tmp_path / "strict"), loose])
    assert [table.runs[i] for i, number in enumerate(table.numbers) if number == 7] == [str(tmp_path / "loose")]
    assert [budget.text for budget in table.budgets] == ["params <= 55k"]


def test_json_csv_and_parquet_say_the_same(tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    finals = {1: {"test_accuracy": Final(0.94, 0.92, 0.96), "latency_ms@edge": Final(0.21)}}
    columns = {**PLAIN.columns, "loss": [NAN, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1]}
    genotypes = [{"text": 'a "quoted", thing\nand a line'}] * 8
    made = MadeUpRun(columns, budgets=PLAIN.budgets, failed=PLAIN.failed, finals=finals, genotypes=genotypes)
    table = front_table(*made.make(tmp_path))
    table.to_csv(tmp_path / "front.csv")
    table.to_parquet(tmp_path / "front.parquet")
    expected = table.columns()
    assert expected["final_latency_ms@edge"] == [None, 0.21, None, None]
    assert expected["test_accuracy_high"] == [None, 0.96, None, None]
    assert expected["loss"][0] is None
    assert pq.read_table(tmp_path / "front.parquet").to_pydict() == expected
    with (tmp_path / "front.csv").open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert [
        {k: "" if v is None else str(v) for k, v in zip(expected, row, strict=True)}
        for row in zip(*expected.values(), strict=True)
    ] == rows
    content = json.loads(table.to_json())
    assert content["counts"] == {"members": 4, "trials": 8, "over_budget": 2, "failed": 1, "running": 0, "filtered": 0}
    assert content["objectives"][0] == {"metric": "accuracy", "maximize": True}
    assert [member["number"] for member in content["members"]] == expected["number"]
    assert content["members"][1]["finals"]["test_accuracy"] == {"value": 0.94, "low": 0.92, "high": 0.96}
    assert "loss" not in content["members"][0]["metrics"]
    assert content["members"][0]["genotype"] == genotypes[0]


def test_an_empty_front_can_be_written(tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    table = front_table(*MadeUpRun(PLAIN.columns, budgets=["params <= 1"]).make(tmp_path))
    table.to_csv(tmp_path / "front.csv")
    table.to_parquet(tmp_path / "front.parquet")
    assert json.loads(table.to_json())["members"] == []
    assert pq.read_table(tmp_path / "front.parquet").num_rows == 0
    assert "no trial is on the front" in printed(table)


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    table = front_table(*PLAIN.make(tmp_path))
    for write in (table.to_csv, table.to_parquet):
        with pytest.raises(InputError, match="nowhere"):
            write(tmp_path / "nowhere" / "front")


def printed(table: FrontTable, width: int = 100, encoding: str = "utf-8", color: bool = False) -> str:
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    console = Console(
        file=stream, width=width, highlight=False, force_terminal=color, color_system="standard" if color else None
    )
    print_front(table, console)
    stream.seek(0)
    return stream.read()


@pytest.mark.parametrize("width", [60, 80, 100, 200])
def test_no_printed_line_is_wider_than_the_terminal(tmp_path: Path, width: int) -> None:
    finals = {1: {"test_accuracy": Final(0.94, 0.92, 0.96)}}
    table = front_table(
        *MadeUpRun(PLAIN.columns, budgets=PLAIN.budgets, failed=PLAIN.failed, finals=finals).make(tmp_path)
    )
    text = printed(table, width)
    assert max(map(len, text.splitlines())) <= width
    for word in ("trial", "accuracy", "latency_ms", "@edge"):
        assert word in text
    assert ("0.9400 (0.9200..0.9600)" in text) == (width > 60)
    assert text.rstrip().endswith("4 members of the front, 8 trials, 2 over budget, 1 failed")


def test_the_best_of_each_objective_stands_out(tmp_path: Path) -> None:
    text = printed(front_table(*PLAIN.make(tmp_path)), color=True)
    bold = [piece.split("m", 1)[1].split("\x1b")[0].strip() for piece in text.split("\x1b[1;32")[1:]]
    assert bold == ["0.100", "0.9900"] or bold == ["0.9900", "0.100"]


def test_a_terminal_without_unicode_gets_ascii(tmp_path: Path) -> None:
    table = front_table(*PLAIN.make(tmp_path))
    assert "●" in printed(table)
    printed(table, encoding="ascii").encode("ascii")


def test_a_long_front_is_thinned_on_the_terminal_alone(tmp_path: Path) -> None:
    n = 200
    made = MadeUpRun({"accuracy": np.linspace(0.5, 0.9, n), "latency_ms@edge": np.linspace(1, 2, n)}).make(tmp_path)
    table = front_table(*made)
    text = printed(table)
    assert f"{PRINTED_ROWS} of {n} members shown" in text
    after_rule = text.split("─\n", 1)[1].split("\n\n")[0]
    rows = [line.split()[0] for line in after_rule.splitlines()]
    assert len(rows) == PRINTED_ROWS
    assert (rows[0], rows[-1]) == ("0", "199")
    assert len(json.loads(table.to_json())["members"]) == n


def test_several_runs_are_told_apart_on_the_terminal(tmp_path: Path) -> None:
    other = MadeUpRun({"accuracy": [0.999], "latency_ms@edge": [9.0]})
    table = fronts([PLAIN.make(tmp_path / "a"), other.make(tmp_path / "b")])
    assert str(tmp_path / "b") in printed(table, width=200)


def test_axes_put_the_gain_upwards() -> None:
    gain, cost, other = Objective("accuracy", True), Objective("latency_ms"), Objective("params")
    assert axes_of([gain, cost]) == (1, 0)
    assert axes_of([cost, other, gain]) == (0, 2)
    assert axes_of([cost, other]) == (1, 0)
