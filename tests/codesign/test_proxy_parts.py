"""The parts of a proxy: columns, trees as arrays, the Gaussian process and its gradient."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.ensemble import ExtraTreesRegressor, GradientBoostingRegressor, RandomForestRegressor

from codesign import proxy_candidates
from codesign.errors import DataError, InputError
from codesign.proxy_bits import MAX_LEAVES, tabulate
from codesign.proxy_candidates import BOOSTED_LEAVES, BOOSTED_RATE, TREE_FITS
from codesign.proxy_features import Encoder
from codesign.proxy_kernel import KernelModel, embed
from codesign.proxy_kernel_fit import _Likelihood, fit_kernel
from codesign.proxy_table import make_table
from codesign.proxy_trees import Trees
from codesign.trial import FloatArray
from simulators.accelerator import Field
from tests.codesign.design_models import Queue, batch_of, random_designs

FIELDS = (
    Field("name", "str", "", "a", doc="x"),
    Field("size", "int", "", 1, lowest=1, doc="x"),
    Field("bias", "float", "", 0.0, doc="x"),
    Field("fixed", "int", "", 7, doc="x"),
)


def encoder_of(sizes: list[int], names: list[str], bias: FloatArray) -> Encoder:
    designs = {"name": np.array(names), "size": np.array(sizes), "bias": bias, "fixed": np.full(len(sizes), 7)}
    return Encoder.learn(FIELDS, designs)


ENCODER = encoder_of([1, 2, 8, 8], ["a", "c", "b", "a"], np.array([-1.0, 0.5, 2.0, 0.0]))


def test_columns_are_names_and_scaled_numbers() -> None:
    designs = {
        "name": np.array(["c", "a", "z"]),
        "size": np.array([4, 1, 100]),
        "bias": np.array([0.25, -1.0, 0.5]),
        "fixed": np.array([7, 7, 7]),
    }
    assert ENCODER.plain(designs).tolist() == [
        [0, 0, 1, 2.0, 0.25],
        [1, 0, 0, 0.0, -1.0],
        [0, 0, 0, 3.0, 0.5],  # a name never seen is none of those seen; a number beyond is the largest seen
    ]
    assert ENCODER.outside(designs).tolist() == [False, False, True]
    assert ENCODER.outside_names(designs) == ["name", "size"]
    hats = ENCODER.indicators(designs)
    assert hats.shape == (3, ENCODER.n_indicators)
    assert hats[0, 3:6].tolist() == [0, 0.5, 0.5], "4 lies half-way between 2 and 8 on the scale of powers of two"
    assert np.allclose(hats[:, 3:6].sum(axis=1), 1)
    assert ENCODER.base(designs).shape == (3, ENCODER.n_base)
    assert ENCODER.plain(designs).shape == (3, ENCODER.n_plain)


def test_a_value_outside_a_field_that_never_changed_is_outside_too() -> None:
    designs = {"name": np.array(["a"]), "size": np.array([2]), "bias": np.array([0.0]), "fixed": np.array([8])}
    assert ENCODER.outside_names(designs) == ["fixed"]


def test_an_encoder_survives_json() -> None:
    assert Encoder.from_json(ENCODER.to_json()) == ENCODER
    with pytest.raises(DataError, match="not as they were written"):
        Encoder.from_json([{"name": "x"}])


@settings(max_examples=40, deadline=None)
@given(values=st.lists(st.floats(0.01, 1e6), min_size=2, max_size=40, unique=True), asked=st.floats(-1e7, 1e7))
def test_indicators_are_a_partition_of_one(values: list[float], asked: float) -> None:
    n = len(values)
    encoder = encoder_of([1, 2] * n, ["a", "b"] * n, np.array(values * 2))
    hats = encoder.inputs[2].indicators(np.array([asked, *values]))
    assert np.allclose(hats.sum(axis=1), 1)
    assert (hats >= 0).all()


def noise_problem(n: int = 120) -> tuple[FloatArray, FloatArray]:
    rng = np.random.default_rng(0)
    columns = np.concatenate([rng.integers(0, 2, (n, 6)), rng.normal(size=(n, 2))], axis=1).astype(np.float64)
    return columns, rng.normal(size=n) + columns[:, 0] * columns[:, 6]


N_TREES = 25


@pytest.fixture(autouse=True)
def few_trees(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("N_FOREST", "N_EXTRA", "N_BOOSTED"):
        monkeypatch.setattr(proxy_candidates, name, N_TREES)


FITTED = {
    "forest": RandomForestRegressor(N_TREES, random_state=3),
    "extra-trees": ExtraTreesRegressor(N_TREES, random_state=3),
    "boosting": GradientBoostingRegressor(
        n_estimators=N_TREES, max_depth=None, max_leaf_nodes=BOOSTED_LEAVES, learning_rate=BOOSTED_RATE, random_state=3
    ),
}


@pytest.mark.parametrize("name", TREE_FITS)
def test_written_trees_predict_what_the_library_predicts(name: str) -> None:
    columns, output = noise_problem()
    trees = TREE_FITS[name](columns, output, 3)
    expected = FITTED[name].fit(columns.astype(np.float32), output)
    asked = np.concatenate([columns, columns[:50] + np.random.default_rng(1).normal(size=(50, 8))])
    assert np.abs(trees.predict(asked) - expected.predict(asked.astype(np.float32))).max() < 1e-9
    again = Trees.from_arrays(trees.to_arrays("t"), "t", 8)
    assert np.array_equal(again.predict(asked), trees.predict(asked))
    assert trees.predict(asked[:0]).shape == (0,)


def test_tables_of_bits_give_what_walking_the_trees_gives() -> None:
    columns, output = noise_problem(200)
    trees = TREE_FITS["boosting"](columns, output, 0)
    bits = tabulate(trees.roots, trees.feature, trees.threshold, trees.left, trees.value)
    assert bits is not None
    part = np.concatenate([columns, columns + 0.3]).astype(np.float32)
    # a value equal to a threshold goes left
    part[0, 6] = np.float32(trees.threshold[trees.feature == 6][0])
    assert np.allclose(bits.sum(part), trees._sum(part), rtol=0, atol=1e-12)
    forest = TREE_FITS["forest"](columns, output, 0)
    assert max(np.diff(forest.roots)) > 2 * MAX_LEAVES, "the forest's trees are too small to show anything"
    assert tabulate(forest.roots, forest.feature, forest.threshold, forest.left, forest.value) is None


def test_trees_that_lead_nowhere_are_refused() -> None:
    columns, output = noise_problem()
    arrays = TREE_FITS["boosting"](columns, output, 0).to_arrays("t")
    for name, change in (("left", 10**6), ("feature", 8), ("roots", -1)):
        wrong = {**arrays, f"t.{name}": arrays[f"t.{name}"].copy()}
        wrong[f"t.{name}"][0] = change
        with pytest.raises(DataError, match="do not fit"):
            Trees.from_arrays(wrong, "t", 8)
    loop = {**arrays, "t.left": arrays["t.left"].copy()}
    loop["t.left"][1 if np.isfinite(arrays["t.threshold"][1]) else 2] = 0
    with pytest.raises(DataError, match="do not fit"):
        Trees.from_arrays(loop, "t", 8)
    with pytest.raises(DataError, match="missing"):
        Trees.from_arrays({}, "t", 8)


def queue_columns(n: int) -> tuple[FloatArray, FloatArray, FloatArray]:
    table = make_table([batch_of(Queue(), random_designs(n))])
    encoder = Encoder.learn(table.inputs, table.designs)
    outputs = np.log(np.stack([table.metrics["latency_ns"], table.metrics["energy_pj"]], axis=1))
    return encoder.base(table.designs), encoder.indicators(table.designs), outputs


def test_the_gradient_of_the_likelihood_is_that_of_its_differences() -> None:
    base, indicators, outputs = queue_columns(40)
    likelihood = _Likelihood(base, indicators, (outputs - outputs.mean(0)) / outputs.std(0))
    rng = np.random.default_rng(0)
    at = likelihood.start() + rng.normal(0, 0.3, len(likelihood.start()))
    gradient = likelihood(at)[1]
    for _ in range(5):
        step = rng.normal(size=len(at))
        step /= np.linalg.norm(step)
        slope = (likelihood(at + 1e-5 * step)[0] - likelihood(at - 1e-5 * step)[0]) / 2e-5
        assert slope == pytest.approx(gradient @ step, rel=1e-4, abs=1e-4)


def test_the_process_predicts_the_posterior_mean() -> None:
    """Against the textbook's formula, design by design."""
    base, indicators, outputs = queue_columns(60)
    model = fit_kernel(base[:40], indicators[:40], outputs[:40], 40, np.random.default_rng(0))
    at = embed(base[40:], indicators[40:], model.weights, model.gates)
    expected = np.array(
        [
            [
                model.mean[t]
                + model.spread[t]
                * sum(
                    np.exp(model.log_signal - np.sum((z - point) ** 2)) * alpha
                    for point, alpha in zip(model.points, model.alpha[:, t], strict=True)
                )
                for t in range(2)
            ]
            for z in at
        ]
    )
    assert np.allclose(model.predict(base[40:], indicators[40:]), expected, rtol=1e-9)
    again = KernelModel.from_arrays(model.to_arrays("k"), "k")
    assert np.array_equal(again.predict(base, indicators), model.predict(base, indicators))
    one, both = model.only([1]).predict(base, indicators), model.predict(base, indicators)
    assert np.allclose(one[:, 0], both[:, 1], rtol=1e-12)
    assert np.allclose(model.predict(base[:40], indicators[:40]), outputs[:40], atol=0.005), (
        "it goes through its points"
    )


def test_it_learns_that_an_input_means_nothing_beside_another() -> None:
    """Without refresh, how far refreshes may be postponed does not change a prediction; with it, it does."""
    table = make_table([batch_of(Queue(), random_designs(150))])
    encoder = Encoder.learn(table.inputs, table.designs)
    model = fit_kernel(*queue_columns(150), 60, np.random.default_rng(0))
    changes = {}
    for refresh in ("no", "yes"):
        designs = {**random_designs(100, seed=5), "refresh": np.full(100, refresh)}
        latency = [
            model.predict(encoder.base(changed), encoder.indicators(changed))[:, 0]
            for changed in ({**designs, "postponed": np.full(100, n)} for n in (1, 8))
        ]
        changes[refresh] = np.abs(latency[1] - latency[0])
    assert changes["no"].max() < 0.006
    assert changes["yes"].min() > 0.02


def test_damaged_arrays_of_the_process_are_refused() -> None:
    base, indicators, outputs = queue_columns(30)
    arrays = fit_kernel(base, indicators, outputs, 3, np.random.default_rng(0)).to_arrays("k")
    for name in ("points", "gates", "alpha", "spread"):
        with pytest.raises(DataError, match="do not fit each other"):
            KernelModel.from_arrays({**arrays, f"k.{name}": arrays[f"k.{name}"][..., :1]}, "k")
    with pytest.raises(DataError, match="missing"):
        KernelModel.from_arrays({}, "k")


def test_a_table_keeps_the_last_of_equal_designs_and_joins_contexts() -> None:
    first, second = batch_of(Queue(1.0), random_designs(50), "day"), batch_of(Queue(2.0), random_designs(50), "night")
    single = make_table([first, first])
    assert single.inputs == Queue.fields
    assert len(single) + single.n_repeated == 100
    keys = {tuple(values[i] for values in single.designs.values()) for i in range(len(single))}
    assert len(keys) == len(single)
    both = make_table([first, second])
    assert [spec.name for spec in both.inputs][-1] == "context.load"
    assert set(both.designs["context.load"].tolist()) == {1.0, 2.0}
    expected = Queue(1.0).evaluate(both.designs).metrics["latency_ns"] * both.designs["context.load"]
    assert np.allclose(both.metrics["latency_ns"], expected)


def test_tables_of_several_models_or_fields_are_refused() -> None:
    batch = batch_of(Queue(), random_designs(5))
    with pytest.raises(InputError, match="several models: 'queue-v1' and 'queue-v2'"):
        make_table([batch, replace(batch, model="queue-v2")])
    fields = Queue.fields[:-1]
    other = replace(batch, fields=fields, designs={spec.name: batch.designs[spec.name] for spec in fields})
    with pytest.raises(InputError, match="differ in their fields or metrics"):
        make_table([batch, other])
    with pytest.raises(InputError, match="different features"):
        make_table([batch, replace(batch, features={"load": 3.0})])
    with pytest.raises(InputError, match="no designs"):
        make_table([])
