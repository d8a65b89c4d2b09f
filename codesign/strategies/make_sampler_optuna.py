"""Which of Optuna's samplers can be used, and what each may be told.

Not offered: CMA-ES (one objective and numbers alone, and its state is a pickle, which this project never reads) and the
grid (it lists the whole space at once; `brute_force` walks it trial by trial).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from optuna.exceptions import ExperimentalWarning
from optuna.samplers import (
    BaseSampler,
    BruteForceSampler,
    GPSampler,
    NSGAIIISampler,
    NSGAIISampler,
    QMCSampler,
    RandomSampler,
    TPESampler,
)

from codesign.errors import InputError

Value = bool | int | float | str


@dataclass(frozen=True, slots=True)
class SamplerKind:
    """A sampler's class, its options with their types, and arguments that are always given."""

    build: Callable[..., BaseSampler]
    options: Mapping[str, type]
    always: Mapping[str, object] = field(default_factory=dict)


_GENETIC = {"population_size": int, "mutation_prob": float, "crossover_prob": float, "swapping_prob": float}

SAMPLERS: Mapping[str, SamplerKind] = {
    "tpe": SamplerKind(
        TPESampler,
        {"n_startup_trials": int, "n_ei_candidates": int, "multivariate": bool, "group": bool, "constant_liar": bool},
    ),
    "random": SamplerKind(RandomSampler, {}),
    "nsga2": SamplerKind(NSGAIISampler, _GENETIC),
    "nsga3": SamplerKind(NSGAIIISampler, {**_GENETIC, "dividing_parameter": int}),
    "gp": SamplerKind(
        GPSampler, {"n_startup_trials": int, "deterministic_objective": bool}, {"warn_independent_sampling": False}
    ),
    "qmc": SamplerKind(
        QMCSampler, {"qmc_type": str, "scramble": bool}, {"scramble": True, "warn_independent_sampling": False}
    ),
    "brute_force": SamplerKind(BruteForceSampler, {"avoid_premature_stop": bool}),
}
"""The samplers that handle categories, integers and any number of objectives, by name."""


def make_sampler(name: str, options: Mapping[str, Value], seed: int, sequence_seed: int) -> BaseSampler:
    """A new sampler.

    Args:
        name: a key of `SAMPLERS`.
        options: see there.
        seed: of this sampler's random draws.
        sequence_seed: of what all samplers of one search must share: the scrambling of a quasi-random sequence.

    Raises:
        InputError: the name or an option is unknown, or a value is refused.
    """
    if name not in SAMPLERS:
        raise InputError.about("sampler", name, SAMPLERS)
    kind = SAMPLERS[name]
    for option, value in options.items():
        _check_option(name, option, value)
    arguments: dict[str, object] = {**kind.always, **options}
    if arguments.get("group"):
        arguments.setdefault("multivariate", True)
    if name == "qmc":
        arguments |= {"seed": sequence_seed, "independent_sampler": RandomSampler(seed=seed)}
    else:
        arguments["seed"] = seed
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            return kind.build(**arguments)
    except ValueError as error:
        raise InputError(f"sampler_options of {name}: {error}") from error


def _check_option(sampler: str, option: str, value: object) -> None:
    allowed = SAMPLERS[sampler].options
    if option not in allowed:
        raise InputError.about(f"sampler_options of {sampler}", option, allowed)
    key = f"sampler_options.{option}"
    kind = allowed[option]
    fits = isinstance(value, (int, float) if kind is float else kind) and isinstance(value, bool) == (kind is bool)
    if not fits:
        described = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}
        raise InputError.about(key, value, described[kind])
    if kind is int and isinstance(value, int) and value < 1:
        raise InputError.about(key, value, "a number from 1")
