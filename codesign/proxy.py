"""A learned proxy in the place of the simulator it was learned from.

    space: {type: design, model: {type: proxy, path: proxies/dram/manifest.json}, preset: proxies/dram/preset.toml}

Figures are estimates: `codesign proxy show DIR` prints how far they were off on designs held out. A design with a value
outside what was learned has 1 in the metric `out_of_range`; its figures are those of the nearest values inside.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from codesign.errors import DataError, InputError
from codesign.proxy_errors import largest
from codesign.proxy_files import SavedProxy, load_proxy
from codesign.proxy_table import CONTEXT
from simulators.accelerator import Columns, Field, columns, count_accelerators
from simulators.design import DesignReport

OUT_OF_RANGE = "out_of_range"
"""The metric that is 1 for designs outside what was learned, else 0."""


@dataclass(frozen=True)
class Proxy:
    """A model of designs that was learned by `codesign proxy fit`.

    Attributes:
        path: the proxy's folder, or the manifest in it.
        context: which of several contexts the figures are for: the name of one that was learned, or the features of
            any; needed only if there are several.

    Raises:
        InputError: there is no proxy, it is damaged, or the context is wrong.
    """

    path: str
    context: str | dict[str, float] = ""
    saved: SavedProxy = field(init=False, repr=False, compare=False)
    _context: dict[str, float | str] = field(init=False, repr=False, compare=False)

    id: ClassVar[str] = "proxy-v1"

    def __post_init__(self) -> None:
        """Load the proxy; nothing in its files is executed."""
        saved = load_proxy(Path(self.path))
        object.__setattr__(self, "saved", saved)
        object.__setattr__(self, "_context", _context_values(saved, self.context))

    @property
    def stands_for(self) -> str:
        """The id of the model that was learned: its presets fit the proxy too."""
        return self.saved.model

    @property
    def fields(self) -> tuple[Field, ...]:
        """The fields of the model that was learned."""
        return self.saved.fields

    @property
    def metrics(self) -> tuple[str, ...]:
        """Its metrics, and `out_of_range`."""
        return (*(output.metric for output in self.saved.learned.outputs), OUT_OF_RANGE)

    @property
    def uncounted(self) -> tuple[str, ...]:
        """That figures are learned, and how far off they were on designs held out, as phrases."""
        phrases = [f"figures are learned from {self.saved.n_rows} designs of {self.saved.model}, not simulated"]
        for output in self.saved.learned.outputs:
            error = largest(self.saved.held_out, output.metric)
            if error is not None:
                phrases.append(f"{output.metric} was off by {100 * error:.2g} % of its mean (RMSE) on designs held out")
        return tuple(phrases)

    def features(self) -> dict[str, float]:
        """The features of its context."""
        return {
            name.removeprefix(f"{CONTEXT}."): value
            for name, value in self._context.items()
            if not isinstance(value, str)
        }

    def evaluate(self, designs: Columns) -> DesignReport:
        """Predicted figures of designs, each of shape (A,); see `DesignModel.evaluate`.

        Raises:
            ValueError: a column is missing or shapes differ.
        """
        n_designs = count_accelerators(self.fields, designs)
        inputs = {spec.name: np.asarray(designs[spec.name]) for spec in self.fields}
        inputs |= {name: np.repeat(np.array([value]), n_designs) for name, value in self._context.items()}
        learned = self.saved.learned
        metrics, works = learned.predict(inputs)
        outside = learned.encoder.outside(inputs)
        metrics[OUT_OF_RANGE] = outside.astype(np.float64)
        reasons = [
            "" if works_here else f"the proxy takes it that {self.saved.model} refuses it" for works_here in works
        ]
        uncounted = self.uncounted
        if outside.any():
            seen = {given.name: given for given in learned.encoder.inputs}
            ranges = "; ".join(str(seen[name]) for name in learned.encoder.outside_names(inputs))
            uncounted += (f"{int(outside.sum())} of {n_designs} designs lie outside what was learned ({ranges})",)
        return DesignReport(metrics, reasons, uncounted)


def _context_values(saved: SavedProxy, given: str | dict[str, float]) -> dict[str, float | str]:
    """The inputs that tell contexts apart, for the context asked for."""
    asked = [spec for spec in saved.inputs if spec not in saved.fields]
    if not asked:
        if given and given not in saved.features:
            raise InputError.about("context", given, list(saved.features))
        return {}
    if isinstance(given, dict):
        if asked[0].kind == "str":
            raise InputError.about("context", given, sorted(saved.features))
        names = [spec.name.removeprefix(f"{CONTEXT}.") for spec in asked]
        for name in [*given, *names]:
            if name not in names:
                raise InputError.about("context", name, names)
            if name not in given:
                raise InputError(f"context: feature {name!r} is missing; needed are {', '.join(names)}")
        row: dict[str, Any] = {f"{CONTEXT}.{name}": value for name, value in given.items()}
        try:
            return {name: values[0].item() for name, values in columns(asked, [row]).items()}
        except ValueError as error:
            raise DataError(f"context: {error}") from error
    if given not in saved.features:
        raise InputError.about("context", given, sorted(saved.features))
    if asked[0].kind == "str":
        return {CONTEXT: given}
    return {spec.name: float(saved.features[given][spec.name.removeprefix(f"{CONTEXT}.")]) for spec in asked}
