"""SCALE-Sim 3.0.0 word by word: every demand of every cycle, buffers as sets. Slow, for tiny layers."""

from __future__ import annotations

from dataclasses import dataclass

Word = tuple[int, ...]
Line = list[Word]


@dataclass(frozen=True)
class Case:
    """A convolution on an array, with scratchpads in words; `bandwidth` 0 is no limit."""

    dataflow: str
    rows: int
    columns: int
    in_y: int
    in_x: int
    filter_y: int
    filter_x: int
    channels: int
    filters: int
    stride: int
    ifmap: int
    filter: int
    ofmap: int
    bandwidth: int
    dilation: int = 1

    @property
    def out(self) -> tuple[int, int]:
        """Output rows and pixels of a row."""
        reach_y, reach_x = ((taps - 1) * self.dilation + 1 for taps in (self.filter_y, self.filter_x))
        y, x = (-(-(s - k + self.stride) // self.stride) for s, k in ((self.in_y, reach_y), (self.in_x, reach_x)))
        return y, x

    def input_word(self, pixel: int, tap: int) -> Word | None:
        """Which word of the input a tap of a window is; None beyond the input."""
        oy, ox = divmod(pixel, self.out[1])
        fy, rest = divmod(tap, self.filter_x * self.channels)
        fx, channel = divmod(rest, self.channels)
        y, x = oy * self.stride + fy * self.dilation, ox * self.stride + fx * self.dilation
        return (y, x, channel) if y < self.in_y and x < self.in_x else None


def diagonals(matrix: list[list[Word | None]]) -> list[Word]:
    """The words of a matrix diagonal by diagonal, each from its last row to its first."""
    n_rows, n_columns = len(matrix), len(matrix[0])
    order = [
        matrix[d - c][c] for d in range(n_rows + n_columns - 1) for c in range(n_columns) if 0 <= d - c < n_rows
    ]  # fmt: skip
    return [word for word in order if word is not None]


def streams(case: Case) -> tuple[list[tuple[Line, Line, Line]], list[list[Word | None]], list[list[Word | None]]]:
    """Demands of inputs, weights and outputs in every cycle, and the prefetch matrices of inputs and weights."""
    pixels, window = case.out[0] * case.out[1], case.filter_y * case.filter_x * case.channels
    rows, columns, flow = case.rows, case.columns, case.dataflow
    sr, sc, t = {
        "os": (pixels, case.filters, window),
        "ws": (window, case.filters, pixels),
        "is": (window, pixels, case.filters),
    }[flow]  # fmt: skip

    def row_word(r: int, k: int) -> Word | None:  # what enters row r of the unrolled matrix at step k
        if r >= sr:
            return None
        return case.input_word(r, k) if flow == "os" else case.input_word(k, r) if flow == "ws" else (r, k)

    def column_word(c: int, k: int) -> Word | None:  # what enters column c (os), or stays at (k, c)
        if c >= sc or k >= (t if flow == "os" else sr):
            return None
        return case.input_word(c, k) if flow == "is" else (k, c)

    lines: list[tuple[Line, Line, Line]] = []
    load = 0 if flow == "os" else rows
    length = t + load + rows + columns - 2
    for left in range(0, sc, columns):
        for top in range(0, sr, rows):
            fold: list[tuple[Line, Line, Line]] = [([], [], []) for _ in range(length)]
            by_row, by_column = (1, 0) if flow == "is" else (0, 1)
            for x in range(length):
                for r in range(rows):
                    word = row_word(top + r, x - load - r) if 0 <= x - load - r < t else None
                    if word is not None:
                        fold[x][by_row].append(word)
                for c in range(columns):
                    k = x - c if flow == "os" else top + rows - 1 - x
                    word = column_word(left + c, k) if k >= (0 if flow == "os" else top) else None
                    if word is not None:
                        fold[x][by_column].append(word)
                    out = x - (t - 1 if flow == "os" else 2 * rows - 1) - c
                    if left + c < sc and (
                        0 <= out < rows and top + rows - 1 - out < sr if flow == "os" else 0 <= out < t
                    ):
                        fold[x][2].append((top, left + c, out))
            lines += fold
    streamed = [[row_word(top + r, k) for r in range(rows)] for top in range(0, sr, rows) for k in range(t)]
    depth = t if flow == "os" else sr
    other = [[column_word(left + c, k) for c in range(columns)] for left in range(0, sc, columns) for k in range(depth)]
    return lines, *((other, streamed) if flow == "is" else (streamed, other))


class Window:
    """A read buffer at a limited bandwidth."""

    def __init__(self, matrix: list[list[Word | None]], is_skewed: bool, size: int, bandwidth: int) -> None:
        order = diagonals(matrix) if is_skewed else [w for row in matrix for w in row if w is not None]
        per_set, resident = -(-size // 100), -(-size // 2)
        self.sets = [set(order[i : i + per_set]) for i in range(0, len(order), per_set)]
        if len(order) % per_set == 0:
            self.sets.append(set())
        self.active = min(len(self.sets), -(-resident // per_set))
        self.step = min(len(self.sets) - self.active, -(-(size - resident) // per_set))
        self.start, self.end_of_prefetch = 0, -1
        first = min(-(-resident // bandwidth), -(-len(matrix) * len(matrix[0]) // bandwidth))
        self.fetch = -(-(size - resident) // bandwidth)
        self.bandwidth, self.words, self.first = bandwidth, first * bandwidth, -first

    def stall(self, line: Line, cycle: int) -> int:
        offset = 1
        for word in line:
            while not any(word in self.sets[(self.start + k) % len(self.sets)] for k in range(self.active)):
                self.start += self.step
                self.words += self.fetch * self.bandwidth
                self.end_of_prefetch += self.fetch + 1
                late = self.end_of_prefetch - (cycle + offset)
                offset += late + max(late, 0)
        return offset - 1


class Flush:
    """A read buffer without a limit on the bandwidth."""

    def __init__(self, size: int) -> None:
        self.capacity, self.held, self.words = 50 * (size // 100), set[Word](), 0

    def stall(self, line: Line, cycle: int) -> int:
        for word in line:
            if word not in self.held:
                self.held.add(word)
                self.words += 1
                if len(self.held) == self.capacity:
                    self.held = set()
        return 0


class Writes:
    """The write buffer; a DRAM line is a list of words, None where one is missing."""

    def __init__(self, size: int, bandwidth: int) -> None:
        self.size, self.bandwidth = size, bandwidth
        self.half = size // 2
        self.free, self.end, self.words, self.last = size, 0, 0, -1
        self.lines: list[list[Word | None]] = []
        self.open: list[Word | None] = []

    def close(self) -> None:
        if self.open:
            self.lines.append(self.open + [None] * (self.bandwidth - len(self.open)))
            self.open = []

    def drain(self, cycle: int) -> None:
        n = -(-self.half // self.bandwidth)
        drained, self.lines = self.lines[:n], self.lines[n:]
        words = len(drained) * self.bandwidth - drained[-1].count(None)
        self.words, self.free, self.end = self.words + words, self.free + words, cycle + len(drained) - 1
        self.last = max(self.last, self.end)

    def store(self, line: Line, cycle: int) -> int:
        for word in line:
            self.open.append(word)
            self.free -= 1
            if len(self.open) == self.bandwidth:
                self.close()
            if cycle < self.end:
                cycle = self.end if self.free <= 0 else cycle
            elif self.free < self.size - self.half:
                self.close()
                self.drain(cycle)
        return cycle

    def empty(self, cycle: int) -> None:
        self.close()
        while self.lines:
            self.drain(cycle)
            cycle = self.end + 1


def simulate(case: Case) -> dict[str, int]:
    """Cycles, stalls, DRAM words, and the SRAM streams' first and last cycles."""
    lines, inputs, weights = streams(case)
    buffers: tuple[Window | Flush, Window | Flush] = Flush(case.ifmap), Flush(case.filter)
    if case.bandwidth:
        buffers = (
            Window(inputs, case.dataflow != "is", case.ifmap, case.bandwidth),
            Window(weights, case.dataflow != "ws", case.filter, case.bandwidth),
        )
    writes = Writes(case.ofmap, case.bandwidth or case.columns)
    stalls, last, result = 0, 0, dict[str, int]()
    for i, line in enumerate(lines):
        cycle = i + stalls
        late = [buffer.stall(words, cycle) for buffer, words in zip(buffers, line, strict=False)]
        last = writes.store(line[2], cycle)
        for name, words, at in zip(
            ("ifmap", "filter", "ofmap"), line, (cycle + late[0] + 1, cycle + late[1] + 1, last), strict=True
        ):
            if words:
                result.setdefault(f"sram_{name}_start", at)
                result[f"sram_{name}_stop"] = at
        stalls += max(*late, last - cycle)
    writes.empty(last)
    return result | {
        "total_cycles": last, "stall_cycles": stalls, "dram_ofmap_stop": writes.last,
        "dram_ifmap_reads": buffers[0].words, "dram_filter_reads": buffers[1].words, "dram_ofmap_writes": writes.words,
    }  # fmt: skip
