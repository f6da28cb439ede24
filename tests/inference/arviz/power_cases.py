"""Power-scaling of a normal mean, whose posteriors and their distances are known."""

import numpy as np
from scipy import stats

PRIOR_MEAN, PRIOR, NOISE = 1.5, 2.0, 2.0
Y = np.array([2.0, 3.5, 1.0, 4.0, 2.5])


def posterior(prior: float = 1.0, likelihood: float = 1.0):
    """The exact posterior of the mean, with prior and likelihood raised to these powers."""
    precision = prior / PRIOR**2 + likelihood * len(Y) / NOISE**2
    mean = (prior * PRIOR_MEAN / PRIOR**2 + likelihood * Y.sum() / NOISE**2) / precision
    return stats.norm(mean, precision**-0.5)


def even_draws(count: int = 4000, chains: int = 4, seed: int = 0) -> np.ndarray:
    """Quantiles of the posterior in random order, (chain, draw): draws without Monte Carlo error."""
    values = posterior().ppf((np.arange(count) + 0.5) / count)
    return np.random.default_rng(seed).permutation(values).reshape(chains, -1)


def distance(one, two, low: float, high: float) -> float:
    """The cumulative Jensen-Shannon distance of two distributions between ``low`` and ``high``, by integration."""
    x = np.linspace(low, high, 200_001)

    def directed(p, q):
        return np.trapezoid(p * np.log2(2 * p / (p + q)), x) + 0.5 / np.log(2) * np.trapezoid(q - p, x)

    def symmetric(p, q):
        return np.sqrt((directed(p, q) + directed(q, p)) / np.trapezoid(p + q, x))

    return max(symmetric(one.cdf(x), two.cdf(x)), symmetric(one.sf(x), two.sf(x)))


def sensitivity(delta: float = 0.01) -> dict[str, float]:
    """The exact sensitivity to each component, over the range of the draws of `even_draws`."""
    draws = even_draws()
    base, ends = posterior(), (draws.min(), draws.max())
    return {
        name: sum(distance(base, posterior(**{name: power}), *ends) for power in (1 + delta, 1 / (1 + delta)))
        / (2 * np.log2(1 + delta))
        for name in ("prior", "likelihood")
    }
