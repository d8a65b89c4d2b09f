"""Handwritten digits, 8 x 8 pixels, 0 to 16 grey levels: a real data set of 1,797 images that scikit-learn ships.

Source: Alpaydin and Kaynak 1998, Optical Recognition of Handwritten Digits (UCI), its test part.
"""

from __future__ import annotations

import importlib.util
import zlib
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from codesign.data.dataset import Dataset, DataShape
from codesign.data.source import Source, array_part, as_images, check_size, to_labels
from codesign.data.split import SplitOptions
from codesign.errors import DataError

_SIDE = 8
_CLASSES = tuple(str(digit) for digit in range(10))


@dataclass(frozen=True, slots=True)
class Digits:
    """scikit-learn's digits, read from its file without importing scikit-learn.

    Attributes:
        size: height and width in pixels to resize to; left out, 8.
        split: how the images are divided.
    """

    size: int | None = None
    split: SplitOptions = field(default_factory=SplitOptions)

    def __post_init__(self) -> None:
        check_size(self.size)

    def describe(self) -> DataShape:
        """(1, 8, 8) and 10 classes, after reading the small file."""
        _read_table(_file())
        side = self.size or _SIDE
        return DataShape(1, side, side, len(_CLASSES))

    def load(self) -> Dataset:
        """The images as uint8, 0 to 16."""
        path = _file()
        table = _read_table(path)
        images = as_images(table[:, :-1].reshape(-1, _SIDE, _SIDE), str(path))
        labels = to_labels(table[:, -1], _CLASSES, str(path))
        return Source("digits", _CLASSES, array_part(images, labels, str(path), self.size)).dataset(self.split)


def _file() -> Path:
    found = importlib.util.find_spec("sklearn")
    folders = found.submodule_search_locations if found else None
    if not folders:
        raise DataError("the digits come with scikit-learn, which is not installed; run: pip install scikit-learn")
    return Path(folders[0]) / "datasets" / "data" / "digits.csv.gz"


def _read_table(path: Path) -> NDArray[np.uint8]:
    """One row per image: 64 pixels and the digit."""
    try:
        table = np.loadtxt(path, delimiter=",", dtype=np.uint8, ndmin=2)
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise DataError(f"{path}: cannot be read ({error}); reinstall scikit-learn") from error
    if table.shape[1:] != (_SIDE * _SIDE + 1,) or len(table) == 0:
        raise DataError(f"{path}: holds a table of shape {table.shape}, not (n, 65); reinstall scikit-learn")
    return table
