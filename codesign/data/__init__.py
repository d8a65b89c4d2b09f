"""Data sets: readers that check fast and load on demand, with one fixed split."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from codesign.data.dataset import DataReader, Dataset, DataShape, Split
    from codesign.data.digits import Digits
    from codesign.data.function import Function
    from codesign.data.idx import FashionMnist, Idx
    from codesign.data.image_folder import ImageFolder
    from codesign.data.image_parquet import ImageParquet
    from codesign.data.npz import Npz
    from codesign.data.split import SplitOptions

_WHERE = {
    "DataReader": "dataset",
    "DataShape": "dataset",
    "Dataset": "dataset",
    "Digits": "digits",
    "FashionMnist": "idx",
    "Function": "function",
    "Idx": "idx",
    "ImageFolder": "image_folder",
    "ImageParquet": "image_parquet",
    "Npz": "npz",
    "Split": "dataset",
    "SplitOptions": "split",
}

__all__ = [
    "DataReader",
    "DataShape",
    "Dataset",
    "Digits",
    "FashionMnist",
    "Function",
    "Idx",
    "ImageFolder",
    "ImageParquet",
    "Npz",
    "Split",
    "SplitOptions",
]


def __getattr__(name: str) -> object:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f"{__name__}.{_WHERE[name]}"), name)
    return value
