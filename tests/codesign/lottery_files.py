"""A small lottery for tests: arrays of a model that is plain arithmetic, 3,072 designs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import yaml

from simulators.accelerator import Columns, Field, count_accelerators
from simulators.design import DesignReport

PRESET = """simulator = "bowl"
description = "any small array"
[search]
rows = {sizes}
columns = {sizes}
dataflow = ["os", "ws", "is"]
"""
CONTENT: dict[str, Any] = {
    "name": "tiny",
    "problem": {
        "space": {"type": "design", "model": "tests.codesign.lottery_files:Bowl", "preset": "any.toml"},
        "objectives": {"minimize": "latency_ms"},
        "budgets": ["pes <= 200"],
    },
    "agents": {"random": None, "genetic": {"population_size": [4, 8], "mutation_probability": [0.05, 0.2]}},
    "settings": 3,
    "seeds": 2,
    "evaluations": 30,
    "driver": "serial",
}


@dataclass(frozen=True)
class Bowl:
    """Work shared among PEs, with a dislike of long columns; a design with 31 rows cannot work."""

    id: ClassVar[str] = "bowl-v1"
    fields: ClassVar[tuple[Field, ...]] = (
        Field("rows", "int", "PEs", 8, lowest=1),
        Field("columns", "int", "PEs", 8, lowest=1),
        Field("dataflow", "str", "", "ws", allowed=("os", "ws", "is")),
    )
    metrics: ClassVar[tuple[str, ...]] = ("latency_ms", "pes")

    def evaluate(self, designs: Columns) -> DesignReport:
        count_accelerators(self.fields, designs)
        rows, columns = (designs[name].astype(np.float64) for name in ("rows", "columns"))
        factor = np.select([designs["dataflow"] == "os", designs["dataflow"] == "ws"], [1.0, 1.3], 1.1)
        works = rows != 31
        latency = np.where(works, factor * (4096 / (rows * columns) + columns), np.nan)
        metrics = {"latency_ms": latency, "pes": np.where(works, rows * columns, np.nan)}
        return DesignReport(metrics, ["" if ok else "31 is prime" for ok in works])


def lottery_file(folder: Path, **changes: Any) -> Path:
    """Write the lottery with changes, and the preset beside it."""
    (folder / "any.toml").write_text(PRESET.format(sizes=list(range(1, 33))))
    path = folder / "lottery.yaml"
    path.write_text(yaml.safe_dump(CONTENT | changes))
    return path
