"""DRAM devices: files, DRAMSys's JSON, address decoding and what is refused."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from simulators import dram_codes as codes
from simulators.dram_device import DEVICE_FOLDER, device_from_dramsys, device_names, load_device

MEMSPEC: dict[str, object] = {
    "memoryId": "MICRON_1Gb_DDR3-1600_8bit_G",
    "memoryType": "DDR3",
    "memarchitecturespec": {
        "burstLength": 8, "dataRate": 2, "nbrOfBanks": 8, "nbrOfColumns": 1024, "nbrOfRanks": 1, "nbrOfRows": 16384,
        "width": 8, "nbrOfDevicesOnDIMM": 8, "nbrOfChannels": 1,
    },
    "mempowerspec": {
        "idd0": 70.0, "idd2n": 45.0, "idd3n": 45.0, "idd4r": 140.0, "idd4w": 145.0, "idd5": 170.0, "vdd": 1.5,
    },
    "memtimingspec": {
        "AL": 0, "CCD": 4, "DQSCK": 0, "FAW": 24, "RAS": 28, "RC": 38, "RCD": 10, "REFI": 6240, "RFC": 88, "RL": 10,
        "RP": 10, "RRD": 5, "RTP": 6, "WL": 8, "WR": 12, "WTR": 6, "RTRS": 1, "clkMhz": 800,
    },
}  # fmt: skip
MAPPING: Mapping[str, object] = {
    "CONGEN": {
        "BYTE_BIT": [0, 1, 2],
        "COLUMN_BIT": list(range(3, 13)),
        "BANK_BIT": [13, 14, 15],
        "ROW_BIT": list(range(16, 30)),
    }
}


def test_the_shipped_device_is_dramsys_s() -> None:
    shipped, read = load_device("ddr3-1600-1gb-x8"), device_from_dramsys({"memspec": MEMSPEC}, MAPPING)
    assert (shipped.timing_vector() == read.timing_vector()).all()
    outcome = np.arange(1, 3 * codes.N_OUTCOMES + 1).reshape(3, -1)
    assert (shipped.energy_pj(outcome) == read.energy_pj(outcome)).all()
    address = np.random.default_rng(0).integers(0, 1 << 32, 1000)
    for ours, theirs in zip(shipped.decode(address), read.decode(address), strict=True):
        assert (ours == theirs).all()


@pytest.mark.parametrize("name", device_names())
def test_shipped_devices_have_their_capacity_and_peak(name: str) -> None:
    device = load_device(name)
    chip_bits = prod_of(device.geometry, "banks", "rows", "columns", "width_bits")
    assert chip_bits == {"DDR3": 1 << 30, "DDR4": 1 << 32}[device.standard]
    assert device.burst_bytes == 64
    assert device.peak_gb_per_s == pytest.approx({"DDR3": 12.8, "DDR4": 19.2}[device.standard], rel=1e-3)


def prod_of(table: Mapping[str, int], *names: str) -> int:
    return int(np.prod([table[name] for name in names], dtype=np.int64))


def test_addresses_are_decoded_bit_by_bit() -> None:
    device = load_device("ddr4-2400-4gb-x8")
    bank, row = device.decode(np.array([0, 1 << 13, 1 << 15, 3 << 16, (5 << 17) + 63]))
    assert bank.tolist() == [0, 4, 1, 2, 0]  # bank groups count in fours
    assert row.tolist() == [0, 0, 0, 1, 5]


def test_xor_folds_row_bits_into_the_bank() -> None:
    device = replace(load_device("ddr3-1600-1gb-x8"), address_xor=((13, 16),))
    bank, row = device.decode(np.array([1 << 13, 1 << 16, (1 << 16) + (1 << 13)]))
    assert bank.tolist() == [1, 1, 0]
    assert row.tolist() == [0, 1, 1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"standard": "DDR9"}, "'DDR9' is not one of DDR3, DDR4"),
        ({"clock_mhz": 0}, "clock_mhz"),
        ({"timing_cycles": {}}, "'AL' is missing"),
        ({"timing_cycles": {**load_device("ddr3-1600-1gb-x8").timing_cycles, "REFI": 126}}, "nothing but refresh"),
        ({"address_bits": {"bank": [1]}}, "2 banks, the geometry 8"),
        ({"address_bits": {"bnk": [1]}}, "'bnk' is not one of"),
        ({"power": ()}, "at least one supply"),
    ],
)
def test_contradictory_devices_are_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(load_device("ddr3-1600-1gb-x8"), **change)  # type: ignore[arg-type]


def test_bad_names_and_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="did you mean 'ddr3-1600-1gb-x8'"):
        load_device("ddr3-1600-1gb")
    with pytest.raises(ValueError, match="cannot read"):
        load_device(tmp_path / "none.toml")
    text = (DEVICE_FOLDER / "ddr3-1600-1gb-x8.toml").read_text(encoding="utf-8")
    path = tmp_path / "mine.toml"
    for broken, message in (
        (text.replace('standard = "DDR3"\n', ""), "lacks 'standard'"),
        ("colour = 1\n" + text, "'colour'"),
        ("= 1", "not valid TOML"),
    ):
        path.write_text(broken, encoding="utf-8")
        with pytest.raises(ValueError, match=message):
            load_device(path)


def test_two_ranks_are_refused() -> None:
    shape = MEMSPEC["memarchitecturespec"]
    assert isinstance(shape, dict)
    with pytest.raises(ValueError, match="one rank on one channel"):
        device_from_dramsys({**MEMSPEC, "memarchitecturespec": {**shape, "nbrOfRanks": 2}}, MAPPING)
