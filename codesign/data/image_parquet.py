"""Image data sets as the Hugging Face hub stores them: Parquet files with encoded images and labels.

An image column is a struct of `bytes` and `path`, or plain binary. Class names come from the hub's own metadata
(`huggingface` in the file's schema) where it is there.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from codesign.data.dataset import Dataset, DataShape, IntArray
from codesign.data.images import Mode, common_mode, decode, decode_all
from codesign.data.source import Part, Source, check_size, find_classes, to_labels
from codesign.data.split import SplitOptions
from codesign.errors import DataError

_IMAGE_COLUMNS = ("image", "img", "picture", "photo", "png", "jpg")
_LABEL_COLUMNS = ("label", "labels", "fine_label", "class", "target", "coarse_label")
_BROKEN = (OSError, pa.ArrowException, EOFError)
_LOOKED_AT = 16


@dataclass(frozen=True, slots=True)
class ImageParquet:
    """One Parquet file, or a folder of shards named train-*.parquet and, if there, validation-* and test-*.

    In a folder, validation-* is the test split if there is no test-*; with test-*, its images join those of train-*,
    from which the validation split is cut. Only the images that the splits use are decoded.

    Attributes:
        train: the file or folder with the images to train on.
        test: a file or folder with the test split; left out, the folder's test-* or a part that is cut off.
        image: name of the image column; left out, it is found (image, img, ... or the only one that holds images).
        label: name of the label column; left out, it is found (label, labels, fine_label, ...).
        class_names: names of the classes; left out, those in the file's metadata, else the numbers or distinct strings.
        size: height and width in pixels to stretch to, or None; needed if the images differ in size.
        split: how the images are divided.
    """

    train: Path
    test: Path | None = None
    image: str | None = None
    label: str | None = None
    class_names: tuple[str, ...] | None = None
    size: int | None = None
    split: SplitOptions = field(default_factory=SplitOptions)

    def __post_init__(self) -> None:
        check_size(self.size)

    def describe(self) -> DataShape:
        """The shape of the first image and the number of classes; only footers, labels and a few images are read."""
        train, _ = self._tables()
        first = train.first_images()
        mode = common_mode(first, train.describe_row)
        channels, height, width = decode(first[0], mode, self.size, train.describe_row).shape
        classes = self.class_names or train.hub_names or find_classes(train.raw_labels(), train.where)
        return DataShape(channels, height, width, len(classes))

    def load(self) -> Dataset:
        """All checks; images are uint8, grey if the first ones are, else RGB."""
        train, test = self._tables()
        raw_labels = train.raw_labels()
        classes = self.class_names or train.hub_names or find_classes(raw_labels, train.where)
        mode = common_mode(train.first_images(), train.describe_row)
        train_part = train.part(to_labels(raw_labels, classes, train.where), mode, self.size)
        test_part = test.part(to_labels(test.raw_labels(), classes, test.where), mode, self.size) if test else None
        return Source(Path(self.train).stem, classes, train_part, test_part).dataset(self.split)

    def _tables(self) -> tuple[_Table, _Table | None]:
        """The files to train on and, where there are any, to test on."""
        path = Path(self.train)
        train, test = _shards(path, self.test is not None) if path.is_dir() else ([path], [])
        if self.test is not None:
            held_out = Path(self.test)
            test = sorted(held_out.glob("*.parquet")) if held_out.is_dir() else [held_out]
            if not test:
                raise DataError(f"{held_out}: holds no *.parquet")
        return _Table(train, self.image, self.label), _Table(test, self.image, self.label) if test else None


class _Table:
    """The rows of one or more files with the same columns, every failure a `DataError`."""

    def __init__(self, paths: list[Path], image: str | None, label: str | None) -> None:
        self._files = [_open(path) for path in paths]
        self._paths = paths
        self._starts = np.cumsum([0] + [file.metadata.num_rows for file in self._files])
        self.where = str(paths[0]) if len(paths) == 1 else f"{paths[0].parent} ({len(paths)} files)"
        schema = self._files[0].schema_arrow
        self._image = _image_column(schema, image, paths[0])
        self._label = _label_column(schema, label, paths[0])
        self.hub_names = _hub_class_names(schema, self._label)
        for path, file in zip(paths, self._files, strict=True):
            if missing := {self._image, self._label} - set(file.schema_arrow.names):
                raise DataError(f"{path}: has no column {missing.pop()!r}, which {paths[0].name} has")

    def describe_row(self, row: int) -> str:
        """File and row within it, for messages."""
        i = int(np.searchsorted(self._starts, row, side="right")) - 1
        return f"{self._paths[i]}: row {row - self._starts[i]}"

    def raw_labels(self) -> NDArray[Any]:
        """The label column, shape (n,), numbers or strings."""
        columns = []
        for path, file in zip(self._paths, self._files, strict=True):
            try:
                column = file.read(columns=[self._label]).column(0)
            except _BROKEN as error:
                raise DataError(f"{path}: column {self._label!r} cannot be read ({error})") from error
            if column.null_count:
                row = column.is_null().to_pylist().index(True)
                raise DataError(f"{path}: row {row} has no value in column {self._label!r}")
            columns.append(_values(column))
        return np.concatenate(columns)

    def first_images(self) -> list[bytes]:
        """The first encoded images, enough to learn their mode and size."""
        try:
            batch = next(self._files[0].iter_batches(_LOOKED_AT, columns=[self._image]))
        except _BROKEN as error:
            raise DataError(f"{self._paths[0]}: column {self._image!r} cannot be read ({error})") from error
        return self._encoded(batch.column(0), np.arange(len(batch)), 0)

    def part(self, labels: IntArray, mode: Mode, size: int | None) -> Part:
        """All rows as a part whose images are decoded when they are fetched."""

        def fetch(rows: IntArray) -> NDArray[np.uint8]:
            order = np.argsort(rows, kind="stable")
            images: NDArray[np.uint8] | None = None
            done = 0
            for encoded, found in self._chunks(rows[order]):
                decoded = self._decode(encoded, found, mode, size)
                if images is None:
                    images = np.empty((len(rows), *decoded.shape[1:]), dtype=np.uint8)
                elif decoded.shape[1:] != images.shape[1:]:
                    place = self.describe_row(int(found[0]))
                    raise DataError(f"{place}: the image differs in size from others; set `size` to resize them all")
                images[order[done : done + len(found)]] = decoded
                done += len(found)
            assert images is not None, "a split holds at least one row"
            return images

        return Part(labels, fetch, self.where)

    def _decode(self, encoded: list[bytes], rows: IntArray, mode: Mode, size: int | None) -> NDArray[np.uint8]:
        return decode_all(encoded, mode, size, lambda i: self.describe_row(int(rows[i])))

    def _chunks(self, rows: IntArray) -> Iterator[tuple[list[bytes], IntArray]]:
        """Encoded images of ascending rows, with those rows, one row group at a time: only its bytes are held."""
        start = 0
        for path, file in zip(self._paths, self._files, strict=True):
            for group in range(file.num_row_groups):
                stop = start + file.metadata.row_group(group).num_rows
                low, high = np.searchsorted(rows, (start, stop))
                if high > low:
                    try:
                        column = file.read_row_group(group, columns=[self._image]).column(0)
                    except _BROKEN as error:
                        raise DataError(f"{path}: column {self._image!r} cannot be read ({error})") from error
                    yield self._encoded(column, rows[low:high], start), rows[low:high]
                start = stop

    def _encoded(self, column: Any, rows: IntArray, start: int) -> list[bytes]:
        """The encoded images of the given rows, from a column that begins at row `start`."""
        chosen = column.take(pa.Array.from_buffers(pa.int64(), len(rows), [None, pa.py_buffer(rows - start)]))
        if isinstance(chosen, pa.ChunkedArray):
            chosen = chosen.combine_chunks()
        if pa.types.is_struct(chosen.type):
            # Flattened, not taken by `field`: that would overlook rows whose struct is null as a whole.
            chosen = chosen.flatten()[chosen.type.get_field_index("bytes")]
        if chosen.null_count:
            row = int(rows[chosen.is_null().to_pylist().index(True)])
            raise DataError(f"{self.describe_row(row)} holds no image bytes")
        encoded: list[bytes] = chosen.to_pylist()
        return encoded


def _shards(folder: Path, has_test: bool) -> tuple[list[Path], list[Path]]:
    """A folder's shards to train on and to test on."""

    def named(*stems: str) -> list[Path]:
        return [path for stem in stems for path in sorted(folder.glob(f"{stem}[-.]*parquet"))]

    train, validation, test = named("train"), named("validation", "valid", "val"), named("test")
    if not train:
        raise DataError(f"{folder}: holds no train-*.parquet")
    if test or has_test:
        return [*train, *validation], test
    return train, validation


def _open(path: Path) -> pq.ParquetFile:
    try:
        file = pq.ParquetFile(path)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except _BROKEN as error:
        raise DataError(f"{path}: not a Parquet file, or a truncated one ({error})") from error
    if file.metadata.num_rows == 0:
        raise DataError(f"{path}: holds no rows")
    return file


def _values(column: Any) -> NDArray[Any]:
    """A column without nulls as an array. Arrow's own `to_numpy` would import pandas: 0.4 s."""
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if pa.types.is_integer(column.type) or pa.types.is_floating(column.type):
        return np.from_dlpack(column.combine_chunks())
    return np.array(column.to_pylist())


def _holds_images(column: pa.DataType) -> bool:
    if pa.types.is_struct(column):
        return bool(column.get_field_index("bytes") >= 0 and _is_binary(column.field("bytes").type))
    return _is_binary(column)


def _is_binary(column: pa.DataType) -> bool:
    return bool(pa.types.is_binary(column) or pa.types.is_large_binary(column) or pa.types.is_binary_view(column))


def _image_column(schema: pa.Schema, wanted: str | None, path: Path) -> str:
    fitting: list[str] = [item.name for item in schema if _holds_images(item.type)]
    if wanted is not None:
        if wanted not in schema.names:
            raise DataError.about("image", wanted, schema.names)
        if wanted not in fitting:
            raise DataError(f"{path}: column {wanted!r} is {schema.field(wanted).type}, not encoded images")
        return wanted
    for name in _IMAGE_COLUMNS:
        if name in fitting:
            return name
    if len(fitting) == 1:
        return fitting[0]
    raise DataError(
        f"{path}: {len(fitting)} columns hold encoded images, among {', '.join(schema.names)}; name the one to use, "
        "image: COLUMN (a struct with `bytes`, or binary)"
    )


def _label_column(schema: pa.Schema, wanted: str | None, path: Path) -> str:
    if wanted is not None:
        if wanted not in schema.names:
            raise DataError.about("label", wanted, schema.names)
        return wanted
    for name in _LABEL_COLUMNS:
        if name in schema.names:
            return name
    raise DataError(
        f"{path}: no label column found among {', '.join(schema.names)}; name it, label: COLUMN (looked for "
        f"{', '.join(_LABEL_COLUMNS)})"
    )


def _hub_class_names(schema: pa.Schema, label: str) -> tuple[str, ...] | None:
    """Names of a ClassLabel feature in the hub's metadata, or None."""
    try:
        info = json.loads((schema.metadata or {})[b"huggingface"])
        names = info["info"]["features"][label]["names"]
    except (KeyError, TypeError, ValueError):
        return None
    if isinstance(names, dict):  # older files number them
        names = [names[key] for key in sorted(names, key=int)]
    return tuple(str(name) for name in names) or None
