"""The three benchmarks of strategies, run as a user runs them, on made-up tables."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from tests.codesign.test_compare_cells import columns, write

pytestmark = pytest.mark.slow
BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def bench(name: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "error", str(BENCHMARKS / name), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


@pytest.fixture(scope="module")
def cells(tmp_path_factory: pytest.TempPathFactory) -> Path:
    table = columns()
    return write(tmp_path_factory.mktemp("table") / "cells.parquet", {**table, "s": np.array(table["ms"]) / 1e3})


def test_nb201_prints_tables_and_writes_files(cells: Path, tmp_path: Path) -> None:
    plot, scores = tmp_path / "race.svg", tmp_path / "scores.csv"
    done = bench(
        "nb201.py", "--table", cells, "--accuracy", "acc", "--cost", "ms,s", "--evaluations", "10,40", "--seeds", 2,
        "--strategies", "random,nsga2:population_size=8", "--workers", 3, "--jobs", 1, "--plot", plot, "--csv", scores,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "acc:ms: 313 cells; exact front" in done.stdout
    for heading in ("acc:s, 3 workers: median of 2 seeds", "mean of 2 tasks", "lost against one worker"):
        assert heading in done.stdout
    assert "16/16 runs" in done.stderr
    assert len(scores.read_text().splitlines()) == 1 + 16 * 2
    assert len(ElementTree.parse(plot).findall("{http://www.w3.org/2000/svg}polyline")) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--accuracy", "acc", "--cost", "mss"), "did you mean 'ms'"),
        (("--accuracy", "acc"), "--accuracy and --cost"),
        (("--tasks", "acc:ms:s"), "--tasks"),
        (("--tasks", "acc:ms", "--evaluations", "ten"), "--evaluations: 'ten'"),
        (("--tasks", "acc:ms", "--strategies", "nsga"), "did you mean 'nsga2'"),
        (("--tasks", "acc:ms", "--best", 50), "above the best"),
        (("--tasks", "acc:ms", "--plot", "nowhere/race.svg"), "there is no folder"),
    ],
)
def test_a_wrong_input_is_one_sentence(cells: Path, arguments: tuple[object, ...], message: str) -> None:
    done = bench("nb201.py", "--table", cells, "--strategies", "random", *arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_constrained_trains_nothing_over_the_budget(cells: Path) -> None:
    done = bench(
        "constrained.py", "--table", cells, "--tasks", "acc:ms", "--evaluations", "10,20", "--seeds", 2,
        "--strategies", "random,local-search", "--jobs", 1,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("regret in accuracy points") == 3
    header, *rows = done.stdout.splitlines()[-3:]
    place = header.split().index("infeasible") - len(header.split())
    assert [row.split()[place] for row in rows] == ["0", "0"]


def test_large_space_fits_a_device_and_races(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    blocks, parts = rng.integers(0, 9, (800, 22)), rng.gamma(2.0, size=(22, 9))
    table = {f"b{layer}": blocks[:, layer] for layer in range(22)}
    path = write(tmp_path / "latency.parquet", {**table, "lat": 3 + parts[np.arange(22), blocks].sum(axis=1)})
    done = bench(
        "large_space.py", "--latency", path, "--device", "lat", "--evaluations", "10,30", "--seeds", 2,
        "--strategies", "random,nsga2", "--jobs", 1,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("9.8e+20 networks; lat as a sum over layers: median error 0.")
    wrong = bench("large_space.py", "--latency", path, "--device", "latency", "--strategies", "random")
    assert wrong.returncode == 2
    assert "did you mean 'lat'" in wrong.stderr
