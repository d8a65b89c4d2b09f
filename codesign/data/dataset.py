"""What every data reader hands over: images and labels in three splits, with a fingerprint of their content."""

from __future__ import annotations

import hashlib
import sys
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from codesign.errors import DataError

IntArray = NDArray[np.int64]
Images = NDArray[np.uint8] | NDArray[np.float32]

_CHUNK_ELEMENTS = 1 << 23  # statistics are taken over this many values at a time: 64 MiB in double precision


@dataclass(frozen=True, slots=True)
class DataShape:
    """What a network must fit: the shape of one image, in pixels, and the number of classes."""

    channels: int
    height: int
    width: int
    n_classes: int

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(channels, height, width)."""
        return (self.channels, self.height, self.width)


@dataclass(frozen=True, slots=True, eq=False)
class Split:
    """Images with their labels.

    Attributes:
        images: shape (n, C, H, W), uint8 or float32, in the data's own units.
        labels: shape (n,), int64, index of the class.

    Raises:
        DataError: the arrays are empty, or have another shape or dtype.
    """

    images: Images
    labels: IntArray

    def __post_init__(self) -> None:
        if self.images.ndim != 4 or self.images.dtype not in (np.uint8, np.float32):
            found = f"{self.images.shape} of {self.images.dtype}"
            raise DataError(f"images must have shape (n, channels, height, width) of uint8 or float32, not {found}")
        if self.labels.shape != self.images.shape[:1] or self.labels.dtype != np.int64:
            found = f"{self.labels.shape} of {self.labels.dtype}"
            raise DataError(
                f"{len(self.images)} images need labels of shape ({len(self.images)},) of int64, not {found}"
            )
        if self.images.size == 0:
            raise DataError(f"a split is empty: its images have shape {self.images.shape}")

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, eq=False)
class Dataset:
    """A data set in three disjoint splits.

    Attributes:
        name: where the data came from, for people.
        train: what weights are fitted to.
        validation: what candidates are compared on.
        test: what is looked at once, at the end.
        classes: names of the classes, by label.
        fingerprint: hash of images, labels and split (see `content_hash`): equal data, equal fingerprint.

    Raises:
        DataError: the splits differ in image shape or dtype, or a label is outside 0..n_classes-1.
    """

    name: str
    train: Split
    validation: Split
    test: Split
    classes: tuple[str, ...]
    fingerprint: str

    def __post_init__(self) -> None:
        if len(self.classes) < 2:
            raise DataError(f"{self.name}: {len(self.classes)} class(es) found; a classifier needs at least 2")
        expected = f"{self.train.images.shape[1:]} of {self.train.images.dtype}"
        for split_name, split in (("validation", self.validation), ("test", self.test)):
            found = f"{split.images.shape[1:]} of {split.images.dtype}"
            if found != expected:
                raise DataError(f"{self.name}: images of the {split_name} split are {found}, those of train {expected}")
        for split_name, split in (("train", self.train), ("validation", self.validation), ("test", self.test)):
            low, high = int(split.labels.min()), int(split.labels.max())
            if low < 0 or high >= len(self.classes):
                raise DataError(
                    f"{self.name}: labels of the {split_name} split run from {low} to {high}; "
                    f"with {len(self.classes)} classes they must lie in 0..{len(self.classes) - 1}"
                )

    @classmethod
    def of(cls, name: str, train: Split, validation: Split, test: Split, classes: tuple[str, ...]) -> Dataset:
        """A data set with its fingerprint taken."""
        fingerprint = content_hash(len(classes), train, validation, test)
        return cls(name, train, validation, test, classes, fingerprint)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of one image."""
        channels, height, width = self.train.images.shape[1:]
        return (channels, height, width)

    @property
    def n_classes(self) -> int:
        """Number of classes."""
        return len(self.classes)

    @property
    def shape(self) -> DataShape:
        """Image shape and number of classes."""
        return DataShape(*self.image_shape, self.n_classes)

    @property
    def mean(self) -> tuple[float, ...]:
        """Mean of each channel over the train split, in the images' own units."""
        return self._statistics[0]

    @property
    def std(self) -> tuple[float, ...]:
        """Standard deviation of each channel over the train split; 1 for a channel that never varies."""
        return self._statistics[1]

    @cached_property
    def _statistics(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        images = self.train.images
        per_channel = images[:, 0].size
        mean = _channel_sums(images, np.zeros(images.shape[1])) / per_channel
        std = np.sqrt(_channel_sums(images, mean, power=2) / per_channel)
        # Values that differ by rounding alone would be blown up to noise of unit size.
        std = np.where(std <= 1e-7 * np.abs(mean), 1.0, std)
        return tuple(mean.tolist()), tuple(std.tolist())


class DataReader(Protocol):
    """A kind of data source: a frozen dataclass of options with two methods."""

    def describe(self) -> DataShape:
        """The data's shape, found fast, without decoding all of it.

        Raises:
            DataError: the data is missing, unreadable, truncated or empty, or a column is missing.
        """
        ...

    def load(self) -> Dataset:
        """The data, checked whole.

        Raises:
            DataError: anything is wrong with it; the message names the file and row.
        """
        ...


def content_hash(n_classes: int, *splits: Split) -> str:
    """SHA-256 of the splits in their order, as hexadecimal digits; the same on every machine."""
    digest = hashlib.sha256(f"codesign data 1: {n_classes} classes".encode())
    for split in splits:
        for array in (split.images, split.labels):
            portable = np.ascontiguousarray(array)
            if sys.byteorder == "big":
                portable = portable.byteswap()
            digest.update(f"|{array.dtype.name}{array.shape}|".encode())
            digest.update(portable.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def _channel_sums(images: Images, centre: NDArray[np.float64], power: int = 1) -> NDArray[np.float64]:
    """Sum over images and pixels of (value - centre)^power for each channel, in double precision, shape (C,)."""
    total = np.zeros(images.shape[1])
    rows = max(1, _CHUNK_ELEMENTS // images[0].size)
    for start in range(0, len(images), rows):
        centred = images[start : start + rows].astype(np.float64)
        centred -= centre[:, None, None]
        if power == 2:
            np.square(centred, out=centred)
        total += centred.sum(axis=(0, 2, 3))
    return total
