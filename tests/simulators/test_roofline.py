"""The roofline against arithmetic by hand and its own bounds."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulators.accelerator import columns
from simulators.roofline import Roofline, ideal_dram_bytes
from simulators.workload import Workload


def touched(size: int, kernel: int, stride: int, padding: int) -> tuple[int, int]:
    """Outputs along one axis, and how many real input positions their windows touch, by listing them."""
    outputs = (size + 2 * padding - kernel) // stride + 1
    positions = {o * stride + k - padding for o in range(outputs) for k in range(kernel)}
    return outputs, len(positions & set(range(size)))


def test_bytes_by_hand() -> None:
    conv = Workload.from_layers(in_channels=16, out_channels=32, out_y=8, out_x=8, filter_y=3, filter_x=3)
    assert ideal_dram_bytes(conv).tolist() == [16 * 64 + 32 * 16 * 9 + 32 * 64]
    depthwise = Workload.from_layers(in_channels=16, out_channels=16, groups=16, out_y=8, filter_y=3, filter_x=3)
    assert ideal_dram_bytes(depthwise).tolist() == [16 * 8 + 16 * 9 + 16 * 8]
    product = Workload.from_layers(out_y=7, in_channels=5, out_channels=3)  # 7 x 5 times 5 x 3
    assert ideal_dram_bytes(product).tolist() == [35 + 15 + 21]
    assert ideal_dram_bytes(Workload.from_layers(out_y=7, in_channels=5, out_channels=3, bits=16)).tolist() == [142]
    batch = Workload.from_layers(batch=4, out_y=7, in_channels=5, out_channels=3)
    assert ideal_dram_bytes(batch).tolist() == [4 * 35 + 15 + 4 * 21]  # weights once for the whole batch


@given(st.integers(1, 20), st.integers(1, 7), st.integers(1, 4), st.integers(0, 3))
def test_input_rows_are_never_more_than_a_padded_layer_touches(
    size: int, kernel: int, stride: int, padding: int
) -> None:
    padding = min(padding, (kernel - 1) // 2)
    if size + 2 * padding < kernel:
        return
    outputs, rows = touched(size, kernel, stride, padding)
    layer = Workload.from_layers(out_y=outputs, filter_y=kernel, stride=stride)
    assert ideal_dram_bytes(layer)[0] - kernel - outputs <= rows
    if kernel % 2 and padding == kernel // 2 and stride == 1:
        assert ideal_dram_bytes(layer)[0] - kernel - outputs == rows  # tight where it matters most


def test_the_slower_of_compute_and_memory() -> None:
    accelerators = columns(
        Roofline.fields,
        [
            {"macs_per_cycle": 10, "dram_bytes_per_cycle": 1e6, "clock_ghz": 0.5},
            {"macs_per_cycle": 1e6, "dram_bytes_per_cycle": 2, "clock_ghz": 2},
        ],
    )
    layer = Workload.from_layers(out_y=7, in_channels=5, out_channels=3)
    report = Roofline().simulate(layer, accelerators)
    assert report.columns["latency_cycles"].tolist() == [[105 / 10, 71 / 2]]
    assert report.columns["latency_ms"] == pytest.approx(np.array([[10.5 / 0.5e6, 35.5 / 2e6]]))
    assert report.columns["dram_bytes"].tolist() == [[71, 71]]
    assert report.per_accelerator["peak_gmacs_per_s"].tolist() == [5, 2e6]
    assert report.per_accelerator["dram_gb_per_s"].tolist() == [5e5, 4]


@given(st.floats(0.5, 1e4), st.floats(0.5, 1e4), st.floats(1, 10))
def test_more_bandwidth_or_compute_is_never_slower(macs: float, bandwidth: float, factor: float) -> None:
    base = {"macs_per_cycle": macs, "dram_bytes_per_cycle": bandwidth}
    faster = [base | {name: value * factor} for name, value in base.items()]
    layer = Workload.from_layers(in_channels=16, out_channels=8, out_y=9, out_x=9, filter_y=3, filter_x=3)
    cycles = Roofline().simulate(layer, columns(Roofline.fields, [base, *faster])).columns["latency_cycles"][0]
    assert (cycles[1:] <= cycles[0]).all()
