"""One network, three witnesses: the op table, the torch module, and the exported file count the same."""

from __future__ import annotations

import numpy as np
import pytest
from torch import nn

from codesign.convert_torch_onnx import to_onnx
from codesign.profile_torch import hooked_macs
from codesign.read_onnx import read_ops
from search_spaces.nasnet import NasNet
from search_spaces.ops import total_macs, total_params

pytestmark = [pytest.mark.torch, pytest.mark.slow]


@pytest.mark.parametrize(
    ("blocks", "cells", "skip", "shape"),
    [(1, 1, False, (1, 9, 9)), (2, 2, True, (3, 16, 16)), (3, 1, False, (1, 8, 8))],
)
def test_ops_module_and_file_agree_also_where_inputs_are_not_read(
    blocks: int, cells: int, skip: bool, shape: tuple[int, int, int]
) -> None:
    """An exporter drops what reaches no output: unread projections, cells that nothing reads. So must the op table."""
    space = NasNet(image_shape=shape, classes=3, blocks=blocks, cells=cells, channels=(2, 4), skip_reduction_input=skip)
    codes = space.sample(12, np.random.default_rng(blocks))
    table = space.ops(codes)
    n_unread = 0
    for i, code in enumerate(codes):
        module = space.build(code)
        assert isinstance(module, nn.Module)
        found = read_ops(to_onnx(module, shape))
        assert found.table.macs().sum() == hooked_macs(module, shape).macs == total_macs(table)[i]
        params = sum(parameter.numel() for parameter in module.parameters())
        assert found.total_params == params == total_params(table)[i]
        genotype = space.genotype(code)
        n_unread += sum(not cell.reads(state) for cell in (genotype.normal, genotype.reduction) for state in (0, 1))
    assert n_unread > 0
