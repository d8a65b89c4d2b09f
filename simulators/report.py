"""What a simulator returns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class CostReport:
    """Cost of every layer on every accelerator.

    Attributes:
        columns: quantities that add up over the layers of a network, named with their unit (`latency_cycles`,
            `latency_ms`, `dram_bytes`, ...), each of shape (L, A), or (L,) when layers and accelerators were paired.
        per_accelerator: quantities of the accelerator alone (`pes`, `peak_gmacs_per_s`, ...), each of shape (A,).
        uncounted: what the model leaves out of every figure, as short phrases: never charged zero in silence.
    """

    columns: Mapping[str, NDArray[np.float64]]
    per_accelerator: Mapping[str, NDArray[np.float64]]
    uncounted: tuple[str, ...] = field(default=())
