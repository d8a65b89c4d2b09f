"""Five design problems as gymnasium environments, registered when this module is imported.

    id                   a design is                            costs of                   after ArchGym's
    codesign/Dram-v0     a memory controller's ten knobs        a trace (DRAMSys)          DRAMGym
    codesign/Systolic-v0 a systolic array with scratchpads      a network                  -
    codesign/Spatial-v0  an array with a memory hierarchy       a network, best mappings   TimeloopGym
    codesign/Mapping-v0  one layer's mapping and number of PEs  that layer                 MaestroGym
    codesign/Soc-v0      a system on chip, tasks placed on it   a task graph (FARSI)       FARSIGym

`gymnasium.make("simulators.environments_gym:codesign/Dram-v0", trace="random")` imports the module and makes one;
`gymnasium.make_vec` with `vectorization_mode="vector_entry_point"` makes n that are evaluated as one batch. Besides a
problem's own options, every one takes those of `Problem`. What an action, an observation and a reward are:
`design_gym`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypedDict, Unpack

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode

from simulators.accelerator import Preset, Value, load_preset
from simulators.design import DesignModel, OnWorkload, whole_space
from simulators.design_gym import DesignEnv
from simulators.design_vector_gym import DesignVectorEnv
from simulators.dram import Dram
from simulators.dram_device import DramDevice
from simulators.dram_trace import Trace
from simulators.mapping_model import MappingModel
from simulators.networks import load_network
from simulators.simulator import Simulator
from simulators.soc import Soc
from simulators.spatial import Spatial
from simulators.systolic import Systolic
from simulators.workload import IntArray, Workload

Network = str | Path | tuple[Workload, IntArray]
"""A shipped network's name, a .csv file, or distinct layers with how often each occurs."""


class Problem(TypedDict, total=False):
    """What every environment takes, each in place of its own default.

    Attributes:
        preset: a preset's name, a .toml file, or a `Preset`: the base design and the options of each searched field.
        values: fields of the base design that replace the preset's.
        search: field -> options, in place of the preset's.
        objectives: metrics to lower.
        budgets: metric -> upper limit, in the metric's unit.
        horizon: designs per episode.
    """

    preset: str | Path | Preset
    values: Mapping[str, Value]
    search: Mapping[str, Sequence[Value]]
    objectives: Sequence[str]
    budgets: Mapping[str, float]
    horizon: int


SOC_BUDGETS: Mapping[str, Mapping[str, float]] = {
    "audio_decoder": {"latency_ms": 21.0, "peak_power_mw": 8.737, "area_mm2": 17.475},
    "hpvm_cava": {"latency_ms": 34.0, "peak_power_mw": 8.737, "area_mm2": 17.475},
    "edge_detection": {"latency_ms": 34.0, "peak_power_mw": 8.737, "area_mm2": 17.475},
}
"""FARSI's own (its specs/database_data, "misc_database - Budget.csv")."""


def dram(
    trace: str | Path | Trace = "hot_cold",
    device: str | Path | DramDevice | None = None,
    **problem: Unpack[Problem],
) -> DesignEnv:
    """`codesign/Dram-v0`: `simulators.dram` with latency and power as objectives.

    Args:
        trace: a generator's name (`dram_trace.GENERATORS`), a .stl or .trace file, or requests.
        device: a shipped device's name, a .toml file, or a device; None means the preset's.
        problem: see `Problem`; the preset is `dram-ddr3`.

    Raises:
        ValueError: an unknown name, a wrong file or option; see `DesignEnv`.
    """
    preset = problem.get("preset", "dram-ddr3")
    loaded = preset if isinstance(preset, Preset) else load_preset(preset)
    device = device or str(loaded.options.get("device", "ddr3-1600-1gb-x8"))
    return _env(Dram(device, trace), {"preset": "dram-ddr3", "objectives": ("latency_ns", "power_mw")}, problem)


def systolic(network: Network = "resnet18-64", **problem: Unpack[Problem]) -> DesignEnv:
    """`codesign/Systolic-v0`: `simulators.systolic` for a network: latency and energy within 4 mm2 at 45 nm.

    Args:
        network: see `Network`.
        problem: see `Problem`; the preset is `edge-sizing`. Only metrics that are objectives or budgets are computed.

    Raises:
        ValueError: an unknown name, a wrong file or option; see `DesignEnv`.
    """
    defaults: Problem = {**_SIZING, "preset": "edge-sizing"}
    given: Problem = {**defaults, **problem}
    wanted = dict.fromkeys((*given["objectives"], *given["budgets"]))
    return _env(_on_network(Systolic(metrics=wanted), network), defaults, problem)


def spatial(network: Network = "resnet18-64", **problem: Unpack[Problem]) -> DesignEnv:
    """`codesign/Spatial-v0`: `simulators.spatial` for a network, each layer on the best mapping found.

    Args:
        network: see `Network`.
        problem: see `Problem`; the preset is `spatial-sizing`, the objectives are latency and energy within 4 mm2.

    Raises:
        ValueError: an unknown name, a wrong file or option; see `DesignEnv`.
    """
    return _env(_on_network(Spatial(), network), {**_SIZING, "preset": "spatial-sizing"}, problem)


def mapping(
    network: Network = "resnet18-224",
    layer: int = 1,
    base: str = "edge-like",
    **problem: Unpack[Problem],
) -> DesignEnv:
    """`codesign/Mapping-v0`: `simulators.mapping_model` for one layer: latency and energy within 1 mm2 at 45 nm.

    Args:
        network: see `Network`; the default layer is the one that MaestroGym maps.
        layer: which of its distinct layers, from 0.
        base: the memory hierarchy.
        problem: see `Problem`. Without a preset every field of the model is searched, over all it allows.

    Raises:
        ValueError: an unknown name or layer, a wrong file or option; see `DesignEnv`.
    """
    if isinstance(network, str | Path):
        model = MappingModel(layer, base, network=network)
    else:
        model = MappingModel(network[0].take(np.array([layer])), base)
    objectives, budgets = ("latency_cycles", "energy_uj"), {"area_mm2": 1.0}
    return _env(model, {"preset": whole_space(model), "objectives": objectives, "budgets": budgets}, problem)


def soc(graph: str = "audio_decoder", pe_sharing: str = "queue", **problem: Unpack[Problem]) -> DesignEnv:
    """`codesign/Soc-v0`: `simulators.soc` for a task graph: latency, peak power and area, within FARSI's budgets.

    Args:
        graph: a shipped graph's name, or a .toml file (which needs a preset).
        pe_sharing: see `simulators.soc.Soc`.
        problem: see `Problem`; the preset is `soc-<graph>`.

    Raises:
        ValueError: an unknown name, a wrong file or option; see `DesignEnv`.
    """
    model = Soc(graph=graph, pe_sharing=pe_sharing)  # type: ignore[arg-type]  # the model refuses other texts
    own: Problem = {"preset": f"soc-{graph}", "objectives": ("latency_ms", "peak_power_mw", "area_mm2")}
    return _env(model, {**own, "budgets": SOC_BUDGETS.get(graph, {})}, problem)


_SIZING: Problem = {"objectives": ("latency_ms", "energy_uj"), "budgets": {"area_mm2": 4.0}}


def _env(model: DesignModel, defaults: Problem, given: Problem) -> DesignEnv:
    """The environment of a model: what is given, in place of its defaults."""
    for name in given:
        if name not in Problem.__annotations__:
            close = get_close_matches(name, Problem.__annotations__, n=1, cutoff=0.5)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            raise ValueError(f"option: {name!r} is not one of {', '.join(Problem.__annotations__)}{hint}")
    options: Problem = {**defaults, **given}
    preset = options["preset"]
    if not isinstance(preset, Preset):
        preset = load_preset(preset)
    search = {name: tuple(values) for name, values in options.get("search", {}).items()} or preset.search
    preset = replace(preset, values={**preset.values, **options.get("values", {})}, search=search)
    return DesignEnv(model, preset, options["objectives"], options.get("budgets"), options.get("horizon", 100))


def _layers(network: Network) -> tuple[Workload, IntArray]:
    return load_network(network) if isinstance(network, str | Path) else network


def _on_network(simulator: Simulator, network: Network) -> OnWorkload:
    return OnWorkload(simulator, *_layers(network))


def _vector(make: Callable[..., DesignEnv]) -> Callable[..., DesignVectorEnv]:
    def make_vector(
        num_envs: int = 1, autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP, **options: Any
    ) -> DesignVectorEnv:
        return DesignVectorEnv(make(**options), num_envs, autoreset_mode)

    return make_vector


dram_vector = _vector(dram)
systolic_vector = _vector(systolic)
spatial_vector = _vector(spatial)
mapping_vector = _vector(mapping)
soc_vector = _vector(soc)

IDS = tuple(f"codesign/{name}-v0" for name in ("Dram", "Systolic", "Spatial", "Mapping", "Soc"))

for _id, _name in zip(IDS, ("dram", "systolic", "spatial", "mapping", "soc"), strict=True):
    gymnasium.register(
        _id, entry_point=f"{__name__}:{_name}", vector_entry_point=f"{__name__}:{_name}_vector", nondeterministic=False
    )
