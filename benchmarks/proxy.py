"""How well memory controllers are learned: `python benchmarks/proxy.py [TABLE.csv] [--simulate] [--traces FOLDER]`.

A table of DRAMSys runs (a controller on a trace per row) is split into designs to learn from and designs held out, per
trace and several times over. With `--simulate`, designs are drawn uniformly and the simulator `dram` gives the figures:
900 to learn from and 200 others, as in the published protocol. Per trace and output the RMSE / mean of the proxy and of
a default random forest (200 trees) on what was held out is printed; then the same for a trace of which nothing was
learned; then the rates of proxy and simulator.

Exit status 0: on no output is the proxy behind the forest, averaged over the splits; 1: it is on some; 2: wrong input.
"""

from __future__ import annotations

import argparse
import csv
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from codesign.design_log import LogBatch
from codesign.proxy_candidates import fit_forest
from codesign.proxy_errors import errors_of, held_out_errors
from codesign.proxy_features import Encoder
from codesign.proxy_fit import FitOptions, learn, split_rows
from codesign.proxy_model import Learned
from codesign.proxy_table import Table, make_table
from simulators.accelerator import Columns, columns, load_preset
from simulators.dram import Dram
from simulators.dram_trace import Trace, make_trace, read_trace

FIGURES = {"energy_pj": "energy_pj", "power_mw": "avg_power_mw", "latency_ns": "total_time_ns"}
PUBLISHED = 0.0061
"""RMSE of ArchGym's proxies (Krishnan et al. 2023), as a part of the mean."""
DRAMSYS_SECONDS = 0.025
"""CPU time of DRAMSys for one design on a trace of 10,000 requests: 20 to 30 ms, process start included."""
PRESET = "dram-ddr3"


@dataclass(frozen=True)
class Score:
    """Errors of one trace and output in one split, RMSE / mean."""

    trace: str
    metric: str
    proxy: float
    forest: float
    choice: str


def read_table(path: Path) -> list[LogBatch]:
    """One batch per trace. Raises ValueError with one message if the table cannot be read."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path}: cannot be read: {error}") from error
    names = [spec.name for spec in Dram.fields]
    missing = [name for name in ("trace", *names, *FIGURES.values()) if rows and name not in rows[0]]
    if missing or not rows:
        raise ValueError(f"{path}: {f'column {missing[0]!r} is missing' if missing else 'no rows'}")
    kinds: Mapping[str, type[int] | type[str]] = {spec.name: int if spec.kind == "int" else str for spec in Dram.fields}
    batches = []
    for trace in dict.fromkeys(row["trace"] for row in rows):
        own = [row for row in rows if row["trace"] == trace]
        designs = columns(Dram.fields, [{name: kinds[name](row[name]) for name in names} for row in own])
        figures = {metric: np.array([float(row[column]) for row in own]) for metric, column in FIGURES.items()}
        batches.append(LogBatch("dram", "dramsys", trace, Dram.fields, designs, figures, [""] * len(own)))
    return batches


def draw_designs(n: int, rng: np.random.Generator) -> Columns:
    """Designs drawn uniformly from the preset's options."""
    search = load_preset(PRESET).search
    return {name: np.array(options)[rng.integers(0, len(options), n)] for name, options in search.items()}


def traces_of(folder: Path | None) -> dict[str, Trace]:
    """Traces by name: `dramsys_NAME.stl` in a folder, or generated ones."""
    if folder is None:
        return {name: make_trace(name) for name in ("stream", "random", "strided", "hot_cold", "gemm")}
    found = {path.stem.removeprefix("dramsys_"): read_trace(path) for path in sorted(folder.glob("dramsys_*.stl"))}
    if not found:
        raise ValueError(f"{folder}: no dramsys_*.stl in it")
    return found


def trace_features(trace: Trace, device: Dram) -> dict[str, float]:
    """A trace in numbers: length, pace, reads, and how its requests meet the device's rows and banks."""
    bank, row = device.device.decode(trace.address)
    by_bank = np.argsort(bank, kind="stable")
    same_bank = bank[by_bank][1:] == bank[by_bank][:-1]
    hits = (row[by_bank][1:] == row[by_bank][:-1])[same_bank]
    counts = np.bincount(bank) / len(bank)
    spread = counts[counts > 0]
    return {
        "requests": float(len(trace)),
        "read_share": float(1 - trace.is_write.mean()),
        "mean_gap_cycles": float((trace.cycle[-1] - trace.cycle[0]) / max(1, len(trace) - 1)),
        "row_hit_share": float(hits.mean()) if len(hits) else 0.0,
        "successive_row_hit_share": float(((np.diff(bank) == 0) & (np.diff(row) == 0)).mean()),
        "bank_entropy": float(-(spread * np.log2(spread)).sum()),
        "turnaround_share": float((np.diff(trace.is_write.astype(np.int64)) != 0).mean()),
    }


def forest_errors(train: Table, test: Table) -> dict[str, float]:
    """RMSE / mean of a default random forest per metric, on the logarithm of the metric as the proxy."""
    encoder = Encoder.learn(train.inputs, train.designs)
    found = {}
    for metric, values in train.metrics.items():
        trees = fit_forest(encoder.plain(train.designs), np.log(values), 0)
        predicted = np.exp(trees.predict(encoder.plain(test.designs)))
        found[metric] = errors_of(predicted, test.metrics[metric]).rmse_over_mean
    return found


def compare(train: Table, test: Table, options: FitOptions) -> tuple[list[Score], Learned]:
    """The proxy and the forest, learned from `train`, on `test`."""
    learned = learn(train, options)
    forest = forest_errors(train, test)
    choices = {output.metric: output.choice for output in learned.outputs}
    scores = [
        Score(trace, metric, errors.rmse_over_mean, forest[metric], choices[metric])
        for trace, by_metric in held_out_errors(learned, test).items()
        for metric, errors in by_metric.items()
    ]
    return scores, learned


def known_traces(batches: Sequence[LogBatch], n_test: int, n_splits: int) -> tuple[list[Score], Learned]:
    """Each trace learned by itself, several times."""
    scores: list[Score] = []
    for batch in batches:
        table = make_table([batch])
        for split in range(n_splits):
            seen, unseen = split_rows(len(table), n_test / len(table), np.random.default_rng(split))
            began = time.process_time()
            found, learned = compare(table.take(seen), table.take(unseen), FitOptions(seed=split))
            scores += found
            note(f"{batch.context}, split {split + 1}: {time.process_time() - began:.0f} s of CPU; {brief(found)}")
    return scores, learned


def unknown_traces(batches: Sequence[LogBatch], n_rows: int) -> list[Score]:
    """Each trace predicted by what was learned from the others."""
    scores: list[Score] = []
    for held in batches:
        others = [batch for batch in batches if batch is not held]
        table = make_table([batch.take(np.arange(len(batch))[:n_rows]) for batch in (*others, held)])
        seen, unseen = np.flatnonzero(table.contexts != held.context), np.flatnonzero(table.contexts == held.context)
        options = FitOptions(folds=3, kernel_steps=60, fold_steps=30)
        scores += compare(table.take(seen), table.take(unseen), options)[0]
        note(f"{held.context}, predicted from the others: {brief(scores[-len(FIGURES) :])}")
    return scores


def brief(scores: Sequence[Score]) -> str:
    """Proxy's and forest's errors in a line."""
    return ", ".join(f"{s.metric} {100 * s.proxy:.2f} % (forest {100 * s.forest:.2f} %)" for s in scores)


def print_scores(title: str, scores: Iterable[Score]) -> int:
    """Means over splits; returns the number of outputs on which the proxy is behind the forest."""
    scores = list(scores)
    print(f"\n{title}\n{'trace':<10} {'output':<12} {'proxy %':>8} {'forest %':>9} <= {100 * PUBLISHED:.2f} %  chosen")
    behind = 0
    for trace, metric in dict.fromkeys((score.trace, score.metric) for score in scores):
        own = [score for score in scores if (score.trace, score.metric) == (trace, metric)]
        proxy, forest = (float(np.mean([getattr(score, name) for score in own])) for name in ("proxy", "forest"))
        behind += proxy > forest
        choices = "; ".join(dict.fromkeys(score.choice for score in own))
        reached = "yes" if proxy <= PUBLISHED else "no"
        print(f"{trace:<10} {metric:<12} {100 * proxy:8.2f} {100 * forest:9.2f} {reached:<9}  {choices}")
    return behind


def print_rates(learned: Learned, trace: Trace, n: int = 20_000) -> None:
    """Designs per CPU second of the proxy and of the simulator."""
    rng = np.random.default_rng(1)
    designs, few = draw_designs(n, rng), draw_designs(200, rng)
    learned.predict({name: values[:500] for name, values in designs.items()})
    proxy = seconds_per_design(lambda: learned.predict(designs), n)
    model = Dram(trace=trace)
    model.evaluate({name: values[:2] for name, values in few.items()})  # compiles
    simulated = seconds_per_design(lambda: model.outcomes(few, merge=False), 200)
    merged = seconds_per_design(lambda: model.outcomes(few), 200)
    compiled = "" if find_spec("numba") else " (without numba)"
    print(f"\nproxy: {1 / proxy:,.0f} designs per CPU second")
    print(f"dram simulator{compiled}: {1 / simulated:,.0f}, {1 / merged:,.0f} if equal designs are recognised")
    print(f"speed-up: {simulated / proxy:,.0f} over the simulator, {merged / proxy:,.0f} with equal designs recognised")
    print(f"over DRAMSys at {1000 * DRAMSYS_SECONDS:.0f} ms a design: {DRAMSYS_SECONDS / proxy:,.0f}")


def seconds_per_design(call: object, n: int) -> float:
    """CPU time of a call over n designs."""
    assert callable(call)
    began = time.process_time()
    call()
    return (time.process_time() - began) / n


def simulate(traces: Mapping[str, Trace], n: int) -> list[LogBatch]:
    """Designs with the simulator's figures, the same designs for no two traces."""
    batches = []
    for i, (name, trace) in enumerate(traces.items()):
        model, designs = Dram(trace=trace), draw_designs(n, np.random.default_rng(100 + i))
        report = model.evaluate(designs)
        figures = {metric: report.metrics[metric] for metric in FIGURES}
        batches.append(LogBatch("dram", model.id, name, Dram.fields, designs, figures, report.reasons))
    return batches


def with_features(batches: Sequence[LogBatch], traces: Mapping[str, Trace]) -> list[LogBatch]:
    """The batches with the features of their traces, where those are known."""
    model = Dram()
    return [
        LogBatch(
            b.space, b.model, b.context, b.fields, b.designs, b.metrics, b.reasons,
            features=trace_features(traces[b.context], model),
        )
        for b in batches
        if b.context in traces
    ]  # fmt: skip


def note(text: str) -> None:
    """A line of progress."""
    print(text, file=sys.stderr, flush=True)


def main(arguments: list[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description="How well memory controllers are learned.")
    parser.add_argument("table", nargs="?", type=Path, help="CSV of DRAMSys runs")
    parser.add_argument("--simulate", action="store_true", help="draw designs and simulate them")
    parser.add_argument("--traces", type=Path, help="folder of dramsys_*.stl [default: traces/ beside the table]")
    parser.add_argument("--splits", type=int, default=3, help="splits per trace (default 3)")
    parser.add_argument("--only", help="names of traces, separated by commas")
    parser.add_argument("--unseen", action="store_true", help="also predict each trace from the others")
    given = parser.parse_args(arguments)
    if given.table is None and not given.simulate:
        parser.error("give a table, or --simulate")
    if given.splits < 1:
        parser.error("--splits: use at least 1")
    beside = given.table.parent / "traces" if given.table else None
    folder = given.traces or (beside if beside and beside.is_dir() else None)
    behind = 0
    try:
        traces = traces_of(folder)
        sources = [("DRAMSys runs", read_table(given.table), 1 / 6)] if given.table else []
        chosen = given.only.split(",") if given.only else list(traces)
        for name in chosen:
            if name not in traces:
                raise ValueError(f"--only: {name!r} is not one of {', '.join(traces)}")
        if given.simulate:
            sources.append(("simulated", simulate({name: traces[name] for name in chosen}, 1100), 200 / 1100))
        for title, batches, share in sources:
            own = [batch for batch in batches if batch.context in chosen]
            if not own:
                raise ValueError(f"{title}: none of the traces {', '.join(chosen)}")
            n_test = round(share * len(own[0]))
            scores, learned = known_traces(own, n_test, given.splits)
            behind += print_scores(f"{title}: {len(own[0]) - n_test} designs learned, {n_test} held out", scores)
            if given.unseen:
                scores = unknown_traces(with_features(own, traces), 900)
                print_scores(f"{title}: traces of which nothing was learned", scores)
        print_rates(learned, next(iter(traces.values())))
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    return 1 if behind else 0


if __name__ == "__main__":
    sys.exit(main())
