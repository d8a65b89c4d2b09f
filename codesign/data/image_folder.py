"""A folder of image files, one sub-folder per class."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from codesign.data.dataset import Dataset, DataShape, IntArray
from codesign.data.images import Mode, common_mode, decode, decode_all
from codesign.data.source import Part, Source, check_size
from codesign.data.split import SplitOptions
from codesign.errors import DataError

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".ppm", ".pgm", ".tif", ".tiff"})
"""Files taken for images; all others are passed over."""

_TRAIN, _VALIDATION, _TEST = ("train", "training"), ("val", "valid", "validation"), ("test", "testing")


@dataclass(frozen=True, slots=True)
class ImageFolder:
    """`path/CLASS/*.png`, or `path/train/CLASS/*`, `path/test/CLASS/*`; the class is the folder's name.

    Beside train/, val/ is the test split if there is no test/; with a test/, the images of val/ join those of train/,
    from which the validation split is cut. Class folders are looked through whole, hidden files and other suffixes are
    passed over. Images that differ in size need `size`, and are stretched to it.

    Attributes:
        path: the folder.
        size: height and width in pixels to resize to, or None.
        split: how the images are divided.
    """

    path: Path
    size: int | None = None
    split: SplitOptions = field(default_factory=SplitOptions)

    def __post_init__(self) -> None:
        check_size(self.size)

    def describe(self) -> DataShape:
        """The size of one image and the number of class folders; only the headers of a few images are read."""
        classes, train, _ = _scan(Path(self.path))
        mode = _mode(train)
        channels, height, width = decode(train.files[0], mode, self.size, lambda i: str(train.files[i])).shape
        return DataShape(channels, height, width, len(classes))

    def load(self) -> Dataset:
        """All checks; images are uint8, grey if the first ones are, else RGB."""
        classes, train, test = _scan(Path(self.path))
        mode = _mode(train)
        test_part = _part(test, mode, self.size) if test else None
        return Source(Path(self.path).name, classes, _part(train, mode, self.size), test_part).dataset(self.split)


@dataclass(frozen=True, slots=True, eq=False)
class _Files:
    """Image files with their labels, sorted by class and name."""

    folder: Path
    files: Sequence[Path]
    labels: IntArray


def _scan(path: Path) -> tuple[tuple[str, ...], _Files, _Files | None]:
    """Classes, files to train on and, where the folder has its own, files to test on."""
    folders = _folders(path)
    train = next((folders[name] for name in _TRAIN if name in folders), None)
    if train is None:
        classes = tuple(folders)
        return classes, _list([path], classes), None
    classes = tuple(_folders(train))
    test = next((folders[name] for name in _TEST if name in folders), None)
    validation = next((folders[name] for name in _VALIDATION if name in folders), None)
    if test is None:
        test, validation = validation, None
    return classes, _list([train, *filter(None, [validation])], classes), _list([test], classes) if test else None


def _folders(path: Path) -> dict[str, Path]:
    """Sub-folders by name, sorted."""
    try:
        with os.scandir(path) as entries:
            names = sorted(entry.name for entry in entries if entry.is_dir() and not entry.name.startswith("."))
    except OSError as error:
        raise DataError(f"{path}: cannot be read as a folder ({error.strerror})") from error
    if not names:
        raise DataError(f"{path}: holds no class folders; expected {path / 'CLASS'}/*.png, or train/ and test/")
    return {name: path / name for name in names}


def _list(roots: list[Path], classes: tuple[str, ...]) -> _Files:
    files: list[Path] = []
    labels: list[int] = []
    for root in roots:
        folders = _folders(root)
        if unknown := sorted(set(folders) - set(classes)):
            raise DataError.about(f"{root}: class folder", unknown[0], classes)
        for name, folder in folders.items():
            found = sorted(
                Path(parent, file)
                for parent, _, inside in os.walk(folder)
                for file in inside
                if os.path.splitext(file)[1].lower() in SUFFIXES and not file.startswith(".")  # noqa: PTH122 (hot)
            )
            if not found:
                raise DataError(f"{folder}: holds no images ({', '.join(sorted(SUFFIXES))})")
            files += found
            labels += [classes.index(name)] * len(found)
    return _Files(roots[0], files, np.array(labels, dtype=np.int64))


def _mode(train: _Files) -> Mode:
    step = max(1, len(train.files) // 16)
    looked_at = train.files[::step]
    return common_mode(looked_at, lambda i: str(looked_at[i]))


def _part(found: _Files, mode: Mode, size: int | None) -> Part:
    def fetch(rows: IntArray) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
        chosen = [found.files[row] for row in rows]
        return decode_all(chosen, mode, size, lambda i: str(chosen[i]))

    return Part(found.labels, fetch, str(found.folder))
