"""The recipe: values refused with a message, and the learning rate in closed form. No torch."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codesign.errors import InputError
from codesign.recipe import Recipe


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"optimizer": "sdg"}, r"^optimizer: 'sdg' is not one of sgd, adamw; did you mean 'sgd'\?"),
        ({"schedule": "linear"}, r"^schedule: 'linear' is not one of cosine, constant"),
        ({"device": "gpu"}, r"^device: 'gpu' is not one of cpu, cuda, auto"),
        ({"augment": ("flip", "crops")}, r"^augment: 'crops' is not one of .*did you mean 'crop'\?"),
        ({"epochs": 0}, r"^epochs: 0 is not allowed; use a whole number of at least 1"),
        ({"batch_size": 0}, r"^batch_size: "),
        ({"threads": 0}, r"^threads: "),
        ({"learning_rate": 0.0}, r"^learning_rate: "),
        ({"learning_rate": math.nan}, r"^learning_rate: nan"),
        ({"learning_rate": math.inf}, r"^learning_rate: inf"),
        ({"weight_decay": -0.1}, r"^weight_decay: "),
        ({"momentum": 1.0}, r"^momentum: "),
        ({"label_smoothing": 1.0}, r"^label_smoothing: "),
        ({"gradient_clip": 0.0}, r"^gradient_clip: "),
        ({"epochs": 3, "warmup_epochs": 3.0}, r"^warmup_epochs: 3.0 .* below epochs \(3\)"),
        ({"crop_pixels": 0}, r"^crop_pixels: "),
    ],
)
def test_values_out_of_range_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Recipe(**options)
    assert issubclass(InputError, ValueError)


def test_defaults_depend_on_the_optimizer() -> None:
    assert (Recipe().peak_learning_rate, Recipe().decay) == (0.1, 5e-4)
    adamw = Recipe(optimizer="adamw")
    assert (adamw.peak_learning_rate, adamw.decay) == (0.004, 0.05)
    assert Recipe(learning_rate=0.3, weight_decay=0.0).peak_learning_rate == 0.3
    assert Recipe(learning_rate=0.3, weight_decay=0.0).decay == 0.0


@given(st.integers(1, 20), st.integers(1, 50), st.floats(1e-4, 1.0))
def test_cosine_schedule(epochs: int, steps_per_epoch: int, peak: float) -> None:
    recipe = Recipe(epochs=epochs, learning_rate=peak)
    n_steps = epochs * steps_per_epoch
    rates = [recipe.learning_rate_at(step, steps_per_epoch) for step in range(n_steps)]
    assert rates[0] == peak
    assert rates == pytest.approx([peak * math.cos(math.pi * step / n_steps / 2) ** 2 for step in range(n_steps)])
    assert recipe.learning_rate_at(n_steps, steps_per_epoch) == pytest.approx(0)


@given(st.integers(2, 20), st.integers(1, 50), st.floats(0.1, 1.5))
def test_warm_up_rises_in_a_straight_line_and_meets_the_cosine(
    epochs: int, steps_per_epoch: int, warmup_epochs: float
) -> None:
    recipe = Recipe(epochs=epochs, learning_rate=1.0, warmup_epochs=warmup_epochs)
    warmup = round(warmup_epochs * steps_per_epoch)
    for step in range(warmup):
        assert recipe.learning_rate_at(step, steps_per_epoch) == pytest.approx((step + 1) / warmup)
    assert recipe.learning_rate_at(warmup, steps_per_epoch) == pytest.approx(1.0)


def test_constant_schedule() -> None:
    recipe = Recipe(epochs=4, learning_rate=0.2, schedule="constant", warmup_epochs=0.5)
    assert [recipe.learning_rate_at(step, 4) for step in range(5)] == pytest.approx([0.1, 0.2, 0.2, 0.2, 0.2])
