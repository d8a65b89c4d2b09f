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
    "kind,gemm_m,gemm_n,gemm_k,ifmap_h,ifmap_w,filter_h,filter_w,channels,num_filters,stride,"
    "array_rows,array_cols,dataflow,total_cycles,stall_cycles,mapping_eff_pct,compute_util_pct,sim_cpu_s\n"
)
ROWS = (  # as SCALE-Sim 3.0.0 reports them
    "conv,,,,20,20,3,5,16,32,3,16,16,ws,2639,0,100,40.77669903,0.19\n"
    "conv,,,,12,12,1,1,32,192,1,32,32,ws,1562,135,100,53.53159851,0.3\n"
    "gemm,196,10,256,,,,,,,,12,14,ws,151326,146223,69.26406926,55.41125541,0.4\n"
    "gemm,50,64,50,,,,,,,,16,16,os,1279,0,78.125,48.828125,0.1\n"
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
    run: Callable[[list[str]], int] = script.main
    return run


def test_equal_rows(main: Callable[[list[str]], int], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = tmp_path / "table.csv"
    table.write_text(HEADER + ROWS)
    assert main([str(table)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "rows 4, equal 4"
    assert lines[1] == "mapping efficiency: rows 4, equal 4"
    assert lines[2] == "compute utilisation: rows 4, equal 4"
    assert lines[4].startswith(f"SCALE-Sim: {4 / 0.99:.3g} layers per CPU second")


@pytest.mark.parametrize(
    ("old", "new", "equal"),
    [
        ("1279,0", "1280,0", [3, 4, 4]),
        ("1279,0", "1279,1", [3, 4, 4]),
        ("69.26406926", "69.26406927", [4, 3, 4]),
        ("40.77669903", "40.77669902", [4, 4, 3]),
    ],
)
def test_one_unit_off(
    main: Callable[[list[str]], int],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    old: str,
    new: str,
    equal: list[int],
) -> None:
    table = tmp_path / "table.csv"
    table.write_text(HEADER + ROWS.replace(old, new))
    assert main([str(table)]) == 1
    assert [int(line.rpartition(" ")[2]) for line in capsys.readouterr().out.splitlines()[:3]] == equal


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "cannot be read: No such file"),
        (HEADER, "no rows"),
        (HEADER.replace("stall_cycles,", ""), "column 'stall_cycles' is missing"),
        (HEADER + ROWS.replace(",os,", ",rs,"), "column 'dataflow': 'rs' is not one of os, ws, is"),
        (HEADER + ROWS.replace("gemm", "attention"), "column 'kind': 'attention' is not one of conv, gemm"),
        (HEADER + ROWS.replace("1279", "many"), "column 'total_cycles': invalid literal"),
        (HEADER + ROWS.replace("0.19", ""), "column 'sim_cpu_s': could not convert"),
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
