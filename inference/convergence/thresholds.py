"""The values of R-hat and ESS that are judged bad, and how much of R-hat chance alone explains."""

import numpy as np

from posterity.inference.convergence.statistics import rhat_by_chance

RHAT = 1.01  # Vehtari et al. 2021, section 4.3
RHAT_BAD = 1.05
RHAT_EXCUSED = 1.1  # the largest R-hat that few draws may explain; above, they are too few for anything
ESS = 100  # of each chain; the same, section 4.1
ESS_ENOUGH = 400  # of all chains, for means and intervals
CHANCE = 0.01  # probability of a false alarm


def chance_of(values: np.ndarray, rhat: np.ndarray) -> float:
    """Largest R-hat by chance of chains that agree, at the worst point, at most 1.1; 1 if R-hat is below 1.01.

    ``values`` are draws (chain, draw, point), ``rhat`` (point,) is their R-hat.
    """
    worst = int(np.argmax(rhat))
    if not RHAT <= rhat[worst] < RHAT_EXCUSED:
        return 1.0
    return min(rhat_by_chance(values[..., worst], len(rhat), CHANCE), RHAT_EXCUSED)
