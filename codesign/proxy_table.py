"""Logged designs as one table to learn from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from codesign.design_log import LogBatch
from codesign.errors import InputError
from codesign.proxy_features import BoolArray
from codesign.trial import FloatArray
from search_spaces.ops import IntArray
from simulators.accelerator import Columns, Field

CONTEXT = "context"
"""The input that tells contexts apart by name where they have no features; `context.NAME` are the features."""


@dataclass(frozen=True, eq=False)
class Table:
    """Distinct designs in their contexts, with their figures.

    Attributes:
        space, model: ids, as logged; "" where logs differ in the space.
        fields: of the model.
        inputs: the fields and, if there are several contexts, what tells them apart.
        designs: one array of shape (n,) per input.
        metrics: by name, shape (n,); NaN in rows that do not work.
        works: shape (n,), whether the design has figures.
        contexts: shape (n,), names.
        features: of each context, by name.
        n_repeated: rows left out because the same design in the same context comes again later.
        n_partial: rows left out because some metric was not measured, although nothing is wrong with the design.
    """

    space: str
    model: str
    fields: tuple[Field, ...]
    inputs: tuple[Field, ...]
    designs: Columns
    metrics: Mapping[str, FloatArray]
    works: BoolArray
    contexts: NDArray[np.str_]
    features: Mapping[str, Mapping[str, float]]
    n_repeated: int = 0
    n_partial: int = 0

    def __len__(self) -> int:
        """Number of rows."""
        return len(self.works)

    def take(self, rows: IntArray) -> Table:
        """Some of the rows."""
        return replace(
            self,
            designs={name: values[rows] for name, values in self.designs.items()},
            metrics={name: values[rows] for name, values in self.metrics.items()},
            works=self.works[rows],
            contexts=self.contexts[rows],
        )


def make_table(batches: Sequence[LogBatch], *, tells_contexts: bool | None = None) -> Table:
    """All batches in one table.

    Args:
        batches: of one model.
        tells_contexts: whether the context is an input; None: only if there are several.

    Raises:
        InputError: no designs, several models, or batches that differ in fields or metrics.
    """
    if not sum(map(len, batches)):
        raise InputError("the logs hold no designs")
    first = batches[0]
    for batch in batches[1:]:
        if batch.model != first.model:
            raise InputError(
                f"the logs are of several models: {first.model!r} and {batch.model!r}; learn one at a time"
            )
        if batch.fields != first.fields or set(batch.metrics) != set(first.metrics):
            raise InputError(f"the logs of {first.model!r} differ in their fields or metrics; learn one at a time")
    features: dict[str, Mapping[str, float]] = {}
    for batch in batches:
        if features.setdefault(batch.context, batch.features) != batch.features:
            raise InputError(f"context {batch.context!r} is logged with different features; give them different names")
    designs: dict[str, NDArray[np.generic]] = {
        spec.name: np.concatenate([np.asarray(batch.designs[spec.name]) for batch in batches]) for spec in first.fields
    }
    contexts = np.repeat(np.array([batch.context for batch in batches]), [len(batch) for batch in batches])
    inputs = first.fields
    if tells_contexts or (tells_contexts is None and len(features) > 1):
        added = context_inputs(features)
        inputs += added
        designs |= context_columns(added, features, contexts)
    metrics = {
        name: np.concatenate([batch.metrics[name] for batch in batches]).astype(np.float64) for name in first.metrics
    }
    failed = np.array([bool(reason) for batch in batches for reason in batch.reasons])
    is_whole = np.logical_and.reduce([np.isfinite(values) for values in metrics.values()])
    spaces = {batch.space for batch in batches}
    table = Table(
        first.space if len(spaces) == 1 else "", first.model, first.fields, inputs, designs, metrics,
        is_whole & ~failed, contexts, features,
    )  # fmt: skip
    last = _last_of_each([*(designs[spec.name] for spec in first.fields), contexts])
    kept = last[(is_whole | failed)[last]]
    return replace(table.take(kept), n_repeated=len(table) - len(last), n_partial=len(last) - len(kept))


def context_inputs(features: Mapping[str, Mapping[str, float]]) -> tuple[Field, ...]:
    """What tells contexts apart: their features if all have the same ones, else their names."""
    names = {tuple(sorted(found)) for found in features.values()}
    if len(names) == 1 and names != {()}:
        return tuple(Field(f"{CONTEXT}.{name}", "float", "", 0.0, doc="of the context") for name in names.pop())
    return (Field(CONTEXT, "str", "", sorted(features)[0], doc="name of the context"),)


def context_columns(
    inputs: Sequence[Field], features: Mapping[str, Mapping[str, float]], contexts: NDArray[np.str_]
) -> dict[str, NDArray[np.generic]]:
    """The columns of those inputs for rows with the given contexts, each of shape (n,)."""
    columns: dict[str, NDArray[np.generic]] = {}
    for spec in inputs:
        if spec.kind == "str":
            columns[spec.name] = contexts
        else:
            feature = spec.name.removeprefix(f"{CONTEXT}.")
            columns[spec.name] = np.array([features[str(name)][feature] for name in contexts], dtype=np.float64)
    return columns


def _last_of_each(keys: Sequence[NDArray[Any]]) -> IntArray:
    """The last row of each distinct combination, in rising order."""
    codes = np.stack([np.unique(key, return_inverse=True)[1].reshape(-1) for key in keys], axis=1)
    _, first = np.unique(codes[::-1], axis=0, return_index=True)
    return np.sort(len(codes) - 1 - first)
