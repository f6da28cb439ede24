"""How much likelihood a change of all widths, places or weights gains: which of them is wrong, where several may be."""

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Tensor

from posterity.inference.diagnostics.sources.mixture import MixtureSource
from posterity.inference.diagnostics.sources.mixture_scores import log_shape, standardise
from posterity.models.mixtures.row_chunks import row_chunks
from posterity.random import generator

EVALUATIONS = 2**18
"""Component densities in a step of the search: of more rows so many are taken at random."""
FEWEST, STEPS = 256, 60
LARGEST = 30.0
"""Of a log width or log odds: what is beyond e^30 has no number in it."""


def likelihood_ratios(data: MixtureSource, faults: Sequence[str], seed: int) -> dict[str, tuple[float, int]]:
    """Twice the log likelihood gained by repairing each of the faults "width", "shift", "weight", and its freedom.

    It is chi2 of so many degrees of freedom where nothing is wrong (Wilks 1938). The parameters are those of the
    scores: for each of the K components of a draw a log factor of its width, a shift in widths, a log factor of its
    odds, the same at all rows and draws. nan where the density is not finite.
    """
    log_weights, log_scale, z, shape = _rows(data, seed)

    def width(change: Tensor) -> Tensor:
        return log_weights - log_scale - change + shape(z * torch.exp(-change))

    def shift(change: Tensor) -> Tensor:
        return log_weights - log_scale + shape(z - change)

    heights = shape(z) - log_scale

    def weight(change: Tensor) -> Tensor:
        changed = log_weights + change
        return changed - torch.logsumexp(changed, (-2, -1), keepdim=True) + heights

    # A search from no change alone may end where one component has moved to what belongs to all of them.
    mean = (log_weights.exp() * z).sum((-2, -1)).mean()
    spread = (log_weights.exp() * z**2).sum((-2, -1)).mean().sqrt().clamp_min(math.exp(-LARGEST)).log()
    components = z.shape[-1]
    of = {
        "width": lambda: (_gained(width, components, (0.0, float(spread)), LARGEST), components),
        "shift": lambda: (_gained(shift, components, (0.0, float(mean)), math.inf), components),
        "weight": lambda: (_gained(weight, components, (0.0,), LARGEST), components - 1),  # odds have a sum
    }
    return {name: of[name]() for name in faults}


def _rows(data: MixtureSource, seed: int) -> tuple[Tensor, Tensor, Tensor, Callable[[Tensor], Tensor]]:
    """Log weights, log scales and standardised y, (rows, S, K), and the log density of a standard component."""
    mixture, total = data.mixture, len(data.y)
    count = min(total, max(FEWEST, EVALUATIONS // mixture.num_components))
    chosen = torch.as_tensor(np.sort(generator(seed, "rows of gains").choice(total, count, replace=False)))
    y, columns = data.y[chosen], []
    for rows, part in row_chunks(mixture[chosen]):
        components = part.component_distribution
        z = standardise(components, y[rows])
        df = getattr(components, "df", torch.ones(()).double())
        parts = (part.log_weights, components.scale.log(), z, df)
        columns.append(torch.stack([values.expand(z.shape) for values in parts]))
    log_weights, log_scale, z, df = torch.cat(columns, 1).unflatten(-1, (data.num_draws, -1))
    return log_weights, log_scale, z, lambda at: log_shape(components, at, df)


def _gained(heights: Callable[[Tensor], Tensor], components: int, starts: Sequence[float], largest: float) -> float:
    """Of twice the log likelihood that the best change of at most ``largest`` gains, searched from ``starts``."""

    def loss(change: np.ndarray) -> tuple[float, np.ndarray]:
        at = torch.tensor(change, requires_grad=True)
        with torch.enable_grad():
            value = -torch.logsumexp(heights(at), (-2, -1)).sum()
            (gradient,) = torch.autograd.grad(value, at)
        return float(value.detach()), gradient.numpy()

    values = [loss(np.full(components, start))[0] for start in starts]
    if not math.isfinite(values[0]):
        return math.nan
    found = [
        minimize(
            loss, np.full(components, start), jac=True, method="L-BFGS-B", bounds=[(-largest, largest)] * components,
            options={"maxiter": STEPS},
        )
        for start, value in zip(starts, values, strict=True)
        if math.isfinite(value)
    ]  # fmt: skip
    return 2 * max(0.0, values[0] - min(float(one.fun) for one in found))
