"""Where samplers and guides start."""

from collections.abc import Callable
from typing import Any

from pyro.infer.autoguide.initialization import init_to_median, init_to_sample, init_to_uniform
from torch.distributions import constraints


def init_from_prior(site: Any = None) -> Any:
    """Start real-valued sites at a draw of their prior, and positive or bounded ones at its median.

    Weights drawn from the prior spread the chains and break the symmetry of the units; a scale drawn from a
    half-Cauchy would put some chains where nothing moves.
    """
    if site is None:
        return init_from_prior
    support = site["fn"].support
    real = getattr(support, "base_constraint", support) is constraints.real
    return init_to_sample(site) if real else init_to_median(site)


INITS: dict[str, Callable[..., Any]] = {
    "prior": init_from_prior,
    "uniform": init_to_uniform,
    "median": init_to_median,
}
