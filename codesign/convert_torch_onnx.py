"""Turns a torch network into the bytes of an ONNX file: the one conversion behind measuring and exporting.

Two of torch's exporters are known. The tracing one takes some 30 ms for a small network, so that candidates can be
measured in onnxruntime during a search; the one built on `torch.export` takes seconds and serves where torch no longer
has the first, or where that does not know an operator. Neither folds anything: batch norms stay separate and weights
untransposed, so the file holds the network's own parameters. onnxruntime folds both when it loads the file.
"""

from __future__ import annotations

import inspect
import io
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout

import onnx
import torch
from torch import nn

from codesign.errors import TrialError
from codesign.tidy_onnx import serialised, tidy

OPSET = 18
"""The newest operator set that both exporters write natively; runtimes since 2023 read it."""

_TRACED_BATCH = 2  # a batch of 1 would be taken for a constant


def to_onnx(
    network: nn.Module,
    image_shape: tuple[int, int, int],
    *,
    input_name: str = "images",
    output_name: str = "logits",
    opset: int = OPSET,
) -> bytes:
    """The network, in evaluation mode, as an ONNX file.

    Nothing is printed, and every module is left in the mode it was in. Equal networks with equal weights give equal
    bytes.

    Args:
        network: takes float32 images, shape (batch, C, H, W); returns one tensor, first axis batch.
        image_shape: (C, H, W).
        input_name, output_name: names of the model's input and output.
        opset: version of ONNX's operator set.

    Returns:
        A serialised, checked ONNX model; the first axis of its input and output is free and named "batch".

    Raises:
        TrialError: neither exporter can express the network.
    """
    tensors = [*network.parameters(), *network.buffers()]
    device = tensors[0].device if tensors else torch.device("cpu")
    images = torch.zeros(_TRACED_BATCH, *image_shape, device=device)
    with _evaluating(network), _silent(), torch.no_grad():
        try:
            if _has_tracing_exporter():
                model = _traced(network, images, input_name, output_name, opset)
            else:
                model = _exported(network, images, input_name, output_name, opset)
        except torch.onnx.errors.OnnxExporterError as error:
            model = _second_try(network, images, input_name, output_name, opset, error)
    parameters = {name for name, _ in network.named_parameters(remove_duplicate=False)}
    buffers = {name for name, _ in network.named_buffers(remove_duplicate=False)}
    model = tidy(model, parameters, buffers)
    onnx.checker.check_model(model, full_check=True)
    return serialised(model)


def _has_tracing_exporter() -> bool:
    return {"dynamo", "dynamic_axes"} <= set(inspect.signature(torch.onnx.export).parameters)


def _traced(network: nn.Module, images: torch.Tensor, input_name: str, output_name: str, opset: int) -> onnx.ModelProto:
    """By the tracing exporter."""
    file = io.BytesIO()
    torch.onnx.export(
        network,
        (images,),
        file,  # type: ignore[arg-type]
        dynamo=False,
        input_names=[input_name],
        output_names=[output_name],
        dynamic_axes={input_name: {0: "batch"}, output_name: {0: "batch"}},
        opset_version=opset,
        do_constant_folding=False,  # folding would merge batch norms into convolutions
    )
    return onnx.load_from_string(file.getvalue())


def _exported(
    network: nn.Module, images: torch.Tensor, input_name: str, output_name: str, opset: int
) -> onnx.ModelProto:
    """By the exporter built on torch.export."""
    # torch's own requirements do not name onnxscript, and its tracing exporter does without.
    try:
        import onnx_ir.passes.common as passes
        from onnxscript import optimizer
    except ImportError as error:
        raise TrialError(
            "the network cannot be converted to ONNX: torch's newer exporter needs `onnxscript`"
        ) from error
    program = torch.onnx.export(
        network,
        (images,),
        dynamo=True,
        input_names=[input_name],
        output_names=[output_name],
        dynamic_shapes=({0: torch.export.Dim("batch")},),
        opset_version=opset,
        optimize=False,
        verbose=False,
    )
    if program is None:
        raise TrialError("the network cannot be converted to ONNX: torch's exporter returned nothing")
    # `optimize=True` would merge batch norms; without it, values and tensors of one name can clash.
    optimizer.fold_constants(program.model, should_fold=lambda node: False if node.op_type == "Transpose" else None)
    passes.RemoveUnusedNodesPass()(program.model)
    passes.NameFixPass()(program.model)
    model: onnx.ModelProto = program.model_proto
    return model


def _second_try(
    network: nn.Module, images: torch.Tensor, input_name: str, output_name: str, opset: int, first: Exception
) -> onnx.ModelProto:
    """By torch.export, after the exporter tried first has failed with `first`."""
    try:
        return _exported(network, images, input_name, output_name, opset)
    except torch.onnx.errors.OnnxExporterError as error:
        raise TrialError(
            f"the network cannot be converted to ONNX: {_first_line(first)}; {_first_line(error)}"
        ) from error


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]


@contextmanager
def _evaluating(network: nn.Module) -> Iterator[None]:
    """Evaluation mode without the fused attention kernel, which has no ONNX form; each module's own mode returns."""
    modes = [(module, module.training) for module in network.modules()]
    was_fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    network.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode
        torch.backends.mha.set_fastpath_enabled(was_fast)


@contextmanager
def _silent() -> Iterator[None]:
    """No warnings, prints or log lines."""
    before = logging.root.manager.disable
    with warnings.catch_warnings(), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        logging.disable(logging.CRITICAL)
        try:
            yield
        finally:
            logging.disable(before)
