"""What a reader found, before it is cut into splits: labels, and a way to fetch the images of chosen rows.

Readers differ in how they find and decode; checking labels, splitting and assembling are written here once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from codesign.data.dataset import Dataset, Images, IntArray, Split
from codesign.data.split import SplitOptions, split_rows
from codesign.errors import DataError

Layout = Literal["auto", "chw", "hwc"]


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """Labelled images that are fetched by row.

    Attributes:
        labels: shape (n,), index of the class.
        fetch: rows, shape (k,), to their images, shape (k, C, H, W), in that order.
        where: file or folder, for messages.
    """

    labels: IntArray
    fetch: Callable[[IntArray], Images]
    where: str


@dataclass(frozen=True, slots=True, eq=False)
class Source:
    """Everything needed to build a data set: `test` is None where the source has no test split of its own."""

    name: str
    classes: tuple[str, ...]
    train: Part
    test: Part | None = None

    def dataset(self, options: SplitOptions) -> Dataset:
        """Split, then fetch only the rows that are used.

        Raises:
            DataError: too few classes or images, or an image cannot be read.
        """
        if len(self.classes) < 2:
            raise DataError(f"{self.train.where}: all images are of one class; a classifier needs at least 2 classes")
        test_labels = self.test.labels if self.test else None
        if test_labels is not None and len(test_labels) == 0:
            raise DataError(f"{self.test.where if self.test else ''}: holds no images")
        rows = split_rows(self.train.labels, test_labels, self.classes, options, self.train.where)
        # One fetch for both: a file is then read once.
        pool = np.concatenate([rows.train, rows.validation])
        images, n_train = self.train.fetch(pool), len(rows.train)
        labels = self.train.labels[pool]
        held_out = self.test or self.train
        return Dataset.of(
            self.name,
            Split(images[:n_train], labels[:n_train]),
            Split(images[n_train:], labels[n_train:]),
            Split(held_out.fetch(rows.test), held_out.labels[rows.test]),
            self.classes,
        )


def find_classes(labels: NDArray[Any], where: str) -> tuple[str, ...]:
    """Names of the classes in raw labels: the distinct strings, sorted, or "0" to the largest number.

    Raises:
        DataError: there are no labels, or they are neither strings nor whole numbers from 0 to 99,999.
    """
    if labels.size == 0:
        raise DataError(f"{where}: holds no images")
    if labels.dtype.kind in "US":
        return tuple(str(name) for name in np.unique(labels.astype(np.str_)))
    numbers = whole_numbers(labels, where)
    largest = int(numbers.max())
    if largest >= 100_000:
        raise DataError(f"{where}: row {int(numbers.argmax())} has label {largest}; labels count classes from 0")
    return tuple(str(i) for i in range(largest + 1))


def to_labels(labels: NDArray[Any], classes: tuple[str, ...], where: str) -> IntArray:
    """Raw labels, shape (n,) or (n, 1), as indices into `classes`, shape (n,).

    Raises:
        DataError: a label is not a known class; the message names the row.
    """
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1:
        raise DataError(f"{where}: labels have shape {labels.shape}; they must be one number or string per image")
    if labels.dtype.kind in "US":
        index = {name: i for i, name in enumerate(classes)}
        found = np.array([index.get(str(name), -1) for name in labels.astype(np.str_)], dtype=np.int64)
        if (found < 0).any():
            row = int(np.argmin(found))
            raise DataError.about(f"{where}: label of row {row}", str(labels[row]), _abridged(classes))
        return found
    numbers = whole_numbers(labels, where)
    outside = (numbers < 0) | (numbers >= len(classes))
    if outside.any():
        row = int(np.argmax(outside))
        raise DataError(f"{where}: row {row} has label {numbers[row]}; labels must lie in 0..{len(classes) - 1}")
    return numbers


def whole_numbers(labels: NDArray[Any], where: str) -> IntArray:
    """Labels as int64. Raises DataError if one is not a whole number."""
    if labels.dtype.kind not in "iufb":
        raise DataError(f"{where}: labels are of type {labels.dtype}; they must be whole numbers or strings")
    if labels.dtype.kind == "f" and not (whole := np.isfinite(labels) & (labels == np.round(labels))).all():
        row = int(np.argmin(whole.reshape(len(labels), -1).all(axis=1)))
        raise DataError(f"{where}: row {row} has label {labels[row]}; labels must be whole numbers")
    return labels.astype(np.int64)


def array_part(images: NDArray[Any], labels: IntArray, where: str, size: int | None) -> Part:
    """A part whose images are already in memory.

    Args:
        images: shape (n, C, H, W), uint8 or float32 (see `as_images`).
        labels: shape (n,), index of the class.
        where: file or folder, for messages.
        size: height and width in pixels to resize to, or None.

    Raises:
        DataError: images and labels differ in number. Fetching raises DataError for a NaN or an infinite value.
    """
    if len(images) != len(labels):
        raise DataError(f"{where}: {len(images)} images but {len(labels)} labels")

    def fetch(rows: IntArray) -> Images:
        chosen: Images = images[rows]
        if chosen.dtype == np.float32:
            finite = np.isfinite(chosen).all(axis=(1, 2, 3))
            if not finite.all():
                row = int(rows[np.argmin(finite)])
                raise DataError(f"{where}: the image in row {row} holds NaN or infinite values")
        if size is None or chosen.shape[2:] == (size, size):
            return chosen
        from codesign.data.images import resize_arrays

        return resize_arrays(chosen, size)

    return Part(labels, fetch, where)


def as_images(array: NDArray[Any], where: str, layout: Layout = "auto") -> Images:
    """An array of images as (n, C, H, W), uint8 or float32.

    Args:
        array: (n, H, W), (n, C, H, W) or (n, H, W, C); bool and uint8 become uint8, other numbers float32.
        where: file or folder, for messages.
        layout: where the channels stand; "auto" takes the side that has 1, 3 or 4 of them.

    Raises:
        DataError: another shape or dtype, no images, or the layout is unclear.
    """
    channels_first = images_shape(array.shape, where, layout)[1]
    if array.dtype.kind not in "biuf":
        raise DataError(f"{where}: images are of type {array.dtype}; they must be numbers")
    if array.ndim == 3:
        array = array[:, None]
    elif not channels_first:
        array = array.transpose(0, 3, 1, 2)
    wanted = np.uint8 if array.dtype in (np.bool_, np.uint8) else np.float32
    with np.errstate(over="ignore"):  # a double beyond float32 becomes infinite, and fetching reports it
        images: Images = np.ascontiguousarray(array, dtype=wanted)  # type: ignore[assignment]
    return images


def images_shape(shape: tuple[int, ...], where: str, layout: Layout = "auto") -> tuple[tuple[int, int, int], bool]:
    """(C, H, W) of an array of images of the given shape, and whether its channels stand first. See `as_images`."""
    if len(shape) not in (3, 4):
        raise DataError(f"{where}: images have shape {shape}; use (n, H, W), (n, H, W, C) or (n, C, H, W)")
    if 0 in shape:
        raise DataError(f"{where}: holds no images (the array has shape {shape})")
    if len(shape) == 3:
        return (1, shape[1], shape[2]), True
    if layout == "auto":
        first, last = shape[1] in (1, 3, 4), shape[3] in (1, 3, 4)
        if first == last:
            raise DataError(f"{where}: images have shape {shape}; say where the channels stand, layout: chw or hwc")
        layout = "chw" if first else "hwc"
    if layout == "chw":
        return (shape[1], shape[2], shape[3]), True
    return (shape[3], shape[1], shape[2]), False


def check_size(size: int | None) -> None:
    """Raises DataError unless `size` is None or a sensible number of pixels."""
    if size is not None and not 1 <= size <= 4096:
        raise DataError.about("size", size, "a height and width from 1 to 4096 pixels, or leave it out")


def _abridged(names: tuple[str, ...], most: int = 20) -> str:
    listed = ", ".join(names[:most])
    return f"one of {listed}" + (f", ... ({len(names)} in all)" if len(names) > most else "")
