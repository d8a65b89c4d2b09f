"""Tables of NAS-Bench-201 cells with accuracies and costs, as tasks for `codesign.compare`.

A table is a Parquet or CSV file with one cell a row: a column `arch` with the official cell string, or columns `op0` to
`op5` with the operation of each edge (0 none, 1 skip_connect, 2 nor_conv_1x1, 3 nor_conv_3x3, 4 avg_pool_3x3; edges in
the order 1<-0, 2<-0, 2<-1, 3<-0, 3<-1, 3<-2). All other columns are read by the names that are given.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from codesign.compare import Task
from codesign.compare_score import Regret, Score
from codesign.compare_table import table_task
from codesign.errors import DataError, InputError
from codesign.trial import FloatArray
from search_spaces.nasbench201 import NasBench201
from search_spaces.nasbench201_cell import OPERATIONS, parse_cell
from search_spaces.ops import IntArray

ARCH = "arch"
CSV = (".csv", ".csv.gz")
OP_COLUMNS = tuple(f"op{edge}" for edge in range(6))
IMAGE_SHAPE = (3, 32, 32)
CLASSES = 10
"""Of the networks whose multiply-accumulates and parameters are counted; other data scale those of all cells alike."""
SPREAD = 0.25
"""Standard deviation of the logarithm of a simulated training time."""
OVERHEAD = 0.2
"""Share of a mean training time that does not grow with the multiply-accumulates."""


@dataclass(frozen=True)
class CellTable:
    """Cells with columns of numbers.

    Attributes:
        codes: shape (n, 6), operation of each edge, all rows different.
        columns: by name, shape (n,); NaN where the file has none.
    """

    codes: IntArray
    columns: dict[str, FloatArray]


def read_columns(path: Path, columns: Iterable[str]) -> dict[str, FloatArray]:
    """Columns of numbers of a table, by name, shape (n,); NaN where a row has none.

    Raises:
        InputError: the file has no such column (the nearest is suggested).
        DataError: the file cannot be read, has no rows, or a column is not all numbers.
    """
    wanted = list(dict.fromkeys(columns))
    _check_columns(path, wanted, _column_names(path))
    return {name: _numbers(path, name, values) for name, values in _load(path, wanted).items()}


def read_cells(path: Path, columns: Iterable[str]) -> CellTable:
    """The cells of a table and the columns asked for.

    Raises:
        InputError: the file has no such column (the nearest is suggested), or none that says what the cells are.
        DataError: the file cannot be read, has no rows, or a cell or a number is malformed.
    """
    wanted = list(dict.fromkeys(columns))
    names = _column_names(path)
    is_described = ARCH in names
    if not is_described and not set(OP_COLUMNS) <= set(names):
        raise InputError(f"{path}: no column says what the cells are; needed is {ARCH!r}, or all of op0 to op5")
    _check_columns(path, wanted, [name for name in names if name != ARCH])
    found = _load(path, [*([ARCH] if is_described else OP_COLUMNS), *wanted])
    if is_described:
        codes = parse_cells(path, found[ARCH].tolist())
    else:
        operations = np.stack([_numbers(path, name, found[name]) for name in OP_COLUMNS], axis=1)
        outside = ~np.isin(operations, np.arange(len(OPERATIONS))).all(axis=1)
        if outside.any():
            raise DataError(f"{path}: row {int(np.argmax(outside))} has an operation that is none of 0 to 4")
        codes = operations.astype(np.int64)
    return CellTable(codes, {name: _numbers(path, name, found[name]) for name in wanted})


def parse_cells(path: Path, texts: Sequence[object]) -> IntArray:
    """Codes of published cell texts, shape (n, 6). Raises DataError for one that is none."""
    codes = np.zeros((len(texts), len(OP_COLUMNS)), dtype=np.int64)
    for row, text in enumerate(texts):
        try:
            codes[row] = parse_cell(str(text))
        except ValueError as error:
            raise DataError(f"{path}: row {row}: {error}") from error
    return codes


@dataclass(frozen=True)
class CellProblem:
    """Errors and costs of the cells of a table, and what goes with them.

    Attributes:
        name: `accuracy:cost`.
        codes: shape (n, 6); rows without accuracy or cost are left out.
        losses: shape (n, 2), error and cost.
        score: of the table.
        best: what an error is counted from.
        n_dropped: rows that were left out.
        features: shape (n, k), of the space, with the logarithms of multiply-accumulates and parameters.
        macs: shape (n,).
    """

    name: str
    codes: IntArray
    losses: FloatArray
    score: Score
    best: float
    n_dropped: int
    features: FloatArray
    macs: IntArray

    def task(self) -> Task:
        """Find the whole front: error and cost are minimised, the cost is known."""
        return table_task(
            self.name,
            cell_space(),
            self.codes,
            self.losses,
            self.score,
            known=(1,),
            features=self.features,
            durations=self._durations(),
            spread=SPREAD,
        )

    def budgeted_task(self, fraction: float) -> Task:
        """Find the most accurate cell within a cost budget, so far along the front's range; scored by the regret."""
        limit = self.score.limit(fraction)
        cost = self.losses[:, 1]
        within = cost <= limit
        return table_task(
            f"{self.name} at {100 * fraction:g} %, <= {limit:.4g}",
            cell_space(),
            self.codes,
            self.losses[:, :1],
            Regret(float(self.losses[within, 0].min())),
            features=self.features,
            violations=np.maximum(0.0, cost - limit) / limit,
            durations=self._durations(),
            spread=SPREAD,
        )

    def _durations(self) -> FloatArray:
        """Mean training times, relative to the mean of the table: a part is fixed, the rest goes with the MACs."""
        return np.asarray(OVERHEAD + (1 - OVERHEAD) * self.macs / self.macs.mean())


def cell_space() -> NasBench201:
    """Every cell is a candidate of its own, equal functions too: they were trained apart."""
    return NasBench201(image_shape=IMAGE_SHAPE, classes=CLASSES, merge_equal=False)


def cell_problem(table: CellTable, accuracy: str, cost: str, best: float | None = None) -> CellProblem:
    """One task of a table.

    Args:
        table: with both columns.
        accuracy: name of a column, more is better.
        cost: name of a column, less is better.
        best: the highest accuracy that could be; None: 1 where no accuracy is above 1, else 100.

    Raises:
        DataError: see `Score.of_table`; or an accuracy is above the best.
    """
    gained, spent = table.columns[accuracy], table.columns[cost]
    whole = np.isfinite(gained) & np.isfinite(spent)
    if not whole.any():
        raise DataError(f"no row has both {accuracy!r} and {cost!r}")
    codes, gained, spent = table.codes[whole], gained[whole], spent[whole]
    top = best if best is not None else (1.0 if gained.max() <= 1 else 100.0)
    if gained.max() > top:
        raise DataError(f"{accuracy}: an accuracy of {gained.max():g} is above the best, {top:g}; say --best")
    losses = np.stack([top - gained, spent], axis=1)
    name = f"{accuracy}:{cost}"
    try:
        score = Score.of_table(losses)
    except DataError as error:
        raise DataError(f"{name}: {error}") from error
    space = cell_space()
    ops = space.ops(codes)
    macs, params = ops.per_candidate(ops.macs()), ops.per_candidate(ops.params())
    features = np.hstack([space.features(codes), np.log1p(np.stack([macs, params], axis=1))])
    return CellProblem(name, codes, losses, score, top, int((~whole).sum()), features, macs)


def _check_columns(path: Path, wanted: Sequence[str], names: Sequence[str]) -> None:
    for name in wanted:
        if name not in names:
            raise InputError.about(f"column of {path.name}", name, names)


def _column_names(path: Path) -> list[str]:
    import pyarrow as arrow
    from pyarrow import csv, parquet

    try:
        if path.name.endswith(CSV):
            return [str(name) for name in csv.open_csv(path).schema.names]
        return [str(name) for name in parquet.read_schema(path).names]
    except (OSError, arrow.ArrowException) as error:
        raise DataError(f"{path}: cannot be read as a table: {error}") from error


def _load(path: Path, names: list[str]) -> dict[str, NDArray[np.generic]]:
    import pyarrow as arrow
    from pyarrow import csv, parquet

    try:
        if path.name.endswith(CSV):
            table = csv.read_csv(path, convert_options=csv.ConvertOptions(include_columns=names))
        else:
            table = parquet.read_table(path, columns=names)
    except (OSError, arrow.ArrowException) as error:
        raise DataError(f"{path}: cannot be read as a table: {error}") from error
    if table.num_rows == 0:
        raise DataError(f"{path}: no rows")
    return {name: table[name].to_numpy() for name in names}


def _numbers(path: Path, name: str, values: NDArray[np.generic]) -> FloatArray:
    try:
        return values.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(f"{path}: column {name!r} is not all numbers: {error}") from error
