"""Evaluator `zero-cost`: scores of untrained networks that tell something of what training would make of them.

A network is built with random weights and sees one batch of the job's training images; torch loads when the first one
is scored. What each score is and where it comes from stands in `codesign.zero_cost_torch`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b
from importlib import import_module
from typing import Any, Final

import numpy as np

from codesign.context import Context
from codesign.data.dataset import Dataset, Split
from codesign.errors import InputError, TrialError
from codesign.study import candidate_keys
from codesign.trial import Evaluation, Evaluator
from search_spaces.ops import IntArray

SCORES: Final = ("synflow", "nwot", "grad_norm", "snip", "fisher", "jacov", "l2_norm")
"""Names of all scores; of each, more is better."""
MIN_BATCH = 2
"""Fewer images than this have no variance for batch norms, and no pattern to tell apart."""
_BATCH = 1  # stream of randomness


@dataclass(frozen=True, slots=True)
class ZeroCostOptions:
    """What is scored, and on how much data.

    Attributes:
        scores: any of `SCORES`; each is a metric of that name.
        batch_size: training images that a network sees; the same ones for all networks of a run.
        threads: torch's threads for one network.

    Raises:
        InputError: a value is out of range.
    """

    scores: tuple[str, ...] = ("synflow", "nwot")
    batch_size: int = 32
    threads: int = 1

    def __post_init__(self) -> None:
        if not self.scores:
            raise InputError(f"scores: name at least one of {', '.join(SCORES)}")
        for name in self.scores:
            if name not in SCORES:
                raise InputError.about("scores", name, SCORES)
            if self.scores.count(name) > 1:
                raise InputError(f"scores: {name!r} is named twice")
        if self.batch_size < MIN_BATCH:
            raise InputError.about("batch_size", self.batch_size, f"a number of images of at least {MIN_BATCH}")
        if self.threads < 1:
            raise InputError.about("threads", self.threads, "a number of at least 1")


class ZeroCost(Evaluator):
    """Scores networks without training them.

    The weights of a network follow from the job's seed and the network alone, the batch from the seed alone. A network
    that has no finite score is a failed trial.

    Args:
        options: which scores.
        context: space, data reader and seed of the run.
    """

    Options = ZeroCostOptions
    metrics: tuple[str, ...] = ()
    """The scores asked for."""

    def __init__(self, options: ZeroCostOptions, context: Context) -> None:
        self.options = options
        self.metrics = options.scores
        self._context = context
        self._dataset: Dataset | None = None
        self._batch: Split | None = None

    @property
    def dataset(self) -> Dataset:
        """The data, loaded when first needed."""
        if self._dataset is None:
            self._dataset = self._context.load_data()
        return self._dataset

    @property
    def batch(self) -> Split:
        """The images that networks see: drawn from the train split by the job's seed, in its order."""
        if self._batch is None:
            self._batch = draw_batch(self.dataset.train, self.options.batch_size, self._context.seed)
        return self._batch

    @property
    def fingerprint(self) -> str:
        """Data, scores, batch size, seed and network space."""
        options = [sorted(self.options.scores), self.options.batch_size]
        facts = ["zero-cost-v1", self.dataset.fingerprint, options, self._context.seed, self._context.space_identity]
        return blake2b(json.dumps(facts, sort_keys=True, default=str).encode(), digest_size=16).hexdigest()

    def keys(self, codes: IntArray) -> list[str]:
        """Keys of the networks: candidates that differ in their accelerator alone share one."""
        return candidate_keys(self._context.network_codes(codes))

    def prepare(self) -> None:
        """Load the data."""
        _ = self.batch

    def adopt(self, artifacts: Mapping[str, str], key: str) -> Mapping[str, str]:
        """A score has no files."""
        return {}

    def evaluate(self, codes: IntArray) -> Evaluation:
        """Score each candidate."""
        found: list[Mapping[str, float]] = []
        errors: list[str] = []
        for code, key in zip(self._context.network_codes(codes), self.keys(codes), strict=True):
            try:
                found.append(self._score(code, key))
                errors.append("")
            except TrialError as error:
                found.append({})
                errors.append(str(error))
        metrics = {name: np.array([scores.get(name, np.nan) for scores in found]) for name in self.metrics}
        return Evaluation(metrics, errors)

    def _score(self, code: IntArray, key: str) -> Mapping[str, float]:
        torch_part: Any = import_module("codesign.zero_cost_torch")
        seed = int.from_bytes(blake2b(f"{self._context.seed}:{key}".encode(), digest_size=4).digest(), "little")
        space = self._context.network_space
        scores: Mapping[str, float] = torch_part.score_candidate(
            lambda: space.build(code), self.dataset, self.batch, self.metrics, seed, self.options.threads
        )
        return scores


def draw_batch(split: Split, n_images: int, seed: int) -> Split:
    """Images of a split drawn without replacement, in its order.

    Args:
        split: to draw from.
        n_images: how many; all if there are fewer.
        seed: equal seeds draw equal batches.

    Raises:
        InputError: the split has fewer than `MIN_BATCH` images.
    """
    if len(split) < MIN_BATCH:
        raise InputError(f"data: zero-cost scores need {MIN_BATCH} training images, and there is {len(split)}")
    rng = np.random.default_rng([seed, _BATCH])
    rows = np.sort(rng.choice(len(split), min(n_images, len(split)), replace=False))
    return Split(split.images[rows], split.labels[rows])
