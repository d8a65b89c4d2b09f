"""Learns a proxy: candidates are compared by cross-validation, metric by metric, and the best, or a sum, is kept.

The candidates are a gated Gaussian process over all metrics at once and three ensembles of trees per metric. A sum of
candidates is kept only where it is clearly better, because it takes longer to predict.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import nnls  # type: ignore[import-untyped]

from codesign.errors import InputError
from codesign.proxy_candidates import BOOSTING, EXTRA, FOREST, TREE_FITS, fit_extra
from codesign.proxy_features import Encoder
from codesign.proxy_kernel_fit import fit_kernel
from codesign.proxy_model import CONSTANT, COUNT, KERNEL, LINEAR, LOG, Learned, Output, kernel_users
from codesign.proxy_table import Table
from codesign.proxy_trees import Trees
from codesign.trial import FloatArray
from search_spaces.ops import IntArray

MIN_ROWS = 20
"""Fewest designs that work from which anything can be validated."""
FAST = (KERNEL, BOOSTING)
"""Candidates that predict in some microseconds a design; large trees take twenty times as long."""
FAST_STACK, STACK = "fast stack", "stack"
CLEARLY, BY_FAR = 0.9, 0.8
"""A sum of candidates must have at most this part of the error of a single one; and what takes long to predict, of the
error of what does not."""

Note = Callable[[float, str], None]
"""Takes the share of the work that is done and what comes next."""


@dataclass(frozen=True)
class FitOptions:
    """How to learn.

    Attributes:
        folds: of the cross-validation.
        kernel_steps, fold_steps: of the optimiser of the Gaussian process, for the final model and in each fold.
        seed: of everything random.
        candidates: names of those to compare.
    """

    folds: int = 4
    kernel_steps: int = 120
    fold_steps: int = 60
    seed: int = 0
    candidates: tuple[str, ...] = (KERNEL, *TREE_FITS)


@dataclass
class _Work:
    """How much is done, in units of about a second on one core."""

    total: float
    note: Note
    done: float = 0.0

    def begin(self, text: str) -> None:
        self.note(min(self.done / self.total, 1.0), text)


_TREE_COST = {FOREST: 0.8, EXTRA: 0.7, BOOSTING: 1.5}  # seconds for 1,000 designs
_STEP_COST = 0.1  # seconds for 1,000 designs


def learn(table: Table, options: FitOptions | None = None, note: Note = lambda share, text: None) -> Learned:
    """Learn every metric of a table.

    Args:
        table: what to learn from.
        options: how.
        note: told of the progress.

    Raises:
        InputError: too few designs, or an unknown candidate.
    """
    options = options or FitOptions()
    for name in options.candidates:
        if name not in (KERNEL, *TREE_FITS):
            raise InputError.about("candidates", name, (KERNEL, *TREE_FITS))
    working = np.flatnonzero(table.works)
    if len(working) < MIN_ROWS:
        raise InputError(f"{len(working)} designs that work are too few to learn from; use at least {MIN_ROWS}")
    encoder = Encoder.learn(table.inputs, table.designs)
    rows = table.take(working)
    plans = [_plan(name, values) for name, values in rows.metrics.items()]
    varied = [plan for plan in plans if plan.scale != CONSTANT]
    work = _Work(_effort(len(rows), len(varied), options), note)
    chosen = {plan.metric: plan for plan in plans}
    if varied and encoder.n_plain:
        scores = _cross_validate(encoder, rows, varied, options, work)
        chosen |= {plan.metric: _choose(plan, rows.metrics[plan.metric], scores[plan.metric]) for plan in varied}
    else:  # every design is alike: the mean is all there is
        chosen |= {plan.metric: _constant(plan.metric, rows.metrics[plan.metric]) for plan in varied}
    outputs = tuple(chosen[plan.metric] for plan in plans)
    learned = _final(encoder, rows, outputs, options, work)
    works: Trees | None = None
    if not table.works.all() and encoder.n_plain:
        works = fit_extra(encoder.plain(table.designs), table.works.astype(np.float64), options.seed)
    note(1.0, "")
    return Learned(encoder, outputs, learned.kernel, learned.trees, works)


def _plan(metric: str, values: FloatArray) -> Output:
    if np.ptp(values) == 0:
        return _constant(metric, values)
    if (values > 0).all():
        return Output(metric, LOG, 0.0, {}, {})
    if (values >= 0).all():
        return Output(metric, COUNT, float(values[values > 0].min()), {}, {})
    return Output(metric, LINEAR, 0.0, {}, {})


def _constant(metric: str, values: FloatArray) -> Output:
    return Output(metric, CONSTANT, float(values.mean()), {}, {})


def _cross_validate(
    encoder: Encoder, rows: Table, plans: list[Output], options: FitOptions, work: _Work
) -> dict[str, dict[str, FloatArray]]:
    """metric -> candidate -> predictions, in the metric's unit, by models that have not seen the row; shape (n,)."""
    n = len(rows)
    plain, base, indicators = (make(rows.designs) for make in (encoder.plain, encoder.base, encoder.indicators))
    found = {plan.metric: {name: np.empty(n) for name in options.candidates} for plan in plans}
    targets = np.stack([plan.to_scale(rows.metrics[plan.metric]) for plan in plans], axis=1)
    fold_of = np.random.default_rng(options.seed).permutation(n) % min(options.folds, n)
    for fold in range(int(fold_of.max()) + 1):
        seen, unseen = np.flatnonzero(fold_of != fold), np.flatnonzero(fold_of == fold)
        for name in options.candidates:
            work.begin(f"fold {fold + 1} of {options.folds}: {name}")
            if name == KERNEL:
                rng = np.random.default_rng(options.seed)
                kernel = fit_kernel(base[seen], indicators[seen], targets[seen], options.fold_steps, rng)
                predicted = kernel.predict(base[unseen], indicators[unseen])
                for i, plan in enumerate(plans):
                    found[plan.metric][name][unseen] = plan.from_scale(predicted[:, i])
                work.done += _kernel_effort(len(seen), options.fold_steps)
                continue
            for i, plan in enumerate(plans):
                trees = TREE_FITS[name](plain[seen], targets[seen, i], options.seed)
                found[plan.metric][name][unseen] = plan.from_scale(trees.predict(plain[unseen]))
                work.done += _TREE_COST[name] * len(seen) / 1000
    return found


def _choose(plan: Output, values: FloatArray, predicted: Mapping[str, FloatArray]) -> Output:
    """What predicts a metric: the quick choice if it is well ahead of the forest and no slow one is better by far."""
    scale = float(np.abs(values).mean())
    errors = {name: _rmse(found, values) / scale for name, found in predicted.items()}
    weights = {name: {name: 1.0} for name in predicted}
    for stack, members in ((FAST_STACK, FAST), (STACK, tuple(predicted))):
        names = [name for name in members if name in predicted]
        if len(names) > 1:
            stacked = np.stack([predicted[name] for name in names], axis=1) / scale
            solution = nnls(stacked, values / scale)[0]
            errors[stack] = _rmse(stacked @ solution * scale, values) / scale
            weights[stack] = {name: float(w) for name, w in zip(names, solution, strict=True) if w > 0}
    chosen = _best(errors, [name for name in predicted if name in FAST], FAST_STACK)
    slow = _best(errors, list(predicted), STACK)
    # a validation rests on few hard designs: what is hardly ahead of the forest there may fall behind it elsewhere
    limit = min(errors[slow] / BY_FAR, BY_FAR * errors.get(FOREST, np.inf))
    if not chosen or errors[chosen] > limit:
        chosen = slow
    return replace(plan, weights=weights[chosen], validation=errors, chosen=chosen)


def _best(errors: Mapping[str, float], singles: Sequence[str], stack: str) -> str:
    """The best single candidate, or their sum if that is clearly better; "" without candidates."""
    if not singles:
        return ""
    best = min(singles, key=lambda name: errors[name])
    return stack if errors.get(stack, np.inf) < CLEARLY * errors[best] else best


def _final(encoder: Encoder, rows: Table, outputs: tuple[Output, ...], options: FitOptions, work: _Work) -> Learned:
    """The chosen candidates, fitted to every row."""
    varied = [output for output in outputs if output.scale != CONSTANT]
    kernel = None
    users = kernel_users(outputs)
    if users:
        work.begin(f"final: {KERNEL}")
        targets = np.stack([output.to_scale(rows.metrics[output.metric]) for output in varied], axis=1)
        rng = np.random.default_rng(options.seed)
        base, indicators = encoder.base(rows.designs), encoder.indicators(rows.designs)
        # all metrics tell which inputs matter, also those that others predict better
        fitted = fit_kernel(base, indicators, targets, options.kernel_steps, rng)
        kernel = fitted.only([i for i, output in enumerate(varied) if output.metric in users])
    work.done += _kernel_effort(len(rows), options.kernel_steps)
    trees: dict[tuple[str, str], Trees] = {}
    plain = encoder.plain(rows.designs)
    for output in varied:
        for name in output.weights:
            if name != KERNEL:
                work.begin(f"final: {name}")
                target = output.to_scale(rows.metrics[output.metric])
                trees[output.metric, name] = TREE_FITS[name](plain, target, options.seed)
                work.done += _TREE_COST[name] * len(rows) / 1000
    return Learned(encoder, outputs, kernel, trees, None)


def _effort(n: int, n_outputs: int, options: FitOptions) -> float:
    seen = n * (options.folds - 1) / options.folds
    trees = n_outputs * sum(cost for name, cost in _TREE_COST.items() if name in options.candidates) / 1000
    total = options.folds * seen * trees
    if KERNEL in options.candidates:
        total += options.folds * _kernel_effort(seen, options.fold_steps) + _kernel_effort(n, options.kernel_steps)
    return max(total, 1e-9)


def _kernel_effort(n: float, n_steps: int) -> float:
    return _STEP_COST * n_steps * (min(n, 1000) / 1000) ** 3


def _rmse(predicted: FloatArray, values: FloatArray) -> float:
    return float(np.sqrt(np.mean((predicted - values) ** 2)))


def split_rows(n: int, share: float, rng: np.random.Generator) -> tuple[IntArray, IntArray]:
    """Rows to learn from and rows held out, both rising.

    Args:
        n: number of rows.
        share: of the rows held out, 0 to below 1.
        rng: draws them.
    """
    order = rng.permutation(n)
    n_out = round(share * n)
    return np.sort(order[n_out:]), np.sort(order[:n_out])
