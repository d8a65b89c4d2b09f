"""The joint space of networks and accelerators."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from codesign.errors import InputError
from codesign.joint import JointSpace
from search_spaces.ops import IntArray
from simulators.accelerator import Preset
from tests.codesign.tiny_network import TinyNetwork

EDGE = Preset("edge", "systolic", "", {"rows": 8}, {"rows": (4, 8, 16), "dataflow": ("os", "ws", "is")})
BOUND = Preset("bound", "roofline", "", {}, {"clock_ghz": (0.1, 0.5)})
NETWORK = TinyNetwork()
SPACE = JointSpace(NETWORK, {"edge": EDGE, "bound": BOUND})
seeds = st.integers(0, 2**32 - 1)


def test_columns_are_the_networks_then_each_targets() -> None:
    names = [choice.name for choice in SPACE.choices]
    assert names == [*(c.name for c in NETWORK.choices), "edge.rows", "edge.dataflow", "bound.clock_ghz"]
    assert SPACE.size == NETWORK.size * 3 * 3 * 2
    assert SPACE.n_options[-3:].tolist() == [3, 3, 2]


def test_split_gives_values() -> None:
    codes = np.array([[0, 1, 2, 0, 1, 2, 0, 1], [2, 0, 0, 0, 0, 0, 2, 0]])
    networks, knobs = SPACE.split(codes)
    assert networks.tolist() == codes[:, :5].tolist()
    assert knobs["edge"]["rows"].tolist() == [16, 4]
    assert knobs["edge"]["dataflow"].tolist() == ["os", "is"]
    assert knobs["bound"]["clock_ghz"].tolist() == [0.5, 0.1]


@given(seeds)
def test_genotypes_round_trip_and_agree_with_split(seed: int) -> None:
    codes = SPACE.sample(4, np.random.default_rng(seed))
    networks, knobs = SPACE.split(codes)
    for i, code in enumerate(codes):
        genotype = SPACE.decode(code)
        assert SPACE.encode(genotype).tolist() == code.tolist()
        assert genotype["network"] == NETWORK.decode(networks[i])
        assert genotype["accelerators"] == {
            target: {name: values[i].item() for name, values in table.items()} for target, table in knobs.items()
        }


def test_a_genotype_is_readable() -> None:
    assert SPACE.decode(np.array([0, 1, 2, 0, 1, 2, 0, 1])) == {
        "network": {"channels": 4, "kernel": 3, "depth": 3, "kind": "full", "pool": "max"},
        "accelerators": {"edge": {"rows": 16, "dataflow": "os"}, "bound": {"clock_ghz": 0.5}},
    }


@pytest.mark.parametrize(
    ("accelerators", "message"),
    [
        ({"bound": {"clock_ghz": 0.1}}, r"accelerators\.edge: None is not allowed; use a mapping"),
        ({"edge": {"rows": 4}}, r"accelerators\.edge\.dataflow: None is not one of os, ws, is"),
        ({"edge": {"rows": 5, "dataflow": "os"}}, r"accelerators\.edge\.rows: 5 is not one of 4, 8, 16"),
        ({"edge": {"row": 4, "dataflow": "os"}}, r"accelerators\.edge: 'row' .*did you mean 'rows'\?"),
        ({"edgy": {}}, r"accelerators: 'edgy' is not one of edge, bound; did you mean 'edge'\?"),
    ],
)
def test_a_genotype_that_the_space_does_not_hold_is_refused(accelerators: dict[str, object], message: str) -> None:
    network = NETWORK.decode(np.zeros(5, dtype=np.int64))
    with pytest.raises(InputError, match=message):
        SPACE.encode({"network": network, "accelerators": accelerators})


@given(seeds)
def test_sampling_mutation_and_crossover_stay_in_the_space(seed: int) -> None:
    rng = np.random.default_rng(seed)
    first, second = SPACE.sample(20, rng), SPACE.sample(20, rng)
    mutated = SPACE.mutate(first, rng)
    crossed = SPACE.crossover(first, second, rng)
    for codes in (first, mutated, crossed):
        assert SPACE.valid(codes).all()
    assert ((mutated != first).sum(axis=1) == 1).all()
    assert ((crossed == first) | (crossed == second)).all()


def test_every_column_is_mutated_and_every_option_reached() -> None:
    codes = SPACE.sample(4000, np.random.default_rng(0))
    mutated = SPACE.mutate(codes, np.random.default_rng(1))
    share = (mutated != codes).mean(axis=0)
    assert share == pytest.approx(np.full(8, 1 / 8), abs=0.03)
    for column, n_options in enumerate(SPACE.n_options):
        assert set(mutated[:, column].tolist()) == set(range(n_options))


def test_equal_seeds_equal_codes() -> None:
    draw = [SPACE.mutate(SPACE.sample(9, np.random.default_rng(3)), np.random.default_rng(4)) for _ in range(2)]
    assert draw[0].tolist() == draw[1].tolist()


class Picky(TinyNetwork):
    """Only depth 1 is valid; mutation and crossover are its own."""

    def valid(self, codes: IntArray) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
        return np.asarray(codes[:, 2] == 0)

    def mutate(self, codes: IntArray, rng: np.random.Generator) -> IntArray:
        return codes * 0

    def crossover(self, first: IntArray, second: IntArray, rng: np.random.Generator) -> IntArray:
        return second


def test_the_network_spaces_own_rules_are_kept() -> None:
    space = JointSpace(Picky(), {"edge": EDGE})
    codes = space.sample(300, np.random.default_rng(0))
    assert (space.valid(codes) == (codes[:, 2] == 0)).all()
    mutated = space.mutate(codes, np.random.default_rng(1))
    of_network = (mutated[:, 5:] == codes[:, 5:]).all(axis=1)
    assert (mutated[of_network, :5] == 0).all()
    assert (mutated[~of_network, :5] == codes[~of_network, :5]).all()
    assert 0.5 < of_network.mean() < 0.9
    crossed = space.crossover(codes, codes[::-1], np.random.default_rng(2))
    assert (crossed[:, :5] == codes[::-1, :5]).all()


def test_codes_out_of_range_or_shape_are_not_valid() -> None:
    codes = SPACE.sample(2, np.random.default_rng(0))
    codes[0, -1] = 2
    assert SPACE.valid(codes).tolist() == [False, True]
    with pytest.raises(ValueError, match="expected"):
        SPACE.valid(codes[:, 1:])


def test_the_network_part_becomes_canonical() -> None:
    code = np.array([[0, 0, 0, 1, 0, 2, 1, 1]])
    assert SPACE.canonical(code).tolist() == [[0, 0, 0, 0, 0, 2, 1, 1]]
    assert code[0, 3] == 1, "the input was changed"


def test_a_preset_with_nothing_to_search_is_refused() -> None:
    with pytest.raises(InputError, match=r"targets\.edge: preset 'fixed' has no \[search\] table"):
        JointSpace(NETWORK, {"edge": Preset("fixed", "systolic", "", {})})
