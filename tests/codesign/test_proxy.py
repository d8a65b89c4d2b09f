"""Proxies as a whole: learning, files, flags, the command line, a job in which a proxy takes the simulator's place."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

import numpy as np
import pytest

from codesign import proxy_candidates
from codesign.design_log import DesignLog
from codesign.errors import DataError, InputError
from codesign.job import parse_job
from codesign.proxy import OUT_OF_RANGE, Proxy
from codesign.proxy_errors import errors_of
from codesign.proxy_files import ARRAYS, MANIFEST, PRESET, SavedProxy, load_proxy, save_proxy
from codesign.proxy_fit import BY_FAR, CLEARLY, FAST_STACK, STACK, FitOptions, learn, split_rows
from codesign.proxy_learn import learn_saved
from codesign.proxy_table import Table, make_table
from codesign.registry import lookup
from codesign.run import create_run, drive, plan_run, study_of
from simulators.accelerator import columns, load_preset
from simulators.design import design_columns
from tests.codesign.design_models import SEARCH, Queue, batch_of, random_designs, run_cli

QUICK = FitOptions(folds=3, kernel_steps=40, fold_steps=20)


@pytest.fixture(scope="module", autouse=True)
def few_trees() -> object:
    with pytest.MonkeyPatch.context() as patch:
        for name in ("N_FOREST", "N_EXTRA", "N_BOOSTED"):
            patch.setattr(proxy_candidates, name, 10)
        yield


@pytest.fixture(scope="module")
def fitted() -> tuple[SavedProxy, Table]:
    """A proxy of a controller that refuses some designs."""
    return learn_saved([batch_of(Queue(refuses=True), random_designs(260))], options=QUICK)


@pytest.fixture
def folder(fitted: tuple[SavedProxy, Table], tmp_path: Path) -> Path:
    save_proxy(fitted[0], tmp_path / "proxy", fitted[1])
    return tmp_path / "proxy"


def test_a_proxy_is_near_the_simulator_on_designs_it_has_not_seen(folder: Path) -> None:
    proxy, model, designs = Proxy(str(folder)), Queue(refuses=True), random_designs(400, seed=9)
    report, expected = proxy.evaluate(designs), model.evaluate(designs)
    assert proxy.fields == model.fields
    assert proxy.metrics == (*model.metrics, OUT_OF_RANGE)
    works = np.array([not reason for reason in expected.reasons])
    agreed = works == np.array([not reason for reason in report.reasons])
    assert agreed.mean() > 0.97
    for name in model.metrics:
        both = works & agreed
        assert errors_of(report.metrics[name][both], expected.metrics[name][both]).rmse_over_mean < 0.02
        assert np.isnan(report.metrics[name][~works & agreed]).all()
    assert set(report.metrics["area_mm2"][works & agreed].tolist()) == {2.5}, "what never changed is known exactly"
    assert not report.metrics[OUT_OF_RANGE].any()
    assert any("not simulated" in phrase for phrase in report.uncounted)


def test_errors_are_measured_on_designs_held_out(fitted: tuple[SavedProxy, Table]) -> None:
    saved, table = fitted
    whole = make_table([batch_of(Queue(refuses=True), random_designs(260))])
    seen, unseen = split_rows(len(whole), 0.2, np.random.default_rng(QUICK.seed))
    assert saved.n_rows == len(table) == len(seen)
    assert len(whole) + saved.n_repeated == 260
    test = whole.take(unseen)
    test = test.take(np.flatnonzero(test.works))
    predicted, works = saved.learned.predict(test.designs)
    for name, errors in saved.held_out[""].items():
        difference = (predicted[name] - test.metrics[name])[works]
        assert errors.n == works.sum()
        assert errors.rmse == pytest.approx(float(np.sqrt(np.mean(difference**2))))
        assert errors.rmse_over_mean == pytest.approx(errors.rmse / test.metrics[name][works].mean())


def test_the_choice_is_never_behind_the_forest_in_validation() -> None:
    rng = np.random.default_rng(0)
    batch = batch_of(Queue(), random_designs(120))
    noisy = {name: values * np.exp(rng.normal(0, 0.2, 120)) for name, values in batch.metrics.items()}
    counts = np.where(batch.designs["refresh"] == "yes", 64 / batch.designs["postponed"], 0.0)
    shifted = {**noisy, "signed": rng.normal(size=120), "refreshes": counts}
    table = make_table([type(batch)("", "queue-v1", "", batch.fields, batch.designs, shifted, batch.reasons)])
    outputs = learn(table, QUICK).outputs
    assert [output.scale for output in outputs] == ["log", "log", "log", "linear", "count"]
    for output in outputs:
        assert output.error is not None
        assert output.error <= output.validation["forest"]
        if output.chosen in (STACK, FAST_STACK):
            assert output.error < CLEARLY * min(output.validation[name] for name in output.weights)
        else:
            assert dict(output.weights) == {output.chosen: 1.0}
        assert BY_FAR * output.error <= min(error for name, error in output.validation.items() if name != STACK)
        assert all(weight > 0 for weight in output.weights.values())


def test_files_round_trip(fitted: tuple[SavedProxy, Table], folder: Path) -> None:
    saved, read = fitted[0], load_proxy(folder)
    assert load_proxy(folder / MANIFEST).to_json() == read.to_json() == json.loads(json.dumps(saved.to_json()))
    designs = random_designs(50, seed=3)
    first, again = saved.learned.predict(designs), read.learned.predict(designs)
    assert all(np.array_equal(first[0][name], again[0][name], equal_nan=True) for name in first[0])
    assert np.array_equal(first[1], again[1])
    with np.load(folder / ARRAYS, allow_pickle=False) as arrays:  # numbers alone: there is nothing to execute
        assert all(arrays[name].dtype.kind in "fiu" for name in arrays.files)


def test_the_preset_searches_what_was_seen(folder: Path) -> None:
    preset = load_preset(folder / PRESET, Proxy(str(folder)))
    assert {name: set(options) for name, options in preset.search.items()} == {n: set(o) for n, o in SEARCH.items()}
    assert tomllib.loads((folder / PRESET).read_text())["values"]["note"] == "none"


def test_designs_outside_are_flagged_and_taken_as_the_nearest(folder: Path) -> None:
    proxy = Proxy(str(folder))
    base = {"policy": "closed", "refresh": "yes", "postponed": 2, "depth": 32}
    rows = [base, {**base, "depth": 64}, {**base, "depth": 24}, {**base, "note": "new"}, {**base, "policy": "other"}]
    report = proxy.evaluate(columns(proxy.fields, rows))
    assert report.metrics[OUT_OF_RANGE].tolist() == [0, 1, 0, 1, 1]
    assert report.metrics["latency_ns"][1] == report.metrics["latency_ns"][0]
    assert report.uncounted[-1].startswith(
        "3 of 5 designs lie outside what was learned (policy in closed, mixed, open; "
    )
    assert "depth in 1, 2, 4, 8, 16, 32" in report.uncounted[-1]


@pytest.mark.parametrize("name", [ARRAYS, MANIFEST])
def test_a_file_that_was_changed_is_refused(folder: Path, name: str) -> None:
    data = bytearray((folder / name).read_bytes())
    at = data.index(b"queue-v1") if name == MANIFEST else len(data) // 2
    data[at] ^= 1
    (folder / name).write_bytes(bytes(data))
    with pytest.raises(DataError, match="was changed after it was written") as caught:
        Proxy(str(folder))
    assert str(folder / name) in str(caught.value)
    (folder / name).write_bytes(bytes(data[: at // 2]))
    with pytest.raises(DataError, match=re.escape(str(folder))):
        Proxy(str(folder))
    (folder / name).unlink()
    with pytest.raises(DataError, match=f"holds no proxy: {name}: No such file"):
        Proxy(str(folder))


def test_another_field_set_is_refused(folder: Path) -> None:
    proxy = Proxy(str(folder))
    designs = random_designs(3)
    with pytest.raises(ValueError, match="column 'depth' is missing"):
        proxy.evaluate({name: values for name, values in designs.items() if name != "depth"})
    with pytest.raises(ValueError, match="'dpeth' is not one of .*did you mean 'depth'"):
        design_columns(proxy.fields, {}, {"dpeth": np.array([1])})


def test_contexts_are_told_apart_by_their_features(tmp_path: Path) -> None:
    batches = [batch_of(Queue(load), random_designs(90, i), f"load{load:g}") for i, load in enumerate((1.0, 2.0, 3.0))]
    saved, table = learn_saved(batches, hold_out_context="load2", options=QUICK)
    assert set(saved.features) == {"load1", "load3"}
    assert list(saved.held_out) == ["load2"]
    assert saved.held_out["load2"]["latency_ns"].n == len(
        {*zip(*(v.tolist() for v in batches[1].designs.values()), strict=True)}
    )
    save_proxy(saved, tmp_path / "p", table)
    assert Proxy(str(tmp_path / "p"), context="load1").features() == {"load": 1.0}
    designs = random_designs(100, 7)
    known = Proxy(str(tmp_path / "p"), context="load3").evaluate(designs)
    expected = Queue(3.0).evaluate(designs).metrics["latency_ns"]
    assert errors_of(known.metrics["latency_ns"], expected).rmse_over_mean < 0.05
    assert Proxy(str(tmp_path / "p"), context={"load": 9.0}).evaluate(designs).metrics[OUT_OF_RANGE].all()
    for context, message in (
        ("", "context: '' is not one of load1, load3"),
        ("load4", "load4"),
        ({}, "feature 'load' is missing"),
        ({"laod": 1.0}, "did you mean 'load'"),
        ({"load": float("nan")}, "use a number"),
    ):
        with pytest.raises(InputError, match=message):
            Proxy(str(tmp_path / "p"), context=context)
    with pytest.raises(InputError, match="'load4' is not one of load1, load2, load3"):
        learn_saved(batches, hold_out_context="load4", options=QUICK)
    with pytest.raises(InputError, match="the only context"):
        learn_saved(batches[:1], hold_out_context="load1", options=QUICK)


def test_too_few_designs_are_refused() -> None:
    with pytest.raises(InputError, match="are too few to learn from; use at least 20"):
        learn_saved([batch_of(Queue(), random_designs(15))], options=QUICK)
    with pytest.raises(InputError, match="did you mean 'kernel'"):
        learn_saved([batch_of(Queue(), random_designs(90))], options=FitOptions(candidates=("kernels",)))


@pytest.mark.slow
def test_progress_rises_to_the_end() -> None:
    shares: list[float] = []
    learn(make_table([batch_of(Queue(), random_designs(60))]), QUICK, lambda share, text: shares.append(share))
    assert shares[0] == 0
    assert shares[-1] == 1
    assert shares == sorted(shares)
    assert len(shares) > 3 * len(QUICK.candidates)


def test_a_job_with_a_proxy_runs(folder: Path) -> None:
    assert lookup("models", "proxy") is Proxy
    wider = (folder / PRESET).read_text().replace("16, 32]", "16, 32, 64]")
    assert "64]" in wider
    (folder.parent / "wider.toml").write_text(wider)
    job = parse_job(
        {
            "name": "learned",
            "space": {
                "type": "design",
                "model": {"type": "proxy", "path": f"{folder.name}/{MANIFEST}"},
                "preset": "wider.toml",
            },
            "objectives": {"minimize": ["latency_ns", "energy_pj"]},
            "budgets": ["out_of_range <= 0"],
            "search": {"strategy": "random", "trials": 60, "seed": 1},
            "evaluate": "cost",
        }
    )
    parts = plan_run(job, folder.parent / "out", folder.parent)
    run = create_run(parts, folder.parent)
    drive(run, parts, study_of(run, parts))
    trials = run.store.trials(run.study_id)
    assert len(trials) == 60
    front = run.front(parts)
    assert front
    assert all(trials[number].metrics[OUT_OF_RANGE] == 0 for number in front)
    codes = run.store.codes(run.study_id, front[:1])
    assert "figures are learned from" in parts.uncounted(codes)[0]


@pytest.mark.slow
def test_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    DesignLog(tmp_path / "log").append(batch_of(Queue(), random_designs(80), "day"))
    out = tmp_path / "proxy"
    status, text, err = run_cli(capsys, monkeypatch, "fit", str(tmp_path / "log"), "--out", str(out), "--json")
    assert (status, err) == (0, "")
    found = json.loads(text)
    assert found["model"] == "queue-v1"
    assert found["held_out"]["day"]["latency_ns"]["rmse_over_mean"] < 0.1
    status, text, _ = run_cli(capsys, monkeypatch, "show", str(out), "--json")
    assert json.loads(text) == found
    status, text, _ = run_cli(capsys, monkeypatch, "show", str(out))
    assert status == 0
    for expected in (f"proxy of queue-v1: {found['rows']} designs", "latency_ns", "depth in 1, 2, 4, 8, 16, 32"):
        assert expected in text
    assert f"{100 * found['held_out']['day']['energy_pj']['rmse_over_mean']:.2f} %" in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("fit", "nowhere", "--out", "p"), "'nowhere' is neither a log of designs nor a run"),
        (("fit", "--out", "p"), "Missing argument"),
        (("fit", "log"), "Missing option '--out'"),
        (("fit", "log", "--out", "p", "--holdout", "1"), "--holdout"),
        (("fit", "log", "--out", "p", "--hold-out-context", "nigth"), "'nigth' is not one of day, night; did you mean"),
        (("fit", "log", "--out", "taken"), "holds something else"),
        (("fit", "log", "--out", "log/part-000000.parquet"), "is a file"),
        (("show", "nowhere"), "holds no proxy"),
        (("log", "nowhere", "--out", "p"), "holds no run"),
        (("lern",), "lern"),
    ],
)
def test_wrong_arguments(
    arguments: tuple[str, ...],
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("day", "night"):
        DesignLog(Path("log")).append(batch_of(Queue(), random_designs(3), name))
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "thesis.tex").write_text("precious")
    before = sorted(path.name for path in tmp_path.rglob("*"))
    status, _, err = run_cli(capsys, monkeypatch, *arguments)
    assert status == 2
    assert err.count("\n") == 1
    assert err.startswith("error: ")
    assert message in err
    assert sorted(path.name for path in tmp_path.rglob("*")) == before
