"""Calibrates a device: draws networks of a space, measures their units and themselves in passes, and fits.

Each pass opens every model once and reads it a few times; passes go round everything, so that a slow hour hits all
alike, and what is saved after every few seconds is enough to go on from where it was cut.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Protocol

import numpy as np

from codesign.device import Calibration, Machine
from codesign.device_units import FloatArray, Units, units_of, work_of
from codesign.errors import InputError
from search_spaces.ops import IntArray, total_macs
from search_spaces.space import NetworkSpace

PASSES = 5
UNITS_SHARE, FIRST_PASS_SHARE = 0.2, 0.55
"""Shares of the time that the first pass may take for units, and in all: what it does not reach is left out."""
_UNITS_AT_ONCE, _NETWORKS_AT_ONCE = 128, 24
"""Models that are open at once, and read in turn: the more, the longer a slow spell must last to spoil all readings."""
_SAVE_SECONDS = 5.0
_HELD_OUT = 3
"""Every so many networks, one is held out."""
_POOL = 2_000
"""Candidates drawn to see which units the space has."""
_WORK_PER_BYTE = 8.0
"""MACs that take about as long as one element moved: what units are ranked by before any is measured."""

Note = Callable[[float, str], None]


class Bench(Protocol):
    """What can be measured."""

    def networks(self, codes: IntArray, seed: int) -> FloatArray:
        """Quickest reading of each network after opening it once, in ms, shape (n,); NaN for one that cannot be run."""
        ...

    def units(self, signatures: IntArray, seed: int) -> FloatArray:
        """The same of units, shape (n,)."""
        ...

    def empty(self, seed: int) -> float:
        """The same of a call that computes nothing."""
        ...


@dataclass(frozen=True, slots=True)
class Plan:
    """What to calibrate.

    Attributes:
        space: of networks.
        identity: text that is equal for equal spaces.
        n_networks: to measure, a third of which is held out.
        seed: of what is drawn.
        machine: where.
    """

    space: NetworkSpace
    identity: str
    n_networks: int
    seed: int
    machine: Machine


def begin(plan: Plan) -> Calibration:
    """An empty calibration: networks and units are drawn, nothing is measured.

    Raises:
        InputError: the space has too few networks.
    """
    rng = np.random.default_rng(plan.seed)
    pool = plan.space.sample(_POOL, rng)
    _, first = np.unique(plan.space.canonical(pool), axis=0, return_index=True)
    pool = pool[np.sort(first)]
    if len(pool) < 30:
        raise InputError(f"space: {len(pool)} different networks were found; a calibration needs at least 30")
    chosen, is_held_out = _draw(pool, total_macs(plan.space.ops(pool)), plan.n_networks, rng)
    units = units_of(plan.space.ops(pool))
    signatures, importance, order = _ranked(units, chosen)
    return Calibration(
        space=plan.identity, machine=plan.machine, seed=plan.seed, signatures=signatures, importance=importance,
        codes=pool[chosen], is_held_out=is_held_out, counts=units.counts()[chosen][:, order],
        empty_ms=np.full(PASSES, np.nan), unit_ms=np.full((len(signatures), PASSES), np.nan),
        network_ms=np.full((len(chosen), PASSES), np.nan), passes=PASSES,
        started_at=datetime.now(UTC).isoformat(timespec="seconds"),
    )  # fmt: skip


def _draw(
    pool: IntArray, macs: IntArray, n_networks: int, rng: np.random.Generator
) -> tuple[IntArray, np.typing.NDArray[np.bool_]]:
    """Rows of the pool, and which are held out: these as drawn, half of the others spread evenly over the MACs."""
    n = min(n_networks, len(pool))
    rows = rng.permutation(len(pool))
    n_held_out = n // _HELD_OUT
    held_out, rest = rows[:n_held_out], rows[n_held_out:]
    by_macs = rest[np.argsort(macs[rest], kind="stable")]
    spread = by_macs[np.linspace(0, len(by_macs) - 1, (n - n_held_out) // 2).round().astype(np.int64)]
    spread = np.unique(spread)
    others = rest[~np.isin(rest, spread)][: n - n_held_out - len(spread)]
    chosen = np.concatenate([held_out, spread, others])
    order = rng.permutation(len(chosen))
    return chosen[order], (np.arange(len(chosen)) < n_held_out)[order]


def _ranked(units: Units, chosen: IntArray) -> tuple[IntArray, FloatArray, IntArray]:
    """Signatures by importance, those of the chosen networks first; the importance; and the order."""
    macs, read, written, weights = work_of(units.signatures).T
    effort = macs / _WORK_PER_BYTE + read + written + weights
    total = np.bincount(units.signature, weights=units.count, minlength=len(effort)) * effort
    occurs = np.zeros(len(effort), dtype=np.bool_)
    occurs[units.signature[np.isin(units.network, chosen)]] = True
    order = np.lexsort((-total, ~occurs))
    return units.signatures[order], total[order] / total.sum(), order


def check_same(held: Calibration, plan: Plan) -> None:
    """Refuse to go on with a calibration of something else.

    Raises:
        InputError: the space, the machine, the runtime, the threads or the seed differ.
    """
    for what, old, new in (
        ("space", held.space, plan.identity), ("seed", held.seed, plan.seed),
        ("CPU", held.machine.cpu, plan.machine.cpu), ("runtime", held.machine.runtime, plan.machine.runtime),
        ("number of threads", held.machine.threads, plan.machine.threads),
    ):  # fmt: skip
        if old != new:
            raise InputError(f"--out: it holds a calibration of another {what} ({old}, not {new}); name a new file")


def calibrate(
    held: Calibration,
    bench: Bench,
    seconds: float,
    *,
    save: Callable[[Calibration], None] = lambda calibration: None,
    note: Note = lambda share, text: None,
    clock: Callable[[], float] = time.monotonic,
) -> Calibration:
    """Measure for a time, go on from what there is, and fit.

    Args:
        held: new from `begin`, or cut off.
        bench: measures.
        seconds: to spend in all, earlier spells included; a chunk that was begun is finished.
        save: called every few seconds and at the end.
        note: told the share of the time that is spent and what is measured.
        clock: seconds.

    Raises:
        InputError: too few networks could be measured in the time; what was measured is saved.
    """
    session = _Session(held, bench, seconds, save, note, clock)
    for number in range(held.passes):
        session.measure_pass(number)
    note(1.0, "fitting")
    result = replace(session.snapshot(), widths=None, errors=None)
    save(result)
    result = result.finished()
    save(result)
    return result


class _Session:
    """One spell of measuring."""

    def __init__(
        self, held: Calibration, bench: Bench, seconds: float, save: Callable[[Calibration], None], note: Note,
        clock: Callable[[], float],
    ) -> None:  # fmt: skip
        self._held, self._bench, self._seconds = held, bench, seconds
        self._save, self._note, self._clock = save, note, clock
        self._began = self._saved_at = clock()
        self.empty_ms = held.empty_ms.copy()
        self.unit_ms = held.unit_ms.copy()
        self.network_ms = held.network_ms.copy()

    @property
    def spent_s(self) -> float:
        return self._held.spent_s + self._clock() - self._began

    def snapshot(self) -> Calibration:
        """What is measured so far."""
        return replace(
            self._held, empty_ms=self.empty_ms.copy(), unit_ms=self.unit_ms.copy(), network_ms=self.network_ms.copy(),
            spent_s=self.spent_s,
        )  # fmt: skip

    def measure_pass(self, number: int) -> None:
        """Measure what is missing in a pass, while there is time."""
        if self.spent_s > self._seconds:
            return
        if np.isnan(self.empty_ms[number]):
            self.empty_ms[number] = self._bench.empty(self._seed(number, 0))
        chunks = _chunks(self._missing(self.unit_ms, number), self._missing(self.network_ms, number), number > 0)
        unit_s = 0.0
        for place, (is_network, rows) in enumerate(chunks):
            if number == 0 and not is_network and unit_s > self._seconds * UNITS_SHARE:
                continue
            if self.spent_s > self._seconds * (FIRST_PASS_SHARE if number == 0 else 1.0):
                break
            chunk_began = self._clock()
            what = "networks" if is_network else "units"
            self._note(min(1.0, self.spent_s / self._seconds), f"pass {number + 1} of {self._held.passes}, {what}")
            seed = self._seed(number, place + 1)
            if is_network:
                self.network_ms[rows, number] = self._bench.networks(self._held.codes[rows], seed)
            else:
                self.unit_ms[rows, number] = self._bench.units(self._held.signatures[rows], seed)
                unit_s += self._clock() - chunk_began
            if self._clock() - self._saved_at > _SAVE_SECONDS:
                self._save(self.snapshot())
                self._saved_at = self._clock()

    def _missing(self, taken_ms: FloatArray, number: int) -> IntArray:
        """Rows to read in a pass; after the first only those that it reached."""
        is_wanted = np.isnan(taken_ms[:, number])
        if number:
            is_wanted &= ~np.isnan(taken_ms[:, 0])
        return np.flatnonzero(is_wanted)

    def _seed(self, number: int, place: int) -> int:
        return (self._held.seed * 1_000 + number) * 1_000_000 + place


def _chunks(units: IntArray, networks: IntArray, is_mixed: bool) -> list[tuple[bool, IntArray]]:
    """Chunks of both, units first or both evenly mixed, each kind in its own order: (whether networks, rows)."""
    placed: list[tuple[float, bool, IntArray]] = []
    for is_network, rows, size in ((False, units, _UNITS_AT_ONCE), (True, networks, _NETWORKS_AT_ONCE)):
        chunks: Sequence[IntArray] = [rows[i : i + size] for i in range(0, len(rows), size)]
        placed += [((i + 0.5) / len(chunks), is_network, chunk) for i, chunk in enumerate(chunks)]
    placed.sort(key=lambda each: each[0] if is_mixed else each[1])
    return [(is_network, rows) for _, is_network, rows in placed]
