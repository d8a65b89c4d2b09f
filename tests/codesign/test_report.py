from __future__ import annotations

import json
import math
import re
import shlex
from collections.abc import Mapping, Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from codesign.errors import InputError
from codesign.report import write_report
from codesign.report_data import gather, shareable_job, slack
from codesign.report_figures import ALL_POINTS, CLOUD_POINTS, front_figures, progress_figure, stepped
from codesign.report_genotype import drawings, rows, varying_choices
from codesign.store import Final
from search_spaces.nasnet_cell import Block, Cell, NasNetGenotype
from tests.codesign.made_up_run import MadeUpRun
from tests.codesign.test_front import PLAIN

NAN = math.nan
HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)>' \" & </title></script>"
CELL = Cell.of([Block(0, 1, "conv3x3", "identity"), Block(2, 0, "sep5x5", "maxpool3x3", "concat")])
NASNET = NasNetGenotype(CELL, CELL, cells=2, channels=8).to_dict()
VOID = {"meta", "link", "br", "img", "input", "hr", "path", "rect", "circle", "line"}


class Page(HTMLParser):
    """What a browser would make of a page: open elements are checked, texts and attributes kept."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.scripts: list[str] = []
        self.raw = text
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag, f"</{tag}> closes nothing"

    def handle_data(self, data: str) -> None:
        (self.scripts if self.open and self.open[-1] == "script" else self.texts).append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.texts))

    @property
    def sections(self) -> list[str | None]:
        return [attributes["id"] for tag, attributes in self.tags if tag == "section"]

    @property
    def figures(self) -> dict[str, Any]:
        found = json.loads(next(script for script in self.scripts if script.startswith('{"fronts"')))
        assert isinstance(found, dict)
        return found


@pytest.fixture(autouse=True)
def short_plotly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Five megabytes of plotly.js slow the parser down and are not ours to test."""
    monkeypatch.setattr("plotly.offline.get_plotlyjs", lambda: "const Plotly = null;")


def report(made: MadeUpRun, folder: Path) -> Page:
    run, parts = made.make(folder / "run")
    path = write_report(run, parts, folder / "report.html")
    return Page(path.read_text(encoding="utf-8"))


def traces(figure: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    return {trace["name"]: trace for trace in figure["data"]}


def test_a_report_says_what_happened(tmp_path: Path) -> None:
    finals = {4: {"test_accuracy": Final(0.95, 0.92, 0.97)}, 0: {"test_accuracy": Final(0.90, 0.88, 0.92)}}
    made = MadeUpRun(
        {**PLAIN.columns, "train_seconds": [10.0] * 8}, budgets=PLAIN.budgets, failed=PLAIN.failed, screened=[5, 7],
        reused=[3], finals=finals, weights=[0, 4], costly=("accuracy", "train_seconds"),
    )  # fmt: skip
    page = report(made, tmp_path)
    text = page.text
    assert page.sections == [
        "front", "member", "table", "progress", "honesty", "budgets", "failures", "uncounted", "made",
    ]  # fmt: skip
    assert "262,144 candidates" in text  # 8 to the power of 6
    assert "5 trials measured" in text
    assert "2 over a budget on cheap figures, so never trained" in text
    assert "1 reused" in text
    assert "40 s of training" in text  # of 0, 1, 2 and 4: 3 was reused
    assert "Best accuracy: 99.00 % by trial 4, with 0.500 ms latency on edge and 50 k parameters" in text.replace(
        "50.0 k", "50 k"
    )
    assert "95.00 % on the test split" in text
    assert "out of memory" in text
    assert "validation accuracy lies 2.00 points above test accuracy on average" in text
    assert "within the test accuracy's 95 % interval for 1 of 2" in text
    assert "edge: pooling <b>ops</b> (4 networks)" in text
    assert "params <= 55k" in text


def test_the_table_has_every_member_with_its_slack_and_command(tmp_path: Path) -> None:
    made = MadeUpRun(PLAIN.columns, budgets=PLAIN.budgets, failed=PLAIN.failed, weights=[0, 1, 3])
    folder = tmp_path / "a folder; with 'quotes'"
    page = report(made, folder)
    trials = [attributes["data-trial"] for tag, attributes in page.tags if tag == "tr" and "data-trial" in attributes]
    assert trials == ["0", "1", "3", "4"]
    headers = [a for tag, a in page.tags if tag == "th" and a.get("aria-sort") == "none"]
    assert len(headers) == 7  # trial, accuracy, latency, params, slack, weights, export
    keys = [a["data-key"] for tag, a in page.tags if tag == "td" and "data-key" in a]
    assert keys[4::7] == ["0.818181818", "0.636363636", "0.272727273", "0.0909090909"]
    commands = [shlex.split(text) for text in page.texts if text.startswith("codesign export")]
    wanted = ["codesign", "export", str(folder / "run"), "--trial", "3", "--out", "made-up-3.onnx"]
    assert wanted in commands
    assert not any(command[4] == "4" for command in commands)  # its weights are gone
    assert "Its weights are not in the run's folder" in page.text


def test_nothing_a_user_wrote_runs(tmp_path: Path) -> None:
    genotypes = [{HOSTILE: HOSTILE, "n": i, "nested": {HOSTILE: [HOSTILE]}} for i in range(8)]
    made = MadeUpRun(
        PLAIN.columns, budgets=PLAIN.budgets, failed={6: HOSTILE}, genotypes=genotypes, name=HOSTILE, weights=[0],
        job={"data": {"type": HOSTILE, "path": HOSTILE}, "search": {"strategy": {"type": HOSTILE, "key": [HOSTILE]}},
             "space": {"type": HOSTILE}, "evaluate": {"type": HOSTILE},
             "targets": {"edge": {"type": HOSTILE, "preset": HOSTILE, "set": {HOSTILE: HOSTILE}}}},
    )  # fmt: skip
    page = report(made, tmp_path)
    assert len([tag for tag, _ in page.tags if tag == "script"]) == 3
    assert not any(tag == "img" for tag, _ in page.tags)
    assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)
    assert "alert(1)" in page.text  # it is shown
    assert all("alert(1)</script>" not in script for script in page.scripts)


def test_the_page_loads_nothing_from_elsewhere(tmp_path: Path) -> None:
    page = report(PLAIN, tmp_path)
    assert not any(name in attributes for _, attributes in page.tags for name in ("src", "action"))
    links = [attributes["href"] for _, attributes in page.tags if "href" in attributes]
    assert links
    assert all(link is not None and link.startswith("#") for link in links)
    policy = next(a["content"] for tag, a in page.tags if a.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None
    assert policy.startswith("default-src 'none'")
    assert "http" not in policy


def test_everything_that_is_drawn_or_listed_has_a_name(tmp_path: Path) -> None:
    page = report(MadeUpRun(PLAIN.columns, genotypes=[NASNET] * 8), tmp_path)
    plots = [attributes for tag, attributes in page.tags if attributes.get("class") == "plot"]
    assert all(plot.get("role") == "img" and plot.get("aria-label") for plot in plots)
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    labelled = [attributes["aria-labelledby"] for _, attributes in page.tags if "aria-labelledby" in attributes]
    assert set(labelled) <= set(ids)
    count = {tag: sum(tag == other for other, _ in page.tags) for tag in ("table", "caption", "figure", "figcaption")}
    assert count["table"] == count["caption"]
    assert count["figure"] == count["figcaption"] == 2 + 2 * 5


def test_a_run_with_nothing_in_it_has_a_report(tmp_path: Path) -> None:
    page = report(MadeUpRun({"accuracy": [], "latency_ms@edge": []}), tmp_path)
    assert "No trial has been proposed yet" in page.text
    assert page.figures == {"fronts": [], "progress": None, "honesty": None}
    assert "member" not in page.sections


def test_without_a_feasible_trial_the_nearest_is_named(tmp_path: Path) -> None:
    made = MadeUpRun(
        {"accuracy": [0.9, 0.9], "latency_ms@edge": [1.0, 1.0], "params": [70e3, 61e3]},
        budgets=["params <= 60k", "latency_ms@edge <= 2"],
        screened=[0, 1],
    )
    page = report(made, tmp_path)
    assert (
        "No trial is within the budgets yet. Trial 1 came nearest; it breaks params <= 60k (it has 61.0 k)."
        in page.text
    )
    assert page.figures["progress"] is None
    assert list(traces(page.figures["fronts"][0])) == ["over budget, not evaluated"]


def test_a_single_trial_has_a_report(tmp_path: Path) -> None:
    page = report(MadeUpRun({"accuracy": [0.9], "latency_ms@edge": [0.5]}), tmp_path)
    assert traces(page.figures["fronts"][0])["on the front"]["customdata"] == [0]
    assert "1 member of the front" in page.text
    assert "1 of 1 evaluated trials (100.0 %) improved the front; the last of them was trial 0." in page.text


def test_a_run_under_way_says_so(tmp_path: Path) -> None:
    page = report(MadeUpRun(PLAIN.columns, running=[4, 5]), tmp_path)
    assert "2 still running: this report is of an unfinished run" in page.text


def test_a_search_that_trains_nothing_exports_nothing(tmp_path: Path) -> None:
    accelerators = [{"network": {"x": [0]}, "accelerators": {"edge": {"rows": 8 * i, "flow": "ws"}}} for i in range(3)]
    made = MadeUpRun(
        {"latency_ms@edge": [1.0, 2.0, 3.0], "pes@edge": [64.0, 32.0, 48.0]},
        ["latency_ms@edge", "pes@edge"], genotypes=accelerators, costly=(), is_cost_only=True,
    )  # fmt: skip
    page = report(made, tmp_path)
    assert "codesign export" not in page.text
    assert "Nothing was trained" in page.text
    assert "edge.rows" in page.text
    hover = traces(page.figures["fronts"][0])["on the front"]["text"]
    assert "edge.rows: 0" in hover[0] or "edge.rows: 8" in hover[0]
    assert "edge.flow" not in hover[0]  # all members have the same
    assert "Accuracy is of the validation split" not in page.text


def test_failures_that_differ_in_digits_alone_are_one_reason(tmp_path: Path) -> None:
    failed = {i: f"tried to allocate {i} MiB" for i in range(7)} | {7: "diverged"}
    made = MadeUpRun({"accuracy": [0.9] * 9, "latency_ms@edge": [1.0] * 9}, failed=failed)
    data = gather(*made.make(tmp_path))
    assert [(f.reason, f.numbers) for f in data.ledger.failures] == [
        ("tried to allocate 0 MiB", tuple(range(7))),
        ("diverged", (7,)),
    ]
    assert data.ledger.failures[0].named == (0, 1, 2, 3, 4)
    assert data.table.numbers == [8]


def test_a_database_password_is_not_in_the_report(tmp_path: Path) -> None:
    made = MadeUpRun(PLAIN.columns, job={"store": "postgresql+psycopg://me:hunter2@db/codesign"})
    assert "hunter2" not in report(made, tmp_path).raw
    run, _ = made.make()
    assert "me:***@db" in shareable_job(run.job)


def test_a_report_replaces_the_last_one_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, parts = PLAIN.make(tmp_path / "run")
    with pytest.raises(InputError, match="nowhere"):
        write_report(run, parts, tmp_path / "nowhere" / "report.html")
    path = write_report(run, parts, tmp_path / "report.html")
    before = path.read_text(encoding="utf-8")

    def full_disk(self: Path, *_: object, **__: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full_disk)
    with pytest.raises(InputError, match="No space left"):
        write_report(run, parts, path)
    assert path.read_text(encoding="utf-8") == before


# --- figures


@given(
    st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=1, max_size=20),
    st.booleans(),
    st.booleans(),
)
def test_the_stepped_line_bounds_what_is_dominated(
    points: Sequence[tuple[int, int]], more_x: bool, more_y: bool
) -> None:
    values = np.array(points, dtype=np.float64)
    corners, shape = stepped(values, (more_x, more_y))
    for x in np.arange(corners[0, 0], corners[-1, 0] + 0.01, 0.25):
        # the best y of all points that are at least as good in x
        reachable = values[:, 1][values[:, 0] >= x if more_x else values[:, 0] <= x]
        best = reachable.max() if more_y else reachable.min()
        place = np.searchsorted(corners[:, 0], x, side="left" if shape == "vh" else "right")
        drawn = corners[place if shape == "vh" else place - 1, 1]  # as plotly draws the two shapes
        assert drawn == best


def test_objectives_in_pairs_are_drawn_cost_across_and_gain_upwards(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    columns = {name: rng.random(50) for name in ("accuracy", "latency_ms@edge", "params")}
    made = MadeUpRun(columns, ["params", "latency_ms@edge", "+accuracy"])
    data = gather(*made.make(tmp_path))
    figures = front_figures(data)
    assert len(figures) == 3
    title, first = figures[0]
    assert title == "accuracy and parameters"
    assert first["layout"]["xaxis"]["title"]["text"] == "parameters, less is better"
    assert first["layout"]["yaxis"]["title"]["text"] == "accuracy (%), more is better"
    for _, figure in figures:
        drawn = traces(figure)
        assert drawn["on the front"]["customdata"] == data.table.numbers
        assert len(drawn["on the front"]["x"]) + len(drawn["within the budgets"]["x"]) == 50


def test_every_trial_is_drawn_once_at_its_place(tmp_path: Path) -> None:
    made = MadeUpRun(PLAIN.columns, budgets=PLAIN.budgets, failed=PLAIN.failed, screened=[7])
    drawn = traces(front_figures(gather(*made.make(tmp_path)))[0][1])
    numbers = {name: trace.get("customdata") for name, trace in drawn.items()}
    assert numbers == {
        "over budget": [5], "within the budgets": [2], "over budget, not evaluated": [7], "Pareto front": None,
        "on the front": [0, 1, 3, 4],
    }  # fmt: skip
    assert drawn["on the front"]["x"] == [0.1, 0.2, 0.4, 0.5]
    assert drawn["on the front"]["y"] == [0.9, 0.95, 0.97, 0.99]


def test_a_budget_is_drawn_where_its_metric_is(tmp_path: Path) -> None:
    made = MadeUpRun(PLAIN.columns, budgets=["latency_ms@edge <= 0.6", "accuracy >= 0.05"])
    layout = front_figures(gather(*made.make(tmp_path)))[0][1]["layout"]
    assert [(shape["x0"], shape["x1"]) for shape in layout["shapes"]] == [(0.6, 0.6)]  # 0.05 is far out of sight
    assert layout["xaxis"]["range"][1] > 0.6  # widened to show it


def test_costs_over_a_decade_get_a_logarithmic_axis(tmp_path: Path) -> None:
    made = MadeUpRun({"accuracy": [0.1, 0.95], "latency_ms@edge": [0.5, 50.0]})
    layout = front_figures(gather(*made.make(tmp_path)))[0][1]["layout"]
    assert layout["xaxis"]["type"] == "log"
    low, high = layout["xaxis"]["range"]
    assert low < math.log10(0.5) < math.log10(50) < high
    assert "type" not in layout["yaxis"]


def test_one_objective_is_drawn_against_its_budget_or_the_trial_number(tmp_path: Path) -> None:
    alone = MadeUpRun({"accuracy": [0.8, 0.9]}, ["+accuracy"])
    (_, figure), *none = front_figures(gather(*alone.make(tmp_path / "alone")))
    assert none == []
    assert figure["layout"]["xaxis"]["title"]["text"] == "trial number"
    held = MadeUpRun({"accuracy": [0.8, 0.9], "params": [1e3, 2e3]}, ["+accuracy"], ["params <= 3k"])
    assert (
        front_figures(gather(*held.make(tmp_path / "held")))[0][1]["layout"]["xaxis"]["title"]["text"] == "parameters"
    )


def test_progress_is_the_running_best_of_feasible_trials(tmp_path: Path) -> None:
    made = MadeUpRun(
        {"accuracy": [0.5, 0.99, 0.7, 0.6, 0.8], "latency_ms@edge": [3, 0.1, 2, 1, 4], "params": [1, 9, 1, 1, 1]},
        budgets=["params <= 2"],
    )
    data = gather(*made.make(tmp_path))
    accuracy, latency, volume, dots = progress_figure(data)["data"]
    assert (accuracy["x"], accuracy["y"]) == ([0, 2, 4], [0.5, 0.7, 0.8])
    assert (latency["x"], latency["y"]) == ([0, 2, 3, 4], [3, 2, 1, 1])
    assert dots["x"] == [0, 2, 3, 4]
    # reference (0.5 - 0.03, 4 + 0.3), best (0.8, 1): the staircase of the four feasible trials, by hand
    box = 0.33 * 3.3
    area = (0.6 - 0.47) * 3.3 + (0.7 - 0.6) * 2.3 + (0.8 - 0.7) * 0.3
    assert volume["y"][-1] == pytest.approx(area / box, rel=1e-5)
    assert [data.breaks(budget) for budget in data.parts.objectives.budgets] == [1]


def test_a_large_run_is_thinned_but_not_its_front(tmp_path: Path) -> None:
    n = 12_000
    rng = np.random.default_rng(1)
    gain = rng.random(n)
    columns = {"accuracy": gain * 0.5, "latency_ms@edge": gain + rng.random(n), "params": rng.random(n)}
    run, parts = MadeUpRun(columns, budgets=["params <= 0.9"], costly=()).make(tmp_path / "run")
    page = Page(write_report(run, parts, tmp_path / "report.html").read_text(encoding="utf-8"))
    drawn = traces(page.figures["fronts"][0])
    assert len(drawn["within the budgets"]["x"]) == CLOUD_POINTS
    assert len(drawn["on the front"]["x"]) == len(run.front(parts)) > 5
    assert f"{CLOUD_POINTS:,} of the" in page.text
    assert len(page.raw) < 1_500_000
    assert CLOUD_POINTS <= ALL_POINTS


def test_plotly_takes_the_figures(tmp_path: Path) -> None:
    go = pytest.importorskip("plotly.graph_objects")
    columns = {**PLAIN.columns, "pes@edge": [1.0, 2, 3, 400, 5, 6, 7, 8]}
    made = MadeUpRun(columns, ("+accuracy", "latency_ms@edge", "pes@edge"), PLAIN.budgets, PLAIN.failed, screened=[5])
    figures = report(made, tmp_path).figures
    assert len(figures["fronts"]) == 3
    for figure in [*figures["fronts"], figures["progress"]]:
        colours = re.sub(r"var\(--[a-z]+\)", "#123456", json.dumps(figure))
        go.Figure(json.loads(colours))  # raises on anything that plotly does not know


def test_slack_is_relative_to_the_limit() -> None:
    budgets = PLAIN.make()[1].objectives.budgets
    assert slack(budgets[0], np.array([55e3, 27.5e3, 110e3])).tolist() == [0.0, 0.5, -1.0]


# --- genotypes


def test_cells_are_drawn_and_the_rest_is_listed() -> None:
    joint = {"network": NASNET, "accelerators": {"edge": {"rows": 16, "dataflow": "ws"}}}
    for genotype in (NASNET, joint):
        assert list(drawings(genotype, "trial 3")) == ["normal", "reduction"]
        assert "/2" in drawings(genotype, "trial 3")["reduction"]
    listed = rows(joint, ("normal", "reduction"))
    assert listed == [("cells", "2"), ("channels", "8"), ("edge.rows", "16"), ("edge.dataflow", "ws")]


def test_another_space_is_listed_whole() -> None:
    genotype = {"depth": 3, "widths": [8, 16], "stage": {"kernel": 5, "skips": [{"from": 1}]}, "odd": {"blocks": [7]}}
    assert drawings(genotype, "trial 3") == {}
    assert rows(genotype) == [
        ("depth", "3"), ("widths", "8, 16"), ("stage.kernel", "5"), ("stage.skips", '[{"from": 1}]'),
        ("odd.blocks", "7"),
    ]  # fmt: skip


def test_columns_are_the_choices_in_which_members_differ() -> None:
    genotypes = [
        {"network": {"depth": d, "kind": "a", "widths": [d]}, "accelerators": {"edge": {"rows": r}}}
        for d, r in ((1, 8), (2, 8), (2, 16))
    ]
    assert varying_choices(genotypes) == {"edge.rows": ["8", "8", "16"], "depth": ["1", "2", "2"]}
    assert varying_choices([]) == {}
