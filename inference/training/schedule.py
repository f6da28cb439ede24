"""The learning rate of each step."""

import math


def cosine(step: int, steps: int, low: float, restarts: int = 0) -> float:
    """The learning rate at ``step`` of ``steps``, relative to the first one: from 1 to ``low`` along half a cosine.

    The schedule restarts ``restarts`` times, each period twice as long as the one before (Loshchilov & Hutter 2017,
    "SGDR", arXiv:1608.03983, eq. 5).
    """
    first = steps / (2 ** (restarts + 1) - 1)  # length of the first period; the others are 2, 4, ... times as long
    period = min(int(math.log2(step / first + 1)), restarts)
    along = (step - first * (2**period - 1)) / (first * 2**period)
    return low + (1 - low) * 0.5 * (1 + math.cos(math.pi * min(along, 1.0)))
