"""Zero-cost scores against closed forms and slow computations, their evaluator, and a job end to end."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from codesign.assemble import Parts
from codesign.data.dataset import Dataset
from codesign.errors import InputError, TrialError
from codesign.guard import guarded
from codesign.job import parse_job
from codesign.predict_torch import Normalized
from codesign.run import Run, create_run, drive, open_run, plan_run, study_of
from codesign.warm_start_model import kendall
from codesign.zero_cost import SCORES, ZeroCost, ZeroCostOptions, draw_batch
from codesign.zero_cost_torch import PatternKernel, score_candidate, score_network, synflow
from search_spaces.nasbench201 import NasBench201
from tests.codesign.small_networks_torch import SmallCnn, image_data

pytestmark = pytest.mark.torch

N_IMAGES = 6
CONV = (3, 3, 3, 3, 3, 3)
DEAD = (0, 0, 0, 0, 0, 0)


class Small(nn.Module):
    """Convolution, norm, ReLUs of every kind, two linear layers; and one that nothing uses."""

    def __init__(self, with_norm: bool = True) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4) if with_norm else nn.Identity()
        self.relu = nn.ReLU(inplace=True)
        self.hidden = nn.Linear(4, 5)
        self.out = nn.Linear(5, 4)
        self.unused = nn.Linear(2, 2)

    def until(self, images: Tensor) -> list[Tensor]:
        """What each of the four ReLUs reads."""
        first = self.norm(self.conv(images))
        second = functional.avg_pool2d(torch.relu(first), 4) - 0.1
        third = torch.relu(second).mean((2, 3)) - 0.1
        fourth = self.hidden(torch.relu(third))
        return [first, second, third, fourth]

    def forward(self, images: Tensor) -> Tensor:
        x = self.relu(self.norm(self.conv(images)))
        x = functional.relu(functional.avg_pool2d(x, 4) - 0.1)
        x = torch.relu(x.mean((2, 3)) - 0.1)
        return self.out(self.hidden(x).relu())  # type: ignore[no-any-return]


class TwoHeads(nn.Module):
    """A network that also returns auxiliary logits in training."""

    def __init__(self) -> None:
        super().__init__()
        self.body = Small()

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        logits: Tensor = self.body(images)
        return logits, 7 * logits


class Linear(nn.Module):
    """Images to logits without any ReLU."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3 * 8 * 8, 4)

    def forward(self, images: Tensor) -> Tensor:
        return self.layer(images.flatten(1))  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def data() -> Dataset:
    return image_data()


def made(make: Callable[[], nn.Module], data: Dataset, seed: int = 3) -> Normalized:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return Normalized(make(), data.mean, data.std)


def small(network: Normalized) -> Small:
    assert isinstance(network.network, Small)
    return network.network


def batch_of(data: Dataset) -> tuple[Tensor, Tensor]:
    return torch.tensor(data.train.images[:N_IMAGES]), torch.tensor(data.train.labels[:N_IMAGES])


def normalised(network: Normalized, images: Tensor) -> Tensor:
    return (images.float() - network.mean) / network.std


# --- synflow


def chain(widths: list[int], seed: int) -> nn.Sequential:
    """Linear layers with batch norms between them, without biases."""
    layers: list[nn.Module] = [nn.Flatten()]
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        for reads, writes in pairwise(widths):
            layers += [nn.Linear(reads, writes, bias=False), nn.BatchNorm1d(writes)]
    return nn.Sequential(*layers)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(1, 6), min_size=2, max_size=6), st.integers(0, 10))
def test_synflow_of_a_linear_chain_is_a_product_of_matrices(widths: list[int], seed: int) -> None:
    network = chain(widths, seed)
    product = torch.ones(widths[0], dtype=torch.float64)
    for layer in network:
        if isinstance(layer, nn.Linear):
            product = layer.weight.detach().double().abs() @ product
    n_layers = len(widths) - 1  # every layer's weights carry the whole flow
    assert synflow(network, (widths[0], 1, 1)) == pytest.approx(math.log1p(n_layers * float(product.sum())), rel=1e-12)


def test_synflow_sees_neither_signs_nor_images_nor_batch_norms(data: Dataset) -> None:
    images, labels = batch_of(data)
    plain, changed = made(Small, data), made(Small, data)
    with torch.no_grad():
        small(changed).conv.weight.neg_()
        norm = small(changed).norm
        assert isinstance(norm, nn.BatchNorm2d)
        assert norm.running_var is not None
        norm.weight.fill_(5.0)
        norm.running_var.fill_(9.0)
    first = score_network(plain, images, labels, ["synflow"])["synflow"]
    assert score_network(changed, images.flip(0) // 2, labels, ["synflow"])["synflow"] == first


def test_synflow_of_a_deep_network_does_not_overflow() -> None:
    assert 150 < synflow(chain([60] * 110, 0), (60, 1, 1)) < 160  # in single precision 88.7 is the end


def test_synflow_is_zero_where_the_image_does_not_reach_the_output(data: Dataset) -> None:
    space = NasBench201(image_shape=(3, 8, 8), classes=4, channels=4, cells=1, merge_equal=False)
    batch = draw_batch(data.train, N_IMAGES, 0)
    assert score_candidate(lambda: space.build(np.array(DEAD)), data, batch, ["synflow"], 0) == {"synflow": 0.0}
    assert score_candidate(lambda: space.build(np.array(CONV)), data, batch, ["synflow"], 0)["synflow"] > 1


# --- nwot


def test_nwot_against_counts_of_equal_relus(data: Dataset) -> None:
    images, labels = batch_of(data)
    network = made(Small, data)
    network.train()
    with torch.no_grad():
        read = small(network).until(normalised(network, images))
    patterns = np.concatenate([(values > 0).flatten(1).numpy() for values in read], axis=1)
    kernel = np.zeros((N_IMAGES, N_IMAGES))
    for i in range(N_IMAGES):
        for j in range(N_IMAGES):
            kernel[i, j] = sum(int(a == b) for a, b in zip(patterns[i], patterns[j], strict=True))
    with torch.no_grad(), PatternKernel(N_IMAGES) as found:
        network(images)
    assert np.array_equal(found.kernel.numpy(), kernel)
    assert found.n_units == patterns.shape[1]
    score = score_network(made(Small, data), images, labels, ["nwot"])["nwot"]
    assert score == pytest.approx(np.linalg.slogdet(kernel)[1], rel=1e-9)


def test_nwot_says_why_it_has_no_score(data: Dataset) -> None:
    images, labels = batch_of(data)
    with pytest.raises(TrialError, match="no ReLU"):
        score_network(made(Linear, data), images, labels, ["nwot"])
    with pytest.raises(TrialError, match="nwot is -inf"):
        score_network(made(Small, data), images[:1].repeat(N_IMAGES, 1, 1, 1), labels, ["nwot"])


# --- gradients


def test_grad_norm_and_snip_against_gradients_by_backward(data: Dataset) -> None:
    images, labels = batch_of(data)
    network = made(Small, data)
    network.train()
    functional.cross_entropy(network(images.float()), labels).backward()  # type: ignore[no-untyped-call]
    body = small(network)
    layers = (body.conv, body.hidden, body.out)
    weights = [layer.weight.detach() for layer in layers]
    gradients = [layer.weight.grad for layer in layers if layer.weight.grad is not None]
    assert len(gradients) == 3
    norm = sum(float(gradient.norm()) for gradient in gradients)
    flow = sum(float((w * g).abs().sum()) for w, g in zip(weights, gradients, strict=True))
    found = score_network(made(Small, data), images, labels, ["grad_norm", "snip", "l2_norm"])
    assert found["grad_norm"] == pytest.approx(norm, rel=1e-4)
    assert found["snip"] == pytest.approx(flow, rel=1e-4)
    every = [*weights, body.unused.weight.detach()]
    assert found["l2_norm"] == pytest.approx(sum(float(weight.norm()) for weight in every), rel=1e-6)


def test_fisher_against_the_gradient_by_gates_on_channels(data: Dataset) -> None:
    images, labels = batch_of(data)
    network = made(Small, data)
    network.train()
    body = small(network)
    layers: list[nn.Conv2d | nn.Linear] = [body.conv, body.hidden, body.out]
    gates = [torch.ones(shape, requires_grad=True) for shape in ((N_IMAGES, 4, 1, 1), (N_IMAGES, 5), (N_IMAGES, 4))]
    for layer, gate in zip(layers, gates, strict=True):
        layer.register_forward_hook(lambda _, read, output, gate=gate: output * gate)
    functional.cross_entropy(network(images.float()), labels).backward()  # type: ignore[no-untyped-call]
    expected = 0.0
    for layer, gate in zip(layers, gates, strict=True):
        assert gate.grad is not None
        expected += float((gate.grad.flatten(1) ** 2).mean(0).sum() / 2) * layer.weight[0].numel()
    found = score_network(made(Small, data), images, labels, ["fisher"])["fisher"]
    assert found == pytest.approx(expected, rel=1e-3)


def test_jacov_against_one_image_after_the_other(data: Dataset) -> None:
    images, labels = batch_of(data)
    network = made(lambda: Small(with_norm=False), data)  # without batch norm an image's outputs are its own
    rows = []
    for image in normalised(network, images):
        one = image[None].clone().requires_grad_()
        network.network(one).sum().backward()
        assert one.grad is not None
        rows.append(one.grad.flatten().double().numpy())
    values = np.linalg.eigvals(np.corrcoef(np.array(rows))).real + 1e-5
    expected = -np.sum(np.log(values) + 1 / values)
    found = score_network(made(lambda: Small(with_norm=False), data), images, labels, ["jacov"])["jacov"]
    assert found == pytest.approx(expected, rel=1e-4)


def test_scores_do_not_depend_on_which_others_are_asked_for(data: Dataset) -> None:
    images, labels = batch_of(data)
    whole = score_network(made(Small, data), images, labels, SCORES)
    assert list(whole) == list(SCORES)
    for name in SCORES:
        assert score_network(made(Small, data), images, labels, [name])[name] == pytest.approx(whole[name], rel=1e-5)


def test_auxiliary_logits_are_not_looked_at(data: Dataset) -> None:
    images, labels = batch_of(data)
    one, two = (score_network(made(make, data), images, labels, SCORES) for make in (Small, TwoHeads))
    assert two == pytest.approx(one, rel=1e-5)


# --- a candidate, the batch, the evaluator


def test_equal_seeds_give_equal_scores_and_the_global_generator_stays(data: Dataset) -> None:
    batch = draw_batch(data.train, N_IMAGES, 0)
    before = torch.random.get_rng_state()
    names = ["grad_norm", "synflow", "snip"]
    first, again, other = (score_candidate(SmallCnn, data, batch, names, seed) for seed in (1, 1, 2))
    assert first == again
    assert list(first) == names
    assert all(first[name] != other[name] for name in names)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_a_batch_is_drawn_by_its_seed_from_the_train_split(data: Dataset) -> None:
    batch = draw_batch(data.train, 10, 5)
    assert np.array_equal(batch.images, draw_batch(data.train, 10, 5).images)
    assert not np.array_equal(batch.images, draw_batch(data.train, 10, 6).images)
    listed = [image.tobytes() for image in data.train.images]
    rows = [listed.index(image.tobytes()) for image in batch.images]
    assert rows == sorted(set(rows))
    assert np.array_equal(batch.labels, data.train.labels[rows])
    assert len(draw_batch(data.train, 1_000, 0)) == len(data.train)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scores": ()}, "name at least one"),
        ({"scores": ("synflo",)}, "did you mean 'synflow'"),
        ({"scores": ("nwot", "nwot")}, "named twice"),
        ({"batch_size": 1}, "at least 2"),
        ({"threads": 0}, "threads: 0"),
    ],
)
def test_wrong_options(options: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        ZeroCostOptions(**options)  # type: ignore[arg-type]


def job(**more: object) -> dict[str, object]:
    return {
        "name": "scores",
        "space": {"type": "nasbench201", "channels": 4, "cells": 1},
        "objectives": {"maximize": "nwot", "minimize": "macs"},
        "search": {"strategy": "random", "trials": 16, "seed": 1},
        "evaluate": {"type": "codesign.zero_cost:ZeroCost", "scores": ["nwot", "synflow"], "batch_size": 8},
        **more,
    }  # fmt: skip


def plan(folder: Path, content: dict[str, object], name: str) -> Parts:
    return plan_run(parse_job(content), folder / name, folder)


def carry_out(folder: Path, content: dict[str, object], name: str) -> tuple[Run, Parts]:
    parts = plan(folder, content, name)
    run = create_run(parts, folder)
    drive(run, parts, study_of(run, parts))
    return run, parts


def test_a_network_without_a_score_is_a_failed_trial_with_its_reason(tmp_path: Path) -> None:
    evaluator = plan(tmp_path, job(), "unused").evaluator
    assert isinstance(evaluator, ZeroCost)
    evaluation = guarded(evaluator, np.array([CONV, DEAD]))
    assert evaluation.errors[0] == ""
    assert "nwot is -inf" in evaluation.errors[1]
    assert np.isfinite(evaluation.metrics["nwot"]).tolist() == [True, False]
    assert np.isfinite(evaluation.metrics["synflow"]).tolist() == [True, False]


def test_a_job_end_to_end(tmp_path: Path) -> None:
    run, parts = carry_out(tmp_path, job(), "first")
    columns = run.store.columns(run.study_id, {"nwot", "synflow", "macs"})
    assert len(columns["nwot"]) == 16
    assert np.isfinite(columns["nwot"]).sum() > 10
    assert run.front(parts)
    assert kendall(columns["synflow"], columns["macs"]) > 0.2
    again, _ = carry_out(tmp_path, job(), "again")
    for name, values in again.store.columns(again.study_id, {"nwot", "synflow"}).items():
        assert np.array_equal(values, run.store.columns(run.study_id, {name})[name], equal_nan=True)


def test_what_decides_a_score_is_in_the_fingerprint(tmp_path: Path) -> None:
    def fingerprint(**evaluate: object) -> str:
        section = {"type": "codesign.zero_cost:ZeroCost", "scores": ["nwot", "synflow"], "batch_size": 8, **evaluate}
        return plan(tmp_path, job(evaluate=section), "unused").evaluator.fingerprint

    assert fingerprint() == fingerprint(scores=["synflow", "nwot"]) == fingerprint(threads=2)
    assert fingerprint() != fingerprint(batch_size=9)
    assert fingerprint() != fingerprint(scores=["nwot"])


@pytest.mark.slow
def test_scores_are_a_warm_start_of_a_search_that_trains(tmp_path: Path) -> None:
    run, _ = carry_out(tmp_path, job(search={"strategy": "random", "trials": 40, "seed": 1}), "scores")
    training = job(
        name="training",
        objectives={"maximize": "accuracy", "minimize": "macs"},
        search={"strategy": "auto", "trials": 4},
        evaluate={"type": "train", "epochs": 1},
        warm_start=[{"run": "scores", "metric": "synflow", "objective": "accuracy"}],
    )
    parts = plan(tmp_path, training, "training")
    (learned,) = parts.learned
    assert (learned.objective, learned.n_results > 20, learned.skill > 0.7) == ("accuracy", True, True)
    foresight = parts.foresight()
    assert foresight.prior_of == (0,)
    ask = np.array([CONV, (1, 0, 0, 1, 0, 0)])
    losses = foresight(ask).priors[:, 0]
    assert losses[0] < losses[1]  # six convolutions flow more than two identities
    assert open_run(run.folder).job.name == "scores"
