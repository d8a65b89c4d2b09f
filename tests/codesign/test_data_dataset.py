"""The data set itself: checks, statistics, fingerprint; and what readers share."""

from __future__ import annotations

import pickle
from dataclasses import is_dataclass, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from codesign.data import Dataset, DataShape, Split, SplitOptions
from codesign.data.dataset import Images, IntArray, content_hash
from codesign.data.source import Source, array_part, as_images, find_classes, to_labels
from codesign.errors import DataError
from codesign.plugins import options_model
from codesign.registry import lookup, names


def test_every_registered_reader_has_options_and_two_methods() -> None:
    assert {"digits", "fashion-mnist", "function", "idx", "image-folder", "image-parquet", "npz"} <= set(names("data"))
    for name in names("data"):
        reader = lookup("data", name)
        assert is_dataclass(reader)
        assert reader.__dataclass_params__.frozen  # type: ignore[attr-defined]
        assert "split" in options_model(reader).model_fields
        assert callable(reader.describe)  # type: ignore[attr-defined]
        assert callable(reader.load)  # type: ignore[attr-defined]


def _split(n: int, seed: int = 0, dtype: type = np.uint8, channels: int = 3) -> Split:
    rng = np.random.default_rng(seed)
    images: Images = rng.integers(0, 256, (n, channels, 4, 5)).astype(dtype)
    return Split(images, np.arange(n, dtype=np.int64) % 2)


def _dataset(**changes: Split) -> Dataset:
    splits = {"train": _split(6), "validation": _split(4, 1), "test": _split(2, 2)} | changes
    return Dataset.of("made up", **splits, classes=("a", "b"))


def test_shape() -> None:
    dataset = _dataset()
    assert dataset.shape == DataShape(3, 4, 5, 2)
    assert dataset.shape.image_shape == dataset.image_shape == (3, 4, 5)
    assert dataset.n_classes == 2
    assert len(dataset.train) == 6


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_statistics_equal_numpy_over_the_train_split(dtype: type) -> None:
    dataset = _dataset(train=_split(7, 3, dtype), validation=_split(2, 4, dtype), test=_split(2, 4, dtype))
    images = dataset.train.images.astype(np.float64)
    np.testing.assert_allclose(dataset.mean, images.mean(axis=(0, 2, 3)), rtol=1e-12)
    np.testing.assert_allclose(dataset.std, images.std(axis=(0, 2, 3)), rtol=1e-12)
    assert all(type(value) is float for value in (*dataset.mean, *dataset.std))


def test_statistics_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = _dataset().std
    monkeypatch.setattr("codesign.data.dataset._CHUNK_ELEMENTS", 100)
    np.testing.assert_allclose(_dataset().std, expected, rtol=1e-12)


def test_std_of_a_constant_channel_is_one() -> None:
    images = np.full((4, 2, 3, 3), np.float32(0.1))
    images[:, 1] = np.arange(4, dtype=np.float32)[:, None, None]
    split = Split(images, np.array([0, 1, 0, 1]))
    dataset = Dataset.of("constant", split, split, split, ("a", "b"))
    assert dataset.std[0] == 1.0
    assert dataset.std[1] == pytest.approx(np.arange(4).std())


def test_fingerprint_follows_content_alone() -> None:
    dataset = _dataset()
    assert _dataset().fingerprint == dataset.fingerprint
    assert len(dataset.fingerprint) == 64
    reordered: Images = np.asfortranarray(dataset.train.images)  # type: ignore[assignment]
    strided = Split(reordered, dataset.train.labels)
    assert _dataset(train=strided).fingerprint == dataset.fingerprint
    changed = dataset.train.images.copy()
    changed[0, 0, 0, 0] ^= 1
    relabelled = 1 - dataset.test.labels
    others = [
        _dataset(train=Split(changed, dataset.train.labels)),
        _dataset(test=Split(dataset.test.images, relabelled)),
        _dataset(train=dataset.validation, validation=dataset.train),
    ]
    assert len({dataset.fingerprint, *(other.fingerprint for other in others)}) == 4
    assert content_hash(3, dataset.train, dataset.validation, dataset.test) != dataset.fingerprint


def test_fingerprint_is_the_same_on_every_machine() -> None:
    images = np.arange(2 * 1 * 2 * 2, dtype=np.uint8).reshape(2, 1, 2, 2)
    split = Split(images, np.array([0, 1]))
    assert content_hash(2, split, split, split) == "5e6e3cdba41e7cd7e7f4cb3f28e240978ab39b03817d7b509e9ff60e9af10535"


def test_dataset_survives_pickling() -> None:
    dataset = _dataset()
    assert dataset.mean
    again = pickle.loads(pickle.dumps(dataset))
    assert again.mean == dataset.mean
    assert content_hash(2, again.train, again.validation, again.test) == dataset.fingerprint


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (np.zeros((2, 4, 4), np.uint8), np.zeros(2, np.int64), "must have shape"),
        (np.zeros((2, 1, 4, 4), np.float64), np.zeros(2, np.int64), "uint8 or float32"),
        (np.zeros((2, 1, 4, 4), np.uint8), np.zeros(3, np.int64), "2 images need labels of shape"),
        (np.zeros((2, 1, 4, 4), np.uint8), np.zeros(2, np.int32), "of int64"),
        (np.zeros((0, 1, 4, 4), np.uint8), np.zeros(0, np.int64), "empty"),
    ],
)
def test_a_split_checks_its_arrays(images: Images, labels: NDArray[np.int64], message: str) -> None:
    with pytest.raises(DataError, match=message):
        Split(images, labels)


def test_a_dataset_checks_its_splits() -> None:
    with pytest.raises(DataError, match="images of the test split are"):
        _dataset(test=_split(2, channels=1))
    with pytest.raises(DataError, match="images of the validation split are"):
        _dataset(validation=_split(2, dtype=np.float32))
    with pytest.raises(DataError, match=r"labels of the test split run from 0 to 2; .* 0\.\.1"):
        _dataset(test=Split(_split(2).images, np.array([0, 2])))
    with pytest.raises(DataError, match="at least 2"):
        replace(_dataset(), classes=("a",))


def test_labels_from_strings_and_numbers() -> None:
    words = np.array(["dog", "cat", "dog"])
    assert find_classes(words, "x") == ("cat", "dog")
    assert to_labels(words, ("cat", "dog"), "x").tolist() == [1, 0, 1]
    assert find_classes(np.array([2, 0]), "x") == ("0", "1", "2")
    assert to_labels(np.array([[2.0], [0.0]]), ("0", "1", "2"), "x").tolist() == [2, 0]


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.array([0, 5]), r"x: row 1 has label 5; labels must lie in 0\.\.1"),
        (np.array([0, -1]), "row 1 has label -1"),
        (np.array([0, 0.5]), "row 1 has label 0.5; labels must be whole"),
        (np.array([0, np.nan]), "row 1 has label nan"),
        (np.array(["a", "c"]), r"label of row 1: 'c' is not allowed; use one of a, b"),
        (np.zeros((2, 2), int), r"shape \(2, 2\)"),
        (np.zeros(2, complex), "complex"),
    ],
)
def test_labels_that_are_wrong(labels: NDArray[np.int64], message: str) -> None:
    with pytest.raises(DataError, match=message):
        to_labels(labels, ("a", "b"), "x")


def test_absurd_labels_do_not_make_absurdly_many_classes() -> None:
    with pytest.raises(DataError, match="row 1 has label 1000000000000"):
        find_classes(np.array([0, 10**12]), "x")
    with pytest.raises(DataError, match="holds no images"):
        find_classes(np.array([], int), "x")


@pytest.mark.parametrize(
    ("shape", "layout", "expected"),
    [
        ((5, 6, 7), "auto", (5, 1, 6, 7)),
        ((5, 6, 7, 3), "auto", (5, 3, 6, 7)),
        ((5, 3, 6, 7), "auto", (5, 3, 6, 7)),
        ((5, 3, 6, 3), "hwc", (5, 3, 3, 6)),
        ((5, 12, 6, 7), "chw", (5, 12, 6, 7)),
    ],
)
def test_layouts(shape: tuple[int, ...], layout: str, expected: tuple[int, ...]) -> None:
    array = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    images = as_images(array, "x", layout)  # type: ignore[arg-type]
    assert images.shape == expected
    hwc = len(shape) == 4 and images.shape != shape
    assert np.array_equal(images, array.transpose(0, 3, 1, 2) if hwc else array.reshape(expected))


@pytest.mark.parametrize("shape", [(5, 3, 6, 3), (5, 12, 6, 7), (5, 6), (0, 4, 4)])
def test_layouts_that_are_unclear_or_wrong(shape: tuple[int, ...]) -> None:
    with pytest.raises(DataError, match=r"^x: "):
        as_images(np.zeros(shape, np.uint8), "x")


@given(st.sampled_from(["bool", "uint8", "int16", "int64", "float16", "float64"]))
def test_dtypes(dtype: str) -> None:
    array = (np.arange(18).reshape(2, 3, 3) % 2).astype(dtype)
    images = as_images(array, "x")
    assert images.dtype == (np.uint8 if dtype in ("bool", "uint8") else np.float32)
    assert np.array_equal(images[:, 0], array)


def test_not_a_number_is_refused_with_its_row() -> None:
    images = np.zeros((8, 1, 2, 2), np.float32)
    images[5, 0, 1, 1] = np.nan
    part = array_part(images, np.arange(8, dtype=np.int64) % 2, "there", None)
    with pytest.raises(DataError, match="there: the image in row 5 holds NaN"):
        Source("x", ("a", "b"), part).dataset(SplitOptions())
    beyond = as_images(np.full((2, 2, 2), 1e300), "x")
    with pytest.raises(DataError, match="infinite"):
        array_part(beyond, np.zeros(2, np.int64), "x", None).fetch(np.array([0]))


def test_only_the_rows_in_use_are_fetched() -> None:
    fetched: list[int] = []
    images = np.arange(40, dtype=np.uint8).reshape(40, 1, 1, 1)
    part = array_part(images, np.arange(40, dtype=np.int64) % 2, "x", None)

    def fetch(rows: IntArray) -> Images:
        fetched.extend(rows.tolist())
        return part.fetch(rows)

    counting = replace(part, fetch=fetch)
    dataset = Source("x", ("a", "b"), counting).dataset(SplitOptions(limit=10, test_limit=4))
    assert len(fetched) == 14
    for split in (dataset.train, dataset.validation, dataset.test):
        assert np.array_equal(split.images[:, 0, 0, 0] % 2, split.labels)


def test_images_and_labels_of_different_number() -> None:
    with pytest.raises(DataError, match="x: 3 images but 2 labels"):
        array_part(np.zeros((3, 1, 2, 2), np.uint8), np.zeros(2, np.int64), "x", None)


def test_one_class_is_not_enough() -> None:
    part = array_part(np.zeros((5, 1, 2, 2), np.uint8), np.zeros(5, np.int64), "x", None)
    with pytest.raises(DataError, match="x: all images are of one class"):
        Source("x", ("a",), part).dataset(SplitOptions())
