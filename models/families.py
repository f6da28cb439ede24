"""Distribution functions that torch lacks, from SciPy: of counts, and of the Beta and Gamma distributions.

Their results carry no gradient.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from scipy import stats
from torch import Tensor
from torch.distributions import Bernoulli, Beta, Binomial, Distribution, Gamma, Geometric, NegativeBinomial

# SciPy's distribution, and its shape parameters from a distribution of torch.
FAMILIES: dict[type[Distribution], tuple[Any, Callable[[Any], tuple[Tensor, ...]]]] = {
    Bernoulli: (stats.bernoulli, lambda d: (d.probs,)),
    Binomial: (stats.binom, lambda d: (d.total_count, d.probs)),
    Geometric: (stats.nbinom, lambda d: (torch.ones_like(d.probs), d.probs)),  # SciPy's geometric counts from 1
    NegativeBinomial: (stats.nbinom, lambda d: (d.total_count, 1 - d.probs)),
    Beta: (stats.beta, lambda d: (d.concentration1, d.concentration0)),
    Gamma: (stats.gamma, lambda d: (d.concentration, torch.zeros_like(d.rate), 1 / d.rate)),
}


def evaluate(distribution: Distribution, function: str, at: Tensor) -> Tensor | None:
    """``function`` ("cdf", "sf" or "ppf") of the distribution at ``at``; None for a family not in `FAMILIES`."""
    for family, (of_scipy, parameters) in FAMILIES.items():
        if isinstance(distribution, family):
            numbers = [np.asarray(p.detach().cpu().double()) for p in parameters(distribution)]
            values = getattr(of_scipy, function)(at.detach().cpu().double().numpy(), *numbers)
            return torch.as_tensor(values, dtype=torch.promote_types(at.dtype, parameters(distribution)[-1].dtype)).to(
                at.device
            )
    return None
