"""Tables and pictures of races, worked by hand."""

from __future__ import annotations

import csv
import io
from xml.etree import ElementTree

import numpy as np
import pytest

from codesign.compare import Outcome
from codesign.compare_report import (
    curve_counts,
    losses_text,
    mean_standings,
    median_curves,
    scores_csv,
    standings,
    standings_text,
)
from codesign.compare_svg import race_svg

SVG = "{http://www.w3.org/2000/svg}"


def outcome(task: str, strategy: str, seed: int, scores: list[float], workers: int = 1, ms: float = 2.0) -> Outcome:
    n = len(scores)
    return Outcome(
        task=task,
        strategy=strategy,
        seed=seed,
        workers=workers,
        codes=np.zeros((n, 1), dtype=np.int64),
        losses=np.zeros((n, 2)),
        scores=np.array(scores),
        n_proposals=2 * np.arange(1, n + 1),
        n_screened=np.zeros(n, dtype=np.int64),
        cpu_s=np.full(n, ms / 1e3),
        ended=np.arange(n, dtype=float),
        set_up_s=0.0,
    )


RACE = [
    *(outcome("one", "a", seed, [0.1, score]) for seed, score in enumerate((0.2, 0.9, 0.4))),
    *(outcome("two", "a", seed, [0.3, score], ms=4.0) for seed, score in enumerate((0.6, 0.8))),
    *(outcome(task, "b", 0, [0.4, 0.5]) for task in ("one", "two")),
]


def test_medians_over_seeds_then_means_over_tasks() -> None:
    found = standings(RACE, [1, 2])
    assert [(one.task, one.strategy, one.n_seeds) for one in found] == [
        ("one", "a", 3), ("two", "a", 2), ("one", "b", 1), ("two", "b", 1)
    ]  # fmt: skip
    assert found[0].scores == pytest.approx([0.1, 0.4])
    assert found[1].scores == pytest.approx([0.3, 0.7])
    mean = {one.strategy: one for one in mean_standings(found)}
    assert mean["a"].scores == pytest.approx([0.2, 0.55])
    assert mean["a"].ms == pytest.approx(3.0)
    assert mean["a"].proposals == pytest.approx(2.0)
    text = standings_text(list(mean.values()), [1, 2]).splitlines()
    assert text[1].split()[:3] == ["a", "0.2000", "0.5500"]
    assert text[2].split()[:3] == ["b", "0.4000", "0.5000"]
    assert median_curves(RACE, [2])["a", 1] == pytest.approx([0.55])


def test_the_loss_of_workers_is_against_one_worker() -> None:
    runs = [outcome("one", "a", 0, [0.5, 0.9]), outcome("one", "a", 0, [0.5, 0.8], workers=8)]
    assert losses_text(standings(runs, [1, 2]), [1, 2]).splitlines()[1].split() == ["a", "8", "+0.0000", "+0.1000"]


def test_late_candidates_are_reported_where_there_are_any() -> None:
    assert np.isnan(standings(RACE, [1])[0].late_ms)
    assert standings([outcome("one", "a", 0, [0.5] * 500)], [1])[0].late_ms == pytest.approx(2.0)


def test_the_file_has_a_line_for_every_run_and_budget() -> None:
    rows = list(csv.DictReader(io.StringIO(scores_csv(RACE, [1, 2]))))
    assert len(rows) == 2 * len(RACE)
    assert rows[3]["task"] == "one"
    assert float(rows[3]["score"]) == 0.9


def test_curves_pass_through_every_budget() -> None:
    assert curve_counts([3, 7]) == [3, 7]
    counts = curve_counts([25, 1000])
    assert counts[0] == 10
    assert counts[-1] == 1000
    assert 25 in counts
    assert max(np.diff(np.log(counts))) < 0.15


def test_the_picture_shows_every_curve_and_escapes_names() -> None:
    curves = {"a<b": np.array([0.1, 0.5]), "c": np.array([np.nan, 0.5]), "none": np.array([np.nan, np.nan])}
    picture = ElementTree.fromstring(race_svg(curves, [10, 100], "Title & more", "score"))
    lines = picture.findall(f"{SVG}polyline")
    assert len(lines) == 2
    points = [tuple(map(float, point.split(","))) for point in lines[0].attrib["points"].split()]
    assert points[0][0] < points[1][0]
    assert points[0][1] > points[1][1], "more is higher"
    labels = [text.text for text in picture.findall(f"{SVG}text")]
    assert {"a<b", "c", "Title & more", "10", "100"} <= set(labels)
    heights = [float(text.attrib["y"]) for text in picture.findall(f"{SVG}text") if text.text in ("a<b", "c")]
    assert abs(heights[0] - heights[1]) >= 16, "labels of equal ends do not overlap"
    with pytest.raises(ValueError, match="at least one curve"):
        race_svg({}, [1], "", "")
