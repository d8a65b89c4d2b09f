"""A design model as an environment: gymnasium's promises, and those that ArchGym's environments break."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from hypothesis import given
from hypothesis import strategies as st

from codesign.design_space import DesignSpace
from simulators.accelerator import Columns, Field, Preset
from simulators.design import DesignReport
from simulators.design_gym import DesignEnv
from simulators.design_vector_gym import DesignVectorEnv
from simulators.workload import IntArray


@dataclass(frozen=True)
class Buffer:
    """A toy: time falls with bus and buffer, area grows with both; a buffer below a tile cannot work."""

    tile_kib: int = 2
    id: ClassVar[str] = "buffer-v1"
    fields: ClassVar[tuple[Field, ...]] = (
        Field("kib", "int", "KiB", 4, lowest=1, doc="size"),
        Field("bytes_per_cycle", "float", "bytes/cycle", 1.0, lowest=0.1, doc="bus"),
        Field("policy", "str", "", "lru", allowed=("lru", "fifo"), doc="what goes first"),
    )
    metrics: ClassVar[tuple[str, ...]] = ("latency_cycles", "area_mm2", "faults", "words_per_s")

    def evaluate(self, designs: Columns) -> DesignReport:
        """Closed form."""
        kib, rate = designs["kib"].astype(np.float64), designs["bytes_per_cycle"].astype(np.float64)
        works, is_fifo = kib >= self.tile_kib, designs["policy"] == "fifo"
        figures = (1000.0 / rate + (1000.0 + 50.0 * is_fifo) / kib, kib * 0.1 + rate, 1.0 * is_fifo, rate * 1e9)
        metrics = {name: np.where(works, f, np.nan) for name, f in zip(self.metrics, figures, strict=True)}
        return DesignReport(metrics, ["" if ok else "kib: a tile does not fit" for ok in works], ("leakage",))


KIB, RATES = (4, 1, 2, 8, 16, 32), (1.0, 2.0, 4.0, 8.0)
PRESET = Preset(
    "toy", "buffer", "a buffer and a bus", {}, {"kib": KIB, "bytes_per_cycle": RATES, "policy": ("lru", "fifo")}
)
COUNTS = np.array([len(KIB), len(RATES), 2])


def toy(horizon: int = 100, **options: Any) -> DesignEnv:
    given = {"objectives": ("latency_cycles",), "budgets": {"area_mm2": 6.0}, **options}
    return DesignEnv(Buffer(), PRESET, horizon=horizon, **given)


def every_action() -> IntArray:
    return np.array(np.meshgrid(*map(np.arange, COUNTS), indexing="ij")).reshape(3, -1).T


def same(found: object, expected: object) -> bool:
    if isinstance(expected, Mapping):
        return isinstance(found, Mapping) and found.keys() == expected.keys() and all(
            same(found[key], expected[key]) for key in expected
        )  # fmt: skip
    return bool(np.array_equal(np.asarray(found), np.asarray(expected)))


def test_gymnasiums_own_checks_pass_without_a_warning() -> None:
    check_env(toy(), skip_render_check=True)  # warnings are errors here; it has no entry in a registry


def test_a_step_is_a_pure_function_of_its_action() -> None:
    env, rng = toy(), np.random.default_rng(3)
    actions = rng.integers(0, COUNTS, size=(60, 3))
    env.reset(seed=1)
    first = [env.step(action) for action in actions]
    env.reset(seed=2)
    for i in rng.permutation(60):  # another seed, another order, and on another copy
        for other in (env, copy.deepcopy(env), pickle.loads(pickle.dumps(env))):
            obs, reward, _, _, info = other.step(actions[i])
            assert np.array_equal(obs, first[i][0])
            assert reward == first[i][1]
            assert info == first[i][4]


def test_the_global_generator_is_left_alone() -> None:
    state = np.random.get_state()[1].tolist()  # type: ignore[index]
    env = toy()
    env.reset(seed=5)
    env.step(np.array([0, 0, 0]))
    assert np.random.get_state()[1].tolist() == state  # type: ignore[index]


def test_two_environments_do_not_disturb_each_other() -> None:
    alone, left, right = toy(), toy(), toy(horizon=3)
    alone.reset()
    left.reset()
    right.reset()
    for action in every_action()[:20]:
        right.step(action[::-1] % COUNTS)
        assert same(left.step(action)[4], alone.step(action)[4])


def test_every_choice_is_reached_and_codes_are_those_of_codesign(tmp_path: Path) -> None:
    env, actions = toy(), every_action()
    designs = env.designs(actions)
    reached = set(zip(*(column.tolist() for column in designs.values()), strict=True))
    assert len(reached) == env.n_designs == 48
    lines = [f"{name} = {[*options]}".replace("'", '"') for name, options in PRESET.search.items()]
    path = tmp_path / "toy.toml"
    path.write_text("\n".join(['simulator = "buffer"', 'description = "a toy"', "[search]", *lines]))
    space = DesignSpace(model=f"{__name__}:Buffer", preset=str(path))
    theirs = space.designs(actions)
    for name, column in designs.items():
        assert column.tolist() == theirs[name].tolist()
    for action in actions:
        design = {name: value for name, value in space.decode(action).items() if isinstance(value, int | float | str)}
        assert env.encode(design).tolist() == space.encode(design).tolist() == action.tolist()


def test_designs_that_cannot_work_are_a_state() -> None:
    env = toy()
    obs, reward, terminated, _, info = env.step(np.array([1, 0, 0]))
    assert info == {
        "metrics": {},
        "design": {"kib": 1, "bytes_per_cycle": 1.0, "policy": "lru"},
        "violation": np.inf,
        "reason": "kib: a tile does not fit",
    }
    assert obs.tolist() == [1, 1, 1, 1, 0, 0]
    assert (reward, terminated) == (0.0, False)


def test_observations_and_rewards_by_hand() -> None:
    env = toy()
    start, info = env.reset()
    assert start.tolist() == [0.5, 0.5, 0.0, 0.5, 1.0, 1.0]  # the base has no faults: none of none
    assert info["design"] == {"kib": 4, "bytes_per_cycle": 1.0, "policy": "lru"}
    obs, reward, *_ = env.step(np.array([0, 1, 1]))
    assert obs[0] == np.float32(762.5 / (762.5 + 1250.0))
    assert obs[2] == pytest.approx(1.0)
    assert reward == 1.0 + 1250.0 / (1250.0 + 762.5)
    assert env.step(np.array([5, 3, 0]))[1] == 1 / (1 + (11.2 / 6 - 1))


def test_rewards_fall_with_every_cost_and_keep_budgets_first() -> None:
    env = toy()
    step = env.step_batch(every_action())
    works, latency = np.isfinite(step.violations), step.metrics["latency_cycles"]
    within, over = step.violations == 0, works & (step.violations > 0)
    assert within.any()
    assert over.any()
    assert (~works).any()
    assert step.rewards[within].min() > 1 > step.rewards[over].max()
    assert step.rewards[over].min() > 0 == step.rewards[~works].max()
    order = np.argsort(latency[within], kind="stable")
    steps = np.diff(latency[within][order])
    assert (np.diff(step.rewards[within][order])[steps > 0] < 0).all()
    by_area = np.argsort(step.metrics["area_mm2"][over], kind="stable")
    assert (np.diff(step.rewards[over][by_area]) <= 0).all()


@given(st.integers(1, 12), st.integers(0, 2**32 - 1))
def test_a_batch_equals_step_by_step(n: int, seed: int) -> None:
    env = toy()
    actions = np.random.default_rng(seed).integers(0, COUNTS, size=(n, 3))
    batch = env.step_batch(actions)
    for i, action in enumerate(actions):
        obs, reward, _, _, info = env.step(action)
        assert np.array_equal(batch.observations[i], obs)
        assert batch.rewards[i] == reward
        assert batch.info(i) == info


def test_episodes_are_as_long_as_the_horizon() -> None:
    env = toy(horizon=3)
    for _ in range(2):
        env.reset()
        assert [env.step(np.array([0, 0, 0]))[3] for _ in range(3)] == [False, False, True]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"objectives": ()}, "objectives: name at least one"),
        ({"objectives": ("latency_cycle",)}, "did you mean 'latency_cycles'"),
        ({"budgets": {"area": 3.0}}, "budgets: 'area' is not one of"),
        ({"objectives": ("words_per_s",)}, "better when higher"),
        ({"horizon": 0}, "horizon: 0"),
    ],
)
def test_wrong_problems_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        toy(**options)


def test_a_base_that_cannot_work_or_nothing_to_search_is_refused() -> None:
    with pytest.raises(ValueError, match="its base design cannot work: kib"):
        DesignEnv(Buffer(8), PRESET, ("latency_cycles",))
    with pytest.raises(ValueError, match="nothing to choose"):
        DesignEnv(Buffer(), Preset("toy", "buffer", "", {}), ("latency_cycles",))


@pytest.mark.parametrize("action", [[0, 0], [0, 0, 2], [-1, 0, 0], [0.0, 0.0, 0.0]])
def test_wrong_actions_are_refused(action: list[float]) -> None:
    with pytest.raises(ValueError, match="actions"):
        toy().step(np.array(action))


@pytest.mark.parametrize(
    ("design", "message"),
    [
        ({"kib": 4, "bytes_per_cycle": 1.0}, "design.policy: None"),
        ({"kib": 5, "bytes_per_cycle": 1.0, "policy": "lru"}, "design.kib: 5"),
        ({"kb": 4, "bytes_per_cycle": 1.0, "policy": "lru"}, "did you mean 'kib'"),
    ],
)
def test_designs_that_the_space_does_not_hold_are_refused(design: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        toy().encode(design)


def _masked(infos: Mapping[str, Any]) -> dict[str, Any]:
    """Infos with everything that a mask hides removed."""
    result: dict[str, Any] = {}
    for name, value in infos.items():
        if name.startswith("_"):
            result[name] = value.tolist()
        elif isinstance(value, Mapping):
            result[name] = _masked(value)
        else:
            result[name] = [v.tolist() if isinstance(v, np.ndarray) else v for v in value[infos[f"_{name}"]]]
    return {name: value for name, value in result.items() if not name.startswith("_") or any(value)}


@pytest.mark.parametrize("mode", AutoresetMode)
@pytest.mark.parametrize("horizon", [1, 3])
def test_the_vector_environment_is_that_of_gymnasium_over_copies(mode: AutoresetMode, horizon: int) -> None:
    ours = DesignVectorEnv(toy(horizon), 5, mode)
    theirs = SyncVectorEnv([lambda: toy(horizon)] * 5, autoreset_mode=mode)
    assert ours.action_space == theirs.action_space
    assert ours.observation_space == theirs.observation_space
    rng = np.random.default_rng(0)
    (obs, infos), (their_obs, their_infos) = ours.reset(seed=1), theirs.reset(seed=1)
    assert np.array_equal(obs, their_obs)
    assert _masked(infos) == _masked(their_infos)
    for number in range(12):
        actions = rng.integers(0, COUNTS, size=(5, 3))
        found, expected = ours.step(actions), theirs.step(actions)
        for mine, other in zip(map(np.asarray, found[:4]), map(np.asarray, expected[:4]), strict=True):
            assert mine.dtype == other.dtype
            assert np.array_equal(mine, other)
        assert _masked(found[4]) == _masked(expected[4]), number
        ended = found[3]
        if mode is AutoresetMode.DISABLED:
            mask = ended | (rng.random(5) < 0.3)
            if mask.any():
                obs, infos = ours.reset(options={"reset_mask": mask.copy()})
                their_obs, their_infos = theirs.reset(options={"reset_mask": mask.copy()})
                assert np.array_equal(obs, their_obs)
                assert _masked(infos) == _masked(their_infos)


def test_a_vector_environment_refuses_what_it_cannot_do() -> None:
    with pytest.raises(ValueError, match="num_envs: 0"):
        DesignVectorEnv(toy(), 0)
    envs = DesignVectorEnv(toy(1), 2, "Disabled")
    envs.reset()
    with pytest.raises(ValueError, match="one for each of 2"):
        envs.step(np.zeros((3, 3), dtype=np.int64))
    with pytest.raises(ValueError, match="reset_mask"):
        envs.reset(options={"reset_mask": np.zeros(2, dtype=np.bool_)})
    envs.step(np.zeros((2, 3), dtype=np.int64))
    with pytest.raises(ValueError, match="episode 0 has ended"):
        envs.step(np.zeros((2, 3), dtype=np.int64))


def test_gymnasiums_wrappers_take_it() -> None:
    env = gymnasium.wrappers.RecordEpisodeStatistics(gymnasium.wrappers.TimeLimit(toy(), 4))
    env.reset(seed=0)
    ends = [env.step(np.array([0, i, 0])) for i in range(4)]
    assert ends[-1][3]
    assert ends[-1][4]["episode"]["r"] == pytest.approx(sum(float(end[1]) for end in ends))
