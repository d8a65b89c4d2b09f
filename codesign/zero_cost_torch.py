"""Scores of untrained networks, from one batch of images.

`synflow`    Tanaka et al. 2020, eq. 3, summed up as in Abdelfattah et al. 2021, section 3.2: the sum over weights w of
             |w dR/dw|, R the sum of the outputs for an image of ones, all weights and biases made positive.
`nwot`       Mellor et al. 2021, section 3: the log-determinant of the kernel that counts the ReLUs on which two images
             agree, all ReLUs of the network together.
`grad_norm`  Abdelfattah et al. 2021, section 3.1: the sum over layers of the gradient's Euclidean norm.
`snip`       Lee et al. 2019, eq. 6, summed: the sum over weights of |w dL/dw|.
`fisher`     Turner et al. 2020, eq. 4, summed: of each channel half the mean square of activation times gradient, here
             times the channel's number of weights, as Abdelfattah et al. add it up.
`jacov`      Mellor et al. 2020 (first version): how little the gradients of the outputs' sum by different images are
             correlated, -sum(log(v + k) + 1 / (v + k)) over the eigenvalues v of their correlations, k = 1e-5.
`l2_norm`    the sum over layers of the weights' Euclidean norm.

L is the mean cross-entropy of the batch. Layers are convolutions and linear layers, weights theirs without biases.
Batch norms take the batch's statistics; for `synflow` they are left out, as Abdelfattah et al. do, and the network
computes in double precision. Auxiliary logits are not looked at.

Departures: `synflow` is log(1 + sum), so that a network whose output does not depend on its image has the score 0.
ReLUs are found where they are computed, not by their modules, so that functional ones count too.

The authors' figures are of the code of Abdelfattah et al. (zero-cost-nas) and its descendant in NASLib.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from codesign.data.dataset import Dataset, Split
from codesign.errors import TrialError
from codesign.predict_torch import Normalized, as_tensor, to_input, torch_threads
from codesign.train_torch import seeded_build

_JACOV_K = 1e-5
_EXACT = 1 << 24  # whole numbers up to this are exact in float32
_RELUS = frozenset(
    (functional.relu, functional.relu_, torch.relu, torch.relu_, Tensor.relu, Tensor.relu_, functional.relu6)
)
_OF_GRADIENTS = ("grad_norm", "snip", "fisher")


def score_candidate(
    build: Callable[[], object], data: Dataset, batch: Split, names: Sequence[str], seed: int, threads: int = 1
) -> dict[str, float]:
    """Scores of the network that `build` makes under a seed.

    Args:
        build: makes the network, which takes normalised images and returns logits, or logits and auxiliary logits.
        data: for its mean and standard deviation.
        batch: the images and labels.
        names: of the scores, see `codesign.zero_cost.SCORES`.
        seed: of the weights and of dropout.
        threads: torch's.

    Raises:
        TrialError: a score is not finite, or `nwot` is asked of a network without ReLUs.
        TypeError: `build` does not make a torch module.
    """
    with torch_threads(threads), torch.random.fork_rng(devices=[]):
        network = seeded_build(build, data, seed)
        torch.default_generator.manual_seed(seed)
        return score_network(network, as_tensor(batch.images), as_tensor(batch.labels), names)


def score_network(network: Normalized, images: Tensor, labels: Tensor, names: Sequence[str]) -> dict[str, float]:
    """Scores of a network with the weights it has; it is of no use afterwards if `synflow` is among them.

    Args:
        network: see `Normalized`.
        images: shape (B, C, H, W), raw.
        labels: shape (B,).
        names: of the scores.

    Raises:
        TrialError: a score is not finite, or `nwot` is asked of a network without ReLUs.
    """
    network.train()
    found: dict[str, float] = {}
    if {*names} - {"synflow", "l2_norm"}:
        normalised = (to_input(images) - network.mean) / network.std
        found |= _scores_of_batch(network.network, normalised, labels, names)
    if "l2_norm" in names:
        found["l2_norm"] = sum(float(layer.weight.detach().norm()) for layer in _layers(network))
    if "synflow" in names:  # last: it changes the weights
        found["synflow"] = synflow(network.network, tuple(images.shape[1:]))
    for name in names:
        if not math.isfinite(found[name]):
            raise TrialError(f"{name} is {found[name]}: the untrained network does not tell its images apart")
    return {name: found[name] for name in names}


def synflow(network: nn.Module, image_shape: Sequence[int]) -> float:
    """The logarithm of 1 + the sum over weights of |w dR/dw|; all weights are left positive and of double precision."""
    network.double()
    with torch.no_grad():
        for tensor in (*network.parameters(), *network.buffers()):
            tensor.abs_()
    weights = [layer.weight for layer in _layers(network)]
    with _WithoutBatchNorm():
        total = _logits(network(torch.ones((1, *image_shape), dtype=torch.float64))).sum()
    gradients = _gradients(total, weights)
    return math.log1p(float(sum((w.detach() * g).abs().sum() for w, g in zip(weights, gradients, strict=True))))


class PatternKernel(TorchFunctionMode):
    """While active, adds up on how many ReLUs two images agree.

    Args:
        n_images: in the batch that passes through.

    Attributes:
        kernel: shape (n, n), counts.
        n_units: ReLUs so far, per image.
    """

    def __init__(self, n_images: int) -> None:
        super().__init__()
        self.kernel = torch.zeros((n_images, n_images), dtype=torch.float64)
        self.n_units = 0

    def __torch_function__(
        self, func: Any, types: Collection[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Look at what a ReLU reads; everything is carried out unchanged."""
        kwargs = kwargs or {}
        if func in _RELUS:
            self._add(args[0] if args else kwargs["input"])
        return func(*args, **kwargs)

    @torch.no_grad()
    def _add(self, read: Tensor) -> None:
        n = len(self.kernel)
        if len(read) % n:
            raise TrialError(f"nwot: a ReLU reads a tensor of shape {tuple(read.shape)}, which has no axis of images")
        is_on = (read > 0).reshape(n, -1)
        for part in torch.split(is_on, _EXACT, dim=1):
            x = part.to(torch.float32)
            both = (x @ x.T).double()
            on = both.diagonal()
            self.kernel += part.shape[1] - on[:, None] - on[None, :] + 2 * both  # both on, or both off
        self.n_units += is_on.shape[1]

    def log_determinant(self) -> float:
        """The score; minus infinity if images cannot be told apart. Raises TrialError if there was no ReLU."""
        if self.n_units == 0:
            raise TrialError("nwot: the network has no ReLU, so it has no patterns; leave the score out")
        return float(torch.linalg.slogdet(self.kernel).logabsdet)


class _WithoutBatchNorm(TorchFunctionMode):
    """While active, batch norms pass on what they read."""

    def __torch_function__(
        self, func: Any, types: Collection[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is functional.batch_norm:
            return args[0] if args else kwargs["input"]
        return func(*args, **kwargs)


class _Outputs:
    """Keeps what each layer computes, before anything changes it in place.

    Args:
        layers: to watch until `close`.
    """

    def __init__(self, layers: Sequence[nn.Conv2d | nn.Linear]) -> None:
        self.kept: list[tuple[nn.Conv2d | nn.Linear, Tensor]] = []
        self._hooks = [layer.register_forward_hook(self._keep) for layer in layers]

    def _keep(self, layer: Any, read: object, output: Tensor) -> Tensor:
        self.kept.append((layer, output))
        return output.clone()

    def close(self) -> None:
        """Watch no longer."""
        for hook in self._hooks:
            hook.remove()


def _scores_of_batch(network: nn.Module, images: Tensor, labels: Tensor, names: Sequence[str]) -> dict[str, float]:
    """The scores that need images, all from one pass; shapes (B, C, H, W), normalised, and (B,)."""
    layers = _layers(network)
    images = images.requires_grad_("jacov" in names)
    patterns = PatternKernel(len(images))
    outputs = _Outputs(layers if "fisher" in names else [])
    needs_gradients = any(name != "nwot" for name in names)
    with torch.set_grad_enabled(needs_gradients):
        if "nwot" in names:
            with patterns:
                logits = _logits(network(images))
        else:
            logits = _logits(network(images))
    outputs.close()
    found: dict[str, float] = {}
    if "nwot" in names:
        found["nwot"] = patterns.log_determinant()
    of_gradients = [name for name in _OF_GRADIENTS if name in names]
    if "jacov" in names:
        found["jacov"] = _jacov(_gradients(logits.sum(), [images], keep=bool(of_gradients))[0])
    if of_gradients:
        loss = functional.cross_entropy(logits, labels)
        weights = [layer.weight for layer in layers]
        gradients = _gradients(loss, [*weights, *(kept for _, kept in outputs.kept)])
        pairs = list(zip(weights, gradients, strict=False))
        found["grad_norm"] = sum(float(g.norm()) for _, g in pairs)
        found["snip"] = sum(float((w.detach() * g).abs().sum(dtype=torch.float64)) for w, g in pairs)
        found["fisher"] = sum(
            _fisher(layer, output.detach(), gradient)
            for (layer, output), gradient in zip(outputs.kept, gradients[len(weights) :], strict=True)
        )
    return found


def _layers(network: nn.Module) -> list[nn.Conv2d | nn.Linear]:
    return [module for module in network.modules() if isinstance(module, nn.Conv2d | nn.Linear)]


def _logits(output: Tensor | tuple[Tensor, Tensor]) -> Tensor:
    return output[0] if isinstance(output, tuple) else output


def _gradients(of: Tensor, by: Sequence[Tensor], keep: bool = False) -> list[Tensor]:
    """Gradients, zero where there is no dependence."""
    if not of.requires_grad:
        return [torch.zeros_like(one) for one in by]
    found = torch.autograd.grad(of, by, retain_graph=keep, allow_unused=True)
    return [torch.zeros_like(one) if g is None else g for one, g in zip(by, found, strict=True)]


def _fisher(layer: nn.Conv2d | nn.Linear, output: Tensor, gradient: Tensor) -> float:
    products = output * gradient
    if products.ndim > 2 and isinstance(layer, nn.Conv2d):
        products = products.flatten(2).sum(dim=2)
    of_channels = products.reshape(-1, products.shape[-1]).square().mean(dim=0) / 2
    return float(of_channels.sum(dtype=torch.float64)) * layer.weight[0].numel()


def _jacov(gradient: Tensor) -> float:
    """From the gradient by each image, shape (B, C, H, W); NaN if one of them is constant."""
    correlations = torch.corrcoef(gradient.flatten(1).double())
    if not torch.isfinite(correlations).all():
        return math.nan
    shifted = torch.linalg.eigvalsh(correlations).clamp_min(0) + _JACOV_K
    return -float((shifted.log() + 1 / shifted).sum())
