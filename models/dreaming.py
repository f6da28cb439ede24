r"""Dreams of a `MixtureRNN`: samples of the future, and the tree of its likely branches.

`dream` samples sequences with a temperature $\tau$, which raises weights to the power $1/\tau$ and multiplies scales by
$\sqrt \tau$ (Ha & Schmidhuber 2018, section 2.2). `branches` follows the means of the components instead and sums their
weights: if the future splits at a few steps and noise matters little, its probabilities are close to the shares of
dreams.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components
from torch import Tensor
from torch.distributions import MultivariateNormal

from posterity.models.mixtures import Mixture, MultivariateMixtureHead
from posterity.models.recurrent import MixtureRNN
from posterity.random import as_generator
from posterity.validation import check_finite, check_floating, check_integer, check_number, shown, shown_shape

Policy = Callable[[Tensor, Any], Tensor]


@dataclass(frozen=True, eq=False)
class Dreams:
    """N sampled futures.

    Attributes:
        states: (N, steps, D), in the units of the network.
        components: (N, steps), the component that each state came from, or (N, steps, D) with weights per dimension.
        ended: (N, steps), whether the episode has ended with this step or before; False if the network predicts no end.
        rewards: (N, steps), sampled; None if the network predicts no rewards.
    """

    states: Tensor
    components: Tensor
    ended: Tensor
    rewards: Tensor | None = None


def dream(
    net: MixtureRNN,
    states: Tensor,
    context: Tensor | None = None,
    *,
    steps: int,
    temperature: float = 1.0,
    future: Tensor | Policy | None = None,
    seed: int | torch.Generator,
) -> Dreams:
    """One future of ``steps`` states after each of the sequences ``states`` (N, T, D).

    Args:
        net: the network.
        states: what has happened so far; repeat a sequence for several dreams of it.
        context: (N, T, C) of these steps.
        steps: the length of the dreams.
        temperature: 1 samples the predicted distribution; below 1 dreams vary less, above 1 more.
        future: for a network with context: the context (N, steps, C) that belongs to the dreamed states, or a policy.
            A policy is a function of a dreamed state (N, D) and the memory before the network reads it; it returns the
            context (N, C). The context of the last dreamed state is not used.
        seed: an int, or a generator, whose state advances.

    Raises:
        ValueError: shapes that do not fit, values that are not finite, a future that is missing or that the network
            does not read, no steps, or a temperature that is not above 0.
    """
    check_integer("steps", steps, 1)
    check_number("temperature", temperature, "(0, inf)")
    random = as_generator(seed)
    _check_finite(states=states, context=context)
    _check_future(net, future, (len(states), steps, net.context), policy=True)
    found, chosen, ends, rewards = [], [], [], []
    over = torch.zeros(len(states), dtype=torch.bool)
    with torch.no_grad():
        features, memory = net(states, context)
        for step in range(steps):
            last = features[:, -1]
            state, component = _drawn(net, last, temperature, random)
            if net.ends:
                over = over | (torch.rand(len(state), generator=random) < net.end(last).probs)
            if net.rewarded:
                gain = net.reward(last)
                noise = torch.randn(len(state), generator=random, dtype=gain.loc.dtype)
                rewards.append(gain.loc + temperature**0.5 * gain.scale * noise)
            found.append(state)
            chosen.append(component)
            ends.append(over)
            if step + 1 < steps:
                given = None
                if future is not None:
                    given = (future[:, step] if isinstance(future, Tensor) else future(state, memory))[:, None]
                features, memory = net(state[:, None], given, memory)
    gained = torch.stack(rewards, 1) if rewards else None
    return Dreams(torch.stack(found, 1), torch.stack(chosen, 1), torch.stack(ends, 1), gained)


def _check_finite(**values: Any) -> None:
    """Layers that saturate turn infinity into a plausible number."""
    for name, value in values.items():
        if isinstance(value, Tensor):
            check_floating(name, value)
            check_finite(name, value)


def _check_future(net: MixtureRNN, future: Any, wanted: tuple[int, ...], *, policy: bool) -> None:
    if future is None and net.context:
        raise ValueError(f"expected future, the context of the dreamed steps, of shape {wanted}, got None")
    if future is not None and not net.context:
        raise ValueError("expected future to be None for a network without context, got a future")
    if isinstance(future, Tensor):
        if tuple(future.shape) != wanted:
            raise ValueError(f"expected future of shape {wanted}, got {shown_shape(future)}")
        check_finite("future", future)
    elif future is not None and not (policy and callable(future)):
        raise ValueError(f"expected future to be a tensor{' or a function' if policy else ''}, got {shown(future)}")


def _drawn(net: MixtureRNN, features: Tensor, temperature: float, random: torch.Generator) -> tuple[Tensor, Tensor]:
    """A state (N, D), and the component it came from, (N,) or (N, D)."""
    if isinstance(net.head, MultivariateMixtureHead) and net.head.covariance == "diagonal":
        return _drawn_diagonal(net, net.head, features[:, : net.head.features], temperature, random)
    predicted: Any = net.next_state(features)
    shared = isinstance(predicted, Mixture)
    mixture = (predicted if shared else predicted.base_dist).tempered(temperature)
    component = torch.multinomial(mixture.log_weights.exp().flatten(0, -2), 1, generator=random)
    component = component.reshape(mixture.batch_shape)
    normal = mixture.component_distribution
    normal = getattr(normal, "base_dist", normal)
    if not shared:
        loc, scale = (value.gather(-1, component[..., None])[..., 0] for value in (normal.loc, normal.scale))
    else:
        row = torch.arange(len(component))
        full = isinstance(normal, MultivariateNormal)
        loc, scale = (value[row, component] for value in (normal.loc, normal.scale_tril if full else normal.scale))
    noise = torch.randn(loc.shape, generator=random, dtype=loc.dtype)
    spread = (scale @ noise[..., None])[..., 0] if scale.ndim > noise.ndim else scale * noise
    return loc + spread, component


def _drawn_diagonal(
    net: MixtureRNN, head: MultivariateMixtureHead, features: Tensor, temperature: float, random: torch.Generator
) -> tuple[Tensor, Tensor]:
    """As `_drawn`, with the means and scales of the drawn components alone, and without a distribution."""
    logits = head.logits(features) / temperature
    component = torch.multinomial((logits - logits.amax(-1, keepdim=True)).exp_(), 1, generator=random)[:, 0]
    loc, scale = head.component(features, component)
    noise = torch.randn(loc.shape, generator=random, dtype=loc.dtype)
    return net.loc + net.scale * (loc + math.sqrt(temperature) * scale * noise), component


@dataclass(frozen=True, eq=False)
class Branches:
    """The likely futures of one sequence, the most probable first.

    Attributes:
        states: (B, steps, D), the means along each branch, in the units of the network.
        probabilities: (B,). They sum to less than 1 if branches were dropped, or if the network predicts ends: episodes
            that end before the last step have no branch.
    """

    states: Tensor
    probabilities: Tensor


def branches(
    net: MixtureRNN,
    states: Tensor,
    context: Tensor | None = None,
    *,
    steps: int,
    future: Tensor | None = None,
    width: int = 32,
    min_probability: float = 1e-3,
    merge: float = 3.0,
) -> Branches:
    """The tree of likely futures after one sequence ``states`` (1, T, D), by its branches.

    In each step the components of the mixture that overlap are one group; the future of each group goes on from the
    group's mean with the group's probability. Noise within a group is neglected. A component of less than
    ``min_probability`` joins the group that it overlaps most, and never connects two.

    Args:
        net: a network with shared weights.
        states: what has happened so far.
        context: (1, T, C) of these steps.
        steps: the length of the branches.
        future: for a network with context, that of the steps to come, (steps, C).
        width: largest number of branches that are followed.
        min_probability: branches with less are dropped.
        merge: components overlap if their means differ by less than this many of the smaller standard deviation in
            every dimension; groups are chains of overlapping components.

    Raises:
        ValueError: more than one sequence, shapes that do not fit, values that are not finite, a future that is missing
            or that the network does not read, or weights per dimension.
    """
    for name, value in (("steps", steps), ("width", width)):
        check_integer(name, value, 1)
    check_number("min_probability", min_probability, "[0, 1)")
    check_number("merge", merge, "(0, inf)")
    if net.weights != "shared":
        raise ValueError(f"expected a network with shared weights, got weights {net.weights!r}")
    if len(states) != 1:
        raise ValueError(f"expected one sequence, states of shape (1, T, {net.targets}), got {shown_shape(states)}")
    _check_finite(states=states, context=context)
    _check_future(net, future, (steps, net.context), policy=False)
    with torch.no_grad():
        features, memory = net(states, context)
        past, probabilities = states.new_zeros(1, 0, net.targets), states.new_ones(1)
        for step in range(steps):
            parents, means, shares = _groups(net.next_state(features[:, -1]), merge, min_probability)
            chances, ends = (
                probabilities[parents] * shares,
                net.end(features[:, -1]).probs[parents] if net.ends else None,
            )
            kept = chances.argsort(descending=True)[:width]
            kept = kept[chances[kept] >= min_probability]
            parents, probabilities = parents[kept], chances[kept]
            past = torch.cat([past[parents], means[kept][:, None]], 1)
            if step + 1 < steps and len(kept):
                if ends is not None:
                    probabilities = probabilities * (1 - ends[kept])
                memory = _selected(memory, parents)
                given = None if future is None else future[step].expand(len(kept), 1, -1)
                features, memory = net(past[:, -1:], given, memory)
    return Branches(past, probabilities)


def _groups(mixture: Any, merge: float, least: float) -> tuple[Tensor, Tensor, Tensor]:
    """The groups of overlapping components of N mixtures: the mixture each is of, its mean (D,) and its weight."""
    components, weights = mixture.component_distribution, mixture.log_weights.exp()
    loc, scale = components.mean, components.stddev
    apart = (loc[:, :, None] - loc[:, None]).abs()
    near = (apart < merge * torch.minimum(scale[:, :, None], scale[:, None])).all(-1)
    heavy = weights >= least
    near &= heavy[:, :, None] & heavy[:, None]
    # A light component has one neighbour at most, so that it connects no two groups.
    distance = (apart / torch.maximum(scale[:, :, None], scale[:, None])).amax(-1)
    closest, neighbour = torch.where(heavy[:, None], distance, torch.inf).min(-1)
    joins = ~heavy & (closest < merge)
    near |= joins[..., None] & torch.nn.functional.one_hot(neighbour, near.shape[-1]).bool()
    parents, means, shares = [], [], []
    for row, adjacent in enumerate(near.numpy()):
        count, label = connected_components(csr_array(adjacent), directed=False)
        member = torch.nn.functional.one_hot(torch.as_tensor(label).long(), count).to(weights) * weights[row, :, None]
        shares.append(member.sum(0))
        means.append(member.T @ loc[row] / member.sum(0)[:, None].clamp_min(1e-30))
        parents.append(torch.full((count,), row))
    return torch.cat(parents), torch.cat(means), torch.cat(shares)


def _selected(memory: Any, rows: Tensor) -> Any:
    """The memory of some sequences, which may stand in it several times."""
    return tuple(part[rows] for part in memory)
