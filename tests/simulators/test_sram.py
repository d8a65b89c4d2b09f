from __future__ import annotations

from dataclasses import fields
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulators.sram import SramCost, sram, sram_range

# What CACTI 7 (snapshot of June 2017; type ram, one bank, associativity 1, high-performance cells, 360 K, other inputs
# as in its cache.cfg) prints. size_bytes, block_bytes, tech_nm, rw, read and write ports; ns, ns, nJ, nJ, mW, mm2.
PRINTED = """
2048 8 32 0 1 1 0.171801 0.144788 0.00173181 0.00260755 2.00087 0.009082334944
2048 64 22 1 0 0 0.111251 0.159411 0.00748001 0.00825899 0.896309 0.009599709715
4096 16 45 0 1 1 0.300907 0.240083 0.00526041 0.0139113 7.33396 0.03436037253
8192 32 65 1 0 0 0.484776 0.41604 0.0187401 0.0442662 12.4695 0.07330826878
16384 16 45 1 0 0 0.374495 0.329931 0.0104599 0.0215615 21.8056 0.0567378116
32768 8 45 0 1 1 0.510916 0.587485 0.021211 0.0180894 50.1357 0.2128044802
65536 64 65 1 0 0 0.9642 0.906859 0.0833911 0.29104 90.289 0.4811995519
131072 32 22 1 0 0 0.423818 0.512839 0.01994 0.0217079 38.6723 0.1289308255
262144 8 32 0 1 1 1.05576 0.926283 0.0302127 0.0247553 199.039 0.9847826952
524288 64 22 0 1 1 1.21271 0.904497 0.111137 0.139716 193.336 1.105882152
1048576 16 65 1 0 0 2.7578 2.66903 0.235579 0.194091 1258.09 7.660712342
2097152 64 65 1 0 0 3.80674 2.89694 1.06306 1.16356 2520.14 18.53937593
"""


def names() -> list[str]:
    return [f.name for f in fields(SramCost)]


def test_figures_on_the_grid_are_those_that_cacti_prints() -> None:
    rows = np.array([[float(word) for word in line.split()] for line in PRINTED.strip().splitlines()])
    cost = sram(*rows.T[:6])
    for name, expected in zip(names(), rows.T[6:], strict=True):
        np.testing.assert_allclose(getattr(cost, name), expected, rtol=1e-5, err_msg=name)


def test_between_grid_points_figures_are_between_theirs() -> None:
    low, mid, high = (sram([size], 16, 45) for size in (65536, 80000, 98304))
    for name in names():
        ends = sorted((getattr(low, name)[0], getattr(high, name)[0]))
        assert ends[0] <= getattr(mid, name)[0] <= ends[1], name
    share = np.log(80000 / 65536) / np.log(98304 / 65536)
    expected = low.area_mm2 ** (1 - share) * high.area_mm2**share
    np.testing.assert_allclose(mid.area_mm2, expected, rtol=1e-12)


KIB = st.integers(1, 4096)


@given(
    st.tuples(KIB, KIB), st.sampled_from([1, 4, 12, 16, 64, 200]), st.sampled_from([22, 30, 45, 65, 90]),
    st.sampled_from([(1, 0, 0), (0, 1, 1)]),
)  # fmt: skip
def test_monotone_figures_grow_with_capacity(
    sizes: tuple[int, int], block: int, tech: int, ports: tuple[int, int, int]
) -> None:
    cost = sram(np.array(sorted(sizes)) * 1024, block, tech, *ports, monotone=True)
    for name in names():
        small, large = getattr(cost, name)
        assert small <= large * (1 + 1e-12), name


def test_monotone_figures_are_the_largest_of_smaller_memories() -> None:
    sizes = np.array([s for s in sram_range().size_bytes if 4096 <= s <= 4194304])
    exact, envelope = sram(sizes, 32, 45), sram(sizes, 32, 45, monotone=True)
    for name in names():
        expected = np.maximum.accumulate(getattr(exact, name))
        np.testing.assert_allclose(getattr(envelope, name)[3:], expected[3:], rtol=1e-12)
    assert any((np.diff(getattr(exact, name)) < 0).any() for name in names())  # CACTI is not monotone


def test_a_memory_too_small_for_its_word_is_refused_or_costs_the_smallest_that_can_be_built() -> None:
    with pytest.raises(ValueError, match=r"no figures for size_bytes 1024 with block_bytes 64.*needs a larger memory"):
        sram(1024, 64)
    assert sram(1024, 64, monotone=True).area_mm2 == sram(2048, 64, monotone=True).area_mm2


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"size_bytes": 100}, "size_bytes 100 is not allowed; use 512 to"),
        ({"block_bytes": 1024}, "block_bytes 1024 is not allowed; use 1 to 256"),
        ({"tech_nm": 7}, "tech_nm 7 is not allowed; use 22 to 90"),
        ({"rw_ports": 7}, r"ports \(rw, read, write\) \(7, 0, 0\) are not one of \(1, 0, 0\)"),
        ({"size_bytes": float("nan")}, "size_bytes nan is not allowed"),
    ],
)
def test_inputs_off_the_grid_are_refused(wrong: dict[str, float], message: str) -> None:
    inputs: dict[str, float] = {"size_bytes": 4096, "block_bytes": 8, "tech_nm": 45, "rw_ports": 1}
    with pytest.raises(ValueError, match=message):
        sram(**{**inputs, **wrong})  # type: ignore[arg-type]


def test_shapes_broadcast_and_order_does_not_matter() -> None:
    cost = sram(np.array([[4096], [65536], [99999]]), np.array([8, 16, 32, 64]))
    assert cost.read_energy_nj.shape == (3, 4)
    assert cost.read_energy_nj[2, 1] == sram(99999, 16).read_energy_nj
    assert sram(np.zeros(0) + 4096).area_mm2.shape == (0,)
    assert sram(4096).area_mm2.shape == ()


def test_more_ports_cost_area_and_a_newer_technology_less_of_everything_but_leakage() -> None:
    assert sram(32768, 16, 45, 0, 1, 1).area_mm2 > 1.5 * sram(32768, 16, 45).area_mm2
    older = [sram(32768, 16, tech) for tech in (65, 45, 32, 22)]
    for worse, better in pairwise(older):
        assert better.area_mm2 < worse.area_mm2
        assert better.read_energy_nj < worse.read_energy_nj
        assert better.access_ns < worse.access_ns
