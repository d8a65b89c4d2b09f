"""Costs of layers on arrays as SCALE-Sim 3.0.0 reports them: closed forms where they are proven, else events.

A layer is one run for each image and each group, as users of the tool do it (it has neither batch nor groups); figures
of the runs add up. Cycles of a run are the number of its last cycle, n p - 1 and stalls.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from simulators import scalesim_events as events
from simulators.accelerator import Columns
from simulators.scalesim_closed import (
    CLOSED,
    DATAFLOWS,
    GemmModel,
    first_fill_lines,
    output_size,
    output_words,
    quiet,
    scalesim_cycles,
    undrained,
    unlimited_filter_reads,
    unlimited_input_reads,
)
from simulators.scalesim_kernel import FILTER_READS, IFMAP_READS, OFMAP_WRITES, STALLS, TOTAL
from simulators.scalesim_layer import (
    BANDWIDTH,
    CHANNELS,
    COLUMN_FOLDS,
    COLUMNS,
    DATAFLOW,
    FILTER_WORDS,
    FILTERS,
    FOLD_LENGTH,
    IFMAP_WORDS,
    IN_Y,
    IS,
    N_GIVEN,
    OFMAP_WORDS,
    OUT_Y,
    PIXELS,
    ROW_FOLDS,
    WINDOW,
    IntArray,
    layer_numbers,
)
from simulators.workload import FloatArray, Workload

BLOCK = 8_192  # elements worked on at once: temporaries that stay in a core's cache and cost no system call

DRAM = ("dram_ifmap_reads", "dram_filter_reads", "dram_ofmap_writes")

Counted = tuple[FloatArray, int]
"""Figures of (layer, accelerator) pairs, and for how many of them events were followed."""


class ScaleSimCosts:
    """Costs of every layer on every array, each column computed when it is asked for.

    Args:
        workload: L layers.
        accelerators: with the columns of `Systolic.fields`, shape (A,) each.
        paired: layer i runs on accelerator i alone.
    """

    def __init__(self, workload: Workload, accelerators: Columns, *, paired: bool) -> None:
        self._workload, self._accelerators, self._paired = workload, accelerators, paired
        runs = (workload.batch * workload.groups).astype(np.float64)
        self._runs = runs if paired else runs[:, None]
        self._is_limited = np.asarray(accelerators["bandwidth"] == "limited")
        self._kept: dict[str, Counted] = {}

    def column(self, name: str) -> FloatArray:
        """One of `latency_cycles`, `stall_cycles` and the words in scratchpads and DRAM; (L, A), or (L,) if paired."""
        if name in CLOSED:
            return self._of_all_runs(CLOSED[name])
        if name == "latency_cycles" and not self._is_limited.any():
            return self._of_all_runs(scalesim_cycles)
        return self._runs * self._counted(name)[0]

    def _of_all_runs(self, model: GemmModel) -> FloatArray:
        """A closed form of one run, times the runs of each layer."""
        one = over_accelerators(model, self._workload, self._accelerators, self._paired)
        if not (self._runs == 1.0).all():
            one *= self._runs
        return one

    def n_followed(self, name: str) -> int:
        """For how many (layer, accelerator) pairs events were followed to find a column."""
        if name in CLOSED or (name == "latency_cycles" and not self._is_limited.any()):
            return 0
        return self._counted(name)[1]

    def _counted(self, name: str) -> Counted:
        """Figures of one run."""
        if name not in self._kept:
            shape = (len(self._runs),) if self._paired else (len(self._runs), len(self._is_limited))
            result, followed = np.zeros(shape), 0
            if self._is_limited.any():
                at = self._at(np.flatnonzero(self._is_limited))
                if "limited" not in self._kept:
                    self._kept["limited"] = self._over_pairs(_limited_figures, at, len(_FIGURES))
                figures, followed = self._kept["limited"]
                result[at] = figures[..., _FIGURES.index(name)]
            if not self._is_limited.all():
                at = self._at(np.flatnonzero(~self._is_limited))
                figures, more = self._over_pairs(_UNLIMITED[name], at, 1)
                result[at], followed = figures[..., 0], followed + more
            self._kept[name] = result, followed
        return self._kept[name]

    def _at(self, which: IntArray) -> tuple[IntArray, ...]:
        """An index of the pairs with these accelerators."""
        return (which,) if self._paired else (np.arange(len(self._runs))[:, None], which[None, :])

    def _over_pairs(self, model: Callable[[IntArray], Counted], at: tuple[IntArray, ...], n_figures: int) -> Counted:
        """A model of rows of `scalesim_layer`, for all pairs: figures of shape (..., n_figures)."""
        layer, accelerator = (index.ravel() for index in np.broadcast_arrays(at[0], at[-1]))
        layers, arrays = _layer_part(self._workload), _array_part(self._accelerators)
        result, followed = np.empty((len(layer), n_figures)), 0
        for start in range(0, len(layer), BLOCK):
            block = slice(start, start + BLOCK)
            given = _given(layers, arrays, layer[block], accelerator[block])
            figures, more = model(layer_numbers(given))
            result[block], followed = figures.reshape(len(given), n_figures), followed + more
        return result.reshape((*np.broadcast_shapes(*(index.shape for index in at)), n_figures)), followed


def gemm_shape(workload: Workload) -> tuple[FloatArray, FloatArray, FloatArray]:
    """E, F and W of one group of one image of each layer, shape (L,) each."""
    pixels = workload.out_y.astype(np.float64) * workload.out_x
    filters = (workload.out_channels // workload.groups).astype(np.float64)
    window = (workload.in_channels // workload.groups).astype(np.float64) * workload.filter_y * workload.filter_x
    return pixels, filters, window


def over_accelerators(model: GemmModel, workload: Workload, accelerators: Columns, paired: bool) -> FloatArray:
    """A model of one matrix product, for every layer on every accelerator: (L, A), or (L,) when paired."""
    n_layers, n_accelerators = len(workload), len(accelerators["rows"])
    e, f, w = gemm_shape(workload)
    rows, columns = accelerators["rows"].astype(np.float64), accelerators["columns"].astype(np.float64)
    result = np.empty(n_layers if paired else (n_layers, n_accelerators))
    having = {dataflow: np.flatnonzero(accelerators["dataflow"] == dataflow) for dataflow in DATAFLOWS}
    if sum(map(len, having.values())) < n_accelerators:
        unknown = next(str(name) for name in accelerators["dataflow"] if name not in DATAFLOWS)
        raise ValueError(f"dataflow: {unknown!r} is not one of {', '.join(DATAFLOWS)}")
    for dataflow, members in having.items():
        for part in _blocks(members, BLOCK):
            if paired:
                result[part] = model(e[part], f[part], w[part], rows[part], columns[part], dataflow)
                continue
            step = BLOCK // len(part)
            for at in (slice(start, start + step) for start in range(0, n_layers, step)):
                sizes = e[at, None], f[at, None], w[at, None]
                result[at, part] = model(*sizes, rows[part], columns[part], dataflow)
    return result


def input_size(workload: Workload) -> tuple[IntArray, IntArray]:
    """Rows and columns of the input as a user of SCALE-Sim would state them, shape (L,) each.

    The tool has no padding. Where the input as it is gives the layer's output size (`output_size`), it stands, and a
    last window may end beyond it; else it is padded up to where the windows reach, and the padding is words as others.
    """
    sizes = []
    for given, out, taps, reach in (
        (workload.in_y, workload.out_y, workload.filter_y, workload.reach_y),
        (workload.in_x, workload.out_x, workload.filter_x, workload.reach_x),
    ):
        stands = output_size(given, (taps - 1) * workload.dilation + 1, workload.stride) == out
        sizes.append(np.where(stands, given, reach))
    return sizes[0], sizes[1]


def scalesim_rows(workload: Workload, accelerators: Columns) -> IntArray:
    """Layer i on accelerator i as the rows that `scalesim_layer.layer_numbers` takes, one run of each.

    Returns:
        Shape (L, N_GIVEN).

    Raises:
        ValueError: unknown dataflow.
    """
    own = np.arange(len(workload))
    return _given(_layer_part(workload), _array_part(accelerators), own, own)


def _blocks(indices: IntArray, size: int) -> Iterator[IntArray]:
    for start in range(0, len(indices), size):
        yield indices[start : start + size]


def _layer_part(workload: Workload) -> IntArray:
    """Numbers 3 to 12 of `scalesim_layer` and the bits of a word, shape (L, 11)."""
    channels, filters = workload.in_channels // workload.groups, workload.out_channels // workload.groups
    return np.stack([
        workload.out_y, workload.out_x, workload.filter_y, workload.filter_x, channels, filters, workload.stride,
        workload.dilation, *input_size(workload), workload.bits,
    ], axis=1)  # fmt: skip


def _array_part(accelerators: Columns) -> NDArray[np.float64]:
    """Dataflow, rows, columns, bits of the three scratchpads, and bits per cycle (0: no limit), shape (A, 7)."""
    names = np.asarray(accelerators["dataflow"])
    dataflow = np.select([names == flow for flow in DATAFLOWS], np.arange(3.0), -1.0)
    if (dataflow < 0).any():
        raise ValueError(f"dataflow: {str(names[dataflow < 0][0])!r} is not one of {', '.join(DATAFLOWS)}")
    limited = np.where(accelerators["bandwidth"] == "limited", accelerators["dram_bytes_per_cycle"], 0.0)
    numbers: Sequence[NDArray[np.generic]] = [accelerators["rows"], accelerators["columns"]]
    scratchpads = [8192.0 * accelerators[name].astype(np.float64) for name in ("ifmap_kib", "filter_kib", "ofmap_kib")]
    return np.stack([dataflow, *(n.astype(np.float64) for n in numbers), *scratchpads, 8.0 * limited], axis=1)


def _given(layers: IntArray, arrays: FloatArray, layer: IntArray, accelerator: IntArray) -> IntArray:
    """Rows of `N_GIVEN` numbers; scratchpads and bandwidth in whole words, at least one."""
    given = np.empty((len(layer), N_GIVEN), np.int64)
    bits = layers[layer, -1].astype(np.float64)
    array = arrays[accelerator]
    given[:, :3] = array[:, :3]
    given[:, 3:IFMAP_WORDS] = layers[layer, :-1]
    given[:, IFMAP_WORDS:] = np.maximum(array[:, 3:] // bits[:, None], 1.0)
    given[array[:, -1] == 0.0, BANDWIDTH] = 0
    return given


def _followed(g: IntArray, which: IntArray, model: Callable[[IntArray], IntArray]) -> IntArray:
    """Events of some rows, those of equal rows followed once."""
    distinct, inverse = np.unique(g[which], axis=0, return_inverse=True)
    return model(distinct)[inverse.ravel()]


_FIGURES = ("latency_cycles", "stall_cycles", *DRAM)


def _limited_figures(g: IntArray) -> Counted:
    """`_FIGURES` at a limited bandwidth, shape (N, 5)."""
    result = np.empty((len(g), len(_FIGURES)))
    lines = first_fill_lines(g)
    for place, column in enumerate((lines[0] * g[:, BANDWIDTH], lines[1] * g[:, BANDWIDTH], output_words(g))):
        result[:, 2 + place] = column
    result[:, 0], result[:, 1] = _compute_cycles(g), 0.0
    loud = np.flatnonzero(~quiet(g))
    if len(loud):
        result[loud] = _followed(g, loud, events.limited)[:, [TOTAL, STALLS, IFMAP_READS, FILTER_READS, OFMAP_WRITES]]
    return result, len(loud)


def _compute_cycles(g: IntArray) -> FloatArray:
    return np.asarray(g[:, ROW_FOLDS].astype(np.float64) * g[:, COLUMN_FOLDS] * g[:, FOLD_LENGTH] - 1.0)


def _free_input_reads(g: IntArray) -> Counted:
    words, is_closed = unlimited_input_reads(g)
    open_rows = np.flatnonzero(~is_closed)
    if len(open_rows):
        plain = g[:, :N_GIVEN].copy()
        plain[:, [FILTER_WORDS, OFMAP_WORDS]] = 1
        is_streamed = g[:, DATAFLOW] != IS  # then columns matter in the number of passes alone, else filters do not
        plain[:, FILTERS] = np.where(is_streamed, g[:, COLUMN_FOLDS], 1)
        plain[is_streamed, COLUMNS] = 1
        plain = layer_numbers(plain)
        words[open_rows] = _followed(plain, open_rows, lambda rows: events.window_reads(rows)[:, 0])
    return words.astype(np.float64), len(open_rows)


def _free_writes(g: IntArray) -> Counted:
    words = output_words(g)
    open_rows = np.flatnonzero(~undrained(g))
    if len(open_rows):
        plain = np.ones((len(g), N_GIVEN), np.int64)  # as a matrix product: windows do not matter
        plain[:, : OUT_Y + 1] = g[:, : OUT_Y + 1]
        plain[:, OUT_Y] = plain[:, IN_Y] = g[:, PIXELS]
        plain[:, CHANNELS], plain[:, FILTERS], plain[:, OFMAP_WORDS] = g[:, WINDOW], g[:, FILTERS], g[:, OFMAP_WORDS]
        plain[:, BANDWIDTH] = 0
        plain = layer_numbers(plain)
        words[open_rows] = _followed(plain, open_rows, lambda rows: events.unlimited_writes(rows)[:, OFMAP_WRITES])
    return words.astype(np.float64), len(open_rows)


_UNLIMITED: dict[str, Callable[[IntArray], Counted]] = {
    "latency_cycles": lambda g: (_compute_cycles(g), 0),
    "stall_cycles": lambda g: (np.zeros(len(g)), 0),
    "dram_ifmap_reads": _free_input_reads,
    "dram_filter_reads": lambda g: (unlimited_filter_reads(g).astype(np.float64), 0),
    "dram_ofmap_writes": _free_writes,
}
