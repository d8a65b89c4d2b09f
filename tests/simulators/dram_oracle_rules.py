"""The rules of the slow memory controller: earliest cycles of commands, and the energy of a list of commands."""

from __future__ import annotations

from simulators.dram_device import DramDevice

NEVER = 10**12


class Checker:
    """Earliest cycles of commands, from the last command of each kind per bank, group and rank."""

    def __init__(self, device: DramDevice) -> None:
        self.t, self.burst, self.is_ddr4 = dict(device.timing_cycles), device.burst_cycles, device.standard == "DDR4"
        self.per_group = device.geometry["banks"] // device.geometry["bank_groups"]
        self.history: list[tuple[int, str, int]] = []
        self.last_bank: dict[tuple[str, int], int] = {}
        self.last_group: dict[tuple[str, int], int] = {}
        self.last_rank: dict[str, int] = {}
        self.activates: list[int] = []
        self.last_on_bus = -NEVER

    def insert(self, now: int, command: str, bank: int) -> None:
        self.history.append((now, command, bank))
        self.last_bank[command, bank] = now
        self.last_group[command, bank // self.per_group] = now
        self.last_rank[command] = now
        self.last_on_bus = now
        if command == "ACT":
            self.activates = [*self.activates[-3:], now]

    def earliest(self, now: int, command: str, bank: int) -> int:
        t, rules = self.t, [now, self.last_on_bus + 1]
        column = "" if not self.is_ddr4 else "_S"

        def after_bank(delay: int, *commands: str) -> None:
            rules.extend(self.last_bank[name, bank] + delay for name in commands if (name, bank) in self.last_bank)

        def after_rank(delay: int, *commands: str) -> None:
            rules.extend(self.last_rank[name] + delay for name in commands if name in self.last_rank)

        def after_group(delay: int, *commands: str) -> None:
            group = bank // self.per_group
            rules.extend(self.last_group[name, group] + delay for name in commands if (name, group) in self.last_group)

        write_done = t["WL"] + self.burst + t["WR"]
        turn = self.burst + (1 + t["WPRE"] if self.is_ddr4 else 2)
        if command in ("RD", "RDA", "WR", "WRA"):
            reads, writes = ("RD", "RDA"), ("WR", "WRA")
            same, other, gap = (reads, writes, 0) if command in reads else (writes, reads, 1)
            after_bank(t["RCD"] - t["AL"], "ACT")
            after_rank(t["CCD" + column], *same)
            if self.is_ddr4:
                after_group(t["CCD_L"], *same)
            if gap:
                after_rank(t["RL"] + turn - t["WL"], *other)
            else:
                after_rank(t["WL"] + self.burst + t["WTR" + column] - t["AL"], *other)
                after_rank(t["WL"] + self.burst + t["RTRS"] - t["RL"] + (t["RPRE"] if self.is_ddr4 else 0), *other)
                if self.is_ddr4:
                    after_group(t["WL"] + self.burst + t["WTR_L"] - t["AL"], *other)
            if command == "RDA":
                after_bank(write_done - t["RTP"] - t["AL"], "WR")
        elif command == "ACT":
            after_bank(t["RC"], "ACT")
            after_rank(t["RRD" + column], "ACT")
            if self.is_ddr4:
                after_group(t["RRD_L"], "ACT")
            after_bank(t["AL"] + t["RTP"] + t["RP"], "RDA")
            after_bank(write_done + t["RP"], "WRA")
            after_bank(t["RP"], "PRE")
            after_rank(t["RP"], "PREA")
            after_rank(t["RFC"], "REF")
            if len(self.activates) == 4:
                rules.append(self.activates[0] + t["FAW"])
        elif command == "PRE":
            after_bank(t["RAS"], "ACT")
            after_bank(t["AL"] + t["RTP"], "RD")
            after_bank(write_done, "WR")
        elif command == "PREA":
            after_rank(t["RAS"], "ACT")
            after_rank(t["AL"] + t["RTP"], "RD", "RDA")
            after_rank(write_done, "WR", "WRA")
        else:
            after_rank(t["RC"], "ACT")
            after_rank(t["AL"] + t["RTP"] + t["RP"], "RDA")
            after_rank(write_done + t["RP"], "WRA")
            after_rank(t["RP"], "PRE", "PREA")
            after_rank(t["RFC"], "REF")
        return max(rules)


def power_figures(device: DramDevice, history: list[tuple[int, str, int]]) -> dict[str, int]:
    """Counts and cycles as DRAMPower's CommandAnalysis finds them in the commands, auto-precharges made explicit."""
    t, burst = device.timing_cycles, device.burst_cycles
    commands: list[tuple[int, int, str, int]] = []
    activated: dict[int, int] = {}
    for now, command, bank in history:
        commands.append((now, command != "PRE", command.removesuffix("A") if command != "PREA" else command, bank))
        if command == "ACT":
            activated[bank] = now
        if command in ("RDA", "WRA"):
            read_offset = t["AL"] + (max(t["RTP"], 4) if device.standard == "DDR3" else t["RTP"])
            offset = read_offset if command == "RDA" else t["WL"] + burst + t["WR"]
            commands.append((max(now + offset, activated[bank] + t["RAS"]), False, "PRE", bank))
    commands.sort(key=lambda entry: entry[:2])
    done = {"RD": t["RL"] + t["DQSCK"] + 1 + burst, "WR": t["WL"] + burst + t["WR"], "ACT": t["RCD"]}
    done |= {"PRE": t["RP"], "PREA": t["RP"], "REF": 0}
    count = dict.fromkeys(("ACT", "PRE", "RD", "WR", "REF"), 0)
    active: set[int] = set()
    first_active = last_precharge = active_cycles = idle_cycles = 0
    for now, _, command, bank in commands:
        if command == "ACT":
            if not active:
                first_active = now
                idle_cycles += max(0, now - last_precharge)
            active.add(bank)
        elif command in ("PRE", "PREA"):
            closing = active & {bank} if command == "PRE" else set(active)
            if closing and closing == active:
                active_cycles += now - first_active
                last_precharge = now
            active -= closing
            count["PRE"] += len(closing)
            continue
        elif command == "REF":
            idle_cycles += max(0, now - last_precharge)
            last_precharge = now + t["RFC"] - t["RP"]
            active_cycles += t["RFC"] - t["RP"]
        count[command] += 1
    end = commands[-1][0] + done[commands[-1][2]] - 1
    if active:
        active_cycles += max(0, end - first_active)
    else:
        idle_cycles += max(0, end - last_precharge)
    return count | {"active": active_cycles, "total": active_cycles + idle_cycles}
