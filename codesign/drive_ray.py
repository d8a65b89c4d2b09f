"""Starts Ray with an explicit address, and the `ray` driver: batches of evaluations as Ray tasks."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import ray

from codesign.errors import InputError
from codesign.guard import guarded
from codesign.job import Driver
from codesign.study import Batch, Study
from codesign.trial import Evaluation, Evaluator
from search_spaces.ops import IntArray


@contextmanager
def ray_cluster(address: str, driver: Driver) -> Iterator[None]:
    """A connection to Ray for the length of a block.

    Args:
        address: "local" starts a private Ray that ends with the block; anything else joins a running cluster. A bare
            `ray.init()` would join whatever runs on the host, so the address is always stated.
        driver: its workers decide the size of a private Ray.
    """
    if ray.is_initialized():  # a notebook or a test that brought its own
        yield
        return
    options: dict[str, Any] = {"address": address, "log_to_driver": False, "logging_level": logging.ERROR}
    if address == "local":
        cores = os.cpu_count() or 1
        options |= {
            "num_cpus": max(1, min(cores, round(driver.workers * driver.cpus_per_worker))),
            "include_dashboard": False,
        }
    try:
        ray.init(**options)
    except (ConnectionError, RuntimeError, ValueError) as error:
        reason = (str(error).strip().splitlines() or ["it did not answer"])[0]
        raise InputError(f"--address: Ray at {address!r} cannot be used: {reason}") from error
    try:
        yield
    finally:
        ray.shutdown()


def drive_ray(study: Study, evaluator: Evaluator, driver: Driver) -> None:
    """Extend the study until it is done, with up to `driver.workers` tasks out at once; a large batch is shared out.

    A task whose worker dies is retried by Ray; one that fails for good gives FAILED trials.
    """
    evaluator.prepare()
    shared = ray.put(evaluator)
    remote = ray.remote(num_cpus=driver.cpus_per_worker, num_gpus=driver.gpus_per_worker, max_retries=driver.retries)(
        _evaluate
    )
    share = max(1, -(-study.batch // driver.workers))
    out: dict[Any, Batch] = {}
    while True:
        while len(out) < driver.workers and (batch := study.ask(share)) is not None:
            out[remote.remote(shared, batch.codes)] = batch
        if not out:
            return
        ready, _ = ray.wait(list(out), num_returns=1)
        for reference in ready:
            batch = out.pop(reference)
            study.finish(batch.numbers, _result(reference, evaluator, len(batch.numbers)))


def _evaluate(evaluator: Evaluator, codes: IntArray) -> tuple[Evaluation, dict[str, bytes]]:
    """An evaluation with the files it made, by path relative to the run's folder: the worker may be another machine."""
    found = guarded(evaluator, codes)
    folder = getattr(evaluator, "folder", None)
    paths = {path for files in found.artifacts for path in files.values()} if folder else set()
    return found, {path: (Path(str(folder)) / path).read_bytes() for path in sorted(paths)}


def _result(reference: Any, evaluator: Evaluator, n: int) -> Evaluation:
    try:
        found, files = cast("tuple[Evaluation, dict[str, bytes]]", ray.get(reference))
        for path, content in files.items():
            target = Path(str(getattr(evaluator, "folder", "."))) / path
            if not target.is_file():
                target.parent.mkdir(parents=True, exist_ok=True)
                partial = target.with_name(f".{target.name}.partial")
                partial.write_bytes(content)
                partial.replace(target)
    except ray.exceptions.RayError as error:
        return Evaluation.failed(evaluator.metrics, n, f"the worker was lost: {str(error).splitlines()[0]}")
    return found
