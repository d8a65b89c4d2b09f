"""Reads named columns of a Parquet or CSV file as arrays."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np

from codesign.errors import InputError
from codesign.trial import FloatArray

SUFFIXES = (".parquet", ".csv", ".csv.gz")


class TableFile:
    """Columns of one file.

    Args:
        path: a Parquet file, or a CSV file with a header (`.csv`, `.csv.gz`).
        columns: the columns that will be asked for, each with the option that names it.

    Raises:
        InputError: the file cannot be read, has no rows, or lacks a column (the nearest is suggested).
    """

    def __init__(self, path: Path, columns: Iterable[tuple[str, str]]) -> None:
        if not path.name.endswith(SUFFIXES):
            raise InputError.about("path", str(path), f"a file that ends in {', '.join(SUFFIXES)}")
        if not path.is_file():
            raise InputError(f"path: there is no file {str(path)!r} (a relative path begins at the job file's folder)")
        self.path = path
        wanted = list(columns)
        self._table = _read(path, [name for _, name in wanted])
        present = self._table.column_names
        for key, name in wanted:
            if name not in present:
                raise InputError.about(f"{key}: a column of {path.name}", name, present)
        if self._table.num_rows == 0:
            raise InputError(f"path: {str(path)!r} has no rows")

    @property
    def n_rows(self) -> int:
        """Rows of the file."""
        return int(self._table.num_rows)

    @property
    def fingerprint(self) -> str:
        """A hash of the file's bytes."""
        with self.path.open("rb") as file:
            digest = blake2b(digest_size=16)
            while block := file.read(1 << 20):
                digest.update(block)
        return digest.hexdigest()

    def is_number(self, name: str) -> bool:
        """Whether a column holds numbers."""
        import pyarrow.types as kinds

        kind = self._table.schema.field(name).type
        return bool(kinds.is_integer(kind) or kinds.is_floating(kind) or kinds.is_decimal(kind))

    def numbers(self, key: str, name: str) -> FloatArray:
        """A column of numbers, shape (n_rows,), NaN where it is empty. Raises InputError if it holds anything else."""
        column = self._table.column(name)
        if not self.is_number(name):
            raise InputError(f"{key}: column {name!r} of {self.path.name} holds {column.type} values, not numbers")
        return np.asarray(column.cast("float64").to_numpy(), dtype=np.float64)

    def texts(self, key: str, name: str) -> list[str]:
        """A column of texts, n_rows of them. Raises InputError if it holds anything else, or an empty cell."""
        import pyarrow.types as kinds

        column = self._table.column(name)
        is_text = kinds.is_string(column.type) or kinds.is_large_string(column.type)
        if not is_text or column.null_count:
            found = f"{column.null_count} empty cells" if is_text else f"{column.type} values"
            raise InputError(f"{key}: column {name!r} of {self.path.name} has {found}; each row needs a text")
        return list(column.to_pylist())


def _read(path: Path, columns: Sequence[str]) -> Any:
    """The file as an Arrow table: of Parquet the wanted columns alone, unless one is missing."""
    import pyarrow as pa
    import pyarrow.csv as csv
    import pyarrow.parquet as parquet

    try:
        if path.suffix != ".parquet":
            return csv.read_csv(str(path))
        present = parquet.read_schema(path).names
        if not set(columns) <= set(present):
            return parquet.read_schema(path).empty_table()
        return parquet.read_table(path, columns=list(dict.fromkeys(columns)))
    except (OSError, pa.ArrowException) as error:
        reason = (str(error).strip().splitlines() or ["it is broken"])[0]
        raise InputError(f"path: {str(path)!r} cannot be read: {reason}") from error
