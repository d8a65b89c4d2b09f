"""Counts MACs of torch modules in three independent ways, to check the analytic ones of `search_spaces.ops`.

The three differ by design: hooks see modules alone; fvcore reads a traced graph and also charges batch norm (2 per
element in evaluation), other norms and adaptive pools; torch's own counter reads the dispatched operators and gives 2
per MAC, which is halved here. None of them charges fused attention on a CPU. What a count leaves out it names.
"""

from __future__ import annotations

import math
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode, flop_registry

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_MULTIPLYING = frozenset({"conv", "linear", "matmul", "attention"})
_TORCH_NAMES = {"convolution": "conv", "_convolution": "conv", "mm": "linear", "addmm": "linear", "bmm": "matmul"}
_FVCORE_NAMES = {"addmm": "linear", "bmm": "matmul", "einsum": "matmul"}
_MEMORY_ONLY = frozenset(
    {"clone", "copy_", "_to_copy", "_unsafe_view", "detach", "lift_fresh", "constant_pad_nd"}
    | {"empty", "empty_like", "empty_strided", "new_empty", "zeros", "new_zeros", "ones", "full", "arange"}
)


@dataclass(frozen=True, slots=True)
class MacCount:
    """What one tool counted for one image.

    Attributes:
        by_operator: the tool's charge by operator: MACs for "conv", "linear", "matmul" and "attention", the tool's own
            unit for others, such as fvcore's "batch_norm".
        uncounted: operators that ran and were charged nothing, with how often; views and copies are left out.
    """

    by_operator: Mapping[str, int]
    uncounted: Mapping[str, int]

    @property
    def macs(self) -> int:
        """Multiply-accumulates of convolutions, linear layers and matrix products."""
        return sum(count for name, count in self.by_operator.items() if name in _MULTIPLYING)

    @property
    def total(self) -> int:
        """Everything that the tool charged."""
        return sum(self.by_operator.values())


def hooked_macs(module: nn.Module, image_shape: Sequence[int]) -> MacCount:
    """MACs of the convolution and linear modules that run in evaluation mode, from the shapes that they see.

    Args:
        module: takes (1, *image_shape); may lie on the meta device.
        image_shape: channels, height, width.

    Returns:
        The count; `uncounted` holds the operators that ran outside those modules.
    """
    counted: Counter[str] = Counter()
    seen = _Seen()

    def before(_: nn.Module, __: object) -> None:
        seen.depth += 1

    def after(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        seen.depth -= 1
        name = "linear" if isinstance(layer, nn.Linear) else "conv"
        counted[name] += _module_macs(layer, inputs[0], output)

    layers = [layer for layer in module.modules() if isinstance(layer, (*_CONVOLUTIONS, *_TRANSPOSED, nn.Linear))]
    handles = [layer.register_forward_pre_hook(before) for layer in layers]
    handles += [layer.register_forward_hook(after) for layer in layers]
    try:
        with _evaluation(module), seen:
            module(_image(module, image_shape))
    finally:
        for handle in handles:
            handle.remove()
    return MacCount(dict(counted), dict(seen.outside))


def fvcore_macs(module: nn.Module, image_shape: Sequence[int]) -> MacCount:
    """fvcore's count in evaluation mode; its `total` also charges norms (2 per element) and adaptive pools.

    Args:
        module: takes (1, *image_shape).
        image_shape: channels, height, width.
    """
    with _evaluation(module), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # fvcore scripts a function on import and traces: both are deprecated in torch
        from fvcore.nn import FlopCountAnalysis

        analysis = FlopCountAnalysis(module, _image(module, image_shape))
        analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
        by_operator: Counter[str] = Counter()
        for name, count in analysis.by_operator().items():
            by_operator[_FVCORE_NAMES.get(name, name)] += int(count)
        uncounted = {name.removeprefix("aten::"): int(count) for name, count in analysis.unsupported_ops().items()}
    return MacCount(dict(by_operator), uncounted)


def torch_macs(module: nn.Module, image_shape: Sequence[int]) -> MacCount:
    """Half of what `torch.utils.flop_counter` counts in evaluation mode.

    Args:
        module: takes (1, *image_shape); may lie on the meta device.
        image_shape: channels, height, width.
    """
    counter, seen = FlopCounterMode(display=False), _Seen()
    with _evaluation(module), counter, seen:
        module(_image(module, image_shape))
    by_operator: Counter[str] = Counter()
    for operator, flops in counter.get_flop_counts().get("Global", {}).items():
        name = str(operator).removeprefix("aten.")
        by_operator["attention" if "attention" in name else _TORCH_NAMES.get(name, name)] += flops // 2
    known = {str(operator).removeprefix("aten.") for operator in flop_registry}
    return MacCount(dict(by_operator), {name: count for name, count in seen.outside.items() if name not in known})


def used_params(module: nn.Module, image_shape: Sequence[int]) -> int:
    """Trainable parameters that an inference reads: a head that only training uses is not among them.

    Args:
        module: takes (1, *image_shape); may lie on the meta device.
        image_shape: channels, height, width.
    """
    seen = _Seen()
    with _evaluation(module), seen:
        module(_image(module, image_shape))
    return sum(p.numel() for p in module.parameters() if p.requires_grad and id(p) in seen.tensors)


class _Seen(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Records which operators run while `depth` is 0, and which tensors any operator reads."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.depth = 0
        self.outside: Counter[str] = Counter()
        self.tensors: set[int] = set()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        name = str(func.overloadpacket).removeprefix("aten.")
        if self.depth == 0 and not func.is_view and name not in _MEMORY_ONLY:
            self.outside[name] += 1
        self.tensors.update(id(leaf) for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, nn.Parameter))
        return func(*args, **(kwargs or {}))


def _module_macs(layer: nn.Module, image: Tensor, output: Tensor) -> int:
    if isinstance(layer, nn.Linear):
        return output.numel() * layer.in_features
    if isinstance(layer, _TRANSPOSED):
        return image.numel() * layer.out_channels // layer.groups * math.prod(layer.kernel_size)
    assert isinstance(layer, _CONVOLUTIONS)
    return output.numel() * layer.in_channels // layer.groups * math.prod(layer.kernel_size)


def _image(module: nn.Module, image_shape: Sequence[int]) -> Tensor:
    """One image of zeros where the module's parameters are."""
    like = next(module.parameters(), torch.empty(0))
    return torch.zeros((1, *image_shape), dtype=like.dtype, device=like.device)


@contextmanager
def _evaluation(module: nn.Module) -> Iterator[None]:
    """Evaluation mode without gradients; afterwards every part is in the mode it was in."""
    modes = {part: part.training for part in module.modules()}
    module.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for part, is_training in modes.items():
            part.training = is_training
