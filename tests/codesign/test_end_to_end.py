"""From a job file to a verified ONNX file, through the command line, on data made here."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml

from tests.codesign.test_cli import run

pytestmark = [pytest.mark.torch, pytest.mark.slow]

JOB = {
    "name": "stripes",
    "data": {"type": "npz", "path": "stripes.npz"},
    "space": {"type": "nasnet", "blocks": 1, "cells": 1, "channels": [2, 4]},
    "targets": {
        "edge": {"type": "systolic", "preset": "edge-16x16", "search": True},
        "cpu": {"type": "onnxruntime", "readings": 6},
    },
    "objectives": {"maximize": "accuracy", "minimize": ["latency_ms@edge", "pes@edge"]},
    "budgets": ["params <= 20k", "latency_ms@cpu <= 1000"],
    "search": {"trials": 6, "strategy": "nsga2"},
    "evaluate": {"type": "train", "epochs": 2, "batch_size": 16},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with data and a finished run in `out`."""
    folder = tmp_path_factory.mktemp("end_to_end")
    rng = np.random.default_rng(0)
    labels = np.arange(240) % 2
    images = rng.integers(0, 60, (240, 9, 9), dtype=np.uint8)
    images[labels == 0, ::2] += 120
    images[labels == 1, :, ::2] += 120
    np.savez(folder / "stripes.npz", images=images, labels=labels)
    (folder / "job.yaml").write_text(yaml.safe_dump(JOB))
    from codesign.cli import main

    with pytest.raises(SystemExit) as caught:
        main(["run", str(folder / "job.yaml"), "--out", str(folder / "out")])
    assert caught.value.code == 0
    return folder


def test_front_in_every_form(folder: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    status, out, _ = run(capsys, "front", str(folder / "out"), "--json")
    found = json.loads(out)
    assert status == 0
    members = found["members"]
    assert members
    assert all(member["metrics"]["params"] <= 20_000 for member in members)
    assert all("rows" in json.dumps(member["genotype"]) for member in members), "the array is part of the genotype"
    files = ("--csv", str(tmp_path / "f.csv"), "--parquet", str(tmp_path / "f.parquet"))
    assert run(capsys, "front", str(folder / "out"), *files)[0] == 0
    rows = list(csv.DictReader((tmp_path / "f.csv").read_text().splitlines()))
    assert [int(row["number"]) for row in rows] == [member["number"] for member in members]
    assert pq.read_table(tmp_path / "f.parquet").num_rows == len(members)
    cheapest = min(member["metrics"]["latency_ms@edge"] for member in members)
    where = ("--where", f"latency_ms@edge <= {cheapest * 1.0001}", "--json")
    kept = json.loads(run(capsys, "front", str(folder / "out"), *where)[1])["members"]
    assert [member["metrics"]["latency_ms@edge"] for member in kept] == [cheapest] * len(kept)
    assert run(capsys, "front", str(folder / "out"))[0] == 0


def test_export_verify_and_a_flipped_byte(folder: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    model = tmp_path / "best.onnx"
    status, out, _ = run(capsys, "export", str(folder / "out"), "--best", "accuracy", "--out", str(model))
    assert status == 0
    manifest = json.loads((tmp_path / "best.manifest.json").read_text())
    number = int(out.split()[1].rstrip(":"))
    shown = json.loads(run(capsys, "show", str(folder / "out"), str(number), "--json")[1])
    assert manifest["genotype"] == shown["genotype"]
    assert manifest["accuracy"]["n"] == 48
    tested = shown["finals"]["test_accuracy"][0]
    assert manifest["accuracy"]["value"] == pytest.approx(tested), "onnxruntime and torch agree"
    assert run(capsys, "verify", str(model))[0] == 0
    assert run(capsys, "verify", str(model), "--data", str(folder / "out"))[0] == 0
    content = bytearray(model.read_bytes())
    for position in (0, len(content) // 3, len(content) - 1):
        content[position] ^= 1
        model.write_bytes(content)
        status, _, err = run(capsys, "verify", str(model))
        assert status == 1
        assert err.startswith("failed: ")
        content[position] ^= 1


def test_the_profile_of_the_exported_file_agrees_with_the_run(
    folder: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    model = tmp_path / "model.onnx"
    status, out, _ = run(capsys, "export", str(folder / "out"), "--out", str(model))
    assert status == 0
    shown = json.loads(run(capsys, "show", str(folder / "out"), out.split()[1].rstrip(":"), "--json")[1])
    profile = json.loads(run(capsys, "profile", str(model), "--target", "edge-16x16", "--json")[1])
    assert profile["metrics"]["macs"] == shown["metrics"]["macs"]
    assert profile["metrics"]["params"] == shown["metrics"]["params"]
    assert run(capsys, "profile", str(model), "--target", "tpu-like", "--target", "cpu")[0] == 0


def test_report_and_list(folder: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert run(capsys, "report", str(folder / "out"), "--out", str(tmp_path / "r.html"))[0] == 0
    text = (tmp_path / "r.html").read_text()
    assert "stripes" in text
    assert "<svg" in text
    rows = json.loads(run(capsys, "list", "runs", str(folder), "--json")[1])
    assert [(row["name"], row["failed"]) for row in rows] == [("stripes", 0)]


def test_resume_of_a_finished_run_does_nothing_and_more_trials_extend_it(
    folder: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    copy = tmp_path / "copy"  # a run is one folder: it may be copied
    shutil.copytree(folder / "out", copy)
    before = json.loads(run(capsys, "list", "runs", str(copy), "--json")[1])
    assert run(capsys, "resume", str(copy))[0] == 0
    assert json.loads(run(capsys, "list", "runs", str(copy), "--json")[1]) == before
    assert run(capsys, "resume", str(copy), "search.trials=8")[0] == 0
    assert json.loads(run(capsys, "list", "runs", str(copy), "--json")[1])[0]["trials"] == 8
    refused = (("search.trials=3", "fewer than"), ("search.seed=1", "may change"), ("budgets=[]", "may change"))
    for change, message in refused:
        status, _, err = run(capsys, "resume", str(copy), change)
        assert status == 2
        assert message in err


def test_a_run_is_queried_where_its_data_is_not(
    folder: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    shutil.copytree(folder / "out", tmp_path / "out")
    origin = json.loads((tmp_path / "out" / "origin.json").read_text())
    (tmp_path / "out" / "origin.json").write_text(json.dumps({**origin, "job_folder": str(tmp_path)}))
    assert run(capsys, "front", str(tmp_path / "out"), "--json")[0] == 0
    assert run(capsys, "report", str(tmp_path / "out"))[0] == 0
    status, _, err = run(capsys, "export", str(tmp_path / "out"), "--out", str(tmp_path / "m.onnx"))
    assert status == 2
    assert "stripes.npz" in err
    assert not (tmp_path / "m.onnx").exists()


def test_a_run_does_not_mix_two_data_sets(folder: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    shutil.copytree(folder / "out", tmp_path / "out")
    with np.load(folder / "stripes.npz") as arrays:
        np.savez(tmp_path / "stripes.npz", images=arrays["images"], labels=1 - arrays["labels"])
    origin = json.loads((tmp_path / "out" / "origin.json").read_text())
    (tmp_path / "out" / "origin.json").write_text(json.dumps({**origin, "job_folder": str(tmp_path)}))
    for arguments in (("resume", str(tmp_path / "out"), "search.trials=9"), ("export", str(tmp_path / "out"))):
        status, _, err = run(capsys, *arguments)
        assert status == 2
        assert "has changed since the run" in err


def test_wrong_trials_are_not_exported(folder: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    out = ("--out", str(tmp_path / "m.onnx"))
    for arguments, message in (
        (("--trial", "999"), "is not in"),
        (("--best", "acuracy"), "did you mean 'accuracy'"),
        (("--where", "params <= 1"), "no feasible trial that meets"),
        (("--trial", "0", "--best", "accuracy"), "does not go with"),
    ):
        status, _, err = run(capsys, "export", str(folder / "out"), *arguments, *out)
        assert status == 2, err
        assert message in err
    assert not list(tmp_path.iterdir())
