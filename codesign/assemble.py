"""From a job to its parts: space, evaluators, objectives, strategy. Everything that can be wrong is found here.

Nothing here trains, starts Ray or writes; torch is not loaded.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import MISSING, dataclass, fields, replace
from inspect import signature
from pathlib import Path
from typing import Any

from codesign.context import Context, Reader
from codesign.cost import CostEvaluator
from codesign.cost import Target as CostTarget
from codesign.cost_only import CostOnly, Simulated
from codesign.data.dataset import Dataset, DataShape
from codesign.design_space import DesignEvaluator, DesignSpace
from codesign.device_target import DEVICE, PredictedLatency, device_targets
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
from codesign.warm_start import learn_all, priors_of
from codesign.warm_start_files import load_learned
from codesign.warm_start_model import COUNTS, Learned
from codesign.warm_start_sources import Wanted
from codesign.zero_cost_prior import Scoring, load_scored, scoring
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
    learned: tuple[Learned, ...] = ()
    scorings: tuple[Scoring, ...] = ()

    @property
    def metrics(self) -> tuple[str, ...]:
        """Every metric that a trial of this job can have."""
        return tuple(dict.fromkeys(name for part in (*self.screens, self.evaluator) for name in part.metrics))

    def uncounted(self, codes: IntArray) -> list[str]:
        """What the figures of these candidates leave out, as phrases."""
        free = [part for part in (*self.screens, self.evaluator) if isinstance(part, Simulated | CostOnly)]
        return self.cost.uncounted(codes) + [phrase for part in free for phrase in part.uncounted(codes)]

    @property
    def is_costly(self) -> bool:
        """Whether evaluating a candidate takes more than arithmetic."""
        return not isinstance(self.evaluator, CostOnly)

    @property
    def trains(self) -> bool:
        """Whether evaluating a candidate reads the data, so that it may leave weights."""
        return self.is_costly and bool(getattr(self.evaluator, "needs_data", True))

    @property
    def batch(self) -> int:
        """Candidates asked for at a time."""
        return self.job.search.batch or (1 if self.is_costly else 250)

    @property
    def in_flight(self) -> int:
        """Rounds under way at once."""
        return self.job.search.in_flight or int(getattr(self.evaluator, "in_flight", 4 if self.is_costly else 1))

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

    def free_metrics(self) -> frozenset[str]:
        """Metrics that cost nothing to compute."""
        free = [screen for screen in self.screens if getattr(screen, "is_free", False)]
        return frozenset(name for screen in free for name in screen.metrics)

    def counter(self) -> Evaluator | None:
        """Gives `COUNTS` of networks; None where they are not known before an evaluation."""
        is_counted = self.context.networks is not None and self.free_metrics().issuperset(COUNTS)
        return Simulated(CostEvaluator(self.context.network_space)) if is_counted else None

    def foresight(self) -> RunForesight:
        """What is known of candidates before they are evaluated."""
        free = [screen for screen in self.screens if getattr(screen, "is_free", False)]
        return RunForesight(self.space, self.objectives, free, priors_of(self.learned))


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
    plugin, options = check_options("evaluators", job.evaluate.options(), "evaluate")
    section = job.space.options()
    given = {} if getattr(plugin, "needs_data", True) else _pop_shape(section)
    space_type, space_options = check_options("spaces", section, "space")
    if space_type is DesignSpace:
        designs = make(DesignSpace, "space", **space_options, job_folder=job_folder)
        return _assemble_designs(job, folder, designs, job_folder)
    is_new = shape is None
    default = None if getattr(plugin, "needs_data", True) else _shape_of_space(space_type, given)
    reader: Reader | None = _reader(job, job_folder) if default is None else None
    shape = shape or default or _reader(job, job_folder).describe()
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
    measured = {name: target for name, target in job.targets.items() if target.type == MEASURED}
    measuring = (MeasuredLatency(measured, context),) if measured else ()
    devices = device_targets(
        {name: target for name, target in job.targets.items() if target.type == DEVICE}, job_folder
    )
    predicting = (PredictedLatency(devices, context),) if devices else ()
    if plugin is CostOnly:
        return _parts(job, context, CostOnly((Simulated(cost, predicting), *measuring)), (), cost, job_folder)
    options = {name: job_folder / value if isinstance(value, Path) else value for name, value in options.items()}
    evaluator: Evaluator = make(plugin, "evaluate", make(options_class(plugin), "evaluate", **options), context)
    if is_new and hasattr(evaluator, "check"):  # not for a run that is looked at: the file may be elsewhere now
        make(evaluator.check, "evaluate")
    known: Evaluator | None = getattr(evaluator, "known", None)
    screens = (Simulated(cost, (*predicting, *((known,) if known else ()))), *measuring)
    _check_names(screens, evaluator)
    return _parts(job, context, evaluator, screens, cost, job_folder)


def reads_data(job: Job) -> bool:
    """Whether a job looks at its data: not where nothing is trained and the space states what its networks are for."""
    if getattr(lookup("evaluators", job.evaluate.type, "evaluate.type"), "needs_data", True):
        return True
    space_type = lookup("spaces", job.space.type, "space.type")
    return _shape_of_space(space_type, _pop_shape(job.space.options())) is None


def _check_names(screens: Sequence[Evaluator], evaluator: Evaluator) -> None:
    """No metric may come from two parts."""
    seen: set[str] = set()
    for name in (name for part in (*screens, evaluator) for name in part.metrics):
        if name in seen:
            raise InputError(f"evaluate.metrics: {name!r} is computed for every candidate already; use another name")
        seen.add(name)


def _pop_shape(section: dict[str, Any]) -> dict[str, Any]:
    """Take image_shape and classes out of a space's section: without data the job may state them."""
    return {name: section.pop(name) for name in ("image_shape", "classes") if name in section}


def _shape_of_space(space_type: type, given: dict[str, Any]) -> DataShape | None:
    """What a space that sees no data is built for: what the job states, else its own defaults; None if it has none."""
    described = {item.name: item.default for item in fields(options_class(space_type))}
    for name in given:
        if name not in described:
            raise InputError(f"space.{name}: a {space_type.__name__} has no such option")
    image_shape, classes = (given.get(name, described.get(name, MISSING)) for name in ("image_shape", "classes"))
    if image_shape is MISSING or classes is MISSING:
        return None
    is_shape = isinstance(image_shape, list | tuple) and len(image_shape) == 3
    if not is_shape or not all(type(value) is int and value >= 1 for value in (*image_shape, classes)):
        raise InputError(
            f"space: image_shape {image_shape!r} and classes {classes!r} are not allowed; "
            "use [channels, height, width] and a whole number, all of at least 1"
        )
    channels, height, width = image_shape
    return DataShape(channels, height, width, classes)


def _assemble_designs(job: Job, folder: Path, space: DesignSpace, job_folder: Path) -> Parts:
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
    return _parts(job, context, CostOnly((designs,)), (), designs, job_folder)


def _parts(
    job: Job,
    context: Context,
    evaluator: Evaluator,
    screens: tuple[Evaluator, ...],
    cost: CostEvaluator | DesignEvaluator,
    job_folder: Path,
) -> Parts:
    _check_driver(job, evaluator)
    known = [name for part in (*screens, evaluator) for name in part.metrics]
    objectives = _objectives(job, known)
    parts = Parts(job, context, context.space, objectives, evaluator, screens, cost)
    if job.warm_start:
        parts = replace(parts, learned=_warm_start(parts, job_folder), scorings=_scorings(parts))
    parts.strategy()  # its options are checked before anything is written
    return parts


def _warm_start(parts: Parts, job_folder: Path) -> tuple[Learned, ...]:
    """What earlier searches tell: learned now for a new run, else as it was when the run was made."""
    job, context = parts.job, parts.context
    if (context.folder / "job.yaml").is_file():
        is_kept = any(entry.zero_cost is None for entry in job.warm_start)
        return (*(load_learned(context.folder) if is_kept else ()), *load_scored(context.folder))
    strategy = lookup("strategies", job.search.strategy.type, "search.strategy.type")
    if "foresight" not in signature(strategy.__init__).parameters:  # type: ignore[misc]
        name = job.search.strategy.type
        raise InputError(f"warm_start: strategy {name!r} learns nothing from earlier runs; use auto, or leave it out")
    free = parts.free_metrics()
    listed = [objective.metric for objective in parts.objectives.objectives]
    unknown = tuple(name for name in listed if name not in free)
    if not unknown:
        known = ", ".join(listed)
        raise InputError(f"warm_start: every objective ({known}) is known before an evaluation; leave it out")
    space = context.networks or context.space
    wanted = Wanted(space, lambda earlier, place: _space_of(earlier, place, context), unknown, job_folder)
    return learn_all(job.warm_start, wanted, parts.objectives, parts.counter())


def _scorings(parts: Parts) -> tuple[Scoring, ...]:
    """The zero-cost scores that the search is to know of; they are computed when it first begins."""
    entries = {place: one for place, one in enumerate(parts.job.warm_start) if one.zero_cost is not None}
    if not entries:
        return ()
    context = parts.context
    if context.networks is None or context.shape is None or not getattr(parts.evaluator, "needs_data", True):
        raise InputError(f"warm_start.{min(entries)}.zero_cost: networks are scored on data, and this job reads none")
    free = parts.free_metrics()
    unknown = [one.metric for one in parts.objectives.objectives if one.maximize and one.metric not in free]
    return tuple(
        scoring(f"warm_start.{place}", str(one.zero_cost), one.objective, one.candidates, unknown)
        for place, one in entries.items()
    )


def _space_of(job: Job, job_folder: Path, context: Context) -> SearchSpace:
    """The space of an earlier job, accelerators left out, as it would be for the data of this one."""
    section = job.space.options()
    _pop_shape(section)
    space_type, options = check_options("spaces", section, "space")
    shape = context.shape
    known = {} if shape is None else {"image_shape": shape.image_shape, "classes": shape.n_classes}
    made: SearchSpace = make(space_type, "space", **_known(space_type, **known, job_folder=job_folder), **options)
    return made


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
        if target.type == DEVICE:
            continue
        if target.calibration is not None:
            if target.type != MEASURED:
                _simulator_class(target, f"{key}.type")
            raise InputError(f"{key}.calibration: it belongs to a target of type {DEVICE}, not to {target.type}")
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
        raise InputError.about(key, target.type, [*bare, MEASURED, DEVICE])
    return lookup("simulators", target.type, key)


def _check_driver(job: Job, evaluator: Evaluator) -> None:
    if job.driver.type == "tune" and not hasattr(evaluator, "start"):
        raise InputError(
            "driver.type: 'tune' needs an evaluator that works in steps, such as train; "
            f"with {job.evaluate.type!r} use ray or serial"
        )
    if job.driver.asha is not None and job.driver.type != "tune":
        raise InputError(f"driver.asha: early stopping needs driver.type tune, not {job.driver.type!r}")
    is_whole = getattr(evaluator, "is_instant", False) and getattr(evaluator, "max_epochs", 1) == 1
    if job.driver.asha is not None and is_whole:
        raise InputError("driver.asha: early stopping needs evaluate.fidelities; list them, or leave asha out")


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
