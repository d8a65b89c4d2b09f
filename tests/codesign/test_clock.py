"""The simulated clock: who works when, in closed form and as properties, and around strategies and studies."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codesign.clock import Shift, drive_clock
from codesign.drive_serial import drive_serial
from codesign.guard import guarded
from codesign.strategies.nsga2 import Nsga2
from codesign.study import Batch
from tests.codesign.fakes import Grid, Quality
from tests.codesign.test_study import ledger, make_study


def drive(durations: list[float], workers: int) -> list[Shift[int]]:
    """Work 0, 1, ... with the durations given."""
    left = iter(range(len(durations)))
    return drive_clock(lambda: next(left, None), lambda work: None, lambda work: durations[work], workers)


def test_equal_durations_fill_rounds() -> None:
    shifts = drive([2.0] * 7, workers=3)
    assert [shift.ended for shift in shifts] == [2, 2, 2, 4, 4, 4, 6]
    assert [shift.work for shift in shifts] == list(range(7))


def test_one_worker_is_a_queue() -> None:
    durations = [3.0, 1.0, 0.0, 2.5]
    shifts = drive(durations, workers=1)
    assert [shift.number for shift in shifts] == [0, 1, 2, 3]
    assert [shift.ended for shift in shifts] == np.cumsum(durations).tolist()


def test_results_arrive_as_they_end_and_the_freed_worker_goes_on() -> None:
    shifts = drive([5.0, 1.0, 1.0, 2.0], workers=2)
    assert [(s.work, s.worker, s.began, s.ended) for s in shifts] == [
        (1, 1, 0, 1),
        (2, 1, 1, 2),
        (3, 1, 2, 4),
        (0, 0, 0, 5),
    ]


def test_results_of_one_instant_are_all_told_before_the_next_ask() -> None:
    events: list[str] = []
    left = iter(range(4))

    def ask() -> int | None:
        work = next(left, None)
        events.append(f"ask {work}")
        return work

    drive_clock(ask, lambda work: events.append(f"tell {work}"), lambda work: 1.0, workers=2)
    assert events[:6] == ["ask 0", "ask 1", "tell 0", "tell 1", "ask 2", "ask 3"]


def test_a_worker_that_got_nothing_asks_again_when_a_result_arrived() -> None:
    told: list[int] = []
    given_out: list[int] = []

    def ask() -> int | None:
        """The second piece of work needs the first one's result."""
        if len(given_out) > len(told) or len(given_out) == 3:
            return None
        given_out.append(len(given_out))
        return given_out[-1]

    shifts = drive_clock(ask, told.append, lambda work: 1.0, workers=4)
    assert [shift.began for shift in shifts] == [0, 1, 2]


@settings(max_examples=60)
@given(st.lists(st.floats(0, 10), max_size=40), st.integers(1, 6))
def test_schedules_are_sound(durations: list[float], workers: int) -> None:
    shifts = drive(durations, workers)
    assert sorted(shift.number for shift in shifts) == list(range(len(durations)))
    assert [(s.ended, s.number) for s in shifts] == sorted((s.ended, s.number) for s in shifts)
    for worker in range(workers):
        own = sorted((s.began, s.number, s.ended) for s in shifts if s.worker == worker)
        assert all(own[i][2] <= own[i + 1][0] for i in range(len(own) - 1))
    instants = {0.0} | {shift.ended for shift in shifts}
    assert all(shift.began in instants and shift.ended == shift.began + durations[shift.work] for shift in shifts)
    longest, total = max(durations, default=0.0), sum(durations)
    end = max((shift.ended for shift in shifts), default=0.0)
    assert max(longest, total / workers) <= end + 1e-9
    assert end <= total / workers + longest + 1e-9  # Graham's bound for list scheduling


@pytest.mark.parametrize("duration", [-1.0, float("nan"), float("inf")])
def test_a_duration_must_be_a_number_from_zero(duration: float) -> None:
    with pytest.raises(ValueError, match="duration of work 0"):
        drive([duration], workers=1)


def test_without_workers_nothing_is_done() -> None:
    with pytest.raises(ValueError, match="workers: 0"):
        drive([1.0], workers=0)


def test_a_day_of_a_strategy_on_eight_workers() -> None:
    strategy, left = Nsga2(Grid(), 1, 0), iter(range(160))
    shifts = drive_clock(
        lambda: strategy.ask(1) if next(left, None) is not None else None,
        lambda codes: strategy.tell(codes, codes.sum(axis=1, keepdims=True).astype(float), np.zeros(1)),
        lambda codes: 0.5 + float(codes.mean()),
        workers=8,
    )
    assert len(shifts) == 160
    busy = sum(shift.ended - shift.began for shift in shifts)
    assert shifts[-1].ended == pytest.approx(busy / 8, rel=0.1)
    losses = [shift.work.sum() for shift in sorted(shifts, key=lambda shift: shift.number)]
    assert np.mean(losses[-50:]) < np.mean(losses[:50]) / 2


def test_a_study_keeps_its_ledger_whatever_the_workers(tmp_path: Path) -> None:
    """Rounds are told in order, so the simulated cluster must give what the serial driver gives."""
    serial = make_study(tmp_path / "serial.db", batch=4, in_flight=2)
    drive_serial(serial, Quality())
    quality, rng = Quality(), np.random.default_rng(1)
    study = make_study(tmp_path / "clock.db", quality, batch=4, in_flight=2)

    def finish(batch: Batch) -> None:
        study.finish(batch.numbers, guarded(quality, batch.codes))

    shifts = drive_clock(lambda: study.ask(1), finish, lambda batch: float(rng.lognormal()), workers=5)
    assert study.is_done
    assert ledger(study) == ledger(serial)
    assert [shift.number for shift in shifts] != sorted(shift.number for shift in shifts)
