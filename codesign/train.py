"""Evaluator `train`: accuracy from training each candidate from scratch. Torch loads when the first one trains."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict
from hashlib import blake2b
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np

from codesign.context import Context
from codesign.data.dataset import Dataset
from codesign.intervals import wilson_interval
from codesign.recipe import Recipe
from codesign.store import Final
from codesign.study import candidate_keys
from codesign.trial import Evaluation, Evaluator
from search_spaces.ops import IntArray


class Session(Protocol):
    """One evaluation in steps, so that a driver can save, stop or move it between them."""

    @property
    def is_done(self) -> bool:
        """Whether every step was made."""
        ...

    @property
    def metrics(self) -> dict[str, float]:
        """Metrics after the last step; empty before the first."""
        ...

    def step(self) -> None:
        """One step (an epoch)."""
        ...

    def save(self, folder: Path) -> None:
        """Write everything needed to go on elsewhere."""
        ...

    def resume(self, folder: Path) -> bool:
        """Go on from a saved state; False if there is none that can be read."""
        ...

    def write_artifacts(self, folder: Path) -> dict[str, str]:
        """Write what the candidate is worth keeping for, by kind: file names inside `folder`."""
        ...


class SteppedEvaluator(Evaluator, Protocol):
    """An evaluator that works in steps: the `tune` driver can checkpoint, stop and move its evaluations.

    Its sessions' metrics hold `epochs`, the steps made so far.
    """

    @property
    def max_epochs(self) -> int:
        """Steps of a whole evaluation."""
        ...

    def start(self, code: IntArray, key: str) -> Session:
        """A session for one candidate, shape (d,)."""
        ...

    def result(self, found: Mapping[str, float], stopped_early: bool = False) -> dict[str, float]:
        """Metrics of a finished evaluation, from those of its last step."""
        ...


class TrainEvaluator:
    """Trains networks by a recipe and gives their validation accuracy.

    Weights are kept as `weights/<key>.safetensors` in the run's folder. A training that was cut goes on from its last
    checkpoint. The seed of each training follows from the job's seed and the network alone.

    Args:
        recipe: how to train.
        context: space, data reader, seed and folder of the run.
    """

    Options = Recipe
    metrics: tuple[str, ...] = ("accuracy", "loss", "epochs", "train_seconds", "stopped_early")
    """`accuracy` on the validation split, `loss` of the last training epoch, `epochs` trained."""

    def __init__(self, recipe: Recipe, context: Context) -> None:
        self.recipe = recipe
        self._context = context
        self._dataset: Dataset | None = None
        self.checkpoint_epochs = context.checkpoint_epochs

    @property
    def max_epochs(self) -> int:
        """Epochs of a whole training."""
        return self.recipe.epochs

    @property
    def folder(self) -> Path:
        """The run's folder, which artifact paths are relative to."""
        return self._context.folder

    @property
    def dataset(self) -> Dataset:
        """The data, loaded when first needed."""
        if self._dataset is None:
            self._dataset = self._context.load_data()
        return self._dataset

    @property
    def fingerprint(self) -> str:
        """Data, recipe (its epochs are the fidelity), seed and network space."""
        recipe = {name: value for name, value in asdict(self.recipe).items() if name not in ("threads",)}
        facts = ["train-v1", self.dataset.fingerprint, recipe, self._context.seed, self._context.space_identity]
        return blake2b(json.dumps(facts, sort_keys=True, default=str).encode(), digest_size=16).hexdigest()

    def keys(self, codes: IntArray) -> list[str]:
        """Keys of the networks: candidates that differ in their accelerator alone share one."""
        return candidate_keys(self._context.network_codes(codes))

    def prepare(self) -> None:
        """Load the data."""
        _ = self.dataset

    def evaluate(self, codes: IntArray) -> Evaluation:
        """Train each candidate to the end, resuming from its checkpoint if it has one."""
        results = [self._train(code, key) for code, key in zip(codes, self.keys(codes), strict=True)]
        metrics = {name: np.array([found[name] for found, _ in results]) for name in self.metrics}
        return Evaluation(metrics, [""] * len(results), [files for _, files in results])

    def start(self, code: IntArray, key: str) -> Session:
        """A training that is carried out epoch by epoch."""
        torch_part: Any = import_module("codesign.train_session_torch")
        network_code = self._context.network_codes(code[None])[0]
        seed = int.from_bytes(blake2b(f"{self._context.seed}:{key}".encode(), digest_size=4).digest(), "little")
        space = self._context.network_space
        return cast(
            Session, torch_part.TrainSession(lambda: space.build(network_code), self.dataset, self.recipe, seed)
        )

    def _train(self, code: IntArray, key: str) -> tuple[dict[str, float], dict[str, str]]:
        session = self.start(code, key)
        checkpoint = self._context.folder / "checkpoints" / key
        session.resume(checkpoint)
        while not session.is_done:
            session.step()
            if not session.is_done and int(session.metrics["epochs"]) % self.checkpoint_epochs == 0:
                session.save(checkpoint)
        files = self.store_artifacts(session, key)
        shutil.rmtree(checkpoint, ignore_errors=True)
        return self.result(session.metrics), files

    def result(self, found: Mapping[str, float], stopped_early: bool = False) -> dict[str, float]:
        """The metrics of a finished training, from those of its last epoch."""
        return {name: found.get(name, np.nan) for name in self.metrics} | {"stopped_early": float(stopped_early)}

    def store_artifacts(self, session: Session, key: str) -> dict[str, str]:
        """Write the weights into the run's folder; their paths by kind, relative to it."""
        relative = Path("weights") / key
        written = session.write_artifacts(self._context.folder / relative)
        return {kind: str(relative / name) for kind, name in written.items()}

    def test(self, code: IntArray, weights: Path) -> Final:
        """Accuracy of a trained candidate on the test split, with its 95 % Wilson interval."""
        torch_part: Any = import_module("codesign.train_session_torch")
        network_code = self._context.network_codes(code[None])[0]
        space = self._context.network_space
        accuracy = torch_part.test_accuracy(lambda: space.build(network_code), weights, self.dataset, self.recipe)
        n = len(self.dataset.test.labels)
        return Final(accuracy, *wilson_interval(round(accuracy * n), n))

    def adopt(self, artifacts: Mapping[str, str], key: str) -> Mapping[str, str] | None:
        """Copy artifact files of another run, or another machine, into this run's folder, unless they lie there."""
        relative = Path("weights") / key
        adopted = {}
        for kind, path in artifacts.items():
            source, target = Path(path), self._context.folder / relative / Path(path).name
            if not source.is_file() and not target.is_file():  # a run that was moved still has its own files
                return None
            if source.is_file() and source.absolute() != target.absolute():
                target.parent.mkdir(parents=True, exist_ok=True)
                partial = target.with_name(f".{target.name}.partial")
                shutil.copyfile(source, partial)
                partial.replace(target)
            adopted[kind] = str(relative / target.name)
        return adopted
