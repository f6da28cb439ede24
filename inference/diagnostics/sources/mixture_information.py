r"""Mutual information between an observation and the draw behind it, for mixtures. Needs torch.

With y from the predictive p, and draws s of weight $w_s$, the mutual information is

$$I(y; s) = E_y \, \mathrm{KL}\left( p(s|y) \,\|\, w_s \right), \qquad p(s|y) = w_s p_s(y) / p(y),$$

and that of the component c = (s, k) is the same with components for draws. Every sample of y contributes a number
between 0, if all draws agree, and minus the log of the smallest weight. This is the usual average of
$\log p_s(y) - \log p(y)$ with the draw behind y integrated out (Rao-Blackwell), at the same cost. The rest of the
entropy is that within one component, in closed form for most families.
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

CHUNK = 2**19
"""Evaluations of components in a chunk: 4 MiB for each intermediate result."""

BUDGET = 3e8
"""Evaluations of components by default: some 6 s on one core for normals."""

FEWEST, MOST = 8, 512
"""Samples of y for each observation, by default."""

LOG_ZERO_WEIGHT = -1e4
LOG_ZERO_DENSITY = -1e300


def default_samples(mixture: PredictiveMixture) -> int:
    """Number of samples for each observation that `BUDGET` allows: even, from 8 to 512."""
    wanted = BUDGET / (mixture.batch_shape[0] * mixture.num_components)
    return 2 * round(min(max(wanted, FEWEST), MOST) / 2)


def mixture_information(mixture: PredictiveMixture, samples: int, seed: int) -> dict[str, np.ndarray]:
    """The terms of `information_split` and their standard errors, each (N,), from an even number of samples of y."""
    parts = []
    count, total = mixture.num_components, mixture.batch_shape[0]
    outer, inner = max(1, CHUNK // count), max(1, CHUNK // (count * samples))
    with torch.no_grad(), seeded(seed):
        tensors, rebuild = split(mixture.component_distribution)
        every_log_weight = mixture.log_weights  # once: of all rows
        for start in range(0, total, outer):
            # Rows may lie far apart in memory: they are copied once, since they are used many times.
            rows = slice(start, start + outer)
            log_weights, *parameters = (t[rows].to("cpu", torch.double) for t in (every_log_weight, *tensors))
            weighted = log_weights.log_softmax(-1).clamp_min(LOG_ZERO_WEIGHT)  # normalised in double precision
            for place in range(0, len(weighted), inner):
                some = slice(place, place + inner)
                components = rebuild([tensor[some] for tensor in parameters])
                parts.append(_of_rows(components, weighted[some], mixture.num_draws, samples))
    return {name: torch.cat([part[name] for part in parts]).numpy() for name in parts[0]}


def _of_rows(components: Distribution, log_weights: Tensor, draws: int, samples: int) -> dict[str, Tensor]:
    """The terms of some rows; ``components`` have the batch shape (rows, draws * K), as ``log_weights``."""
    weights = log_weights.exp()
    y = _stratified(components, weights, samples)
    step = max(1, CHUNK // log_weights.numel())
    terms = [_terms(components, log_weights, draws, some) for some in y.split(step)]
    of_component, of_draw, surprise = (torch.cat(columns) for columns in zip(*terms, strict=True))
    within_draw = of_component - of_draw
    try:
        noise = (weights * torch.where(weights > 0, components.entropy(), 0.0)).sum(-1)
        known = {"total": of_component, "expected": within_draw, "noise": torch.zeros_like(of_component)}
    except NotImplementedError:  # a family without a closed form of the entropy
        noise = torch.zeros_like(weights[:, 0])
        known = {"total": surprise, "expected": surprise - of_draw, "noise": surprise - of_component}
    result: dict[str, Tensor] = {}
    for name, values in known.items():
        result |= {f"{name}_entropy": noise + values.mean(0), f"{name}_entropy_se": _error(values)}
    for name, values in (("mutual_information", of_draw), ("ambiguity", within_draw)):
        result |= {name: values.mean(0), f"{name}_se": _error(values)}
    return result


def _terms(components: Distribution, log_weights: Tensor, draws: int, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """KL of the components given y from their weights, the same for draws, and -log p(y); each (samples, rows)."""
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
    # The component determines the draw, so its information is smaller only by rounding.
    return torch.maximum(per_component, per_draw), per_draw, -log_prob


def _joint(components: Distribution, log_weights: Tensor, y: Tensor) -> Tensor:
    """Log weights plus log densities at y (samples, rows) + event: (samples, rows, components)."""
    if not isinstance(components, Normal):
        densities = components.log_prob(y.unsqueeze(-1 - len(components.event_shape)))
        return densities.clamp_min_(LOG_ZERO_DENSITY).add_(log_weights)
    # The log density is a quadratic polynomial in y: a matrix product, with a fifth of the memory traffic.
    centre = components.loc.mean(-1, keepdim=True)
    precision, loc = components.scale**-2, components.loc - centre
    constant = log_weights - components.scale.log() - 0.5 * (loc * loc * precision + math.log(2 * math.pi))
    coefficients = torch.stack([-0.5 * precision, loc * precision, constant], 1)  # (rows, 3, components)
    away = (y - centre.T).T  # (rows, samples)
    powers = torch.stack([away * away, away, torch.ones_like(away)], -1)
    return (powers @ coefficients).movedim(1, 0)


def _stratified(components: Distribution, weights: Tensor, samples: int) -> Tensor:
    """Samples of y (samples, rows) + event from the mixture with weights (rows, components), stratified.

    The component of the i-th sample is drawn from the i-th of equal shares of the cumulative weights.
    """
    places = torch.arange(samples, dtype=weights.dtype).unsqueeze(-1) + torch.rand(samples, len(weights)).to(weights)
    chosen = draw_components(weights, (places / samples).T.contiguous()).T
    tensors, rebuild = split(components)
    rows = torch.arange(len(weights))
    return rebuild([tensor[rows, chosen] for tensor in tensors]).sample(Size())


def _error(values: Tensor) -> Tensor:
    """Standard error of the mean of stratified values (samples, rows), from differences of neighbours.

    Differences of neighbouring strata overestimate the error slightly.
    """
    differences = values[0::2] - values[1::2]
    return differences.square().sum(0).sqrt() / len(values)
