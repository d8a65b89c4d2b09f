"""A slow, plain memory controller to hold the compiled one against: components that send each other messages.

Time passes in cycles and, within a cycle, in rounds: what is sent without delay arrives in the next round (SystemC).
Requester, arbiter, controller, bank machines, schedulers, refresh manager and timing checker are objects with DRAMSys's
roles; nothing is derived in advance. Energy is counted from the list of commands afterwards, as DRAMPower does.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from simulators.dram_device import DramDevice
from simulators.dram_trace import Trace
from tests.simulators.dram_oracle_rules import NEVER, Checker, power_figures

Knobs = Mapping[str, object]


@dataclass
class Request:
    number: int
    is_write: bool
    bank: int
    row: int
    address: int


@dataclass
class Kernel:
    """Cycles and rounds; in a round the controller runs first."""

    now: int = 0
    is_stopped: bool = False
    heap: list[tuple[int, int, Callable[[], None]]] = field(default_factory=list)
    coming: list[Callable[[], None]] = field(default_factory=list)
    controller_wakes: bool = False
    run_controller: Callable[[], None] = lambda: None
    n_sent: int = 0

    def send(self, action: Callable[[], None], delay: int = 0) -> None:
        if delay == 0:
            self.coming.append(action)
        else:
            self.n_sent += 1
            heapq.heappush(self.heap, (self.now + delay, self.n_sent, action))

    def wake_controller(self, delay: int = 0) -> None:
        self.send(self._wake, delay) if delay else self._wake_next()

    def _wake(self) -> None:
        self.controller_wakes = True

    def _wake_next(self) -> None:
        self.coming.append(self._wake)

    def run(self) -> None:
        while not self.is_stopped:
            if not self.coming:
                self.now = self.heap[0][0]
                while self.heap and self.heap[0][0] == self.now:
                    self.coming.append(heapq.heappop(self.heap)[2])
            actions, self.coming = self.coming, []
            for action in actions:
                if action == self._wake:
                    action()
            if self.controller_wakes:
                self.controller_wakes = False
                self.run_controller()
            for action in actions:
                if action != self._wake:
                    action()


class Requester:
    def __init__(self, kernel: Kernel, requests: list[Request], cycles: list[int]) -> None:
        self.kernel, self.requests, self.cycles, self.n_sent, self.n_received = kernel, requests, cycles, 0, 0
        self.arbiter: Arbiter

    def send_next(self) -> None:
        if self.n_sent == len(self.requests):
            return
        at = self.cycles[self.n_sent]
        if self.n_sent:
            at = max(self.kernel.now + 1, at)
        request = self.requests[self.n_sent]
        self.n_sent += 1
        self.kernel.send(lambda: self.arbiter.begin_request(request), at - self.kernel.now)

    def begin_response(self, request: Request) -> None:
        self.n_received += 1
        self.kernel.send(lambda: self.arbiter.end_response(request))
        if self.n_received == len(self.requests):
            self.kernel.is_stopped = True


class Arbiter:
    """Any of the three kinds; the Simple one passes everything through."""

    def __init__(self, kernel: Kernel, requester: Requester, kind: str, limit: int) -> None:
        self.kernel, self.requester, self.kind, self.limit = kernel, requester, kind, limit
        self.controller: Controller
        self.is_channel_busy = self.is_requester_busy = False
        self.pending: list[Request] = []
        self.responses: list[Request] = []
        self.n_active, self.next_number = 0, 0
        self.outstanding: Request | None = None
        self.last_end_request = self.last_end_response = -1

    def begin_request(self, request: Request) -> None:
        if self.kind == "Simple":
            self.controller.begin_request(request, 0)
        elif self.n_active < self.limit:
            self.n_active += 1
            self._admit(request)
        else:
            self.outstanding = request

    def _admit(self, request: Request) -> None:
        self.kernel.send(self.requester.send_next)
        self.kernel.send(lambda: self._arbitrate(request))

    def _arbitrate(self, request: Request) -> None:
        self.pending.append(request)
        if not self.is_channel_busy:
            self.is_channel_busy = True
            self.controller.begin_request(self.pending.pop(0), int(self.last_end_request == self.kernel.now))

    def end_request(self) -> None:
        self.last_end_request = self.kernel.now
        if self.kind == "Simple":
            self.kernel.send(self.requester.send_next)
        elif self.pending:
            self.controller.begin_request(self.pending.pop(0), 1)
        else:
            self.is_channel_busy = False

    def begin_response(self, request: Request) -> None:
        if self.kind == "Simple":
            self.kernel.send(lambda: self.requester.begin_response(request))
        else:
            self.controller.end_response()
            self.kernel.send(lambda: self._queue_response(request))

    def _queue_response(self, request: Request) -> None:
        self.responses.append(request)
        if not self.is_requester_busy:
            self._respond(int(self.last_end_response == self.kernel.now))

    def _respond(self, delay: int) -> None:
        if self.kind == "Reorder":
            self.responses.sort(key=lambda request: request.number)
        self.is_requester_busy = False
        if self.responses and (self.kind == "Fifo" or self.responses[0].number == self.next_number):
            self.is_requester_busy = True
            self.next_number += 1
            request = self.responses.pop(0)
            self.kernel.send(lambda: self.requester.begin_response(request), delay)

    def end_response(self, request: Request) -> None:
        del request
        if self.kind == "Simple":
            self.controller.end_response()
            return
        self.last_end_response = self.kernel.now
        if self.outstanding is not None:
            request, self.outstanding = self.outstanding, None
            self._admit(request)
        else:
            self.n_active -= 1
        self._respond(1)


@dataclass
class BankMachine:
    bank: int
    queue: list[Request] = field(default_factory=list)
    open_row: int | None = None
    is_blocked: bool = False
    wanted: Request | None = None
    command: str = ""
    at: int = NEVER


class Controller:
    def __init__(self, kernel: Kernel, arbiter: Arbiter, device: DramDevice, knobs: Knobs) -> None:
        self.kernel, self.arbiter, self.knobs, self.device = kernel, arbiter, knobs, device
        self.checker = Checker(device)
        self.banks = [BankMachine(b) for b in range(device.geometry["banks"])]
        self.waiting: Request | None = None
        self.waiting_from = NEVER
        self.last_bank = 0
        self.last_is_write = False
        self.responses: list[tuple[int, Request]] = []
        self.next_response = 0
        self.is_releasing, self.release_at = False, -1
        interval = device.timing_cycles["REFI"]
        self.trigger = interval if knobs["refresh_policy"] == "AllBank" else NEVER
        self.is_regular, self.flexibility, self.refresh_command, self.refresh_at = True, 0, "", NEVER
        if self.trigger < NEVER:
            kernel.wake_controller(self.trigger)

    def begin_request(self, request: Request, delay: int) -> None:
        self.waiting, self.waiting_from = request, self.kernel.now + delay
        self.kernel.wake_controller(delay)

    def end_response(self) -> None:
        self.release_at = self.kernel.now
        self.kernel.wake_controller()

    # ---- the method that SystemC would call
    def run(self) -> None:
        now = self.kernel.now
        self._manage_responses(now)
        self._manage_requests(now)
        self._start_refresh(now)
        ready = [(max(m.at, now), m.wanted.number + 1, m) for m in self.banks if m.command and m.wanted is not None]
        choices: list[tuple[int, int, BankMachine | None]] = [*ready]
        if self.refresh_command:
            choices.append((max(self.refresh_at, now), 0, None))
        if choices:
            at, _, machine = min(choices, key=lambda choice: choice[:2])
            if at == now:
                self._issue(now, machine)
        times = [self._start(machine, now) for machine in self.banks]
        self._start_refresh(now)
        times.append(self.refresh_at if self.refresh_command else self.trigger)
        soonest = min(times)
        if now < soonest < NEVER:
            self.kernel.wake_controller(soonest - now)

    def _issue(self, now: int, machine: BankMachine | None) -> None:
        if machine is None:
            self.checker.insert(now, self.refresh_command, 0)
            for each in self.banks:
                each.open_row = None
                each.is_blocked &= self.refresh_command == "PREA"
            if self.refresh_command == "REF":
                self.flexibility -= not self.is_regular
                self.is_regular = self.flexibility == -int(str(self.knobs["refresh_max_pulledin"]))
                self.trigger += self.device.timing_cycles["REFI"] if self.is_regular else 0
            return
        self.checker.insert(now, machine.command, machine.bank)
        request = machine.wanted
        assert request is not None
        if machine.command == "ACT":
            machine.open_row = request.row
        elif machine.command == "PRE":
            machine.open_row = None
        else:
            if machine.command in ("RDA", "WRA"):
                machine.open_row = None
            machine.queue.remove(request)
            machine.wanted, machine.command = None, ""
            self.last_is_write = request.is_write
            t = self.device.timing_cycles
            ready = now + (t["WL"] if request.is_write else t["RL"]) + self.device.burst_cycles
            self.responses.append((ready, request))
            self.kernel.wake_controller(ready - now)
            self._manage_requests(now)

    def _manage_requests(self, now: int) -> None:
        if self.waiting is None or self.waiting_from > now:
            return
        buffered = [request for machine in self.banks for request in machine.queue]
        size = int(str(self.knobs["request_buffer_size"]))
        n_writes = sum(request.is_write for request in buffered)
        load = {
            "Bankwise": len(self.banks[self.last_bank].queue),
            "ReadWrite": max(n_writes, len(buffered) - n_writes),
            "Shared": len(buffered),
        }[str(self.knobs["scheduler_buffer"])]
        if load < size:
            machine = self.banks[self.waiting.bank]
            machine.queue.append(self.waiting)
            self.last_bank = self.waiting.bank
            self.waiting = None
            self._start(machine, now)
            self.kernel.send(self.arbiter.end_request)

    def _manage_responses(self, now: int) -> None:
        is_released_now = self.release_at == now
        if self.is_releasing:
            if not is_released_now:
                return
            self.is_releasing = False
        in_order = self.knobs["resp_queue"] == "Reorder"
        if in_order:
            self.responses.sort(key=lambda response: response[1].number)
        if self.responses:
            ready, request = self.responses[0]
            if in_order and request.number != self.next_response:
                return
            if ready <= now:
                self.responses.pop(0)
                self.next_response += 1
                self.is_releasing, self.release_at = True, NEVER
                self.kernel.send(lambda: self.arbiter.begin_response(request), int(is_released_now))
            else:
                self.kernel.wake_controller(ready - now)

    # ---- what a bank wants
    def _chosen(self, machine: BankMachine) -> Request | None:
        queue = machine.queue
        if not queue:
            return None
        hits = [request for request in queue if request.row == machine.open_row]
        scheduler = self.knobs["scheduler"]
        if scheduler == "FrFcfsGrp":
            for i, request in enumerate(hits):
                is_hazard = any(earlier.address == request.address for earlier in hits[:i])
                if request.is_write == self.last_is_write and not is_hazard:
                    return request
        if scheduler != "Fifo" and hits:
            return hits[0]
        return queue[0]

    def _has_further_hit(self, machine: BankMachine) -> bool:
        if self.knobs["scheduler"] == "Fifo":
            return len(machine.queue) >= 2 and machine.queue[1].row == machine.open_row
        return sum(request.row == machine.open_row for request in machine.queue) >= 2

    def _start(self, machine: BankMachine, now: int) -> int:
        machine.command, machine.at = "", NEVER
        if machine.is_blocked:
            return NEVER
        machine.wanted = self._chosen(machine)
        if machine.wanted is None:
            return NEVER
        policy = self.knobs["page_policy"]
        if machine.open_row is None:
            machine.command = "ACT"
        elif policy != "Closed" and machine.wanted.row != machine.open_row:
            machine.command = "PRE"
        else:
            closes = {
                "Open": False,
                "OpenAdaptive": len(machine.queue) >= 2 and not self._has_further_hit(machine),
                "Closed": True,
                "ClosedAdaptive": not self._has_further_hit(machine),
            }[str(policy)]
            machine.command = ("WR" if machine.wanted.is_write else "RD") + ("A" if closes else "")
        machine.at = self.checker.earliest(now, machine.command, machine.bank)
        return machine.at

    def _start_refresh(self, now: int) -> None:
        self.refresh_command, self.refresh_at = "", NEVER
        if now < self.trigger:
            return
        interval = self.device.timing_cycles["REFI"]
        if now >= self.trigger + interval:
            self.trigger += interval
            self.is_regular = True
        is_idle = all(machine.wanted is None for machine in self.banks)
        if self.is_regular and self.flexibility == int(str(self.knobs["refresh_max_postponed"])):
            for machine in self.banks:
                machine.is_blocked = True
        elif not is_idle:
            self.flexibility += self.is_regular
            self.is_regular = True
            self.trigger += interval
            return
        is_any_open = any(machine.open_row is not None for machine in self.banks)
        self.refresh_command = "PREA" if is_any_open else "REF"
        self.refresh_at = self.checker.earliest(now, self.refresh_command, 0)


def run_oracle(
    device: DramDevice, trace: Trace, knobs: Knobs
) -> tuple[int, dict[str, int], list[tuple[int, str, int]]]:
    """Cycle of the last response, power figures, and the commands (cycle, name, bank)."""
    bank, row = device.decode(trace.address)
    requests = [
        Request(i, bool(trace.is_write[i]), int(bank[i]), int(row[i]), int(trace.address[i])) for i in range(len(trace))
    ]
    kernel = Kernel()
    requester = Requester(kernel, requests, [int(cycle) for cycle in trace.cycle])
    arbiter = Arbiter(kernel, requester, str(knobs["arbiter"]), int(str(knobs["max_active_transactions"])))
    controller = Controller(kernel, arbiter, device, knobs)
    requester.arbiter, arbiter.controller, kernel.run_controller = arbiter, controller, controller.run
    requester.send_next()
    kernel.run()
    return kernel.now, power_figures(device, controller.checker.history), controller.checker.history
