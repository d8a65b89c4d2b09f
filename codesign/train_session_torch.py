"""One training as a session: steps of one epoch, checkpoints, weights at the end."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from torch import nn

from codesign.checkpoint_torch import load_weights, save_weights
from codesign.data.dataset import Dataset
from codesign.predict_torch import evaluate_accuracy
from codesign.recipe import Recipe
from codesign.train_torch import Training, seeded_build


class TrainSession:
    """Trains one network epoch by epoch.

    Args:
        build: makes the network; called once, under `seed`.
        data: the data set.
        recipe: how to train.
        seed: of initialisation, shuffling and augmentation.
    """

    def __init__(self, build: Callable[[], object], data: Dataset, recipe: Recipe, seed: int) -> None:
        self._network: nn.Module = seeded_build(build, data, seed)
        self._training = Training(self._network, data, recipe, seed)

    @property
    def is_done(self) -> bool:
        """Whether every epoch was trained."""
        return self._training.is_done

    @property
    def metrics(self) -> dict[str, float]:
        """Metrics after the last epoch trained, in this process or before a resume; empty before the first."""
        return {**self._training.metrics, "epochs": float(self._training.epoch)} if self._training.metrics else {}

    def step(self) -> None:
        """Train one epoch."""
        self._training.run_epoch()

    def save(self, folder: Path) -> None:
        """Write a checkpoint."""
        self._training.save(folder)

    def resume(self, folder: Path) -> bool:
        """Go on from a checkpoint; False if there is none that can be read."""
        return self._training.resume(folder)

    def write_artifacts(self, folder: Path) -> dict[str, str]:
        """Write the weights."""
        folder.mkdir(parents=True, exist_ok=True)
        save_weights(folder / "weights.safetensors", self._training.network)
        return {"weights": "weights.safetensors"}


def test_accuracy(build: Callable[[], object], weights: Path, data: Dataset, recipe: Recipe) -> float:
    """Share of the test split that a trained network classifies correctly."""
    return evaluate_accuracy(trained_network(build, weights, data), data.test, recipe)


def trained_network(build: Callable[[], object], weights: Path, data: Dataset) -> nn.Module:
    """The network as it was trained: raw images in, logits out."""
    network: nn.Module = seeded_build(build, data, 0)
    load_weights(weights, network)
    return network
