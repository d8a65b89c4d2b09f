"""How well latency on this machine is predicted and measured: `python benchmarks/latency_predictor.py`.

Calibrates this machine for a space, then measures networks that the calibration has not seen and compares. After that
it measures networks in pairs of sessions, the second beside a process that keeps one core busy, and compares the ranks:
of single readings of the clock, of their median, of their minimum, and of the project's protocol.

Exit status: 0 if the median error is at most 10 %, Kendall's tau at least 0.9, the calibration within its time (plus
10 %) and the ranks of the two sessions by the protocol at tau 0.95 in every pair; 1 if not; 2 for wrong input.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter_ns

import numpy as np
from numpy.typing import NDArray

from codesign.context import Context
from codesign.convert_torch_onnx import to_onnx
from codesign.device import Calibration, HeldOut, held_out_errors
from codesign.device_job import calibrate_space, space_of_job, space_of_type
from codesign.device_target import PredictedLatency
from codesign.device_units import units_of
from codesign.errors import InputError
from codesign.honesty_ranks import rank_correlation
from codesign.job import load_job
from codesign.latency_onnx import measure
from codesign.session_onnx import open_session, random_inputs

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

READINGS = 25
PROTOCOL_READINGS = 60
PROTOCOL = f"protocol, {PROTOCOL_READINGS} readings"
DIGITS = Path(__file__).parents[1] / "examples" / "digits.yaml"


def context_of(name: str) -> Context:
    """The space: nasbench201 on 32 x 32 images, or the NASNets of the example on digits."""
    if name == "nasnet":
        return space_of_job(load_job(DIGITS), DIGITS.parent)
    return space_of_type(name, (), (3, 32, 32), 10)


def unseen(context: Context, calibration: Calibration, n: int, seed: int) -> IntArray:
    """Distinct networks that were not measured in the calibration."""
    space = context.network_space
    known = {row.tobytes() for row in space.canonical(calibration.codes)}
    found: dict[bytes, IntArray] = {}
    for code in space.canonical(space.sample(20 * n, np.random.default_rng(seed))):
        if code.tobytes() not in known:
            found.setdefault(code.tobytes(), code)
    return np.array(list(found.values())[:n])


def models_of(context: Context, codes: IntArray) -> list[bytes]:
    """The networks as ONNX files."""
    return [to_onnx(context.network_space.build(code), context.data_shape.image_shape) for code in codes]  # type: ignore[arg-type]


def clock_readings(models: Sequence[bytes]) -> FloatArray:
    """Single readings of the clock, interleaved, models opened once: ms, shape (n, READINGS)."""
    sessions = [open_session(model) for model in models]
    feeds = [random_inputs(session, 1, np.random.default_rng(0)) for session in sessions]
    for session, fed in zip(sessions, feeds, strict=True):
        for _ in range(3):
            session.run(fed)
    taken = np.empty((len(models), READINGS))
    for reading in range(READINGS):
        for row, (session, fed) in enumerate(zip(sessions, feeds, strict=True)):
            start = perf_counter_ns()
            session.run(fed)
            taken[row, reading] = (perf_counter_ns() - start) / 1e6
    return taken


def session(models: Sequence[bytes]) -> dict[str, FloatArray]:
    """Latencies of one session by several protocols, shape (n,) each."""
    taken = clock_readings(models)
    protocol = np.array([each.latency_ms for each in measure(models, readings=PROTOCOL_READINGS)])
    return {
        "1 reading": taken[:, 0],
        "median of 5": np.median(taken[:, :5], axis=1),
        "median of 25": np.median(taken, axis=1),
        "minimum of 25": taken.min(axis=1),
        PROTOCOL: protocol,
    }


@contextmanager
def one_core_loaded() -> Iterator[None]:
    """A process of its own that computes all the time."""
    spinning = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        yield
    finally:
        spinning.kill()
        spinning.wait()


def stability(models: Sequence[bytes]) -> dict[str, tuple[float, float]]:
    """Kendall's tau between two sessions, and the median difference of a latency up to a common factor, by protocol."""
    first = session(models)
    with one_core_loaded():
        second = session(models)
    found = {}
    for name in first:
        ratio = np.log(second[name] / first[name])
        spread = float(np.median(np.abs(ratio - np.median(ratio))))
        found[name] = rank_correlation(first[name], second[name]).tau, spread
    return found


def ranks_hold(models: Sequence[bytes], n_pairs: int) -> bool:
    """Print the ranks of pairs of sessions; whether the protocol's agree in each."""
    print(f"ranks of {len(models)} networks in two sessions, one core loaded in the second")
    holds = True
    for pair in range(1, n_pairs + 1):
        start = time.monotonic()
        found = stability(models)
        spent_s = time.monotonic() - start
        load = f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
        print(f"  pair {pair} of {n_pairs}, {spent_s:.0f} s{load}")
        for name, (tau, spread) in found.items():
            print(f"    {name:<22} tau {tau:.3f}, median difference {spread:.2%}", flush=True)
        holds = holds and found[PROTOCOL][0] >= 0.95
    return holds


def rate(context: Context, calibration: Calibration, n: int = 5_000) -> float:
    """Candidates predicted per second of processor time, op tables included; the best of three."""
    target = PredictedLatency({"here": calibration}, context)
    codes = context.network_space.sample(n, np.random.default_rng(3))
    best = np.inf
    for _ in range(3):
        start = time.process_time()
        target.evaluate(codes)
        best = min(best, time.process_time() - start)
    return n / best


def judge(
    context: Context, calibration: Calibration, codes: IntArray, models: Sequence[bytes]
) -> tuple[HeldOut, float]:
    """Errors on networks that were not seen, and the median of measured over predicted: how the machine has changed."""
    measured_ms = np.array([each.latency_ms for each in measure(models, readings=PROTOCOL_READINGS)])
    prediction = calibration.predict(units_of(context.network_space.ops(codes)))
    return held_out_errors(prediction, measured_ms), float(np.median(measured_ms / prediction.latency_ms))


def run(arguments: argparse.Namespace, out: Path) -> int:
    """All of it; the exit status."""
    context = context_of(arguments.space)
    start = time.monotonic()
    calibration = calibrate_space(
        context, out, seconds=60 * arguments.minutes, n_networks=arguments.calibrate, threads=1, seed=arguments.seed
    )
    spent_s = time.monotonic() - start
    codes = unseen(context, calibration, arguments.networks, arguments.seed + 1)
    models = models_of(context, codes)
    errors, drift = judge(context, calibration, codes, models)
    n_measured = int((~np.isnan(calibration.latency_ms)).sum())
    print(f"space {arguments.space}; {calibration.machine.cpu}, {calibration.machine.runtime}")
    print(f"calibration            {spent_s:.0f} s, {n_measured} networks, {len(calibration.signatures)} units")
    print(
        f"latencies              {np.nanmin(calibration.latency_ms):.3g} to {np.nanmax(calibration.latency_ms):.3g} ms"
    )
    print(f"on {errors.n} unseen networks")
    print(f"  median error         {errors.median_error:.1%}")
    print(f"  90 % below           {errors.p90_error:.1%}")
    print(f"  worst                {errors.worst_error:.1%}")
    print(f"  measured / predicted {drift:.3f} (median)")
    print(f"  Kendall's tau        {errors.tau:.3f} ({errors.tau_low:.3f} to {errors.tau_high:.3f})")
    print(f"  within 2 deviations  {errors.covered:.0%}")
    print(f"  flagged              {errors.outside:.0%}")
    print(f"predictions per second {rate(context, calibration):,.0f}")
    holds = errors.median_error <= 0.1 and errors.tau >= 0.9 and spent_s <= 66 * arguments.minutes
    if arguments.stability:
        holds = ranks_hold(models[: arguments.stability], arguments.pairs) and holds
    return 0 if holds else 1


def main() -> int:
    """Run the benchmark; returns its exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--space", choices=("nasbench201", "nasnet"), default="nasbench201")
    parser.add_argument("--networks", type=int, default=100, help="unseen networks to judge by")
    parser.add_argument("--calibrate", type=int, default=150, help="networks to calibrate with")
    parser.add_argument("--minutes", type=float, default=5.0, help="of calibration")
    parser.add_argument("--stability", type=int, default=60, help="networks measured in two sessions; 0: none")
    parser.add_argument("--pairs", type=int, default=4, help="pairs of such sessions")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="keep the calibration here")
    arguments = parser.parse_args()
    try:
        if arguments.out is not None:
            return run(arguments, arguments.out)
        with TemporaryDirectory() as folder:
            return run(arguments, Path(folder) / "here.device.json")
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
