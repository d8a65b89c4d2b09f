"""Searching designs alone: the space, its evaluator and a whole run without networks and data."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

from codesign.assemble import assemble
from codesign.design_space import DesignEvaluator, DesignSpace
from codesign.errors import InputError
from codesign.job import parse_job
from codesign.run import create_run, drive, finish_run, open_run, plan_run, study_of
from codesign.testing.spaces import check_space
from simulators.accelerator import Columns, Field
from simulators.design import DesignReport
from simulators.mapping_model import MappingModel

MODEL = f"{__name__}:Buffer"
PRESET = """
simulator = "buffer"
description = "a buffer and a bus"
[values]
note = "as delivered"
[search]
kib = [1, 2, 4, 8, 16, 32]
bytes_per_cycle = [1.0, 2.0, 4.0, 8.0]
"""


@dataclass(frozen=True)
class Buffer:
    """A toy: time falls with the bus and the buffer, area grows; a buffer below a tile cannot work."""

    tile_kib: int = 2
    id: ClassVar[str] = "buffer-v1"
    fields: ClassVar[tuple[Field, ...]] = (
        Field("kib", "int", "KiB", 4, lowest=1, doc="size"),
        Field("bytes_per_cycle", "float", "bytes/cycle", 1.0, lowest=0.1, doc="bus"),
        Field("note", "str", "", "none", doc="never read"),
    )
    metrics: ClassVar[tuple[str, ...]] = ("latency_cycles", "area_mm2")

    def evaluate(self, designs: Columns) -> DesignReport:
        """Closed form."""
        kib, rate = designs["kib"].astype(np.float64), designs["bytes_per_cycle"].astype(np.float64)
        works = kib >= self.tile_kib
        latency = np.where(works, 1000.0 / rate + 1000.0 / kib, np.nan)
        area = np.where(works, kib * 0.1 + rate, np.nan)
        reasons = ["" if ok else f"kib: a tile of {self.tile_kib} KiB does not fit" for ok in works]
        return DesignReport({"latency_cycles": latency, "area_mm2": area}, reasons, ("leakage",))


@pytest.fixture
def preset(tmp_path: Path) -> Path:
    path = tmp_path / "own.toml"
    path.write_text(PRESET, encoding="utf-8")
    return path


def space_of(preset: Path, **options: object) -> DesignSpace:
    return DesignSpace(model=MODEL, preset=preset.name, job_folder=preset.parent, **options)  # type: ignore[arg-type]


def job_of(changes: Mapping[str, object] | None = None) -> dict[str, object]:
    return {
        "name": "buffers",
        "space": {"type": "design", "model": {"type": MODEL, "tile_kib": 4}, "preset": "own.toml"},
        "objectives": {"minimize": ["latency_cycles", "area_mm2"]},
        "budgets": ["area_mm2 <= 9"],
        "search": {"strategy": "random", "trials": 60, "seed": 1},
        "evaluate": {"type": "cost"},
        **(changes or {}),
    }


def test_space_keeps_what_every_space_promises(preset: Path) -> None:
    space = space_of(preset)
    assert space.size == 24
    check_space(space, np.random.default_rng(0))


def test_every_choice_reaches_the_model(preset: Path) -> None:
    space = space_of(preset, set={"note": "changed"})
    codes = np.array(np.meshgrid(np.arange(6), np.arange(4))).reshape(2, -1).T
    designs = space.designs(codes)
    pairs = set(zip(designs["kib"].tolist(), designs["bytes_per_cycle"].tolist(), strict=True))
    assert len(pairs) == 24
    assert set(designs["note"].tolist()) == {"changed"}


def test_a_design_that_cannot_work_has_failed_with_its_reason(preset: Path) -> None:
    evaluation = DesignEvaluator(space_of(preset)).evaluate(np.array([[0, 0], [2, 1]]))
    assert np.isnan(evaluation.metrics["area_mm2"][0])
    assert evaluation.errors == ["kib: a tile of 2 KiB does not fit", ""]
    assert evaluation.metrics["latency_cycles"][1] == 1000 / 2 + 1000 / 4


def test_a_run_finds_the_true_front_and_marks_failures(preset: Path, tmp_path: Path) -> None:
    job = parse_job(job_of())
    parts = plan_run(job, tmp_path / "run", preset.parent)
    run = create_run(parts, preset.parent)
    drive(run, parts, study_of(run, parts))
    finish_run(run, parts)
    again = open_run(tmp_path / "run")
    trials = again.store.trials(again.study_id)
    failed = [t for t in trials if t.error]
    assert {t.genotype["kib"] for t in failed} == {1, 2}
    feasible = {(kib, rate) for kib in (4, 8, 16, 32) for rate in (1.0, 2.0, 4.0, 8.0) if kib * 0.1 + rate <= 9}
    seen = {(t.genotype["kib"], t.genotype["bytes_per_cycle"]) for t in trials if t.is_feasible}
    assert seen <= feasible
    sides = [(int(str(kib)), float(str(rate))) for kib, rate in seen]
    cost = {p: (1000 / p[1] + 1000 / p[0], p[0] * 0.1 + p[1]) for p in sides}
    true_front = {
        p for p in cost if not any(o != cost[p] and o[0] <= cost[p][0] and o[1] <= cost[p][1] for o in cost.values())
    }
    front = again.store.trials(again.study_id, again.front(again.parts()))
    assert {(t.genotype["kib"], t.genotype["bytes_per_cycle"]) for t in front} == true_front
    assert parts.uncounted(np.array([[2, 1]])) == ["leakage"]


MODELS = [
    pytest.param({"type": "dram"}, "dram-ddr3", ["latency_ns", "power_mw"], id="dram"),
    pytest.param({"type": "soc", "graph": "toy"}, "soc-toy", ["latency_ms", "area_mm2"], id="soc"),
    pytest.param({"type": "mapping"}, "whole.toml", ["latency_cycles", "energy_uj"], id="mapping"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("model", "preset_name", "objectives"), MODELS)
def test_a_job_per_model(model: dict[str, object], preset_name: str, objectives: list[str], tmp_path: Path) -> None:
    searched = "\n".join(f"{f.name} = {json.dumps(f.allowed)}" for f in MappingModel().fields if len(f.allowed) > 1)
    (tmp_path / "whole.toml").write_text(f'simulator = "mapping"\ndescription = "all"\n[search]\n{searched}\n')
    space = {"type": "design", "model": model, "preset": preset_name}
    changes = {"space": space, "objectives": {"minimize": objectives}, "budgets": []}
    job = parse_job(job_of(changes | {"search": {"strategy": "nsga2", "trials": 24, "batch": 8, "seed": 0}}))
    parts = plan_run(job, tmp_path / "run", tmp_path)
    run = create_run(parts, tmp_path)
    drive(run, parts, study_of(run, parts))
    finish_run(run, parts)
    trials = open_run(tmp_path / "run").store.trials(run.study_id)
    assert len(trials) == 24
    found = parts.space
    assert isinstance(found, DesignSpace)
    for trial in trials:
        report = found.design_model.evaluate(found.designs(found.encode(trial.genotype)[None]))
        assert trial.error == report.reasons[0]
        if not trial.error:
            assert {name: trial.metrics[name] for name in objectives} == {
                name: report.metrics[name][0] for name in objectives
            }


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"targets": {"edge": {"type": "systolic", "preset": "edge-16x16"}}}, "targets: a space of designs"),
        ({"evaluate": {"type": "train"}}, "evaluate.type: designs are not trained"),
        ({"objectives": {"minimize": "latency_cyles"}}, "'latency_cycles'"),
        ({"budgets": ["area_mm2 <= 0.1"]}, "area_mm2 <= 0.1: the nearest of them has 1.4"),
        ({"space": {"type": "design", "model": "drum", "preset": "own.toml"}}, "model.type: 'drum'"),
        ({"space": {"type": "design", "model": {"type": MODEL, "tile": 4}, "preset": "own.toml"}}, "'tile_kib'"),
        ({"space": {"type": "design", "model": MODEL, "preset": "own.tom"}}, "preset"),
        ({"space": {"type": "design", "model": MODEL, "preset": "own.toml", "set": {"kb": 1}}}, "'kib'"),
        ({"space": {"type": "design", "model": MODEL, "preset": "own.toml", "search": {"kib": [0]}}}, "kib: 0"),
    ],
)
def test_wrong_jobs_have_one_clear_message(
    preset: Path, tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    with pytest.raises(InputError) as caught:
        plan_run(parse_job(job_of(changes)), tmp_path / "run", preset.parent)
    assert message in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_there_is_no_network_to_export(preset: Path, tmp_path: Path) -> None:
    parts = assemble(parse_job(job_of()), tmp_path / "run", preset.parent)
    with pytest.raises(InputError, match="searches designs, not networks"):
        _ = parts.context.network_space
    with pytest.raises(InputError, match="has no data"):
        parts.context.load_data()


SOC_BUDGETS = ["latency_ms <= 34", "peak_power_mw <= 8.737", "area_mm2 <= 17.475"]


def soc_job(graph: str, budgets: list[str]) -> dict[str, object]:
    model = {"type": "soc", "graph": graph}
    return job_of() | {
        "space": {"type": "design", "model": model, "preset": f"soc-{graph}"},
        "objectives": {"minimize": ["latency_ms", "area_mm2"]},
        "budgets": budgets,
    }


@pytest.mark.parametrize("graph", ["audio_decoder", "edge_detection", "hpvm_cava"])
def test_hard_but_possible_budgets_are_not_refused(graph: str, tmp_path: Path) -> None:
    """FARSI's own budgets, which no random design keeps."""
    assert assemble(parse_job(soc_job(graph, SOC_BUDGETS)), tmp_path, tmp_path)
    plan_run(parse_job(soc_job(graph, SOC_BUDGETS)), tmp_path / "run", tmp_path)


def test_a_large_space_of_designs_is_searched_even_if_nothing_was_found(tmp_path: Path) -> None:
    parts = plan_run(parse_job(soc_job("edge_detection", ["area_mm2 <= 0.0001"])), tmp_path / "run", tmp_path)
    assert "none of" in parts.note
    assert "it goes on all the same" in parts.note


def test_a_small_space_is_listed_whole_before_it_is_refused(preset: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none of 24 candidates meets them .*relax a budget"):
        plan_run(parse_job(job_of({"budgets": ["area_mm2 <= 0.1"]})), tmp_path / "run", preset.parent)


def test_a_preset_brings_its_models_options_and_the_job_overrules_them(tmp_path: Path) -> None:
    devices = [
        DesignSpace(model=model, preset="dram-ddr4").design_model.device.name  # type: ignore[attr-defined]
        for model in ("dram", {"type": "dram", "device": "ddr3-1600-1gb-x8"})
    ]
    assert devices[0] != devices[1]


def test_without_a_preset_every_field_is_searched() -> None:
    space = DesignSpace(model={"type": "mapping", "network": "resnet18-64", "layer": 4})
    assert [choice.name for choice in space.choices] == [
        f.name for f in space.design_model.fields if len(f.allowed) > 1
    ]
    report = DesignEvaluator(space).evaluate(space.sample(40, np.random.default_rng(0)))
    assert np.isfinite(report.metrics["latency_cycles"]).any()
    with pytest.raises(InputError, match="may be any int"):
        DesignSpace(model=MODEL)
