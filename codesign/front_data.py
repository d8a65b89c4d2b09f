"""The Pareto front as a table, and the files it is written to."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from codesign.errors import InputError
from codesign.expressions import Budget
from codesign.objectives import Objective
from codesign.run import write_text
from codesign.store import Final
from codesign.trial import FloatArray


@dataclass(frozen=True, slots=True)
class Counts:
    """The trials a front was taken from.

    Attributes:
        trials: all of them, those over budget, failed or still running included.
        over_budget: those outside a budget.
        failed: those without a result.
        running: those not finished.
        filtered: those within the budgets that did not meet the condition.
    """

    trials: int = 0
    over_budget: int = 0
    failed: int = 0
    running: int = 0
    filtered: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(*(getattr(self, name) + getattr(other, name) for name in Counts.__slots__))


@dataclass(frozen=True, slots=True, eq=False)
class FrontTable:
    """Members of a front, one row each, cheapest in the last objective first.

    Attributes:
        objectives: what the front is taken in.
        budgets: limits of the runs.
        runs: the folder of each member's run.
        numbers: trial numbers.
        metrics: by name, shape (n,), NaN where not measured: the objectives, the budgets' metrics, then all others.
        finals: figures measured after the search, by name, n each; None where there is none.
        genotypes: n of them.
        counts: what the front was taken from.
        considered: values of the objectives of every trial within the budgets and the condition, shape (k, m).
    """

    objectives: tuple[Objective, ...]
    budgets: tuple[Budget, ...]
    runs: list[str]
    numbers: list[int]
    metrics: dict[str, FloatArray]
    finals: dict[str, list[Final | None]]
    genotypes: list[Mapping[str, object]]
    counts: Counts
    considered: FloatArray

    def __len__(self) -> int:
        return len(self.numbers)

    def columns(self) -> dict[str, list[Any]]:
        """Everything as flat columns: `run`, `number`, metrics, finals, `genotype`.

        A final that repeats a metric is called `final_<metric>`; each has its 95 % interval beside it under
        `<name>_low` and `<name>_high`. What is not known is None; a genotype is JSON text.
        """
        columns: dict[str, list[Any]] = {"run": list(self.runs), "number": list(self.numbers)}
        for name, values in self.metrics.items():
            columns[name] = [value if math.isfinite(value) else None for value in values.tolist()]
        for name, finals in self.finals.items():
            base = f"final_{name}" if name in self.metrics else name
            columns[base] = [None if final is None else final.value for final in finals]
            columns[f"{base}_low"] = [None if final is None else final.low for final in finals]
            columns[f"{base}_high"] = [None if final is None else final.high for final in finals]
        columns["genotype"] = [json.dumps(genotype, separators=(",", ":")) for genotype in self.genotypes]
        return columns

    def to_json(self, more: Mapping[str, object] | None = None) -> str:
        """The table as JSON: `objectives`, `budgets`, `counts`, one record per member, and what else is given."""
        members = []
        for row, number in enumerate(self.numbers):
            metrics = {n: float(values[row]) for n, values in self.metrics.items() if math.isfinite(values[row])}
            finals = {
                n: {"value": final.value, "low": final.low, "high": final.high}
                for n, column in self.finals.items()
                if (final := column[row]) is not None
            }
            record = {"run": self.runs[row], "number": number, "metrics": metrics, "finals": finals}
            members.append(record | {"genotype": self.genotypes[row]})
        content = {
            "objectives": [{"metric": part.metric, "maximize": part.maximize} for part in self.objectives],
            "budgets": [budget.text for budget in self.budgets],
            "counts": {"members": len(self), **{name: getattr(self.counts, name) for name in Counts.__slots__}},
            "members": members,
            **(more or {}),
        }
        return json.dumps(content, indent=2, allow_nan=False)

    def to_csv(self, path: Path) -> None:
        """Write the flat columns as CSV; what is not known is empty. Raises InputError if `path` cannot be written."""
        text = io.StringIO()
        columns = self.columns()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))
        _write(path, lambda: write_text(path, text.getvalue()))

    def to_parquet(self, path: Path) -> None:
        """Write the flat columns as Parquet. Raises InputError if `path` cannot be written."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        types = {"run": pa.string(), "number": pa.int64(), "genotype": pa.string()}
        table = pa.table({n: pa.array(v, types.get(n, pa.float64())) for n, v in self.columns().items()})
        partial = path.with_name(f".{path.name}.partial")

        def write() -> None:
            pq.write_table(table, partial)
            partial.replace(path)

        _write(path, write)


def axes_of(objectives: Sequence[Objective]) -> tuple[int, int]:
    """Which of two or more objectives to draw across and which upwards: cost against gain if there are both."""
    gains = [i for i, objective in enumerate(objectives) if objective.maximize]
    costs = [i for i, objective in enumerate(objectives) if not objective.maximize]
    if gains and costs:
        return costs[0], gains[0]
    return 1, 0


def _write(path: Path, write: Callable[[], None]) -> None:
    try:
        write()
    except OSError as error:
        raise InputError(f"{str(path)!r} cannot be written: {error.strerror or error}") from error
