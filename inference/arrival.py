"""Whether a fit by gradients has arrived: would it still get better?

At the end of a schedule the learning rate is near zero, so the loss is flat whether the fit has arrived or not. The
question is put at the full rate instead: the fit goes on for a tenth of its steps with the rate started again, and the
loss that this gains is held against a tolerance. `behind` finds the fits that ended far below the best one.
"""

import math

import torch
from torch import Tensor

SHARE = 10  # a probe takes one step for so many of the fit
LEAST_STEPS = 20
PER_ROW = 0.01  # nats: a standard deviation that is 10 % off costs as much
PER_NUMBER = 0.25  # nats: what is lost on average within 0.7 posterior standard deviations of each number
LEAST = 0.05  # nats: below is rounding in float32
FAR_PER_ROW, FAR_LEAST, FAR_TIMES = 0.5, 10.0, 5.0  # nats a row, nats, typical gaps


def probe_steps(steps: int) -> int:
    """How many steps the probe of a fit of ``steps`` takes."""
    return max(LEAST_STEPS, steps // SHARE)


def tolerance(rows: int, numbers: int) -> float:
    """Nats that a fit of so many ``numbers`` to ``rows`` may still gain in a probe and have arrived."""
    return max(min(PER_ROW * rows, PER_NUMBER * numbers), LEAST)


def behind(score: Tensor, rows: int) -> Tensor:
    """Which fits, of log joint densities ``score`` (fit,) of the same data, are far behind the best; shape (fit,).

    Far is more than half a nat a row, ten nats, and five times the median distance from the best.
    """
    gap = torch.where(torch.isfinite(score), score.max() - score, torch.inf).double()
    typical = float(gap.median()) if len(gap) > 3 else 0.0
    far = max(FAR_PER_ROW * rows, FAR_LEAST, FAR_TIMES * (typical if math.isfinite(typical) else 0.0))
    return gap > far


def still_gaining(what: str, gained: float, unit: str, more: int, cure: str) -> str:
    """The sentence for a fit that has not arrived."""
    return f"{what} still gained {gained:.3g} {unit} in {more} further steps at the full learning rate: {cure}"
