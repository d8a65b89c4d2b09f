"""Runs strategies against each other: every strategy on every task with every seed, on as many processes as wanted.

    outcomes = race(tasks, {"mine": MyStrategy, "random": named_strategy("random")}, evaluations=200, seeds=range(20))

What a run finds depends on its task, strategy and seed alone, never on the number of processes. Each process has one
thread, so that CPU time is comparable.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass, field
from inspect import signature
from multiprocessing import get_context
from time import monotonic
from typing import Any

from codesign.compare import MakeStrategy, Outcome, Task, run_task
from codesign.errors import InputError
from codesign.plugins import check_options, make
from codesign.registry import names
from codesign.strategies.strategy import Strategy
from search_spaces.space import SearchSpace

OPTUNA = "optuna-"
"""`optuna-tpe` is strategy `optuna` with `sampler: tpe`."""
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")

Progress = Callable[[int, int, float], None]
"""Called with runs done, runs in all and the seconds that are probably left."""


@dataclass(frozen=True)
class NamedStrategy:
    """A registered strategy with its options; it pickles.

    Attributes:
        plugin: its class.
        options: checked.
    """

    plugin: type
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def takes_foresight(self) -> bool:
        """Whether the class takes the keyword."""
        return "foresight" in signature(self.plugin.__init__).parameters  # type: ignore[misc]

    def __call__(self, space: SearchSpace, n_objectives: int, seed: int, **options: Any) -> Strategy:
        """A new strategy."""
        made: Strategy = make(self.plugin, "strategy", space, n_objectives, seed, **self.options, **options)
        return made


def named_strategy(text: str) -> NamedStrategy:
    """A strategy from a text such as `nsga2`, `evolution:population_size=16:sample_size=4`, `optuna-tpe`, `mine:Mine`.

    Options follow the name, each behind a colon. Those of `optuna-tpe` and its like are the sampler's.

    Raises:
        InputError: the strategy or an option is unknown, or a value is refused.
    """
    import yaml

    name, *parts = text.split(":")
    if parts and "=" not in parts[0]:
        name = f"{name}:{parts.pop(0)}"  # module:Name
    given: dict[str, object] = {}
    for part in parts:
        option, equals, value = part.partition("=")
        if not equals:
            raise InputError(f"strategy {text!r}: {part!r} is not an option; write option=value")
        try:
            given[option] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise InputError(f"strategy {text!r}: {value!r} is no value") from error
    if name.startswith(OPTUNA) and name not in names("strategies"):
        given = {"sampler": name.removeprefix(OPTUNA).replace("-", "_"), "sampler_options": given}
        name = "optuna"
    plugin, options = check_options("strategies", {"type": name, **given}, f"strategy {text!r}")
    return NamedStrategy(plugin, options)


@dataclass(frozen=True, slots=True)
class _Run:
    task: int
    strategy: str
    seed: int
    workers: int


def race(
    tasks: Sequence[Task],
    strategies: Mapping[str, MakeStrategy],
    *,
    evaluations: int,
    seeds: Iterable[int],
    workers: Sequence[int] = (1,),
    jobs: int = 0,
    progress: Progress | None = None,
) -> list[Outcome]:
    """Run every strategy on every task with every seed.

    Args:
        tasks: the problems; those of one name are one problem drawn several times.
        strategies: how each is built, by the name that it shall have; for `jobs` above 0 these and the tasks pickle.
        evaluations: distinct candidates of a run.
        seeds: of the runs.
        workers: numbers of simulated workers to run with, see `run_task`.
        jobs: processes, each with a single thread; 0 runs here.
        progress: called after each run.

    Returns:
        The outcomes, by workers, task, strategy and seed in the order given.
    """
    runs = [
        _Run(task, strategy, seed, count)
        for seed in seeds
        for strategy in strategies
        for task in range(len(tasks))
        for count in workers
    ]
    found: dict[_Run, Outcome] = {}
    watch = _Watch(runs, jobs, progress)
    for run, outcome, seconds in _outcomes(runs, tasks, strategies, evaluations, jobs):
        found[run] = outcome
        watch.note(run, seconds)
    order = {strategy: place for place, strategy in enumerate(strategies)}
    ordered = sorted(found, key=lambda run: (workers.index(run.workers), run.task, order[run.strategy], run.seed))
    return [found[run] for run in ordered]


def _outcomes(
    runs: Sequence[_Run],
    tasks: Sequence[Task],
    strategies: Mapping[str, MakeStrategy],
    evaluations: int,
    jobs: int,
) -> Iterator[tuple[_Run, Outcome, float]]:
    """Each run with its outcome and how many seconds it took, as they finish."""
    if jobs < 1:
        for run in runs:
            yield run, *_timed(tasks[run.task], strategies[run.strategy], run, evaluations)
        return
    with (
        _single_threaded(),
        ProcessPoolExecutor(jobs, get_context("spawn"), _set_up, (tuple(tasks), dict(strategies), evaluations)) as pool,
    ):
        futures = {pool.submit(_work, run): run for run in runs}
        try:
            for future in as_completed(futures):
                yield futures[future], *future.result()
        finally:
            pool.shutdown(cancel_futures=True)


_shared: dict[str, Any] = {}  # of a worker process: what all of its runs share


def _set_up(tasks: tuple[Task, ...], strategies: dict[str, MakeStrategy], evaluations: int) -> None:
    _shared.update(tasks=tasks, strategies=strategies, evaluations=evaluations)


def _work(run: _Run) -> tuple[Outcome, float]:
    return _timed(_shared["tasks"][run.task], _shared["strategies"][run.strategy], run, _shared["evaluations"])


def _timed(task: Task, strategy: MakeStrategy, run: _Run, evaluations: int) -> tuple[Outcome, float]:
    began = monotonic()
    outcome = run_task(task, strategy, evaluations=evaluations, seed=run.seed, name=run.strategy, workers=run.workers)
    return outcome, monotonic() - began


@contextmanager
def _single_threaded() -> Iterator[None]:
    """Processes started here load their numerical libraries with one thread."""
    before = {name: os.environ.get(name) for name in THREADS}
    os.environ.update(dict.fromkeys(THREADS, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


class _Watch:
    """Counts runs and says how long the rest will take: each as long as its strategy's runs took so far."""

    def __init__(self, runs: Sequence[_Run], jobs: int, progress: Progress | None) -> None:
        self._left = Counter(run.strategy for run in runs)
        self._took: dict[str, list[float]] = {}
        self._n_runs, self._n_done, self._jobs = len(runs), 0, max(1, jobs)
        self._progress = progress

    def note(self, run: _Run, seconds: float) -> None:
        """A run is done."""
        self._n_done += 1
        self._left[run.strategy] -= 1
        self._took.setdefault(run.strategy, []).append(seconds)
        if self._progress is not None:
            means = {strategy: sum(took) / len(took) for strategy, took in self._took.items()}
            usual = sum(means.values()) / len(means)
            left = sum(count * means.get(strategy, usual) for strategy, count in self._left.items())
            self._progress(self._n_done, self._n_runs, left / self._jobs)
