"""DRAM devices as data, in the sections and keys of DRAMsim3's `.ini` files, and the figures derived from them.

A device file is TOML with the sections `dram_structure`, `timing`, `power` and `system`; a JSON file maps names to such
devices. Keys that DRAMsim3 does not read are ignored as it ignores them (`REFI` for `tREFI`: the refresh
interval is then the default, 7800 cycles), letter case does not matter, and absent keys take DRAMsim3's defaults.
Timing is in cycles of tCK (ns), currents in mA, voltages in V, sizes in MiB.

Source: DRAMsim3 (Li et al. 2020), `configuration.cc` and `timing.cc` of its state of April 2021.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from simulators import dramsim3_banks as at

DEVICE_FOLDER = Path(__file__).parent / "devices_dramsim3"

ADDRESS_FIELDS = ("ch", "ra", "bg", "ba", "ro", "co")

_BURSTS_PER_CYCLE = {"GDDR5": 4, "GDDR5X": 8, "GDDR6": 16}  # words a cycle; every other protocol: 2
PROTOCOLS = ("DDR3", "DDR4", "GDDR5", "GDDR5X", "GDDR6", "LPDDR", "LPDDR3", "LPDDR4", "HBM", "HBM2")
_TRUE, _FALSE = ("true", "yes", "on", "1"), ("false", "no", "off", "0")
_UNMODELLED = ("HMC", "STT-MRAM")


@dataclass(frozen=True, slots=True)
class Device:
    """One memory system: channels of ranks of equal devices.

    Attributes:
        name: of its file, or in it.
        protocol: one of `PROTOCOLS`.
        channels, ranks, bankgroups, banks_per_group, rows: of the system, a channel, a rank, a bank group, a bank.
        burst_columns: bursts per row.
        request_bytes: bytes of one burst.
        tck_ns: clock period.
        parameters: shape (N_PARAMETERS,), timing in cycles and shape, as the event loop wants them; zero elsewhere.
        refresh_interval, bank_refresh_interval: cycles between refreshes of a rank, and of a bank.
        energy: V x mA x cycles of a rank's devices for an activation, read, write, refresh and bank refresh, and per
            cycle with a row open and with none; times tCK they are pJ.
        system: the seven knobs as the file has them: the defaults of a design.
    """

    name: str
    protocol: str
    channels: int
    ranks: int
    bankgroups: int
    banks_per_group: int
    rows: int
    burst_columns: int
    request_bytes: int
    tck_ns: float
    parameters: NDArray[np.int64]
    refresh_interval: int
    bank_refresh_interval: int
    energy: Mapping[str, float]
    system: Mapping[str, int | str]

    def bit_positions(self, mapping: str) -> dict[str, tuple[int, int]]:
        """Lowest bit, counted above those within a burst, and number of bits of each field of an address.

        Args:
            mapping: the fields `ch`, `ra`, `bg`, `ba`, `ro`, `co` in any order, the highest bits first.

        Raises:
            ValueError: a field is missing, repeated or unknown.
        """
        fields = [mapping[i : i + 2] for i in range(0, len(mapping), 2)]
        if sorted(fields) != sorted(ADDRESS_FIELDS):
            raise ValueError(
                f"address_mapping: {mapping!r} is not allowed; use each of {', '.join(ADDRESS_FIELDS)} once,"
                " as in 'rochrababgco'"
            )
        sizes = (self.channels, self.ranks, self.bankgroups, self.banks_per_group, self.rows, self.burst_columns)
        bits = {field: size.bit_length() - 1 for field, size in zip(ADDRESS_FIELDS, sizes, strict=True)}
        positions, position = {}, 0
        for field in reversed(fields):
            positions[field] = (position, bits[field])
            position += bits[field]
        return positions

    def decode(self, address: NDArray[np.int64], mapping: str) -> NDArray[np.int64]:
        """Channel, bank of the channel, row and burst of the row of addresses: shape (R,) to (4, R).

        Raises:
            ValueError: see `bit_positions`.
        """
        burst = address >> (self.request_bytes.bit_length() - 1)
        part = {f: burst >> low & (1 << bits) - 1 for f, (low, bits) in self.bit_positions(mapping).items()}
        bank = (part["ra"] * self.bankgroups + part["bg"]) * self.banks_per_group + part["ba"]
        return np.stack([part["ch"], bank, part["ro"], part["co"]])


def device_names() -> list[str]:
    """Names of the devices that ship with the package, sorted."""
    return sorted(path.stem for path in DEVICE_FOLDER.glob("*.toml"))


def load_device(name: str | Path) -> Device:
    """A device by name, from a user's own `.toml` file, or from a `.json` file as `FILE.json:NAME`.

    Raises:
        ValueError: an unknown name, an unreadable file, or a device that `make_device` refuses.
    """
    text = str(name)
    file, _, entry = text.partition(".json:")
    if entry:
        return _pick(load_devices(file + ".json"), entry)
    path = Path(text)
    if path.suffix != ".toml":
        if text not in device_names():
            raise _unknown("device", text, device_names())
        path = DEVICE_FOLDER / f"{text}.toml"
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"device: cannot read {str(path)!r}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"device: {str(path)!r} is not valid TOML: {error}") from error
    return make_device(path.stem, data)


def load_devices(path: str | Path) -> dict[str, Mapping[str, object]]:
    """The entries of a JSON file of devices, by name, for `make_device`.

    Raises:
        ValueError: the file cannot be read or is not an object of objects.
    """
    try:
        data = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"devices: cannot read {str(path)!r}: {error.strerror}") from error
    except ValueError as error:
        raise ValueError(f"devices: {str(path)!r} is not valid JSON: {error}") from error
    if not isinstance(data, dict) or not all(isinstance(entry, dict) for entry in data.values()):
        raise ValueError(f"devices: {str(path)!r} must hold an object of objects, one per device")
    return data


def make_device(name: str, data: Mapping[str, object]) -> Device:
    """A device from its sections, with every absent key at DRAMsim3's default.

    Raises:
        ValueError: a protocol that is not modelled, a value that is not a number, a geometry without a whole rank, or
            timing under which the event loop and DRAMsim3 would differ.
    """
    read = _Reader(name, data)
    protocol = str(read.text("dram_structure", "protocol", "DDR3"))
    if protocol in _UNMODELLED:
        raise ValueError(f"{name}.dram_structure.protocol: {protocol!r} is not modelled; use {', '.join(PROTOCOLS)}")
    if protocol not in PROTOCOLS:
        raise _unknown(f"{name}.dram_structure.protocol", protocol, list(PROTOCOLS))
    if read.flag("system", "enable_self_refresh", False):
        raise ValueError(f"{name}.system.enable_self_refresh: 'true' is not modelled; use 'false'")
    is_gddr, is_hbm = protocol.startswith("GDDR"), protocol.startswith("HBM")
    groups = read.whole("dram_structure", "bankgroups", 2)
    per_group = read.whole("dram_structure", "banks_per_group", 2)
    if not read.flag("dram_structure", "bankgroup_enable", True):
        groups, per_group = 1, groups * per_group
    rows, columns = read.whole("dram_structure", "rows", 1 << 16), read.whole("dram_structure", "columns", 1 << 10)
    width, bus = read.whole("dram_structure", "device_width", 8), read.whole("system", "bus_width", 64)
    burst = read.whole("dram_structure", "bl", 8, lowest=0)
    burst_cycles = burst // _BURSTS_PER_CYCLE.get(protocol, 2)
    burst = burst or (4 if is_hbm else 8)  # 0 asks for bursts that take no time
    columns *= burst if is_gddr else 2 if is_hbm else 1
    n_devices = bus // width
    rank_mib = columns * width // 8 * (rows // 1024) // 1024 * groups * per_group * n_devices
    if rank_mib == 0:
        raise ValueError(f"{name}: a rank of {n_devices} devices of {rows} rows of {columns} columns has no whole MiB")
    ranks = max(1, read.whole("system", "channel_size", 1024) // rank_mib)
    parameters = _timing(read, protocol, groups, burst_cycles)
    parameters[at.GROUPS], parameters[at.BANKS_PER_GROUP], parameters[at.RANKS] = groups, per_group, ranks
    parameters[at.CHANNELS] = n_channels = read.whole("system", "channels", 1)
    parameters[at.DUAL] = is_hbm and read.flag("dram_structure", "hbm_dual_cmd", True)
    refresh, bank_refresh = read.whole("timing", "trefi", 7800), read.whole("timing", "trefib", 1950)
    if refresh < ranks:
        raise ValueError(f"{name}.timing.tREFI: {refresh} is not allowed; use at least {ranks}, one cycle per rank")
    return Device(
        name=name,
        protocol=protocol,
        channels=n_channels,
        ranks=ranks,
        bankgroups=groups,
        banks_per_group=per_group,
        rows=rows,
        burst_columns=max(1, (1 << columns.bit_length() - 1) >> (burst.bit_length() - 1)),
        request_bytes=bus // 8 * burst,
        tck_ns=read.real("timing", "tck", 1.0),
        parameters=parameters,
        refresh_interval=refresh,
        bank_refresh_interval=bank_refresh,
        energy=_energy(read, n_devices, burst_cycles),
        system=_knobs(read),
    )


def _timing(read: _Reader, protocol: str, n_groups: int, burst: int) -> NDArray[np.int64]:
    """Gaps between commands: `timing.cc`, with its names in the order of `dramsim3_banks`."""

    def of(key: str, default: int) -> int:
        return read.whole("timing", key, default, lowest=0)

    is_gddr = protocol.startswith("GDDR")
    al, rtrs, rtp, wr, rp = of("al", 0), of("trtrs", 2), of("trtp", 5), of("twr", 10), of("trp", 10)
    read_latency, write_latency = al + of("cl", 12), al + of("cwl", 12)
    read_done, write_done = read_latency + burst, write_latency + burst
    column_l, column_s = max(burst, of("tccd_l", 6)), max(burst, of("tccd_s", 4))
    turn_l, turn_s, row_l, row_s = of("twtr_l", 5), of("twtr_s", 5), of("trrd_l", 4), of("trrd_s", 4)
    if n_groups == 1:
        column_l, turn_l, row_l = column_s, turn_s, row_s
    to_read = to_write = of("trcd", 10) - al
    if is_gddr or protocol.startswith("HBM"):
        to_read, to_write = of("trcdrd", 24), of("trcdwr", 20)
    active = of("tras", 24)
    timing = np.zeros(at.N_PARAMETERS, dtype=np.int64)
    values = {
        at.READ_READ_L: column_l,
        at.READ_READ_S: column_s,
        at.READ_READ_O: burst + rtrs,
        at.READ_WRITE: read_done - write_latency + rtrs,
        at.READ_WRITE_O: read_done + burst + rtrs - write_done,
        at.READ_PRE: al + rtp,
        at.READP_ACT: al + burst + rtp + rp,
        at.READP_REF: al + rtp + rp,
        at.WRITE_READ_L: write_done + turn_l,
        at.WRITE_READ_S: write_done + turn_s,
        at.WRITE_READ_O: write_done + burst + rtrs - read_done,
        at.WRITE_WRITE_L: column_l,
        at.WRITE_WRITE_S: column_s,
        at.WRITE_WRITE_O: burst,
        at.WRITE_PRE: write_done + wr,
        at.WRITEP_ACT: write_done + wr + rp,
        at.PRE_ACT: rp,
        at.PRE_PRE: of("tppd", 0) if is_gddr or protocol == "LPDDR4" else 0,
        at.ACT_ACT: active + rp,
        at.ACT_ACT_L: row_l,
        at.ACT_ACT_S: row_s,
        at.ACT_PRE: active,
        at.ACT_READ: to_read,
        at.ACT_WRITE: to_write,
        at.REF_ACT: of("trfc", 74),
        at.REFB_REFB: of("trefi", 7800),
        at.READ_DONE: read_done,
        at.FOUR_ACTS: of("tfaw", 50),
        at.THIRTY_TWO_ACTS: of("t32aw", 330) if is_gddr else 0,
    }
    for place, value in values.items():
        timing[place] = value
    _refuse_mixed_levels(read.name, timing)
    return timing


def _refuse_mixed_levels(name: str, timing: NDArray[np.int64]) -> None:
    """Refuse timing in which a constraint on other banks would outlast the bank's own, which no real device has."""
    reopen = min(timing[at.ACT_READ], timing[at.ACT_WRITE])
    after_read, after_write = timing[at.READP_ACT] + reopen, timing[at.WRITEP_ACT] + reopen
    wrong = {
        "tRCD": reopen < 0,
        "tCCD_L": max(timing[at.READ_READ_L], timing[at.READ_WRITE]) > after_read,
        "tWTR_L": max(timing[at.WRITE_READ_L], timing[at.WRITE_WRITE_L]) > after_write,
        "tRRD_L": timing[at.ACT_ACT_L] > timing[at.ACT_ACT],
        "tPPD": timing[at.PRE_PRE] > timing[at.PRE_ACT] + timing[at.ACT_PRE],
    }
    for key, is_wrong in wrong.items():
        if is_wrong:
            raise ValueError(f"{name}.timing.{key}: it does not fit the other timings: a bank could be opened again")


def _energy(read: _Reader, n_devices: int, burst: int) -> dict[str, float]:
    """Energy of commands and cycles: `Config::InitPowerParams`, its operations in its order."""

    def of(key: str, default: float) -> float:
        return read.real("power", key, default)

    rp, active = read.whole("timing", "trp", 10, lowest=0), read.whole("timing", "tras", 24, lowest=0)
    refresh, bank_refresh = read.whole("timing", "trfc", 74, lowest=0), read.whole("timing", "trfcb", 20, lowest=0)
    volt, standby, idle = of("vdd", 1.2), of("idd3n", 43), of("idd2n", 34)
    return {
        "activate": volt * (of("idd0", 48) * (active + rp) - (standby * active + idle * rp)) * n_devices,
        "read": volt * (of("idd4r", 135) - standby) * burst * n_devices,
        "write": volt * (of("idd4w", 123) - standby) * burst * n_devices,
        "refresh": volt * (of("idd5ab", 250) - standby) * refresh * n_devices,
        "bank_refresh": volt * (of("idd5pb", 5) - standby) * bank_refresh * n_devices,
        "active_cycle": volt * standby * n_devices,
        "idle_cycle": volt * idle * n_devices,
    }


def _knobs(read: _Reader) -> dict[str, int | str]:
    return {
        "row_buf_policy": read.text("system", "row_buf_policy", "OPEN_PAGE"),
        "queue_structure": read.text("system", "queue_structure", "PER_BANK"),
        "cmd_queue_size": read.whole("system", "cmd_queue_size", 16),
        "trans_queue_size": read.whole("system", "trans_queue_size", 32),
        "address_mapping": read.text("system", "address_mapping", "chrobabgraco"),
        "refresh_policy": read.text("system", "refresh_policy", "RANK_LEVEL_STAGGERED"),
        "unified_queue": "true" if read.flag("system", "unified_queue", False) else "false",
    }


class _Reader:
    """Values of a device's sections, read as DRAMsim3's INI reader does: any letter case, numbers up to the first
    character that is none."""

    def __init__(self, name: str, data: Mapping[str, object]) -> None:
        self.name = name
        self._values: dict[tuple[str, str], object] = {}
        for section, values in data.items():
            if not isinstance(values, Mapping):
                raise ValueError(f"{name}.{section}: {values!r} is not allowed; use a table")
            self._values.update({(section.lower(), str(key).lower()): value for key, value in values.items()})

    def text(self, section: str, key: str, default: str) -> str:
        return str(self._values.get((section, key), default))

    def whole(self, section: str, key: str, default: int, lowest: int = 1) -> int:
        value = self._number(section, key, default, r"[+-]?\d+")
        if value < lowest:
            raise ValueError(f"{self.name}.{section}.{key}: {value:g} is not allowed; use at least {lowest}")
        return int(value)

    def real(self, section: str, key: str, default: float) -> float:
        return self._number(section, key, default, r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")

    def flag(self, section: str, key: str, default: bool) -> bool:
        value = self._values.get((section, key), default)
        text = str(value).lower()
        if text not in (*_TRUE, *_FALSE):
            raise ValueError(f"{self.name}.{section}.{key}: {value!r} is not allowed; use 'true' or 'false'")
        return text in _TRUE

    def _number(self, section: str, key: str, default: float, form: str) -> float:
        value = self._values.get((section, key), default)
        found = re.match(form, str(value).strip())
        if isinstance(value, bool) or found is None:
            raise ValueError(f"{self.name}.{section}.{key}: {value!r} is not allowed; use a number")
        return float(found.group())


def _pick(devices: Mapping[str, Mapping[str, object]], name: str) -> Device:
    if name not in devices:
        raise _unknown("device", name, list(devices))
    return make_device(name, devices[name])


def _unknown(key: str, value: str, names: list[str]) -> ValueError:
    close = get_close_matches(value, names, n=1, cutoff=0.5)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    return ValueError(f"{key}: {value!r} is not one of {', '.join(names)}{hint}")
