"""Every code block of the README and of `docs/` runs: Python, YAML jobs, and commands, page by page in one folder."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from codesign.assemble import assemble
from codesign.job import parse_job

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def blocks(page: Path, language: str) -> list[str]:
    return [text for found, text in BLOCK.findall(page.read_text(encoding="utf-8")) if found == language]


def pages_with(language: str) -> list[Path]:
    return [page for page in PAGES if blocks(page, language)]


def test_every_block_names_a_language_that_is_tested_or_plain_text() -> None:
    for page in PAGES:
        languages = {language for language, _ in BLOCK.findall(page.read_text(encoding="utf-8"))}
        assert languages <= {"python", "yaml", "bash", "sh", "text"}, page


@pytest.mark.parametrize("page", pages_with("yaml"), ids=lambda page: page.stem)
def test_jobs_assemble(page: Path, tmp_path: Path) -> None:
    for text in blocks(page, "yaml"):
        assert assemble(parse_job(yaml.safe_load(text)), tmp_path, tmp_path).metrics


@pytest.mark.torch
@pytest.mark.slow
@pytest.mark.parametrize("page", pages_with("python"), ids=lambda page: page.stem)
def test_python_runs(page: Path, tmp_path: Path) -> None:
    for text in blocks(page, "python"):
        subprocess.run([sys.executable, "-W", "error", "-c", text], cwd=tmp_path, check=True, capture_output=True)


@pytest.mark.torch
@pytest.mark.slow
@pytest.mark.parametrize("page", pages_with("bash"), ids=lambda page: page.stem)
def test_commands_run(page: Path, tmp_path: Path) -> None:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    for text in blocks(page, "bash"):
        done = subprocess.run(
            ["bash", "-euc", text], cwd=tmp_path, env={**os.environ, "PATH": path}, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr


def test_make_targets_in_the_readme_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    named = [
        line.split()[1]
        for text in blocks(ROOT / "README.md", "sh")
        for line in text.splitlines()
        if line.startswith("make")
    ]
    assert named
    assert all(re.search(rf"^{target}:", makefile, re.MULTILINE) for target in named)


def test_links_between_pages_lead_somewhere() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8")):
            if "://" not in target:
                assert (page.parent / target).exists(), f"{page.name} links to {target}"
