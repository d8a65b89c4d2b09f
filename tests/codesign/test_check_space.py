"""`check_space` passes a sound space and names each broken promise."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import pytest

from codesign.testing.spaces import check_space
from search_spaces.ops import IntArray, OpKind, OpTable, OpTableBuilder
from search_spaces.space import Choice, Genotype, NetworkSpace, SearchSpace


@dataclass(frozen=True)
class Widths(NetworkSpace):
    """One or two linear layers; the second width means nothing where there is one."""

    @property
    def choices(self) -> tuple[Choice, ...]:
        return (Choice("depth", (1, 2)), Choice("first", (4, 8, 16)), Choice("second", (4, 8)), Choice("fixed", (3,)))

    def decode(self, code: IntArray) -> Genotype:
        values = [choice.options[int(i)] for choice, i in zip(self.choices, code, strict=True)]
        return {"widths": values[1 : 1 + int(values[0])]}

    def encode(self, genotype: Mapping[str, object]) -> IntArray:
        widths = genotype["widths"]
        assert isinstance(widths, list)
        second = self.choices[2].options.index(widths[1]) if len(widths) == 2 else 0
        return np.array([len(widths) - 1, self.choices[1].options.index(widths[0]), second, 0], dtype=np.int64)

    def canonical(self, codes: IntArray) -> IntArray:
        result = codes.copy()
        result[result[:, 0] == 0, 2] = 0  # the second width of one layer means nothing
        return result

    def ops(self, codes: IntArray) -> OpTable:
        builder = OpTableBuilder(len(codes))
        first, second = np.array([4, 8, 16])[codes[:, 1]], np.array([4, 8])[codes[:, 2]]
        one = {"in_height": 1, "in_width": 1, "out_height": 1, "out_width": 1}
        builder.add(np.arange(len(codes)), OpKind.LINEAR, "first", in_channels=3, out_channels=first, **one)
        rows = np.flatnonzero(codes[:, 0] == 1)
        widths = {"in_channels": first[rows], "out_channels": second[rows]}
        builder.add(rows, OpKind.LINEAR, "second", **widths, **one)
        return builder.build()

    def build(self, code: IntArray) -> object:
        raise NotImplementedError


class SkewedSize(Widths):
    @property
    def size(self) -> int:
        return 11


class ForgetfulSample(Widths):
    def sample(self, n: int, rng: np.random.Generator) -> IntArray:
        return super().sample(n, np.random.default_rng())


class InvalidSample(Widths):
    def sample(self, n: int, rng: np.random.Generator) -> IntArray:
        return super().sample(n, rng) + 1


class LaxValid(Widths):
    def valid(self, codes: IntArray) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
        super().valid(codes)
        return np.ones(len(codes), dtype=np.bool_)


class LazyMutation(Widths):
    def mutate(self, codes: IntArray, rng: np.random.Generator) -> IntArray:
        return codes.copy()


class InPlaceMutation(Widths):
    def mutate(self, codes: IntArray, rng: np.random.Generator) -> IntArray:
        codes[:] = super().mutate(codes, rng)
        return codes


class NumpyGenotype(Widths):
    def decode(self, code: IntArray) -> Genotype:
        return {**super().decode(code), "pair": (1, 2)}


class WrongEncode(Widths):
    def encode(self, genotype: Mapping[str, object]) -> IntArray:
        return np.zeros(4, dtype=np.int64)


class RestlessCanonical(Widths):
    def canonical(self, codes: IntArray) -> IntArray:
        result = super().canonical(codes)
        result[:, 1] = (result[:, 1] + 1) % 3
        return result


class MergingCanonical(Widths):
    """Idempotent, but gives networks of other widths the same row."""

    def canonical(self, codes: IntArray) -> IntArray:
        return np.zeros_like(codes)


class BatchDependentOps(Widths):
    def ops(self, codes: IntArray) -> OpTable:
        table = super().ops(codes)
        return replace(table, repeat=table.repeat * max(len(codes), 1))


class ZeroSizedOps(Widths):
    def ops(self, codes: IntArray) -> OpTable:
        table = super().ops(codes)
        return replace(table, in_height=table.in_height * 0)


class NarrowOps(Widths):
    def ops(self, codes: IntArray) -> OpTable:
        table = super().ops(codes)
        return replace(table, bias=table.bias.astype(np.int32))


def test_a_sound_space_passes() -> None:
    check_space(Widths(), np.random.default_rng(0))


@pytest.mark.parametrize(
    ("space", "message"),
    [
        (SkewedSize(), "size 11 is not the product"),
        (ForgetfulSample(), "the same generator state gives different samples"),
        (InvalidSample(), "sample gave the invalid code"),
        (LaxValid(), "value -1 of 'depth' counts as valid"),
        (LazyMutation(), "mutate changed 0 decisions, not 1"),
        (InPlaceMutation(), "mutate changes its argument"),
        (NumpyGenotype(), "is not plain JSON data"),
        (WrongEncode(), "decode then encode makes"),
        (RestlessCanonical(), "canonical is not idempotent"),
        (MergingCanonical(), "the canonical form of .* has other MACs"),
        (BatchDependentOps(), "depend on the other rows"),
        (ZeroSizedOps(), "ops column in_height holds a number below 1"),
        (NarrowOps(), "ops column bias is not int64"),
    ],
)
def test_a_broken_promise_is_named(space: SearchSpace, message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        check_space(space, np.random.default_rng(0))
