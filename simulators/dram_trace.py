"""Memory traces: when a requester wants which address, read or written; from files, or made by seeded generators.

Two public text formats are read: DRAMSys's `.stl` (`cycle: read|write address`) and DRAMsim3's `.trace`
(`address READ|WRITE cycle`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]

_WRITES = ("write", "p_mem_wr", "boff")
_READS = ("read", "p_mem_rd", "p_fetch", "ifetch")


@dataclass(frozen=True, slots=True)
class Trace:
    """Memory requests in the order they are issued, as a struct of arrays.

    Attributes:
        cycle: shape (R,), earliest cycle of the requester's clock at which a request is issued; never falls.
        is_write: shape (R,).
        address: shape (R,), byte addresses, none negative.
    """

    cycle: IntArray
    is_write: BoolArray
    address: IntArray

    def __post_init__(self) -> None:
        """Refuse arrays that do not fit each other, falling cycles and negative addresses."""
        shapes = {self.cycle.shape, self.is_write.shape, self.address.shape}
        if len(shapes) != 1 or self.cycle.ndim != 1:
            raise ValueError(f"trace: every array must have one shape (R,), not {sorted(shapes)}")
        if (np.diff(self.cycle) < 0).any():
            first = int(np.flatnonzero(np.diff(self.cycle) < 0)[0]) + 1
            raise ValueError(f"trace: cycle of request {first} is before that of request {first - 1}")
        if len(self) and (self.cycle[0] < 0 or self.address.min() < 0):
            raise ValueError("trace: cycles and addresses must be at least 0")

    def __len__(self) -> int:
        """Number of requests."""
        return len(self.cycle)


def read_trace(path: str | Path) -> Trace:
    """A trace from a file, its format told by its ending: `.stl` or `.trace`.

    Raises:
        ValueError: another ending, an unreadable file, or a line that is not a request.
    """
    path = Path(path)
    parsers: Mapping[str, Callable[[str], tuple[int, bool, int]]] = {".stl": _stl_line, ".trace": _dramsim3_line}
    if path.suffix not in parsers:
        raise ValueError(f"trace: {str(path)!r} must end in one of {', '.join(parsers)}")
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ValueError(f"trace: cannot read {str(path)!r}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"trace: {str(path)!r} is not a text file") from error
    parse = parsers[path.suffix]
    rows = []
    for number, line in enumerate(text.splitlines(), start=1):
        bare = line.split("#", 1)[0].strip()
        if not bare:
            continue
        try:
            rows.append(parse(bare))
        except ValueError as error:
            raise ValueError(f"trace: {path.name} line {number}: {line.strip()!r} {error}") from None
    table = np.array(rows, dtype=np.int64).reshape(-1, 3)
    # a request that names an earlier cycle than the one before it waits for that one in both simulators
    return Trace(np.maximum.accumulate(table[:, 0]), table[:, 1].astype(np.bool_), table[:, 2].copy())


def _stl_line(line: str) -> tuple[int, bool, int]:
    """`cycle: read|write address [data]`, the address hexadecimal; data is ignored."""
    time, separator, rest = line.partition(":")
    words = rest.split()
    if not separator or len(words) < 2:
        raise ValueError("is not of the form `cycle: read|write address`")
    return _number(time, 10), _is_write(words[0]), _number(words[1], 16)


def _dramsim3_line(line: str) -> tuple[int, bool, int]:
    """`address READ|WRITE cycle`, the address hexadecimal."""
    words = line.split()
    if len(words) != 3:
        raise ValueError("is not of the form `address READ|WRITE cycle`")
    return _number(words[2], 10), _is_write(words[1]), _number(words[0], 16)


def _number(text: str, base: int) -> int:
    try:
        return int(text, base)
    except ValueError:
        raise ValueError(f"has {text.strip()!r} where a number of base {base} must stand") from None


def _is_write(word: str) -> bool:
    if word.lower() in _WRITES:
        return True
    if word.lower() in _READS:
        return False
    raise ValueError(f"has {word!r} where read or write must stand")


def stream(rng: np.random.Generator, n_requests: int = 10_000, *, burst_bytes: int = 64, period: int = 1) -> Trace:
    """Reads of consecutive bursts from address 0; the generator is not used.

    Args:
        rng: source of randomness.
        n_requests: R.
        burst_bytes: bytes of one request, by which the address grows.
        period: cycles between two requests.
    """
    del rng
    steps = np.arange(n_requests, dtype=np.int64)
    return Trace(steps * period, np.zeros(n_requests, np.bool_), steps * burst_bytes)


def random(
    rng: np.random.Generator,
    n_requests: int = 10_000,
    *,
    capacity_bytes: int = 1 << 30,
    write_share: float = 0.0,
    burst_bytes: int = 64,
    period: int = 1,
) -> Trace:
    """Uniformly random bursts of a memory of `capacity_bytes`, of which about `write_share` are written."""
    address = rng.integers(0, capacity_bytes // burst_bytes, n_requests, dtype=np.int64) * burst_bytes
    return Trace(np.arange(n_requests, dtype=np.int64) * period, rng.random(n_requests) < write_share, address)


def strided(
    rng: np.random.Generator,
    n_requests: int = 10_000,
    *,
    stride_bytes: int = 8192,
    capacity_bytes: int = 1 << 30,
    write_share: float = 0.0,
    period: int = 1,
) -> Trace:
    """Bursts `stride_bytes` apart, wrapped at `capacity_bytes`: with a large stride, every request meets a new row."""
    steps = np.arange(n_requests, dtype=np.int64)
    return Trace(steps * period, rng.random(n_requests) < write_share, steps * stride_bytes % capacity_bytes)


def hot_cold(
    rng: np.random.Generator,
    n_requests: int = 10_000,
    *,
    n_hot: int = 64,
    hot_share: float = 0.8,
    hot_bytes: int = 8192,
    capacity_bytes: int = 1 << 30,
    write_share: float = 0.3,
    burst_bytes: int = 64,
    period: int = 1,
) -> Trace:
    """A skewed trace, as of a server: `hot_share` of the requests go to `n_hot` regions of `hot_bytes`, the others
    anywhere."""
    hot_starts = rng.integers(0, capacity_bytes // hot_bytes, n_hot, dtype=np.int64) * hot_bytes
    inside = rng.integers(0, hot_bytes // burst_bytes, n_requests, dtype=np.int64) * burst_bytes
    hot = hot_starts[rng.integers(0, n_hot, n_requests)] + inside
    cold = rng.integers(0, capacity_bytes // burst_bytes, n_requests, dtype=np.int64) * burst_bytes
    address = np.where(rng.random(n_requests) < hot_share, hot, cold)
    return Trace(np.arange(n_requests, dtype=np.int64) * period, rng.random(n_requests) < write_share, address)


def gemm(
    rng: np.random.Generator,
    n_requests: int = 10_000,
    *,
    tile_m: int = 16,
    tile_n: int = 16,
    k: int = 256,
    matrix_bytes: int = 1 << 26,
    burst_bytes: int = 64,
    period: int = 1,
) -> Trace:
    """Tiles of an output-stationary matrix product of 1-byte words, cut off after `n_requests`; the generator is not
    used.

    For each output tile: the bursts of `tile_m` rows of A and `tile_n` columns of B (both stored with k together), read
    in turn, then the tile's bursts of C, written. A, B and C lie `matrix_bytes` apart.
    """
    del rng
    per_k = max(1, k // burst_bytes)
    n_inputs, n_outputs = max(tile_m, tile_n) * per_k, max(1, tile_m * tile_n // burst_bytes)
    per_tile = 2 * n_inputs + n_outputs
    steps = np.arange(n_requests, dtype=np.int64)
    tile, within = np.divmod(steps, per_tile)
    is_write = within >= 2 * n_inputs
    burst, operand = np.divmod(within, 2)
    loaded = operand * matrix_bytes + (tile * n_inputs * (1 - operand) + burst) * burst_bytes
    stored = 2 * matrix_bytes + (tile * n_outputs + within - 2 * n_inputs) * burst_bytes
    return Trace(steps * period, is_write, np.where(is_write, stored, loaded))


GENERATORS: Mapping[str, Callable[..., Trace]] = {
    "stream": stream,
    "random": random,
    "strided": strided,
    "hot_cold": hot_cold,
    "gemm": gemm,
}
"""Trace generators by name: each takes a `numpy.random.Generator`, a number of requests and its own options."""


def make_trace(name: str, seed: int = 0, n_requests: int = 10_000, **options: float) -> Trace:
    """A generated trace; the same arguments give the same trace.

    Raises:
        ValueError: an unknown generator, or fewer than one request.
    """
    if name not in GENERATORS:
        close = get_close_matches(name, GENERATORS, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise ValueError(f"trace: {name!r} is not one of {', '.join(GENERATORS)}{hint}")
    if n_requests < 1:
        raise ValueError(f"n_requests: {n_requests} is not allowed; use an integer of at least 1")
    return GENERATORS[name](np.random.default_rng(seed), n_requests, **options)


def as_trace(trace: str | Path | Trace, requests: int | None = None, seed: int = 0) -> Trace:
    """A trace by generator's name or file.

    Args:
        trace: one of `GENERATORS`, a path that ends in `.stl` or `.trace`, or a trace, which is returned as it is.
        requests: how many a generator makes (None: 10,000) or at most how many of a file's are taken (None: all).
        seed: of a generator.

    Raises:
        ValueError: an unknown generator, an unreadable file, or fewer than one request.
    """
    if isinstance(trace, Trace):
        return trace
    if requests is not None and requests < 1:
        raise ValueError(f"requests: {requests} is not allowed; use an integer of at least 1")
    if seed < 0:
        raise ValueError(f"seed: {seed} is not allowed; use an integer of at least 0")
    if Path(trace).suffix:
        whole = read_trace(trace)
        return Trace(whole.cycle[:requests], whole.is_write[:requests], whole.address[:requests])
    return make_trace(str(trace), seed) if requests is None else make_trace(str(trace), seed, requests)
