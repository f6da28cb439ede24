"""What is wrong with a mixture: its widths, its places, or its weights?

A test of the whole distribution says that something is wrong. These say what, for every component: they are Rao's
score tests (Rao 1948, Proc. Camb. Phil. Soc. 44, 50-57) against the three ways in which a component can be wrong at all
rows alike. With responsibilities r_k = P(k | y, x), z_k = (y - mu_k)/sigma_k and weights w_k, of normal components

    width    r_k (z_k² - 1)        sigma_k should be larger
    shift    r_k z_k               mu_k should be higher
    weight   r_k - w_k             the component should come up more often

have mean zero under the model. None needs to say which component an observation comes from, so that a right model is
not rejected for the tails that overlap (as with the nearest component). Each test is the strongest there is for its own
fault if there is no other, and if it is small. Where components overlap a fault of one kind is seen by the tests of the
other kinds too; and gross faults may be seen more by those: y that lies s widths too high has a chi2 of n s² as a shift
and of n s⁴/2 as a width. Which it is says the likelihood that each repair gains: see `calibration_tests`. The adjusted
tests leave the other two kinds free (by the inverse of the full information matrix); they accuse nobody else, and see
less.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import xarray as xr
from scipy import stats

from posterity.inference.diagnostics.sources.reading import read, require_mixture
from posterity.validation import check_seed

FAULTS = ("width", "shift", "weight")
SMALLEST = 1e-9  # eigenvalues of a covariance, as a share of the largest, that are rounding
FEWEST = 5.0  # expected observations of a component, below which its sums are far from normal


def mixture_tests(source: object, y: Any = None, *, seed: int = 0) -> xr.Dataset:
    """Score tests of widths, places and weights: over ("fault", "component"), and of each fault jointly over "fault".

    ``source`` is a `Mixture` of batch shape (N,) of one target, with Normal, LogNormal, StudentT or Laplace components,
    and ``y`` (N,). Components of a `PredictiveMixture` are those of a draw, the same in all draws: `relabel` it first.

    - ``estimate`` ± ``error``, one step of Fisher's scoring from the model towards the truth, nothing else being wrong:
      by what the log of the width, the place (in widths) and the log odds of a component are to be changed, at all rows
      alike. Right for small faults; of large ones it has the sign.
    - ``p_value``, two-sided; and ``joint``, ``joint_p_value`` over "fault": chi2 of K degrees of freedom (K - 1 of the
      weights, and one less for each component that is another's double), for all components at once. nan for the weight
      of a single component, and of doubles. Values so far out that scores overflow give inf and a p-value of 0.
    - ``adjusted_p_value`` over "fault": the same with the other faults free.

    Components that are expected to come up fewer than 5 times have nan, with a warning. The covariance of the scores is
    that of draws from the model (``seed``), so that its error is a few percent whatever the data. Memory is bounded;
    the cost is that of two evaluations of the density at each row, and of 40,000 in all where 6e7 component densities
    allow so many.
    Raises ``ValueError`` for other components, fewer than 8 observations, and as `pit`.

    >>> import torch
    >>> from posterity.models.mixtures import Mixture
    >>> truth = Mixture.normal(torch.zeros(2), torch.tensor([-2.0, 2.0]), torch.tensor(1.0)).expand([1000])
    >>> model = Mixture.normal(torch.zeros(2), torch.tensor([-2.0, 2.0]), torch.tensor(0.8)).expand([1000])
    >>> y = truth.icdf((torch.arange(1000) + 0.5) / 1000)
    >>> found = mixture_tests(model, y)
    >>> dict(zip(found.fault.values.tolist(), (found.joint_p_value < 1e-3).values.tolist()))
    {'width': True, 'shift': False, 'weight': False}
    """
    data = require_mixture(read(source, y), "mixture tests")
    seed = check_seed(seed)
    from posterity.inference.diagnostics.sources.mixture_scores import scores, shape_of

    shape_of(data.mixture.component_distribution)
    if len(data.y) < 8:
        raise ValueError(f"expected at least 8 observations for mixture tests, got {len(data.y)}")
    total, covariance, weight = scores(data, seed)
    components = len(weight)
    seen = weight * len(data.y) >= FEWEST
    if not seen.all():
        warnings.warn(
            f"{int((~seen).sum())} of {components} components are expected fewer than {FEWEST:g} times in "
            f"{len(data.y)} observations: their tests are nan; use more observations, or fewer components",
            stacklevel=2,
        )
    keep = np.stack([seen, seen, seen & (seen.sum() > 1)])
    overflow = ~np.isfinite(total)
    information = np.where(keep.ravel() & (np.diag(covariance) > 0) & ~overflow, np.diag(covariance), np.nan)
    total = np.where(overflow, 0.0, total)
    estimate, error = total / information, 1 / np.sqrt(information)
    p_value = 2 * stats.norm.sf(np.abs(estimate / error))
    p_value[overflow & keep.ravel()] = 0.0
    # Weights are judged against each other. Of all of them the scores sum to zero; of those that are kept nearly so,
    # and what is left of that direction is the scatter of a few rare observations.
    project = np.eye(3 * components)
    kept = 2 * components + np.flatnonzero(keep[2])
    project[np.ix_(kept, kept)] -= 1 / max(1, len(kept))
    joint, adjusted, freedom = _joint(project @ total, project @ covariance @ project, keep)
    out = (overflow.reshape(keep.shape) & keep).any(1)
    joint, adjusted = np.where(out, np.inf, joint), np.where(out, np.inf, adjusted)
    dims = ("fault", "component")
    found = {
        "estimate": (dims, estimate.reshape(3, -1)),
        "error": (dims, error.reshape(3, -1)),
        "p_value": (dims, p_value.reshape(3, -1)),
        "joint": ("fault", joint),
        "joint_p_value": ("fault", stats.chi2.sf(joint, freedom[0])),
        "adjusted_p_value": ("fault", stats.chi2.sf(adjusted, freedom[1])),
        "weight": ("component", weight),
    }
    return xr.Dataset(found, coords={"fault": list(FAULTS)}, attrs={"n": len(data.y), "seed": seed})


def _joint(total: np.ndarray, covariance: np.ndarray, keep: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Quadratic forms of each fault's scores: by themselves, and less what the other faults explain of them.

    And the degrees of freedom (2, 3) of both: the ranks of what they are forms of.
    """
    alone, adjusted, freedom = np.full(3, np.nan), np.full(3, np.nan), np.full((2, 3), np.nan)
    for number in range(3):
        own = np.zeros_like(keep)
        own[number] = keep[number]
        mine, others = np.flatnonzero(own.ravel()), np.flatnonzero((keep & ~own).ravel())
        if not len(mine):
            continue
        own_covariance = covariance[np.ix_(mine, mine)]
        alone[number], freedom[0, number] = _quadratic(total[mine], own_covariance)
        slope = covariance[np.ix_(mine, others)] @ _inverse(covariance[np.ix_(others, others)])
        rest = own_covariance - slope @ covariance[np.ix_(others, mine)]
        adjusted[number], freedom[1, number] = _quadratic(total[mine] - slope @ total[others], rest, own_covariance)
    return alone, adjusted, freedom


def _quadratic(vector: np.ndarray, covariance: np.ndarray, scale: np.ndarray | None = None) -> tuple[float, float]:
    """v' C^-1 v and the rank of C, as far as it is not rounding of ``scale`` (C itself); nan where C is zero."""
    values, directions = np.linalg.eigh(covariance)
    largest = float(np.linalg.eigvalsh(covariance if scale is None else scale)[-1])
    there = values > SMALLEST * largest
    if not largest > 0 or not there.any():
        return np.nan, np.nan
    return float(((directions.T @ vector)[there] ** 2 / values[there]).sum()), float(there.sum())


def _inverse(covariance: np.ndarray) -> np.ndarray:
    """Scores of weights sum to zero, so that their covariance has no inverse in that direction."""
    return np.linalg.pinv(covariance, rcond=SMALLEST, hermitian=True)
