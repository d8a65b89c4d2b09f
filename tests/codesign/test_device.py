"""Devices: units of op tables, the fit to whole networks, and calibrations that time, cuts and bad files test."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codesign.device import Calibration, Machine, held_out_errors
from codesign.device_calibrate import PASSES, Plan, begin, calibrate, check_same
from codesign.device_costs import UnitCosts
from codesign.device_file import load_calibration, save_calibration
from codesign.device_fit import Prediction
from codesign.device_units import (
    ABSORBED,
    CLASSES,
    SIGNATURE_COLUMNS,
    WITH_ACTIVATION,
    WITH_ADD,
    FloatArray,
    classes_of,
    unit_text,
    units_of,
    work_of,
)
from codesign.errors import InputError
from search_spaces.nasnet import NasNet
from search_spaces.networks import mobilenetv2, resnet18
from search_spaces.ops import COLUMNS, IntArray, OpKind, OpTable, OpTableBuilder

SPACE = NasNet(image_shape=(1, 8, 8), classes=10, blocks=2, cells=1, channels=(4, 8))
MACHINE = Machine("a processor", 2, "Linux x86_64", "onnxruntime 1.0", 1)


def chain(*kinds: OpKind, channels: int = 8) -> OpTable:
    """Ops of one candidate that each keep 8 x 8 pixels."""
    builder = OpTableBuilder(1)
    shape = {"in_channels": channels, "out_channels": channels}
    shape |= dict.fromkeys(("in_height", "in_width", "out_height", "out_width"), 8)
    for kind in kinds:
        builder.add(np.zeros(1, dtype=np.int64), kind, kind.name, **shape)
    return builder.build()


CONV, NORM, ACT, ADD, LINEAR = OpKind.CONV, OpKind.NORM, OpKind.ACTIVATION, OpKind.ADD, OpKind.LINEAR


@pytest.mark.parametrize(
    ("kinds", "expected"),
    [
        ((CONV, NORM), [(CONV, 0)]),  # folded
        ((NORM, CONV), [(NORM, 0), (CONV, 0)]),
        ((LINEAR, NORM), [(LINEAR, 0), (NORM, 0)]),
        ((CONV, NORM, ACT), [(CONV, WITH_ACTIVATION), (ACT, ABSORBED)]),
        ((CONV, ACT, ACT), [(CONV, WITH_ACTIVATION), (ACT, ABSORBED), (ACT, 0)]),
        ((LINEAR, ACT), [(LINEAR, WITH_ACTIVATION), (ACT, ABSORBED)]),
        ((LINEAR, ADD), [(LINEAR, 0), (ADD, 0)]),
        ((CONV, NORM, ADD), [(CONV, WITH_ADD), (ADD, ABSORBED)]),
        ((CONV, ADD, ACT), [(CONV, WITH_ADD | WITH_ACTIVATION), (ADD, ABSORBED), (ACT, ABSORBED)]),
        ((ADD, ACT), [(ADD, 0), (ACT, 0)]),
        ((ACT, CONV), [(ACT, 0), (CONV, 0)]),
    ],
)
def test_what_is_fused(kinds: tuple[OpKind, ...], expected: list[tuple[OpKind, int]]) -> None:
    units = units_of(chain(*kinds))
    found = Counter({(OpKind(int(kind)), int(fused)): 0 for kind, fused in units.signatures[:, :2]})
    for signature, count in zip(units.signature, units.count, strict=True):
        kind, fused = units.signatures[signature, :2]
        found[OpKind(int(kind)), int(fused)] += int(count)
    assert found == Counter(expected)


def test_nothing_is_fused_across_candidates_or_shapes() -> None:
    builder = OpTableBuilder(2)
    ones = dict.fromkeys(("in_height", "in_width", "out_height", "out_width"), 1)
    builder.add(np.array([0]), CONV, "a", in_channels=4, out_channels=8, **ones)
    builder.add(np.array([1]), ACT, "b", in_channels=8, out_channels=8, **ones)
    assert units_of(builder.build()).signatures[:, 1].tolist() == [0, 0]
    wide = OpTableBuilder(1)
    wide.add(np.array([0]), CONV, "a", in_channels=4, out_channels=8, **ones)
    wide.add(np.array([0]), ACT, "b", in_channels=4, out_channels=4, **ones)
    assert units_of(wide.build()).signatures[:, 1].tolist() == [0, 0]


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000), n=st.integers(1, 6))
def test_units_of_a_batch_are_those_of_its_networks(seed: int, n: int) -> None:
    codes = SPACE.sample(n, np.random.default_rng(seed))
    units = units_of(SPACE.ops(codes))
    for network, code in enumerate(codes):
        alone = units_of(SPACE.ops(code[None]))
        expected = {tuple(alone.signatures[s]): c for s, c in zip(alone.signature, alone.count, strict=True)}
        rows = units.network == network
        found = {tuple(units.signatures[s]): c for s, c in zip(units.signature[rows], units.count[rows], strict=True)}
        assert found == expected
        np.testing.assert_array_equal(units.counts()[network][units.signature[rows]], units.count[rows])


def test_the_work_of_units_is_that_of_the_ops() -> None:
    for table in (resnet18(), mobilenetv2()):
        units = units_of(table)
        work = work_of(units.signatures)
        assert (work[units.signature, 0] * units.count).sum() == table.macs().sum()
        assert len(classes_of(units.signatures)) == len(units.signatures)


def test_units_have_readable_names() -> None:
    names = {unit_text(signature.tolist()) for signature in units_of(resnet18()).signatures}
    assert "convolution 7x7, 3x224x224 to 64x112x112, stride 2, with activation" in names
    assert "convolution 3x3, 64x56x56, with addition, with activation" in names
    assert "absorbed add, 64x56x56" in names


def true_unit_ms(signatures: IntArray) -> FloatArray:
    """What a made-up device takes for units."""
    macs, read, written, _ = work_of(signatures).T
    return np.asarray(2e-3 + macs / 3e7 + (read + written) / 2e7)


class MadeUp:
    """A device whose networks take an overhead, their units' time, 30 % less where absorbed, and noise."""

    def __init__(self, space: NasNet = SPACE, noise: float = 0.01) -> None:
        self.space, self.noise = space, noise
        self.now = 0.0
        self.opened: list[str] = []

    def networks(self, codes: IntArray, seed: int) -> FloatArray:
        self.now += 0.1 * len(codes)
        self.opened += ["network"] * len(codes)
        return self.true_ms(codes) * np.exp(self.noise * np.random.default_rng(seed).exponential(size=len(codes)))

    def units(self, signatures: IntArray, seed: int) -> FloatArray:
        self.now += 0.01 * len(signatures)
        self.opened += ["unit"] * len(signatures)
        return 0.005 + true_unit_ms(signatures)

    def empty(self, seed: int) -> float:
        return 0.005

    def true_ms(self, codes: IntArray) -> FloatArray:
        units = units_of(self.space.ops(codes))
        is_absorbed = (units.signatures[:, 1] & ABSORBED) > 0
        ms = true_unit_ms(units.signatures) * np.where(is_absorbed, 0.3, 0.8)
        total = np.bincount(units.network, weights=units.count * ms[units.signature], minlength=len(codes))
        return np.asarray(0.02 + total)

    def clock(self) -> float:
        return self.now


def plan(n_networks: int = 90, seed: int = 0) -> Plan:
    return Plan(SPACE, "a space", n_networks, seed, MACHINE)


@pytest.fixture(scope="module")
def finished() -> Calibration:
    device = MadeUp()
    return calibrate(begin(plan()), device, 1_000.0, clock=device.clock)


def test_latency_of_unseen_networks_follows(finished: Calibration) -> None:
    device = MadeUp()
    codes = SPACE.sample(300, np.random.default_rng(99))
    found = finished.predict(units_of(SPACE.ops(codes)))
    errors = held_out_errors(found, device.true_ms(codes))
    assert errors.median_error < 0.01
    assert errors.tau > 0.97
    assert errors.covered > 0.9
    assert errors.outside < 0.1
    assert finished.errors is not None
    assert (finished.errors.n, finished.errors.median_error < 0.02) == (30, True)


def test_a_prediction_does_not_depend_on_the_batch(finished: Calibration) -> None:
    codes = SPACE.sample(20, np.random.default_rng(5))
    together = finished.predict(units_of(SPACE.ops(codes)))
    for row, code in enumerate(codes):
        alone = finished.predict(units_of(SPACE.ops(code[None])))
        assert alone.latency_ms[0] == pytest.approx(together.latency_ms[row], rel=1e-9)
        assert alone.sd_ms[0] == pytest.approx(together.sd_ms[row], rel=1e-6)


def test_networks_unlike_any_calibrated_are_flagged(finished: Calibration) -> None:
    for table in (resnet18(), mobilenetv2()):
        found = finished.predict(units_of(table))
        assert found.is_outside.all()
        assert found.latency_ms[0] > 0
        assert found.sd_ms[0] > finished.predict(finished.units(np.arange(5))).sd_ms.max()
    assert finished.predict(finished.units(np.flatnonzero(~finished.is_held_out))).is_outside.mean() < 0.1


def test_errors_are_what_they_say() -> None:
    measured = np.array([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0])
    factor = np.array([1.1, 0.9, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.5])
    found = held_out_errors(Prediction(measured * factor, 0.1 * measured, factor > 1.2), measured)
    assert found.n == 10
    assert found.median_error == 0.0
    assert found.worst_error == pytest.approx(0.5)
    assert (found.tau, found.outside, found.covered) == (1.0, 0.1, 0.9)


def test_units_that_were_not_measured_are_estimated() -> None:
    signatures = units_of(SPACE.ops(SPACE.sample(400, np.random.default_rng(0)))).signatures
    seen = np.arange(len(signatures)) % 3 > 0
    costs = UnitCosts.learn(signatures[seen], true_unit_ms(signatures[seen]))
    ms, how = costs.of(signatures)
    assert (how[seen] == 0).all()
    np.testing.assert_array_equal(ms[seen], true_unit_ms(signatures[seen]))
    assert (how[~seen] == 1).mean() > 0.6
    error = np.abs(ms / true_unit_ms(signatures) - 1)[how == 1]
    assert np.median(error) < 0.03
    large = signatures[:1].copy()
    large[0, SIGNATURE_COLUMNS.index("in_height")] = 10_000
    assert costs.of(large)[1].tolist() == [2]


def test_passes_go_round_everything() -> None:
    device = MadeUp()
    held = begin(plan(60))
    found = calibrate(held, device, 1_000.0, clock=device.clock)
    n_units, n_networks = len(held.signatures), len(held.codes)
    assert not np.isnan(found.network_ms).any()
    assert device.opened[:n_units] == ["unit"] * n_units
    assert device.opened.count("network") == PASSES * n_networks
    assert len(set(device.opened[n_units + n_networks :][:n_units])) == 2  # later passes mix both
    assert (n_networks, int(held.is_held_out.sum())) == (60, 20)
    assert not set(map(bytes, held.codes[held.is_held_out])) & set(map(bytes, held.codes[~held.is_held_out]))
    occurs = (held.counts > 0).any(axis=0)
    assert (np.diff(occurs.astype(int)) <= 0).all()  # units of the networks come first


def test_time_is_kept() -> None:
    device = MadeUp()
    shares: list[float] = []
    found = calibrate(begin(plan()), device, 18.0, clock=device.clock, note=lambda share, _: shares.append(share))
    assert found.spent_s == device.now < 18.0 + 2.5
    reached = ~np.isnan(found.network_ms[:, 0])
    assert 45 < reached.sum() <= 90
    assert np.isnan(found.network_ms[~reached]).all()
    assert shares == sorted(shares)
    assert shares[-1] == 1.0


class CutError(Exception):
    """Stands for a process that is killed."""


def test_a_calibration_that_was_cut_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "here.json"

    class Killed(MadeUp):
        def networks(self, codes: IntArray, seed: int) -> FloatArray:
            if self.now > 15:
                raise CutError
            return super().networks(codes, seed)

    device = Killed()
    with pytest.raises(CutError):
        calibrate(begin(plan()), device, 1_000.0, clock=device.clock, save=lambda found: save_calibration(path, found))
    held = load_calibration(path)
    assert not held.is_finished
    assert 0 < held.spent_s <= 15
    done = int((~np.isnan(held.network_ms)).sum())
    assert done > 0
    with pytest.raises(InputError, match="not finished"):
        held.predict(held.units(np.arange(1)))
    second, whole = MadeUp(), MadeUp()
    resumed = calibrate(held, second, 1_000.0, clock=second.clock)
    assert second.opened.count("network") == 90 * PASSES - done
    straight = calibrate(begin(plan()), whole, 1_000.0, clock=whole.clock)
    assert resumed.errors is not None
    assert straight.errors is not None
    assert resumed.errors.n == straight.errors.n
    np.testing.assert_allclose(resumed.cost_ms, straight.cost_ms, rtol=1e-4)  # the file keeps six digits


def test_too_little_time_is_told_and_nothing_is_lost() -> None:
    device = MadeUp()
    saved: list[Calibration] = []
    with pytest.raises(InputError, match=r"networks to fit .* run it again with more --minutes"):
        calibrate(begin(plan()), device, 3.0, clock=device.clock, save=saved.append)
    assert (~np.isnan(saved[-1].network_ms)).any()
    again = calibrate(saved[-1], device, 1_000.0, clock=device.clock)
    assert again.is_finished


def test_networks_that_cannot_run_are_left_out() -> None:
    class Picky(MadeUp):
        def networks(self, codes: IntArray, seed: int) -> FloatArray:
            found = super().networks(codes, seed)
            return np.where(codes[:, 0] == 0, np.nan, found)

    device = Picky()
    held = begin(plan())
    found = calibrate(held, device, 1_000.0, clock=device.clock)
    assert np.isnan(found.latency_ms[held.codes[:, 0] == 0]).all()
    assert found.is_finished


def test_the_file_holds_everything(finished: Calibration, tmp_path: Path) -> None:
    path = tmp_path / "folder" / "here.json"
    save_calibration(path, finished)
    found = load_calibration(path)
    assert (found.machine, found.space, found.widths, found.errors) == (
        finished.machine, finished.space, finished.widths, finished.errors,
    )  # fmt: skip
    for name in ("signatures", "codes", "is_held_out", "counts"):
        np.testing.assert_array_equal(getattr(found, name), getattr(finished, name))
    np.testing.assert_allclose(found.network_ms, finished.network_ms, rtol=1e-5)
    units = units_of(SPACE.ops(SPACE.sample(50, np.random.default_rng(1))))
    np.testing.assert_allclose(found.predict(units).latency_ms, finished.predict(units).latency_ms, rtol=1e-3)
    content = json.loads(path.read_text())
    assert content["finished"] is True
    assert content["units"][0]["unit"] == unit_text(finished.signatures[0].tolist())
    assert [child.name for child in path.parent.iterdir()] == ["here.json"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not JSON"),
        ("[]", "no calibration"),
        ('{"format": "other"}', "no calibration"),
        ('{"format": "codesign-device-1"}', "damaged"),
    ],
)
def test_files_that_are_none(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "here.json"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        load_calibration(path)
    with pytest.raises(InputError, match="cannot be read"):
        load_calibration(tmp_path / "none.json")


@pytest.mark.parametrize("key", ["networks", "units", "machine", "empty_ms"])
def test_damaged_files_are_refused(finished: Calibration, tmp_path: Path, key: str) -> None:
    path = tmp_path / "here.json"
    save_calibration(path, finished)
    content = json.loads(path.read_text())
    content[key] = content[key][:-1] if key == "empty_ms" else {"cpu": 1} if key == "machine" else [{}]
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match="damaged"):
        load_calibration(path)


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"identity": "another"}, "space"),
        ({"seed": 5}, "seed"),
        ({"machine": replace(MACHINE, threads=2)}, "threads"),
        ({"machine": replace(MACHINE, cpu="b")}, "CPU"),
    ],
)
def test_a_calibration_of_something_else_is_not_gone_on_with(change: dict[str, object], what: str) -> None:
    held = begin(plan(30))
    check_same(held, plan(30))
    with pytest.raises(InputError, match=what):
        check_same(held, replace(plan(30), **change))  # type: ignore[arg-type]


def test_every_class_is_a_kind_of_unit() -> None:
    rows = [[int(kind), 0] + [1] * (len(SIGNATURE_COLUMNS) - 2) for kind in OpKind]
    rows += [[int(kind), ABSORBED] + [1] * (len(SIGNATURE_COLUMNS) - 2) for kind in (ACT, ADD)]
    named = {CLASSES[i] for i in classes_of(np.array(rows))}
    assert named == set(CLASSES) - {"convolution", "grouped convolution"}
    assert set(SIGNATURE_COLUMNS) - {"fused"} <= set(COLUMNS)
