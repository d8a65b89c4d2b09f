"""Compiled functions: where their code is kept, and that a change anywhere below them is seen."""

from __future__ import annotations

from pathlib import Path

import pytest

from simulators import compile_numba


def test_the_folder_follows_the_source_and_what_it_imports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compile_numba, "__file__", str(tmp_path / "compile_numba.py"))
    (tmp_path / "kernel.py").write_text("from simulators.helper import f\n")
    (tmp_path / "helper.py").write_text("from simulators.kernel import g\nA = 1\n")  # a cycle must not hang it
    (tmp_path / "other.py").write_text("B = 1\n")
    first = compile_numba._cache_folder("simulators.kernel")
    (tmp_path / "other.py").write_text("B = 2\n")
    assert compile_numba._cache_folder("simulators.kernel") == first
    (tmp_path / "helper.py").write_text("A = 2\n")
    assert compile_numba._cache_folder("simulators.kernel") != first


def test_without_numba_the_function_is_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compile_numba, "IS_COMPILED", False)

    def double(x: int) -> int:
        return 2 * x

    assert compile_numba.compiled(double) is double
