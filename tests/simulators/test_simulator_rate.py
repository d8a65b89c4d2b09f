"""The benchmark that measures how fast the simulators are."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "simulator_rate.py"
QUICK = ["--seconds", "0.001", "--repeats", "1"]


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Any:
    spec = importlib.util.spec_from_file_location("simulator_rate", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "simulator_rate", module)
    spec.loader.exec_module(module)
    return module


def test_a_measurement_alone_as_a_table_and_as_json(script: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert script.main(["--only", "roofline", *QUICK]) == 0
    assert "roofline" in capsys.readouterr().out
    assert script.main(["--only", "roofline", "--only", "mapping", "--json", *QUICK]) == 0
    roofline, mapping = json.loads(capsys.readouterr().out)
    assert roofline["rate"] > 0
    assert roofline["tool"] == ""
    assert mapping["tool_rate"] == pytest.approx(1 / 0.0033)


@pytest.mark.parametrize(("rate", "status", "word"), [(9_999.0, 1, "NO"), (10_000.0, 0, "yes")])
def test_a_held_rate_from_both_sides(
    script: Any,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    rate: float,
    status: int,
    word: str,
) -> None:
    def fixed(settings: object) -> Iterator[Any]:
        yield script.against("ours", "design", rate, "MAESTRO", hold=10_000.0)

    monkeypatch.setitem(script.MEASUREMENTS, "roofline", fixed)
    assert script.main(["--only", "roofline"]) == status
    assert capsys.readouterr().out.split()[-1] == word


def test_a_ratio_to_the_tool_is_held(script: Any) -> None:
    line = script.against("ours", "design", 4_000.0, "DRAMSys 4, stream", hold_ratio=100.0)
    assert line.hold == pytest.approx(100 / 0.022)
    assert not line.is_held


def test_a_folder_without_traces_is_one_message(
    script: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert script.main(["--only", "dram", "--traces", str(tmp_path)]) == 2
    assert "has no .stl files" in capsys.readouterr().err


def test_wrong_arguments_are_refused(script: Any) -> None:
    for wrong in (["--seconds", "0"], ["--repeats", "0"], ["--only", "gpu"]):
        with pytest.raises(SystemExit):
            script.main(wrong)
