"""What travels between a study, its evaluators and its store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from search_spaces.ops import IntArray

FloatArray = NDArray[np.float64]


class State(StrEnum):
    """Where a trial stands."""

    RUNNING = "running"
    MEASURED = "measured"  # over budget is measured too, and infeasible
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Trial:
    """A candidate with what was measured, or why it was not."""

    number: int
    state: State
    genotype: Mapping[str, object]
    metrics: Mapping[str, float]  # by name with unit: {"latency_ms@edge": 0.31, "macs": 2.2e6}
    violation: float  # 0: within every budget
    error: str = ""

    @property
    def is_feasible(self) -> bool:
        """Measured, and within every budget."""
        return self.state is State.MEASURED and self.violation == 0


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What an evaluator found out about n candidates.

    Attributes:
        metrics: by name, shape (n,); NaN where a candidate failed.
        errors: n reasons, "" for a candidate that was evaluated.
        artifacts: per candidate, files made for it by kind (`weights`), as paths relative to the run's folder.
    """

    metrics: Mapping[str, FloatArray]
    errors: Sequence[str]
    artifacts: Sequence[Mapping[str, str]] = ()

    @classmethod
    def failed(cls, names: Sequence[str], n: int, reason: str) -> Evaluation:
        """All n candidates failed for one reason."""
        return cls({name: np.full(n, np.nan) for name in names}, [reason] * n)


class Evaluator(Protocol):
    """Gives metrics to candidates.

    `fingerprint` names everything but the candidate that decides the outcome (data, recipe, seed, fidelity): an equal
    key under an equal fingerprint is never evaluated twice. An empty one means that nothing is kept. Subclass
    this to get that as the default: then only `metrics` and `evaluate` must be given.
    """

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names of the metrics it gives."""
        ...

    @property
    def fingerprint(self) -> str:
        """What decides the outcome besides the candidate; "" if outcomes are not to be kept."""
        return ""

    def keys(self, codes: IntArray) -> list[str]:
        """What of each candidate decides the outcome, as text; not asked for without a fingerprint."""
        return [""] * len(codes)

    def prepare(self) -> None:
        """Work done once before the first evaluation; resumable."""
        return

    def evaluate(self, codes: IntArray) -> Evaluation:
        """Metrics of a batch of candidates, shape (n, d)."""
        ...

    def adopt(self, artifacts: Mapping[str, str], key: str) -> Mapping[str, str] | None:
        """Take over files, given by absolute path, that an equal evaluation of another run made.

        Returns:
            Their paths relative to the run's folder; None if they are gone, so that the evaluation must be made anew.
        """
        return None
