"""What codesign itself costs: per cheap trial, per insert, per front, per start of the command line.

Prints one figure per line with its bound; exit status 1 if one is missed.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from codesign.cost import CostEvaluator, Target
from codesign.cost_only import CostOnly, Simulated
from codesign.drive_serial import drive_serial
from codesign.objectives import Objective, Objectives
from codesign.pareto import is_nondominated
from codesign.store import NewTrials, Store
from codesign.strategies.evolution import RegularizedEvolution
from codesign.study import Study
from codesign.trial import State
from search_spaces.nasnet import NasNet
from simulators.accelerator import load_preset
from simulators.systolic import Systolic


def cheap_trial_us(folder: Path, n: int, batch: int) -> tuple[float, float]:
    """Microseconds from ask to stored per trial, and how many of them went into the evaluation itself."""
    space = NasNet(image_shape=(1, 8, 8), classes=10, blocks=3, cells=1, channels=(4, 8, 12))
    simulator = Systolic()
    cost = CostEvaluator(space, {"edge": Target("edge", simulator, load_preset("edge-16x16", simulator).values)})
    evaluator = CostOnly((Simulated(cost),))
    spent = 0.0

    class Timed(CostOnly):
        def evaluate(self, codes):  # type: ignore[no-untyped-def]
            nonlocal spent
            began = time.perf_counter()
            found = super().evaluate(codes)
            spent += time.perf_counter() - began
            return found

    timed = Timed(evaluator.screens)
    objectives = Objectives((Objective("params"), Objective("latency_ms@edge")))
    store = Store(f"sqlite:///{folder / 'cheap.db'}")
    strategy = RegularizedEvolution(space, 2, 0)
    study = Study(space, strategy, objectives, store, store.add_study("a", "{}"), timed, trials=n, batch=batch)
    began = time.perf_counter()
    drive_serial(study, timed)
    whole = time.perf_counter() - began
    assert len(store.keys(study.id)) == n
    return (whole - spent) / n * 1e6, whole / n * 1e6


def fill(store: Store, study_id: int, n: int, batch: int) -> float:
    """Insert n measured trials of two metrics; seconds."""
    rng = np.random.default_rng(0)
    genotypes = [{"x": [1, 2, 3, 4]}] * batch
    seconds = 0.0
    for first in range(0, n, batch):
        accuracy = rng.random(batch)
        metrics = {"accuracy": accuracy, "latency_ms@edge": 1 + accuracy**2 + rng.random(batch)}
        keys = [f"{i:032x}" for i in range(first, first + batch)]
        new = NewTrials(
            first,
            [0] * batch,
            [State.MEASURED] * batch,
            keys,
            [[1, 2, 3, 4]] * batch,
            genotypes,
            np.zeros(batch),
            [""] * batch,
            metrics,
        )
        began = time.perf_counter()
        store.record(study_id, new=new)
        seconds += time.perf_counter() - began
    return seconds


def front_seconds(store: Store, study_id: int) -> tuple[float, int]:
    """Seconds to read the columns and find the front, and its size."""
    objectives = Objectives((Objective("accuracy", maximize=True), Objective("latency_ms@edge")))
    began = time.perf_counter()
    columns = store.columns(study_id, objectives.needed_metrics)
    front = is_nondominated(objectives.losses(columns), columns["violation"])
    return time.perf_counter() - began, int(front.sum())


def cpu_seconds(command: list[str], repeats: int = 7) -> float:
    """Smallest CPU seconds of a command over several starts."""
    found = []
    for _ in range(repeats):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(command, check=True, capture_output=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        found.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return min(found)


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=10_000, help="cheap trials")
    parser.add_argument("--rows", type=int, default=1_000_000, help="trials behind the front")
    arguments = parser.parse_args()
    missed = []

    def show(name: str, value: float, unit: str, bound: float, holds: Callable[[float, float], bool]) -> None:
        sign = "<=" if holds is _at_most else ">="
        verdict = "ok" if holds(value, bound) else "MISSED"
        print(f"{name}: {value:,.4g} {unit} ({sign} {bound:,g}: {verdict})")
        if verdict != "ok":
            missed.append(name)

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        overhead, whole = cheap_trial_us(folder, arguments.trials, 1000)
        show("ask to stored, per cheap trial in batches of 1,000", whole, "us", 100, _at_most)
        print(f"  of these, outside the evaluation of NASNet cells on a simulated array: {overhead:,.1f} us")
        store = Store(f"sqlite:///{folder / 'many.db'}")
        study_id = store.add_study("many", "{}")
        seconds = fill(store, study_id, arguments.rows, 1000)
        show("inserts", arguments.rows / seconds, "trials/s", 20_000, _at_least)
        seconds, members = front_seconds(store, study_id)
        show(f"front of {arguments.rows:,} trials ({members} members)", seconds, "s", 2, _at_most)
    bare = cpu_seconds([sys.executable, "-c", "pass"])
    script = Path(sys.executable).parent / "codesign"
    started = cpu_seconds([str(script), "--help"])
    show("codesign --help", started, "CPU s", 0.3, _at_most)
    show("codesign --help against bare Python", started / bare, "times", 4, _at_most)
    return 1 if missed else 0


def _at_most(value: float, bound: float) -> bool:
    return value <= bound


def _at_least(value: float, bound: float) -> bool:
    return value >= bound


if __name__ == "__main__":
    sys.exit(main())
