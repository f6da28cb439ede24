"""Likelihood gained by a change of all widths, places or weights of a mixture's components. Needs torch.

The gains tell which of several faults is there; see `posterity.inference.diagnostics.calibration_tests`.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Tensor

from posterity.inference.diagnostics.sources.mixture import MixtureSource
from posterity.inference.diagnostics.sources.mixture_scores import degrees_of_freedom, shape_of, standardise
from posterity.models.mixtures.row_chunks import row_chunks
from posterity.random import generator

EVALUATIONS = 2**18
"""Component densities in one step of the search; of more observations a random subset is used."""

FEWEST, STEPS = 256, 60
"""Fewest observations in the subset, and most steps of the search."""

LARGEST = 30.0
"""Bound of a change of log width or log odds: a factor of e^30."""


def likelihood_ratios(data: MixtureSource, faults: Sequence[str], seed: int) -> dict[str, tuple[float, int]]:
    """Twice the log likelihood gained by repairing each of the faults "width", "shift", "weight"; degrees of freedom.

    Under a right model the gain follows chi2 with these degrees of freedom (Wilks 1938). The parameters are those of
    the scores: for each of the K components of a draw a log factor of its width, a shift in widths, or a log factor of
    its odds, the same for all observations and draws. nan if the density is not finite.
    """
    log_weights, log_scale, z, log_shape = _parameters(data, seed)

    def width(change: Tensor) -> Tensor:
        return log_weights - log_scale - change + log_shape(z * torch.exp(-change))

    def shift(change: Tensor) -> Tensor:
        return log_weights - log_scale + log_shape(z - change)

    heights = log_shape(z) - log_scale

    def weight(change: Tensor) -> Tensor:
        changed = log_weights + change
        return changed - torch.logsumexp(changed, (-2, -1), keepdim=True) + heights

    # A search that starts only from no change may end where one component has taken over the change of all.
    mean = (log_weights.exp() * z).sum((-2, -1)).mean()
    spread = (log_weights.exp() * z**2).sum((-2, -1)).mean().sqrt().clamp_min(math.exp(-LARGEST)).log()
    components = z.shape[-1]
    gains = {
        "width": lambda: (_gain(width, components, (0.0, float(spread)), LARGEST), components),
        "shift": lambda: (_gain(shift, components, (0.0, float(mean)), math.inf), components),
        "weight": lambda: (_gain(weight, components, (0.0,), LARGEST), components - 1),  # weights sum to one
    }
    return {name: gains[name]() for name in faults}


def _parameters(data: MixtureSource, seed: int) -> tuple[Tensor, Tensor, Tensor, Callable[[Tensor], Tensor]]:
    """Log weights, log scales and standardised y, (N, S, K), and the log density of a standardised component."""
    mixture, total = data.mixture, len(data.observed)
    count = min(total, max(FEWEST, EVALUATIONS // mixture.num_components))
    chosen = torch.as_tensor(np.sort(generator(seed, "rows of gains").choice(total, count, replace=False)))
    y, columns = data.y[chosen], []
    for rows, part in row_chunks(mixture[chosen]):
        components = part.component_distribution
        z = standardise(components, y[rows])
        parts = (part.log_weights, components.scale.log(), z, degrees_of_freedom(components))
        columns.append(torch.stack([values.expand(z.shape) for values in parts]))
    log_weights, log_scale, z, df = torch.cat(columns, 1).unflatten(-1, (data.num_draws, -1))
    log_density = shape_of(mixture.component_distribution).log_density
    return log_weights, log_scale, z, lambda at: log_density(at, df)


def _gain(log_joint: Callable[[Tensor], Tensor], components: int, starts: Sequence[float], largest: float) -> float:
    """Twice the log likelihood gained by the best change of at most ``largest``, searched from ``starts``."""

    def loss(change: np.ndarray) -> tuple[float, np.ndarray]:
        at = torch.tensor(change, requires_grad=True)
        with torch.enable_grad():
            value = -torch.logsumexp(log_joint(at), (-2, -1)).sum()
            (gradient,) = torch.autograd.grad(value, at)
        return float(value.detach()), gradient.numpy()

    values = [loss(np.full(components, start))[0] for start in starts]
    if not math.isfinite(values[0]):
        return math.nan
    results = [
        minimize(
            loss, np.full(components, start), jac=True, method="L-BFGS-B", bounds=[(-largest, largest)] * components,
            options={"maxiter": STEPS},
        )
        for start, value in zip(starts, values, strict=True)
        if math.isfinite(value)
    ]  # fmt: skip
    return 2 * max(0.0, values[0] - min(float(result.fun) for result in results))
