"""A log of evaluated designs: a folder of Parquet files, to learn proxies from and to read with any other tool.

    LOG/part-000000.parquet     one batch of designs each; appended whole or not at all, by any number of processes

Columns of a part: `space`, `model` (id with version), `context` (the trace or network the figures are for), `code`,
`reason` (why a design cannot work, else ""), `field.NAME` for every field and `metric.NAME` for every metric. The
Parquet metadata holds what the fields are and the features of the context, as JSON under `codesign_design_log`.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from codesign.errors import DataError, InputError
from codesign.trial import FloatArray
from search_spaces.ops import IntArray
from simulators.accelerator import Columns, Field, count_accelerators
from simulators.design import DesignModel, DesignReport

FORMAT = 1
_KEY = b"codesign_design_log"


@dataclass(frozen=True, eq=False)
class LogBatch:
    """Designs that one model evaluated in one context.

    Attributes:
        space: id of the space they were taken from; "" if they come from none.
        model: id of the model with its version.
        context: what the figures are for besides the design, such as the name of a trace; "" if there is nothing.
        fields: of the model.
        designs: one array of shape (n,) per field.
        metrics: by name, shape (n,); NaN where a design cannot work.
        reasons: n texts, "" for a design that works.
        codes: shape (n, d), codes in the space; None if they come from none.
        features: the context in numbers.
    """

    space: str
    model: str
    context: str
    fields: tuple[Field, ...]
    designs: Columns
    metrics: Mapping[str, FloatArray]
    reasons: Sequence[str]
    codes: IntArray | None = None
    features: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse columns that do not fit each other."""
        n = count_accelerators(self.fields, self.designs)
        lengths = {name: len(values) for name, values in self.metrics.items()} | {"reasons": len(self.reasons)}
        if self.codes is not None:
            lengths["codes"] = len(self.codes)
        for name, length in lengths.items():
            if length != n:
                raise InputError(f"log: {name} has {length} rows, the designs {n}")

    def __len__(self) -> int:
        """Number of designs."""
        return len(self.reasons)

    def take(self, rows: IntArray) -> LogBatch:
        """Some of the designs, in the order given."""
        return replace(
            self,
            designs={name: np.asarray(values)[rows] for name, values in self.designs.items()},
            metrics={name: values[rows] for name, values in self.metrics.items()},
            reasons=[self.reasons[int(row)] for row in rows],
            codes=None if self.codes is None else self.codes[rows],
        )


class DesignLog:
    """A folder of logged designs.

    Args:
        folder: made when the first batch is appended.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def append(self, batch: LogBatch) -> Path:
        """Add a batch as one new part; a process that dies meanwhile leaves the log as it was.

        Returns:
            The new part.

        Raises:
            InputError: the folder cannot be written.
        """
        import pyarrow.parquet as pq

        partial: Path | None = None
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(prefix=".part-", suffix=".partial", dir=self.folder)
            partial = Path(name)
            with os.fdopen(handle, "wb") as file:
                pq.write_table(_to_table(batch), file)
                file.flush()
                os.fsync(file.fileno())
            return self._publish(partial)
        except OSError as error:
            raise InputError(f"log: {str(self.folder)!r} cannot be written: {error.strerror or error}") from error
        finally:
            if partial is not None:
                partial.unlink(missing_ok=True)

    def _publish(self, partial: Path) -> Path:
        """Give the file the next free number; a hard link never replaces a part that another process has just made."""
        number = max((int(path.stem.rpartition("-")[2]) for path in self.parts()), default=-1) + 1
        while True:
            path = self.folder / f"part-{number:06d}.parquet"
            try:
                os.link(partial, path)
            except FileExistsError:
                number += 1
            else:
                path.chmod(0o644)
                return path

    def parts(self) -> list[Path]:
        """The parts in the order in which they were appended."""
        return sorted(path for path in self.folder.glob("part-*.parquet") if path.stem[5:].isdigit())

    def read(self) -> list[LogBatch]:
        """Every logged design, parts of equal kind joined; see `join_batches`.

        Raises:
            DataError: there is no log, or a part cannot be read.
        """
        parts = self.parts()
        if not parts:
            raise DataError(f"{str(self.folder)!r} holds no log (no part-*.parquet in it)")
        return join_batches(read_part(path) for path in parts)


@dataclass(frozen=True, eq=False)
class LoggedModel:
    """A design model that logs what it evaluates: a part for each call.

    Attributes:
        model: does the work.
        log: takes the designs.
        space, context, features: as in `LogBatch`; the model's own features are used if none are given.
    """

    model: DesignModel
    log: DesignLog
    space: str = ""
    context: str = ""
    features: Mapping[str, float] = field(default_factory=dict)

    @property
    def id(self) -> str:
        """The model's id."""
        return self.model.id

    @property
    def fields(self) -> tuple[Field, ...]:
        """The model's fields."""
        return self.model.fields

    @property
    def metrics(self) -> tuple[str, ...]:
        """The model's metrics."""
        return self.model.metrics

    def evaluate(self, designs: Columns) -> DesignReport:
        """The model's figures, logged before anyone learns of them; see `DesignModel.evaluate`."""
        report = self.model.evaluate(designs)
        features = self.features or features_of(self.model)
        batch = LogBatch(
            self.space, self.id, self.context, tuple(self.fields), designs, report.metrics, report.reasons,
            features=features,
        )  # fmt: skip
        if len(batch):
            self.log.append(batch)
        return report


def features_of(model: object) -> dict[str, float]:
    """What a model says of its context in numbers, through a method `features()`; empty if it has none."""
    offered = getattr(model, "features", None)
    return {str(name): float(value) for name, value in offered().items()} if callable(offered) else {}


def read_part(path: Path) -> LogBatch:
    """One Parquet file of a log.

    Raises:
        DataError: it is none, or damaged.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path)
        described = json.loads((table.schema.metadata or {}).get(_KEY, b"null"))
    except (OSError, pa.ArrowException, ValueError) as error:
        raise DataError(f"{str(path)!r} cannot be read as a log of designs: {str(error).splitlines()[0]}") from error
    if not isinstance(described, dict) or described.get("format") != FORMAT:
        raise DataError(f"{str(path)!r} is not a log of designs of format {FORMAT}")
    try:
        return _from_table(table, described)
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{str(path)!r} is damaged: {error}") from error


def join_batches(batches: Iterable[LogBatch]) -> list[LogBatch]:
    """Batches of equal space, model, context, fields, metrics and features as one each, in order of appearance."""
    groups: dict[tuple[object, ...], list[LogBatch]] = {}
    for batch in batches:
        width = -1 if batch.codes is None else batch.codes.shape[1]
        features = tuple(sorted(batch.features.items()))
        key = (batch.space, batch.model, batch.context, batch.fields, tuple(batch.metrics), features, width)
        groups.setdefault(key, []).append(batch)
    return [_joined(group) for group in groups.values()]


def fields_to_json(fields: Sequence[Field]) -> list[dict[str, Any]]:
    """Fields as JSON holds them."""
    names = ("name", "kind", "unit", "default", "lowest", "allowed", "doc")
    return [{name: getattr(spec, name) for name in names} | {"allowed": list(spec.allowed)} for spec in fields]


def fields_from_json(records: Sequence[Mapping[str, Any]]) -> tuple[Field, ...]:
    """The inverse of `fields_to_json`. Raises KeyError, TypeError or ValueError if it is no list of fields."""
    fields = tuple(Field(**{**record, "allowed": tuple(record["allowed"])}) for record in records)
    for spec in fields:
        if spec.kind not in ("int", "float", "str"):
            raise ValueError(f"field {spec.name!r} is of kind {spec.kind!r}")
        spec.check(spec.default)
    return fields


def _joined(group: list[LogBatch]) -> LogBatch:
    first = group[0]
    if len(group) == 1:
        return first
    codes = [batch.codes for batch in group if batch.codes is not None]
    return replace(
        first,
        designs={name: np.concatenate([np.asarray(b.designs[name]) for b in group]) for name in first.designs},
        metrics={name: np.concatenate([batch.metrics[name] for batch in group]) for name in first.metrics},
        reasons=[reason for batch in group for reason in batch.reasons],
        codes=np.concatenate(codes) if codes else None,
    )


def _to_table(batch: LogBatch) -> Any:
    import pyarrow as pa

    n, types = len(batch), {"int": pa.int64(), "float": pa.float64(), "str": pa.string()}
    columns: dict[str, Any] = {
        "space": pa.array([batch.space] * n, pa.string()),
        "model": pa.array([batch.model] * n, pa.string()),
        "context": pa.array([batch.context] * n, pa.string()),
        "code": pa.array(None if batch.codes is None else batch.codes.tolist(), pa.list_(pa.int64()))
        if batch.codes is not None
        else pa.nulls(n, pa.list_(pa.int64())),
        "reason": pa.array(list(batch.reasons), pa.string()),
    }
    for spec in batch.fields:
        columns[f"field.{spec.name}"] = pa.array(np.asarray(batch.designs[spec.name]).tolist(), types[spec.kind])
    for name, values in batch.metrics.items():
        columns[f"metric.{name}"] = pa.array(np.asarray(values, dtype=np.float64))
    described = {
        "format": FORMAT, "space": batch.space, "model": batch.model, "context": batch.context,
        "fields": fields_to_json(batch.fields), "metrics": list(batch.metrics), "features": dict(batch.features),
    }  # fmt: skip
    return pa.table(columns).replace_schema_metadata({_KEY: json.dumps(described, allow_nan=False).encode()})


def _from_table(table: Any, described: Mapping[str, Any]) -> LogBatch:
    fields = fields_from_json(described["fields"])
    kinds: dict[str, type[np.generic]] = {"int": np.int64, "float": np.float64, "str": np.str_}
    designs = {spec.name: np.array(table[f"field.{spec.name}"].to_pylist(), dtype=kinds[spec.kind]) for spec in fields}
    codes = table["code"].to_pylist()
    has_codes = bool(codes) and codes[0] is not None
    return LogBatch(
        str(described["space"]),
        str(described["model"]),
        str(described["context"]),
        fields,
        designs,
        {name: table[f"metric.{name}"].to_numpy().astype(np.float64) for name in described["metrics"]},
        table["reason"].to_pylist(),
        np.array(codes, dtype=np.int64) if has_codes else None,
        {name: float(value) for name, value in described["features"].items()},
    )
