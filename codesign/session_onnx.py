"""Opens ONNX files in onnxruntime the one way that measuring, exporting and verifying share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from onnxruntime.capi import onnxruntime_pybind11_state as _state

from codesign.errors import InputError
from codesign.shapes import GivenShape, resolve_shapes

Array = NDArray[np.generic]
Shape = tuple[int | str, ...]

RUNTIME_VERSION: str = onnxruntime.__version__

_RUNTIME_ERRORS: tuple[type[Exception], ...] = (
    ValueError,
    RuntimeError,
    *(each for each in vars(_state).values() if isinstance(each, type) and issubclass(each, Exception)),
)
"""Everything onnxruntime raises: its own errors share no base class."""

LEVELS: dict[str, object] = {
    "ORT_DISABLE_ALL": onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL,
    "ORT_ENABLE_ALL": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL,
}
"""onnxruntime's lowest and highest optimiser level."""

_DTYPES: dict[str, type[np.generic]] = {
    "tensor(float)": np.float32, "tensor(double)": np.float64, "tensor(float16)": np.float16,
    "tensor(uint8)": np.uint8, "tensor(int8)": np.int8, "tensor(uint16)": np.uint16, "tensor(int16)": np.int16,
    "tensor(uint32)": np.uint32, "tensor(int32)": np.int32, "tensor(uint64)": np.uint64, "tensor(int64)": np.int64,
    "tensor(bool)": np.bool_,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Port:
    """An input or output of a session.

    Attributes:
        name: as the file says.
        dtype: NumPy's name of the element type.
        shape: a size per axis, or its name where the size is free ("" if it has none).
    """

    name: str
    dtype: str
    shape: Shape


class Session:
    """An open model on onnxruntime's CPU provider."""

    def __init__(self, session: object, inputs: tuple[Port, ...], outputs: tuple[Port, ...]) -> None:
        self._session = session
        self.inputs = inputs
        self.outputs = outputs

    def run(self, feeds: Mapping[str, Array]) -> list[Array]:
        """The outputs for the given inputs, in the order of `outputs`.

        Raises:
            InputError: onnxruntime fails on these inputs.
        """
        try:
            outputs: list[Array] = self._session.run(None, feeds)  # type: ignore[attr-defined]
        except _RUNTIME_ERRORS as error:
            shapes = ", ".join(str(fed.shape) for fed in feeds.values())
            raise InputError(f"onnxruntime cannot run the model on inputs of shape {shapes}: {error}") from error
        return outputs


def open_session(model: bytes | Path, *, threads: int = 1, level: str = "ORT_ENABLE_ALL") -> Session:
    """Open a model with pinned threads and without busy waiting, which would disturb whatever runs beside it.

    Args:
        model: the bytes of an ONNX file, or its path (needed where its weights lie in a second file).
        threads: threads within an op; ops always run one after another.
        level: a name of `LEVELS`.

    Raises:
        InputError: the file is missing, is not an ONNX model, or onnxruntime cannot run it.
    """
    name = str(model) if isinstance(model, Path) else f"the model ({len(model)} bytes)"
    if isinstance(model, Path) and not model.is_file():
        raise InputError(f"{model}: there is no such file")
    options = _options(threads, level)
    source = str(model) if isinstance(model, Path) else model
    try:
        # The fallback would print, and there is no other provider to fall back to.
        session = onnxruntime.InferenceSession(
            source, options, providers=["CPUExecutionProvider"], enable_fallback=False
        )
    except _RUNTIME_ERRORS as error:
        raise InputError(f"{name}: onnxruntime {RUNTIME_VERSION} cannot open it as an ONNX model: {error}") from error
    ports = [
        tuple(Port(port.name, _dtype_name(port.type), _shape(port.shape)) for port in side)
        for side in (session.get_inputs(), session.get_outputs())
    ]
    return Session(session, ports[0], ports[1])


def optimised(model: bytes) -> bytes:
    """The model as onnxruntime runs it on this machine: fused, folded, in its own layouts. It runs on no other.

    Raises:
        InputError: onnxruntime cannot open it.
    """
    options = _options(1, "ORT_ENABLE_ALL")
    with TemporaryDirectory() as folder:
        path = Path(folder) / "optimised.onnx"
        options.optimized_model_filepath = str(path)
        try:
            onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"], enable_fallback=False)
        except _RUNTIME_ERRORS as error:
            raise InputError(f"onnxruntime {RUNTIME_VERSION} cannot open the model: {error}") from error
        return path.read_bytes()


def _options(threads: int, level: str) -> onnxruntime.SessionOptions:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = LEVELS[level]
    options.log_severity_level = 4  # the error is raised; it need not be printed as well
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    return options


def _dtype_name(onnx_type: str) -> str:
    return np.dtype(_DTYPES[onnx_type]).name if onnx_type in _DTYPES else onnx_type


def _shape(dimensions: Sequence[int | str | None] | None) -> Shape:
    return tuple("" if size is None else size for size in dimensions or ())


def random_inputs(session: Session, batch: int, rng: np.random.Generator, shape: GivenShape = None) -> dict[str, Array]:
    """Inputs a model accepts: uniform in 0..1 for floats, 0 or 1 for integers, so that they can be indices.

    Args:
        session: an open model.
        batch: the size of a free first axis.
        rng: draws the values.
        shape: whole shapes, where more than the first axis is free.

    Raises:
        InputError: another axis is free, a fixed axis contradicts what was asked for, or an input holds no numbers.
    """
    feeds: dict[str, Array] = {}
    shapes = resolve_shapes({port.name: port.shape for port in session.inputs}, shape, batch=batch)
    for port in session.inputs:
        if port.dtype.startswith("float"):
            feeds[port.name] = rng.random(shapes[port.name]).astype(port.dtype)
        elif port.dtype.startswith(("int", "uint", "bool")):
            feeds[port.name] = rng.integers(0, 2, size=shapes[port.name]).astype(port.dtype)
        else:
            raise InputError(f"input {port.name!r} is a {port.dtype}; only tensors of numbers can be made up")
    return feeds
