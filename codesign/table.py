"""Evaluator `table`: metrics are read from a file of results instead of being measured.

A row stands for the candidate that its genotype canonically is; several rows of one candidate are readings of it, whose
mean counts. A metric listed as known (a hardware cost) is a screen: budgets on it are checked before a candidate is
evaluated, and strategies may ask for it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from hashlib import blake2b
from math import isfinite
from pathlib import Path

import numpy as np

from codesign.context import Context
from codesign.errors import InputError, TrialError
from codesign.study import candidate_keys
from codesign.table_file import TableFile
from codesign.table_rows import CodeIndex, Readings, codes_of_columns, codes_of_texts
from codesign.trial import Evaluation, Evaluator, FloatArray
from search_spaces.ops import IntArray

Columns = str | tuple[str, ...]
_WHOLE = 1
"""The number of steps of an evaluation whose table has no fidelities."""
_STEPPED = ("epochs", "stopped_early")


@dataclass(frozen=True, slots=True)
class TableOptions:
    """Where the table is and what its columns mean.

    Attributes:
        path: a Parquet or CSV file, relative to the job file.
        metrics: name of a metric -> its column, or several columns that are readings of it (training seeds).
        architecture: the column of genotypes, as JSON or in the space's own text; or give `codes`.
        codes: one column per choice of the space: the option, or its index.
        known: metrics that are known before an evaluation.
        scale: factors that columns are multiplied by, by metric: {accuracy: 0.01} makes a share of a percentage.
        fidelities: epochs -> metrics and columns after so many epochs; every entry has the same metrics, which are not
            in `metrics`, and the last is the whole evaluation.
        noise: draw one of a candidate's readings, by the job's seed, where there are several; else take their mean.

    Raises:
        InputError: the options contradict each other.
    """

    path: Path
    metrics: dict[str, Columns] = field(default_factory=dict)
    architecture: str | None = None
    codes: tuple[str, ...] = ()
    known: tuple[str, ...] = ()
    scale: dict[str, float] = field(default_factory=dict)
    fidelities: dict[int, dict[str, Columns]] = field(default_factory=dict)
    noise: bool = False

    def __post_init__(self) -> None:
        if (self.architecture is None) == (not self.codes):
            both = " (not both)" if self.codes else ""
            raise InputError(f"architecture: name the column of genotypes, or one column per choice under codes{both}")
        if not self.names:
            raise InputError("metrics: name at least one metric and its column, for example {accuracy: val_acc}")
        for _, _, key, columns in self.columns():
            if not columns:
                raise InputError.about(key, "[]", "a column, or a list of columns that are its readings")
        for key, names in (("known", self.known), ("scale", tuple(self.scale))):
            for name in names:
                if name not in self.names or (key == "known" and name not in self.metrics):
                    raise InputError.about(key, name, self.metrics if key == "known" else self.names)
        for name, factor in self.scale.items():
            if factor == 0 or not isfinite(factor):
                raise InputError.about(f"scale.{name}", factor, "a finite number other than 0")
        if not set(self.names) - set(self.known):
            raise InputError("metrics: all of them are known; one at least must be left to evaluate")
        for epochs, metrics in self.fidelities.items():
            if epochs < 1:
                raise InputError.about("fidelities", epochs, "a number of epochs of at least 1")
            if not metrics or set(metrics) != set(self.stepped):
                raise InputError(f"fidelities: {epochs} has {', '.join(metrics) or 'no metric'}; each needs the same")
        twice = set(self.stepped) & set(self.metrics)
        if twice:
            raise InputError(f"metrics: {min(twice)!r} stands under fidelities too; keep it there alone")

    @property
    def levels(self) -> tuple[int, ...]:
        """Epochs of each fidelity, rising."""
        return tuple(sorted(self.fidelities)) or (_WHOLE,)

    @property
    def stepped(self) -> tuple[str, ...]:
        """Metrics that depend on the fidelity."""
        return tuple(self.fidelities[max(self.fidelities)]) if self.fidelities else ()

    @property
    def names(self) -> tuple[str, ...]:
        """Every metric."""
        return (*self.metrics, *self.stepped)

    def columns(self) -> Iterator[tuple[int | None, str, str, tuple[str, ...]]]:
        """Epochs (None for all), metric, key and columns of every entry."""
        for name, columns in self.metrics.items():
            yield None, name, f"metrics.{name}", _as_tuple(columns)
        for epochs, metrics in self.fidelities.items():
            for name, columns in metrics.items():
                yield epochs, name, f"fidelities.{epochs}.{name}", _as_tuple(columns)


@dataclass(frozen=True, slots=True)
class _Loaded:
    """The table in memory: values per group of equal rows, by epochs (None for all) and metric."""

    index: CodeIndex
    values: Mapping[tuple[int | None, str], FloatArray]
    fingerprint: str


class TableEvaluator(Evaluator):
    """Looks candidates up; works in steps where the table has fidelities.

    Args:
        options: the table.
        context: space and seed of the run.

    Raises:
        InputError: from `check` or the first look-up, if anything is wrong with the file.
    """

    Options = TableOptions
    needs_data = False
    """Nothing is trained."""
    is_instant = True
    """Any number of candidates may be looked up without asking."""
    metrics: tuple[str, ...] = ()

    def __init__(self, options: TableOptions, context: Context) -> None:
        self.options = options
        self._context = context
        names = tuple(name for name in options.names if name not in options.known)
        self.metrics = (*names, *(name for name in _STEPPED if options.fidelities))
        self._looked_up = names
        self.in_flight = 4 if options.fidelities else 1
        """Rounds under way: results are there at once, but early stopping compares evaluations side by side."""

    @property
    def known(self) -> KnownMetrics:
        """The screen of what is known before an evaluation: which candidates have a row, and their known metrics."""
        return KnownMetrics(self)

    @property
    def max_epochs(self) -> int:
        """Epochs of the highest fidelity; 1 where there are none."""
        return self.options.levels[-1]

    @cached_property
    def _loaded(self) -> _Loaded:
        return _load(self.options, self._context)

    def check(self) -> None:
        """Read the table, so that whatever is wrong with it is found. Raises InputError."""
        _ = self._loaded

    def prepare(self) -> None:
        """Read the table."""
        self.check()

    @property
    def fingerprint(self) -> str:
        """The file's bytes, what its columns mean, the space, and the seed where readings are drawn."""
        meaning = {name: value for name, value in asdict(self.options).items() if name != "path"}
        seed = self._context.seed if self.options.noise else 0
        facts = ["table-v1", self._loaded.fingerprint, meaning, seed, self._context.space_identity]
        return blake2b(json.dumps(facts, sort_keys=True, default=str).encode(), digest_size=16).hexdigest()

    def keys(self, codes: IntArray) -> list[str]:
        """Keys of the networks: candidates that differ in their accelerator alone share one."""
        return candidate_keys(self._context.network_codes(codes))

    def adopt(self, artifacts: Mapping[str, str], key: str) -> Mapping[str, str]:
        """An earlier look-up has no files."""
        return {}

    def evaluate(self, codes: IntArray) -> Evaluation:
        """The metrics of the whole evaluation."""
        found, errors = self.look_up(codes, self._looked_up, self.max_epochs)
        if self.options.fidelities:
            for epochs in self.options.levels[:-1]:  # a candidate fails alike, however its driver goes about it
                lower = self.look_up(codes, self._looked_up, epochs)[1]
                errors = [error or other for error, other in zip(errors, lower, strict=True)]
            found |= {"epochs": np.full(len(codes), float(self.max_epochs)), "stopped_early": np.zeros(len(codes))}
        return Evaluation(found, errors)

    def look_up(self, codes: IntArray, names: tuple[str, ...], epochs: int) -> tuple[dict[str, FloatArray], list[str]]:
        """Values of some metrics after so many epochs, each of shape (n,), NaN where there is none, and n reasons."""
        loaded, networks = self._loaded, self._context.network_space
        group = loaded.index.find(networks.canonical(self._context.network_codes(codes)))
        found: dict[str, FloatArray] = {}
        errors = [""] * len(codes)
        for row in np.flatnonzero(group < 0).tolist():
            errors[row] = "the table has no row for this candidate"
        for name in names:
            level = epochs if name in self.options.stepped else None
            found[name] = np.where(group < 0, np.nan, loaded.values[level, name][group])
            for row in np.flatnonzero((group >= 0) & np.isnan(found[name])).tolist():
                after = f" after {level} epochs" if level is not None else ""
                errors[row] = errors[row] or f"the table has no number for {name}{after} of this candidate"
        return found, errors

    def start(self, code: IntArray, key: str) -> TableSession:
        """An evaluation in steps from one fidelity to the next. Raises TrialError if the table lacks a value."""
        steps: list[dict[str, float]] = []
        for epochs in self.options.levels:
            found, errors = self.look_up(code[None], self._looked_up, epochs)
            if errors[0]:
                raise TrialError(errors[0])
            steps.append({name: float(values[0]) for name, values in found.items()} | {"epochs": float(epochs)})
        return TableSession(tuple(steps))

    def result(self, found: Mapping[str, float], stopped_early: bool = False) -> dict[str, float]:
        """The metrics of a finished evaluation, from those of its last step."""
        known = {**found, "stopped_early": float(stopped_early)}
        return {name: known.get(name, np.nan) for name in self.metrics}


class KnownMetrics(Evaluator):
    """The known metrics of a table, as a screen; it fails for a candidate without a row, which costs no evaluation."""

    is_free = True
    """A look-up: strategies may ask for those of any number of candidates."""
    metrics: tuple[str, ...] = ()

    def __init__(self, table: TableEvaluator) -> None:
        self._table = table
        self.metrics = table.options.known

    def evaluate(self, codes: IntArray) -> Evaluation:
        """The known metrics of a batch."""
        return Evaluation(*self._table.look_up(codes, self.metrics, self._table.max_epochs))


class TableSession:
    """One evaluation of the `tune` driver: each step is the next fidelity."""

    def __init__(self, steps: tuple[dict[str, float], ...]) -> None:
        self._steps = steps
        self._n_done = 0

    @property
    def is_done(self) -> bool:
        """Whether the last fidelity was reached."""
        return self._n_done == len(self._steps)

    @property
    def metrics(self) -> dict[str, float]:
        """Metrics at the fidelity reached; empty before the first."""
        return dict(self._steps[self._n_done - 1]) if self._n_done else {}

    def step(self) -> None:
        """Go to the next fidelity."""
        self._n_done += 1

    def save(self, folder: Path) -> None:
        """Write how far it has come."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "steps.json").write_text(json.dumps(self._n_done), encoding="utf-8")

    def resume(self, folder: Path) -> bool:
        """Go on from there; False if nothing was written."""
        file = folder / "steps.json"
        if not file.is_file():
            return False
        self._n_done = int(json.loads(file.read_text(encoding="utf-8")))
        return True

    def write_artifacts(self, folder: Path) -> dict[str, str]:
        """A look-up makes no files."""
        return {}


def _load(options: TableOptions, context: Context) -> _Loaded:
    space = context.network_space
    named = [(key, column) for _, _, key, columns in options.columns() for column in columns]
    of_rows = [("codes", name) for name in options.codes]
    if options.architecture is not None:
        of_rows.append(("architecture", options.architecture))
    file = TableFile(options.path, [*of_rows, *named])
    if options.architecture is not None:
        texts = file.texts("architecture", options.architecture)
        codes, rows = codes_of_texts(space, texts, "architecture")
    else:
        codes, rows = codes_of_columns(space, file, options.codes)
    codes = space.canonical(codes)
    index = CodeIndex.of(codes, space.n_options)
    groups = index.find(codes)
    draws = _draws(codes, groups, index.n_groups, context.seed) if options.noise else None
    values: dict[tuple[int | None, str], FloatArray] = {}
    n_readings = 0
    for epochs, name, key, columns in options.columns():
        numbers = [file.numbers(key, column)[rows] * options.scale.get(name, 1.0) for column in columns]
        readings = Readings.of(numbers, groups, index.n_groups)
        _check_values(readings.values, name, key, columns)
        is_drawn = draws is not None and name not in options.known
        n_readings = max(n_readings, int(readings.count.max()) if is_drawn else 0)
        values[epochs, name] = readings.drawn(draws) if draws is not None and is_drawn else readings.means
    if options.noise and n_readings < 2:
        raise InputError("noise: no candidate has more than one reading; name several columns, or leave it out")
    return _Loaded(index, values, file.fingerprint)


def _check_values(values: FloatArray, name: str, key: str, columns: tuple[str, ...]) -> None:
    if len(values) == 0:
        raise InputError(f"{key}: {' and '.join(columns)} hold no number for any candidate of the space")
    if name == "accuracy" and not (values.min() >= 0 and values.max() <= 1):
        raise InputError(
            f"{key}: values from {values.min():g} to {values.max():g}; accuracy is a share from 0 to 1: for a column "
            "in percent add scale: {accuracy: 0.01}"
        )


def _draws(codes: IntArray, groups: IntArray, n_groups: int, seed: int) -> IntArray:
    """A number per group that follows from the seed and the candidate alone, shape (g,)."""
    first = np.zeros(n_groups, dtype=np.int64)
    first[groups[::-1]] = np.arange(len(groups))[::-1]
    texts = [f"{seed}:{key}".encode() for key in candidate_keys(codes[first])]
    return np.array([int.from_bytes(blake2b(t, digest_size=7).digest(), "little") for t in texts], dtype=np.int64)


def _as_tuple(columns: Columns) -> tuple[str, ...]:
    return (columns,) if isinstance(columns, str) else tuple(columns)
