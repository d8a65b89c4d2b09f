"""DRAM devices as data: geometry, timing, currents and address mapping, and what the memory model derives from them.

A device is a TOML file in `simulators/devices` or a user's own, or a pair of DRAMSys's JSON objects (memspec and
address mapping). Timing names are DRAMSys's, without the leading t (`RCD`, `RAS`, ...), in cycles of the memory clock.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from simulators import dram_codes as codes

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]

DEVICE_FOLDER = Path(__file__).parent / "devices"

_SHARED_TIMINGS = ("AL", "DQSCK", "FAW", "RAS", "RC", "RCD", "REFI", "RFC", "RL", "RP", "RTP", "RTRS", "WL", "WR")
_TIMINGS: Mapping[str, tuple[str, ...]] = {
    "DDR3": (*_SHARED_TIMINGS, "CCD", "RRD", "WTR"),
    "DDR4": (*_SHARED_TIMINGS, "CCD_L", "CCD_S", "RPRE", "RRD_L", "RRD_S", "WPRE", "WTR_L", "WTR_S"),
}
_GEOMETRY = ("banks", "bank_groups", "rows", "columns", "width_bits", "devices", "burst_length", "data_rate")
_CURRENTS = ("idd0", "idd2n", "idd3n", "idd4r", "idd4w", "idd5")
_ADDRESS_PARTS = ("column", "bank_group", "bank", "row")


@dataclass(frozen=True)
class DramDevice:
    """One rank of DRAM chips that work side by side.

    Attributes:
        name: as the maker or DRAMSys calls it.
        standard: "DDR3" or "DDR4", which decides the timing rules.
        clock_mhz: memory clock.
        geometry: `banks` of the rank, `bank_groups`, `rows`, `columns`, `width_bits` of a chip, `devices` (chips),
            `burst_length` (beats), `data_rate` (beats a cycle).
        timing_cycles: by DRAMSys's names.
        power: one mapping per supply: `vdd` in V and the currents `idd0` ... `idd5` in mA of one chip.
        address_bits: for `column`, `bank_group`, `bank` and `row` the bits of the byte address, least significant
            first; bits that no part names are ignored.
        address_xor: pairs (a, b): bit a is replaced by bit a xor bit b before the parts are taken.
    """

    name: str
    standard: str
    clock_mhz: float
    geometry: Mapping[str, int]
    timing_cycles: Mapping[str, int]
    power: Sequence[Mapping[str, float]]
    address_bits: Mapping[str, Sequence[int]]
    address_xor: Sequence[tuple[int, int]] = field(default=())

    def __post_init__(self) -> None:
        """Refuse a device that lacks a figure or contradicts itself."""
        if self.standard not in _TIMINGS:
            raise ValueError(f"device.standard: {self.standard!r} is not one of {', '.join(_TIMINGS)}")
        if not self.clock_mhz > 0:
            raise ValueError(f"device.clock_mhz: {self.clock_mhz!r} is not allowed; use a positive number")
        _require("geometry", self.geometry, _GEOMETRY, lowest=1)
        _require("timing_cycles", self.timing_cycles, _TIMINGS[self.standard], lowest=0)
        t = self.timing_cycles
        if t["REFI"] <= t["RFC"] + t["RP"] + t["RAS"]:
            raise ValueError(
                f"device.timing_cycles.REFI: {t['REFI']} is not allowed; with at most RFC + RP + RAS = "
                f"{t['RFC'] + t['RP'] + t['RAS']} cycles the memory would do nothing but refresh"
            )
        for key, bits in self.address_bits.items():
            if key not in _ADDRESS_PARTS:
                raise ValueError(f"device.address_bits: {key!r} is not one of {', '.join(_ADDRESS_PARTS)}")
            if any(not 0 <= bit < 63 for bit in bits):
                raise ValueError(f"device.address_bits.{key}: {list(bits)} must be bits of at least 0 and below 63")
        n_banks = 1 << (len(self.address_bits.get("bank", ())) + len(self.address_bits.get("bank_group", ())))
        if n_banks != self.geometry["banks"] or n_banks > codes.MAX_BANKS:
            raise ValueError(f"device: the address has {n_banks} banks, the geometry {self.geometry['banks']}")
        if 1 << len(self.address_bits.get("bank_group", ())) != self.geometry["bank_groups"]:
            raise ValueError(f"device.geometry.bank_groups: {self.geometry['bank_groups']} does not fit the address")
        if not self.power or any("vdd" not in supply for supply in self.power):
            raise ValueError("device.power: at least one supply is needed, each with vdd")

    @property
    def burst_cycles(self) -> int:
        """Cycles that one burst occupies the data bus."""
        return self.geometry["burst_length"] // self.geometry["data_rate"]

    @property
    def burst_bytes(self) -> int:
        """Bytes of one burst of the whole rank."""
        return self.geometry["burst_length"] * self.geometry["width_bits"] * self.geometry["devices"] // 8

    @property
    def cycle_ns(self) -> float:
        """Length of a cycle, rounded to whole picoseconds as in DRAMSys."""
        return round(1e6 / self.clock_mhz) / 1000

    @property
    def peak_gb_per_s(self) -> float:
        """Bandwidth of a data bus that never rests, in 1e9 bytes per second."""
        return self.burst_bytes / (self.burst_cycles * self.cycle_ns)

    def decode(self, address: IntArray) -> tuple[IntArray, IntArray]:
        """Bank of the rank, numbered group by group, and row of byte addresses; both of the shape of `address`."""
        for a, b in self.address_xor:
            address = address ^ ((address >> b & 1) << a)
        parts = {
            key: np.bitwise_or.reduce(
                [(address >> bit & 1) << i for i, bit in enumerate(bits)], axis=0, initial=0, dtype=np.int64
            )
            if len(bits)
            else np.zeros_like(address)
            for key, bits in self.address_bits.items()
        }
        zero = np.zeros_like(address)
        per_group = self.geometry["banks"] // self.geometry["bank_groups"]
        return parts.get("bank", zero) + parts.get("bank_group", zero) * per_group, parts.get("row", zero)

    def timing_vector(self) -> IntArray:
        """Shape (N_TIMINGS,): the kernel's timings in cycles, from DRAMSys's CheckerDDR3, CheckerDDR4 and DRAMPower."""
        t, burst = self.timing_cycles, self.burst_cycles
        has_groups = self.standard == "DDR4"
        same = {name: t[name + "_L"] if has_groups else t[name] for name in ("CCD", "RRD", "WTR")}
        other = {name: t[name + "_S"] if has_groups else t[name] for name in ("CCD", "RRD", "WTR")}
        preamble, turn_around = (t["RPRE"], 1 + t["WPRE"]) if has_groups else (0, 2)
        write_to_precharge = t["WL"] + burst + t["WR"]
        write_to_other_read = t["WL"] + burst + t["RTRS"] - t["RL"] + preamble
        rda_to_precharge = t["AL"] + (max(t["RTP"], 4) if self.standard == "DDR3" else t["RTP"])
        values = {
            codes.BANKS_PER_GROUP: self.geometry["banks"] // self.geometry["bank_groups"],
            codes.T_RCD: t["RCD"] - t["AL"],
            codes.T_RAS: t["RAS"],
            codes.T_RC: t["RC"],
            codes.T_RP: t["RP"],
            codes.T_RRD_S: other["RRD"],
            codes.T_RRD_L: same["RRD"],
            codes.T_FAW: t["FAW"],
            codes.T_CCD_S: other["CCD"],
            codes.T_CCD_L: same["CCD"],
            codes.T_RD_WR: t["RL"] + burst + turn_around - t["WL"],
            codes.T_WR_RD_S: max(t["WL"] + burst + other["WTR"] - t["AL"], write_to_other_read),
            codes.T_WR_RD_L: max(t["WL"] + burst + same["WTR"] - t["AL"], write_to_other_read),
            codes.T_RD_PRE: t["AL"] + t["RTP"],
            codes.T_WR_PRE: write_to_precharge,
            codes.T_WR_RDA: write_to_precharge - t["RTP"] - t["AL"],
            codes.T_READ_DATA: t["RL"] + burst,
            codes.T_WRITE_DATA: t["WL"] + burst,
            codes.T_RFC: t["RFC"],
            codes.T_REFI: t["REFI"],
            codes.T_READ_END: t["RL"] + t["DQSCK"] + burst,
            codes.T_WRITE_END: write_to_precharge - 1,
            codes.T_RDA_PRE: rda_to_precharge,
        }
        return np.array([values[i] for i in range(codes.N_TIMINGS)], dtype=np.int64)

    def energy_pj(self, outcomes: IntArray) -> FloatArray:
        """Energy of the rank, shape (A,), for outcomes of shape (A, N_OUTCOMES).

        Source: Chandrasekar et al., DRAMPower: activates and precharges over RAS and RC - RAS above the background,
        bursts and refreshes above active standby, standby by state. Power-down and termination do not occur.
        """
        t = self.timing_cycles
        count = outcomes.astype(np.float64)
        idle_cycles = count[:, codes.POWER_CYCLES] - count[:, codes.ACTIVE_CYCLES]
        charge = np.zeros(len(outcomes))
        for supply in self.power:
            i = {name: supply.get(name, 0.0) for name in _CURRENTS}
            charge += supply["vdd"] * (
                count[:, codes.ACTIVATES] * (i["idd0"] - i["idd3n"]) * t["RAS"]
                + count[:, codes.PRECHARGES] * (i["idd0"] - i["idd2n"]) * (t["RC"] - t["RAS"])
                + count[:, codes.READS] * (i["idd4r"] - i["idd3n"]) * self.burst_cycles
                + count[:, codes.WRITES] * (i["idd4w"] - i["idd3n"]) * self.burst_cycles
                + count[:, codes.REFRESHES] * (i["idd5"] - i["idd3n"]) * t["RFC"]
                + count[:, codes.ACTIVE_CYCLES] * i["idd3n"]
                + idle_cycles * i["idd2n"]
            )
        return charge * (1000 / self.clock_mhz) * self.geometry["devices"]


def device_names() -> list[str]:
    """Names of the devices that ship with the package, sorted."""
    names = []
    for path in DEVICE_FOLDER.glob("*.toml"):
        if "standard" in tomllib.loads(path.read_text(encoding="utf-8")):
            names.append(path.stem)
    return sorted(names)


def load_device(name: str | Path) -> DramDevice:
    """A device by name, or from a user's own file.

    Args:
        name: one of `device_names()`, or a path that ends in `.toml`.

    Raises:
        ValueError: unknown name, unreadable file, or a device that lacks a figure.
    """
    path = Path(name)
    if path.suffix != ".toml":
        path = DEVICE_FOLDER / f"{name}.toml"
        if not path.is_file():
            allowed = device_names()
            close = get_close_matches(str(name), allowed, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            raise ValueError(f"device: {str(name)!r} is not one of {', '.join(allowed)}{hint}")
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"device: cannot read {str(path)!r}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"device: {str(path)!r} is not valid TOML: {error}") from error
    keys = ("name", "standard", "clock_mhz", "geometry", "timing_cycles", "power", "address_bits")
    for key in keys:
        if key not in data:
            raise ValueError(f"device: {path.name} lacks {key!r}; needed are {', '.join(keys)}")
    for key in data:
        if key not in (*keys, "address_xor"):
            raise ValueError(f"device: {path.name} has {key!r}, which is not one of {', '.join(keys)}, address_xor")
    xor = tuple((int(a), int(b)) for a, b in data.get("address_xor", ()))
    return DramDevice(**{key: data[key] for key in keys}, address_xor=xor)


def device_from_dramsys(memspec: Mapping[str, object], address_mapping: Mapping[str, object]) -> DramDevice:
    """A device from DRAMSys's JSON: the objects "memspec" (with or without that key) and "CONGEN" of a configuration.

    Raises:
        ValueError: a figure is missing, or the device has more than one rank or channel.
    """
    spec = _table(memspec, "memspec", optional=True)
    mapping = _table(address_mapping, "CONGEN", optional=True)
    shape, timing = _numbers(spec, "memarchitecturespec"), _numbers(spec, "memtimingspec")
    current = _numbers(spec, "mempowerspec")
    for key in ("nbrOfRanks", "nbrOfChannels"):
        if shape.get(key, 1) != 1:
            raise ValueError(f"device.{key}: {shape[key]:g} is not allowed; one rank on one channel is modelled")
    names = dict.fromkeys(_GEOMETRY, "") | {
        "banks": "nbrOfBanks", "rows": "nbrOfRows", "columns": "nbrOfColumns", "width_bits": "width",
        "devices": "nbrOfDevicesOnDIMM" if "nbrOfDevicesOnDIMM" in shape else "nbrOfDevices",
        "burst_length": "burstLength", "data_rate": "dataRate", "bank_groups": "nbrOfBankGroups",
    }  # fmt: skip
    shape.setdefault("nbrOfBankGroups", 1)
    for key in names.values():
        if key not in shape:
            raise ValueError(f"device.memarchitecturespec: {key!r} is missing")
    standard = str(spec.get("memoryType", ""))
    wanted = _TIMINGS.get(standard, ())
    defaults = {"RPRE": 1, "WPRE": 1}  # versions of DRAMSys before 2021 do not list the preambles
    cycles = {key: int(timing.get(key, defaults.get(key, -1))) for key in wanted}
    second = {
        key[:-1]: value for key, value in current.items() if key.endswith("2") and key[:-1] in ("vdd", *_CURRENTS)
    }
    return DramDevice(
        name=str(spec.get("memoryId", "")),
        standard=standard,
        clock_mhz=timing.get("clkMhz", 0.0),
        geometry={key: int(shape[name]) for key, name in names.items()},
        timing_cycles={key: value for key, value in cycles.items() if value >= 0},
        power=[
            {key: current[key] for key in ("vdd", *_CURRENTS) if key in current},
            *([second] if "vdd" in second else []),
        ],
        address_bits={part: _bits(mapping, part) for part in _ADDRESS_PARTS},
        address_xor=_xor(mapping),
    )


def _require(key: str, table: Mapping[str, float], names: Sequence[str], lowest: int) -> None:
    for name in names:
        if name not in table:
            raise ValueError(f"device.{key}: {name!r} is missing; needed are {', '.join(names)}")
        value = table[name]
        if isinstance(value, bool) or not isinstance(value, int) or value < lowest:
            raise ValueError(f"device.{key}.{name}: {value!r} is not allowed; use an integer of at least {lowest}")


def _table(data: Mapping[str, object], key: str, optional: bool = False) -> Mapping[str, object]:
    table = data.get(key, data if optional else None)
    if not isinstance(table, dict):
        raise ValueError(f"device: {key!r} must be a table")
    return table


def _numbers(data: Mapping[str, object], key: str) -> dict[str, float]:
    return {name: v for name, v in _table(data, key).items() if isinstance(v, (int, float)) and not isinstance(v, bool)}


def _bits(mapping: Mapping[str, object], part: str) -> tuple[int, ...]:
    bits = mapping.get(part.replace("_", "").upper() + "_BIT", [])
    if not isinstance(bits, list) or not all(isinstance(bit, int) for bit in bits):
        raise ValueError(f"device: the address bits of {part} must be a list of integers, not {bits!r}")
    return tuple(bits)


def _xor(mapping: Mapping[str, object]) -> tuple[tuple[int, int], ...]:
    pairs = mapping.get("XOR", [])
    if not isinstance(pairs, list) or not all(
        isinstance(pair, dict) and {"FIRST", "SECOND"} <= set(pair) for pair in pairs
    ):
        raise ValueError(f"device: XOR must be a list of pairs FIRST and SECOND, not {pairs!r}")
    return tuple((int(pair["FIRST"]), int(pair["SECOND"])) for pair in pairs)
