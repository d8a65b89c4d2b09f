"""The five environments: registered, clean, reachable, reproducible, and the spaces that `codesign run` searches."""

from __future__ import annotations

import copy
import json
import pickle
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from codesign.design_space import DesignSpace
from simulators import environments_gym as envs
from simulators.accelerator import Columns, Field, Preset
from simulators.design import DesignReport, OnWorkload
from simulators.design_gym import BatchStep, DesignEnv
from simulators.design_vector_gym import DesignVectorEnv
from simulators.dram_trace import Trace, make_trace
from simulators.networks import load_network
from simulators.soc import Soc
from simulators.spatial import Spatial
from simulators.systolic import Systolic
from simulators.workload import IntArray, Workload

SLOW = {"Spatial", "Dram"}
NAMES = [
    pytest.param(name, marks=pytest.mark.slow) if name in SLOW else name
    for name in ("Dram", "Systolic", "Spatial", "Mapping", "Soc")
]


def tiny_network() -> tuple[Workload, IntArray]:
    layers, count = load_network("resnet18-64")
    rows = np.array([2, 3, 11])
    return layers.take(rows), count[rows]


def busy_trace() -> Trace:
    """Bursts of requests with pauses between, in which refreshes can be done in advance."""
    rng = np.random.default_rng(1)
    steps = np.where(rng.random(600) < 0.02, rng.integers(1, 40_000, 600), 1)
    return Trace(np.cumsum(steps), rng.random(600) < 0.3, rng.integers(0, 1 << 14, 600) * 64)


SMALL: Mapping[str, Mapping[str, Any]] = {
    "Dram": {"trace": busy_trace()},
    "Systolic": {},
    "Spatial": {"network": tiny_network()},
    "Mapping": {},
    "Soc": {},
}


def make(name: str, **options: Any) -> DesignEnv:
    made = gymnasium.make(f"codesign/{name}-v0", **{**SMALL[name], **options}).unwrapped
    assert isinstance(made, DesignEnv)
    return made


def some_actions(env: DesignEnv, n: int, seed: int = 0) -> IntArray:
    """Actions of which many work: the base design with some choices changed."""
    rng = np.random.default_rng(seed)
    assert isinstance(env.action_space, gymnasium.spaces.MultiDiscrete)
    counts = env.action_space.nvec
    changed = rng.integers(0, counts, size=(n, len(counts)))
    return np.where(rng.random(changed.shape) < rng.random((n, 1)), changed, env.encode(env.base.info(0)["design"]))


def test_the_registry_holds_five() -> None:
    assert set(envs.IDS) == {key for key in gymnasium.registry if key.startswith("codesign/")}
    made = gymnasium.make("simulators.environments_gym:codesign/Systolic-v0", horizon=2)
    assert isinstance(made.unwrapped, DesignEnv)
    assert made.spec is not None
    assert made.spec.to_json()


@pytest.mark.parametrize("name", NAMES)
def test_gymnasiums_own_checks_pass_without_a_warning(name: str) -> None:
    check_env(make(name))  # warnings are errors here
    made = gymnasium.make(f"codesign/{name}-v0", **SMALL[name])  # as users get it, wrapped in checks
    made.reset(seed=0)
    made.action_space.seed(0)
    for _ in range(3):
        made.step(made.action_space.sample())


@pytest.mark.parametrize("name", NAMES)
def test_a_batch_equals_step_by_step_and_the_vector_environment(name: str) -> None:
    env = make(name)
    actions = some_actions(env, 8)
    batch = env.step_batch(actions)
    assert np.isfinite(batch.violations).any()
    many = gymnasium.make_vec(f"codesign/{name}-v0", num_envs=8, vectorization_mode="vector_entry_point", **SMALL[name])
    assert isinstance(many, DesignVectorEnv)
    many.reset(seed=0)
    observations, rewards, *_ = many.step(actions)
    for i, action in enumerate(actions):
        obs, reward, _, _, info = env.step(action)
        for found in (batch.observations[i], observations[i]):
            np.testing.assert_allclose(found, obs, rtol=2e-7)
        assert [batch.rewards[i], rewards[i]] == [reward] * 2
        assert batch.info(i)["metrics"] == info["metrics"]
        assert {**batch.info(i), "metrics": {}} == {**info, "metrics": {}}


@pytest.mark.parametrize("name", NAMES)
def test_copies_and_neighbours_agree_whatever_the_seed_and_order(name: str) -> None:
    env = make(name)
    actions = some_actions(env, 6, seed=1)
    env.reset(seed=1)
    first = [env.step(action)[1:] for action in actions]
    for other in (copy.deepcopy(env), pickle.loads(pickle.dumps(env)), make(name)):
        other.reset(seed=2)
        for i in (3, 1, 4, 0, 5, 2):
            env.step(actions[i - 1])  # between the other's steps
            assert other.step(actions[i])[1:] == first[i]


@pytest.mark.slow
def test_every_process_has_the_same_figures() -> None:
    program = (
        "import json, sys, gymnasium, simulators.environments_gym as envs\n"
        "found = []\n"
        "for name in ('Systolic', 'Mapping', 'Soc'):\n"
        "    env = gymnasium.make(f'codesign/{name}-v0')\n"
        "    env.reset(seed=int(sys.argv[1]))\n"
        "    env.action_space.seed(7)\n"
        "    steps = [env.step(env.action_space.sample()) for _ in range(5)]\n"
        "    found.append([(step[0].tolist(), step[1], step[4]) for step in steps])\n"
        "print(json.dumps(found))"
    )
    results = []
    for seed in ("1", "2"):
        done = subprocess.run([sys.executable, "-c", program, seed], check=True, capture_output=True, text=True)
        results.append(json.loads(done.stdout))
    assert results[0] == results[1]


NEVER: Mapping[str, Mapping[str, set[tuple[object, object]]]] = {
    # The columns of `edge-like` share an output register of one word: only loops that sum into one output may run
    # along them. Any other choice works where there is one column, and then it does nothing.
    "Mapping": {"parallel_D2": {("K", "OY"), ("K", "OX"), ("OY", "OX")}},
    # Two equal cores: see the test of this one.
    "Soc": {"zoomProcess_pe": {(0, 1)}},
}


def alike(problems: list[DesignEnv], rng: np.random.Generator, n: int, rounds: int) -> dict[str, set[tuple[Any, Any]]]:
    """Pairs of options of a field that give equal figures in every context tried.

    Contexts are n random walks through designs that work, from the base design.
    """
    search = problems[0].preset.search
    left = {name: {(i, j) for j in range(len(o)) for i in range(j)} for name, o in search.items()}
    walks = [np.repeat(env.encode(env.base.info(0)["design"])[None], n, axis=0) for env in problems]
    for turn in range(rounds):
        env, context = problems[turn % len(problems)], walks[turn % len(problems)]
        counts = np.array([len(options) for options in search.values()])
        anywhere = rng.integers(0, counts, size=context.shape)
        moved = np.where(rng.random(context.shape) < rng.random((n, 1)) ** 2, anywhere, context)
        context[:] = np.where(np.isfinite(env.step_batch(moved).violations)[:, None], moved, context)
        for f, (name, options) in enumerate(search.items()):
            if left[name]:
                actions = np.repeat(context, len(options), axis=0)
                actions[:, f] = np.tile(np.arange(len(options)), n)
                table = _table(env.step_batch(actions)).reshape(n, len(options), -1)
                left[name] = {(i, j) for i, j in left[name] if np.array_equal(table[:, i], table[:, j], equal_nan=True)}
    return {name: {(search[name][i], search[name][j]) for i, j in pairs} for name, pairs in left.items() if pairs}


def _table(step: BatchStep) -> Any:
    return np.stack([*step.metrics.values(), np.isfinite(step.violations)], axis=1)


@pytest.mark.parametrize(
    ("name", "others", "n", "rounds"),
    [
        ("Systolic", [], 8, 4),
        ("Mapping", [], 100, 10),
        pytest.param("Soc", [], 200, 20, marks=pytest.mark.slow),
        pytest.param("Dram", [{"trace": make_trace("hot_cold", n_requests=2000)}], 12, 6, marks=pytest.mark.slow),
        pytest.param("Spatial", [], 3, 3, marks=pytest.mark.slow),
    ],
)
def test_every_option_is_reached_and_changes_a_figure(
    name: str, others: list[dict[str, Any]], n: int, rounds: int
) -> None:
    env = make(name)
    search = env.preset.search
    for f, (searched, options) in enumerate(search.items()):
        actions = np.zeros((len(options), len(search)), dtype=np.int64)
        actions[:, f] = np.arange(len(options))
        assert env.designs(actions)[searched].tolist() == list(options)
    problems = [env, *(make(name, **other) for other in others)]
    assert alike(problems, np.random.default_rng(0), n, rounds) == NEVER.get(name, {})


def test_no_core_matters_to_a_task_that_runs_alone_and_is_never_held_up() -> None:
    graph, env = Soc().task_graph, make("Soc")
    task = graph.tasks.index("zoomProcess")

    def reached(start: set[int], ends: IntArray, starts: IntArray) -> set[int]:
        more = start | {int(b) for a, b in zip(starts, ends, strict=True) if a in start and b >= 0}
        return start if more == start else reached(more, ends, starts)

    after, before = reached({task}, graph.edge_to, graph.edge_from), reached({task}, graph.edge_from, graph.edge_to)
    assert after | before == set(range(len(graph.tasks)))  # every other task ends before it or waits for it
    cores = [env.preset.values[f"pe_{i}_clock_mhz"] for i in (0, 1)]
    assert cores == [1000.0, 1000.0]
    bytes_moved = graph.edge_bytes[(graph.edge_from == task) | (graph.edge_to == task)].sum()
    narrowest = min(env.preset.search["bus_0_width_bytes"]) * min(env.preset.search["bus_0_clock_mhz"]) * 1e6  # type: ignore[operator]
    assert graph.ops[task] / (2.0 * 1000e6) > bytes_moved / narrowest


@dataclass(frozen=True)
class SystolicOnResNet:
    """The systolic environment's model, as a job could name it."""

    @cached_property
    def on_network(self) -> OnWorkload:
        """What it stands for."""
        return OnWorkload(Systolic(("latency_ms", "energy_uj", "area_mm2")), *load_network("resnet18-64"))

    @property
    def id(self) -> str:
        """As of the simulator."""
        return self.on_network.id

    @property
    def fields(self) -> tuple[Field, ...]:
        """As of the simulator."""
        return self.on_network.fields

    @property
    def metrics(self) -> tuple[str, ...]:
        """As of the simulator."""
        return self.on_network.metrics

    def evaluate(self, designs: Columns) -> DesignReport:
        """Figures of the network."""
        return self.on_network.evaluate(designs)


class SpatialOnTiny(SystolicOnResNet):
    """The spatial environment's model, as a job could name it."""

    @cached_property
    def on_network(self) -> OnWorkload:
        """What it stands for."""
        return OnWorkload(Spatial(), *tiny_network())


def preset_file(preset: Preset, folder: Path) -> str:
    def toml(value: object) -> str:
        return json.dumps(list(value) if isinstance(value, tuple) else value)

    lines = [f"simulator = {toml(preset.simulator)}", 'description = "written by a test"']
    for table, values in (("values", preset.values), ("search", preset.search)):
        lines += [f"[{table}]", *(f"{name} = {toml(value)}" for name, value in values.items())]
    path = folder / "written.toml"
    path.write_text("\n".join(lines), encoding="utf-8")
    return str(path)


@pytest.mark.parametrize(
    ("name", "model"),
    [
        pytest.param("Dram", "dram", marks=pytest.mark.slow),
        ("Systolic", f"{__name__}:SystolicOnResNet"),
        pytest.param("Spatial", f"{__name__}:SpatialOnTiny", marks=pytest.mark.slow),
        ("Mapping", "mapping"),
        ("Soc", {"type": "soc", "graph": "audio_decoder"}),
    ],
)
def test_codes_mean_the_same_designs_as_in_codesign(name: str, model: Any, tmp_path: Path) -> None:
    env = make(name, **({"trace": "hot_cold"} if name == "Dram" else {}))
    space = DesignSpace(model=model, preset=preset_file(env.preset, tmp_path))
    assert [choice.name for choice in space.choices] == list(env.preset.search)
    actions = some_actions(env, 12)
    theirs = space.designs(actions)
    for searched, values in env.designs(actions).items():
        assert values.tolist() == theirs[searched].tolist()
    for action in actions:
        assert env.encode(space.decode(action)).tolist() == action.tolist()  # type: ignore[arg-type]
    found, expected = env.step_batch(actions), space.design_model.evaluate(theirs)
    for metric, figures in found.metrics.items():
        assert np.array_equal(figures, expected.metrics[metric], equal_nan=True)


def test_options_reach_the_model() -> None:
    env = make("Systolic", network="mobilenetv2-96", objectives=("latency_cycles",), budgets={}, horizon=7)
    assert env.model.metrics == ("latency_cycles",)
    assert env.horizon == 7
    env = make("Systolic", values={"clock_ghz": 1.0}, search={"rows": [8, 16]})
    assert env.preset.values["clock_ghz"] == 1.0
    assert env.action_space == gymnasium.spaces.MultiDiscrete([2])
    assert make("Soc", graph="toy", budgets={"area_mm2": 3.0}).reward.budgets == {"area_mm2": 3.0}
    assert make("Soc", graph="edge_detection").reward.budgets["latency_ms"] == 34.0
    assert make("Mapping", layer=0).n_designs != make("Mapping", layer=1).n_designs


def test_a_trace_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "own.stl"
    path.write_text("0: read 0x0\n4: write 0x40\n9: read 0x80\n")
    env = make("Dram", trace=path, device="ddr4-2400-4gb-x8", preset="dram-ddr4")
    assert env.base.metrics["latency_ns"][0] > 0


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("Dram", {"trace": "hot-cold"}, "trace: 'hot-cold' .* did you mean 'hot_cold'"),
        ("Dram", {"device": "ddr5"}, "device: 'ddr5'"),
        ("Dram", {"objectives": ["bandwidth_gb_per_s"]}, "better when higher"),
        ("Systolic", {"network": "resnet18"}, "network: 'resnet18'"),
        ("Systolic", {"preset": "dram-ddr3"}, "is for simulator 'dram'"),
        ("Systolic", {"search": {"row": [3]}}, "'row' is not one of"),
        ("Soc", {"graph": "audio"}, "did you mean 'audio_decoder'"),
        ("Soc", {"pe_sharing": "fair"}, "pe_sharing"),
        ("Mapping", {"layer": 12}, "layer: 12 is not allowed; 'resnet18-224' has 0 to 11"),
    ],
)
def test_wrong_options_are_one_message(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(name, **options)


def test_a_model_whose_fields_have_no_end_has_no_whole_space() -> None:
    with pytest.raises(ValueError, match="list its options in a preset"):
        envs.whole_space(SystolicOnResNet())


@pytest.mark.parametrize("name", NAMES)
def test_a_misspelt_option_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"option: 'budget' is not one of .*did you mean 'budgets'"):
        make(name, budget={"area_mm2": 0.5})
