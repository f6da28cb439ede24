"""What an observation would say of the draw behind it, for mixtures: the estimates of `information_split`.

With y from the predictive p, and draws s of weight w_s, the mutual information is

    I(y; s) = E_y KL( p(s|y) || w_s ),     p(s|y) = w_s p_s(y) / p(y),

and that about the component c = (s, k) is the same with components for draws. Every sample of y counts with a number
between 0, where all agree, and minus the log of the least weight: the usual average of log p_s(y) - log p(y), with the
draw that y was made from integrated out (Rao-Blackwell), at no more cost. What is left of the entropy is that within
one component, in closed form for most families.
"""

import math

import numpy as np
import torch
from torch import Size, Tensor
from torch.distributions import Distribution, Normal

from posterity.inference.predictive import PredictiveMixture
from posterity.models.mixtures.drawing import draw_components
from posterity.models.parameters import split
from posterity.random import seeded

BLOCK = 2**19
"""How many components are evaluated at once: 4 MiB for each intermediate result."""

BUDGET = 3e8
"""How many are evaluated in all, if nobody says how many samples are wanted: some 6 s on one core for normals."""

FEWEST, MOST = 8, 512
NOTHING = -1e4  # log of a weight that is none
FAR = -1e300  # log of a density that is none


def default_samples(mixture: PredictiveMixture) -> int:
    """As many for each observation as `BUDGET` allows: from 8 to 512, even."""
    wanted = BUDGET / (mixture.batch_shape[0] * mixture.num_components)
    return 2 * round(min(max(wanted, FEWEST), MOST) / 2)


def mixture_information(mixture: PredictiveMixture, samples: int, seed: int) -> dict[str, np.ndarray]:
    """The terms of `information_split` and their standard errors, each (N,), from an even number of samples of y."""
    parts = []
    count, total = mixture.num_components, mixture.batch_shape[0]
    outer, inner = max(1, BLOCK // count), max(1, BLOCK // (count * samples))
    with torch.no_grad(), seeded(seed):
        tensors, rebuild = split(mixture.component_distribution)
        every_log_weight = mixture.log_weights  # once: of all rows
        for start in range(0, total, outer):
            # Rows may lie far apart in memory, and are put side by side before they are used again and again.
            rows = slice(start, start + outer)
            log_weights, *parameters = (t[rows].to("cpu", torch.double) for t in (every_log_weight, *tensors))
            weighted = log_weights.log_softmax(-1).clamp_min(NOTHING)  # they sum to one in double precision as well
            for place in range(0, len(weighted), inner):
                some = slice(place, place + inner)
                components = rebuild([tensor[some] for tensor in parameters])
                parts.append(_of_rows(components, weighted[some], mixture.num_draws, samples))
    return {name: torch.cat([part[name] for part in parts]).numpy() for name in parts[0]}


def _of_rows(components: Distribution, log_weights: Tensor, draws: int, samples: int) -> dict[str, Tensor]:
    """Of components of batch shape (rows, draws * K), and their log weights."""
    weights = log_weights.exp()
    y = _stratified(components, weights, samples)
    step = max(1, BLOCK // log_weights.numel())
    terms = [_terms(components, log_weights, draws, some) for some in y.split(step)]
    of_component, of_draw, surprise = (torch.cat(columns) for columns in zip(*terms, strict=True))
    within_draw = of_component - of_draw
    try:
        noise = (weights * torch.where(weights > 0, components.entropy(), 0.0)).sum(-1)
        known = {"total": of_component, "expected": within_draw, "noise": torch.zeros_like(of_component)}
    except NotImplementedError:  # a family whose entropy nobody has written down
        noise = torch.zeros_like(weights[:, 0])
        known = {"total": surprise, "expected": surprise - of_draw, "noise": surprise - of_component}
    found: dict[str, Tensor] = {}
    for name, values in known.items():
        found |= {f"{name}_entropy": noise + values.mean(0), f"{name}_entropy_se": _error(values)}
    for name, values in (("mutual_information", of_draw), ("ambiguity", within_draw)):
        found |= {name: values.mean(0), f"{name}_se": _error(values)}
    return found


def _terms(components: Distribution, log_weights: Tensor, draws: int, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """KL of the components given y to their weights, the same of the draws, and -log p(y); each (samples, rows)."""
    joint = _joint(components, log_weights, y)
    largest = joint.amax(-1, keepdim=True)
    shares = (joint - largest).exp_()
    total = shares.sum(-1)
    log_prob = largest.squeeze(-1) + total.log()
    per_component = (shares * joint.sub_(log_weights)).sum(-1) / total - log_prob
    count = log_weights.shape[-1] // draws
    if count == 1:
        return per_component.clamp_min_(0.0), per_component, -log_prob
    of_draws = shares.unflatten(-1, (draws, count)).sum(-1) / total.unsqueeze(-1)
    weights = log_weights.exp().unflatten(-1, (draws, count)).sum(-1)
    per_draw = (torch.xlogy(of_draws, of_draws) - torch.xlogy(of_draws, weights)).sum(-1).clamp_min_(0.0)
    # To know the component is to know the draw: only by rounding can it be less.
    return torch.maximum(per_component, per_draw), per_draw, -log_prob


def _joint(components: Distribution, log_weights: Tensor, y: Tensor) -> Tensor:
    """log of the weights times the densities at y (samples, rows) + event: (samples, rows, components)."""
    if not isinstance(components, Normal):
        densities = components.log_prob(y.unsqueeze(-1 - len(components.event_shape)))
        return densities.clamp_min_(FAR).add_(log_weights)
    # A square in y: a product of matrices, and a fifth of the passes through memory.
    centre = components.loc.mean(-1, keepdim=True)
    precision, loc = components.scale**-2, components.loc - centre
    constant = log_weights - components.scale.log() - 0.5 * (loc * loc * precision + math.log(2 * math.pi))
    coefficients = torch.stack([-0.5 * precision, loc * precision, constant], 1)  # (rows, 3, components)
    away = (y - centre.T).T  # (rows, samples)
    powers = torch.stack([away * away, away, torch.ones_like(away)], -1)
    return (powers @ coefficients).movedim(1, 0)


def _stratified(components: Distribution, weights: Tensor, samples: int) -> Tensor:
    """Samples of y (samples, rows) + event, from the components in proportion to their weights (rows, components).

    The i-th sample's component is drawn from the i-th of as many equal shares of the weights.
    """
    places = torch.arange(samples, dtype=weights.dtype).unsqueeze(-1) + torch.rand(samples, len(weights)).to(weights)
    chosen = draw_components(weights, (places / samples).T.contiguous()).T
    tensors, rebuild = split(components)
    rows = torch.arange(len(weights))
    return rebuild([tensor[rows, chosen] for tensor in tensors]).sample(Size())


def _error(values: Tensor) -> Tensor:
    """Of the mean of stratified values (samples, rows), from the differences of neighbours; not too small."""
    differences = values[0::2] - values[1::2]
    return differences.square().sum(0).sqrt() / len(values)
