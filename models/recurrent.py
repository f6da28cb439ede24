r"""Mixture density recurrent networks: the distribution of the next state given all states so far.

The memory of a world model (Ha & Schmidhuber 2018, arXiv:1803.10122, section 2.2; Graves 2013, arXiv:1308.0850):

$$p(z_{t+1} | z_{\le t}, c_{\le t}) = \sum_k \pi_k(h_t) \prod_d N(z_{t+1, d}; \mu_{kd}(h_t), \sigma_{kd}(h_t)),$$

where $h_t$ is the state of a recurrent network that has read the states z and the context c (actions, cues). One set
of weights $\pi$ for all dimensions makes all coordinates choose the same component: all are of the upper branch, or
none. With ``weights="per_dimension"``, as in the public code of that paper, each coordinate chooses its component by
itself, so that a sample can be a combination that never occurs; it is here for comparison.

- `MixtureRNN`: the network. `sequence_pair`: its Pyro model, with masks for sequences of unequal lengths;
  `sequence_loss`: the same as a loss.
- `last_layer_pair`: the same with a posterior of the last layer, on the features of a trained network.
- `networks_of`: the networks of all draws of such a posterior.
- `posterity.models.dreaming` samples the future from it.
"""

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from posterity.models.chunks import untransformed
from posterity.models.mixtures import (
    Mixture,
    MixtureHead,
    MultivariateMixtureHead,
    mixture_head,
    multivariate_mixture_head,
)
from posterity.models.networks import bayesian, point
from posterity.models.pair import Pair
from posterity.models.recurrence import Recurrence, State
from posterity.validation import (
    check_choice,
    check_flag,
    check_floating,
    check_integer,
    check_number,
    check_tensor,
    shown_shape,
)

WEIGHTS = ("shared", "per_dimension")
COVARIANCES = ("diagonal", "full")


class MixtureRNN(nn.Module):
    """States (N, T, D) and context (N, T, C) -> features (N, T, F) of the distribution of the next states.

    Args:
        targets: D, the number of dimensions of a state.
        context: C, further inputs of each step that are not predicted, such as actions or cues; 0 for none.
        hidden: width of the recurrent layer.
        components: K, of the mixture.
        cell: "lstm" or "gru".
        weights: "shared" (one set of mixture weights for all dimensions) or "per_dimension".
        covariance: of a component, "diagonal" or, with shared weights, "full".
        ends: whether a further output is the logit that the episode ends with the next step.
        rewarded: whether two further outputs are mean and log standard deviation of the reward of the next step.
        floor: lower bound of every scale, in standard deviations of the states.
        span: the number of steps over which an early state may matter, such as the length of an episode; at the start
            of training the gates keep values for 2 to ``span`` steps. None: for about 2 steps, as in torch's layers.
        seed: seed of the initial weights.

    Raises:
        ValueError: an unknown cell, kind of weights or covariance, full covariances with weights per dimension, a
            size below 1, or a span below 3.

    >>> net = MixtureRNN(targets=2, context=3)
    >>> features, state = net(torch.zeros(5, 7, 2), torch.zeros(5, 7, 3))
    >>> net.next_state(features).batch_shape, net.next_state(features).event_shape
    (torch.Size([5, 7]), torch.Size([2]))
    """

    loc: Tensor
    scale: Tensor

    def __init__(
        self,
        targets: int,
        context: int = 0,
        *,
        hidden: int = 64,
        components: int = 5,
        cell: str = "lstm",
        weights: str = "shared",
        covariance: str = "diagonal",
        ends: bool = False,
        rewarded: bool = False,
        floor: float = 1e-3,
        span: int | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        check_integer("targets", targets, 1)
        check_integer("context", context, 0)
        check_integer("hidden", hidden, 1)
        check_choice("weights", weights, WEIGHTS)
        check_choice("covariance", covariance, COVARIANCES)
        if weights != "shared" and covariance != "diagonal":
            raise ValueError(f"expected covariance to be 'diagonal' with weights {weights!r}, got {covariance!r}")
        self.targets, self.context, self.weights = targets, context, weights
        self.ends, self.rewarded = check_flag("ends", ends), check_flag("rewarded", rewarded)
        self.head: MixtureHead | MultivariateMixtureHead
        if weights == "shared":
            self.head = multivariate_mixture_head(components, targets, covariance=covariance, floor=floor)
            outputs = self.head.features
        else:
            self.head = mixture_head(components, floor=floor)
            outputs = targets * self.head.features
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            self.recurrent = Recurrence(cell, targets + context, hidden)
            self.output = nn.Linear(hidden, outputs + self.ends + 2 * self.rewarded)
            if span is not None:
                self.recurrent.remember(span)
        self.register_buffer("loc", torch.zeros(targets))
        self.register_buffer("scale", torch.ones(targets))

    def standardised(self, states: Tensor) -> "MixtureRNN":
        """This network, after storing mean and standard deviation of the states (..., D); without padding: ``z[mask]``.

        Raises:
            ValueError: states of another width, or a dimension that is constant.
        """
        check_floating("states", states)
        if states.shape[-1] != self.targets:
            raise ValueError(f"expected states of shape (..., {self.targets}), got {shown_shape(states)}")
        flat = states.detach().reshape(-1, self.targets).double()
        loc, scale = flat.mean(0), flat.std(0, correction=0)
        if not bool(torch.isfinite(flat).all()) or not bool((scale > 0).all()):
            raise ValueError(
                f"expected finite states that vary in every dimension, got standard deviations {scale.tolist()}"
            )
        self.loc.copy_(loc)
        self.scale.copy_(scale)
        return self

    def forward(self, states: Tensor, context: Tensor | None = None, memory: State = None) -> tuple[Tensor, State]:
        """Features of the steps after each of the given ones, and the memory after the last.

        Raises:
            ValueError: states or context of another shape, or a context that the network does not have.
        """
        hidden, memory = self.hidden_states(states, context, memory)
        return self.output(hidden), memory

    def hidden_states(self, states: Tensor, context: Tensor | None, memory: State) -> tuple[Tensor, State]:
        """The output (N, T, hidden) of the recurrent layer, and its memory."""
        self.check(states, context)
        inputs = (states - self.loc) / self.scale
        return self.recurrent(inputs if context is None else torch.cat([inputs, context.to(inputs)], -1), memory)

    def check(self, states: Tensor, context: Tensor | None) -> None:
        """Raise ``ValueError`` for states or context of another shape or type."""
        check_floating("states", states)
        if states.ndim != 3 or states.shape[-1] != self.targets or not states.shape[1]:
            shape = f"(N, T, {self.targets}), T of 1 or more"
            raise ValueError(f"expected states of shape {shape}, got {shown_shape(states)}")
        wanted = (*states.shape[:2], self.context)
        if (context is None) != (self.context == 0) or (context is not None and tuple(context.shape) != wanted):
            got = None if context is None else shown_shape(context)
            raise ValueError(f"expected context {f'of shape {wanted}' if self.context else 'to be None'}, got {got}")

    def next_state(self, features: Tensor) -> Distribution:
        """The distribution of the next state in its units, batch shape (...) and event shape (D,).

        A `Mixture` of normals with shared weights; with weights per dimension independent mixtures of one dimension.
        """
        if isinstance(self.head, MultivariateMixtureHead):
            return self.head.in_units(features, self.loc, self.scale)
        features = features[..., : features.shape[-1] - self.ends - 2 * self.rewarded]
        each = self.head(features.unflatten(-1, (self.targets, -1)))
        logits, normal = each.log_weights, each.component_distribution
        loc, scale = self.loc[:, None] + self.scale[:, None] * normal.loc, self.scale[:, None] * normal.scale
        return dist.Independent(Mixture.normal(logits, loc, scale), 1)

    def end(self, features: Tensor) -> dist.Bernoulli:
        """The distribution of "the episode ends with the next step", batch shape (...)."""
        if not self.ends:
            raise ValueError("expected a network with ends=True, got one that does not predict the end")
        return dist.Bernoulli(logits=features[..., -1 - 2 * self.rewarded])

    def reward(self, features: Tensor) -> dist.Normal:
        """The distribution of the reward of the next step, a normal of batch shape (...)."""
        if not self.rewarded:
            raise ValueError("expected a network with rewarded=True, got one that does not predict rewards")
        mean, raw = features[..., -2:].unbind(-1)
        return dist.Normal(mean, nn.functional.softplus(raw) + 1e-2)


def sequence_loss(
    net: MixtureRNN,
    states: Tensor,
    context: Tensor | None,
    mask: Tensor,
    y: Tensor,
    done: Tensor | None = None,
    reward: Tensor | None = None,
) -> Tensor:
    """The negative log likelihood of the network in nats per step that counts, shape ().

    Training `sequence_pair` minimises the same sum, not divided by the number of steps.

    Args:
        net: the network.
        states, context, mask, y, done, reward: as in `sequence_pair`; ends and rewards that are left out do not count.

    Raises:
        ValueError: shapes that do not fit, a mask without any step, or ends or rewards that the network does not
            predict.

    >>> net, z = MixtureRNN(targets=2), torch.randn(5, 8, 2)
    >>> sequence_loss(net, z[:, :-1], None, torch.ones(5, 7, dtype=torch.bool), z[:, 1:]).shape
    torch.Size([])
    """
    states, context, following, reward = _counted(net, states, context, mask, y, done, reward)
    features, _ = net(states, context)
    log_prob = net.next_state(features).log_prob(y if following is None else following)
    if done is not None:
        log_prob = log_prob + net.end(features).log_prob(done.to(log_prob))
    if reward is not None:
        log_prob = log_prob + net.reward(features).log_prob(reward)
    return -torch.where(mask, log_prob, 0.0).sum() / mask.sum()


def sequence_pair(net: MixtureRNN) -> Pair:
    """Maximum likelihood of a `MixtureRNN`: ``model(states, context, mask, y, done, reward)`` and an empty guide.

    States are (N, T, D), context (N, T, C) or None, the mask (N, T) is False for steps that do not exist, and y
    (N, T, D) holds the state after each step; done (N, T), for a network with ``ends``, says whether the episode ends
    with that state, and reward (N, T) is its reward, for one with ``rewarded``. Values after the last step that counts
    do not matter; earlier steps that the mask excludes are read, and not scored. With several observed sites,
    `posterity.inference.infer` needs ``site="y"``.

    Raises:
        ValueError: in the model, shapes that do not fit, or a mask without any step.
    """

    def features(states: Tensor, context: Tensor | None) -> Tensor:
        return point("net", net)(states, context)[0]

    return Pair(_model(net, features), None)


def last_layer_pair(net: MixtureRNN, *, scale: float = 1.0, guide: str = "mean_field") -> Pair:
    """A posterior of the last layer on the recurrent layer of a trained ``net``, as `sequence_pair`.

    The prior of each weight is normal around its value in ``net``, with standard deviation ``scale`` over the square
    root of the width; the recurrent layer is fixed, so that this is not the posterior of the whole network.
    """
    check_number("scale", scale, "(0, inf)")
    net = deepcopy(net).requires_grad_(False)  # a posterior that does not change if the network is trained on
    output = deepcopy(net.output).requires_grad_(True)
    width = scale / output.in_features**0.5
    prior = {name: dist.Normal(value, width) for name, value in net.output.named_parameters()}

    def features(states: Tensor, context: Tensor | None) -> Tensor:
        with torch.no_grad():
            hidden, _ = net.hidden_states(states, context, None)
        return bayesian("output", output, prior)(hidden)

    return Pair(_model(net, features), guide)


def networks_of(net: MixtureRNN, draws: Mapping[str, Tensor]) -> list[MixtureRNN]:
    """The network of each draw of a posterior of `sequence_pair` or `last_layer_pair`, to dream with.

    Args:
        net: the network of the pair.
        draws: ``draws`` of a `posterity.inference.Posterior`: weights by site, (chain, draw, ...) each. Members of an
            ensemble are chains of one draw. The networks are ordered by chain.

    Raises:
        ValueError: draws of another network: not all of its weights, and not those of its last layer either.
    """
    names = dict(net.named_parameters())
    found = {site.removeprefix("net."): values for site, values in draws.items()}
    found = {name: values.flatten(0, 1) for name, values in found.items() if name in names and values.ndim > 1}
    last = {name for name in names if name.startswith("output.")}
    others = [name for name, values in found.items() if values.shape[1:] != names[name].shape]
    if set(found) not in (set(names), last) or others:
        shapes = {site: tuple(values.shape[2:]) for site, values in draws.items()}
        raise ValueError(f"expected draws of the weights of this network, or of its last layer, got {shapes}")
    networks = []
    for number in range(len(next(iter(found.values())))):
        other = deepcopy(net).requires_grad_(False)
        other.load_state_dict({name: values[number] for name, values in found.items()}, strict=False)
        networks.append(other)
    return networks


def _model(net: MixtureRNN, features_of: Any) -> Any:
    def model(
        states: Tensor,
        context: Tensor | None,
        mask: Tensor,
        y: Tensor | None = None,
        done: Tensor | None = None,
        reward: Tensor | None = None,
    ) -> Tensor:
        states, context, y, reward = _counted(net, states, context, mask, y, done, reward)
        features = features_of(states, context)
        sequences, steps = states.shape[:2]
        with pyro.plate("obs", sequences, dim=-2), pyro.plate("steps", steps, dim=-1):
            if net.ends:
                pyro.sample("done", net.end(features).mask(mask), obs=done)
            if net.rewarded:
                pyro.sample("reward", net.reward(features).mask(mask), obs=reward)
            return pyro.sample("y", dist.MaskedDistribution(net.next_state(features), mask), obs=y)

    return model


def _counted(
    net: MixtureRNN,
    states: Tensor,
    context: Tensor | None,
    mask: Tensor,
    y: Tensor | None,
    done: Tensor | None,
    reward: Tensor | None,
) -> tuple[Tensor, Tensor | None, Tensor | None, Tensor | None]:
    """States, context, y and reward, replaced where nothing counts: there 0 times an infinite slope would be NaN.

    Raises:
        ValueError: shapes that do not fit, a mask without any step, or values that count and are not finite.
    """
    net.check(states, context)
    check_tensor("mask", mask)
    if mask.dtype != torch.bool or mask.shape != states.shape[:2]:
        wanted = tuple(states.shape[:2])
        raise ValueError(f"expected mask of shape {wanted} and dtype bool, got {shown_shape(mask)}, {mask.dtype}")
    for name, value, shape in (("y", y, states.shape), ("done", done, mask.shape), ("reward", reward, mask.shape)):
        if value is not None and (not isinstance(value, Tensor) or value.shape != shape):
            raise ValueError(f"expected {name} of shape {tuple(shape)}, got {shown_shape(value)}")
    plain = untransformed(states, mask)
    if plain and not bool(mask.any()):
        raise ValueError("expected a mask with at least one step, got one that excludes all of them")
    if not plain or not bool(mask.all()):
        read = (mask.long().flip(1).cumsum(1).flip(1) > 0)[..., None]  # up to the last step that counts
        states = torch.where(read, states, net.loc)
        context = context if context is None else torch.where(read, context, 0.0)
        y = y if y is None else torch.where(mask[..., None], y, net.loc)
        reward = reward if reward is None else torch.where(mask, reward, 0.0)
    if plain:
        for name, value in (("states", states), ("context", context), ("y", y), ("reward", reward)):
            if value is not None and not bool(value.isfinite().all()):
                raise ValueError(f"expected {name} to be finite in the steps that count, got NaN or infinity")
    return states, context, y, reward
