"""An agent that crashes, importable by workers."""

from __future__ import annotations

from codesign.strategies.random import Random
from codesign.strategies.strategy import FloatArray
from search_spaces.ops import IntArray


class Faulty(Random):
    def tell(self, codes: IntArray, losses: FloatArray, violations: FloatArray) -> None:
        raise RuntimeError("out of ideas")
