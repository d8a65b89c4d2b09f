"""How a candidate is trained: plain values, checked at once, without torch."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

from codesign.errors import InputError

Optimizer = Literal["sgd", "adamw"]
Schedule = Literal["cosine", "constant"]
Device = Literal["cpu", "cuda", "auto"]
Augmentation = Literal["flip", "crop", "shift", "cutout"]

_LEARNING_RATE: dict[Optimizer, float] = {"sgd": 0.1, "adamw": 0.004}
_WEIGHT_DECAY: dict[Optimizer, float] = {"sgd": 5e-4, "adamw": 0.05}


@dataclass(frozen=True, slots=True)
class Recipe:
    """Everything that training depends on beside network, data and seed.

    Attributes:
        epochs: passes over the train split; the fidelity of a trial.
        batch_size: images per step, at most; the batches of an epoch differ in size by one image at most.
        optimizer: "sgd" (Nesterov momentum) or "adamw".
        learning_rate: its peak; left out, 0.1 for sgd and 0.004 for adamw.
        weight_decay: on weights of convolutions and linear layers, not on biases and norms; left out, 5e-4 for sgd
            (coupled) and 0.05 for adamw (decoupled).
        momentum: of sgd; for adamw its first beta.
        warmup_epochs: epochs over which the rate rises in a straight line from 0; may be a fraction.
        schedule: after that, "cosine" down to 0 (Loshchilov and Hutter 2017, without restarts) or "constant".
        label_smoothing: share of the target spread over all classes (Szegedy et al. 2016, section 7).
        gradient_clip: largest norm of the whole gradient, or None for no limit.
        augment: any of "flip" (left to right), "crop" (from the image padded with zeros), "shift" (by a few pixels, the
            border repeated), "cutout" (a square set to the mean; DeVries and Taylor 2017), carried out in that order.
        crop_pixels: padding on each side; left out, 1/8 of the image's height: 4 of 32.
        shift_pixels: largest shift; left out, 1/16 of the image's height, at least 1.
        cutout_pixels: side of the square; left out, half the image's height: 16 of 32.
        threads: torch's threads for one training.
        device: "cpu", "cuda", or "auto" for CUDA where there is one.

    Raises:
        InputError: a value is out of range; also a ValueError.
    """

    epochs: int = 10
    batch_size: int = 64
    optimizer: Optimizer = "sgd"
    learning_rate: float | None = None
    weight_decay: float | None = None
    momentum: float = 0.9
    warmup_epochs: float = 0.0
    schedule: Schedule = "cosine"
    label_smoothing: float = 0.0
    gradient_clip: float | None = 5.0
    augment: tuple[Augmentation, ...] = ()
    crop_pixels: int | None = None
    shift_pixels: int | None = None
    cutout_pixels: int | None = None
    threads: int = 1
    device: Device = "cpu"

    def __post_init__(self) -> None:
        for name, kind in (("optimizer", Optimizer), ("schedule", Schedule), ("device", Device)):
            if getattr(self, name) not in get_args(kind):
                raise InputError.about(name, getattr(self, name), get_args(kind))
        for one in self.augment:
            if one not in get_args(Augmentation):
                raise InputError.about("augment", one, get_args(Augmentation))
        for name in ("epochs", "batch_size", "threads"):
            _check(name, getattr(self, name) >= 1, getattr(self, name), "a whole number of at least 1")
        for name in ("crop_pixels", "shift_pixels", "cutout_pixels"):
            pixels = getattr(self, name)
            _check(name, pixels is None or pixels >= 1, pixels, "at least 1 pixel, or leave it out")
        for name in ("learning_rate", "gradient_clip"):
            value = getattr(self, name)
            _check(name, value is None or 0 < value < math.inf, value, "a number above 0, or leave it out")
        decay = self.weight_decay
        _check("weight_decay", decay is None or 0 <= decay < math.inf, decay, "0 or more, or leave it out")
        _check("momentum", 0 <= self.momentum < 1, self.momentum, "at least 0 and below 1")
        _check("label_smoothing", 0 <= self.label_smoothing < 1, self.label_smoothing, "at least 0 and below 1")
        allowed = f"at least 0 and below epochs ({self.epochs})"
        _check("warmup_epochs", 0 <= self.warmup_epochs < self.epochs, self.warmup_epochs, allowed)

    @property
    def peak_learning_rate(self) -> float:
        """`learning_rate`, or the optimiser's default."""
        return _LEARNING_RATE[self.optimizer] if self.learning_rate is None else self.learning_rate

    @property
    def decay(self) -> float:
        """`weight_decay`, or the optimiser's default."""
        return _WEIGHT_DECAY[self.optimizer] if self.weight_decay is None else self.weight_decay

    def learning_rate_at(self, step: int, steps_per_epoch: int) -> float:
        """The rate of a step, counted from 0 over all epochs.

        With warm-up W and S steps in all: peak (step + 1) / W while step < W, then, for "cosine",
        peak (1 + cos(pi (step - W) / (S - W))) / 2.
        """
        warmup = round(self.warmup_epochs * steps_per_epoch)
        if step < warmup:
            return self.peak_learning_rate * (step + 1) / warmup
        if self.schedule == "constant":
            return self.peak_learning_rate
        done = (step - warmup) / max(1, self.epochs * steps_per_epoch - warmup)
        return self.peak_learning_rate * (1 + math.cos(math.pi * done)) / 2


def _check(name: str, is_allowed: bool, value: object, allowed: str) -> None:
    if not is_allowed:
        raise InputError.about(name, value, allowed)
