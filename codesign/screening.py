"""Cheap metrics first: which candidates are within the budgets before anything costly is done to them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from codesign.guard import guarded
from codesign.objectives import Objectives
from codesign.trial import Evaluator, FloatArray
from search_spaces.ops import IntArray


@dataclass(frozen=True, slots=True)
class Screened:
    """What screens found out about n candidates.

    Attributes:
        codes: shape (n, d).
        keys: one per candidate.
        metrics: by name, shape (n,); NaN where an earlier screen had already ruled the candidate out.
        violations: shape (n,); 0 within the budgets, inf if a screen failed.
        errors: why a screen failed, "" where none did.
        n_measured: how many candidates went beyond the first screen.
    """

    codes: IntArray
    keys: list[str]
    metrics: dict[str, FloatArray]
    violations: FloatArray
    errors: list[str]
    n_measured: int = 0

    def __len__(self) -> int:
        return len(self.codes)

    @classmethod
    def joined(cls, parts: Sequence[Screened], width: int) -> Screened:
        """Candidates of several parts as one; `width` is d, for no parts at all."""
        if not parts:
            return cls(np.zeros((0, width), np.int64), [], {}, np.zeros(0), [])
        return cls(
            np.concatenate([part.codes for part in parts]),
            [key for part in parts for key in part.keys],
            {name: np.concatenate([part.metrics[name] for part in parts]) for name in parts[0].metrics},
            np.concatenate([part.violations for part in parts]),
            [error for part in parts for error in part.errors],
        )


def screen(
    screens: Sequence[Evaluator], objectives: Objectives, codes: IntArray, keys: list[str], enough: int
) -> Screened:
    """Screen candidates in order, up to the one that makes `enough` within the budgets.

    Args:
        screens: the first is computed for all candidates at once; later ones, which measure, only for candidates that
            are still within.
        objectives: they know the budgets.
        codes: shape (n, d).
        keys: n texts.
        enough: how many candidates within the budgets are wanted.

    Returns:
        The first k <= n candidates.
    """
    metrics: dict[str, FloatArray] = {}
    violations = np.zeros(len(codes))
    errors = [""] * len(codes)
    n_measured = 0
    if not screens:
        return Screened(codes[:enough], keys[:enough], metrics, violations[:enough], errors[:enough])
    for position, evaluator in enumerate(screens):
        rows = np.flatnonzero(violations == 0)
        found = {name: np.full(len(violations), np.nan) for name in evaluator.metrics}
        n_measured += len(rows) if position == 1 else 0
        if len(rows):
            evaluation = guarded(evaluator, codes[rows])
            for name in evaluator.metrics:
                found[name][rows] = evaluation.metrics[name]
            known = {name: values[rows] for name, values in (metrics | found).items()}
            for row, error, lacks in zip(rows, evaluation.errors, _lacks(known, evaluator.metrics), strict=True):
                errors[row] = error or (f"a screen gave no finite {lacks}" if lacks else "")
            has_failed = np.array([bool(errors[row]) for row in rows])
            violations[rows] = np.where(has_failed, np.inf, objectives.violations(known))
        metrics |= found
        if position == 0:
            within = np.flatnonzero(violations == 0)
            end = int(within[enough - 1]) + 1 if len(within) >= enough else len(violations)
            metrics = {name: values[:end] for name, values in metrics.items()}
            codes, keys, violations, errors = codes[:end], keys[:end], violations[:end], errors[:end]
    return Screened(codes, keys, metrics, violations, errors, n_measured)


def _lacks(known: dict[str, FloatArray], names: Sequence[str]) -> list[str]:
    """Per candidate, the first of the named metrics that is not finite; "" if all are."""
    lacks = [""] * len(known[names[0]])
    for name in reversed(names):
        for row in np.flatnonzero(~np.isfinite(known[name])).tolist():
            lacks[row] = name
    return lacks
