"""What a warm start saves a search, and what it costs one that is misled: several seeds on made-up related tasks."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from codesign.compare import Task, run_task
from codesign.compare_score import Score
from codesign.compare_table import table_task
from codesign.strategies.auto import Auto
from codesign.testing.strategies import ListedSpace
from codesign.trial import FloatArray
from codesign.warm_start import Informed
from codesign.warm_start_model import learn
from search_spaces.space import Choice

pytestmark = pytest.mark.slow

SPACE = ListedSpace(*(Choice(f"x{i}", tuple("abcd")) for i in range(6)))
CODES = np.stack(np.unravel_index(np.arange(SPACE.size), (4,) * 6), axis=1).astype(np.int64)
SEEDS = range(4)
BUDGET = 60


def errors(kinship: float, seed: int) -> FloatArray:
    """Errors of a task: effects of options and of pairs, shared with the task of kinship 1 in that measure."""
    common, own = (np.random.default_rng([seed, which]) for which in (0, 1))
    total = np.zeros(len(CODES))
    for first in range(6):
        for second in range(first, 6):
            effect = kinship * common.normal(size=(4, 4)) + np.sqrt(1 - kinship**2) * own.normal(size=(4, 4))
            total += effect[CODES[:, first], CODES[:, second]] * (1.0 if first == second else 0.5)
    return np.asarray(total - total.min() + 0.1)


def problem(seed: int) -> Task:
    losses = np.stack([errors(1.0, seed), 1.0 + CODES.sum(axis=1)], axis=1)
    return table_task("made up", SPACE, CODES, losses, Score.of_table(losses), known=(1,))


def warmed(task: Task, earlier: FloatArray, seed: int) -> Task:
    rows = np.random.default_rng([seed, 2]).choice(len(CODES), 150, replace=False)
    features = SPACE.features(CODES)
    model = learn(features[rows], earlier[rows], objective="error", source="", counts=(), maximize=False)
    assert task.foresight is not None
    return replace(task, foresight=Informed(task.foresight, ((0, model),)))


def evaluations(task: Task, seed: int, share: float = 0.9) -> int:
    scores = run_task(task, Auto, evaluations=BUDGET, seed=seed).scores
    there = np.flatnonzero(scores >= share)
    return int(there[0]) + 1 if len(there) else BUDGET


def test_a_related_task_saves_evaluations_and_an_unrelated_one_costs_little() -> None:
    found: dict[str, list[int]] = {"cold": [], "related": [], "unrelated": [], "reversed": []}
    for seed in SEEDS:
        task = problem(seed)
        found["cold"].append(evaluations(task, seed))
        related = errors(0.95, seed)
        found["related"].append(evaluations(warmed(task, related, seed), seed))
        found["unrelated"].append(evaluations(warmed(task, errors(0.0, seed), seed), seed))
        found["reversed"].append(evaluations(warmed(task, -related, seed), seed))
    cold = float(np.mean(found["cold"]))
    assert np.mean(found["related"]) < 0.8 * cold, found
    assert np.mean(found["unrelated"]) < 1.3 * cold, found
    assert np.mean(found["reversed"]) < 1.3 * cold, found
