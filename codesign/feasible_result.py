"""What is known of a job's budgets before its run."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum

from codesign.expressions import Budget
from codesign.feasible_relax import Relaxation, Together


class Verdict(StrEnum):
    """Whether a candidate keeps all budgets that can be checked."""

    FEASIBLE = "feasible"  # one is known
    PROVEN = "infeasible-proven"  # there is none
    UNKNOWN = "unknown"  # none was found


class Method(StrEnum):
    """How the verdict was reached."""

    NONE = "none"  # no budget can be checked
    LISTED = "listed"  # every candidate was looked at
    BOUNDS = "bounds"  # figures that no candidate undercuts
    SAMPLED = "sampled"  # candidates drawn, then downhill from them


@dataclass(frozen=True, slots=True)
class Bound:
    """A figure that no candidate of the space undercuts.

    Attributes:
        budget: it is about.
        value: the figure.
        text: where it comes from, with the figure.
    """

    budget: Budget
    value: float
    text: str


@dataclass(frozen=True, slots=True)
class Feasibility:
    """What is known of a job's budgets before its run.

    Attributes:
        verdict, method: whether they can be kept, and how that was found.
        budgets: those that were checked.
        unchecked: those that only training or measuring tells.
        size: number of codes of the space.
        n_seen: candidates that were looked at, however they were chosen.
        n_drawn: of them, drawn as the space draws them; for a listed space all.
        n_within: of the drawn ones, those within the budgets.
        interval: 95 % interval of the share that is within; its ends are equal for a listed space.
        n_candidates: different candidates of a listed space; None for others.
        witness: genotype of a candidate within the budgets; None if none is known.
        witness_metrics: its metrics that have budgets.
        nearest: text of a budget -> the best figure seen.
        bounds: proven figures, where they are what the verdict rests on.
        conflicts: minimal sets of budgets that cannot be kept together (verdict unknown: that no candidate seen keeps),
            the smallest first.
        relaxations: of each budget, the others kept; empty if feasible.
        together: of all conflicting budgets by one factor.
        seconds: that finding out took.
    """

    verdict: Verdict
    method: Method
    budgets: tuple[Budget, ...]
    unchecked: tuple[Budget, ...]
    size: int
    n_seen: int = 0
    n_drawn: int = 0
    n_within: int = 0
    interval: tuple[float, float] = (0.0, 1.0)
    n_candidates: int | None = None
    witness: Mapping[str, object] | None = None
    witness_metrics: Mapping[str, float] = field(default_factory=dict)
    nearest: Mapping[str, float] = field(default_factory=dict)
    bounds: tuple[Bound, ...] = ()
    conflicts: tuple[tuple[Budget, ...], ...] = ()
    relaxations: tuple[Relaxation, ...] = ()
    together: Together | None = None
    seconds: float = 0.0

    @property
    def share(self) -> float:
        """Of the drawn candidates within the budgets."""
        return self.n_within / self.n_drawn if self.n_drawn else math.nan

    def to_dict(self) -> dict[str, object]:
        """As JSON-able data: budgets as their texts, NaN as None."""
        record = asdict(self)
        record["verdict"], record["method"] = self.verdict.value, self.method.value
        for name in ("budgets", "unchecked"):
            record[name] = [budget.text for budget in getattr(self, name)]
        record["conflicts"] = [[budget.text for budget in conflict] for conflict in self.conflicts]
        record["bounds"] = [{"budget": b.budget.text, "value": b.value, "text": b.text} for b in self.bounds]
        record["relaxations"] = [
            {"budget": r.budget.text, "text": r.text, "value": _plain(r.value), "least": _plain(r.least)}
            for r in self.relaxations
        ]
        record["nearest"] = {text: _plain(value) for text, value in self.nearest.items()}
        record["share"] = _plain(self.share)
        return record


def _plain(value: float) -> float | None:
    return value if math.isfinite(value) else None
