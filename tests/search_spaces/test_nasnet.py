"""The NASNet space and its ops, against published figures."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codesign.testing.spaces import check_space
from search_spaces.nasnet import NasNet
from search_spaces.nasnet_cell import OPERATIONS, Block, Cell, NasNetGenotype
from search_spaces.nasnet_published import ARCHITECTURES, NASNET_A_NORMAL, NASNET_A_REDUCTION, named
from search_spaces.ops import OpKind, OpTable, total_macs, total_params

DIGITS = NasNet(image_shape=(1, 8, 8), classes=10, blocks=3, cells=(1, 2), channels=(4, 8))
CIFAR = NasNet(image_shape=(3, 32, 32), classes=10)

# trainable parameters, parameters with batch-norm statistics, MACs, parameters of the auxiliary head
PUBLISHED = {
    "nasnet-a-cifar": (3_346_538, 3_383_786, 544_333_312, 1_631_498),
    "nasnet-a-mobile": (5_289_978, 5_326_716, 563_638_816, 2_411_240),
    "nasnet-a-large": (88_753_150, 88_949_818, 23_783_414_658, 4_567_784),
}

# height, width, channels after the stem, stage 0, reduction 0, stage 1, reduction 1, stage 2 (TF-slim's own tests)
STAGE_SHAPES = {
    "nasnet-a-cifar": [(32, 96), (32, 192), (16, 256), (16, 384), (8, 512), (8, 768)],
    "nasnet-a-mobile": [(28, 88), (28, 264), (14, 352), (14, 528), (7, 704), (7, 1056)],
    "nasnet-a-large": [(42, 336), (42, 1008), (21, 1344), (21, 2016), (11, 2688), (11, 4032)],
}


def output_of(table: OpTable, label: str) -> tuple[int, int, int]:
    """Height, width and channels of the last op of that label."""
    row = np.flatnonzero(table.label == table.labels.index(label))[-1]
    return int(table.out_height[row]), int(table.out_width[row]), int(table.out_channels[row])


@pytest.mark.parametrize("name", list(PUBLISHED))
def test_ops_of_nasnet_a_hold_the_published_counts_to_the_unit(name: str) -> None:
    architecture = named(name)
    table = architecture.space.architecture_ops(architecture.genotype)
    auxiliary = architecture.space.architecture_auxiliary_ops(architecture.genotype)
    statistics = 2 * int(table.out_channels[table.kind == OpKind.NORM].sum())
    params = int(total_params(table)[0])
    found = (params, params + statistics, int(total_macs(table)[0]), int(total_params(auxiliary)[0]))
    assert found == PUBLISHED[name]


@pytest.mark.parametrize(("channels", "params", "macs"), [(32, 1_294_698, 232.19), (16, 363_194, 65.76)])
def test_ops_of_the_search_proxy_hold_the_known_counts(channels: int, params: int, macs: float) -> None:
    genotype = NasNetGenotype(NASNET_A_NORMAL, NASNET_A_REDUCTION, 2, channels)
    table = CIFAR.architecture_ops(genotype)
    assert total_params(table)[0] == params
    assert round(total_macs(table)[0] / 1e6, 2) == macs


@pytest.mark.parametrize("name", list(STAGE_SHAPES))
def test_stages_of_nasnet_a_have_the_shapes_of_tf_slim(name: str) -> None:
    architecture = named(name)
    table = architecture.space.architecture_ops(architecture.genotype)
    last = architecture.genotype.cells - 1
    stem = "stem" if architecture.space.stem == "cifar" else "stem cell 1, output"
    labels = [stem, f"stage 0 cell {last}, output", "reduction 0, output", f"stage 1 cell {last}, output"]
    labels += ["reduction 1, output", f"stage 2 cell {last}, output"]
    expected = [(side, side, channels) for side, channels in STAGE_SHAPES[name]]
    assert [output_of(table, label) for label in labels] == expected


def test_size_is_the_papers_count_and_a_uniform_controller_has_its_entropy() -> None:
    per_cell = 2_286_906_949_584_691_200
    assert NasNet(image_shape=(3, 32, 32), classes=10, blocks=5).size == per_cell**2
    assert NasNet(image_shape=(3, 32, 32), classes=10, cells=(1, 2, 3), channels=(8, 16)).size == 6 * per_cell**2
    assert np.log(CIFAR.n_options).sum() == pytest.approx(84.55, abs=0.005)


def test_choices_come_in_the_papers_order_normal_cell_first() -> None:
    names = [choice.name for choice in DIGITS.choices]
    assert names[:5] == ["normal 0 left", "normal 0 right", "normal 0 left op", "normal 0 right op", "normal 0 combine"]
    assert names[15] == "reduction 0 left"
    assert names[-2:] == ["cells", "channels"]
    assert [len(choice.options) for choice in DIGITS.choices] == [
        *(n for _ in range(2) for b in range(3) for n in (2 + b, 2 + b, 13, 13, 2)), 2, 2,
    ]  # fmt: skip


@pytest.mark.parametrize(
    "space",
    [
        DIGITS,
        replace(DIGITS, cells=1, channels=5, blocks=1, operations=("identity", "maxpool3x3")),
        replace(DIGITS, image_shape=(3, 19, 23), stem="imagenet", skip_reduction_input=True, cells=(3, 1, 2)),
        replace(CIFAR, auxiliary=True, stem_multiplier=0.5),
    ],
)
def test_the_space_keeps_the_promises_of_a_network_space(space: NasNet) -> None:
    check_space(space, np.random.default_rng(0), n=24)


def test_canonical_merges_networks_with_equal_cells_only_if_cells_and_channels_are_equal() -> None:
    code = DIGITS.sample(1, np.random.default_rng(0))[0]
    swapped = code.copy()
    swapped[[0, 1, 2, 3]] = code[[1, 0, 3, 2]]
    wider = code.copy()
    wider[-1] = 1 - code[-1]
    rows = DIGITS.canonical(np.stack([code, swapped, wider]))
    assert np.array_equal(rows[0], rows[1])
    assert not np.array_equal(rows[0], rows[2])


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**32 - 1))
def test_macs_grow_with_channels_and_cells(seed: int) -> None:
    code = DIGITS.sample(1, np.random.default_rng(seed))[0]
    variants = np.repeat(code[None], 4, axis=0)
    variants[:, -2:] = [(0, 0), (0, 1), (1, 0), (1, 1)]
    table = DIGITS.ops(variants)
    for total in (total_macs(table), total_params(table)):
        assert total[0] < total[1] < total[3]
        assert total[0] < total[2] < total[3]


def test_ops_of_a_cell_worked_out_by_hand() -> None:
    """One block, identity(0) ++ maxpool3x3(1), N = 1, F = 4, image 1 x 8 x 8, 10 classes."""
    cell = Cell.of([Block(0, 1, "identity", "maxpool3x3", "concat")])
    space = NasNet(image_shape=(1, 8, 8), classes=10, blocks=1, cells=1, channels=4)
    table = space.architecture_ops(NasNetGenotype(cell, cell, 1, 4))
    found = [
        (str(row["label"]), str(row["kind"]), row["in_channels"], row["out_channels"], row["in_height"], row["stride"])
        for row in table.rows()
    ]
    assert found[:13] == [
        ("stem", "conv", 1, 12, 8, 1),
        ("stem", "norm", 12, 12, 8, 1),
        # state 1 of the first cell is the stem's output as it is: the pool's result must be brought to 4 channels
        ("stage 0 cell 0, input", "activation", 12, 12, 8, 1),
        ("stage 0 cell 0, input", "conv", 12, 4, 8, 1),
        ("stage 0 cell 0, input", "norm", 4, 4, 8, 1),
        ("stage 0 cell 0, block 0, right: maxpool3x3", "max_pool", 12, 12, 8, 1),
        ("stage 0 cell 0, block 0, right: maxpool3x3", "conv", 12, 4, 8, 1),
        ("stage 0 cell 0, block 0, right: maxpool3x3", "norm", 4, 4, 8, 1),
        ("stage 0 cell 0, block 0, combine", "concat", 8, 8, 8, 1),
        # reduction 0: F = 8; state 1 is the stem's output, 12 channels to 8
        ("reduction 0, previous", "activation", 12, 12, 8, 1),
        ("reduction 0, previous", "conv", 12, 8, 8, 1),
        ("reduction 0, previous", "norm", 8, 8, 8, 1),
        ("reduction 0, input", "activation", 8, 8, 8, 1),
    ]
    assert found[15:20] == [
        # an identity that must halve the size is a strided 1x1 convolution
        ("reduction 0, block 0, left: identity", "activation", 8, 8, 8, 1),
        ("reduction 0, block 0, left: identity", "conv", 8, 8, 8, 2),
        ("reduction 0, block 0, left: identity", "norm", 8, 8, 4, 1),
        ("reduction 0, block 0, right: maxpool3x3", "max_pool", 8, 8, 8, 2),
        ("reduction 0, block 0, combine", "concat", 16, 16, 4, 1),
    ]
    # the cell after a reduction reads the output from before it through a factorised reduction
    assert [row[1:3] for row in found[20:27]] == [
        ("activation", 8), ("subsample", 8), ("conv", 8), ("subsample", 8), ("conv", 8), ("concat", 8), ("norm", 8),
    ]  # fmt: skip
    assert found[-3:] == [
        ("head", "activation", 32, 32, 2, 1),
        ("head", "global_pool", 32, 32, 2, 1),
        ("head", "linear", 32, 10, 1, 1),
    ]


def test_a_state_that_several_operations_rectify_has_one_relu() -> None:
    cell = Cell.of([Block(0, 0, "conv1x1", "conv3x3"), Block(0, 2, "sep3x3", "maxpool3x3")])
    table = CIFAR.architecture_ops(NasNetGenotype(cell, cell, 1, 4))
    at = [table.labels[label] for label in table.label[table.kind == OpKind.ACTIVATION]]
    assert [label for label in at if label.startswith("stage 0")] == [
        "stage 0 cell 0, input",
        "stage 0 cell 0, block 0, left: conv1x1",
        "stage 0 cell 0, block 1, left: sep3x3",  # the one between the two separable convolutions
    ]


def test_skip_reduction_input_reads_the_output_from_before_the_reductions_input() -> None:
    genotype = NasNetGenotype(NASNET_A_NORMAL, NASNET_A_REDUCTION, 1, 4)
    plain = CIFAR.architecture_ops(genotype)
    skipping = replace(CIFAR, skip_reduction_input=True).architecture_ops(genotype)

    def read(table: OpTable) -> int:
        row = np.flatnonzero(table.label == table.labels.index("stage 1 cell 0, previous"))[0]
        return int(table.in_channels[row])

    assert read(plain) == 6 * 4  # the normal cell of stage 0
    assert read(skipping) == 3 * 4  # the stem


def test_encode_refuses_what_the_space_does_not_hold() -> None:
    with pytest.raises(ValueError, match=r"normal\.outputs: \[1, 2, 3, 4, 5, 6\] cannot be expressed"):
        CIFAR.encode_genotype(NasNetGenotype(NASNET_A_NORMAL, NASNET_A_REDUCTION, 2, 16))
    cells = (Cell.of(NASNET_A_NORMAL.blocks), Cell.of(NASNET_A_REDUCTION.blocks))
    good = NasNetGenotype(*cells, 2, 16)
    assert CIFAR.genotype(CIFAR.encode_genotype(good)) == good
    with pytest.raises(ValueError, match="cells: 3 is not one of 2"):
        CIFAR.encode_genotype(replace(good, cells=3))
    with pytest.raises(ValueError, match="channels: 3 is not one of 16"):
        CIFAR.encode_genotype(replace(good, channels=3))
    with pytest.raises(ValueError, match="there are 5, the space's cells have 4"):
        replace(CIFAR, blocks=4).encode_genotype(good)
    with pytest.raises(ValueError, match=r"normal\.blocks\[0\]\.left_op: 'sep5x5' is not one of identity, sep3x3"):
        replace(CIFAR, operations=("identity", "sep3x3")).encode_genotype(good)
    with pytest.raises(ValueError, match="normal: 3 is not a mapping"):
        CIFAR.encode({"normal": 3, "reduction": {}, "cells": 2, "channels": 16})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"blocks": 0}, "blocks: 0 is not allowed; use 1..10"),
        ({"blocks": 11}, "blocks: 11 is not allowed"),
        ({"cells": 0}, "cells: 0 is not allowed"),
        ({"cells": ()}, r"cells: \(\) is not allowed"),
        ({"channels": (8, 8)}, r"channels: \(8, 8\) is not allowed"),
        ({"channels": -1}, "channels: -1 is not allowed"),
        ({"operations": ()}, "operations: none given"),
        ({"operations": ("identity", "identity")}, "names one twice"),
        ({"operations": ("sep3x3", "maxpol3x3")}, "did you mean 'maxpool3x3'"),
        ({"stem": "imagnet"}, "did you mean 'imagenet'"),
        ({"stem": "imagenet", "channels": 6, "image_shape": (3, 64, 64)}, "channels: 6 is not allowed"),
        ({"stem_multiplier": 0.0}, "stem_multiplier: 0.0 is not allowed"),
        ({"stem_multiplier": 0.01}, "stem_multiplier: 0.01 leaves the stem without filters"),
        ({"drop_path_keep": 0.0}, "drop_path_keep: 0.0 is not allowed"),
        ({"dropout_keep": 1.5}, "dropout_keep: 1.5 is not allowed"),
        ({"dropout_keep": math.nan}, "dropout_keep: nan is not allowed"),
        ({"classes": 0}, "classes: 0 is not allowed"),
        ({"image_shape": (0, 8, 8)}, "image_shape: .* is not allowed"),
        ({"image_shape": (1, 8, 8), "auxiliary": True}, "auxiliary: .* images of 8 x 8 leave it 4 x 4; use false"),
        ({"image_shape": (3, 2, 2), "stem": "imagenet"}, "image_shape: 2 x 2 pixels are too few"),
    ],
)
def test_a_wrong_option_is_refused_with_key_value_and_what_is_allowed(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(CIFAR, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(("stem", "least"), [("cifar", 3), ("imagenet", 19)])
@pytest.mark.parametrize("axis", [1, 2])
def test_the_least_image_side_from_both_sides(stem: str, least: int, axis: int) -> None:
    shape = [3, 64, 64]
    shape[axis] = least
    assert total_macs(space_for(shape, stem).ops(space_for(shape, stem).sample(1, np.random.default_rng(0))))[0] > 0
    shape[axis] = least - 1
    with pytest.raises(ValueError, match=rf"too few.*\(the {stem} stem needs at least {least}\)"):
        space_for(shape, stem)


def space_for(shape: list[int], stem: str) -> NasNet:
    return NasNet(image_shape=(shape[0], shape[1], shape[2]), classes=2, stem=stem)  # type: ignore[arg-type]


def test_the_auxiliary_head_from_both_sides() -> None:
    code = CIFAR.sample(1, np.random.default_rng(0))
    least = replace(CIFAR, image_shape=(3, 9, 10), auxiliary=True)  # 5 x 5 before the last reduction
    assert total_params(least.auxiliary_ops(code))[0] > 0
    with pytest.raises(ValueError, match="auxiliary"):
        replace(least, image_shape=(3, 8, 10))
    with pytest.raises(ValueError, match="this space has no auxiliary head"):
        CIFAR.auxiliary_ops(code)


def test_the_auxiliary_head_is_no_part_of_inference() -> None:
    code = CIFAR.sample(1, np.random.default_rng(0))
    assert total_params(CIFAR.ops(code)) == total_params(replace(CIFAR, auxiliary=True).ops(code))


def test_codes_out_of_range_are_refused_by_name() -> None:
    codes = CIFAR.sample(2, np.random.default_rng(0))
    codes[1, 2] = 13
    for method in (CIFAR.ops, CIFAR.canonical):
        with pytest.raises(ValueError, match=r"row 1: normal 0 left op: 13 is not one of 0\.\.12"):
            method(codes)
    with pytest.raises(ValueError, match="not one of 0"):
        CIFAR.decode(codes[1])


def test_named_refuses_an_unknown_name() -> None:
    assert set(ARCHITECTURES) == set(PUBLISHED)
    with pytest.raises(ValueError, match="did you mean 'nasnet-a-mobile'"):
        named("nasnet-a-mobil")


def test_every_operation_may_be_chosen() -> None:
    codes = CIFAR.sample(200, np.random.default_rng(0))
    assert {str(b["left_op"]) for code in codes for b in CIFAR.decode(code)["normal"]["blocks"]} == set(OPERATIONS)  # type: ignore[index]


def test_the_quick_way_to_decode_gives_what_the_genotype_says() -> None:
    space = NasNet(image_shape=(3, 32, 32), classes=10, blocks=4, cells=(1, 2), channels=(4, 8))
    for code in space.sample(300, np.random.default_rng(0)):
        decoded = space.decode(code)
        assert decoded == space.genotype(code).to_dict()
        decoded["normal"]["blocks"][0]["left"] = 99  # type: ignore[index]
        assert space.decode(code) == space.genotype(code).to_dict(), "a caller's change reached the cache"
