"""The benchmark that holds `dramsim3` against a table of DRAMsim3 runs."""

from __future__ import annotations

import importlib.util
import json
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from simulators.dramsim3_device import DEVICE_FOLDER

pytestmark = pytest.mark.slow

HEADER = (
    "device_config,trace,row_buf_policy,queue_structure,cmd_queue_size,trans_queue_size,address_mapping,refresh_policy,"
    "unified_queue,reads_done,writes_done,avg_read_latency_cycles,bandwidth_gbps,total_energy,avg_power,activates,"
    "read_row_hits,write_row_hits,refreshes\n"
)
ROWS = (  # as DRAMsim3 (April 2021) prints them
    "A,stream,OPEN_PAGE,PER_RANK,16,8,robabgrachco,RANK_LEVEL_SIMULTANEOUS,True,1250,1250,138.68,2.133333333,71246898,"
    "1187.4483,90,1205,1205,7\n"
    "A,stream,CLOSE_PAGE,PER_BANK,16,8,chrarobabgco,BANK_LEVEL_STAGGERED,True,707,719,1036.439887,1.216853333,65655576,"
    "1094.2596,1414,0,0,9\n"
)


@pytest.fixture
def main() -> Callable[[list[str]], int]:
    path = Path(__file__).parents[2] / "benchmarks" / "dramsim3_reference.py"
    spec = importlib.util.spec_from_file_location("dramsim3_reference", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    run: Callable[[list[str]], int] = module.main
    return run


@pytest.fixture
def options(tmp_path: Path) -> list[str]:
    device = tomllib.loads((DEVICE_FOLDER / "ddr3-1600.toml").read_text())
    (tmp_path / "devices.json").write_text(json.dumps({"A": device}))
    lines = [f"0x{i // 2 * 64 + i % 2 * 0x8000000:X} {'WRITE' if i % 2 else 'READ'} {4 * i}\n" for i in range(2500)]
    (tmp_path / "dramsim3_stream.trace").write_text("".join(lines))
    return [str(tmp_path / "t.csv"), "--traces", str(tmp_path), "--devices", str(tmp_path / "devices.json")]


def test_equal_rows(main: Callable[[list[str]], int], options: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    Path(options[0]).write_text(HEADER + ROWS)
    assert main(options) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[1:3] for line in lines[1:-1]] == [["2", "2"]] * 10
    assert lines[-1].endswith("controllers per CPU second on one core, 60000 cycles each")


def test_one_unit_off(main: Callable[[list[str]], int], options: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    Path(options[0]).write_text(HEADER + ROWS.replace(",1414,", ",1415,").replace("138.68", "138.6801"))
    assert main(options) == 1
    lines = capsys.readouterr().out.splitlines()
    unequal = {line.split()[0]: float(line.split()[4]) for line in lines[1:-1] if line.split()[2] == "1"}
    assert unequal == {"activates": 0.00071, "avg_read_latency_cycles": 7.2e-7}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "table: cannot read"),
        (HEADER, "table: no rows"),
        (HEADER.replace("refreshes", "refs") + ROWS, "table: column 'refreshes' is missing"),
        (HEADER + ROWS.replace("A,", "B,"), "table: device 'B' is not in"),
        (HEADER + ROWS.replace("stream", "none"), "trace: cannot read"),
        (HEADER + ROWS.replace("OPEN_PAGE", "OPEN"), "row_buf_policy: 'OPEN' is not one of"),
        (HEADER + ROWS.replace("1250,1250", "1250,many"), "could not convert"),
    ],
)
def test_a_wrong_table_is_one_message(
    main: Callable[[list[str]], int],
    options: list[str],
    capsys: pytest.CaptureFixture[str],
    text: str | None,
    message: str,
) -> None:
    if text is not None:
        Path(options[0]).write_text(text)
    assert main(options) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
