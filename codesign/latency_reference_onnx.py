"""Tells how fast the machine is at a moment: a small fixed model that is timed before and after what is measured.

Slow spells (a lower clock, a neighbour on the same physical core, caches that others fill) slow down the time on the
core as well, by a third and more and for longer than a model is open, and the system counts nothing of it. The fixed
model is slower meanwhile too. By how much differs from model to model, so times are not divided by it: what was read
while it ran clearly slower than it can is read again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from codesign.session_onnx import Array, Session, open_session

_CHANNELS, _PIXELS, _LAYERS = 16, 16, 2
"""Two convolutions, each followed by a ReLU: 30 microseconds, and too little memory to displace a model's weights."""
_FIRST = 100
_KEPT = 20_000
_QUICKEST_SHARE = 0.05
"""Of the times, the one that counts as what the machine can do: a single quick one may be an error of the clock."""
_SLACK = 1.1


class Reference:
    """A small model and the times it took so far.

    Args:
        clock_ns: what is read before and after it, in nanoseconds.
    """

    def __init__(self, clock_ns: Callable[[], int]) -> None:
        self._clock_ns = clock_ns
        self._session: Session = open_session(reference_model())
        shape = (1, _CHANNELS, _PIXELS, _PIXELS)
        self._feeds: dict[str, Array] = {"x": np.random.default_rng(0).random(shape).astype(np.float32)}
        self._taken_ms: deque[float] = deque(maxlen=_KEPT)
        self.limit_ms = np.inf
        for _ in range(_FIRST):
            self.read()
        self.settle()

    def read(self) -> float:
        """Milliseconds it takes now: the quicker of two runs, after one that fetches it into the caches."""
        run, feeds, clock_ns = self._session.run, self._feeds, self._clock_ns
        run(feeds)
        first_ns = clock_ns()
        run(feeds)
        second_ns = clock_ns()
        run(feeds)
        ms = min(second_ns - first_ns, clock_ns() - second_ns) / 1e6
        self._taken_ms.append(ms)
        return ms

    def settle(self) -> None:
        """Learn from the times so far from which one on the machine counts as slow: `limit_ms`."""
        self.limit_ms = _SLACK * float(np.quantile(np.array(self._taken_ms), _QUICKEST_SHARE))


def reference_model() -> bytes:
    """The fixed model as ONNX."""
    rng = np.random.default_rng(0)
    nodes, weights, last = [], [], "x"
    for layer in range(_LAYERS):
        kernel = rng.normal(scale=0.1, size=(_CHANNELS, _CHANNELS, 3, 3)).astype(np.float32)
        weights.append(numpy_helper.from_array(kernel, f"w{layer}"))
        nodes.append(helper.make_node("Conv", [last, f"w{layer}"], [f"c{layer}"], pads=[1, 1, 1, 1]))
        last = f"y{layer}"
        nodes.append(helper.make_node("Relu", [f"c{layer}"], [last]))
    shape = [1, _CHANNELS, _PIXELS, _PIXELS]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in ("x", last)]
    graph = helper.make_graph(nodes, "reference", ends[:1], ends[1:], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString())
