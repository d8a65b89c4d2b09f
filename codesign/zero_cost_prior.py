"""Zero-cost scores as what a search knows at its start: `warm_start: [{zero_cost: nwot, candidates: 75}]`.

A score of every candidate would be too dear. When the search begins, networks drawn at random are scored once; a model
learns the scores as a function of what describes a network (`codesign.warm_start_model`), and strategies are given its
estimates as they are given those of earlier runs. In the run's folder:

DIR/zero_cost/scores.json                     networks and their scores so far, replaced whole after each
DIR/zero_cost/warm_start.json and .npz        what was learned from them (`codesign.warm_start_files`)
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from codesign.context import Context
from codesign.errors import DataError, InputError
from codesign.guard import guarded
from codesign.trial import Evaluation, Evaluator, FloatArray
from codesign.warm_start_files import MANIFEST, load_learned, save_learned
from codesign.warm_start_model import COUNTS, Learned, describe, learn
from codesign.zero_cost import SCORES, ZeroCost, ZeroCostOptions
from search_spaces.ops import IntArray
from search_spaces.space import SearchSpace

FOLDER, FILE = "zero_cost", "scores.json"
N_CANDIDATES = 75
"""Networks to score if a job does not say how many; more teach a model of a score little."""
MIN_SCORED = 10
"""Fewer networks with a score than this teach nothing that could be checked."""
SOURCE = "untrained networks"
_CANDIDATES = 2  # stream of randomness
_DRAWS = 64

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Scoring:
    """A score that a search is to know of.

    Attributes:
        score: its name, one of `SCORES`.
        objective: the metric that it tells about, of which more is better.
        n_candidates: networks to score.
    """

    score: str
    objective: str
    n_candidates: int


def scoring(key: str, score: str, objective: str | None, n_candidates: int | None, unknown: Sequence[str]) -> Scoring:
    """One entry of a job, checked.

    Args:
        key: where it stands, for messages.
        score: see `Scoring`.
        objective: the metric, or None for the accuracy.
        n_candidates: networks to score, or None for `N_CANDIDATES`.
        unknown: objectives that are maximised and only an evaluation tells.

    Raises:
        InputError: there is no such score, or no such objective.
    """
    if score not in SCORES:
        raise InputError.about(f"{key}.zero_cost", score, SCORES)
    if objective is None and "accuracy" not in unknown:
        known = ", ".join(unknown) or "none"
        raise InputError(f"{key}.objective: say which objective {score} tells about; more must be better: {known}")
    if objective is not None and objective not in unknown:
        raise InputError.about(f"{key}.objective", objective, unknown)
    return Scoring(score, objective or "accuracy", n_candidates or N_CANDIDATES)


def load_scored(folder: Path) -> tuple[Learned, ...]:
    """What a run has learned from scores; nothing if it has not begun. Raises DataError if it was damaged."""
    return load_learned(folder / FOLDER) if (folder / FOLDER / MANIFEST).is_file() else ()


def is_scored(learned: Learned) -> bool:
    """Whether a model was learned from scores of untrained networks."""
    return learned.source.startswith(f"{SOURCE}:")


def learn_scores(
    wanted: Sequence[Scoring], context: Context, counter: Evaluator | None, progress: Progress
) -> tuple[Learned, ...]:
    """Score networks and learn from them, or go on where a run was cut.

    Args:
        wanted: the scores, in the order in which they are returned.
        context: of the run, with data.
        counter: gives `COUNTS` of networks; None where nothing is counted.
        progress: is told what is done, in a line each time.

    Raises:
        DataError: too few networks have a score, or what was kept of an earlier start is of other data or options.
    """
    if done := load_scored(context.folder):
        return done
    names = tuple(sorted({one.score for one in wanted}))
    n = max(one.n_candidates for one in wanted)
    space = context.network_space
    codes = draw_candidates(space, n, np.random.default_rng([context.seed, _CANDIDATES]))
    values = _scored(ZeroCost(ZeroCostOptions(names), context), codes, context.folder / FOLDER, progress)
    known = counter.evaluate(codes).metrics if counter is not None else {}
    counts = tuple(name for name in COUNTS if name in known)
    columns = describe(space.features(codes), known, counts)
    found = []
    for one in wanted:
        scores = values[one.score][: one.n_candidates]
        there = np.flatnonzero(np.isfinite(scores))
        if len(there) < MIN_SCORED:
            raise DataError(
                f"warm_start: {len(there)} of {len(scores)} networks have a score {one.score!r}, and {MIN_SCORED} are "
                "needed to learn from; leave it out, or score more candidates"
            )
        found.append(
            learn(
                columns[there],
                scores[there],
                objective=one.objective,
                source=f"{SOURCE}:{one.score}",
                counts=counts,
                maximize=True,
            )
        )
    save_learned(found, context.folder / FOLDER)
    return tuple(found)


def draw_candidates(space: SearchSpace, n: int, rng: np.random.Generator) -> IntArray:
    """Different networks of a space, canonical, in the order of drawing, shape (at most n, d); fewer if it is small."""
    codes = np.zeros((0, len(space.choices)), dtype=np.int64)
    for _ in range(_DRAWS):
        codes = np.concatenate([codes, space.canonical(space.sample(2 * n, rng))])
        codes = codes[np.sort(np.unique(codes, axis=0, return_index=True)[1])]
        if len(codes) >= n:
            break
    return codes[:n]


def _scored(scorer: ZeroCost, codes: IntArray, folder: Path, progress: Progress) -> dict[str, FloatArray]:
    """Scores by name, shape (n,), NaN where there is none; what is in the folder already is not computed again."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = _kept(folder / FILE, scorer.fingerprint)[: len(codes)]
    for number in range(len(rows), len(codes)):
        progress(f"scoring untrained networks: {number} of {len(codes)}")
        evaluation: Evaluation = guarded(scorer, codes[number : number + 1])
        scores = {name: float(evaluation.metrics[name][0]) for name in scorer.metrics}
        rows.append({name: value if np.isfinite(value) else None for name, value in scores.items()})
        text = json.dumps({"fingerprint": scorer.fingerprint, "codes": codes[: number + 1].tolist(), "scores": rows})
        partial = folder / f".{FILE}.partial"
        partial.write_text(text, encoding="utf-8")
        partial.replace(folder / FILE)
    progress(f"scored {len(codes)} untrained networks: {', '.join(scorer.metrics)}")
    return {name: np.array([np.nan if row[name] is None else row[name] for row in rows]) for name in scorer.metrics}


def _kept(file: Path, fingerprint: str) -> list[Mapping[str, float | None]]:
    if not file.is_file():
        return []
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        if content["fingerprint"] != fingerprint:
            raise DataError(f"{str(file)!r} holds scores of other data or another version; begin a new run")
        return list(content["scores"])
    except (OSError, KeyError, TypeError, json.JSONDecodeError) as error:
        raise DataError(f"{str(file)!r} is damaged ({error}); remove it, and the scores are computed again") from error
