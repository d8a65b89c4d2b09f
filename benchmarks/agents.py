"""Every search agent with its default options on two problems whose answers are known, against random search.

    python benchmarks/agents.py [--seeds 12] [--evaluations 300] [--batch 10]

- smooth: six decisions of ten options, mean squared distance to a hidden point; best loss, median over seeds.
- two losses: twelve decisions of eight options, two losses at odds; hypervolume to (1, 1), median over seeds.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from codesign.pareto import hypervolume
from codesign.registry import lookup, names
from codesign.testing.strategies import ListedSpace
from search_spaces.space import Choice

FloatArray = NDArray[np.float64]
Losses = Callable[[NDArray[np.int64]], FloatArray]


def search(agent: str, seed: int, n: int, batch: int, shape: tuple[int, int], losses_of: Losses, m: int) -> FloatArray:
    """All losses that an agent met, shape (n, m)."""
    d, k = shape
    space = ListedSpace(*(Choice(f"c{i}", tuple(range(k))) for i in range(d)))
    strategy = lookup("strategies", agent)(space, m, seed)
    found = []
    for start in range(0, n, batch):
        codes = strategy.ask(min(batch, n - start))
        losses = losses_of(codes)
        strategy.tell(codes, losses, np.zeros(len(codes)))
        found.append(losses)
    return np.concatenate(found)


def smooth(agent: str, seed: int, n: int, batch: int) -> float:
    """Best loss on the smooth problem."""
    hidden = np.random.default_rng([seed, 9]).integers(0, 10, 6)
    return float(
        search(agent, seed, n, batch, (6, 10), lambda c: (((c - hidden) / 9) ** 2).mean(axis=1, keepdims=True), 1).min()
    )


def two_losses(agent: str, seed: int, n: int, batch: int) -> float:
    """Hypervolume on the problem with two losses."""

    def losses(codes: NDArray[np.int64]) -> FloatArray:
        x = codes / 7
        return np.stack([(x**2).mean(axis=1), ((1 - x) ** 2).mean(axis=1)], axis=1)

    return hypervolume(search(agent, seed, n, batch, (12, 8), losses, 2), np.ones(2))


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--seeds", type=int, default=12)
    parser.add_argument("--evaluations", type=int, default=300)
    parser.add_argument("--batch", type=int, default=10)
    arguments = parser.parse_args()
    n, batch, seeds = arguments.evaluations, arguments.batch, range(arguments.seeds)
    print(
        f"{n} evaluations in batches of {batch}, median of {len(seeds)} seeds (CPU us: agent and problem, a candidate)"
    )
    print(f"{'agent':<14}{'smooth: best loss':>20}{'two losses: volume':>20}{'CPU us':>10}")
    for agent in names("strategies"):
        lookup("strategies", agent)
        began = time.process_time()
        best = np.median([smooth(agent, seed, n, batch) for seed in seeds])
        volume = np.median([two_losses(agent, seed, n, batch) for seed in seeds])
        spent = (time.process_time() - began) / (2 * n * len(seeds))
        print(f"{agent:<14}{best:>20.4f}{volume:>20.4f}{spent * 1e6:>10.0f}", flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
