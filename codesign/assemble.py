"""From a job to its parts: space, evaluators, objectives, strategy. Everything that can be wrong is found here.

Nothing here trains, starts Ray or writes; torch is not loaded.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, fields, replace
from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np

from codesign.context import Context, Reader
from codesign.cost import CostEvaluator
from codesign.cost import Target as CostTarget
from codesign.cost_only import CostOnly, Simulated
from codesign.data.dataset import Dataset, DataShape
from codesign.design_space import DesignEvaluator, DesignSpace
from codesign.errors import BudgetError, InputError
from codesign.expressions import parse_budget
from codesign.foresee import RunForesight
from codesign.job import Job, Target
from codesign.joint import JointSpace
from codesign.measure import MeasuredLatency
from codesign.objectives import Objective, Objectives
from codesign.plugins import check_options, make, options_class
from codesign.registry import lookup, names, resolve
from codesign.strategies.strategy import Strategy
from codesign.trial import Evaluator
from search_spaces.ops import IntArray
from search_spaces.space import NetworkSpace, SearchSpace
from simulators.accelerator import Preset, load_preset
from simulators.simulator import Simulator

DATA_PATHS = ("path", "train", "test")
"""Options of a job's `data` that are paths, relative to the job file."""
MEASURED = "onnxruntime"
"""The target type that times candidates on this machine instead of simulating them."""


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts of a job, checked and put together."""

    job: Job
    context: Context
    space: SearchSpace
    objectives: Objectives
    evaluator: Evaluator
    screens: tuple[Evaluator, ...]
    cost: CostEvaluator | DesignEvaluator
    note: str = ""

    @property
    def metrics(self) -> tuple[str, ...]:
        """Every metric that a trial of this job can have."""
        return tuple(dict.fromkeys(name for part in (*self.screens, self.evaluator) for name in part.metrics))

    def uncounted(self, codes: IntArray) -> list[str]:
        """What the figures of these candidates leave out, as phrases."""
        return self.cost.uncounted(codes)

    @property
    def is_costly(self) -> bool:
        """Whether evaluating a candidate takes more than arithmetic."""
        return not isinstance(self.evaluator, CostOnly)

    @property
    def batch(self) -> int:
        """Candidates asked for at a time."""
        return self.job.search.batch or (1 if self.is_costly else 250)

    @property
    def in_flight(self) -> int:
        """Rounds under way at once."""
        return self.job.search.in_flight or (4 if self.is_costly else 1)

    def strategy(self) -> Strategy:
        """The job's strategy, new."""
        section = self.job.search.strategy.options()
        plugin, options = check_options("strategies", section, "search.strategy")
        if "foresight" in signature(plugin.__init__).parameters:  # type: ignore[misc]
            options["foresight"] = self.foresight()
        made: Strategy = make(
            plugin, "search.strategy", self.space, len(self.objectives.objectives), self.job.search.seed, **options
        )
        return made

    def foresight(self) -> RunForesight:
        """What is known of candidates before they are evaluated."""
        free = [screen for screen in self.screens if getattr(screen, "is_free", False)]
        return RunForesight(self.space, self.objectives, free)


def assemble(job: Job, folder: Path, job_folder: Path, shape: DataShape | None = None) -> Parts:
    """Check a job and put its parts together.

    Args:
        job: the job.
        folder: where the run lives, or will live.
        job_folder: where the job file lies: relative paths in it, and a user's own modules, are found there.
        shape: of the data, if it is known; then the data itself need not be here.

    Raises:
        InputError: anything in the job is wrong.
    """
    if str(job_folder) not in sys.path:
        sys.path.append(str(job_folder))  # `module:Name` plug-ins live beside the job file
    _check_types(job)
    space_type, space_options = check_options("spaces", job.space.options(), "space")
    if space_type is DesignSpace:
        return _assemble_designs(job, folder, make(DesignSpace, "space", **space_options, job_folder=job_folder))
    reader: Reader = _reader(job, job_folder)
    shape = shape or reader.describe()
    image_shape = shape.image_shape
    network_space: NetworkSpace = make(
        space_type,
        "space",
        **_known(space_type, image_shape=image_shape, classes=shape.n_classes, job_folder=job_folder),
        **space_options,
    )
    simulated, searched = _simulator_targets(job, job_folder)
    space: SearchSpace = make(JointSpace, "targets", network_space, searched) if searched else network_space
    context = Context(
        space=space,
        networks=network_space,
        shape=shape,
        space_identity=json.dumps(
            [resolve("spaces", job.space.type), space_options, image_shape, shape.n_classes],
            sort_keys=True,
            default=str,
        ),
        reader=reader,
        seed=job.search.seed,
        folder=folder,
        checkpoint_epochs=job.driver.checkpoint_epochs,
    )
    cost = make(CostEvaluator, "targets", space, simulated)
    screens: tuple[Evaluator, ...] = (Simulated(cost),)
    measured = {name: target for name, target in job.targets.items() if target.type == MEASURED}
    if measured:
        screens = (*screens, MeasuredLatency(measured, context))
    plugin, options = check_options("evaluators", job.evaluate.options(), "evaluate")
    if plugin is CostOnly:
        evaluator: Evaluator = CostOnly(screens)
        screens = ()
    else:
        evaluator = make(plugin, "evaluate", make(options_class(plugin), "evaluate", **options), context)
    return _parts(job, context, evaluator, screens, cost)


def _assemble_designs(job: Job, folder: Path, space: DesignSpace) -> Parts:
    """The parts of a search of designs alone, without networks and data."""
    if lookup("evaluators", job.evaluate.type, "evaluate.type") is not CostOnly:
        raise InputError(f"evaluate.type: designs are not trained; use cost, not {job.evaluate.type!r}")
    if job.targets:
        raise InputError("targets: a space of designs is its own target; leave targets out, or search networks")
    context = Context(
        space=space,
        networks=None,
        shape=None,
        space_identity=json.dumps(job.space.options(), sort_keys=True, default=str),
        reader=None,
        seed=job.search.seed,
        folder=folder,
        checkpoint_epochs=job.driver.checkpoint_epochs,
    )
    designs = DesignEvaluator(space)
    return _parts(job, context, CostOnly((designs,)), (), designs)


def _parts(
    job: Job,
    context: Context,
    evaluator: Evaluator,
    screens: tuple[Evaluator, ...],
    cost: CostEvaluator | DesignEvaluator,
) -> Parts:
    _check_driver(job, evaluator)
    known = [name for part in (*screens, evaluator) for name in part.metrics]
    objectives = _objectives(job, known)
    parts = Parts(job, context, context.space, objectives, evaluator, screens, cost)
    parts.strategy()  # its options are checked before anything is written
    return parts


LISTED = 20_000
"""A space of at most so many codes is listed whole where its cost is arithmetic."""


def find_feasible(parts: Parts, seed: int, n: int = 1024, generations: int = 12) -> str:
    """Look for one candidate within the budgets on simulated metrics; sampling first, then descending the violation.

    A small space of designs is listed whole, so that the answer is certain.

    Returns:
        "", or what to tell of a space of designs in which none was found: their evaluation is all that the run does,
        and its strategy may find what this look did not.

    Raises:
        BudgetError: none was found, and candidates would be trained or the whole space was listed; the message says how
            near the search came for each budget.
    """
    screens = parts.evaluator.screens if isinstance(parts.evaluator, CostOnly) else parts.screens
    cheap = next((part for part in screens if isinstance(part, Simulated | DesignEvaluator)), None)
    budgets = [budget for budget in parts.objectives.budgets if cheap is not None and budget.metric in cheap.metrics]
    if cheap is None or not budgets:
        return ""
    rng = np.random.default_rng(seed)
    is_listed = isinstance(cheap, DesignEvaluator) and parts.space.size <= LISTED
    codes = _all_codes(parts.space) if is_listed else parts.space.sample(n, rng)
    closest: dict[str, float] = {}
    n_seen = 0
    for _ in range(generations):
        metrics = cheap.evaluate(codes).metrics
        n_seen += len(codes)
        violations = parts.objectives.violations({budget.metric: metrics[budget.metric] for budget in budgets})
        if (violations == 0).any():
            return ""
        violations = np.nan_to_num(violations, nan=np.inf)  # a design that cannot work
        for budget in budgets:
            known = metrics[budget.metric][np.isfinite(metrics[budget.metric])]
            best = known.min(initial=np.inf) if budget.upper else known.max(initial=-np.inf)
            held = closest.get(budget.text, best)
            closest[budget.text] = min(best, held) if budget.upper else max(best, held)
        if is_listed:
            break
        parents = codes[np.argsort(violations, kind="stable")[: n // 8]]
        first, second = (parents[rng.integers(0, len(parents), n // 2)] for _ in range(2))
        is_crossed = rng.random(n // 2) < 0.5
        first[is_crossed] = parts.space.crossover(first[is_crossed], second[is_crossed], rng)
        codes = parts.space.mutate(first, rng)
    nearest = "; ".join(f"{text}: the nearest of them has {value:.6g}" for text, value in closest.items())
    message = f"budgets: none of {n_seen:,} candidates meets them ({nearest})"
    if isinstance(cheap, DesignEvaluator) and not is_listed:
        return f"{message} before the search; it goes on all the same"
    raise BudgetError(f"{message}; relax a budget or widen the space")


def _all_codes(space: SearchSpace) -> IntArray:
    """Every code of a small space, shape (size, d)."""
    index = np.unravel_index(np.arange(space.size), tuple(space.n_options.tolist()))
    return np.stack(index, axis=1).astype(np.int64)


def _reader(job: Job, job_folder: Path) -> Reader:
    section = job.data.options()
    for key in DATA_PATHS:  # paths in a job are relative to the job file
        if isinstance(section.get(key), str):
            section[key] = str(job_folder / section[key])
    plugin, options = check_options("data", section, "data")
    made: Reader = make(plugin, "data", **options)
    return made


def read_data(job: Job, job_folder: Path) -> Dataset:
    """The data of a job, loaded. Raises DataError if anything is wrong with it."""
    return _reader(job, job_folder).load()


def _known(plugin: type, **context: object) -> dict[str, Any]:
    described = {item.name for item in fields(options_class(plugin))}
    return {name: value for name, value in context.items() if name in described}


def _check_types(job: Job) -> None:
    """Names first: a wrong type is found before data is touched."""
    lookup("data", job.data.type, "data.type")
    lookup("spaces", job.space.type, "space.type")
    lookup("strategies", job.search.strategy.type, "search.strategy.type")
    lookup("evaluators", job.evaluate.type, "evaluate.type")


def _simulator_targets(job: Job, job_folder: Path) -> tuple[dict[str, CostTarget], dict[str, Preset]]:
    simulated: dict[str, CostTarget] = {}
    searched: dict[str, Preset] = {}
    for name, target in job.targets.items():
        key = f"targets.{name}"
        if target.type == MEASURED:
            if target.preset or target.search or target.set or target.metrics:
                raise InputError(f"{key}: preset, search, set and metrics belong to simulators, not to {MEASURED}")
            continue
        simulator = _simulator(target, key)
        if target.preset is None:
            raise InputError(f"{key}.preset: name a preset (codesign list presets) or a .toml file")
        own = job_folder / target.preset
        preset: Preset = make(load_preset, f"{key}.preset", own if own.is_file() else target.preset, simulator)  # type: ignore[arg-type]
        options = (
            {field: tuple(values) for field, values in target.search.items()} if isinstance(target.search, dict) else {}
        )
        preset = replace(preset, values={**preset.values, **target.set}, search=options or preset.search)
        if options:
            preset = make(preset.checked, key, simulator)  # type: ignore[arg-type]
        simulated[name] = CostTarget(name, simulator, preset.values)
        if target.search:
            searched[name] = preset
    return simulated, searched


def _simulator(target: Target, key: str) -> Simulator:
    plugin = _simulator_class(target, f"{key}.type")
    if not target.metrics:
        made: Simulator = make(plugin, key)
        return made
    if "metrics" not in signature(plugin).parameters:
        raise InputError(f"{key}.metrics: {target.type} always computes all of its metrics; leave the key out")
    chosen: Simulator = make(plugin, key, metrics=tuple(target.metrics))
    return chosen


def _simulator_class(target: Target, key: str) -> type:
    bare = sorted({full.rsplit("-v", 1)[0] for full in names("simulators")})
    if ":" not in target.type and target.type not in bare and target.type not in names("simulators"):
        raise InputError.about(key, target.type, [*bare, MEASURED])
    return lookup("simulators", target.type, key)


def _check_driver(job: Job, evaluator: Evaluator) -> None:
    if job.driver.type == "tune" and not hasattr(evaluator, "start"):
        raise InputError(
            "driver.type: 'tune' needs an evaluator that works in steps, such as train; "
            f"with {job.evaluate.type!r} use ray or serial"
        )
    if job.driver.asha is not None and job.driver.type != "tune":
        raise InputError(f"driver.asha: early stopping needs driver.type tune, not {job.driver.type!r}")


def _objectives(job: Job, known: list[str]) -> Objectives:
    listed = [(name, True) for name in job.objectives.maximize] + [(name, False) for name in job.objectives.minimize]
    if not listed:
        raise InputError("objectives: name at least one metric under maximize or minimize")
    for name, maximize in listed:
        if name not in known:
            raise InputError.about(f"objectives.{'maximize' if maximize else 'minimize'}", name, known)
    twice = {name for name, _ in listed if sum(name == other for other, _ in listed) > 1}
    if twice:
        raise InputError(f"objectives: {min(twice)!r} is named twice")
    budgets = [parse_budget(text) for text in job.budgets]
    for budget in budgets:
        if budget.metric not in known:
            raise InputError(f"{InputError.about('budgets', budget.metric, known)} (in {budget.text!r})")
        highest = 1.0 if budget.metric == "accuracy" else float("inf")
        if (budget.upper and budget.limit < 0) or (not budget.upper and budget.limit > highest):
            raise BudgetError(f"budgets: nothing meets {budget.text!r}: {budget.metric} lies in 0..{highest:g}")
    return Objectives(tuple(Objective(name, maximize) for name, maximize in listed), tuple(budgets))
