"""A small design model for the tests of logs and proxies."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest

from codesign.cli import VERBS, main
from codesign.design_log import LogBatch
from simulators.accelerator import Columns, Field
from simulators.design import DesignReport

MODEL = f"{__name__}:Queue"
PRESET = """
simulator = "queue"
description = "a queue"
[search]
policy = ["open", "closed", "mixed"]
refresh = ["no", "yes"]
postponed = [1, 2, 4, 8]
depth = [1, 2, 4, 8, 16, 32]
"""
SEARCH: dict[str, tuple[int | str, ...]] = {
    "policy": ("open", "closed", "mixed"),
    "refresh": ("no", "yes"),
    "postponed": (1, 2, 4, 8),
    "depth": (1, 2, 4, 8, 16, 32),
}


@dataclass(frozen=True)
class Queue:
    """A toy controller: `postponed` means nothing without refresh; depth 1 with a mixed policy may be refused."""

    load: float = 1.0
    refuses: bool = False
    id: ClassVar[str] = "queue-v1"
    fields: ClassVar[tuple[Field, ...]] = (
        Field("policy", "str", "", "open", allowed=("open", "closed", "mixed", "other"), doc="of pages"),
        Field("refresh", "str", "", "no", allowed=("no", "yes"), doc="whether rows are refreshed"),
        Field("postponed", "int", "refreshes", 1, lowest=1, doc="that may be put off"),
        Field("depth", "int", "requests", 8, lowest=1, doc="of the queue"),
        Field("note", "str", "", "none", doc="never read"),
    )
    metrics: ClassVar[tuple[str, ...]] = ("latency_ns", "energy_pj", "area_mm2")

    def features(self) -> Mapping[str, float]:
        """What tells its contexts apart."""
        return {"load": self.load}

    def evaluate(self, designs: Columns) -> DesignReport:
        """Closed form."""
        depth, postponed = designs["depth"].astype(np.float64), designs["postponed"].astype(np.float64)
        closed = np.select([designs["policy"] == "closed", designs["policy"] == "mixed"], [1.0, 0.5], 0.0)
        refreshed = (designs["refresh"] == "yes").astype(np.float64)
        latency = self.load * (100 + 60 * closed / depth + 9 * refreshed / postponed + 40 / depth)
        fails = (designs["policy"] == "mixed") & (depth == 1) & self.refuses
        figures = {
            "latency_ns": latency,
            "energy_pj": latency * (1 + 0.3 * closed) + 5 * refreshed,
            "area_mm2": np.full(len(depth), 2.5),
        }
        figures = {name: np.where(fails, np.nan, values) for name, values in figures.items()}
        return DesignReport(figures, ["depth: too small" if fail else "" for fail in fails], ("leakage",))


def random_designs(n: int, seed: int = 0) -> Columns:
    """Designs drawn uniformly from `SEARCH`."""
    rng = np.random.default_rng(seed)
    drawn = {name: np.array(options)[rng.integers(0, len(options), n)] for name, options in SEARCH.items()}
    return {**drawn, "note": np.array(["none"] * n)}


def batch_of(model: Queue, designs: Columns, context: str = "") -> LogBatch:
    """The designs with the model's figures."""
    report = model.evaluate(designs)
    return LogBatch(
        "design-v1", model.id, context, model.fields, designs, report.metrics, report.reasons,
        features=model.features(),
    )  # fmt: skip


def run_cli(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *arguments: str
) -> tuple[int, str, str]:
    """Run `codesign proxy ...` in this process: status, output, errors."""
    monkeypatch.setitem(VERBS, "proxy", "learn cost models from logs of designs")
    with pytest.raises(SystemExit) as caught:
        main(["proxy", *arguments])
    captured = capsys.readouterr()
    return int(caught.value.code or 0), captured.out, captured.err
