"""Kills the driver of a real training run at random instants and resumes it.

Prints: trials lost, trials run twice, and whether the final ledger equals that of a run that was never killed. Exit
status 1 if any of it is not as it should be.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import yaml

from codesign.cli import main as codesign
from codesign.run import Run, open_run

JOB = {
    "name": "killed",
    "data": {"type": "digits", "split": {"limit": 300}},
    "space": {"type": "nasnet", "blocks": 1, "cells": 1, "channels": [2, 4]},
    "targets": {"edge": {"type": "systolic", "preset": "edge-16x16"}},
    "objectives": {"maximize": "accuracy", "minimize": "latency_ms@edge"},
    "budgets": ["params <= 10k"],
    "evaluate": {"type": "train", "epochs": 3},
}


def facts(run: Run) -> dict[int, tuple[object, ...]]:
    """Everything of the ledger but times, by trial number."""
    return {
        t.number: (t.state, str(t.genotype), t.violation, t.error,
                   tuple(sorted((name, value) for name, value in t.metrics.items() if name != "train_seconds")))
        for t in run.store.trials(run.study_id)
    }  # fmt: skip


def finished(folder: Path) -> dict[int, object]:
    """When each finished trial was finished, by number."""
    if not (folder / "job.yaml").exists():
        return {}
    run = open_run(folder)
    times = {
        int(str(row["number"])): row["finished_at"] for row in run.store.ledger(run.study_id) if row["finished_at"]
    }
    run.store.close()
    return times


def start(job: Path, folder: Path) -> subprocess.Popen[bytes]:
    """`run`, or `resume` once there is a run."""
    arguments = ["resume", str(folder)] if (folder / "job.yaml").exists() else ["run", str(job), "--out", str(folder)]
    command = [sys.executable, "-m", "codesign", *arguments]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--driver", choices=("serial", "ray", "tune"), default="serial")
    parser.add_argument("--trials", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    rng = np.random.default_rng(arguments.seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        content = {**JOB, "search": {"trials": arguments.trials}, "driver": {"type": arguments.driver, "workers": 2}}
        job = folder / "job.yaml"
        job.write_text(yaml.safe_dump(content))
        with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()):
            codesign(["run", str(job), "driver.type=serial", "--out", str(folder / "whole")])
        cut = folder / "cut"
        known: dict[int, object] = {}
        lost = twice = 0
        longest = 6.0 if arguments.driver == "serial" else 16.0  # most kills shall hit a run at work, not one starting
        for _ in range(arguments.kills):
            process = start(job, cut)
            time.sleep(float(rng.uniform(1.0, longest)))
            process.kill()
            process.wait()
            now = finished(cut)
            lost += sum(number not in now for number in known)
            twice += sum(now.get(number, when) != when for number, when in known.items())
            known = now
        print(f"killed {arguments.kills} times; finished by then: {len(known)} trials")
        start(job, cut).wait()
        now = finished(cut)
        lost += sum(number not in now for number in known)
        twice += sum(now.get(number, when) != when for number, when in known.items())
        is_equal = facts(open_run(cut)) == facts(open_run(folder / "whole"))
        print(f"trials lost: {lost}")
        print(f"trials run twice: {twice}")
        print(f"ledger equals the unbroken serial run's: {'yes' if is_equal else 'NO'} ({len(now)} trials)")
        return 0 if lost == twice == 0 and is_equal else 1


if __name__ == "__main__":
    sys.exit(main())
