"""Arrays in one .npz file, under the names that Keras, MedMNIST and most people use."""

from __future__ import annotations

import math
import zipfile
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from codesign.data.dataset import Dataset, DataShape
from codesign.data.source import (
    Layout,
    Part,
    Source,
    array_part,
    as_images,
    check_size,
    find_classes,
    images_shape,
    to_labels,
)
from codesign.data.split import SplitOptions
from codesign.errors import DataError

_TRAIN = (("x_train", "y_train"), ("train_images", "train_labels"), ("images", "labels"), ("x", "y"), ("X", "y"))
_VALIDATION = (("x_val", "y_val"), ("x_valid", "y_valid"), ("val_images", "val_labels"))
_TEST = (("x_test", "y_test"), ("test_images", "test_labels"))
_BROKEN = (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile, zlib.error)

Pair = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Npz:
    """A .npz file with x_train, y_train and perhaps x_test, y_test; or images, labels; or MedMNIST's names.

    Images have shape (n, H, W), (n, H, W, C) or (n, C, H, W). A validation part (x_val, val_images) joins the images
    left for training, from which the validation split is cut. Pickled objects are refused.

    Attributes:
        path: the file.
        layout: where the channels stand: "auto" (the side that has 1, 3 or 4), "chw" or "hwc".
        class_names: names of the classes; left out, the numbers, or the distinct strings.
        size: height and width in pixels to resize to, or None.
        split: how the images are divided.
    """

    path: Path
    layout: Layout = "auto"
    class_names: tuple[str, ...] | None = None
    size: int | None = None
    split: SplitOptions = field(default_factory=SplitOptions)

    def __post_init__(self) -> None:
        check_size(self.size)

    def describe(self) -> DataShape:
        """The shape from the arrays' headers, and the classes from the labels; no image is read."""
        file = _File(Path(self.path))
        images, labels = file.train_pair()
        dims = file.array_shape(images)
        shape, _ = images_shape(dims, file.member(images), self.layout)
        raw_labels = file.read(labels)
        if raw_labels.shape[:1] != dims[:1]:
            raise DataError(f"{file.member(images)}: {dims[0]} images but {raw_labels.size} labels")
        classes = self.class_names or find_classes(raw_labels, file.member(labels))
        for pair in (_VALIDATION, _TEST):
            if found := file.pair(pair):
                file.array_shape(found[0])
        channels, height, width = shape
        return DataShape(channels, self.size or height, self.size or width, len(classes))

    def load(self) -> Dataset:
        """All checks; integer images other than uint8 become float32."""
        file = _File(Path(self.path))
        train, validation, test = [file.train_pair()], file.pair(_VALIDATION), file.pair(_TEST)
        if validation:
            train.append(validation)
        classes = self.class_names or find_classes(file.read(train[0][1]), file.member(train[0][1]))
        test_part = self._part(file, [test], classes) if test else None
        source = Source(Path(self.path).stem, classes, self._part(file, train, classes), test_part)
        return source.dataset(self.split)

    def _part(self, file: _File, pairs: list[Pair], classes: tuple[str, ...]) -> Part:
        images = [as_images(file.read(pair[0]), file.member(pair[0]), self.layout) for pair in pairs]
        labels = [to_labels(file.read(pair[1]), classes, file.member(pair[1])) for pair in pairs]
        if len(pairs) == 1:
            return array_part(images[0], labels[0], file.member(pairs[0][0]), self.size)
        if images[0].shape[1:] != images[1].shape[1:]:
            raise DataError(f"{file.member(pairs[1][0])}: images are {images[1].shape[1:]}, not {images[0].shape[1:]}")
        where = f"{file.path}: {' + '.join(pair[0] for pair in pairs)}"
        return array_part(np.concatenate(images), np.concatenate(labels), where, self.size)


class _File:
    """Names, shapes and arrays of a .npz file, every failure a `DataError`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with zipfile.ZipFile(path) as archive:
                self._sizes = {info.filename.removesuffix(".npy"): info.file_size for info in archive.infolist()}
        except FileNotFoundError:
            raise DataError(f"{path}: no such file") from None
        except _BROKEN as error:
            raise DataError(f"{path}: not a .npz file, or a truncated one ({error})") from error

    def member(self, name: str) -> str:
        """File and array, for messages."""
        return f"{self.path}: {name}"

    def pair(self, candidates: tuple[Pair, ...]) -> Pair | None:
        """The first pair of names of which one is there; its partner must be there too."""
        for pair in candidates:
            there = [name for name in pair if name in self._sizes]
            if len(there) == 2:
                return pair
        for pair in candidates:
            for name, partner in (pair, pair[::-1]):
                if name in self._sizes:
                    raise DataError(f"{self.path}: has {name!r} but no {partner!r}")
        return None

    def train_pair(self) -> Pair:
        """Names of the images and labels to train on."""
        if found := self.pair(_TRAIN):
            return found
        wanted = "; ".join(f"{images}, {labels}" for images, labels in _TRAIN[:3])
        raise DataError(f"{self.path}: holds {', '.join(sorted(self._sizes)) or 'nothing'}; expected arrays {wanted}")

    def array_shape(self, name: str) -> tuple[int, ...]:
        """An array's shape from its header; the length that it asks for is checked too."""
        try:
            with zipfile.ZipFile(self.path) as archive, archive.open(f"{name}.npy") as file:
                version = np.lib.format.read_magic(file)
                read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
                shape, _, dtype = read(file)
                n_bytes = file.tell() + math.prod(shape) * dtype.itemsize
        except _BROKEN as error:
            raise DataError(f"{self.member(name)}: cannot be read ({error})") from error
        if n_bytes != self._sizes[name] and not dtype.hasobject:
            raise DataError(f"{self.member(name)}: truncated: {self._sizes[name]} bytes, the header asks for {n_bytes}")
        return tuple(shape)

    def read(self, name: str) -> NDArray[Any]:
        """A whole array."""
        try:
            with np.load(self.path, allow_pickle=False) as arrays:
                array: NDArray[Any] = arrays[name]
        except _BROKEN as error:
            raise DataError(f"{self.member(name)}: cannot be read ({error})") from error
        return array
