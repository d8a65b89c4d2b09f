"""The trial border: whatever a candidate does, the run goes on."""

from __future__ import annotations

import logging

import numpy as np

from codesign.errors import TrialError
from codesign.trial import Evaluation, Evaluator
from search_spaces.ops import IntArray

_log = logging.getLogger(__name__)


def guarded(evaluator: Evaluator, codes: IntArray) -> Evaluation:
    """Evaluate candidates so that a crash becomes a reason.

    A batch that crashes is evaluated again one by one, so that only the culprit fails.
    """
    try:
        return evaluator.evaluate(codes)
    except TrialError as error:
        reason = str(error)
    except Exception as error:  # noqa: BLE001  the trial border: whatever a candidate does, the run goes on
        reason = f"{type(error).__name__}: {error}".strip()
        _log.debug("a candidate crashed", exc_info=True)
    if len(codes) == 1:
        return Evaluation.failed(evaluator.metrics, 1, reason)
    return joined([guarded(evaluator, codes[i : i + 1]) for i in range(len(codes))])


def joined(parts: list[Evaluation]) -> Evaluation:
    """Evaluations of consecutive candidates as one; a metric that a part lacks is NaN there."""
    names = list(dict.fromkeys(name for part in parts for name in part.metrics))
    metrics = {
        name: np.concatenate([part.metrics.get(name, np.full(len(part.errors), np.nan)) for part in parts])
        for name in names
    }
    artifacts = [files for part in parts for files in (part.artifacts or [{}] * len(part.errors))]
    return Evaluation(metrics, [error for part in parts for error in part.errors], artifacts)
