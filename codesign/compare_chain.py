"""Made-up accuracies for chains of blocks, with exact fronts: ground truth on spaces too large to list.

No table holds the accuracy of 10^20 networks, so it is stated by a formula. A network is a chain of L layers, each with
one of B blocks. With blocks x_1 ... x_L, a layer's weight w_l, a block's value v_l(b) and what neighbours do to each
other p_l(a, b),

    latent   z = sum_l w_l v_l(x_l) + sum_l p_l(x_l, x_l+1)
    accuracy a = low + (high - low) (1 - exp(-max(z, 0) / tau))

- v_l(b) = capacity(b) (1 + 0.35 g): capacity has diminishing returns in the expansion e, log(1 + e) / log(7), 10 % more
  for a 5x5 kernel and 15 % less for grouped convolutions; a skip has 0. g is a standard normal deviate per layer and
  block: a block that suits one place does not suit another.
- w_l is log-normal (sigma 0.4): layers matter differently, and not as their latency does.
- p_l(a, b) = 0.12 g' + 0.1 where the kernels differ - 0.25 where both are skips, times the mean weight.
- tau is the mean of z over random networks: accuracy saturates.
- A training adds normal noise (0.15 points) that is fixed for each network and seed.

Everything random is drawn from the seed, so that nothing can be tuned to it. Sources of the shapes: accuracy saturates
with depth and width (Tan and Le 2019, "EfficientNet", figure 3); interactions between places as in NK landscapes
(Kauffman and Weinberger 1989). The numbers are made up.

Because a grows with z, and z and the cost are sums along a chain, the Pareto front follows from dynamic programming
over layers, blocks and cost (`exact_front`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from codesign.errors import DataError
from codesign.pareto import is_nondominated
from codesign.strategies.foresight import Foreseen, Foresight
from codesign.trial import FloatArray
from search_spaces.ops import IntArray
from search_spaces.space import Choice, Genotype, SearchSpace

LOW, HIGH = 50.0, 77.0
"""Accuracy of a network that does nothing, and the one that no network reaches, in percent."""
NOISE = 0.15
PLACE, WEIGHT, NEIGHBOUR, KERNELS, SKIPS = 0.35, 0.4, 0.12, 0.1, 0.25
SAMPLED = 4_096
BINS = 12_000


@dataclass(frozen=True)
class Block:
    """One option of a layer: an inverted bottleneck, or a skip (kernel 0)."""

    name: str
    kernel: int
    expansion: int
    groups: int = 1

    @property
    def capacity(self) -> float:
        """What it can add, before its place is looked at."""
        gain = float(np.log1p(self.expansion) / np.log(7))
        return gain * (1.1 if self.kernel == 5 else 1.0) * (0.85 if self.groups > 1 else 1.0)


FBNET = (
    Block("k3_e1", 3, 1),
    Block("k3_e1_g2", 3, 1, 2),
    Block("k3_e3", 3, 3),
    Block("k3_e6", 3, 6),
    Block("k5_e1", 5, 1),
    Block("k5_e1_g2", 5, 1, 2),
    Block("k5_e3", 5, 3),
    Block("k5_e6", 5, 6),
    Block("skip", 0, 0),
)
"""The blocks of FBNet (Wu et al. 2019, table 2), in the order of the published latency tables."""


class ChainSpace(SearchSpace):
    """Networks of layers that each take one block.

    Args:
        layers: how many.
        blocks: what each may be.
    """

    def __init__(self, layers: int, blocks: tuple[Block, ...] = FBNET) -> None:
        self.blocks = blocks
        names = tuple(block.name for block in blocks)
        self._choices = tuple(Choice(f"layer {number}", names) for number in range(layers))

    @property
    def choices(self) -> tuple[Choice, ...]:
        """The block of each layer."""
        return self._choices

    def decode(self, code: IntArray) -> Genotype:
        """Names of the blocks."""
        return {"blocks": [self.blocks[option].name for option in code.tolist()]}

    def encode(self, genotype: Mapping[str, object]) -> IntArray:
        """The code of names of blocks; raises ValueError for others."""
        listed = [block.name for block in self.blocks]
        named = genotype["blocks"]
        if not isinstance(named, list) or len(named) != len(self._choices):
            raise ValueError(f"blocks: a list of {len(self._choices)} names is needed, not {named!r}")
        return np.array([listed.index(name) for name in named], dtype=np.int64)


@dataclass(frozen=True)
class Landscape:
    """Accuracies of one seed.

    Attributes:
        values: shape (L, B), w_l v_l(b).
        pairs: shape (L - 1, B, B), p_l(a, b).
        scale: tau.
        seed: also of the noise.
    """

    values: FloatArray
    pairs: FloatArray
    scale: float
    seed: int

    @classmethod
    def drawn(cls, space: ChainSpace, seed: int) -> Landscape:
        """A landscape of a seed, see the formulas above."""
        rng = np.random.default_rng([seed, 2201])
        n_layers, n_blocks = len(space.choices), len(space.blocks)
        weights = np.exp(WEIGHT * rng.standard_normal(n_layers))
        capacity = np.array([block.capacity for block in space.blocks])
        values = weights[:, None] * capacity * (1 + PLACE * rng.standard_normal((n_layers, n_blocks)))
        kernels = np.array([block.kernel for block in space.blocks])
        is_skip = kernels == 0
        both_skip = is_skip[:, None] & is_skip
        differ = (kernels[:, None] != kernels) & ~is_skip[:, None] & ~is_skip
        pairs = (
            NEIGHBOUR * rng.standard_normal((n_layers - 1, n_blocks, n_blocks)) + KERNELS * differ - SKIPS * both_skip
        )
        raw = cls(values, weights.mean() * pairs, 1.0, seed)
        return cls(values, raw.pairs, float(raw.latent(space.sample(SAMPLED, rng)).mean()), seed)

    def latent(self, codes: IntArray) -> FloatArray:
        """z of networks, shape (n,)."""
        layers = np.arange(codes.shape[1])
        pairs = self.pairs[layers[:-1], codes[:, :-1], codes[:, 1:]]
        return np.asarray(self.values[layers, codes].sum(axis=1) + pairs.sum(axis=1))

    def accuracy(self, codes: IntArray) -> FloatArray:
        """Without noise, percent, shape (n,)."""
        saturated = 1 - np.exp(-np.maximum(self.latent(codes), 0.0) / self.scale)
        return np.asarray(LOW + (HIGH - LOW) * saturated)

    def measured_accuracy(self, codes: IntArray) -> FloatArray:
        """Of one training, percent, shape (n,): the same whenever a network is trained again."""
        noise = [np.random.default_rng([self.seed, 7, *code]).standard_normal() for code in codes.tolist()]
        return np.asarray(self.accuracy(codes) + NOISE * np.array(noise).reshape(len(codes)))


@dataclass(frozen=True)
class ChainCost:
    """An additive cost: a part for each layer's block, and one for the rest.

    Attributes:
        table: shape (L, B).
        rest: of every network.
    """

    table: FloatArray
    rest: float

    @classmethod
    def fitted(cls, codes: IntArray, costs: FloatArray, n_blocks: int, ridge: float = 0.1) -> ChainCost:
        """Least squares with a ridge on every block's part, from measured networks, shapes (n, L) and (n,).

        Raises:
            DataError: some network would cost nothing, or less.
        """
        columns = _indicators(codes, n_blocks)
        centre, middle = columns.mean(axis=0), float(costs.mean())
        centred = columns - centre
        parts = np.linalg.solve(centred.T @ centred + ridge * np.eye(columns.shape[1]), centred.T @ (costs - middle))
        found = cls(parts.reshape(codes.shape[1], n_blocks), float(middle - centre @ parts))
        least = found.rest + found.table.min(axis=1).sum()
        if not least > 0:
            raise DataError(f"the fitted cost of the cheapest network is {least:g}; a cost must be positive")
        return found

    def __call__(self, codes: IntArray) -> FloatArray:
        """Costs of networks, shape (n,)."""
        return np.asarray(self.rest + self.table[np.arange(codes.shape[1]), codes].sum(axis=1))


@dataclass(frozen=True)
class ChainLosses:
    """Error and cost of networks, shapes (n, L) to (n, 2): of a training, or without its noise."""

    landscape: Landscape
    cost: ChainCost
    noisy: bool

    def __call__(self, codes: IntArray) -> FloatArray:
        """See `codesign.compare.Evaluate`."""
        accuracy = self.landscape.measured_accuracy(codes) if self.noisy else self.landscape.accuracy(codes)
        return np.stack([100.0 - accuracy, self.cost(codes)], axis=1)


@dataclass(frozen=True)
class ChainForesight(Foresight):
    """The cost is known, the error is not."""

    space: ChainSpace
    cost: ChainCost

    @property
    def limits(self) -> FloatArray:
        """There are no budgets."""
        return np.full(2, np.inf)

    @property
    def prior_of(self) -> tuple[int, ...]:
        """Nothing was learned elsewhere."""
        return ()

    def __call__(self, codes: IntArray) -> Foreseen:
        """See `Foresight.__call__`."""
        costs = self.cost(codes)
        return Foreseen(
            losses=np.stack([np.full(len(codes), np.nan), costs], axis=1),
            violations=np.zeros(len(codes)),
            features=self.space.features(codes),
            priors=np.zeros((len(codes), 0)),
        )


def exact_front(landscape: Landscape, cost: ChainCost, bins: int = BINS) -> tuple[IntArray, FloatArray]:
    """The Pareto front of noise-free error and cost.

    For every layer, block and cost, in bins, the largest latent value of a chain that ends there; then the best chain
    of each bin is followed back, and its true cost taken. The members are real networks. A bin is 1/`bins` of the range
    of costs and each layer's part is off by half a bin at most, so that a network of the true front is missed only
    where one found is at least as accurate and costs at most L bins more.

    Returns:
        Codes (f, L) and losses (f, 2), by rising cost.
    """
    n_layers, n_blocks = cost.table.shape
    extra = cost.table - cost.table.min(axis=1, keepdims=True)
    total = float(extra.max(axis=1).sum()) or 1.0
    steps = np.rint(extra / total * (bins - n_layers)).astype(np.int64)
    best = np.full((n_blocks, bins), -np.inf)  # by last block and cost so far
    best[np.arange(n_blocks), steps[0]] = landscape.values[0]
    came_from = np.zeros((n_layers, n_blocks, bins), dtype=np.int8)
    for layer in range(1, n_layers):
        grown = np.full_like(best, -np.inf)
        for block in range(n_blocks):
            reached = best + landscape.pairs[layer - 1, :, block, None]
            step = int(steps[layer, block])
            came_from[layer, block, step:] = reached.argmax(axis=0)[: bins - step]
            grown[block, step:] = reached.max(axis=0)[: bins - step] + landscape.values[layer, block]
        best = grown
    codes = _followed_back(best, came_from, steps)
    losses = ChainLosses(landscape, cost, noisy=False)(codes)
    rows = np.flatnonzero(is_nondominated(losses, keep_duplicates=False))
    rows = rows[np.argsort(losses[rows, 1])]
    return codes[rows], losses[rows]


def _followed_back(best: FloatArray, came_from: NDArray[np.int8], steps: IntArray) -> IntArray:
    """The chain of every bin that one reaches, shape (k, L)."""
    places = np.flatnonzero(np.isfinite(best).any(axis=0))
    codes = np.zeros((len(places), len(steps)), dtype=np.int64)
    codes[:, -1] = best[:, places].argmax(axis=0)
    for layer in range(len(steps) - 1, 0, -1):
        codes[:, layer - 1] = came_from[layer, codes[:, layer], places]
        places = places - steps[layer, codes[:, layer]]
    return codes


def _indicators(codes: IntArray, n_blocks: int) -> FloatArray:
    taken: FloatArray = (codes[:, :, None] == np.arange(n_blocks)).reshape(len(codes), -1).astype(np.float64)
    return taken
