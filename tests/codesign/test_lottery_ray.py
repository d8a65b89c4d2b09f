from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.codesign.lottery_files import lottery_file
from tests.codesign.test_lottery import result_of, run

pytestmark = [pytest.mark.ray, pytest.mark.slow]


def test_tune_draws_what_the_serial_driver_draws(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = lottery_file(tmp_path)
    assert run(capsys, "lottery", str(path), "--out", str(tmp_path / "serial"))[0] == 0
    status, text, err = run(capsys, "lottery", str(path), "driver=tune", "--out", str(tmp_path / "tune"))
    assert status == 0, err
    assert "tickets 12/12" in text
    assert result_of(tmp_path / "tune") == result_of(tmp_path / "serial")
    assert not (tmp_path / "tune" / "tune").exists()


def test_a_killed_sweep_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = lottery_file(tmp_path, seeds=12, evaluations=400, driver="tune")
    cut = tmp_path / "cut"
    process = subprocess.Popen(
        [sys.executable, "-m", "codesign", "lottery", str(path), "--out", str(cut)],
        cwd=Path(__file__).parents[2],
        stdout=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 300
    while len(list(cut.glob("tickets/*.parquet"))) < 3:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    n_done = len(list(cut.glob("tickets/*.parquet")))
    status, text, err = run(capsys, "lottery", str(path), "--out", str(cut))
    assert status == 0, err
    assert f"resuming: {n_done} of 72 tickets are done" in text
    assert run(capsys, "lottery", str(path), "driver=serial", "--out", str(tmp_path / "whole"))[0] == 0
    assert result_of(cut) == result_of(tmp_path / "whole")


def test_a_faulty_agent_is_reported_by_tune_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    agents = {"bad": {"type": "tests.codesign.fake_agent:Faulty"}, "random": None}
    path = lottery_file(tmp_path, agents=agents, settings=1, driver="tune")
    status, _, err = run(capsys, "lottery", str(path), "--out", str(tmp_path / "out"))
    assert status == 1
    assert "2 of 4 tickets failed; the first: bad with {}: RuntimeError: out of ideas" in err
