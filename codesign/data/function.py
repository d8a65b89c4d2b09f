"""A user's own function as a data set."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from codesign.data.dataset import Dataset, DataShape
from codesign.data.source import Part, Source, array_part, as_images, check_size, find_classes, to_labels
from codesign.data.split import SplitOptions
from codesign.errors import DataError, nearest

_RESULTS = "a codesign Dataset, (images, labels), or {'train': (images, labels), 'test': (images, labels)}"


@dataclass(frozen=True, slots=True)
class Function:
    """What a function returns: a `Dataset` as it is, or arrays that are checked and split like any other source.

    The function may return (images, labels), or a mapping of "train" and, if it has one, "test" to such pairs. Images
    have shape (n, H, W), (n, H, W, C) or (n, C, H, W); labels are whole numbers from 0, or strings.

    `describe` has to call the function; where that is slow, name your own class with `describe` and `load` as the
    data's `type` instead.

    Attributes:
        call: "module:function"; the module must be importable (codesign looks beside the job file too).
        options: keyword arguments for it.
        size: height and width in pixels to resize to, or None; not for a `Dataset`.
        split: how the images are divided; not for a `Dataset`.
    """

    call: str
    options: dict[str, Any] = field(default_factory=dict)
    size: int | None = None
    split: SplitOptions = field(default_factory=SplitOptions)

    def __post_init__(self) -> None:
        check_size(self.size)
        module, colon, name = self.call.partition(":")
        if not (module and colon and name):
            raise DataError.about("call", self.call, "module:function, for example my_data:load")

    def describe(self) -> DataShape:
        """Calls the function."""
        return self.load().shape

    def load(self) -> Dataset:
        """Calls the function and checks what it returns. What the function raises passes through."""
        result = self._function()(**self.options)
        if isinstance(result, Dataset):
            return self._checked(result)
        if isinstance(result, tuple) and len(result) == 2:
            result = {"train": result}
        if not isinstance(result, Mapping) or "train" not in result or not result.keys() <= {"train", "test"}:
            keys = f" with keys {', '.join(map(str, result))}" if isinstance(result, Mapping) else ""
            raise DataError(f"{self.call} returned a {type(result).__name__}{keys}; it must return {_RESULTS}")
        classes = find_classes(np.asarray(self._pair(result, "train")[1]), self.call)
        test = self._part(result, "test", classes) if "test" in result else None
        return Source(self.call, classes, self._part(result, "train", classes), test).dataset(self.split)

    def _function(self) -> Callable[..., object]:
        module_name, _, name = self.call.partition(":")
        try:
            module = importlib.import_module(module_name)
        except ImportError as error:
            raise DataError(f"call: cannot import {module_name!r} ({error}); put it beside the job file") from error
        found = getattr(module, name, None)
        if not callable(found):
            hint = nearest(name, [each for each in vars(module) if not each.startswith("_")])
            suggestion = f"; did you mean {hint!r}?" if hint else ""
            raise DataError(f"call: module {module_name!r} has no function {name!r}{suggestion}")
        return found  # type: ignore[no-any-return]

    def _pair(self, result: Mapping[str, Any], which: str) -> tuple[Any, Any]:
        pair = result[which]
        if not isinstance(pair, tuple | list) or len(pair) != 2:
            raise DataError(f"{self.call}: {which!r} is a {type(pair).__name__}, not a pair (images, labels)")
        return pair[0], pair[1]

    def _part(self, result: Mapping[str, Any], which: str, classes: tuple[str, ...]) -> Part:
        images, labels = self._pair(result, which)
        where = f"{self.call}: {which}"
        indices = to_labels(np.asarray(labels), classes, where)
        return array_part(as_images(np.asarray(images), where), indices, where, self.size)

    def _checked(self, dataset: Dataset) -> Dataset:
        if self.size is not None or self.split != SplitOptions():
            raise DataError(f"{self.call} returned a Dataset, which is split already; leave out `size` and `split`")
        for name, split in (("train", dataset.train), ("validation", dataset.validation), ("test", dataset.test)):
            if split.images.dtype == np.float32 and not np.isfinite(split.images).all():
                raise DataError(f"{self.call}: images of the {name} split hold NaN or infinite values")
        # Taken anew: results are kept by fingerprint, and a user's own text may not follow the content.
        return Dataset.of(dataset.name, dataset.train, dataset.validation, dataset.test, dataset.classes)
