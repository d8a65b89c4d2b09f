"""The event loop of `dramsim3` against a slow version: every cycle, plain lists, gaps per bank and command."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial

import numpy as np
import pytest

from simulators import dramsim3_banks as at
from simulators.accelerator import columns
from simulators.dram_trace import Trace
from simulators.dramsim3 import Dramsim3
from simulators.dramsim3_device import Device, load_device, make_device
from tests.simulators.test_dramsim3 import use_python

python_loop = pytest.fixture(autouse=True)(use_python)

ROW, COLUMN = ("act", "pre", "ref", "refb"), ("read", "write")
Bank = tuple[int, int, int]


@dataclass
class Command:
    kind: str
    bank: Bank
    row: int = -1
    burst: int = -1
    address: int = -1


@dataclass
class SlowBank:
    row: int | None = None
    hits: int = 0
    earliest: dict[str, int] = field(default_factory=lambda: dict.fromkeys((*ROW, *COLUMN), 0))

    def needs(self, command: Command, t: int) -> str | None:
        """The kind of command that `command` needs now, None if it is too early for it."""
        if self.row is None:
            kind = "act" if command.kind in COLUMN else command.kind
        else:
            kind = command.kind if command.kind in COLUMN and command.row == self.row else "pre"
        return kind if t >= self.earliest[kind] else None


class SlowChannel:
    """One channel's controller, cycle by cycle."""

    def __init__(self, device: Device, knobs: dict[str, int | str], end: int) -> None:
        self.device, self.knobs, self.end, self.clock = device, knobs, end, 0
        ranks, groups, per = device.ranks, device.bankgroups, device.banks_per_group
        self.banks = {(r, g, b): SlowBank() for r in range(ranks) for g in range(groups) for b in range(per)}
        self.names = list(self.banks)
        self.queues: list[list[Command]] = [
            [] for _ in range(ranks if knobs["queue_structure"] == "PER_RANK" else len(self.banks))
        ]
        self.last_queue, self.next_refresh = 0, 0
        self.blocked: set[int] | None = None
        self.refreshes: list[Command] = []
        self.windows: dict[tuple[int, int], list[int]] = {(r, n): [] for r in range(ranks) for n in (4, 32)}
        self.lists: dict[str, list[Command]] = {"read": [], "write": [], "unified": []}
        self.draining = 0
        self.reading: dict[int, list[int]] = {}
        self.writing: set[int] = set()
        self.count = dict.fromkeys(
            ("reads", "writes", "latency", *ROW, *COLUMN, "read hit", "write hit", "active", "lost"), 0
        )

    def gap(self, name: str) -> int:
        return int(self.device.parameters[getattr(at, name)])

    def queue_of(self, bank: Bank) -> int:
        return bank[0] if self.knobs["queue_structure"] == "PER_RANK" else self.names.index(bank)

    def window_ok(self, rank: int, t: int) -> bool:
        sizes = (4, 32) if self.gap("THIRTY_TWO_ACTS") else (4,)
        return not any(len(w := self.windows[rank, n]) >= n and t < w[0] for n in sizes)

    def due(self) -> Command | None:
        """The command that the waiting refresh can issue."""
        if not self.refreshes:
            return None
        wanted = self.refreshes[0]
        banks = [wanted.bank] if wanted.kind == "refb" else [b for b in self.names if b[0] == wanted.bank[0]]
        self.blocked = {self.queue_of(b) for b in banks}
        ready = [self.banks[b].needs(wanted, self.clock) for b in banks]
        for bank, kind in zip(banks, ready, strict=True):
            if kind == "pre":
                return Command("pre", bank)
        return wanted if all(kind == wanted.kind for kind in ready) else None

    def first_ready(self, queue: list[Command]) -> Command | None:
        for i, entry in enumerate(queue):
            bank = self.banks[entry.bank]
            kind = bank.needs(entry, self.clock)
            before = [e for e in queue[:i] if e.bank == entry.bank]
            if kind is None or (kind == "act" and not self.window_ok(entry.bank[0], self.clock)):
                continue
            if kind == "pre":
                hit = any(e.bank == entry.bank and e.row == bank.row for e in queue[i:])
                if before or (hit and bank.hits < 4):
                    continue
            if kind == "write" and any((e.kind, e.row, e.burst) == ("read", entry.row, entry.burst) for e in before):
                continue
            return entry if kind in COLUMN else Command(kind, entry.bank, entry.row)
        return None

    def next_command(self) -> Command | None:
        for _ in self.queues:
            self.last_queue = (self.last_queue + 1) % len(self.queues)
            if self.blocked and self.last_queue in self.blocked:
                continue
            queue = self.queues[self.last_queue]
            if (found := self.first_ready(queue)) is not None:
                if found.kind in COLUMN:
                    queue.remove(found)
                return found
        return None

    def delay(self, command: Command, gaps: dict[str, dict[str, int]]) -> None:
        """Move the earliest cycles of the same bank, its group, its rank and other ranks."""
        r, g, b = command.bank
        for (rank, group, place), bank in self.banks.items():
            level = "rank" if rank != r else "group" if group != g else "bank" if place != b else "same"
            for kind, gap in gaps.get(level, {}).items():
                bank.earliest[kind] = max(bank.earliest[kind], self.clock + gap)

    def issue(self, command: Command) -> None:
        gap, bank, kind = self.gap, self.banks[command.bank], command.kind
        self.count[kind] += 1
        if kind == "act":
            bank.row = command.row
            for n, name in ((4, "FOUR_ACTS"), (32, "THIRTY_TWO_ACTS")):
                window = self.windows[command.bank[0], n]
                if window and self.clock >= window[0]:
                    del window[0]
                window.append(self.clock + gap(name))
            same = {"act": gap("ACT_ACT"), "read": gap("ACT_READ"), "write": gap("ACT_WRITE"), "pre": gap("ACT_PRE")}
            near, far = ({"act": gap(f"ACT_ACT_{x}"), "refb": gap("ACT_ACT")} for x in "LS")
            self.delay(command, {"same": same, "bank": near, "group": far})
        elif kind == "pre":
            bank.row, bank.hits = None, 0
            others = {"pre": gap("PRE_PRE")}
            same = dict.fromkeys(("act", "ref", "refb"), gap("PRE_ACT"))
            self.delay(command, {"same": same, "bank": others, "group": others})
        elif kind == "ref":
            self.refreshes.pop(0)
            self.blocked = None
            all_banks = {"act": gap("REF_ACT"), "ref": gap("REF_ACT")}
            self.delay(command, {"same": all_banks, "bank": all_banks, "group": all_banks})
        elif kind == "refb":
            self.refreshes.pop(0)
            self.blocked = None
            others = {"act": gap("REF_ACT"), "refb": gap("REFB_REFB")}
            self.delay(command, {"bank": others, "group": others})
        else:
            self.transfer(command, bank)

    def transfer(self, command: Command, bank: SlowBank) -> None:
        gap, name = self.gap, command.kind.upper()
        self.count[f"{command.kind} hit"] += bank.hits != 0
        if command.kind == "read":
            for since in self.reading.pop(command.address):
                if self.clock + gap("READ_DONE") < self.end:
                    self.count["reads"] += 1
                    self.count["latency"] += self.clock + gap("READ_DONE") - since
            to_write = [gap("READ_WRITE"), gap("READ_WRITE"), gap("READ_WRITE_O")]
        else:
            self.writing.discard(command.address)
            to_write = [gap(f"WRITE_WRITE_{x}") for x in "LSO"]
        near, far, other = ({"read": gap(f"{name}_READ_{x}"), "write": w} for x, w in zip("LSO", to_write, strict=True))
        if self.knobs["row_buf_policy"] == "CLOSE_PAGE":
            bank.row, bank.hits = None, 0
            refresh = gap("READP_REF") if command.kind == "read" else gap("WRITEP_ACT")
            same = {"act": gap(f"{name}P_ACT"), "ref": refresh, "refb": refresh}
        else:
            bank.hits += 1
            same = near | {"pre": gap(f"{name}_PRE")}
        self.delay(command, {"same": same, "bank": near, "group": far, "rank": other})

    def tick(self, t: int) -> None:
        self.clock = t
        device, knobs = self.device, self.knobs
        policy = knobs["refresh_policy"]
        interval = {
            "RANK_LEVEL_SIMULTANEOUS": device.refresh_interval,
            "RANK_LEVEL_STAGGERED": device.refresh_interval // device.ranks,
            "BANK_LEVEL_STAGGERED": device.bank_refresh_interval,
        }[str(policy)]
        if t > 0 and t % interval == 0:
            order = sorted(self.names, key=lambda n: (n[0], n[2], n[1]))
            target = {
                "RANK_LEVEL_SIMULTANEOUS": (0, 0, 0),
                "RANK_LEVEL_STAGGERED": (self.next_refresh % device.ranks, 0, 0),
                "BANK_LEVEL_STAGGERED": order[self.next_refresh % len(order)],
            }[str(policy)]
            self.next_refresh += 1
            self.refreshes.append(Command("refb" if policy == "BANK_LEVEL_STAGGERED" else "ref", target))
        command = self.due() or self.next_command()
        if command is not None:
            self.issue(command)
            if self.gap("DUAL") and (second := self.next_command()) is not None:
                if (second.kind in COLUMN) != (command.kind in COLUMN):
                    self.issue(second)
                elif second.kind in COLUMN:
                    self.count["lost"] += 1
        open_ranks = {name[0] for name, bank in self.banks.items() if bank.row is not None}
        self.count["active"] += len(open_ranks)
        self.move()

    def move(self) -> None:
        unified, lists, size = self.knobs["unified_queue"] == "true", self.lists, int(self.knobs["trans_queue_size"])
        if not unified and self.draining == 0:
            n = len(lists["write"])
            if n >= size or (n > 8 and not any(self.queues)):
                self.draining = n
        source = lists["unified" if unified else "write" if self.draining > 0 else "read"]
        for command in source:
            queue = self.queues[self.queue_of(command.bank)]
            if len(queue) >= int(self.knobs["cmd_queue_size"]):
                continue
            if not unified and command.kind == "write":
                if command.address in self.reading:
                    self.draining = 0
                    return
                self.draining -= 1
            queue.append(command)
            source.remove(command)
            return

    def offer(self, command: Command) -> bool:
        name = "unified" if self.knobs["unified_queue"] == "true" else command.kind
        if len(self.lists[name]) >= int(self.knobs["trans_queue_size"]):
            return False
        is_in_time = self.clock + 2 < self.end
        if command.kind == "write":
            if command.address not in self.writing:
                self.writing.add(command.address)
                self.lists[name].append(command)
            self.count["writes"] += is_in_time
        elif command.address in self.writing:
            self.count["reads"] += is_in_time
            self.count["latency"] += is_in_time
        else:
            self.reading.setdefault(command.address, []).append(self.clock + 1)
            if len(self.reading[command.address]) == 1:
                self.lists[name].append(command)
        return True


def slow_metrics(model: Dramsim3, knobs: dict[str, int | str]) -> dict[str, float]:
    device, trace, end = model.device, model.trace, model.cycles
    channels = [SlowChannel(device, knobs, end) for _ in range(device.channels)]
    rows = list(zip(trace.cycle.tolist(), trace.is_write.tolist(), trace.address.tolist(), strict=True))
    rows.append((rows[-1][0], False, rows[-1][2]))
    bits = device.bit_positions(str(knobs["address_mapping"]))
    at_request = 0
    for t in range(end):
        for channel in channels:
            channel.tick(t)
        if at_request < len(rows) and rows[at_request][0] <= t:
            _, is_write, address = rows[at_request]
            burst = address // device.request_bytes
            part = {name: burst // 2**low % 2**n for name, (low, n) in bits.items()}
            command = Command(
                "write" if is_write else "read", (part["ra"], part["bg"], part["ba"]), part["ro"], part["co"], address
            )
            if channels[part["ch"]].offer(command) or at_request == len(rows) - 1:
                at_request += 1
    count = {name: sum(channel.count[name] for channel in channels) for name in channels[0].count}
    idle = end * device.ranks * device.channels - count["active"]
    parts = {"activate": "act", "read": "read", "write": "write", "refresh": "ref", "bank_refresh": "refb"}
    energy = sum(device.energy[part] * count[name] for part, name in parts.items())
    energy += device.energy["active_cycle"] * count["active"] + device.energy["idle_cycle"] * idle
    return {
        "reads_done": count["reads"],
        "writes_done": count["writes"],
        "read_latency_cycles": count["latency"] / count["reads"] if count["reads"] else np.nan,
        "activates": count["act"],
        "precharges": count["pre"],
        "refreshes": count["ref"] + count["refb"],
        "read_row_hits": count["read hit"],
        "write_row_hits": count["write hit"],
        "lost_requests": count["lost"],
        "power_mw": energy / end,
    }


def random_knobs(model: Dramsim3, rng: np.random.Generator) -> dict[str, int | str]:
    knobs: dict[str, int | str] = {f.name: str(rng.choice(f.allowed)) for f in model.fields if f.allowed}
    fields = rng.permutation(["ch", "ra", "bg", "ba", "ro", "co"])
    sizes = {"cmd_queue_size": int(rng.choice([1, 2, 4, 8])), "trans_queue_size": int(rng.choice([1, 4, 10, 16]))}
    return knobs | sizes | {"address_mapping": "".join(fields)}


def random_trace(rng: np.random.Generator, n: int, capacity: int) -> Trace:
    """Bursts of few rows and few places, some far apart, in fits and starts."""
    gaps = rng.choice([0, 1, 4, 60], n, p=[0.5, 0.3, 0.15, 0.05])
    near, far = rng.integers(0, 24, n) * 64, rng.integers(0, capacity // 64, n) * 64
    base = rng.integers(0, capacity // 64, 6) * 64
    address = np.where(rng.random(n) < 0.8, base[rng.integers(0, 6, n)] + near, far)
    return Trace(np.cumsum(gaps), rng.random(n) < rng.choice([0.1, 0.5]), address)


def small(name: str, sections: dict[str, dict[str, int | str]], **system: int | str) -> Device:
    """A device with frequent refreshes, so that a short run meets many."""
    return make_device(name, sections | {"system": {"channel_size": 4096, **system}})


REFRESHES: dict[str, int | str] = {"tREFI": 500, "tREFIb": 90, "tRFC": 60}
DEVICES = {
    "ddr3": partial(
        small,
        "ddr3",
        {"dram_structure": {"bankgroups": 1, "banks_per_group": 8}, "timing": REFRESHES},
        channel_size=16384,
    ),
    "ddr4": partial(
        small,
        "ddr4",
        {
            "dram_structure": {"protocol": "DDR4", "bankgroups": 4, "banks_per_group": 4},
            "timing": {**REFRESHES, "tFAW": 30},
        },
        channel_size=32768,
        channels=2,
    ),
    "lpddr4": partial(
        small,
        "lpddr4",
        {
            "dram_structure": {"protocol": "LPDDR4", "bankgroups": 2, "banks_per_group": 4, "BL": 16},
            "timing": {**REFRESHES, "tPPD": 4},
        },
        channel_size=16384,
    ),
    "gddr5": partial(
        small,
        "gddr5",
        {
            "dram_structure": {
                "protocol": "GDDR5", "bankgroups": 4, "banks_per_group": 4, "device_width": 32, "columns": 64,
                "rows": 16384, "bankgroup_enable": "false",
            },
            "timing": {**REFRESHES, "tPPD": 2, "t32AW": 400},
        },
    ),
    "hbm2": partial(
        small,
        "hbm2",
        {
            "dram_structure": {
                "protocol": "HBM2", "bankgroups": 4, "banks_per_group": 4, "device_width": 128, "columns": 64, "BL": 4,
                "rows": 16384,
            },
            "timing": REFRESHES,
        },
        channel_size=512,
        channels=4,
        bus_width=128,
    ),
}  # fmt: skip


def agree(device: Device, seed: int, n_requests: int, cycles: int) -> None:
    rng = np.random.default_rng(seed)
    model = Dramsim3(device, random_trace(rng, n_requests, 1 << 30), cycles)
    knobs = random_knobs(model, rng)
    report = model.evaluate(columns(model.fields, [knobs]))
    for name, value in slow_metrics(model, knobs).items():
        assert report.metrics[name][0] == pytest.approx(value, rel=1e-12, nan_ok=True), (name, knobs)


@pytest.mark.parametrize("device", DEVICES)
def test_the_event_loop_equals_the_slow_version(device: str) -> None:
    for seed in range(3):
        agree(DEVICES[device](), seed, 60, 700)


@pytest.mark.slow
@pytest.mark.parametrize("device", [*DEVICES, "ddr3-1600", "ddr4-2400"])
def test_the_event_loop_equals_the_slow_version_on_more_designs(device: str) -> None:
    for seed in range(10, 22):
        agree(DEVICES[device]() if device in DEVICES else load_device(device), seed, 150, 2500)


@pytest.mark.slow
@pytest.mark.parametrize("device", DEVICES)
def test_skipping_cycles_changes_nothing(device: str) -> None:
    rng = np.random.default_rng(5)
    model = Dramsim3(DEVICES[device](), random_trace(rng, 400, 1 << 30), 4000)
    parameters, mappings = model._parameters(columns(model.fields, [random_knobs(model, rng) for _ in range(20)]))
    skipped = model._simulate(parameters, mappings)
    parameters[:, at.SKIP] = 0
    assert np.array_equal(skipped, model._simulate(parameters, mappings))
    assert skipped[:, :, at.READS_DONE].sum() > 0
