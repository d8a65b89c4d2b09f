"""The lottery file: one design problem, the agents that search it, and how many hyper-parameter settings of each.

    name: array
    problem:                       # a job without `search`: what is searched, and after what
      space: {type: fixed, network: mobilenetv2, image_size: 96}
      targets: {edge: {type: systolic, preset: edge-16x16, search: true}}
      objectives: {minimize: latency_ms@edge}
    agents:                        # or a list of names: [random, genetic]
      random:                      # nothing below it: the settings that the strategy declares
      genetic: {population_size: [8, 16, 32], mutation_probability: [0.05, 0.2], crossover_probability: 0.8}
      bayesian: {type: optuna, sampler: tpe, sampler_options.n_startup_trials: [5, 10, 20]}
    settings: 12
    seeds: 3
    evaluations: 300

Read as strictly as a job file.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, Literal

import numpy as np
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from codesign.errors import InputError
from codesign.job import Job, parse_job, read_file
from codesign.plugins import checked_options, explain, make, options_class
from codesign.registry import lookup
from codesign.strategies.strategy import declared_settings

PROBLEM_KEYS = ("data", "space", "targets", "objectives", "budgets", "evaluate")
"""Keys of a job that a problem may have."""
MAX_SETTINGS = 10_000_000
"""Combinations of listed values; more are surely a mistake."""


class Lottery(BaseModel):
    """Everything a lottery needs."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    name: str = Field(min_length=1, max_length=100, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    problem: dict[str, Any] = Field(description="a job without name, search, driver and store")
    agents: dict[str, dict[str, Any]] = Field(
        min_length=1, description="agent -> option -> value or list of values; `type` names the strategy"
    )
    settings: int = Field(12, ge=1, le=10_000, description="hyper-parameter settings drawn for each agent")
    seeds: int = Field(3, ge=1, le=1_000, description="repetitions of each setting")
    evaluations: int = Field(300, ge=1, description="distinct candidates that each repetition evaluates")
    batch: int = Field(5, ge=1, description="candidates asked for at a time")
    seed: int = Field(0, ge=0, lt=2**32)
    workers: int = Field(2, ge=1, description="tickets side by side")
    driver: Literal["tune", "serial"] = "tune"

    @field_validator("agents", mode="before")
    @classmethod
    def _names_or_mapping(cls, value: object) -> object:
        if isinstance(value, list):
            if len(set(map(str, value))) != len(value):
                raise ValueError("an agent is listed twice")
            value = {str(name): None for name in value}
        if isinstance(value, Mapping):
            return {name: {} if options is None else options for name, options in value.items()}
        return value

    def job(self) -> Job:
        """The problem as a job. Raises InputError if anything in it is wrong."""
        for key in self.problem:
            if key not in PROBLEM_KEYS:
                raise InputError.about("unknown key in problem", key, PROBLEM_KEYS)
        try:
            return parse_job({"evaluate": "cost", **self.problem, "name": self.name, "search": {"seed": self.seed}})
        except InputError as error:
            raise InputError(f"problem: {error}") from None


@dataclass(frozen=True, slots=True)
class Ticket:
    """One search: an agent with one setting and one seed.

    Attributes:
        agent: its name in the file.
        strategy: the name its strategy is registered under.
        setting: number of the setting.
        repeat: number of the repetition.
        options: the setting, as plain data.
        seed: of the strategy.
        evaluations: distinct candidates to evaluate.
        batch: candidates asked for at a time.
    """

    agent: str
    strategy: str
    setting: int
    repeat: int
    options: Mapping[str, Any]
    seed: int
    evaluations: int
    batch: int


def load_lottery(path: Path, overrides: Iterable[str] = ()) -> Lottery:
    """Read a lottery file.

    Args:
        path: the YAML file.
        overrides: `dotted.key=value`, the value read as YAML (`evaluations=100`).

    Raises:
        InputError: the file is missing or anything in it is not as it should be.
    """
    return parse_lottery(read_file(path, overrides, "lottery", "name, problem, agents"))


def parse_lottery(content: Mapping[str, object]) -> Lottery:
    """A lottery from plain data. Raises InputError with one message."""
    try:
        return Lottery.model_validate(content)
    except ValidationError as error:
        raise explain(error, "", {(): list(Lottery.model_fields)}, whole="lottery") from None


def dump_lottery(lottery: Lottery) -> str:
    """The resolved lottery as YAML, defaults included."""
    return yaml.safe_dump(lottery.model_dump(), sort_keys=False, allow_unicode=True)


def plan_tickets(lottery: Lottery) -> list[Ticket]:
    """All tickets; equally many for each agent.

    An agent with fewer different settings than asked for (random search has one) repeats each more often. A ticket
    depends on the file's seed, its agent, setting and repetition alone, never on the other agents.

    Raises:
        InputError: an agent's strategy, option or value is wrong.
    """
    settings = {agent: agent_settings(lottery, agent) for agent in lottery.agents}
    tickets = []
    for number in range(lottery.settings * lottery.seeds):  # agents take turns, so that the time left can be told early
        for agent, (strategy, drawn) in settings.items():
            repeat, setting = divmod(number, len(drawn))
            entropy = [lottery.seed, zlib.crc32(agent.encode()), setting, repeat]
            seed = int(np.random.SeedSequence(entropy).generate_state(1)[0])
            tickets.append(
                Ticket(agent, strategy, setting, repeat, drawn[setting], seed, lottery.evaluations, lottery.batch)
            )
    return tickets


def agent_settings(lottery: Lottery, agent: str) -> tuple[str, list[dict[str, Any]]]:
    """An agent's strategy and its settings, drawn without repetition from all combinations of the listed values.

    Raises:
        InputError: the strategy, an option or a value is wrong.
    """
    section = dict(lottery.agents[agent])
    key = f"agents.{agent}"
    strategy = str(section.pop("type", agent))
    plugin = lookup("strategies", strategy, f"{key}.type" if "type" in lottery.agents[agent] else "agents")
    lists = {name: value if isinstance(value, list) else [value] for name, value in section.items()}
    lists = lists or {name: list(values) for name, values in declared_settings(options_class(plugin)).items()}
    for name, values in lists.items():
        if not values:
            raise InputError(f"{key}.{name}: no values; list at least one")
    n_all = prod(len(values) for values in lists.values())
    if n_all > MAX_SETTINGS:
        raise InputError(f"{key}: {n_all:,} combinations of values; list fewer (at most {MAX_SETTINGS:,})")
    for name, values in lists.items():
        for value in values:  # names and types, whatever is drawn
            checked_options(plugin, _nested({name: value}), key)
    rng = np.random.default_rng([lottery.seed, zlib.crc32(agent.encode())])
    n_drawn = min(lottery.settings, n_all)
    places = np.sort(rng.choice(n_all, size=n_drawn, replace=False))
    digits = np.unravel_index(places, tuple(len(values) for values in lists.values())) if lists else ()
    drawn = []
    for row in range(n_drawn):
        chosen = {name: lists[name][int(column[row])] for name, column in zip(lists, digits, strict=True)}
        options = checked_options(plugin, _nested(chosen), key)
        make(options_class(plugin), key, **options)
        drawn.append({name: options[name] for name in _nested(chosen)})
    return strategy, drawn


def _nested(options: Mapping[str, Any]) -> dict[str, Any]:
    """`{"sampler_options.x": 1}` as `{"sampler_options": {"x": 1}}`."""
    result: dict[str, Any] = {}
    for name, value in options.items():
        outer, dot, inner = str(name).partition(".")
        if dot:
            result[outer] = {**result.get(outer, {}), inner: value}
        else:
            result[outer] = dict(value) if isinstance(value, Mapping) else value
    return result
