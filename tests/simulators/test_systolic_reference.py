"""The benchmark that holds the systolic model against a table of SCALE-Sim runs."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "systolic_reference.py"
HEADER = (
    "kind,gemm_m,gemm_n,gemm_k,ifmap_h,ifmap_w,filter_h,filter_w,channels,num_filters,stride,array_rows,"
    "array_cols,dataflow,sram_ifmap_kb,sram_filter_kb,sram_ofmap_kb,bw_mode,bw_words_per_cycle,total_cycles,"
    "stall_cycles,overall_util_pct,mapping_eff_pct,compute_util_pct,sram_ifmap_reads,sram_filter_reads,"
    "sram_ofmap_writes,dram_ifmap_reads,dram_filter_reads,dram_ofmap_writes,sim_cpu_s\n"
)
ROWS = (  # as SCALE-Sim 3.0.0 reports them
    "conv,,,,5,5,3,3,1,1,1,16,16,ws,64,64,64,CALC,10,54,0,0.5859375,3.515625,0.4520089286,81,9,9,25,9,9,"
    "0.005\n"
    "gemm,50,50,64,,,,,,,,32,32,is,64,64,64,CALC,10,575,0,27.17391304,78.125,22.32142857,3200,6400,5000,3200,"
    "3200,5000,0.032\n"
    "gemm,50,64,50,,,,,,,,32,32,os,64,64,64,CALC,10,447,0,34.95525727,78.125,34.87723214,5000,6400,3456,2500,"
    "3200,3200,0.027\n"
    "conv,,,,10,5,1,3,8,8,2,12,14,os,1024,1024,512,USER,8,47,0,29.17933131,57.14285714,28.57142857,288,192,"
    "122,288,336,96,0.006\n"
)


@pytest.fixture(scope="module")
def script() -> Any:
    spec = importlib.util.spec_from_file_location("systolic_reference", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def main(script: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[[list[str]], int]:
    monkeypatch.setattr(script, "closed_form_rate", lambda workload: 1e7)
    monkeypatch.setattr(script, "event_rate", lambda workload, designs: 1e4)
    run: Callable[[list[str]], int] = script.main
    return run


def test_equal_rows(main: Callable[[list[str]], int], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = tmp_path / "table.csv"
    table.write_text(HEADER + ROWS)
    assert main([str(table)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "rows 4, equal 4"
    assert len(lines) == 1 + 11 + 4
    for line in lines[1:12]:
        assert line.endswith(": rows 4, equal 4, relative error median 0, worst 0")
    assert lines[-1].startswith(f"SCALE-Sim: {4 / 0.07:.3g} layers per CPU second")


@pytest.mark.parametrize(
    ("old", "new", "column"),
    [
        (",447,", ",448,", "total_cycles"),
        (",47,0,29", ",47,1,29", "stall_cycles"),
        ("34.95525727", "34.95525728", "overall_util_pct"),
        ("3.515625", "3.515626", "mapping_eff_pct"),
        ("28.57142857", "28.57142856", "compute_util_pct"),
        (",25,9,9,", ",26,9,9,", "dram_ifmap_reads"),
        (",288,336,96,", ",288,337,96,", "dram_filter_reads"),
        ("3200,3200,0.027", "3200,3201,0.027", "dram_ofmap_writes"),
    ],
)
def test_one_unit_off(
    main: Callable[[list[str]], int],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    old: str,
    new: str,
    column: str,
) -> None:
    table = tmp_path / "table.csv"
    assert old in ROWS
    table.write_text(HEADER + ROWS.replace(old, new, 1))
    assert main([str(table)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "rows 4, equal 3"
    assert [line.partition(":")[0] for line in lines[1:12] if "equal 3" in line] == [column]


@pytest.mark.slow
def test_columns_that_need_not_be_there(
    main: Callable[[list[str]], int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = tmp_path / "table.csv"
    stops = ("54", "731", "546", "59")  # the last is 58 in truth
    rows = [f"{row},{stop}" for row, stop in zip(ROWS.splitlines(), stops, strict=True)]
    table.write_text("\n".join([HEADER.strip() + ",dram_ofmap_stop", *rows]) + "\n")
    assert main([str(table)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "rows 4, equal 4"
    assert lines[12].startswith("dram_ofmap_stop: rows 4, equal 3, relative error median 0, worst 0.017")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "cannot be read: No such file"),
        (HEADER, "no rows"),
        (HEADER.replace("stall_cycles,", ""), "column 'stall_cycles' is missing"),
        (HEADER + ROWS.replace(",os,", ",rs,"), "column 'dataflow': 'rs' is not one of os, ws, is"),
        (HEADER + ROWS.replace("gemm", "attention"), "column 'kind': 'attention' is not one of conv, gemm"),
        (HEADER + ROWS.replace("USER", "FAST"), "column 'bw_mode': 'FAST' is not one of CALC, USER"),
        (HEADER + ROWS.replace(",447,", ",many,"), "column 'total_cycles': could not convert"),
        (HEADER + ROWS.replace("0.027", ""), "column 'sim_cpu_s': could not convert"),
    ],
)
def test_a_wrong_table_is_one_message(
    main: Callable[[list[str]], int],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    text: str | None,
    message: str,
) -> None:
    table = tmp_path / "table.csv"
    if text is not None:
        table.write_text(text)
    assert main([str(table)]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_no_argument(main: Callable[[list[str]], int], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "usage" in capsys.readouterr().err


def test_the_rate_is_measured(script: Any) -> None:
    workload = script.Workload.from_layers(out_channels=np.arange(1, 50), in_channels=9, out_y=8, out_x=8)
    assert script.closed_form_rate(workload, n_arrays=2_000, seconds=0.05) > 1e6
