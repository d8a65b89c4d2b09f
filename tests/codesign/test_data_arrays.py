"""Readers of arrays: digits, IDX, .npz, a user's function; each against made-up files, good and broken."""

from __future__ import annotations

import gzip
import io
import struct
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from codesign.data import DataShape, Digits, FashionMnist, Function, Idx, Npz, SplitOptions
from codesign.errors import DataError

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (40, 6, 5)).astype(np.uint8)
LABELS = (np.arange(40) % 4).astype(np.uint8)
TEST_IMAGES, TEST_LABELS = IMAGES[:12, ::-1].copy(), LABELS[:12]


def _write_idx(path: Path, array: NDArray[Any], magic: bytes | None = None, cut: int = 0) -> None:
    codes = {"uint8": 0x08, "float32": 0x0D}
    head = magic or bytes([0, 0, codes[array.dtype.name], array.ndim])
    content = (
        head + struct.pack(f">{array.ndim}I", *array.shape) + array.astype(array.dtype.newbyteorder(">")).tobytes()
    )
    content = content[: len(content) - cut]
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


def _idx_folder(path: Path, suffix: str = "", separator: str = "-") -> Path:
    for which, images, labels in (("train", IMAGES, LABELS), ("t10k", TEST_IMAGES, TEST_LABELS)):
        _write_idx(path / f"{which}-images{separator}idx3-ubyte{suffix}", images)
        _write_idx(path / f"{which}-labels{separator}idx1-ubyte{suffix}", labels)
    return path


def _same_pairs(found_images: NDArray[Any], found_labels: NDArray[Any], images: NDArray[Any], labels: Any) -> bool:
    """Whether two sets of labelled images are equal but for their order."""
    pairs = [
        sorted((image.astype(np.float32).tobytes(), int(label)) for image, label in zip(*both, strict=True))
        for both in ((found_images, found_labels), (images, labels))
    ]
    return pairs[0] == pairs[1]


# digits


def test_digits() -> None:
    reader = Digits()
    assert reader.describe() == DataShape(1, 8, 8, 10)
    dataset = reader.load()
    assert dataset.shape == reader.describe()
    assert sum(map(len, (dataset.train, dataset.validation, dataset.test))) == 1797
    assert dataset.train.images.dtype == np.uint8
    assert dataset.train.images.max() == 16
    assert dataset.fingerprint == Digits().load().fingerprint
    assert dataset.fingerprint != Digits(split=SplitOptions(seed=1)).load().fingerprint


def test_digits_resized() -> None:
    reader = Digits(size=12, split=SplitOptions(limit=20))
    assert reader.describe() == DataShape(1, 12, 12, 10)
    assert reader.load().image_shape == (1, 12, 12)


def test_digits_damaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = tmp_path / "digits.csv.gz"
    broken.write_bytes(b"\x1f\x8b\x08 nonsense")
    monkeypatch.setattr("codesign.data.digits._file", lambda: broken)
    with pytest.raises(DataError, match=r"digits\.csv\.gz: cannot be read .* reinstall"):
        Digits().describe()
    with gzip.open(broken, "wt") as file:
        file.write("1,2,3\n4,5,6\n")
    with pytest.raises(DataError, match=r"shape \(2, 3\)"):
        Digits().load()


def test_digits_without_scikit_learn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(DataError, match="pip install scikit-learn"):
        Digits().describe()


@pytest.mark.slow
def test_digits_equal_scikit_learns() -> None:
    from sklearn.datasets import load_digits

    expected = load_digits()
    dataset = Digits().load()
    splits = (dataset.train, dataset.validation, dataset.test)
    images = np.concatenate([split.images for split in splits])[:, 0]
    labels = np.concatenate([split.labels for split in splits])
    assert _same_pairs(images, labels, expected.images, expected.target)


def test_reading_digits_imports_nothing_heavy() -> None:
    code = (
        "import sys; from codesign.data import Digits; Digits().load(); "
        "print([name for name in ('sklearn', 'pandas', 'PIL', 'pyarrow', 'torch', 'scipy') if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


# IDX


@pytest.mark.parametrize(("suffix", "separator"), [("", "-"), (".gz", "-"), ("", "."), (".gz", ".")])
def test_idx(tmp_path: Path, suffix: str, separator: str) -> None:
    reader = Idx(_idx_folder(tmp_path, suffix, separator))
    assert reader.describe() == DataShape(1, 6, 5, 4)
    dataset = reader.load()
    assert (len(dataset.train), len(dataset.validation), len(dataset.test)) == (32, 8, 12)
    assert dataset.classes == ("0", "1", "2", "3")
    assert dataset.train.images.dtype == np.uint8
    assert _same_pairs(dataset.test.images[:, 0], dataset.test.labels, TEST_IMAGES, TEST_LABELS)
    pool = np.concatenate([dataset.train.images, dataset.validation.images])[:, 0]
    assert _same_pairs(pool, np.concatenate([dataset.train.labels, dataset.validation.labels]), IMAGES, LABELS)


def test_idx_without_a_test_split_cuts_one(tmp_path: Path) -> None:
    _idx_folder(tmp_path)
    for path in tmp_path.glob("t10k*"):
        path.unlink()
    dataset = Idx(tmp_path, class_names=("a", "b", "c", "d")).load()
    assert len(dataset.test) == 8
    assert dataset.classes == ("a", "b", "c", "d")


def test_idx_of_floats(tmp_path: Path) -> None:
    _idx_folder(tmp_path)
    _write_idx(tmp_path / "train-images-idx3-ubyte", IMAGES.astype(np.float32) / 7)
    _write_idx(tmp_path / "t10k-images-idx3-ubyte", TEST_IMAGES.astype(np.float32) / 7)
    dataset = Idx(tmp_path).load()
    assert dataset.test.images.dtype == np.float32
    assert _same_pairs(dataset.test.images[:, 0], dataset.test.labels, TEST_IMAGES.astype(np.float32) / 7, TEST_LABELS)


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_idx_broken_files(tmp_path: Path, suffix: str) -> None:
    reader = Idx(_idx_folder(tmp_path, suffix))
    images = tmp_path / f"train-images-idx3-ubyte{suffix}"
    labels = tmp_path / f"train-labels-idx1-ubyte{suffix}"

    _write_idx(images, IMAGES, magic=b"\x89PNG")
    for check in (reader.describe, reader.load):
        with pytest.raises(DataError, match=r"train-images.*: not an IDX file \(it starts with 89 50 4e 47\)"):
            check()
    _write_idx(images, IMAGES, cut=7)
    for check in (reader.describe, reader.load):
        with pytest.raises(DataError, match=r"train-images.*: truncated or damaged"):
            check()
    images.write_bytes(b"")
    for check in (reader.describe, reader.load):
        with pytest.raises(DataError, match=r"train-images"):
            check()
    _write_idx(images, IMAGES)
    _write_idx(labels, LABELS[:-1])
    with pytest.raises(DataError, match=r"has 40 images, .* shape"):
        reader.describe()
    with pytest.raises(DataError, match="40 images but 39 labels"):
        reader.load()
    labels.unlink()
    with pytest.raises(DataError, match=r"no file train-labels-idx1-ubyte\[\.gz\]"):
        reader.describe()


def test_idx_cut_compressed_file(tmp_path: Path) -> None:
    reader = Idx(_idx_folder(tmp_path, ".gz"))
    path = tmp_path / "t10k-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:-40])
    for check in (reader.describe, reader.load):
        with pytest.raises(DataError, match="t10k-images"):
            check()


def test_idx_labels_out_of_range(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"train-labels.*row 2 has label 2; labels must lie in 0\.\.1"):
        Idx(_idx_folder(tmp_path), class_names=("a", "b")).load()
    _write_idx(tmp_path / "train-labels-idx1-ubyte", LABELS + 1)
    with pytest.raises(DataError, match=r"class '0' \(label 0\) has no images"):
        Idx(tmp_path).load()


def test_idx_no_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such folder"):
        Idx(tmp_path / "absent").describe()
    with pytest.raises(DataError, match="no file train-images"):
        Idx(tmp_path).describe()


def test_idx_two_sets_in_one_folder(tmp_path: Path) -> None:
    _idx_folder(tmp_path)
    _write_idx(tmp_path / "emnist-train-images-idx3-ubyte", IMAGES)
    with pytest.raises(DataError, match="several files could be 'train-images'"):
        Idx(tmp_path).describe()


def test_fashion_mnist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    labels = (np.arange(40) % 10).astype(np.uint8)
    _idx_folder(tmp_path, ".gz")
    _write_idx(tmp_path / "train-labels-idx1-ubyte.gz", labels)
    reader = FashionMnist(tmp_path)
    assert reader.describe() == DataShape(1, 6, 5, 10)
    assert reader.load().classes[9] == "Ankle boot"
    monkeypatch.setattr("codesign.data.idx._FASHION_FOLDER", tmp_path)
    assert FashionMnist().load().fingerprint == reader.load().fingerprint
    monkeypatch.setattr("codesign.data.idx._FASHION_FOLDER", tmp_path / "absent")
    with pytest.raises(DataError, match="apt-get install dataset-fashion-mnist"):
        FashionMnist().describe()


# npz


def _npz(path: Path, **arrays: NDArray[Any]) -> Path:
    np.savez_compressed(path, **arrays)  # type: ignore[arg-type]
    return path


@pytest.mark.parametrize(
    "names",
    [
        ("x_train", "y_train", "x_test", "y_test"),
        ("train_images", "train_labels", "test_images", "test_labels"),
    ],
)
def test_npz_with_a_test_split(tmp_path: Path, names: tuple[str, ...]) -> None:
    arrays = dict(zip(names, (IMAGES, LABELS, TEST_IMAGES, TEST_LABELS[:, None]), strict=True))
    reader = Npz(_npz(tmp_path / "data.npz", **arrays))
    assert reader.describe() == DataShape(1, 6, 5, 4)
    dataset = reader.load()
    assert dataset.name == "data"
    assert _same_pairs(dataset.test.images[:, 0], dataset.test.labels, TEST_IMAGES, TEST_LABELS)


def test_npz_validation_images_join_the_train_images(tmp_path: Path) -> None:
    path = _npz(
        tmp_path / "m.npz", x_train=IMAGES, y_train=LABELS, x_val=TEST_IMAGES, y_val=TEST_LABELS, x_test=TEST_IMAGES,
        y_test=TEST_LABELS,
    )  # fmt: skip
    dataset = Npz(path, split=SplitOptions(validation=0.25)).load()
    assert (len(dataset.train), len(dataset.validation), len(dataset.test)) == (39, 13, 12)


@pytest.mark.parametrize("layout", ["hwc", "chw"])
def test_npz_colour_and_string_labels(tmp_path: Path, layout: str) -> None:
    images = RNG.integers(0, 256, (20, 6, 5, 3)).astype(np.uint8)
    stored = images if layout == "hwc" else images.transpose(0, 3, 1, 2)
    words = np.array(["cat", "dog"])[np.arange(20) % 2]
    reader = Npz(_npz(tmp_path / "d.npz", images=stored, labels=words), size=8)
    assert reader.describe() == DataShape(3, 8, 8, 2)
    dataset = reader.load()
    assert dataset.classes == ("cat", "dog")
    assert dataset.image_shape == (3, 8, 8)


def test_npz_errors(tmp_path: Path) -> None:
    path = tmp_path / "d.npz"

    def refuses(message: str, both: bool = True) -> None:
        for check in (Npz(path).describe, Npz(path).load) if both else (Npz(path).load,):
            with pytest.raises(DataError, match=message):
                check()

    refuses("no such file")
    path.write_bytes(b"not a zip file")
    refuses(r"d\.npz: not a \.npz file")
    _npz(path, weights=IMAGES)
    refuses("holds weights; expected arrays x_train, y_train")
    _npz(path, x_train=IMAGES)
    refuses("has 'x_train' but no 'y_train'")
    _npz(path, images=IMAGES, labels=LABELS[:-1])
    refuses("40 images but 39 labels")
    images = IMAGES.astype(np.float64)
    images[7, 0, 0] = np.nan
    _npz(path, images=images, labels=LABELS)
    refuses(r"d\.npz: images: the image in row 7 holds NaN", both=False)
    _npz(path, images=IMAGES, labels=LABELS.astype(object))
    refuses(r"d\.npz: labels: cannot be read \(Object arrays")
    _npz(path, images=IMAGES[:0], labels=LABELS[:0])
    refuses("holds no images")
    _npz(path, images=IMAGES, labels=LABELS)
    path.write_bytes(path.read_bytes()[:-30])
    refuses("truncated")
    member = io.BytesIO()
    np.save(member, IMAGES)
    _npz(path, labels=LABELS)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("images.npy", member.getvalue()[:-50])
    refuses(r"d\.npz: images: (truncated: 1278 bytes, the header asks for 1328|cannot be read)")


# a user's function


@pytest.fixture
def user_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "my_data", raising=False)
    path = tmp_path / "my_data.py"
    path.write_text(
        "import numpy as np\n"
        "from codesign.data import Dataset, Split\n"
        "def arrays(n=40):\n"
        "    return np.arange(n * 16, dtype=float).reshape(n, 4, 4), np.arange(n) % 2\n"
        "def splits(n=40):\n"
        "    return {'train': arrays(n), 'test': arrays(6)}\n"
        "def dataset():\n"
        "    split = Split(np.zeros((4, 1, 4, 4), np.uint8), np.array([0, 1, 0, 1]))\n"
        "    return Dataset('mine', split, split, split, ('a', 'b'), 'not a real fingerprint')\n"
        "def wrong():\n"
        "    return 3\n"
        "def wrong_keys():\n"
        "    return {'train': arrays(), 'valid': arrays()}\n"
        "constant = 1\n",
        encoding="utf-8",
    )
    return path


@pytest.mark.usefixtures("user_module")
def test_function() -> None:
    reader = Function("my_data:arrays", {"n": 20})
    assert reader.describe() == DataShape(1, 4, 4, 2)
    dataset = reader.load()
    assert sum(map(len, (dataset.train, dataset.validation, dataset.test))) == 20
    assert dataset.train.images.dtype == np.float32
    assert len(Function("my_data:splits").load().test) == 6


@pytest.mark.usefixtures("user_module")
def test_function_that_returns_a_dataset() -> None:
    dataset = Function("my_data:dataset").load()
    assert dataset.name == "mine"
    assert len(dataset.fingerprint) == 64, "the fingerprint follows the content, whatever the function wrote there"
    with pytest.raises(DataError, match="leave out `size` and `split`"):
        Function("my_data:dataset", split=SplitOptions(limit=2)).load()


@pytest.mark.usefixtures("user_module")
@pytest.mark.parametrize(
    ("call", "message"),
    [
        ("my_data:array", "has no function 'array'; did you mean 'arrays'"),
        ("my_data:constant", "has no function 'constant'"),
        ("my_dat:arrays", "cannot import 'my_dat'"),
        ("my_data:wrong", "returned a int; it must return a codesign Dataset"),
        ("my_data:wrong_keys", "returned a dict with keys train, valid"),
    ],
)
def test_function_errors(call: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        Function(call).load()


def test_function_needs_a_module_and_a_name() -> None:
    with pytest.raises(DataError, match="call: 'load' is not allowed; use module:function"):
        Function("load")
