"""Zero-cost scores as a job's warm start: scored once, kept in the run's folder, gone on with after a cut."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from codesign.errors import DataError, InputError
from codesign.job import parse_job
from codesign.run import Run, create_run, drive, open_run, plan_run, study_of, with_scores
from codesign.zero_cost_prior import draw_candidates
from search_spaces.nasbench201 import NasBench201
from search_spaces.nasbench201_cell import EDGE_NAMES

pytestmark = [pytest.mark.torch, pytest.mark.slow]

CELLS = np.array([[3] * 6, [1, 0, 0, 1, 0, 0]])


def job(**more: object) -> dict[str, object]:
    return {
        "name": "prior",
        "space": {"type": "nasbench201", "channels": 4, "cells": 1},
        "objectives": {"maximize": "accuracy", "minimize": "macs"},
        "search": {"strategy": "auto", "trials": 2, "seed": 1},
        "evaluate": {"type": "train", "epochs": 1},
        "warm_start": [{"zero_cost": "synflow", "candidates": 30}, {"zero_cost": "nwot", "candidates": 20}],
        **more,
    }  # fmt: skip


def begun(folder: Path, name: str, said: list[str]) -> Run:
    parts = plan_run(parse_job(job()), folder / name, folder)
    assert parts.foresight().prior_of == ()  # nothing is scored before the run has a folder
    run = create_run(parts, folder)
    drive(run, parts, study_of(run, parts, said.append))
    return run


def test_scores_are_computed_once_and_the_search_resumes_with_them(tmp_path: Path) -> None:
    said: list[str] = []
    run = begun(tmp_path, "one", said)
    assert len(said) == 31
    assert said[-1] == "scored 30 untrained networks: nwot, synflow"
    again = open_run(run.folder)
    parts = again.parts()
    assert [(one.objective, one.source) for one in parts.learned] == [
        ("accuracy", "untrained networks:synflow"), ("accuracy", "untrained networks:nwot"),
    ]  # fmt: skip
    priors = parts.foresight()(CELLS).priors
    assert (priors[0] < priors[1]).all()  # six convolutions against two identities, as losses
    study_of(again, parts, said.append)
    assert len(said) == 31
    assert len(with_scores(parts, said.append).learned) == 2


def test_scoring_goes_on_after_a_cut(tmp_path: Path) -> None:
    whole = begun(tmp_path, "whole", []).folder / "zero_cost"
    parts = plan_run(parse_job(job()), tmp_path / "cut", tmp_path)
    run = create_run(parts, tmp_path)

    def cut(text: str) -> None:
        if text.startswith("scoring untrained networks: 12 "):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        study_of(run, parts, cut)
    said: list[str] = []
    resumed = open_run(run.folder)
    study_of(resumed, resumed.parts(), said.append)
    assert said[0] == "scoring untrained networks: 12 of 30"
    for name in ("scores.json", "warm_start.json", "warm_start.npz"):
        assert (run.folder / "zero_cost" / name).read_bytes() == (whole / name).read_bytes()


def test_kept_scores_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    parts = plan_run(parse_job(job()), tmp_path / "run", tmp_path)
    run = create_run(parts, tmp_path)
    file = run.folder / "zero_cost" / "scores.json"
    file.parent.mkdir()
    for content, message in (("{", "damaged"), (json.dumps({"fingerprint": "x", "scores": []}), "other data")):
        file.write_text(content)
        with pytest.raises(DataError, match=message):
            study_of(run, parts)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"warm_start": [{"zero_cost": "synflo"}]}, "warm_start.0.zero_cost: 'synflo'.*did you mean 'synflow'"),
        ({"warm_start": [{"zero_cost": "nwot", "objective": "macs"}]}, "warm_start.0.objective: 'macs'"),
        ({"warm_start": [{"zero_cost": "nwot", "run": "x"}]}, "one of them"),
        ({"warm_start": [{"run": "x", "candidates": 80}]}, "candidates"),
        ({"warm_start": [{"zero_cost": "nwot", "metric": "x"}]}, "leave metric out"),
        ({"search": {"strategy": "random"}}, "learns nothing"),
    ],
)
def test_wrong_entries(tmp_path: Path, more: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        plan_run(parse_job(job(**more)), tmp_path / "run", tmp_path)


def test_a_job_without_data_has_nothing_to_score_on(tmp_path: Path) -> None:
    columns = ",".join([*EDGE_NAMES, "top1"])
    (tmp_path / "cells.csv").write_text(f"{columns}\n3,3,3,3,3,3,0.9\n")
    table = {"type": "table", "path": "cells.csv", "codes": list(EDGE_NAMES), "metrics": {"accuracy": "top1"}}
    content = job(evaluate=table, space={"type": "nasbench201"})
    with pytest.raises(InputError, match=r"warm_start\.0\.zero_cost: networks are scored on data"):
        plan_run(parse_job(content), tmp_path / "run", tmp_path)


def test_candidates_are_different_and_a_small_space_gives_what_it_has() -> None:
    space = NasBench201()
    codes = draw_candidates(space, 200, np.random.default_rng(0))
    assert len(np.unique(codes, axis=0)) == 200
    assert np.array_equal(space.canonical(codes), codes)
    assert np.array_equal(codes[:50], draw_candidates(space, 200, np.random.default_rng(0))[:50])
