"""Readers of encoded images: folders and Parquet files, good and broken."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray
from PIL import Image

from codesign.data import DataShape, ImageFolder, ImageParquet, SplitOptions
from codesign.data.images import decode, decode_all, resize_arrays
from codesign.errors import DataError

RNG = np.random.default_rng(0)


def _pixels(n: int, side: int = 6, channels: int = 3) -> NDArray[np.uint8]:
    """Random images, shape (n, side, side, channels), the first pixel of each its number."""
    pixels = RNG.integers(0, 256, (n, side, side, channels)).astype(np.uint8)
    pixels[:, 0, 0] = np.arange(n)[:, None]
    return pixels


def _encode(pixels: NDArray[np.uint8], kind: str = "PNG") -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels.squeeze()).save(file, kind)
    return file.getvalue()


def _name(i: int) -> str:
    return f"image {i}"


# decoding


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_decode_gives_pillows_pixels(mode: Any) -> None:
    pixels = _pixels(1)[0]
    expected = np.asarray(Image.fromarray(pixels).convert(mode))
    found = decode(_encode(pixels), mode, None, _name)
    assert np.array_equal(found, expected[None] if mode == "L" else expected.transpose(2, 0, 1))


def test_decode_with_threads_equals_without(monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = _pixels(100)
    encoded = [_encode(one) for one in pixels]
    alone = decode_all(encoded, "RGB", None, _name)
    assert np.array_equal(alone, pixels.transpose(0, 3, 1, 2))
    monkeypatch.setattr("codesign.data.images._THREADED_BYTES", 1)
    assert np.array_equal(decode_all(encoded, "RGB", None, _name), alone)
    encoded[77] = b"broken"
    with pytest.raises(DataError, match="image 77: not an image"):
        decode_all(encoded, "RGB", None, _name)


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_decode_truncated(kind: str) -> None:
    encoded = _encode(_pixels(1, 64)[0], kind)
    with pytest.raises(DataError, match="image 0: the image is broken or truncated"):
        decode(encoded[: len(encoded) // 2], "RGB", None, _name)


def test_decode_palettes_with_transparency_and_deep_images() -> None:
    palette = Image.fromarray(_pixels(1)[0]).quantize(8)
    file = io.BytesIO()
    palette.save(file, "PNG", transparency=bytes([0, 128, 255, 255, 255, 255, 255, 255]))
    assert decode(file.getvalue(), "RGB", None, _name).shape == (3, 6, 6)
    with pytest.raises(DataError, match="image 0: more than 8 bits per channel"):
        decode(_encode(np.zeros((4, 4), np.uint16)), "L", None, _name)


def test_resize() -> None:
    images = _pixels(3, 8).transpose(0, 3, 1, 2)
    resized = resize_arrays(images, 5)
    assert resized.shape == (3, 3, 5, 5)
    encoded = [_encode(image.transpose(1, 2, 0)) for image in images]
    assert np.array_equal(resized, decode_all(encoded, "RGB", 5, _name)), "arrays and files are resized alike"
    ramp = np.broadcast_to(np.arange(8, dtype=np.float32), (1, 1, 8, 8))
    np.testing.assert_allclose(resize_arrays(np.ascontiguousarray(ramp), 4)[0, 0, 0, 1:3], [2.5, 4.5], atol=1e-5)


# folders


def _folder(path: Path, counts: dict[str, int], side: int = 6, channels: int = 3) -> Path:
    for name, count in counts.items():
        (path / name).mkdir(parents=True, exist_ok=True)
        for i, pixels in enumerate(_pixels(count, side, channels)):
            (path / name / f"{i:03}.png").write_bytes(_encode(pixels))
    return path


def test_folder_of_classes(tmp_path: Path) -> None:
    _folder(tmp_path, {"dog": 10, "cat": 10})
    (tmp_path / "cat" / "notes.txt").write_text("not an image")
    (tmp_path / ".cache").mkdir()
    reader = ImageFolder(tmp_path)
    assert reader.describe() == DataShape(3, 6, 6, 2)
    dataset = reader.load()
    assert dataset.classes == ("cat", "dog")
    assert (len(dataset.train), len(dataset.validation), len(dataset.test)) == (13, 3, 4)
    assert reader.load().fingerprint == dataset.fingerprint


def test_folder_of_grey_images(tmp_path: Path) -> None:
    reader = ImageFolder(_folder(tmp_path, {"a": 4, "b": 4}, channels=1))
    assert reader.describe() == DataShape(1, 6, 6, 2)
    assert reader.load().image_shape == (1, 6, 6)


def test_folder_with_train_and_test(tmp_path: Path) -> None:
    counts = {"a": 5, "b": 5}
    _folder(tmp_path / "train", counts)
    _folder(tmp_path / "val", {"a": 2, "b": 2})
    dataset = ImageFolder(tmp_path).load()
    assert (len(dataset.train), len(dataset.validation), len(dataset.test)) == (8, 2, 4)
    _folder(tmp_path / "test", {"a": 3, "b": 3})
    dataset = ImageFolder(tmp_path).load()
    assert len(dataset.test) == 6
    assert len(dataset.train) + len(dataset.validation) == 14, "with a test/, val/ joins train/"


def test_folder_errors(tmp_path: Path) -> None:
    def refuses(message: str, **options: Any) -> None:
        for check in (ImageFolder(tmp_path, **options).describe, ImageFolder(tmp_path, **options).load):
            with pytest.raises(DataError, match=message):
                check()

    with pytest.raises(DataError, match="cannot be read as a folder"):
        ImageFolder(tmp_path / "absent").describe()
    refuses("holds no class folders")
    _folder(tmp_path, {"a": 5, "b": 5, "empty": 0})
    refuses(r"empty: holds no images")
    (tmp_path / "empty").rmdir()
    (tmp_path / "b" / "003.png").write_bytes(_encode(_pixels(1, 7)[0]))
    with pytest.raises(DataError, match=r"003\.png: the image is 7 x 7 pixels, but .*\.png is 6 x 6; set `size`"):
        ImageFolder(tmp_path).load()
    assert ImageFolder(tmp_path, size=4).load().image_shape == (3, 4, 4)
    (tmp_path / "b" / "003.png").write_bytes(_encode(_pixels(1)[0])[:60])
    with pytest.raises(DataError, match=r"003\.png: the image is broken or truncated"):
        ImageFolder(tmp_path).load()
    _folder(tmp_path, {"b": 5})
    _folder(tmp_path, {"lonely": 1})
    with pytest.raises(DataError, match=r"class 'lonely' \(label 2\) has 1 image;"):
        ImageFolder(tmp_path).load()


def test_folder_with_an_unknown_class_in_test(tmp_path: Path) -> None:
    _folder(tmp_path / "train", {"cat": 3, "dog": 3})
    _folder(tmp_path / "test", {"cats": 3, "dog": 3})
    with pytest.raises(DataError, match="class folder: 'cats' is not one of cat, dog; did you mean 'cat'"):
        ImageFolder(tmp_path).describe()


# Parquet


def _parquet(
    path: Path,
    n: int = 30,
    *,
    labels: Sequence[object] | None = None,
    encoded: Sequence[bytes | None] | None = None,
    columns: tuple[str, str] = ("img", "label"),
    names: list[str] | None = None,
    plain: bool = False,
) -> NDArray[np.uint8]:
    pixels = _pixels(n)
    bytes_of = [_encode(one) for one in pixels] if encoded is None else encoded
    images: list[object] = [*bytes_of] if plain else [{"bytes": one, "path": None} for one in bytes_of]
    kind = pa.binary() if plain else pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    given = labels if labels is not None else [i % 3 for i in range(n)]
    table = pa.table({columns[0]: pa.array(images, type=kind), columns[1]: pa.array(given)})
    if names:
        info = {"info": {"features": {columns[1]: {"names": names, "_type": "ClassLabel"}}}}
        table = table.replace_schema_metadata({"huggingface": json.dumps(info)})
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, row_group_size=7)
    return pixels


def test_parquet(tmp_path: Path) -> None:
    pixels = _parquet(tmp_path / "train.parquet")
    test_pixels = _parquet(tmp_path / "test.parquet", 9)
    reader = ImageParquet(tmp_path / "train.parquet", tmp_path / "test.parquet")
    assert reader.describe() == DataShape(3, 6, 6, 3)
    dataset = reader.load()
    assert (len(dataset.train), len(dataset.validation), len(dataset.test)) == (24, 6, 9)
    assert dataset.classes == ("0", "1", "2")
    for split, expected in ((dataset.train, pixels), (dataset.validation, pixels), (dataset.test, test_pixels)):
        numbers = split.images[:, 0, 0, 0]
        assert np.array_equal(split.images, expected[numbers].transpose(0, 3, 1, 2))
        assert np.array_equal(split.labels, numbers % 3)


def test_parquet_decodes_only_what_it_uses(tmp_path: Path) -> None:
    pixels = _pixels(60)
    path = tmp_path / "t.parquet"
    _parquet(path, 60, encoded=[_encode(one) for one in pixels])
    options = SplitOptions(limit=12, test_limit=6)
    dataset = ImageParquet(path, split=options).load()
    used = {*dataset.train.images[:, 0, 0, 0], *dataset.validation.images[:, 0, 0, 0], *dataset.test.images[:, 0, 0, 0]}
    assert len(used) == 18
    encoded = [_encode(one) if i in used or i < 16 else b"broken" for i, one in enumerate(pixels)]
    _parquet(path, 60, encoded=encoded)
    assert ImageParquet(path, split=options).load().fingerprint == dataset.fingerprint
    with pytest.raises(DataError, match=r"t\.parquet: row \d+: not an image"):
        ImageParquet(path).load()


def test_parquet_class_names_from_the_hub(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    _parquet(path, names=["ant", "bee", "cow"])
    assert ImageParquet(path).load().classes == ("ant", "bee", "cow")
    assert ImageParquet(path, class_names=("x", "y", "z")).load().classes == ("x", "y", "z")
    _parquet(path, names=["ant", "bee"])
    with pytest.raises(DataError, match=r"row 2 has label 2; labels must lie in 0\.\.1"):
        ImageParquet(path).load()


@pytest.mark.parametrize("plain", [True, False])
def test_parquet_other_columns(tmp_path: Path, plain: bool) -> None:
    path = tmp_path / "t.parquet"
    words = [("red", "blue")[i % 2] for i in range(30)]
    _parquet(path, columns=("scan", "fine_label"), labels=words, plain=plain)
    reader = ImageParquet(path)
    assert reader.describe() == DataShape(3, 6, 6, 2)
    assert reader.load().classes == ("blue", "red")
    assert ImageParquet(path, image="scan", label="fine_label").load().fingerprint == reader.load().fingerprint
    with pytest.raises(DataError, match="image: 'scn' is not one of scan, fine_label; did you mean 'scan'"):
        ImageParquet(path, image="scn").describe()
    with pytest.raises(DataError, match="not encoded images"):
        ImageParquet(path, image="fine_label").describe()


def test_parquet_shards(tmp_path: Path) -> None:
    for i in range(3):
        _parquet(tmp_path / f"train-0000{i}-of-00003.parquet", 10 + i)
    _parquet(tmp_path / "validation-00000-of-00001.parquet", 12)
    dataset = ImageParquet(tmp_path).load()
    assert len(dataset.train) + len(dataset.validation) == 33
    assert len(dataset.test) == 12
    _parquet(tmp_path / "test-00000-of-00001.parquet", 9)
    dataset = ImageParquet(tmp_path).load()
    assert len(dataset.train) + len(dataset.validation) == 45
    assert len(dataset.test) == 9
    broken = [_encode(one) for one in _pixels(11)]
    broken[4] = b"\xff\xd8\xff broken"
    _parquet(tmp_path / "train-00001-of-00003.parquet", 11, encoded=broken)
    with pytest.raises(DataError, match=r"train-00001-of-00003\.parquet: row 4: "):
        ImageParquet(tmp_path).load()


def test_parquet_errors(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"

    def refuses(message: str, both: bool = True, **options: Any) -> None:
        reader = ImageParquet(path, **options)
        for check in (reader.describe, reader.load) if both else (reader.load,):
            with pytest.raises(DataError, match=message):
                check()

    refuses("no such file")
    path.write_bytes(b"")
    refuses("not a Parquet file, or a truncated one")
    _parquet(path)
    path.write_bytes(path.read_bytes()[:-200])
    refuses("not a Parquet file, or a truncated one")
    pq.write_table(pa.table({"label": [0, 1]}), path)
    refuses("0 columns hold encoded images, among label")
    _parquet(path, columns=("img", "kind"))
    refuses("no label column found among img, kind")
    _parquet(path, labels=[None, *([0, 1, 2] * 10)[:29]])
    refuses("row 0 has no value in column 'label'", both=True)
    encoded: list[bytes | None] = [_encode(one) for one in _pixels(30)]
    _parquet(path, encoded=[*encoded[:20], None, *encoded[21:]])
    refuses("row 20 holds no image bytes", both=False)
    _parquet(path, encoded=[*encoded[:29], _encode(_pixels(1, 9)[0])])
    refuses("the image differs in size from others|the image is . x . pixels", both=False)
    assert ImageParquet(path, size=5).load().image_shape == (3, 5, 5)
    _parquet(path, 0, labels=pa.array([], pa.int64()))
    refuses("holds no rows")
    path.unlink()
    path.mkdir()
    refuses("holds no train-")


def test_parquet_damaged_inside(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    _parquet(path, 200)
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 2000] = bytes(2000)
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"t\.parquet"):
        ImageParquet(path).load()


def test_describing_parquet_does_not_import_pandas(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    _parquet(path)
    code = (
        f"import sys; from codesign.data import ImageParquet; r = ImageParquet({str(path)!r}); r.describe(); r.load(); "
        "print([name for name in ('sklearn', 'pandas', 'torch') if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
