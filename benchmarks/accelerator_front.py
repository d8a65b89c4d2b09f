"""How much of the true front a search finds: `python benchmarks/accelerator_front.py JOB.yaml`.

The job must train nothing and its space must be small enough to list. Every candidate is evaluated once, which gives
the true front; then each strategy searches with a share of those evaluations (distinct candidates), once per seed.
Printed is the hypervolume found over the true one, with the reference point a tenth of the front's range behind it.
Exit status 0: the first strategy reaches the wanted share on every seed; 1: it does not; 2: the job is wrong.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from codesign.assemble import Parts, assemble
from codesign.errors import CodesignError, InputError
from codesign.job import load_job
from codesign.pareto import default_reference, hypervolume, is_nondominated
from codesign.strategies.strategy import FloatArray
from search_spaces.ops import IntArray

LARGEST = 500_000
BLOCK = 2_000


@dataclass(frozen=True)
class Truth:
    """Every candidate of a space with its losses and violations; rows in the order of mixed-radix numbers."""

    radix: IntArray
    losses: FloatArray
    violations: FloatArray

    def rows(self, codes: IntArray) -> IntArray:
        """Rows of codes, shape (n,)."""
        return codes @ self.radix


def list_space(parts: Parts) -> Truth:
    """Evaluate every code. Raises InputError if there are too many."""
    options = parts.space.n_options
    size = int(np.prod(options.astype(float)))
    if size > LARGEST:
        raise InputError(f"the space has {size:,} codes; at most {LARGEST:,} can be listed")
    radix = np.append(np.cumprod(options[::-1])[::-1][1:], 1).astype(np.int64)
    losses, violations = [], []
    for start in range(0, size, BLOCK):
        numbers = np.arange(start, min(start + BLOCK, size))
        codes = (numbers[:, None] // radix) % options
        evaluation = parts.evaluator.evaluate(codes)
        losses.append(parts.objectives.losses(evaluation.metrics))
        failed = np.array([bool(error) for error in evaluation.errors])
        invalid = failed | ~parts.space.valid(codes)
        violations.append(np.where(invalid, np.inf, parts.objectives.violations(evaluation.metrics)))
    return Truth(radix, np.concatenate(losses), np.concatenate(violations))


def search(parts: Parts, truth: Truth, evaluations: int) -> IntArray:
    """Rows of the first distinct candidates that the job's strategy asks for."""
    strategy = parts.strategy()
    found: dict[int, None] = {}
    for _ in range(20 * evaluations):
        codes = strategy.ask(min(parts.batch, 24))
        rows = truth.rows(codes)
        strategy.tell(codes, truth.losses[rows], truth.violations[rows])
        found.update(dict.fromkeys(rows.tolist()))
        if len(found) >= evaluations:
            break
    return np.array(list(found)[:evaluations], dtype=np.int64)


def main(arguments: list[str] | None = None) -> int:
    """Print the table; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("job", type=Path)
    parser.add_argument("--strategies", default="", help="comma-separated; default: the job's own, nsga2 and random")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--share", type=float, default=0.02, help="evaluations over the size of the space")
    parser.add_argument("--hold", type=float, default=0.99, help="wanted share of the true hypervolume")
    given = parser.parse_args(arguments)
    try:
        job = load_job(given.job)
        parts = assemble(job, Path("unused"), given.job.parent)
        began = time.perf_counter()
        truth = list_space(parts)
    except CodesignError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    size = len(truth.losses)
    evaluations = int(size * given.share)
    front = np.flatnonzero(is_nondominated(truth.losses, truth.violations))
    reference = default_reference(truth.losses[front])
    true = hypervolume(truth.losses[front], reference)
    print(f"space: {size:,} candidates evaluated in {time.perf_counter() - began:.1f} s")
    print(
        f"feasible {int((truth.violations == 0).sum()):,}; true front {len(front)}; {evaluations} evaluations a search"
    )
    own = job.search.strategy.type
    names = given.strategies.split(",") if given.strategies else list(dict.fromkeys([own, "nsga2", "random"]))
    held = True
    for name in names:
        shares = []
        for seed in range(given.seeds):
            override = [f"search.seed={seed}"] + ([] if name == own else [f"search.strategy={name}"])
            seeded = assemble(load_job(given.job, override), Path("unused"), given.job.parent)
            rows = search(seeded, truth, evaluations)
            shares.append(hypervolume(truth.losses[rows], reference, truth.violations[rows]) / true)
        n_held = sum(share >= given.hold for share in shares)
        print(
            f"{name:<14} hypervolume found: median {np.median(shares):.4f}, worst {min(shares):.4f}, "
            f">= {given.hold:g} on {n_held} of {given.seeds} seeds"
        )
        held &= name != names[0] or n_held == given.seeds
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
