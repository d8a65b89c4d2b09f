"""Proximal policy optimisation of a factored categorical policy: one distribution for each decision.

A candidate is an episode of one step whose action is its code. The policy, and a value baseline beside it, are a small
network of the direction (weights of the objectives, see `codesign.strategies.scalar`), so that one policy serves all
directions; for a single objective its input is the constant 1. The reward is the negative scalar loss.

Source: Schulman et al. 2017, eq. 7 (clipped objective) and 9 (value and entropy terms), with advantages normalised over
a rollout. Departures: no time steps, so no discounting; proposals that repeat a known candidate are mutated until they
are new, with the probability that the policy gives to what they became.

Figures are computed in float64 on one thread and saved bit for bit, the optimiser's moments included.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from codesign.strategies.scalar import Scalar
from codesign.strategies.search_state import SearchState
from codesign.strategies.strategy import FloatArray, StateDict, Strategy, make_options, pack, require, tunable, unpack
from search_spaces.ops import IntArray
from search_spaces.space import SearchSpace

VALUE_COEFFICIENT = 0.5
"""c1 of eq. 9."""
_OPEN = 1024
"""Proposals remembered until they are told."""


@dataclass(frozen=True, slots=True)
class PpoOptions:
    """Options of `Ppo`.

    Attributes:
        learning_rate: of Adam.
        rollout: results between two updates.
        epochs: gradient steps of an update, each over the whole rollout.
        clip: how far the probability ratio may move from 1 (epsilon of eq. 7).
        entropy: weight of the entropy bonus (c2 of eq. 9), of the mean over decisions of entropy / log(options).
        hidden: width of the network's one hidden layer.
    """

    learning_rate: float = tunable(0.02, 0.003, 0.01, 0.03, 0.1)
    rollout: int = tunable(16, 8, 16, 32)
    epochs: int = tunable(6, 2, 4, 8)
    clip: float = tunable(0.2, 0.1, 0.2, 0.4)
    entropy: float = tunable(0.01, 0.0, 0.01, 0.05)
    hidden: int = tunable(32, 16, 64)

    def __post_init__(self) -> None:
        require(0 < self.learning_rate <= 1, "learning_rate", self.learning_rate, "a number above 0, at most 1")
        require(self.rollout >= 2, "rollout", self.rollout, "a number from 2")
        require(self.epochs >= 1, "epochs", self.epochs, "a number from 1")
        require(0 < self.clip < 1, "clip", self.clip, "a number between 0 and 1")
        require(0 <= self.entropy <= 10, "entropy", self.entropy, "a number from 0 to 10")
        require(self.hidden >= 1, "hidden", self.hidden, "a number from 1")


@dataclass(frozen=True, slots=True)
class _Rollout:
    """Results that wait for an update.

    Attributes:
        codes: shape (n, d), as proposed.
        weights: shape (n, m), the direction of each proposal.
        log_probabilities: shape (n,), under the policy that proposed it.
        losses: shape (n, m).
        violations: shape (n,).
    """

    codes: IntArray
    weights: FloatArray
    log_probabilities: FloatArray
    losses: FloatArray
    violations: FloatArray

    @classmethod
    def empty(cls, d: int, m: int) -> _Rollout:
        """No result."""
        return cls(np.zeros((0, d), dtype=np.int64), np.zeros((0, m)), np.zeros(0), np.zeros((0, m)), np.zeros(0))

    def plus(self, other: _Rollout) -> _Rollout:
        """With further results."""
        pairs = [(getattr(self, name), getattr(other, name)) for name in self.__slots__]
        return _Rollout(*(np.concatenate(pair) for pair in pairs))


class Ppo(Strategy):
    """Learns which options to draw.

    Args:
        space: where candidates come from.
        n_objectives: number of losses told for each.
        seed: of the random generator and of the network's first weights.
        options: see `PpoOptions`.
    """

    Options = PpoOptions

    def __init__(self, space: SearchSpace, n_objectives: int, seed: int, **options: object) -> None:
        self.options = make_options(PpoOptions, options)
        self._state = SearchState("ppo", space, n_objectives, seed)
        self._scalar = Scalar(n_objectives)
        self._n_objectives = n_objectives
        self._exists = torch.from_numpy(np.arange(int(space.n_options.max(initial=1))) < space.n_options[:, None])
        self._net = _Network(n_objectives, self.options.hidden, self._exists, seed)
        self._adam = torch.optim.Adam(self._net.parameters(), lr=self.options.learning_rate)
        self._open: dict[int, tuple[IntArray, FloatArray, float]] = {}  # key -> code, direction, log probability
        self._rollout = _Rollout.empty(len(space.choices), n_objectives)

    def ask(self, n: int) -> IntArray:
        """See `Strategy.ask`."""
        if n == 0:
            return self._state.sample(0)
        weights = self._scalar.weights(n, self._state.rng)
        with _one_thread(), torch.no_grad():
            probabilities = self._net(torch.from_numpy(weights))[0].exp().numpy()
        drawn = (self._state.rng.random((*probabilities.shape[:2], 1)) >= probabilities.cumsum(axis=2)).sum(axis=2)
        codes = np.minimum(drawn, self._state.space.n_options - 1).astype(np.int64)
        codes = self._state.propose(codes, self._state.mutate)
        chosen = np.take_along_axis(probabilities, codes[:, :, None], axis=2)[:, :, 0]
        log_probabilities = np.log(np.maximum(chosen, np.finfo(np.float64).tiny)).sum(axis=1)
        for row, key in enumerate(self._state.keys(codes)):
            self._open[key] = (codes[row].copy(), weights[row], float(log_probabilities[row]))
        for key in list(self._open)[: max(0, len(self._open) - _OPEN)]:
            del self._open[key]
        return codes

    def tell(self, codes: IntArray, losses: FloatArray, violations: FloatArray) -> None:
        """See `Strategy.tell`; results that this policy did not ask for widen the ranges of losses alone."""
        told = self._state.note(codes, losses, violations)
        self._scalar.learn(told.losses, told.violations)
        for row, key in enumerate(self._state.keys(told.codes)):
            if key not in self._open:
                continue
            code, weights, log_probability = self._open.pop(key)
            rows = slice(row, row + 1)
            result = _Rollout(
                code[None], weights[None], np.array([log_probability]), told.losses[rows], told.violations[rows]
            )
            self._rollout = self._rollout.plus(result)
            if len(self._rollout.codes) >= self.options.rollout:
                with _one_thread():
                    self._update(self._rollout)
                self._rollout = _Rollout.empty(codes.shape[1], self._n_objectives)

    def state_dict(self) -> StateDict:
        """See `Strategy.state_dict`."""
        moments = [self._adam.state[parameter] for parameter in self._net.parameters()]
        return {
            **self._state.state_dict(),
            "scalar": self._scalar.state_dict(),
            "network": {name: pack(values.numpy()) for name, values in self._net.state_dict().items()},
            "adam": [{name: pack(values.numpy()) for name, values in moment.items()} for moment in moments],
            "open": [[key, code.tolist(), pack(weights), log] for key, (code, weights, log) in self._open.items()],
            "rollout": {name: pack(getattr(self._rollout, name)) for name in self._rollout.__slots__},
        }

    def load_state_dict(self, state: StateDict) -> None:
        """See `Strategy.load_state_dict`."""
        self._state.load_state_dict(state)
        self._scalar.load_state_dict(state["scalar"])
        self._net.load_state_dict({name: _tensor(packed) for name, packed in state["network"].items()})
        self._adam = torch.optim.Adam(self._net.parameters(), lr=self.options.learning_rate)
        for parameter, moments in zip(self._net.parameters(), state["adam"], strict=True):
            if moments:
                self._adam.state[parameter] = {name: _tensor(packed) for name, packed in moments.items()}
        self._open = {
            key: (np.array(code, dtype=np.int64), unpack(weights), log) for key, code, weights, log in state["open"]
        }
        self._rollout = _Rollout(**{name: unpack(packed) for name, packed in state["rollout"].items()})

    def _update(self, rollout: _Rollout) -> None:
        """Some steps on the clipped objective."""
        rewards = torch.from_numpy(-self._scalar.value(rollout.losses, rollout.violations, rollout.weights))
        weights, codes = torch.from_numpy(rollout.weights), torch.from_numpy(rollout.codes)
        old = torch.from_numpy(rollout.log_probabilities)
        with torch.no_grad():
            gains = rewards - self._net(weights)[1]
            gains = (gains - gains.mean()) / (gains.std() + 1e-8)
        log_options = torch.log(self._exists.sum(dim=1).clamp(min=2).double())
        for _ in range(self.options.epochs):
            logs, values = self._net(weights)
            ratio = torch.exp(logs.gather(2, codes[:, :, None])[:, :, 0].sum(dim=1) - old)
            clipped = ratio.clamp(1 - self.options.clip, 1 + self.options.clip)
            gain = torch.minimum(ratio * gains, clipped * gains).mean()
            terms = torch.where(self._exists, -logs.exp() * logs.masked_fill(~self._exists, 0.0), 0.0)
            entropy = (terms.sum(dim=2) / log_options).mean()
            error = ((values - rewards) ** 2).mean()
            loss = -gain + VALUE_COEFFICIENT * error - self.options.entropy * entropy
            self._adam.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(self._net.parameters(), 1.0)
            self._adam.step()


class _Network(nn.Module):
    """Direction (n, m) -> log probabilities (n, d, options) and values (n,); -inf for options that are not there."""

    def __init__(self, n_objectives: int, hidden: int, exists: Tensor, seed: int) -> None:
        super().__init__()
        rng = np.random.default_rng([seed, 1])
        self._exists = exists
        self.body = _linear(n_objectives, hidden, 1.0, rng)
        self.policy = _linear(hidden, exists.numel(), 0.01, rng)  # near uniform at first
        self.value = _linear(hidden, 1, 1.0, rng)

    def forward(self, weights: Tensor) -> tuple[Tensor, Tensor]:
        features = torch.tanh(self.body(weights))
        logits = self.policy(features).reshape(len(weights), *self._exists.shape)
        logs = torch.log_softmax(logits.masked_fill(~self._exists, -torch.inf), dim=2)
        return logs, self.value(features)[:, 0]


def _linear(n_in: int, n_out: int, gain: float, rng: np.random.Generator) -> nn.Linear:
    """A layer drawn from a generator of its own: torch's global random state is left alone."""
    layer = nn.Linear(n_in, n_out, dtype=torch.float64, device="meta").to_empty(device="cpu")
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(rng.standard_normal((n_out, n_in)) * gain / np.sqrt(n_in)))
        layer.bias.zero_()
    return layer


def _tensor(packed: StateDict) -> Tensor:
    return torch.from_numpy(np.array(unpack(packed)))


@contextmanager
def _one_thread() -> Iterator[None]:
    """Sums over one thread alone have one order; tensors this small are also done sooner so."""
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(n_threads)
