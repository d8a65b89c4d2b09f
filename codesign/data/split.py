"""Cuts data into train, validation and test: stratified, exact in size, and the same on every machine.

Within each class the images are put in an order that follows from the seed alone, and every split takes a run of
that order. So the test split depends on neither `limit` nor `validation`, and a larger limit keeps the images of a
smaller one (but for the odd image where shares are rounded).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from codesign.data.dataset import IntArray
from codesign.errors import DataError

_TRAIN_STREAM, _TEST_STREAM = 0, 1  # independent orders for a source's training part and its own test part


@dataclass(frozen=True, slots=True)
class SplitOptions:
    """How the images of a source are divided; every data reader takes it as its option `split`.

    Attributes:
        validation: fraction of the images left for training that becomes the validation split.
        test: fraction of all images that becomes the test split; unused if the source has a test split of its own.
        limit: use only this many images for train and validation together, each class in proportion.
        test_limit: use only this many images for test.
        seed: which of the possible divisions.

    Raises:
        DataError: a value is out of range.
    """

    # Pydantic would ignore an unknown key in a nested dataclass; this makes it an error.
    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    validation: float = 0.2
    test: float = 0.2
    limit: int | None = None
    test_limit: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        for name, fraction in (("validation", self.validation), ("test", self.test)):
            if not 0 < fraction < 1:
                raise DataError.about(name, fraction, "a fraction above 0 and below 1, for example 0.2")
        for name, count in (("limit", self.limit), ("test_limit", self.test_limit)):
            if count is not None and count < 1:
                raise DataError.about(name, count, "a positive number of images, or leave it out for all")
        if not 0 <= self.seed < 2**63:
            raise DataError.about("seed", self.seed, "a whole number from 0 to 2**63 - 1")


@dataclass(frozen=True, slots=True)
class SplitRows:
    """Row numbers of the three splits, each of shape (n,), classes mixed."""

    train: IntArray
    validation: IntArray
    test: IntArray


def split_rows(
    labels: IntArray, test_labels: IntArray | None, classes: tuple[str, ...], options: SplitOptions, where: str
) -> SplitRows:
    """Choose the rows of each split.

    Args:
        labels: shape (n,), labels of the source, each in 0..len(classes)-1.
        test_labels: shape (m,), labels of the source's own test split, or None to cut one.
        classes: names of the classes, for messages.
        options: fractions, limits, seed.
        where: file or folder, for messages.

    Returns:
        Rows of the source; `test` counts within the source's own test split if there is one.

    Raises:
        DataError: a class has too few images to stand in every split, or `limit` is below two images per class.
    """
    n_classes = len(classes)
    counts = np.bincount(labels, minlength=n_classes)
    needed = 2 if test_labels is not None else 3
    _check_counts(counts, needed, classes, where)
    order, rank = _class_ranks(labels, counts, options.seed, _TRAIN_STREAM)

    n_test = np.zeros(n_classes, dtype=np.int64)
    if test_labels is None:
        n_test = apportion(counts, round(options.test * len(labels)), keep=2)
    pool = counts - n_test
    if options.limit is not None:
        if options.limit < 2 * n_classes:
            raise DataError.about(
                "split.limit", options.limit, f"at least {2 * n_classes}: two images for each of {n_classes} classes"
            )
        pool = apportion(pool, options.limit, least=2)
    n_validation = apportion(pool, round(options.validation * int(pool.sum())), keep=1)

    position = rank - n_test[labels]
    chosen = position < pool[labels]
    is_validation = (position >= 0) & (position < n_validation[labels])
    is_train = chosen & (position >= n_validation[labels])
    train, validation = order[is_train[order]], order[is_validation[order]]
    if test_labels is not None:
        return SplitRows(train, validation, _limited(test_labels, n_classes, options))
    test = order[(position < 0)[order]]
    if options.test_limit is not None and options.test_limit < len(test):
        keep = apportion(n_test, options.test_limit, least=0)
        test = order[(rank < keep[labels])[order]]
    return SplitRows(train, validation, test)


def apportion(counts: IntArray, total: int, least: int = 1, keep: int = 0) -> IntArray:
    """Share a total among classes in proportion to their counts, by largest remainder.

    Args:
        counts: shape (n_classes,), images of each class.
        total: how many to take; moved to the nearest number that the bounds allow.
        least: take at least this many of each class (or all it has).
        keep: leave at least this many of each class.

    Returns:
        Shape (n_classes,), how many to take of each class.
    """
    high = np.maximum(counts - keep, 0)
    low = np.minimum(least, high)
    total = int(np.clip(total, low.sum(), high.sum()))
    quota = counts * (total / max(1, int(counts.sum())))
    share: IntArray = np.clip(np.floor(quota).astype(np.int64), low, high)
    while (missing := total - int(share.sum())) != 0:
        gap = quota - share
        if missing > 0:
            share[np.argmax(np.where(share < high, gap, -np.inf))] += 1
        else:
            share[np.argmin(np.where(share > low, gap, np.inf))] -= 1
    return share


def _limited(labels: IntArray, n_classes: int, options: SplitOptions) -> IntArray:
    """Rows of a source's own test split, at most `test_limit` of them."""
    counts = np.bincount(labels, minlength=n_classes)
    order, rank = _class_ranks(labels, counts, options.seed, _TEST_STREAM)
    if options.test_limit is None or options.test_limit >= len(labels):
        return order
    keep = apportion(counts, options.test_limit, least=0)
    return order[(rank < keep[labels])[order]]


def _class_ranks(labels: IntArray, counts: IntArray, seed: int, stream: int) -> tuple[IntArray, IntArray]:
    """A random order of all rows, and each row's place among those of its class in that order."""
    # Raw output and a stable sort: NumPy promises the same bits in every release for these, not for `permutation`.
    keys = np.random.PCG64(np.random.SeedSequence((seed, stream))).random_raw(len(labels))
    order: IntArray = np.argsort(keys, kind="stable").astype(np.int64)
    grouped = order[np.argsort(labels[order], kind="stable")]
    rank = np.empty(len(labels), dtype=np.int64)
    rank[grouped] = np.arange(len(labels)) - np.repeat(np.cumsum(counts) - counts, counts)
    return order, rank


def _check_counts(counts: IntArray, needed: int, classes: tuple[str, ...], where: str) -> None:
    label = int(np.argmin(counts))
    if counts[label] >= needed:
        return
    splits = "train and validation" if needed == 2 else "train, validation and test"
    have = f"{counts[label]} image{'' if counts[label] == 1 else 's'}" if counts[label] else "no images"
    raise DataError(
        f"{where}: class {classes[label]!r} (label {label}) has {have}; every class from 0 to {len(classes) - 1} needs "
        f"at least {needed}, one each for {splits}"
    )
