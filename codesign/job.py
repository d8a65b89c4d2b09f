"""The job file: one YAML that says what is searched, on which data, for which devices, under which budgets.

Reading is strict: a repeated key, an unknown key or a wrong type is refused with one message. The resolved job is
stored with the run, and `json_schema` serves editors.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from codesign.errors import InputError
from codesign.plugins import explain


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Section(BaseModel):
    """A plug-in and its options; the options are checked by the plug-in's own description."""

    model_config = ConfigDict(extra="allow", frozen=True)
    type: str = Field(description="name of the plug-in, or module:Name")

    def options(self) -> dict[str, Any]:
        """`type` and everything else, as a plain dictionary."""
        return self.model_dump()


class Target(_Part):
    """A device whose cost is reported as `metric@name`."""

    type: str = Field(
        description="a simulator (systolic, roofline); onnxruntime, which measures on this machine; or device, which "
        "predicts from a calibration"
    )
    calibration: str | None = Field(None, description="file that `codesign device calibrate` wrote; device only")
    preset: str | None = Field(None, description="preset name or .toml file; simulators only")
    search: bool | dict[str, list[int | float | str]] = Field(
        False,
        description="search the accelerator with the network: true for the preset's options, or field -> options",
    )
    set: dict[str, int | float | str] = Field(default_factory=dict, description="fields that replace the preset's")
    metrics: list[str] = Field(
        default_factory=list, description="the only metrics to compute, for a simulator that offers the choice"
    )
    threads: int = Field(1, ge=1, le=1024, description="onnxruntime threads")
    batch: int = Field(1, ge=1, description="images per inference")
    readings: int = Field(15, ge=6, description="interleaved readings per candidate")


class ObjectiveNames(_Part):
    """Metrics to improve."""

    maximize: list[str] = Field(default_factory=list)
    minimize: list[str] = Field(default_factory=list)

    @field_validator("maximize", "minimize", mode="before")
    @classmethod
    def _one_or_many(cls, value: object) -> object:
        return [value] if isinstance(value, str) else value


class Search(_Part):
    """How candidates are proposed, and how many."""

    strategy: Section = Field(Section(type="auto"), description="name, or {type: name, option: value}")
    trials: int = Field(100, ge=1, description="candidates to evaluate in full")
    seed: int = Field(0, ge=0, lt=2**32)
    unproven_budgets: Literal["refuse", "try"] = Field(
        "refuse", description="what to do before training if no candidate within the budgets was found, nor excluded"
    )
    batch: int | None = Field(
        None, ge=1, description="candidates asked for at a time: 1 for training, 250 for cost alone"
    )
    in_flight: int | None = Field(
        None, ge=1, description="batches under way at once: 4 for training, 1 for cost alone; the ledger depends on it"
    )
    shadow: float = Field(
        0.0,
        ge=0,
        le=0.9,
        description="share of the trials drawn at random, to compare the strategy with; 0.1 is enough",
    )

    @field_validator("strategy", mode="before")
    @classmethod
    def _name_or_section(cls, value: object) -> object:
        return {"type": value} if isinstance(value, str) else value


class Asha(_Part):
    """Early stopping by asynchronous successive halving on all objectives (Schmucker et al. 2021)."""

    grace_epochs: int = Field(1, ge=1, description="epochs before the first comparison")
    reduction: float = Field(3, gt=1, description="one of so many goes on at each rung")


class Driver(_Part):
    """What carries the evaluations out."""

    type: Literal["serial", "ray", "tune"] = "serial"
    workers: int = Field(2, ge=1, description="evaluations side by side (ray, tune)")
    cpus_per_worker: float = Field(1, gt=0)
    gpus_per_worker: float = Field(0, ge=0, description="may be a fraction")
    retries: int = Field(2, ge=0, description="restarts of a trial whose worker died (tune)")
    checkpoint_epochs: int = Field(4, ge=1, description="epochs between checkpoints")
    storage: str | None = Field(None, description="where Tune keeps checkpoints: a folder all nodes share, or s3://...")
    asha: Asha | None = Field(None, description="early stopping (tune)")


class Earlier(_Part):
    """Results over the same networks, or designs, that this search may learn from before it begins; or scores."""

    run: str | None = Field(None, description="folder of a run, or URL of a store: every search in it that fits")
    table: str | None = Field(None, description="Parquet or CSV file of results instead of a run")
    zero_cost: str | None = Field(None, description="or a score of untrained networks: synflow, nwot, ...")
    candidates: int | None = Field(
        None, ge=10, le=100_000, description="untrained networks to score, 75 if left out; zero_cost only"
    )
    architecture: str | None = Field(None, description="the table's column of genotypes")
    codes: list[str] = Field(default_factory=list, description="or one column of the table per choice of the space")
    metric: str | None = Field(None, description="its name there; default: those that this job's objectives have")
    objective: str | None = Field(None, description="the objective of this job that it tells about; default: by name")

    @model_validator(mode="after")
    def _one_place(self) -> Earlier:
        if sum(place is not None for place in (self.run, self.table, self.zero_cost)) != 1:
            raise ValueError("name a run, a table or a zero_cost score, one of them")
        if self.zero_cost is None and self.candidates is not None:
            raise ValueError("candidates are scored; they belong to zero_cost")
        if self.zero_cost is not None and self.metric is not None:
            raise ValueError("a zero_cost score is its own metric; leave metric out")
        if self.table is None and (self.architecture is not None or self.codes):
            raise ValueError("architecture and codes are columns of a table; a run knows its candidates")
        if self.table is not None and (self.architecture is None) == (not self.codes):
            raise ValueError("of a table, name its column of genotypes (architecture) or one per choice (codes)")
        if self.table is not None and self.metric is None:
            raise ValueError("of a table, name the column to learn from under metric")
        return self


class Job(_Part):
    """Everything a run needs."""

    name: str = Field(min_length=1, max_length=100, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    data: Section = Section(type="digits")
    space: Section
    targets: dict[str, Target] = Field(default_factory=dict)
    objectives: ObjectiveNames
    budgets: list[str] = Field(default_factory=list)
    search: Search = Search()
    evaluate: Section = Section(type="train")
    warm_start: list[Earlier] = Field(
        default_factory=list, description="earlier runs to learn from: folders, or {run: ..., metric: ...}"
    )
    driver: Driver = Driver()
    store: str | None = Field(
        None, description="database URL shared by several runs; default: one file in the run's folder"
    )

    @field_validator("data", "space", "evaluate", mode="before")
    @classmethod
    def _name_or_section(cls, value: object) -> object:
        return {"type": value} if isinstance(value, str) else value

    @field_validator("warm_start", mode="before")
    @classmethod
    def _places(cls, value: object) -> object:
        listed = value if isinstance(value, list) else [value]
        return [{"run": one} if isinstance(one, str) else one for one in listed]

    @field_validator("targets")
    @classmethod
    def _plain_names(cls, value: dict[str, Target]) -> dict[str, Target]:
        for name in value:
            if not name.replace("_", "").replace("-", "").isalnum():
                raise ValueError(f"target name {name!r} may hold letters, digits, '-' and '_' alone")
        return value


class _StrictLoader(yaml.SafeLoader):
    """PyYAML's safe loader, but a repeated key is an error instead of silently replacing the first."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[object] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                line = key_node.start_mark.line + 1
                raise InputError(f"line {line}: the key {key!r} stands twice in the same block; keep one")
            seen.add(key)
        return super().construct_mapping(node, deep)


def read_yaml(text: str, source: str) -> Any:
    """Parse YAML safely; a syntax error or a repeated key is an `InputError` that names the source."""
    try:
        return yaml.load(text, Loader=_StrictLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" line {mark.line + 1}" if mark else ""
        raise InputError(f"{source}:{where} is not valid YAML: {getattr(error, 'problem', error)}") from error
    except InputError as error:
        raise InputError(f"{source}: {error}") from None


def load_job(path: Path, overrides: Iterable[str] = ()) -> Job:
    """Read a job file.

    Args:
        path: the YAML file.
        overrides: `dotted.key=value`, the value read as YAML (`search.trials=200`).

    Raises:
        InputError: the file is missing or anything in it is not as it should be.
    """
    return parse_job(read_file(path, overrides, "job", "name, space, objectives, ..."))


def read_file(path: Path, overrides: Iterable[str], what: str, keys: str) -> dict[str, Any]:
    """A YAML file of keys as plain data, overrides applied.

    Args:
        path: the file.
        overrides: see `load_job`.
        what: the file describes, for messages (`job`).
        keys: some of its keys, for messages.

    Raises:
        InputError: the file cannot be read, is not valid YAML or not a mapping, or an override is not written as one.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise InputError(f"{what} file {str(path)!r} cannot be read: {reason}") from error
    content = read_yaml(text, str(path))
    if not isinstance(content, dict):
        raise InputError(f"{path}: a {what} is a mapping of keys ({keys}), not {type(content).__name__}")
    for override in overrides:
        apply_override(content, override)
    return content


def parse_job(content: Mapping[str, object]) -> Job:
    """A job from plain data. Raises InputError with one message."""
    try:
        return Job.model_validate(content)
    except ValidationError as error:
        raise explain(error, "", _ALLOWED) from None


def dump_job(job: Job) -> str:
    """The resolved job as YAML, defaults included."""
    return yaml.safe_dump(job.model_dump(), sort_keys=False, allow_unicode=True)


def json_schema() -> dict[str, Any]:
    """JSON Schema of a job file, for editors."""
    return Job.model_json_schema()


def apply_override(content: dict[str, Any], override: str) -> None:
    """Put `dotted.key=value`, the value read as YAML, into plain data. Raises InputError if it is not written so."""
    dotted, equals, value = override.partition("=")
    if not equals or not dotted:
        raise InputError(f"override {override!r}: write it as key.key=value, for example search.trials=200")
    *parents, last = dotted.split(".")
    level = content
    for parent in parents:
        below = level.setdefault(parent, {})
        if isinstance(below, str) and parent in ("strategy", "data", "space", "evaluate"):
            below = level[parent] = {"type": below}
        if not isinstance(below, dict):
            raise InputError(f"override {override!r}: {parent!r} is {below!r}, which has no keys below it")
        level = below
    level[last] = read_yaml(value, f"override {override!r}")


_ALLOWED: dict[tuple[str, ...], list[str]] = {
    (): list(Job.model_fields),
    ("targets", "*"): list(Target.model_fields),
    ("search",): list(Search.model_fields),
    ("objectives",): list(ObjectiveNames.model_fields),
    ("warm_start", "*"): list(Earlier.model_fields),
    ("driver",): list(Driver.model_fields),
    ("driver", "asha"): list(Asha.model_fields),
}
