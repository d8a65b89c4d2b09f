"""A lottery as a Ray Tune sweep: a Tune trial is one setting of one agent, a step of it one ticket.

Starting a Tune trial costs more than many a ticket takes, so trials hold several tickets and actors are reused.
"""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ray import tune
from ray.tune import Callback, FailureConfig, RunConfig, TuneConfig
from ray.tune.experiment import Trial as TuneTrial

from codesign.drive_ray import ray_cluster
from codesign.drive_tune_ray import QUIET
from codesign.job import Driver
from codesign.lottery import Finish, Outcome, Problem, attempt_ticket
from codesign.lottery_job import Ticket

_RETRIES = 2
"""Restarts of a Tune trial whose worker died."""


class _Worker(tune.Trainable):
    """An actor that carries out one book of tickets after another, a ticket at a step."""

    def setup(
        self, config: dict[str, Any], problem: Problem | None = None, books: Sequence[Sequence[Ticket]] = ()
    ) -> None:
        assert problem is not None
        self._problem, self._books = problem, books
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self._book = self._books[new_config["book"]]
        self._place = 0
        return True

    def step(self) -> dict[str, Any]:
        found = attempt_ticket(self._problem, self._book[self._place])
        self._place += 1
        told: dict[str, Any] = {"place": self._place - 1, tune.result.DONE: self._place == len(self._book)}
        if isinstance(found, str):
            return {**told, "failure": found}
        return {
            **told,
            "losses": found.losses,
            "violations": found.violations,
            "seconds": (found.strategy_seconds, found.evaluation_seconds),
        }

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Nothing: finished tickets are in the store."""

    def load_checkpoint(self, checkpoint: dict[str, Any] | str | None) -> None:
        """Nothing: a restarted book begins anew, and what comes again is the same."""


class _Tells(Callback):
    """Hands each ticket over as its result comes in."""

    def __init__(self, books: Sequence[Sequence[Ticket]], finish: Finish) -> None:
        self._books, self._finish = books, finish
        self._told: set[tuple[int, int]] = set()

    def __getstate__(self) -> dict[str, Any]:
        return {}

    def on_trial_result(
        self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, result: dict[str, Any], **info: Any
    ) -> None:
        book, place = int(trial.config["book"]), int(result["place"])
        if (book, place) in self._told:
            return  # a worker died behind it, and its book was begun again
        self._told.add((book, place))
        ticket = self._books[book][place]
        if result.get("failure"):
            self._finish(ticket, str(result["failure"]))
            return
        losses, violations = np.asarray(result["losses"]), np.asarray(result["violations"])
        self._finish(ticket, Outcome(losses, violations, *result["seconds"]))

    def on_trial_error(self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **info: Any) -> None:
        error = trial.get_error()
        reason = (str(error).strip().splitlines() or ["the worker died"])[-1]
        book = int(trial.config["book"])
        for place, ticket in enumerate(self._books[book]):
            if (book, place) not in self._told:
                self._finish(ticket, f"the worker was lost: {reason}")


def draw_tune(
    problem: Problem, books: Sequence[Sequence[Ticket]], finish: Finish, workers: int, folder: Path, address: str
) -> None:
    """Carry books of tickets out side by side.

    Args:
        problem: what they search.
        books: at least one, none of them empty.
        finish: called in this process with each ticket as it is done, in any order.
        workers: books under way at once.
        folder: where Tune may keep its files meanwhile.
        address: "local" starts a private Ray, anything else joins a running cluster.
    """
    shutil.rmtree(folder / "tune", ignore_errors=True)  # a killed lottery left it behind
    os.environ.update({name: value for name, value in QUIET.items() if name not in os.environ})
    for name in ("ray.tune", "ray.air", "ray.train"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    with ray_cluster(address, Driver(type="tune", workers=workers)):
        trainable = tune.with_parameters(_Worker, problem=problem, books=books)
        tuner = tune.Tuner(
            tune.with_resources(trainable, {"cpu": 1}),
            param_space={"book": tune.grid_search(list(range(len(books))))},
            tune_config=TuneConfig(
                max_concurrent_trials=workers,
                reuse_actors=True,
                trial_dirname_creator=lambda trial: f"book-{trial.config['book']:06d}",
            ),
            run_config=RunConfig(
                name="lottery",
                storage_path=str(folder.absolute() / "tune"),
                callbacks=[_Tells(books, finish)],
                failure_config=FailureConfig(max_failures=_RETRIES),
                verbose=0,
            ),
        )
        try:
            tuner.fit()
        finally:
            shutil.rmtree(folder / "tune", ignore_errors=True)
