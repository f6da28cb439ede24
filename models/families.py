"""Distribution functions that torch lacks, from SciPy: of counts, and of the Beta and Gamma distributions.

Their results carry no gradient.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import scipy
import torch
from torch import Tensor
from torch.distributions import Bernoulli, Beta, Binomial, Distribution, Gamma, Geometric, NegativeBinomial

# The name of SciPy's distribution, and its shape parameters from a distribution of torch.
FAMILIES: dict[type[Distribution], tuple[str, Callable[[Any], tuple[Tensor, ...]]]] = {
    Bernoulli: ("bernoulli", lambda d: (d.probs,)),
    Binomial: ("binom", lambda d: (d.total_count, d.probs)),
    Geometric: ("nbinom", lambda d: (torch.ones_like(d.probs), d.probs)),  # SciPy's geometric counts from 1
    NegativeBinomial: ("nbinom", lambda d: (d.total_count, 1 - d.probs)),
    Beta: ("beta", lambda d: (d.concentration1, d.concentration0)),
    Gamma: ("gamma", lambda d: (d.concentration, torch.zeros_like(d.rate), 1 / d.rate)),
}


def evaluate(distribution: Distribution, function: str, at: Tensor) -> Tensor | None:
    """``function`` ("cdf", "sf" or "ppf") of the distribution at ``at``; None for a family not in `FAMILIES`."""
    for family, (name, parameters) in FAMILIES.items():
        if isinstance(distribution, family):
            numbers = [np.asarray(p.detach().cpu().double()) for p in parameters(distribution)]
            values = getattr(getattr(scipy.stats, name), function)(at.detach().cpu().double().numpy(), *numbers)
            return torch.as_tensor(values, dtype=torch.promote_types(at.dtype, parameters(distribution)[-1].dtype)).to(
                at.device
            )
    return None
