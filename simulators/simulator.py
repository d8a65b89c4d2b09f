"""What every simulator offers."""

from __future__ import annotations

from typing import Protocol

from simulators.accelerator import Columns, HasFields
from simulators.report import CostReport
from simulators.workload import Workload


class Simulator(HasFields, Protocol):
    """A cost model: a pure function of layers and accelerators, vectorised over both."""

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names of the network-level metrics: every key of the report's `columns` and `per_accelerator`."""
        ...

    def simulate(self, workload: Workload, accelerators: Columns, *, paired: bool = False) -> CostReport:
        """Cost of every layer on every accelerator.

        Args:
            workload: L layers; L may be 0.
            accelerators: one array of shape (A,) for each of `fields`, as `accelerator.columns` makes them.
            paired: layer i runs on accelerator i alone, which asks for L == A.

        Returns:
            `columns` of shape (L, A), or (L,) when paired; `per_accelerator` of shape (A,).

        Raises:
            ValueError: a column is missing, shapes differ, or L != A when paired.
        """
        ...
