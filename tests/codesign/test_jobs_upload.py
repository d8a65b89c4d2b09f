"""What travels with a submitted job."""

from __future__ import annotations

import shutil
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from codesign.errors import InputError
from codesign.job import Job, load_job, parse_job
from codesign.jobs_upload import Upload, check_job, plan_upload, write_upload
from simulators.accelerator import PRESET_FOLDER

BASE: dict[str, Any] = {
    "name": "tiny",
    "space": {"type": "nasnet", "blocks": 2, "cells": 1, "channels": 4},
    "objectives": {"minimize": ["params"]},
    "evaluate": "cost",
}


def job(**changes: Any) -> Job:
    return parse_job({**BASE, **changes})


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A project: jobs/ holds the job file, beside it lies data/ with a small data set."""
    path, modules = list(sys.path), set(sys.modules)
    (tmp_path / "jobs").mkdir()
    (tmp_path / "data").mkdir()
    rng = np.random.default_rng(0)
    np.savez(
        tmp_path / "data" / "tiny.npz",
        images=rng.integers(0, 255, (60, 8, 8), dtype=np.uint8),
        labels=np.arange(60) % 3,
    )
    yield tmp_path / "jobs"
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        if name.startswith("own_"):
            del sys.modules[name]


def names(upload: Upload, tmp_path: Path) -> list[str]:
    write_upload(upload, tmp_path / "job.zip")
    with zipfile.ZipFile(tmp_path / "job.zip") as archive:
        assert archive.testzip() is None
        return archive.namelist()


def test_a_job_alone_is_one_file_with_overrides_and_defaults(folder: Path, tmp_path: Path) -> None:
    file = folder / "mine.yaml"
    file.write_text(yaml.safe_dump(BASE))
    loaded = load_job(file, ["search.trials=7"])
    assert names(plan_upload(loaded, folder), tmp_path) == ["job.yaml"]
    with zipfile.ZipFile(tmp_path / "job.zip") as archive:
        assert parse_job(yaml.safe_load(archive.read("job.yaml"))) == loaded


def test_relative_data_keeps_its_place(folder: Path, tmp_path: Path) -> None:
    shutil.copy(folder.parent / "data" / "tiny.npz", folder / "here.npz")
    assert names(plan_upload(job(data={"type": "npz", "path": "./here.npz"}), folder), tmp_path) == [
        "job.yaml",
        "here.npz",
    ]
    above = plan_upload(job(data={"type": "npz", "path": "../data/tiny.npz"}), folder)
    assert above.job_path == "jobs/job.yaml"
    assert names(above, tmp_path) == ["jobs/job.yaml", "data/tiny.npz"]


def test_the_unpacked_job_means_the_same(folder: Path, tmp_path: Path) -> None:
    upload = plan_upload(job(data={"type": "npz", "path": "../data/tiny.npz"}), folder)
    write_upload(upload, tmp_path / "job.zip")
    there = tmp_path / "there"
    with zipfile.ZipFile(tmp_path / "job.zip") as archive:
        archive.extractall(there)
    file = there / upload.job_path
    check_job(load_job(file), file.parent)  # finds its data


def test_folders_travel_whole_with_hidden_files_and_what_links_lead_to(folder: Path, tmp_path: Path) -> None:
    images = folder / "images"
    (images / "cats" / "__pycache__").mkdir(parents=True)
    (images / "cats" / "__pycache__" / "x.pyc").write_bytes(b"")
    (images / "cats" / "a.png").write_bytes(b"a")
    (images / ".gitignore").write_text("*\n")
    (images / "dogs").symlink_to(images / "cats")
    (images / "cats" / "round").symlink_to(images)  # a circle ends
    (tmp_path / "far.png").write_bytes(b"far")
    (images / "cats" / "b.png").symlink_to(tmp_path / "far.png")
    found = names(plan_upload(job(data={"type": "image-folder", "path": "images"}), folder), tmp_path)
    assert set(found) == {"job.yaml", "images/.gitignore", "images/cats/a.png", "images/cats/b.png"}
    with zipfile.ZipFile(tmp_path / "job.zip") as archive:
        assert archive.read("images/cats/b.png") == b"far"


def test_absolute_paths_and_our_presets_stay(folder: Path, tmp_path: Path) -> None:
    (folder / "own.toml").write_text((PRESET_FOLDER / "edge-16x16.toml").read_text())
    targets = {
        "ours": {"type": "systolic", "preset": "edge-16x16"},
        "own": {"type": "systolic", "preset": "own.toml"},
        "absolute": {"type": "systolic", "preset": str(folder / "own.toml")},
    }
    data = {"type": "npz", "path": str(folder.parent / "data" / "tiny.npz")}
    assert names(plan_upload(job(data=data, targets=targets), folder), tmp_path) == ["job.yaml", "own.toml"]


def test_own_modules_travel_with_what_they_import_to_the_top(folder: Path, tmp_path: Path) -> None:
    (folder / "own_data.py").write_text("import json\nfrom own_helper import shapes\nimport own_package.deep\n")
    (folder / "own_helper.py").write_text("def shapes():\n    import own_late\n")
    (folder / "own_late.py").write_text("import own_data\n")  # a circle ends
    (folder / "own_package").mkdir()
    (folder / "own_package" / "__init__.py").write_text("from . import deep\n")
    (folder / "own_package" / "deep.py").write_text("")
    (folder / "own_package" / "table.json").write_text("{}")
    (folder / "unused.py").write_text("")
    wanted = job(data={"type": "function", "call": "own_data:load", "options": {"where": "../data"}})
    found = names(plan_upload(wanted, folder), tmp_path)
    assert set(found) == {
        "job.yaml", "own_data.py", "own_helper.py", "own_late.py",
        "own_package/__init__.py", "own_package/deep.py", "own_package/table.json",
    }  # fmt: skip
    nested = plan_upload(job(data={"type": "npz", "path": "../data/tiny.npz"}, space="own_data:Space"), folder)
    assert {"own_data.py", "jobs/job.yaml"} <= set(names(nested, tmp_path))  # Ray's workers import from the top


def test_two_files_for_one_place_are_refused(folder: Path) -> None:
    (folder / "own_it").mkdir()
    (folder / "own_it" / "__init__.py").write_text("")
    (folder.parent / "own_it").mkdir()
    (folder.parent / "own_it" / "__init__.py").write_text("")
    with pytest.raises(InputError, match="would lie in one place; rename one"):
        plan_upload(job(data={"type": "npz", "path": "../own_it"}, space="own_it:Space"), folder)


def test_a_path_that_leads_nowhere_is_refused(folder: Path) -> None:
    with pytest.raises(InputError, match=r"data\.path: 'gone\.npz' does not exist beside the job file"):
        plan_upload(job(data={"type": "npz", "path": "gone.npz"}), folder)


def test_equal_files_give_equal_packages(folder: Path, tmp_path: Path) -> None:
    upload = plan_upload(job(data={"type": "npz", "path": "../data/tiny.npz"}), folder)
    write_upload(upload, tmp_path / "a.zip")
    (folder.parent / "data" / "tiny.npz").touch()
    write_upload(upload, tmp_path / "b.zip")
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()


def test_the_limit_counts_compressed_bytes_and_names_what_is_large(folder: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    (folder / "noise.npz").write_bytes(rng.bytes(50_000))
    (folder / "zeros.npz").write_bytes(bytes(50_000))
    write_upload(
        plan_upload(job(data={"type": "npz", "path": "zeros.npz"}), folder), tmp_path / "z.zip", limit_bytes=10_000
    )
    noise = plan_upload(job(data={"type": "npz", "path": "noise.npz"}), folder)
    write_upload(noise, tmp_path / "n.zip", limit_bytes=60_000)
    exact = (tmp_path / "n.zip").stat().st_size
    write_upload(noise, tmp_path / "n.zip", limit_bytes=exact)
    with pytest.raises(InputError, match=r"data\.path \(.*noise\.npz\).*give its absolute path"):
        write_upload(noise, tmp_path / "n.zip", limit_bytes=exact - 1)


def test_data_on_the_cluster_is_noted_and_the_rest_still_checked(folder: Path, tmp_path: Path) -> None:
    away = {"type": "npz", "path": "/on/the/cluster/x.npz"}
    notes = check_job(job(data=away), folder)
    assert len(notes) == 1
    assert notes[0].startswith("data.path: /on/the/cluster/x.npz is an absolute path and does not travel")
    assert "not checked" in notes[0]
    with pytest.raises(InputError, match="did you mean 'layout'"):
        check_job(job(data={**away, "layuot": "chw"}), folder)
    with pytest.raises(InputError, match="did you mean 'params'"):
        check_job(job(data=away, budgets=["parms <= 1"]), folder)
    with pytest.raises(InputError, match="did you mean 'edge-16x16'"):
        check_job(job(data=away, targets={"e": {"type": "systolic", "preset": "edge-16x15"}}), folder)


def test_absolute_data_that_is_here_is_checked_here(folder: Path) -> None:
    path = folder.parent / "data" / "tiny.npz"
    notes = check_job(job(data={"type": "npz", "path": str(path)}), folder)
    assert len(notes) == 1
    assert "the cluster reads it from its own disk" in notes[0]
    path.write_bytes(b"broken")
    with pytest.raises(InputError):
        check_job(job(data={"type": "npz", "path": str(path)}), folder)


def test_a_module_that_is_not_beside_the_job_is_noted(folder: Path) -> None:
    (folder / "own_reader.py").write_text(
        "import numpy as np\ndef load():\n    return np.zeros((60, 8, 8), np.uint8), np.arange(60) % 3\n"
    )
    assert check_job(job(data={"type": "function", "call": "own_reader:load"}), folder) == []
    installed = folder.parent / "site"
    installed.mkdir()
    (folder / "own_reader.py").rename(installed / "own_elsewhere.py")
    sys.path.append(str(installed))
    notes = check_job(job(data={"type": "function", "call": "own_elsewhere:load"}), folder)
    assert notes == ["module 'own_elsewhere' is not beside the job file; it must be installed on the cluster"]


def test_checking_writes_nothing(folder: Path) -> None:
    check_job(job(data={"type": "npz", "path": "../data/tiny.npz"}), folder)
    assert list(folder.iterdir()) == []
