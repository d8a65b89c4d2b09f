"""What a strategy may be told of candidates before they are evaluated.

A strategy whose constructor takes the keyword `foresight` is given one by the run. Hardware cost is arithmetic: a
strategy that has it for every candidate it thinks of need not model it, nor propose what cannot meet the budgets.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from codesign.strategies.strategy import FloatArray
from search_spaces.ops import IntArray


@dataclass(frozen=True, slots=True)
class Foreseen:
    """What is known of n candidates.

    Attributes:
        losses: shape (n, m), exact; a column of NaN is a loss that only an evaluation tells.
        violations: shape (n,), of the budgets on what is known: 0 within all, positive over one (it would never be
            evaluated), infinite for a candidate that cannot work.
        features: shape (n, k), finite numbers that describe the candidates, for models of the unknown losses: columns
            of any scale.
        priors: shape (n, p), finite estimates of unknown losses from elsewhere (earlier runs), on any increasing scale.
    """

    losses: FloatArray
    violations: FloatArray
    features: FloatArray
    priors: FloatArray


class Foresight(Protocol):
    """Tells what is known of any valid code; deterministic, vectorised, and cheap enough for pools of thousands."""

    @property
    def limits(self) -> FloatArray:
        """The largest loss of each objective that the budgets allow, shape (m,); infinite where none does."""
        ...

    @property
    def prior_of(self) -> tuple[int, ...]:
        """Which objective each column of `Foreseen.priors` estimates, p of them."""
        ...

    def __call__(self, codes: IntArray) -> Foreseen:
        """What is known of candidates, shape (n, d)."""
        ...
