"""Networks that ship as workloads: distinct layers and how often each occurs, one CSV file per network.

A user's own network is a file with the same columns: those of `Workload` (absent ones take its defaults) and `count`.
"""

from __future__ import annotations

import csv
from difflib import get_close_matches
from pathlib import Path

import numpy as np

from simulators.workload import IntArray, Workload

NETWORK_FOLDER = Path(__file__).parent / "workloads"


def network_names() -> list[str]:
    """Names of the networks that ship with the package, sorted."""
    return sorted(path.stem for path in NETWORK_FOLDER.glob("*.csv"))


def load_network(name: str | Path) -> tuple[Workload, IntArray]:
    """A network's distinct layers and their counts.

    Args:
        name: one of `network_names()`, or a path that ends in `.csv`.

    Returns:
        The workload of L layers and `count` of shape (L,).

    Raises:
        ValueError: unknown name, unreadable file, unknown column or a wrong value.
    """
    path = Path(name)
    if path.suffix != ".csv":
        if str(name) not in network_names():
            close = get_close_matches(str(name), network_names(), n=1, cutoff=0.5)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            raise ValueError(f"network: {str(name)!r} is not one of {', '.join(network_names())} or a .csv file{hint}")
        path = NETWORK_FOLDER / f"{name}.csv"
    try:
        with path.open(encoding="utf-8", newline="") as lines:
            rows = list(csv.reader(line for line in lines if not line.startswith("#")))
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(
            f"network: cannot read {str(path)!r}: {getattr(error, 'strerror', 'no UTF-8 text')}"
        ) from error
    if len(rows) < 2:
        raise ValueError(f"network: {str(path)!r} has no layers")
    try:
        table = np.array(rows[1:], dtype=np.int64)
        columns = dict(zip(rows[0], table.T, strict=True))
        count = columns.pop("count", np.ones(len(table), dtype=np.int64))
        if (count < 1).any():
            raise ValueError("count must be at least 1")
        return Workload.from_layers(**columns), count
    except ValueError as error:
        raise ValueError(f"network: {str(path)!r}: {error}") from error
