"""Whether an optimisation has converged, that is, whether further steps would still lower the loss.

At the end of a schedule the learning rate is near zero, so the loss is flat whether the fit has converged or not. A
probe therefore continues the fit for a tenth of its steps, with the schedule of the learning rate started again. The
fit has converged if the probe neither gains more than a tolerance nor loses more than `lost_tolerance`, which would
show that steps are too noisy. `behind` finds fits that end far below the best fit.
"""

import math

import torch
from torch import Tensor

SHARE = 10  # steps of the fit per step of the probe
LEAST_STEPS = 20
PER_ROW = 0.01  # nats: the cost of a standard deviation that is 10 % wrong
PER_NUMBER = 0.25  # nats: the loss of log density at 0.7 posterior standard deviations from the mode, per number
LEAST = 0.05  # nats: smaller gains are float32 rounding
NO_MAXIMUM = (
    "further steps lower the log joint density or end where it is not finite. It may have no maximum, as where the "
    "scale of a hierarchy can shrink to zero: use HMC, or SVI with a guide that has a width"
)
FAR_PER_ROW, FAR_LEAST, FAR_TIMES = 0.5, 10.0, 5.0  # nats per row, nats, multiples of the median gap


def probe_steps(steps: int) -> int:
    """Number of steps in the probe of a fit of ``steps`` steps."""
    return max(LEAST_STEPS, steps // SHARE)


def tolerance(rows: int, numbers: int) -> float:
    """Largest gain in a probe, in nats, of a converged fit of ``numbers`` parameters to ``rows`` rows."""
    return max(min(PER_ROW * rows, PER_NUMBER * numbers), LEAST)


def lost_tolerance(limit: float) -> float:
    """Largest loss in a probe, in nats, of a converged fit whose gain may be up to ``limit``.

    Noisy steps leave a fit below its optimum, by an amount that falls with the length of the schedule at most as
    1 / steps. The schedule of the probe is shorter by the factor `SHARE`, so the probe loses `SHARE` - 1 times the
    distance of the fit to its optimum.
    """
    return (SHARE - 1) * limit


def behind(score: Tensor, rows: int) -> Tensor:
    """Which fits to the same data have a log joint density ``score`` (fit,) far below the best; shape (fit,).

    Far means a gap to the best above half a nat per row, above ten nats, and above five times the median gap.
    """
    gap = torch.where(torch.isfinite(score), score.max() - score, torch.inf).double()
    typical = float(gap.median()) if len(gap) > 3 else 0.0
    far = max(FAR_PER_ROW * rows, FAR_LEAST, FAR_TIMES * (typical if math.isfinite(typical) else 0.0))
    return gap > far


def still_gaining(what: str, gained: float, unit: str, more: int, cure: str) -> str:
    """The warning that a fit has not converged."""
    return f"{what} still gained {gained:.3g} {unit} in {more} further steps at the full learning rate: {cure}"


def not_decided(what: str, error: float, unit: str, draws: int, cure: str) -> str:
    """The warning that a probe cannot tell whether a fit has converged."""
    return (
        f"the convergence of {what} cannot be tested: after {draws} draws, the standard error of the gain in further "
        f"steps is {error:.3g} {unit}: {cure}"
    )


def not_settled(what: str, lost: float, unit: str, more: int, cure: str) -> str:
    """The warning that the steps of a fit are too noisy for their number."""
    return f"{what} has not settled: {more} further steps at the full learning rate lost {lost:.3g} {unit}: {cure}"
