"""Training: reproducible, resumable to the bit, right in its arithmetic, and good enough to learn digits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from codesign.data import Dataset, Digits, Split
from codesign.errors import InputError, StoreError, TrialError
from codesign.predict_torch import as_tensor, torch_threads
from codesign.recipe import Recipe
from codesign.train_torch import (
    Normalized,
    Training,
    classification_loss,
    evaluate_accuracy,
    load_weights,
    predict,
    save_weights,
    seeded_build,
    train_candidate,
)

pytestmark = pytest.mark.torch

RNG = np.random.default_rng(0)


def _split(n: int) -> Split:
    """Bright left halves are class 0, bright right halves class 1."""
    labels = np.arange(n, dtype=np.int64) % 2
    images = RNG.integers(0, 100, (n, 1, 6, 6)).astype(np.uint8)
    images[labels == 0, :, :, :3] += 120
    images[labels == 1, :, :, 3:] += 120
    return Split(images, labels)


DATA = Dataset.of("halves", _split(50), _split(20), _split(10), ("left", "right"))


def _build() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.3), nn.Flatten(), nn.Linear(144, 2)
    )


def _recipe(**changes: Any) -> Recipe:
    return Recipe(**{"epochs": 4, "batch_size": 16, "augment": ("crop", "cutout"), **changes})


def _equal(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_equal_seeds_give_equal_bits(optimizer: Any) -> None:
    recipe = _recipe(optimizer=optimizer)
    metrics, weights = train_candidate(_build, DATA, recipe, 5)
    torch.rand(3)  # the caller's generator plays no part
    again, same = train_candidate(_build, DATA, recipe, 5)
    assert _equal(weights, same)
    assert {**metrics, "train_seconds": 0} == {**again, "train_seconds": 0}
    _, others = train_candidate(_build, DATA, recipe, 6)
    assert not _equal(weights, others)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize("cut", [1, 3])
def test_a_resumed_training_equals_the_unbroken_one(tmp_path: Path, optimizer: Any, cut: int) -> None:
    recipe = _recipe(optimizer=optimizer, warmup_epochs=1.0)
    unbroken, weights = train_candidate(_build, DATA, recipe, 1)

    class CutError(Exception):
        pass

    def stop(epoch: int, metrics: dict[str, float]) -> None:
        if epoch == cut:
            raise CutError

    with pytest.raises(CutError):
        train_candidate(_build, DATA, recipe, 1, tmp_path, stop)
    seen: list[int] = []
    resumed, same = train_candidate(_build, DATA, recipe, 1, tmp_path, lambda epoch, _: seen.append(epoch))
    assert seen == list(range(cut + 1, 5)), "finished epochs are not trained again"
    assert _equal(weights, same)
    assert (resumed["loss"], resumed["accuracy"]) == (unbroken["loss"], unbroken["accuracy"])
    finished, still = train_candidate(_build, DATA, recipe, 1, tmp_path, lambda epoch, _: seen.append(epoch))
    assert finished == resumed
    assert _equal(weights, still)
    assert seen[-1] == 4, "a finished training is read back, not run"


def test_checkpoints_of_something_else_are_refused(tmp_path: Path) -> None:
    def training(build: Any = _build, data: Dataset = DATA, recipe: Recipe | None = None, seed: int = 0) -> Training:
        return Training(seeded_build(build, data, seed), data, recipe or _recipe(), seed)

    first = training()
    with pytest.raises(StoreError, match="no such file"):
        first.load(tmp_path)
    assert not first.resume(tmp_path)
    first.run_epoch()
    first.save(tmp_path)
    other_data = Dataset.of("others", _split(50), _split(20), _split(10), ("left", "right"))
    for other, key in (
        (training(seed=1), "seed"),
        (training(recipe=_recipe(learning_rate=0.2)), "recipe"),
        (training(data=other_data), "data"),
    ):
        with pytest.raises(StoreError, match=f"a checkpoint of another {key}"):
            other.resume(tmp_path)
    with pytest.raises(StoreError, match="weights of another network"):
        training(lambda: nn.Sequential(nn.Flatten(), nn.Linear(36, 2))).resume(tmp_path)
    assert training(recipe=_recipe(threads=2)).resume(tmp_path), "the number of threads may change"


def test_a_damaged_checkpoint_is_passed_over(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    expected, weights = train_candidate(_build, DATA, _recipe(), 0)
    (tmp_path / "checkpoint.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0nonsense")
    metrics, same = train_candidate(_build, DATA, _recipe(), 0, tmp_path)
    assert "training starts over" in caplog.text
    assert _equal(weights, same)
    assert metrics["accuracy"] == expected["accuracy"]


def test_the_callers_generator_and_threads_are_left_alone(tmp_path: Path) -> None:
    with torch_threads(2):
        torch.manual_seed(3)
        before = torch.get_rng_state()
        train_candidate(_build, DATA, _recipe(epochs=1, threads=1), 0, tmp_path)
        assert torch.equal(torch.get_rng_state(), before)
        assert torch.get_num_threads() == 2


def test_initial_weights_follow_from_the_seed_alone() -> None:
    first, second, other = (seeded_build(_build, DATA, seed).state_dict() for seed in (0, 0, 1))
    assert _equal(first, second)
    assert not _equal(first, other)
    with pytest.raises(TypeError, match="build returned a int"):
        seeded_build(lambda: 3, DATA, 0)


def test_metrics_and_clock() -> None:
    ticks = iter(range(0, 100, 5))
    training = Training(_build(), DATA, _recipe(epochs=2), 0, clock=lambda: float(next(ticks)))
    first = training.run_epoch()
    assert first.keys() == {"epoch", "loss", "accuracy", "train_seconds"}
    assert (first["epoch"], first["train_seconds"], training.epoch, training.is_done) == (1.0, 5.0, 1, False)
    second = training.run_epoch()
    assert (second["epoch"], second["train_seconds"], training.is_done) == (2.0, 10.0, True)
    assert second["accuracy"] == evaluate_accuracy(training.network, DATA.validation, _recipe())
    with pytest.raises(ValueError, match="all 2 epochs are done"):
        training.run_epoch()


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.7])
def test_label_smoothing_in_closed_form(smoothing: float) -> None:
    logits = torch.randn(7, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    auxiliary = torch.flip(logits, (0,))
    labels = torch.arange(7) % 5

    def expected(values: Tensor) -> float:
        targets = (1 - smoothing) * np.eye(5)[labels.numpy()] + smoothing / 5
        log_odds = values.numpy() - np.log(np.exp(values.numpy()).sum(axis=1, keepdims=True))
        return float(-(targets * log_odds).sum(axis=1).mean())

    assert float(classification_loss(logits, labels, smoothing, 9.0)) == pytest.approx(expected(logits))
    both = float(classification_loss((logits, auxiliary), labels, smoothing, 0.4))
    assert both == pytest.approx(expected(logits) + 0.4 * expected(auxiliary))


class _Recorder(nn.Module):
    """A linear classifier with an auxiliary head that notes what it is told and given."""

    auxiliary_weight = 0.0

    def __init__(self) -> None:
        super().__init__()
        self.main, self.auxiliary = nn.Linear(36, 2), nn.Linear(36, 2)
        self.progress: list[float] = []
        self.batches: list[int] = []

    def set_progress(self, fraction: float) -> None:
        self.progress.append(fraction)

    def forward(self, images: Tensor) -> Any:
        flat = images.flatten(1)
        if not self.training:
            return self.main(flat)
        self.batches.append(len(flat))
        return self.main(flat), self.auxiliary(flat)


def test_progress_auxiliary_logits_and_even_batches() -> None:
    network = _Recorder()
    before = network.auxiliary.weight.clone()
    training = Training(network.eval(), DATA, Recipe(epochs=2, batch_size=16, weight_decay=0.0), 0)
    training.run_epoch()
    training.run_epoch()
    assert network.progress == [step / 8 for step in range(8)]
    assert sorted(network.batches) == [12, 12, 12, 12, 13, 13, 13, 13], "50 images in 4 batches of at most 16"
    assert torch.equal(network.auxiliary.weight, before), "weight 0: the auxiliary head learns nothing"
    network.auxiliary_weight = 0.4
    Training(network, DATA, Recipe(epochs=1, batch_size=16), 0).run_epoch()
    assert not torch.equal(network.auxiliary.weight, before)


def test_sgd_step_in_closed_form() -> None:
    """One step with Nesterov momentum from rest: w - rate (1 + momentum) (gradient + decay w)."""
    network = seeded_build(lambda: nn.Sequential(nn.Flatten(), nn.Linear(36, 2)), DATA, 0)
    images, labels = as_tensor(DATA.train.images).float(), as_tensor(DATA.train.labels)
    nn.functional.cross_entropy(network(images), labels).backward()  # type: ignore[no-untyped-call]
    recipe = Recipe(epochs=1, batch_size=50, learning_rate=0.2, weight_decay=0.3, gradient_clip=None)
    expected = {}
    for name, value in network.named_parameters():
        assert value.grad is not None
        decay = 0.3 if value.ndim >= 2 else 0.0  # biases are not decayed
        expected[name] = value.detach() - 0.2 * 1.9 * (value.grad + decay * value.detach())
    Training(network, DATA, recipe, 0).run_epoch()
    for name, value in network.named_parameters():
        torch.testing.assert_close(value.detach(), expected[name], rtol=1e-4, atol=1e-6)


def test_the_loss_reported_is_the_recipes() -> None:
    network = seeded_build(lambda: nn.Sequential(nn.Flatten(), nn.Linear(36, 2)), DATA, 0)
    images, labels = as_tensor(DATA.train.images).float(), as_tensor(DATA.train.labels)
    expected = classification_loss(network(images), labels, 0.5, 0.0).item()
    metrics = Training(network, DATA, Recipe(epochs=1, batch_size=50, label_smoothing=0.5), 0).run_epoch()
    assert metrics["loss"] == pytest.approx(expected, rel=1e-5)


def test_gradient_clip_bounds_the_step() -> None:
    def moved(clip: float | None) -> float:
        network = seeded_build(lambda: nn.Sequential(nn.Flatten(), nn.Linear(36, 2)), DATA, 0)
        before = [value.detach().clone() for value in network.parameters()]
        recipe = Recipe(epochs=1, batch_size=50, learning_rate=1.0, momentum=0.0, weight_decay=0.0, gradient_clip=clip)
        Training(network, DATA, recipe, 0).run_epoch()
        steps = [(value.detach() - old).square().sum() for value, old in zip(network.parameters(), before, strict=True)]
        return float(torch.stack(steps).sum().sqrt())

    assert moved(None) > 0.02
    assert moved(0.01) == pytest.approx(0.01, rel=1e-3)


def test_normalized_takes_raw_images() -> None:
    mean, std = DATA.mean, DATA.std
    network = Normalized(nn.Identity(), mean, std)
    raw = as_tensor(DATA.train.images).float()
    expected = (DATA.train.images.astype(np.float64) - mean[0]) / std[0]
    np.testing.assert_allclose(network(raw).numpy(), expected, rtol=1e-5, atol=1e-5)
    assert {"mean", "std"} <= network.state_dict().keys()
    with pytest.raises(ValueError, match="std above 0"):
        Normalized(nn.Identity(), (0.0,), (0.0,))


@pytest.mark.parametrize("spoiled", ["loss", "outputs"])
def test_divergence_fails_the_trial_with_its_reason(spoiled: str) -> None:
    class Spoiled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(36, 2)

        def forward(self, images: Tensor) -> Any:
            is_spoiled = self.training if spoiled == "loss" else not self.training
            return self.linear(images.flatten(1)) * (float("nan") if is_spoiled else 1.0)

    training = Training(Spoiled(), DATA, _recipe(), 0)
    message = {
        "loss": r"training diverged: the loss is NaN by step 1 of 4 in epoch 1; the peak learning rate is 0\.1",
        "outputs": "the network's outputs hold NaN or infinite values",
    }[spoiled]
    with pytest.raises(TrialError, match=message):
        training.run_epoch()
    assert training.epoch == 0


def test_a_learning_rate_that_is_far_too_large_is_caught() -> None:
    recipe = Recipe(epochs=3, batch_size=16, learning_rate=1e30, gradient_clip=None)
    with pytest.raises(TrialError, match=r"NaN|infinite"):
        train_candidate(lambda: nn.Sequential(nn.Flatten(), nn.Linear(36, 8), nn.Linear(8, 2)), DATA, recipe, 0)


def test_predict_in_batches_equals_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    network = seeded_build(_build, DATA, 0)
    network.train()
    images = np.concatenate([DATA.train.images] * 2)
    images.flags.writeable = False  # as arrays shared between processes are
    at_once = predict(network, images, _recipe())
    assert network.training, "the mode is put back"
    assert at_once.shape == (100, 2)
    monkeypatch.setattr("codesign.predict_torch._BATCH_PIXELS", {"cpu": 1})
    np.testing.assert_allclose(predict(network, images, _recipe()), at_once, rtol=1e-5, atol=1e-6)
    right = (at_once[:50].argmax(axis=1) == DATA.train.labels).mean()
    assert evaluate_accuracy(network, DATA.train, _recipe()) == pytest.approx(right)


def test_trained_weights_travel_as_a_file(tmp_path: Path) -> None:
    metrics, weights = train_candidate(_build, DATA, _recipe(), 0)
    save_weights(tmp_path / "w.safetensors", weights)
    network = seeded_build(_build, DATA, 9)
    load_weights(tmp_path / "w.safetensors", network)
    assert evaluate_accuracy(network, DATA.validation, _recipe()) == metrics["accuracy"]


def test_cuda_where_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InputError, match="device: 'cuda' is not allowed; use cpu or auto"):
        Training(_build(), DATA, _recipe(device="cuda"), 0)
    Training(_build(), DATA, _recipe(device="auto"), 0).run_epoch()


def test_learns_digits() -> None:
    def build() -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU(),
            nn.Conv2d(16, 32, 3, padding=1, stride=2, bias=False), nn.BatchNorm2d(32), nn.ReLU(),
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10),
        )  # fmt: skip

    metrics, _ = train_candidate(build, Digits().load(), Recipe(epochs=6, label_smoothing=0.1, warmup_epochs=1), 0)
    assert metrics["accuracy"] > 0.9
