"""Stratified splits: exact sizes, disjoint, nested, the same everywhere."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from codesign.data.dataset import IntArray
from codesign.data.split import SplitOptions, SplitRows, apportion, split_rows
from codesign.errors import DataError, InputError


def _labels(counts: list[int], seed: int = 0) -> IntArray:
    labels = np.repeat(np.arange(len(counts)), counts).astype(np.int64)
    return np.random.default_rng(seed).permutation(labels)


def _split(labels: IntArray, test_labels: IntArray | None = None, **options: object) -> SplitRows:
    classes = tuple(f"class {i}" for i in range(int(labels.max()) + 1))
    return split_rows(labels, test_labels, classes, SplitOptions(**options), "somewhere")  # type: ignore[arg-type]


counts_of_classes = st.lists(st.integers(3, 60), min_size=2, max_size=6)
fractions = st.floats(0.01, 0.99)


@given(counts_of_classes, fractions, fractions, st.integers(0, 5))
def test_the_splits_hold_every_image_once_and_every_class(
    counts: list[int], validation: float, test: float, seed: int
) -> None:
    labels = _labels(counts)
    rows = _split(labels, validation=validation, test=test, seed=seed)
    together = np.concatenate([rows.train, rows.validation, rows.test])
    assert sorted(together) == list(range(len(labels)))
    for part in (rows.train, rows.validation, rows.test):
        assert set(labels[part]) == set(range(len(counts)))


@given(counts_of_classes, st.integers(0, 200), st.integers(0, 3), st.integers(0, 3))
def test_apportion_keeps_its_bounds_and_hits_every_total_they_allow(
    counts: list[int], total: int, least: int, keep: int
) -> None:
    array = np.array(counts, dtype=np.int64)
    share = apportion(array, total, least, keep)
    high = array - keep
    low = np.minimum(least, high)
    assert (share >= low).all()
    assert (share <= high).all()
    assert share.sum() == min(max(total, low.sum()), high.sum())


def test_apportion_is_the_largest_remainder_method() -> None:
    # quotas 4.7, 3.2, 2.1: floors give 9, the largest remainder gets the tenth
    assert apportion(np.array([47, 32, 21]), 10).tolist() == [5, 3, 2]


def test_split_sizes_and_proportions() -> None:
    labels = _labels([500, 300, 200])
    rows = _split(labels, validation=0.25, test=0.2)
    assert (len(rows.train), len(rows.validation), len(rows.test)) == (600, 200, 200)
    assert np.bincount(labels[rows.test]).tolist() == [100, 60, 40]
    assert np.bincount(labels[rows.validation]).tolist() == [100, 60, 40]
    assert np.bincount(labels[rows.train]).tolist() == [300, 180, 120]


def test_classes_are_mixed_not_sorted() -> None:
    labels = np.sort(_labels([50, 50]))
    first_half = labels[_split(labels).train[:32]]
    assert 8 < first_half.sum() < 24


def test_the_test_split_depends_on_neither_limit_nor_validation() -> None:
    labels = _labels([100, 80, 60])
    reference = _split(labels).test
    for options in ({"limit": 30}, {"validation": 0.5}, {"limit": 12, "validation": 0.4}):
        assert np.array_equal(_split(labels, **options).test, reference)
    assert not np.array_equal(_split(labels, seed=1).test, reference)


def test_limit_counts_train_and_validation_and_smaller_limits_are_contained() -> None:
    labels = _labels([100, 100, 100, 100])
    pools = []
    for limit in (40, 80, 160):
        rows = _split(labels, limit=limit)
        assert len(rows.train) + len(rows.validation) == limit
        assert np.bincount(labels[rows.validation]).tolist() == [limit // 20] * 4
        pools.append(set(rows.train) | set(rows.validation))
    assert pools[0] < pools[1] < pools[2]
    everything = _split(labels)
    assert len(everything.train) + len(everything.validation) == 320
    unlimited = _split(labels, limit=10_000)
    assert np.array_equal(unlimited.train, everything.train)


def test_a_source_with_a_test_split_keeps_it() -> None:
    labels, test_labels = _labels([40, 40]), _labels([15, 5])
    rows = _split(labels, test_labels, test=0.9)
    assert sorted(rows.test) == list(range(20))
    assert len(rows.train) + len(rows.validation) == 80
    limited = _split(labels, test_labels, test_limit=8)
    assert np.bincount(test_labels[limited.test]).tolist() == [6, 2]


def test_test_limit_also_holds_for_a_split_that_is_cut() -> None:
    labels = _labels([100, 100])
    rows = _split(labels, test_limit=10)
    whole = _split(labels)
    assert len(rows.test) == 10
    assert set(rows.test) <= set(whole.test)
    assert np.array_equal(rows.train, whole.train)


def test_the_order_is_the_same_on_every_machine() -> None:
    # Written down once: a change here changes every user's fingerprint and makes stored results unusable.
    rows = _split(np.tile(np.arange(2, dtype=np.int64), 8), seed=3)
    assert rows.test.tolist() == [0, 4, 9]
    assert rows.validation.tolist() == [7, 1, 10]


@pytest.mark.parametrize(
    ("options", "key"),
    [
        ({"validation": 0.0}, "validation"),
        ({"validation": 1.0}, "validation"),
        ({"test": float("nan")}, "test"),
        ({"limit": 0}, "limit"),
        ({"test_limit": -1}, "test_limit"),
        ({"seed": -1}, "seed"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, float], key: str) -> None:
    with pytest.raises(InputError, match=rf"^{key}: .* is not allowed; use "):
        SplitOptions(**options)  # type: ignore[arg-type]


def test_too_few_images_of_a_class() -> None:
    labels = _labels([10, 2])
    with pytest.raises(DataError, match=r"somewhere: class 'class 1' \(label 1\) has 2 images; .* at least 3"):
        _split(labels)
    assert len(_split(labels, labels).validation) == 2  # with a test split of its own, two are enough
    with pytest.raises(DataError, match=r"'class 1' \(label 1\) has no images"):
        _split(np.array([0, 0, 0, 2, 2, 2], dtype=np.int64))


def test_too_small_a_limit() -> None:
    with pytest.raises(DataError, match=r"limit: 3 is not allowed; use at least 4"):
        _split(_labels([10, 10]), limit=3)
    assert len(_split(_labels([10, 10]), limit=4).train) == 2


def test_unknown_options_are_refused_when_read_from_a_job() -> None:
    from pydantic import TypeAdapter, ValidationError

    with pytest.raises(ValidationError, match="limt"):
        TypeAdapter(SplitOptions).validate_python({"limt": 5})
    assert TypeAdapter(SplitOptions).validate_python({"limit": 5}) == SplitOptions(limit=5)
