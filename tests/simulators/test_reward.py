"""The reward's order of worth."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulators.reward import Reward

REWARD = Reward({"latency_ms": 2.0, "energy_uj": 5.0}, {"area_mm2": 4.0})
COST = st.floats(1e-6, 1e6)


def worth(latency: float, energy: float, area: float) -> float:
    arrays = {"latency_ms": np.array([latency]), "energy_uj": np.array([energy]), "area_mm2": np.array([area])}
    return float(REWARD.rewards(arrays)[0])


@given(COST, COST, st.floats(1e-6, 4.0), st.floats(1.001, 100))
def test_within_the_budgets_every_objective_counts_strictly(
    lat: float, energy: float, area: float, more: float
) -> None:
    assert 1 < worth(lat, energy, area) < 2
    assert worth(lat * more, energy, area) < worth(lat, energy, area)
    assert worth(lat, energy * more, area) < worth(lat, energy, area)


@given(COST, COST, st.floats(4.001, 1e4), st.floats(1.001, 100), COST, COST)
def test_states_never_overlap(lat: float, energy: float, area: float, more: float, other: float, third: float) -> None:
    over = worth(lat, energy, area)
    assert 0 < over < 1 < worth(other, third, 4.0)
    assert worth(lat, energy, area * more) < over
    assert worth(np.nan, energy, 1.0) == 0


def test_figures_by_hand() -> None:
    assert worth(2.0, 5.0, 1.0) == 1.5
    assert worth(2.0, 5.0, 6.0) == 1 / 1.5


@pytest.mark.parametrize(("references", "budgets"), [({}, {}), ({"a": 0.0}, {}), ({"a": 1.0}, {"b": np.inf})])
def test_meaningless_rewards_are_refused(references: dict[str, float], budgets: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="objectives|budgets"):
        Reward(references, budgets)
