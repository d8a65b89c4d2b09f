"""A small problem with known answers, for tests of the study, the store and the drivers."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from codesign.study import candidate_keys
from codesign.trial import Evaluation
from search_spaces.ops import IntArray
from search_spaces.space import Choice, Genotype, SearchSpace


@dataclass(frozen=True)
class Grid(SearchSpace):
    """`width` decisions with `options` options each."""

    width: int = 6
    options: int = 8

    @property
    def choices(self) -> tuple[Choice, ...]:
        return tuple(Choice(f"x{i}", tuple(range(self.options))) for i in range(self.width))

    def decode(self, code: IntArray) -> Genotype:
        return {"x": code.tolist()}

    def encode(self, genotype: Mapping[str, object]) -> IntArray:
        return np.array(genotype["x"], dtype=np.int64)


@dataclass
class CheapCost:
    """`cost` is the sum of the decisions: a screen."""

    metrics: tuple[str, ...] = ("cost",)
    fingerprint: str = ""
    n_seen: int = 0

    def keys(self, codes: IntArray) -> list[str]:
        return [""] * len(codes)

    def prepare(self) -> None:
        pass

    def adopt(self, artifacts: Mapping[str, str], key: str) -> Mapping[str, str] | None:
        return None

    def evaluate(self, codes: IntArray) -> Evaluation:
        self.n_seen += len(codes)
        return Evaluation({"cost": codes.sum(axis=1).astype(float)}, [""] * len(codes))


@dataclass
class Quality:
    """`accuracy` = 1 - scaled squared distance to the middle; crashes and NaN on demand; logs every evaluation."""

    options: int = 8
    crash_when_first: int = -1
    nan_when_first: int = -1
    log: Path | None = None
    seconds: float = 0.0
    key_columns: int = 0
    metrics: tuple[str, ...] = ("accuracy",)
    fingerprint: str = "quality-v1"
    evaluated: list[tuple[int, ...]] = field(default_factory=list)

    def keys(self, codes: IntArray) -> list[str]:
        return candidate_keys(codes[:, : self.key_columns] if self.key_columns else codes)

    def prepare(self) -> None:
        pass

    def adopt(self, artifacts: Mapping[str, str], key: str) -> Mapping[str, str] | None:
        return dict(artifacts)

    def evaluate(self, codes: IntArray) -> Evaluation:
        accuracy = []
        for code in codes:
            if code[0] == self.crash_when_first:
                raise RuntimeError(f"cannot build {code.tolist()}")
            time.sleep(self.seconds)
            self.evaluated.append(tuple(code.tolist()))
            if self.log is not None:
                with self.log.open("a") as stream:
                    stream.write(" ".join(map(str, code)) + "\n")
                    stream.flush()
                    os.fsync(stream.fileno())
            middle = (self.options - 1) / 2
            value = 1 - float(np.mean((code - middle) ** 2)) / middle**2
            accuracy.append(float("nan") if code[0] == self.nan_when_first else value)
        return Evaluation({"accuracy": np.array(accuracy)}, [""] * len(codes))
