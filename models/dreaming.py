r"""Dreams of a `MixtureRNN`: samples of the future, and the tree of its likely branches.

`dream` samples sequences with a temperature $\tau$, which raises weights to the power $1/\tau$ and multiplies scales by
$\sqrt \tau$ (Ha & Schmidhuber 2018, section 2.2). `branches` follows the means of the components instead and sums their
weights: for a future that splits at a few places its probabilities are those of the dreams without noise.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from posterity.models.mixtures import Mixture
from posterity.models.recurrent import MixtureRNN
from posterity.random import as_generator
from posterity.validation import check_integer, check_number, shown_shape

Policy = Callable[[Tensor, Any], Tensor]


@dataclass(frozen=True, eq=False)
class Dreams:
    """N sampled futures.

    Attributes:
        states: (N, steps, D), in the units of the network.
        components: (N, steps), the component that each state came from, or (N, steps, D) with weights per dimension.
        ended: (N, steps), whether the episode has ended with this step or before; False if the network predicts no end.
    """

    states: Tensor
    components: Tensor
    ended: Tensor


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
        temperature: 1 samples the predicted distribution; below 1 less varied, above 1 more.
        future: context (N, steps, C) of the dreamed steps, or a policy: a function of a dreamed state (N, D) and the
            memory of the network that returns the context (N, C). None: zeros.
        seed: an int, or a generator, whose state advances.

    Raises:
        ValueError: shapes that do not fit, no steps, or a temperature that is not above 0.
    """
    check_integer("steps", steps, 1)
    check_number("temperature", temperature, "(0, inf)")
    random = as_generator(seed)
    wanted = (len(states), steps, net.context)
    if isinstance(future, Tensor) and tuple(future.shape) != wanted:
        raise ValueError(f"expected future of shape {wanted}, got {shown_shape(future)}")
    found, chosen, ends = [], [], []
    over = torch.zeros(len(states), dtype=torch.bool)
    with torch.no_grad():
        features, memory = net(states, context)
        for step in range(steps):
            last = features[:, -1]
            state, component = _drawn(net, last, temperature, random)
            if net.ends:
                over = over | (torch.rand(len(state), generator=random) < net.end(last).probs)
            found.append(state)
            chosen.append(component)
            ends.append(over)
            given = None
            if net.context:
                if future is None:
                    given = state.new_zeros(len(state), net.context)
                else:
                    given = future[:, step] if isinstance(future, Tensor) else future(state, memory)
            features, memory = net(state[:, None], None if given is None else given[:, None], memory)
    return Dreams(torch.stack(found, 1), torch.stack(chosen, 1), torch.stack(ends, 1))


def _drawn(net: MixtureRNN, features: Tensor, temperature: float, random: torch.Generator) -> tuple[Tensor, Tensor]:
    """A state (N, D), and the component it came from, (N,) or (N, D)."""
    predicted = net.next_state(features)
    mixture = predicted if isinstance(predicted, Mixture) else predicted.base_dist
    mixture = mixture.tempered(temperature)
    component = torch.multinomial(mixture.log_weights.exp().flatten(0, -2), 1, generator=random)
    component = component.reshape(mixture.batch_shape)
    normal = mixture.component_distribution
    normal = getattr(normal, "base_dist", normal)
    shared = isinstance(predicted, Mixture)
    place = component[:, None, None].expand(-1, 1, net.targets) if shared else component[..., None]
    axis = 1 if shared else -1
    loc, scale = (value.gather(axis, place).squeeze(axis) for value in (normal.loc, normal.scale))
    return loc + scale * torch.randn(loc.shape, generator=random, dtype=loc.dtype), component
