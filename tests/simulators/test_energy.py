from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from simulators.energy import (
    accumulator_bits,
    adder_pj,
    area_scale,
    dram_kinds,
    dram_pj_per_bit,
    energy_scale,
    hop_pj,
    multiplier_pj,
    pe_cost,
    register_pj,
    sources,
    wire_pj,
)


def test_published_figures_come_back_at_their_own_width_and_technology() -> None:
    # Horowitz, ISSCC 2014 (45 nm): 8, 16 and 32-bit additions, 8 and 32-bit multiplications
    np.testing.assert_allclose(adder_pj([8, 16, 32]), [0.03, 0.05, 0.1])
    np.testing.assert_allclose(multiplier_pj([8, 32]), [0.2, 3.1])
    # Keckler et al. 2011 (40 nm): 256 bits of random data over 10 mm take 310 pJ
    assert wire_pj(256, 10, 40) == pytest.approx(310)
    # Aladdin (40 nm): a flip-flop written takes 9.0 fJ
    assert register_pj(1, 40) == pytest.approx(8.999495e-3)
    assert dram_pj_per_bit("hbm2") == 3.92
    assert dram_pj_per_bit("ddr3") * 64 == 1300


def test_an_8_bit_mac_adds_a_product_to_32_bits() -> None:
    assert accumulator_bits(8) == 32
    assert pe_cost(8).mac_pj == pytest.approx(0.2 + 0.1)
    flops = 3 * 8 + 32
    assert pe_cost(8, 40).area_um2 == pytest.approx((282 + 137) * area_scale(40, 45) + flops * 5.981433)


def test_scaling_follows_the_published_polynomials() -> None:
    at = {45: 1.103 * 0.81 - 0.362 * 0.9 + 0.2767, 65: 3.755 * 0.81 - 4.398 * 0.9 + 1.975}
    assert energy_scale(65, 45) == pytest.approx(at[65] / at[45])
    assert energy_scale(65, 45) * energy_scale(45, 65) == pytest.approx(1)
    assert area_scale(32, 45) == pytest.approx(0.46)
    between = energy_scale(55, 45)
    assert energy_scale(45, 45) == 1 < between < energy_scale(65, 45)


def test_wider_words_and_older_technologies_cost_more() -> None:
    widths, technologies = np.arange(1, 65), np.arange(7, 131)
    for figure in (adder_pj, multiplier_pj, register_pj):
        assert (np.diff(figure(widths)) > 0).all()
        assert (np.diff(figure(16, technologies)) > 0).all()
    pes = pe_cost(widths)
    for values in (pes.mac_pj, pes.area_um2, pes.leakage_uw):
        assert (np.diff(values) > 0).all()
    assert (np.diff(pe_cost(8, technologies).area_um2) > 0).all()
    for near, far in pairwise((100, 400, 900, 1600)):
        assert hop_pj(8, near) < hop_pj(8, far)
    assert hop_pj(8, 1e6) == pytest.approx(wire_pj(8, 1.0) + register_pj(8))


def test_every_figure_names_its_source() -> None:
    named = sources()
    assert {"adder", "multiplier", "register", "wire", "scaling", "logic_leakage"} <= set(named)
    assert {f"dram.{kind}" for kind in dram_kinds()} <= set(named)
    assert all(any(word in text for word in ("20", "ISSCC")) for text in named.values())


def test_wrong_inputs_are_refused() -> None:
    with pytest.raises(ValueError, match="did you mean 'hbm2'"):
        dram_pj_per_bit("hbm3")
    with pytest.raises(ValueError, match="tech_nm: 5 is not allowed; use 7 to 130"):
        energy_scale(5, 45)
    with pytest.raises(ValueError, match="bits: 0 is not allowed"):
        pe_cost(0)
