"""Images that any machine can make again, bit for bit, from a number."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

RECIPE = (
    "byte i of SHAKE-128 of the ASCII text 'codesign probe SEED' (i counts the pixels of all images, in C order), "
    "times (high - low) / 255, plus low, computed in float64, as float32"
)


def probe_images(seed: int, shape: Sequence[int], low: float, high: float) -> NDArray[np.float32]:
    """Pseudo-random pixels.

    NumPy's generators may change what they draw between versions; SHAKE-128 is a standard (FIPS 202).

    Args:
        seed: any integer.
        shape: of the result, images first.
        low, high: range of the pixels; 0 and 255 give whole numbers.
    """
    drawn = hashlib.shake_128(f"codesign probe {seed}".encode()).digest(math.prod(shape))
    bytes_ = np.frombuffer(drawn, dtype=np.uint8).astype(np.float64).reshape(tuple(shape))
    return (bytes_ * ((high - low) / 255) + low).astype(np.float32)


def largest_difference(actual: NDArray[np.generic], expected: NDArray[np.generic]) -> float:
    """The largest absolute difference; infinite if the shapes differ or a value is not finite."""
    if actual.shape != expected.shape or not (np.isfinite(actual).all() and np.isfinite(expected).all()):
        return math.inf
    return float(np.abs(actual.astype(np.float64) - expected.astype(np.float64)).max(initial=0.0))


def agrees(difference: float, allowed: float) -> bool:
    """Whether a difference is allowed. An infinite one never is, though outputs without bound allow anything."""
    return math.isfinite(difference) and difference <= allowed


def tolerance(expected: NDArray[np.generic], absolute: float, relative: float) -> float:
    """How far outputs may lie from the expected ones: `absolute + relative * max |expected|`."""
    return absolute + relative * float(np.abs(expected).max(initial=0.0))
