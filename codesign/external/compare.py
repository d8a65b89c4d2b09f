"""Our simulators beside the published ones, layer by layer: `codesign simulate NETWORK --on PRESET --against NAME`.

A published simulator runs as a program of its own, in this Python environment or in another one (`--python`): SCALE-Sim
needs an older NumPy than codesign has, and what one of them breaks must not break us.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from codesign.errors import ExternalError, InputError
from simulators.accelerator import Value, bare_id
from simulators.mapping import parse_mapping
from simulators.spatial_evaluate import evaluate
from simulators.spatial_hierarchy import Hierarchy, Memory, load_hierarchy
from simulators.spatial_nest import layers_of, nests_of
from simulators.workload import FloatArray, Workload

HOST = {"scalesim": "systolic", "zigzag": "spatial"}
"""Published simulator -> the one of ours that it is compared with."""
INSTALL = {"scalesim": "scalesim 'numpy<2.4'", "zigzag": "zigzag-dse six"}
"""What to install, with pip, in the environment that runs it."""

_WAYS = ("tl", "fl", "th", "fh")
_PREFIX = {"read": "r", "write": "w", "read_write": "rw"}


@dataclass(frozen=True, slots=True)
class External:
    """What a published simulator says of every layer.

    Attributes:
        version: of the simulator.
        columns: metrics under our names, each of shape (L,), groups and batch included.
        mappings: (spatial, temporal) text of each layer's mapping; empty where the simulator has none.
        ours: our model's figures on its mappings, each of shape (L,); empty where the simulator has none.
    """

    version: str
    columns: Mapping[str, FloatArray]
    mappings: tuple[tuple[str, str], ...] = ()
    ours: Mapping[str, FloatArray] = field(default_factory=dict)


def comparable(workload: Workload) -> Workload:
    """The layers without padding: published simulators ask for inputs that are padded already."""
    return replace(workload, in_y=workload.reach_y, in_x=workload.reach_x)


def run_external(name: str, workload: Workload, values: Mapping[str, Value], python: str = sys.executable) -> External:
    """Run a published simulator on layers.

    Args:
        name: one of `HOST`.
        workload: L layers; padding is left out, see `comparable`.
        values: the accelerator, by the fields of our simulator.
        python: interpreter of the environment where it is installed.

    Raises:
        InputError: an unknown name, or an accelerator or layer that it has no words for.
        ExternalError: it is not installed there, or it failed.
    """
    if name not in HOST:
        raise InputError.about("--against", name, HOST)
    if (workload.dilation > 1).any():
        raise InputError(f"--against: {name} has no dilated filters")
    return _run_scalesim(workload, values, python) if name == "scalesim" else _run_zigzag(workload, values, python)


def check_host(name: str, simulator: str) -> None:
    """Raise InputError unless the published simulator is comparable with ours, given by its id."""
    if name not in HOST:
        raise InputError.about("--against", name, HOST)
    if bare_id(simulator) != HOST[name]:
        raise InputError(f"--against: {name} is compared with {HOST[name]}; the preset is for {bare_id(simulator)}")


def _run_scalesim(workload: Workload, values: Mapping[str, Value], python: str) -> External:
    if values["mode"] != "scalesim":
        raise InputError(
            f"--against: scalesim is compared in mode scalesim, not {values['mode']!r} (--set mode=scalesim)"
        )
    if len(np.unique(workload.bits)) > 1 or (len(workload) and int(workload.bits[0]) != 8):
        raise InputError("--against: SCALE-Sim's words have 8 bits (--bits 8)")
    limited = values["bandwidth"] == "limited"
    accelerator = {
        name: values[name] for name in ("rows", "columns", "dataflow", "ifmap_kib", "filter_kib", "ofmap_kib")
    }
    words = max(1, int(float(values["dram_bytes_per_cycle"])))
    accelerator |= {"bandwidth": words if limited else 10, "mode": "USER" if limited else "CALC"}
    one = {
        "in_y": workload.reach_y, "in_x": workload.reach_x, "filter_y": workload.filter_y,
        "filter_x": workload.filter_x, "in_channels": workload.in_channels // workload.groups,
        "out_channels": workload.out_channels // workload.groups, "stride": workload.stride,
    }  # fmt: skip
    answer = _ask("scalesim", {"accelerator": accelerator, "layers": _records(one)}, python)
    runs = (workload.groups * workload.batch).astype(np.float64)
    names = answer["layers"][0] if answer["layers"] else ()
    return External(answer["version"], {n: runs * [layer[n] for layer in answer["layers"]] for n in names})


def _run_zigzag(workload: Workload, values: Mapping[str, Value], python: str) -> External:
    fixed = ("base", "clock_ghz", "mapping_objective")
    changed = [name for name, value in values.items() if name not in fixed and value]
    if changed:
        raise InputError(f"--against: zigzag runs a hierarchy as its file has it; {changed[0]!r} changes it")
    objective = {"latency": "latency", "energy": "energy", "edp": "EDP"}[str(values["mapping_objective"])]
    nest = {
        "B": workload.batch, "G": workload.groups, "K": workload.out_channels // workload.groups,
        "C": workload.in_channels // workload.groups, "OY": workload.out_y, "OX": workload.out_x,
        "FY": workload.filter_y, "FX": workload.filter_x, "stride": workload.stride, "bits": workload.bits,
    }  # fmt: skip
    hierarchy = load_hierarchy(str(values["base"]))
    request = {"accelerator": zigzag_entry(hierarchy), "layers": _records(nest), "objective": objective}
    answer = _ask("zigzag", request, python)
    columns = {n: np.array([layer[n] for layer in answer["layers"]]) for n in ("latency_cycles", "energy_uj")}
    texts = tuple((layer["spatial_mapping"], layer["temporal_mapping"]) for layer in answer["layers"])
    nests = nests_of(layers_of(workload), hierarchy, [parse_mapping(*text) for text in texts])
    costs = evaluate(nests, hierarchy)
    ours = {"latency_cycles": costs.latency_cycles, "energy_uj": costs.energy_pj * 1e-6}
    return External(answer["version"], columns, texts, ours)


def zigzag_entry(hierarchy: Hierarchy) -> dict[str, Any]:
    """A hierarchy in ZigZag's form, as `hierarchy_from_zigzag` reads it: `hardware` and `default_mapping`."""
    array = {
        "unit_energy": hierarchy.mac_pj,
        "unit_area": 1,
        "dimensions": list(hierarchy.array),
        "sizes": list(hierarchy.array.values()),
        "systolic_dimensions": list(hierarchy.systolic),
    }
    memories = {memory.name: _zigzag_memory(memory) for memory in hierarchy.memories}
    spatial = {key: [f"{dim}, {size}" for dim, size in loops] for key, loops in hierarchy.spatial.items()}
    links = {"O": "O", "W": "I2", "I": "I1"}
    return {
        "hardware": {"name": hierarchy.name, "memories": memories, "operational_array": array},
        "default_mapping": {"name": "default", "spatial_mapping": spatial, "memory_operand_links": links},
    }


def _zigzag_memory(memory: Memory) -> dict[str, Any]:
    links = {"O": "O", "W": "I2", "I": "I1"}
    ports = [
        {
            "name": f"{_PREFIX[port.kind]}_port_{i + 1}",
            "type": port.kind,
            "bandwidth_min": int(port.min_bits),
            "bandwidth_max": int(port.max_bits),
            "allocation": [f"{links[operand]}, {_WAYS[way]}" for operand, way in port.moves],
        }
        for i, port in enumerate(memory.ports)
    ]
    return {
        "size": int(memory.bits),
        "r_cost": memory.read_pj,
        "w_cost": memory.write_pj,
        "area": memory.area_mm2,
        "latency": 1,
        "operands": [links[operand] for operand in memory.operands],
        "ports": ports,
        "served_dimensions": list(memory.serves),
        "force_double_buffering": memory.is_double_buffered,
    }


def _records(columns: Mapping[str, Any]) -> list[dict[str, int]]:
    return [dict(zip(columns, map(int, row), strict=True)) for row in zip(*columns.values(), strict=True)]


def _ask(name: str, request: Mapping[str, object], python: str) -> dict[str, Any]:
    """Run the program of a published simulator on one request."""
    program = Path(__file__).with_name(f"run_{name}.py")
    try:
        done = subprocess.run(
            [python, str(program)], input=json.dumps(request), capture_output=True, text=True, check=False
        )
    except OSError as error:
        raise InputError(f"--python: {python!r} cannot be run: {error.strerror}") from error
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        hint = f"; install it there: {python} -m pip install {INSTALL[name]}" if "ModuleNotFoundError" in last else ""
        raise ExternalError(f"{name}: {last}{hint}")
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer
