"""Encoded images to arrays, with Pillow."""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from codesign.data.dataset import Images
from codesign.errors import DataError

Encoded = bytes | Path
Mode = Literal["L", "RGB"]
Name = Callable[
    [int], str
]  # called for messages alone: naming a row of a shard costs as much as a tenth of decoding it

_GREY_MODES = frozenset({"1", "L", "LA", "La"})
_THREADED_BYTES = 32_768  # below about this size the interpreter's lock costs more than a second thread brings
_LOOKED_AT = 16


def common_mode(encoded: Iterable[Encoded], name: Name) -> Mode:
    """ "L" (grey) if the first images are all grey, else "RGB". Reads headers alone."""
    for i, (one, _) in enumerate(zip(encoded, range(_LOOKED_AT), strict=False)):
        with _open(one, name, i) as image:
            if image.mode not in _GREY_MODES:
                return "RGB"
    return "L"


def decode(encoded: Encoded, mode: Mode, size: int | None, name: Name, position: int = 0) -> NDArray[np.uint8]:
    """One image as an array of shape (C, H, W).

    Args:
        encoded: the file's bytes, or its path.
        mode: "L" for one channel, "RGB" for three; other images are converted.
        size: stretch to this height and width in pixels, or None.
        name: gives the file or row of a position, for messages.
        position: of this image, for messages.

    Raises:
        DataError: the image is broken, truncated, or has more than 8 bits per channel.
    """
    with _open(encoded, name, position) as image:
        try:
            picture = _converted(image, mode)
        except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
            raise DataError(f"{name(position)}: the image is broken or truncated ({error})") from error
        if size is not None and picture.size != (size, size):
            picture = picture.resize((size, size), Image.Resampling.BILINEAR)
        pixels = np.asarray(picture)
    return pixels[None] if mode == "L" else pixels.transpose(2, 0, 1)


def decode_all(encoded: Sequence[Encoded], mode: Mode, size: int | None, name: Name) -> NDArray[np.uint8]:
    """Images of one size as an array of shape (n, C, H, W).

    Args:
        encoded: file contents or paths.
        mode: see `decode`.
        size: see `decode`.
        name: see `decode`.

    Raises:
        DataError: an image is broken, or differs in size from the first.
    """
    first = decode(encoded[0], mode, size, name)
    images = np.empty((len(encoded), *first.shape), dtype=np.uint8)

    def fill(positions: range) -> None:
        for i in positions:
            image = decode(encoded[i], mode, size, name, i)
            if image.shape != first.shape:
                found, expected = (f"{shape[2]} x {shape[1]}" for shape in (image.shape, first.shape))
                advice = "set `size` to resize them all"
                raise DataError(f"{name(i)}: the image is {found} pixels, but {name(0)} is {expected}; {advice}")
            images[i] = image

    n_threads = _thread_count(encoded)
    if n_threads == 1:
        fill(range(len(encoded)))
        return images
    step = -(-len(encoded) // (4 * n_threads))
    blocks = [range(start, min(start + step, len(encoded))) for start in range(0, len(encoded), step)]
    with ThreadPoolExecutor(n_threads) as pool:
        for _ in pool.map(fill, blocks):
            pass
    return images


def resize_arrays(images: Images, size: int) -> Images:
    """Stretch images of shape (n, C, H, W) to (n, C, size, size), channel by channel, bilinear and antialiased."""
    n, channels, height, width = images.shape
    resized = np.empty((n * channels, size, size), dtype=images.dtype)
    planes = images.reshape(n * channels, height, width)
    for i in range(n * channels):
        resized[i] = Image.fromarray(planes[i]).resize((size, size), Image.Resampling.BILINEAR)
    return resized.reshape(n, channels, size, size)


def _open(encoded: Encoded, name: Name, position: int) -> Image.Image:
    try:
        image = Image.open(io.BytesIO(encoded) if isinstance(encoded, bytes) else encoded)
    except UnidentifiedImageError as error:
        raise DataError(f"{name(position)}: not an image that Pillow can read") from error
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(f"{name(position)}: the image cannot be read ({error})") from error
    if image.mode.startswith(("I", "F")):
        image.close()
        raise DataError(f"{name(position)}: more than 8 bits per channel (mode {image.mode}); convert the image first")
    return image


def _converted(image: Image.Image, mode: Mode) -> Image.Image:
    image.load()
    if image.mode == mode:
        return image
    with warnings.catch_warnings():  # Pillow remarks on palettes with transparency; transparency is dropped anyway
        warnings.simplefilter("ignore", UserWarning)
        return image.convert(mode)


def _thread_count(encoded: Sequence[Encoded]) -> int:
    sampled = encoded[:: max(1, len(encoded) // 32)]
    n_bytes = [len(one) if isinstance(one, bytes) else one.stat().st_size for one in sampled]
    if len(encoded) < 64 or sum(n_bytes) < _THREADED_BYTES * len(n_bytes):
        return 1
    return min(8, os.cpu_count() or 1)
