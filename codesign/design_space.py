"""Searching designs alone: memory controllers, systems on chip, mappings, accelerators without a network to choose.

    space: {type: design, model: {type: dram, trace: random}, preset: dram-ddr3}
    evaluate: cost

The model is registered under `codesign.models`; the choices are the options under the preset's `[search]`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from codesign.errors import InputError
from codesign.plugins import check_options, make
from codesign.trial import Evaluation, Evaluator
from search_spaces.ops import IntArray
from search_spaces.space import Choice, Genotype, SearchSpace
from simulators.accelerator import Columns, Field, Preset, Value, bare_id, load_preset
from simulators.design import DesignModel, design_columns, whole_space


@dataclass(frozen=True, eq=False)
class DesignSpace(SearchSpace):
    """The designs of a model.

    Attributes:
        model: its name, or `{type: name, option: value}`; a text that names a file beside the job file is that file.
        preset: a preset of the model or a .toml file: what is fixed, under `[search]` what may be chosen, and under
            `[model]` options of the model where `model` gives none. "" searches every field over all it allows.
        set: fields that replace the preset's.
        search: field -> options, in place of the preset's `[search]`.
        job_folder: where the job file lies.

    Raises:
        InputError: an unknown model, preset, field or option.
    """

    model: str | dict[str, Any]
    preset: str = ""
    set: dict[str, int | float | str] = field(default_factory=dict)
    search: dict[str, list[int | float | str]] = field(default_factory=dict)
    job_folder: Path = Path()

    def __post_init__(self) -> None:
        """Find everything that is wrong before anything is evaluated."""
        if not self.choices:
            raise InputError(f"preset {self.preset!r} has no [search] table; list options there or under `search`")

    @cached_property
    def design_model(self) -> DesignModel:
        """The model, made with its options."""
        section = {"type": self.model} if isinstance(self.model, str) else dict(self.model)
        if self._loaded and bare_id(self._loaded.simulator) == bare_id(str(section.get("type"))):
            section = {**self._loaded.options, **section}
        plugin, options = check_options("models", section, "model")
        options = {name: self._own_file(value) for name, value in options.items()}
        made: DesignModel = make(plugin, "model", **options)
        return made

    @cached_property
    def checked_preset(self) -> Preset:
        """The preset with the job's own values and options, checked against the model's fields."""
        loaded: Preset = self._loaded or make(whole_space, "preset", self.design_model)  # type: ignore[arg-type]
        options = {name: tuple(values) for name, values in self.search.items()}
        changed = replace(loaded, values={**loaded.values, **self.set}, search=options or loaded.search)
        try:
            return changed.checked(_Described(self._id_for(loaded), self.design_model.fields))
        except ValueError as error:
            raise InputError(str(error)) from error

    @cached_property
    def _loaded(self) -> Preset | None:
        if not self.preset:
            return None
        loaded: Preset = make(load_preset, "preset", self._own_file(self.preset))  # type: ignore[arg-type]
        return loaded

    def _id_for(self, preset: Preset) -> str:
        """The model's id, or for a preset of the model that it stands for (a learned proxy), that one's."""
        model = self.design_model
        own = preset.simulator in (model.id, bare_id(model.id))
        return model.id if own else str(getattr(model, "stands_for", model.id))

    @cached_property
    def choices(self) -> tuple[Choice, ...]:
        """One decision per searched field."""
        return tuple(Choice(name, tuple(options)) for name, options in self.checked_preset.search.items())

    def designs(self, codes: IntArray) -> Columns:
        """The designs of codes of shape (n, d) as a struct of arrays: one of shape (n,) per field of the model."""
        searched = {choice.name: np.array(choice.options)[codes[:, i]] for i, choice in enumerate(self.choices)}
        return design_columns(self.design_model.fields, self.checked_preset.values, searched)

    def decode(self, code: IntArray) -> Genotype:
        """Searched field -> value."""
        return {choice.name: choice.options[int(index)] for choice, index in zip(self.choices, code, strict=True)}

    def encode(self, genotype: Mapping[str, object]) -> IntArray:
        """The code of a genotype, shape (d,). Raises InputError if the space does not hold it."""
        names = [choice.name for choice in self.choices]
        for name in genotype:
            if name not in names:
                raise InputError.about("genotype", name, names)
        for choice in self.choices:
            if genotype.get(choice.name) not in choice.options:
                raise InputError.about(choice.name, genotype.get(choice.name), map(str, choice.options))
        chosen = [choice.options.index(_value(genotype[choice.name])) for choice in self.choices]
        return np.array(chosen, dtype=np.int64)

    def _own_file(self, value: Any) -> Any:
        """A text as the path of the file or folder beside the job file that it names, if there is one."""
        if isinstance(value, str) and value and (self.job_folder / value).exists():
            return str(self.job_folder / value)
        return value


class DesignEvaluator(Evaluator):
    """Evaluates designs with their model; one that cannot work has failed, with the reason."""

    metrics: tuple[str, ...] = ()

    def __init__(self, space: DesignSpace) -> None:
        self.space = space
        self.metrics = space.design_model.metrics

    def evaluate(self, codes: IntArray) -> Evaluation:
        """The model's figures of a batch."""
        report = self.space.design_model.evaluate(self.space.designs(codes))
        return Evaluation(report.metrics, list(report.reasons))

    def uncounted(self, codes: IntArray) -> list[str]:
        """What the model leaves out, as phrases."""
        return list(self.space.design_model.evaluate(self.space.designs(codes[:1])).uncounted)


@dataclass(frozen=True, slots=True)
class _Described:
    """What a preset is checked against."""

    id: str
    fields: tuple[Field, ...]


def _value(value: object) -> Value:
    assert isinstance(value, int | float | str)  # it equals one of a choice's options
    return value
