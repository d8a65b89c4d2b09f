"""DRAM devices read from data as DRAMsim3 reads its INI files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulators import dramsim3_banks as at
from simulators.dramsim3_device import PROTOCOLS, Device, device_names, load_device, load_devices, make_device


def make(structure: Mapping[str, object] | None = None, **sections: Mapping[str, object]) -> Device:
    return make_device("d", {"dram_structure": dict(structure or {}), **sections})


def test_devices_that_ship() -> None:
    assert device_names() == ["ddr3-1600", "ddr4-2400", "hbm2"]
    ddr3, ddr4, hbm2 = (load_device(name) for name in device_names())
    assert [(d.protocol, d.channels, d.ranks, d.bankgroups, d.banks_per_group) for d in (ddr3, ddr4, hbm2)] == [
        ("DDR3", 1, 2, 1, 8),
        ("DDR4", 1, 2, 4, 4),
        ("HBM", 8, 1, 4, 4),
    ]
    assert [d.request_bytes for d in (ddr3, ddr4, hbm2)] == [64, 64, 64]
    assert (ddr3.refresh_interval, ddr4.refresh_interval) == (7800, 9360)  # the former's file says REFI
    assert ddr3.system["unified_queue"] == "false"


def test_absent_keys_take_the_defaults() -> None:
    device = make_device("d", {})
    assert (device.protocol, device.bankgroups, device.banks_per_group, device.ranks) == ("DDR3", 2, 2, 1)
    assert device.parameters[at.READ_DONE] == 12 + 4
    assert device.parameters[at.WRITEP_ACT] == 12 + 4 + 10 + 10
    assert device.system["address_mapping"] == "chrobabgraco"
    assert device.tck_ns == 1.0


@pytest.mark.parametrize(
    ("structure", "burst_cycles", "request_bytes", "burst_columns"),
    [
        ({"protocol": "DDR4"}, 4, 64, 128),
        ({"protocol": "GDDR5", "columns": 64, "device_width": 32}, 2, 64, 64),
        ({"protocol": "GDDR5X", "columns": 64, "device_width": 32, "BL": 16}, 2, 128, 64),
        ({"protocol": "GDDR6", "columns": 64, "device_width": 32, "BL": 16}, 1, 128, 64),
        ({"protocol": "HBM2", "columns": 64, "device_width": 64, "BL": 4}, 2, 32, 32),
        ({"protocol": "LPDDR4", "BL": 16}, 8, 128, 64),
        ({"protocol": "DDR4", "BL": 0}, 0, 64, 128),
    ],
)
def test_bursts_by_protocol(
    structure: dict[str, object], burst_cycles: int, request_bytes: int, burst_columns: int
) -> None:
    device = make(structure, timing={"CL": 20, "AL": 1})
    assert device.parameters[at.READ_DONE] == 20 + 1 + burst_cycles
    assert (device.request_bytes, device.burst_columns) == (request_bytes, burst_columns)


def test_what_only_some_protocols_have() -> None:
    timing = {"tRCD": 11, "tRCDRD": 14, "tRCDWR": 13, "tPPD": 3, "t32AW": 333}
    small = {"columns": 64, "device_width": 32}
    for protocol in PROTOCOLS:
        is_gddr, is_hbm = protocol.startswith("GDDR"), protocol.startswith("HBM")
        p = make({"protocol": protocol, **small}, timing=timing).parameters
        assert (p[at.ACT_READ], p[at.ACT_WRITE]) == ((14, 13) if is_gddr or is_hbm else (11, 11))
        assert p[at.PRE_PRE] == (3 if is_gddr or protocol == "LPDDR4" else 0)
        assert p[at.THIRTY_TWO_ACTS] == (333 if is_gddr else 0)
        assert p[at.DUAL] == is_hbm
    assert make({"protocol": "HBM", "hbm_dual_cmd": "false", **small}).parameters[at.DUAL] == 0


def test_disabled_bank_groups_are_one_group_with_short_gaps() -> None:
    timing = {"tCCD_L": 7, "tCCD_S": 5, "tRRD_L": 9, "tRRD_S": 6, "tWTR_L": 8, "tWTR_S": 3}
    device = make({"bankgroups": 4, "banks_per_group": 4, "bankgroup_enable": "False"}, timing=timing)
    assert (device.bankgroups, device.banks_per_group) == (1, 16)
    p = device.parameters
    assert (p[at.READ_READ_L], p[at.ACT_ACT_L], p[at.WRITE_READ_L]) == (5, 6, 12 + 4 + 3)


def test_values_are_read_as_from_an_ini_file() -> None:
    device = make_device(
        "d", {"TIMING": {"TCK": "0.666 (1/1.5)", "cl": "14 cycles"}, "system": {"unified_queue": "On"}}
    )
    assert device.tck_ns == 0.666
    assert device.parameters[at.READ_DONE] == 18
    assert device.system["unified_queue"] == "true"


@given(st.permutations(["ch", "ra", "bg", "ba", "ro", "co"]), st.integers(0, (1 << 40) - 1))
def test_an_address_is_taken_apart_and_together(fields: list[str], address: int) -> None:
    device = load_device("hbm2")
    mapping = "".join(fields)
    bits = device.bit_positions(mapping)
    assert sorted(low for low, n in bits.values() if n) == [
        sum(n for low, n in bits.values() if low < start) for start in sorted(low for low, n in bits.values() if n)
    ]
    channel, bank, row, burst = device.decode(np.array([address]), mapping)[:, 0].tolist()
    parts = {"ch": channel, "ra": bank // 16, "bg": bank // 4 % 4, "ba": bank % 4, "ro": row, "co": burst}
    together = sum(parts[field] << low for field, (low, _) in bits.items())
    width = sum(n for _, n in bits.values())
    assert together == address // device.request_bytes % (1 << width)


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"dram_structure": {"protocol": "HMC"}}, "protocol: 'HMC' is not modelled"),
        ({"dram_structure": {"protocol": "DDR5"}}, "protocol: 'DDR5' is not one of DDR3, DDR4"),
        ({"system": {"enable_self_refresh": "true"}}, "enable_self_refresh: 'true' is not modelled"),
        ({"system": {"unified_queue": "maybe"}}, "unified_queue: 'maybe' is not allowed; use 'true' or 'false'"),
        ({"timing": {"CL": "fast"}}, "d.timing.cl: 'fast' is not allowed; use a number"),
        ({"timing": {"tRP": -1}}, "d.timing.trp: -1 is not allowed; use at least 0"),
        ({"timing": {"tREFI": 1}, "system": {"channel_size": 65536}}, "tREFI: 1 is not allowed; use at least"),
        ({"dram_structure": {"rows": 512}}, "has no whole MiB"),
        ({"dram_structure": {"device_width": 128}}, "a rank of 0 devices"),
        ({"timing": {"tWTR_L": 500}}, "d.timing.tWTR_L: it does not fit the other timings"),
        ({"timing": 3}, "d.timing: 3 is not allowed; use a table"),
    ],
)
def test_what_is_refused(sections: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_device("d", sections)


def test_devices_from_files(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text("[timing]\ntREFI = 5000\n")
    assert load_device(tmp_path / "mine.toml").refresh_interval == 5000
    (tmp_path / "all.json").write_text(json.dumps({"a": {"timing": {"tREFI": 4000}}, "b": {}}))
    assert load_device(f"{tmp_path}/all.json:a").refresh_interval == 4000
    assert sorted(load_devices(tmp_path / "all.json")) == ["a", "b"]
    with pytest.raises(ValueError, match="device: 'c' is not one of a, b"):
        load_device(f"{tmp_path}/all.json:c")
    with pytest.raises(ValueError, match="cannot read"):
        load_device(tmp_path / "none.toml")
    with pytest.raises(ValueError, match="is not one of ddr3-1600, ddr4-2400, hbm2; did you mean 'ddr3-1600'"):
        load_device("ddr3-1660")
    (tmp_path / "bad.json").write_text("[1]")
    with pytest.raises(ValueError, match="must hold an object of objects"):
        load_devices(tmp_path / "bad.json")
    (tmp_path / "bad.json").write_text("{")
    with pytest.raises(ValueError, match="is not valid JSON"):
        load_devices(tmp_path / "bad.json")
    (tmp_path / "bad.toml").write_text("= 1")
    with pytest.raises(ValueError, match="is not valid TOML"):
        load_device(tmp_path / "bad.toml")
