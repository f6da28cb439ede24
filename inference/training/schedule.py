"""How fast to learn at each step."""

import math


def cosine(step: int, steps: int, low: float, restarts: int = 0) -> float:
    """The learning rate at ``step`` of ``steps`` over the first one: from 1 to ``low`` along half a cosine.

    With ``restarts`` it starts again so often, each period twice as long as the one before it (Loshchilov & Hutter
    2017, "SGDR", arXiv:1608.03983).
    """
    first = steps / (2 ** (restarts + 1) - 1)  # 1, 2, 4, ... times this are the periods
    period = min(int(math.log2(step / first + 1)), restarts)
    along = (step - first * (2**period - 1)) / (first * 2**period)
    return low + (1 - low) * 0.5 * (1 + math.cos(math.pi * min(along, 1.0)))
