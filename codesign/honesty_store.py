"""What a store keeps for the honesty meter beside trials: forecasts, origins of trials, comparisons with random search.

The tables are made when the first row is written, so a store of an older version is read and continued as it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

_meta = sa.MetaData()
_forecasts = sa.Table(  # what a strategy's model said of a trial before it was evaluated
    "forecasts",
    _meta,
    sa.Column("study_id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("metric", sa.String(200), primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("value", sa.Float, nullable=False),
    sqlite_with_rowid=False,
)
_origins = sa.Table(  # trials that were drawn at random; all others a strategy chose
    "origins",
    _meta,
    sa.Column("study_id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("origin", sa.String(20), nullable=False),
    sqlite_with_rowid=False,
)
_comparisons = sa.Table(
    "comparisons",
    _meta,
    sa.Column("study_id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("content", sa.Text, nullable=False),
)


class Notes:
    """The honesty meter's part of a store.

    Args:
        engine: of the store.
    """

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine

    def insert(
        self,
        connection: sa.Connection,
        study_id: int,
        first_number: int,
        forecasts: Mapping[str, FloatArray],
        origins: Sequence[str],
    ) -> None:
        """Add what is known of new trials, within the caller's transaction.

        Args:
            connection: of the transaction.
            study_id: whose trials.
            first_number: of the first trial.
            forecasts: by metric, shape (n,); NaN where there is none.
            origins: n of them, "" for a trial that the strategy chose; empty if it chose all.
        """
        rows = [
            {"study_id": study_id, "metric": metric, "number": first_number + row, "value": float(values[row])}
            for metric, values in forecasts.items()
            for row in np.flatnonzero(np.isfinite(values)).tolist()
        ]
        drawn = [
            {"study_id": study_id, "number": first_number + row, "origin": origin}
            for row, origin in enumerate(origins)
            if origin
        ]
        for table, values in ((_forecasts, rows), (_origins, drawn)):
            if values:
                connection.execute(sa.schema.CreateTable(table, if_not_exists=True))
                connection.execute(table.insert(), values)

    def forecasts(self, study_id: int) -> dict[str, tuple[IntArray, FloatArray]]:
        """By metric: trial numbers, ascending, and what was forecast of them, both of shape (k,)."""
        query = sa.select(_forecasts.c.metric, _forecasts.c.number, _forecasts.c.value)
        rows = self._read(_forecasts, query.where(_forecasts.c.study_id == study_id).order_by(_forecasts.c.number))
        found: dict[str, tuple[list[int], list[float]]] = {}
        for metric, number, value in rows:
            numbers, values = found.setdefault(metric, ([], []))
            numbers.append(number)
            values.append(value)
        return {
            metric: (np.array(numbers, dtype=np.int64), np.array(values, dtype=np.float64))
            for metric, (numbers, values) in found.items()
        }

    def forecast_of(self, study_id: int, number: int) -> dict[str, float]:
        """What was forecast of one trial, by metric."""
        where = (_forecasts.c.study_id == study_id) & (_forecasts.c.number == number)
        return dict(self._read(_forecasts, sa.select(_forecasts.c.metric, _forecasts.c.value).where(where)))

    def drawn(self, study_id: int) -> IntArray:
        """Numbers of the trials that were drawn at random, ascending."""
        query = sa.select(_origins.c.number).where(_origins.c.study_id == study_id).order_by(_origins.c.number)
        return np.fromiter(chain.from_iterable(self._read(_origins, query)), dtype=np.int64)

    def origin_of(self, study_id: int, number: int) -> str:
        """How a trial was drawn: "shadow" or "random"; "" if the strategy chose it."""
        where = (_origins.c.study_id == study_id) & (_origins.c.number == number)
        rows = self._read(_origins, sa.select(_origins.c.origin).where(where))
        return str(rows[0][0]) if rows else ""

    def comparison(self, study_id: int) -> str:
        """The comparison that was kept, as JSON; "" if none was."""
        query = sa.select(_comparisons.c.content).where(_comparisons.c.study_id == study_id)
        rows = self._read(_comparisons, query)
        return str(rows[0][0]) if rows else ""

    def keep_comparison(self, study_id: int, content: str) -> None:
        """Keep a comparison, JSON, instead of an earlier one."""
        with self._engine.begin() as connection:
            connection.execute(sa.schema.CreateTable(_comparisons, if_not_exists=True))
            connection.execute(_comparisons.delete().where(_comparisons.c.study_id == study_id))
            connection.execute(_comparisons.insert().values(study_id=study_id, content=content))

    def _read(self, table: sa.Table, query: sa.Select[Any]) -> list[Any]:
        """The rows of a query; none if the store has no such table yet."""
        with self._engine.connect() as connection:
            if not sa.inspect(connection).has_table(table.name):
                return []
            return list(connection.execute(query))
