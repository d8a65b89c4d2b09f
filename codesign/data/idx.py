"""MNIST's IDX files: a magic number with type and rank, big-endian sizes, then the values.

Format: LeCun, Cortes and Burges, "The MNIST database of handwritten digits", section on file formats.
"""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from codesign.data.dataset import Dataset, DataShape
from codesign.data.source import (
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

_TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_BROKEN = (OSError, EOFError, zlib.error, struct.error)

_FASHION_FOLDER = Path("/usr/share/datasets/fashion-mnist")
_FASHION_CLASSES = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Idx:
    """A folder of IDX files named as MNIST's: train-images-idx3-ubyte, train-labels-idx1-ubyte and, if there, t10k-*.

    Attributes:
        path: the folder; files may end in .gz, and may carry a prefix (EMNIST: `emnist-digits-train-images-...`).
        class_names: names of the classes; left out, the numbers.
        size: height and width in pixels to resize to, or None.
        split: how the images are divided.
    """

    path: Path
    class_names: tuple[str, ...] | None = None
    size: int | None = None
    split: SplitOptions = field(default_factory=SplitOptions)

    def __post_init__(self) -> None:
        check_size(self.size)

    def describe(self) -> DataShape:
        """The shape that the headers give, after checking the length of every file."""
        images, labels = _pair(self.path, "train")
        image_dims, label_dims = _dims(images), _dims(labels)
        if label_dims != image_dims[:1]:
            raise DataError(f"{images.name} has {image_dims[0]} images, {labels.name} shape {label_dims}")
        if test := _test_pair(self.path):
            for path in test:
                _dims(path)
        channels, height, width = images_shape(image_dims, str(images))[0]
        classes = self.class_names or find_classes(_read(labels), str(labels))
        return DataShape(channels, self.size or height, self.size or width, len(classes))

    def load(self) -> Dataset:
        """All checks; images are uint8, or float32 where the file holds another type."""
        return _load(Path(self.path).name, self.path, self.class_names, self.size, self.split)


@dataclass(frozen=True, slots=True)
class FashionMnist:
    """Fashion-MNIST (Xiao et al. 2017): 70,000 grey images of clothing, 28 x 28 pixels, 10 classes.

    Attributes:
        path: folder with the four IDX files; left out, where Debian's package dataset-fashion-mnist puts them.
        size: height and width in pixels to resize to, or None.
        split: how the images are divided.
    """

    path: Path | None = None
    size: int | None = None
    split: SplitOptions = field(default_factory=SplitOptions)

    def __post_init__(self) -> None:
        check_size(self.size)

    def describe(self) -> DataShape:
        """(1, 28, 28) and 10 classes, after checking the files' headers and lengths."""
        return Idx(self._folder(), _FASHION_CLASSES, self.size, self.split).describe()

    def load(self) -> Dataset:
        """The images as uint8, 0 to 255."""
        return _load("fashion-mnist", self._folder(), _FASHION_CLASSES, self.size, self.split)

    def _folder(self) -> Path:
        if self.path is None and not _FASHION_FOLDER.is_dir():
            raise DataError(
                f"Fashion-MNIST is not in {_FASHION_FOLDER}; install Debian's package (sudo apt-get install "
                "dataset-fashion-mnist), or set `path` to a folder with its four IDX files"
            )
        return self.path or _FASHION_FOLDER


def _load(name: str, folder: Path, classes: tuple[str, ...] | None, size: int | None, split: SplitOptions) -> Dataset:
    images, labels = _pair(folder, "train")
    raw_labels = _read(labels)
    names = classes or find_classes(raw_labels, str(labels))
    test = _test_pair(folder)
    train_part = _part(images, labels, raw_labels, names, size)
    test_part = _part(test[0], test[1], _read(test[1]), names, size) if test else None
    return Source(name, names, train_part, test_part).dataset(split)


def _part(images: Path, labels: Path, raw_labels: NDArray[Any], classes: tuple[str, ...], size: int | None) -> Part:
    indices = to_labels(raw_labels, classes, str(labels))
    return array_part(as_images(_read(images), str(images)), indices, str(images), size)


def _pair(folder: Path, which: str) -> tuple[Path, Path]:
    found = _find(folder, f"{which}-images"), _find(folder, f"{which}-labels")
    if found[0] is None or found[1] is None:
        missing = f"{which}-images-idx3-ubyte" if found[0] is None else f"{which}-labels-idx1-ubyte"
        raise DataError(f"{folder}: no file {missing}[.gz] there")
    return found[0], found[1]


def _test_pair(folder: Path) -> tuple[Path, Path] | None:
    """The test files, or None where there are none; one without the other is an error."""
    for which in ("t10k", "test"):
        if _find(folder, f"{which}-images") or _find(folder, f"{which}-labels"):
            return _pair(folder, which)
    return None


def _find(folder: Path, stem: str) -> Path | None:
    """The one file of that stem, with '-' or '.' before the type, plain or compressed; plain wins."""
    if not Path(folder).is_dir():
        raise DataError(f"{folder}: no such folder")
    found = sorted(
        path for path in Path(folder).glob(f"*{stem}?idx[0-9]-ubyte*") if path.suffix in (".gz", path.suffix)
    )
    stems = {path.name.removesuffix(".gz") for path in found}
    if len(stems) > 1:
        raise DataError(f"{folder}: several files could be {stem!r}: {', '.join(sorted(stems))}; keep one set")
    return found[0] if found else None


def _open(path: Path) -> BinaryIO:
    return cast(BinaryIO, gzip.open(path)) if path.suffix == ".gz" else path.open("rb")


def _header(file: BinaryIO, path: Path) -> tuple[str, tuple[int, ...]]:
    """Type and shape of an IDX file; leaves the file at its first value."""
    magic = file.read(4)
    if len(magic) < 4 or magic[:2] != b"\0\0" or magic[2] not in _TYPES:
        raise DataError(f"{path}: not an IDX file (it starts with {magic.hex(' ') or 'nothing'})")
    rank = magic[3]
    dims = struct.unpack(f">{rank}I", file.read(4 * rank))
    return _TYPES[magic[2]], dims


def _dims(path: Path) -> tuple[int, ...]:
    """Shape of an IDX file, whose length is checked without reading it all."""
    try:
        with _open(path) as file:
            dtype, dims = _header(file, path)
        expected = 4 + 4 * len(dims) + math.prod(dims) * np.dtype(dtype).itemsize
        n_bytes = path.stat().st_size
        if path.suffix == ".gz":  # gzip ends with the length of what it holds, modulo 2**32
            with path.open("rb") as raw:
                raw.seek(-4, 2)
                n_bytes = int.from_bytes(raw.read(4), "little")
            expected %= 2**32
    except _BROKEN as error:
        raise DataError(f"{path}: cannot be read ({error})") from error
    if n_bytes != expected:
        raise DataError(f"{path}: truncated or damaged: {n_bytes} bytes where the header asks for {expected}")
    return dims


def _read(path: Path) -> NDArray[Any]:
    """The values of an IDX file, read only."""
    try:
        with _open(path) as file:
            dtype, dims = _header(file, path)
            values = file.read()
    except _BROKEN as error:
        raise DataError(f"{path}: cannot be read ({error})") from error
    expected = math.prod(dims) * np.dtype(dtype).itemsize
    if len(values) != expected:
        raise DataError(f"{path}: truncated or damaged: {len(values)} bytes of values, the header asks for {expected}")
    return np.frombuffer(values, dtype=dtype).reshape(dims)
