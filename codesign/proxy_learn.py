"""From logged designs to a proxy with its errors on what was held out."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import numpy as np

from codesign import __version__
from codesign.design_log import LogBatch
from codesign.errors import InputError
from codesign.proxy_errors import held_out_errors, share_told_right
from codesign.proxy_files import MANIFEST, SavedProxy
from codesign.proxy_fit import FitOptions, Note, learn, split_rows
from codesign.proxy_table import Table, make_table


def learn_saved(
    batches: Sequence[LogBatch],
    *,
    holdout: float = 0.2,
    hold_out_context: str = "",
    metrics: Sequence[str] = (),
    options: FitOptions | None = None,
    note: Note = lambda share, text: None,
) -> tuple[SavedProxy, Table]:
    """Learn a proxy and measure it on designs that it has not seen.

    Args:
        batches: logged designs of one model.
        holdout: share of the designs held out, 0 to below 1; not used if a context is held out.
        hold_out_context: a context held out whole; "" for none.
        metrics: the only ones to learn; none means all.
        options: how to learn.
        note: told of the progress.

    Returns:
        The proxy, and what it was learned from.

    Raises:
        InputError: the batches do not fit each other, there are too few designs, or the context is unknown.
    """
    options = options or FitOptions()
    if metrics:
        batches = [_with_metrics(batch, metrics) for batch in batches]
    contexts = list(dict.fromkeys(batch.context for batch in batches))
    if hold_out_context and hold_out_context not in contexts:
        raise InputError.about("--hold-out-context", hold_out_context, contexts)
    if hold_out_context and len(contexts) < 2:
        raise InputError(f"--hold-out-context: {hold_out_context!r} is the only context; log a second one")
    table = make_table(batches, tells_contexts=True if hold_out_context else None)
    if hold_out_context:
        seen = np.flatnonzero(table.contexts != hold_out_context)
        unseen = np.flatnonzero(table.contexts == hold_out_context)
    else:
        seen, unseen = split_rows(len(table), holdout, np.random.default_rng(options.seed))
    train, test = table.take(seen), table.take(unseen)
    if hold_out_context:
        train = replace(train, features={c: f for c, f in table.features.items() if c != hold_out_context})
    learned = learn(train, options, note)
    saved = SavedProxy(
        learned, table.space, table.model, table.fields, table.inputs, train.features, len(train),
        int((~train.works).sum()), table.n_repeated, table.n_partial, held_out_errors(learned, test),
        hold_out_context, share_told_right(learned, test),
        {
            "seed": options.seed, "holdout": holdout,
            "tools": {"codesign": __version__, **{name: version(name) for name in ("numpy", "scikit-learn", "scipy")}},
        },
    )  # fmt: skip
    return saved, train


def check_out(folder: Path) -> None:
    """Refuse a folder that cannot take a proxy, before anything is learned.

    Raises:
        InputError: it is a file, it holds something else, or it cannot be written.
    """
    if folder.exists() and not folder.is_dir():
        raise InputError(f"--out: {str(folder)!r} is a file; name a folder")
    if folder.is_dir() and any(folder.iterdir()) and not (folder / MANIFEST).is_file():
        raise InputError(f"--out: {str(folder)!r} holds something else; name a new folder")
    parent = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    if not parent.is_dir() or not os.access(parent, os.W_OK | os.X_OK):
        raise InputError(f"--out: {str(folder)!r} cannot be written: no permission in {str(parent)!r}")


def _with_metrics(batch: LogBatch, metrics: Sequence[str]) -> LogBatch:
    """The batch with the named metrics alone."""
    for name in metrics:
        if name not in batch.metrics:
            raise InputError.about("--metric", name, batch.metrics)
    return replace(batch, metrics={name: batch.metrics[name] for name in metrics})
