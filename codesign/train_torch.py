"""Trains a network from scratch: fast for small networks, resumable, the same bits for the same seed on a CPU.

The images stay one tensor and are augmented by the batch, so that a step costs little beside the network itself.
Shuffling and augmentation draw from a generator of their own. Dropout and the like draw from torch's global generator:
it is put into this training's state for the length of an epoch, and back to the caller's after it.

On CUDA some kernels add in an order that varies, so that equal seeds give nearly equal weights.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from codesign.augment_torch import augmentation
from codesign.checkpoint_torch import load_weights, read_tensors, restore, save_weights, state_of, write_tensors
from codesign.data.dataset import Dataset
from codesign.errors import StoreError, TrialError
from codesign.predict_torch import (
    Normalized,
    as_tensor,
    evaluate_accuracy,
    predict,
    resolve_device,
    to_input,
    torch_threads,
)
from codesign.recipe import Recipe

__all__ = [
    "Normalized",
    "Training",
    "classification_loss",
    "evaluate_accuracy",
    "load_weights",
    "predict",
    "save_weights",
    "seeded_build",
    "train_candidate",
]

_CHECKPOINT = "checkpoint.safetensors"
_CUDA_STEPS_PER_CHECK = 32  # reading the loss waits for the device
_INITIAL, _SHUFFLE, _GLOBAL = 0, 1, 2  # streams of randomness, all from one seed

_log = logging.getLogger(__name__)


class Training:
    """One network in training, epoch by epoch.

    Args:
        network: takes normalised images (B, C, H, W) and returns logits (B, n_classes). In training mode it may return
            (logits, auxiliary logits) and then has an attribute `auxiliary_weight`; it may have a method
            `set_progress(fraction)`, which is called before every step with the share of the training that is done.
            It is wrapped in `Normalized` with the data's mean and std, unless it is one already.
        data: what to train on (its train split) and to measure on (its validation split).
        recipe: how.
        seed: for the order of images, augmentation and dropout; not for the weights the network comes with.
        clock: seconds, for `train_seconds`.

    Attributes:
        network: the wrapped network, on the recipe's device.
        epoch: epochs finished.
        metrics: what `run_epoch` returned last.
    """

    def __init__(
        self,
        network: nn.Module,
        data: Dataset,
        recipe: Recipe,
        seed: int,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._device = resolve_device(recipe)
        wrapped = network if isinstance(network, Normalized) else Normalized(network, data.mean, data.std)
        self.network = wrapped.to(self._device)
        if self._device.type == "cpu":
            self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.epoch = 0
        self.metrics: dict[str, float] = {}
        self._data, self._recipe, self._seed, self._clock = data, recipe, seed, clock
        self._images = as_tensor(data.train.images).to(self._device)
        self._labels = as_tensor(data.train.labels).to(self._device)
        self._steps_per_epoch = math.ceil(len(data.train) / recipe.batch_size)
        self._augment = augmentation(recipe, data.image_shape, data.mean)
        self._parameters = [one for one in self.network.parameters() if one.requires_grad]
        self._optimizer = _optimizer(self._parameters, recipe)
        self._random = _Random(seed, self._device)
        self._train_seconds = 0.0

    @property
    def is_done(self) -> bool:
        """Whether all epochs of the recipe are finished."""
        return self.epoch >= self._recipe.epochs

    def run_epoch(self) -> dict[str, float]:
        """Train for one epoch, then measure.

        Returns:
            `epoch` (finished), `loss` (mean over the epoch's training images), `accuracy` (on the validation split,
            0 to 1), `train_seconds` (spent in training steps so far, resumed epochs included).

        Raises:
            TrialError: the loss or an output is NaN or infinite.
        """
        if self.is_done:
            raise ValueError(f"all {self._recipe.epochs} epochs are done")
        start = self._clock()
        with torch_threads(self._recipe.threads), self._random.active():
            loss = self._train_one_epoch()
        self._train_seconds += self._clock() - start
        accuracy = evaluate_accuracy(self.network, self._data.validation, self._recipe)
        self.epoch += 1
        self.metrics = {
            "epoch": float(self.epoch),
            "loss": loss,
            "accuracy": accuracy,
            "train_seconds": self._train_seconds,
        }
        return dict(self.metrics)

    def state(self) -> dict[str, Tensor]:
        """Weights and buffers of the wrapped network, copied to the CPU."""
        return state_of(self.network)

    def save(self, folder: Path) -> None:
        """Write everything that `load` needs to go on with the same bits: one file, replaced atomically."""
        tensors = {f"network.{name}": value for name, value in self.network.state_dict().items()}
        for index, slots in self._optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{name}": value for name, value in slots.items() if value is not None}
        tensors |= {f"random.{name}": value for name, value in self._random.state().items()}
        content = {**self._identity(), "epoch": self.epoch, "metrics": self.metrics}
        write_tensors(Path(folder) / _CHECKPOINT, tensors, content)

    def load(self, folder: Path) -> None:
        """Go on from a checkpoint.

        Raises:
            StoreError: there is none, it is damaged, or it is of another recipe, seed, data set or network.
        """
        path = Path(folder) / _CHECKPOINT
        tensors, content = read_tensors(path)
        for key, own in self._identity().items():
            if content.get(key) != own:
                raise StoreError(f"{path}: a checkpoint of another {key} ({content.get(key)!r}, not {own!r})")
        restore(self.network, _below(tensors, "network."), str(path))
        slots: dict[int, dict[str, Tensor]] = {}
        for name, value in _below(tensors, "optimizer.").items():
            index, _, slot = name.partition(".")
            slots.setdefault(int(index), {})[slot] = value
        groups = self._optimizer.state_dict()["param_groups"]
        self._optimizer.load_state_dict({"state": slots, "param_groups": groups})
        self._random.restore(_below(tensors, "random."))
        self.epoch, self.metrics = int(content["epoch"]), dict(content["metrics"])
        self._train_seconds = self.metrics.get("train_seconds", 0.0)

    def resume(self, folder: Path) -> bool:
        """Go on from a checkpoint if there is a readable one; whether there was.

        A damaged one is passed over with a warning in the log: the training starts over, to the same end.

        Raises:
            StoreError: the checkpoint is of another recipe, seed, data set or network.
        """
        path = Path(folder) / _CHECKPOINT
        if not path.exists():
            return False
        try:
            read_tensors(path)
        except StoreError as error:
            _log.warning("training starts over: %s", error)
            return False
        self.load(folder)
        return True

    def _identity(self) -> dict[str, Any]:
        """What must be equal for a checkpoint to fit, as JSON gives it back."""
        recipe = asdict(self._recipe)
        recipe["augment"] = list(recipe["augment"])
        del recipe["threads"]  # a training may go on where there are more of them, or fewer
        return {"format": 1, "recipe": recipe, "seed": self._seed, "data": self._data.fingerprint}

    def _train_one_epoch(self) -> float:
        """Mean loss."""
        self.network.train()
        inner: Any = self.network.network
        set_progress = getattr(inner, "set_progress", None)
        n_steps = self._steps_per_epoch
        checked_every = 1 if self._device.type == "cpu" else _CUDA_STEPS_PER_CHECK
        order = torch.randperm(len(self._labels), generator=self._random.own)
        total = torch.zeros((), dtype=torch.float64, device=self._device)
        # Batches of nearly one size: a last batch of a single image would break batch norm.
        for i, rows in enumerate(order.tensor_split(n_steps)):
            step = self.epoch * n_steps + i
            if set_progress is not None:
                set_progress(step / (self._recipe.epochs * n_steps))
            on_device = rows.to(self._device)
            images = to_input(self._augment(self._images[on_device], self._random.own))
            output = self.network(images)
            weight = float(inner.auxiliary_weight) if isinstance(output, tuple) else 0.0
            loss = classification_loss(output, self._labels[on_device], self._recipe.label_smoothing, weight)
            total += loss.detach() * len(rows)
            if (i + 1) % checked_every == 0 or i + 1 == n_steps:
                self._check_finite(total, i)
            self._step(loss, self._recipe.learning_rate_at(step, n_steps))
        return float(total) / len(order)

    def _step(self, loss: Tensor, learning_rate: float) -> None:
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        if self._recipe.gradient_clip is not None:
            nn.utils.clip_grad_norm_(self._parameters, self._recipe.gradient_clip)
        for group in self._optimizer.param_groups:
            group["lr"] = learning_rate
        self._optimizer.step()

    def _check_finite(self, total: Tensor, step: int) -> None:
        if not math.isfinite(total):
            found = "NaN" if math.isnan(total) else "infinite"
            place = f"step {step + 1} of {self._steps_per_epoch} in epoch {self.epoch + 1}"
            rate = self._recipe.peak_learning_rate
            raise TrialError(f"training diverged: the loss is {found} by {place}; the peak learning rate is {rate}")


def classification_loss(
    output: Tensor | tuple[Tensor, Tensor], labels: Tensor, label_smoothing: float, auxiliary_weight: float
) -> Tensor:
    """Mean cross-entropy with label smoothing, plus that of auxiliary logits times their weight.

    Args:
        output: logits (B, n_classes), or (logits, auxiliary logits).
        labels: shape (B,).
        label_smoothing: e in targets (1 - e) one_hot + e / n_classes (Szegedy et al. 2016, section 7).
        auxiliary_weight: used for auxiliary logits alone.
    """
    if isinstance(output, tuple):
        logits, auxiliary = output
        loss = functional.cross_entropy(logits, labels, label_smoothing=label_smoothing)
        return loss + auxiliary_weight * functional.cross_entropy(auxiliary, labels, label_smoothing=label_smoothing)
    return functional.cross_entropy(output, labels, label_smoothing=label_smoothing)


def train_candidate(
    build: Callable[[], object],
    data: Dataset,
    recipe: Recipe,
    seed: int,
    checkpoint_folder: Path | None = None,
    on_epoch: Callable[[int, dict[str, float]], None] | None = None,
) -> tuple[dict[str, float], dict[str, Tensor]]:
    """Build and train a network for all epochs of a recipe.

    Args:
        build: makes the network; its initial weights follow from `seed`.
        data: what to train and validate on.
        recipe: how.
        seed: for everything random.
        checkpoint_folder: saved to after every epoch; a checkpoint that is there is gone on from (see
            `Training.resume`).
        on_epoch: called after every epoch trained here (and its checkpoint) with the number of epochs finished and what
            `Training.run_epoch` returned; what it raises ends the training.

    Returns:
        Metrics (`accuracy` on the validation split, `loss`, `train_seconds`), and the weights of the network wrapped in
        `Normalized`.

    Raises:
        TrialError: training diverged.
        StoreError: the checkpoint is of another recipe, seed, data set or network.
    """
    training = Training(seeded_build(build, data, seed), data, recipe, seed)
    if checkpoint_folder is not None:
        training.resume(checkpoint_folder)
    while not training.is_done:
        metrics = training.run_epoch()
        if checkpoint_folder is not None:
            training.save(checkpoint_folder)
        if on_epoch is not None:
            on_epoch(training.epoch, metrics)
    return {name: training.metrics[name] for name in ("accuracy", "loss", "train_seconds")}, training.state()


def seeded_build(build: Callable[[], object], data: Dataset, seed: int) -> Normalized:
    """A network with the initial weights of a seed, wrapped to take the data's raw images.

    It is built on the CPU, so that the seed means the same weights on every device; the caller's generator is left as
    it was.

    Raises:
        TypeError: `build` does not make a torch module.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(_derived(seed, _INITIAL))
        network = build()
    if not isinstance(network, nn.Module):
        raise TypeError(f"build returned a {type(network).__name__}, not a torch.nn.Module")
    return Normalized(network, data.mean, data.std)


class _Random:
    """A training's randomness: a generator of its own, and its state of torch's global ones."""

    def __init__(self, seed: int, device: torch.device) -> None:
        self._devices = _cuda_indices(device)
        self.own = torch.Generator().manual_seed(_derived(seed, _SHUFFLE))
        with torch.random.fork_rng(devices=self._devices):
            torch.default_generator.manual_seed(_derived(seed, _GLOBAL))
            for index in self._devices:
                with torch.cuda.device(index):
                    torch.cuda.manual_seed(_derived(seed, _GLOBAL))
            self._global = self._global_state()

    @contextmanager
    def active(self) -> Iterator[None]:
        """Torch's global generators go on from this training's state, and are put back at the end."""
        with torch.random.fork_rng(devices=self._devices):
            torch.set_rng_state(self._global["cpu"])
            for index in self._devices:
                torch.cuda.set_rng_state(self._global["cuda"], index)
            try:
                yield
            finally:
                self._global = self._global_state()

    def state(self) -> dict[str, Tensor]:
        """All states by name, for a checkpoint."""
        return {"own": self.own.get_state(), **self._global}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Take up what `state` gave; what a device has no state for there stays as seeded."""
        self.own.set_state(state["own"])
        self._global |= {name: value for name, value in state.items() if name in self._global}

    def _global_state(self) -> dict[str, Tensor]:
        state = {"cpu": torch.get_rng_state()}
        for index in self._devices:
            state["cuda"] = torch.cuda.get_rng_state(index)
        return state


def _cuda_indices(device: torch.device) -> list[int]:
    return [device.index] if device.type == "cuda" else []


def _derived(seed: int, stream: int) -> int:
    """The seed of one stream, independent of the other streams'."""
    return int(np.random.SeedSequence((seed, stream)).generate_state(1, np.uint64)[0] >> np.uint64(1))


def _optimizer(parameters: list[nn.Parameter], recipe: Recipe) -> torch.optim.Optimizer:
    groups = [
        {"params": [one for one in parameters if one.ndim >= 2], "weight_decay": recipe.decay},
        {"params": [one for one in parameters if one.ndim < 2], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    rate = recipe.peak_learning_rate
    # Fused: one call per step, where the usual loop over parameters costs small networks more than their gradients.
    if recipe.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=rate, betas=(recipe.momentum, 0.999), fused=True)
    return torch.optim.SGD(groups, lr=rate, momentum=recipe.momentum, nesterov=recipe.momentum > 0, fused=True)


def _below(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
