r"""Tests of the components of a mixture: are widths, places, or weights wrong?

A test of the whole distribution says that something is wrong. These tests say what, for every component. They are Rao's
score tests (Rao 1948, Proc. Camb. Phil. Soc. 44, 50-57) against the three ways in which a component can be wrong for
all observations alike. With responsibilities $r_k = P(k | y, x)$, $z_k = (y - \mu_k)/\sigma_k$ and weights $w_k$, of
normal components

$$\text{width: } r_k (z_k^2 - 1), \qquad \text{shift: } r_k z_k, \qquad \text{weight: } r_k - w_k$$

have mean zero under the model; a positive sum says that $\sigma_k$ should be larger, $\mu_k$ higher, the component more
frequent. No observation is assigned to a component, so a right model is not rejected because of tails that overlap
(as it is with the nearest component).

Each test is the most powerful one against a small fault of its own kind if there is no other. Where components
overlap, the tests of the other kinds see a fault too. Of gross faults they may see more: y that lies s widths too high
has a chi2 of n s² as a shift and of n s⁴/2 as a width. `calibration_tests` decides between kinds by the likelihood that
each repair gains. The adjusted tests leave the other two kinds free (by the inverse of the full information matrix);
they blame no other kind, but are less powerful.
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
SMALLEST = 1e-9
"""Eigenvalues of a covariance below this share of the largest are rounding."""

FEWEST = 5.0
"""Expected observations of a component, below which sums of its scores are far from normal."""

FEWEST_ROWS = 8
"""Observations for the tests."""


def mixture_tests(source: object, y: Any = None, *, seed: int = 0) -> xr.Dataset:
    """Score tests of widths, places and weights: over ("fault", "component"), and of each fault jointly over "fault".

    ``source`` is a `Mixture` of batch shape (N,) of one target, with Normal, LogNormal, StudentT or Laplace components,
    and ``y`` is (N,). The components of a `PredictiveMixture` are those of one draw, the same in all draws: `relabel`
    it first.

    - ``estimate`` ± ``error``: one step of Fisher scoring from the model towards the truth, if nothing else is wrong:
      the change of the log of the width, of the place (in widths), and of the log odds of a component, the same for all
      observations. It is right for small faults, and has the right sign for large ones.
    - ``p_value``, two-sided.
    - ``joint`` and ``joint_p_value`` over "fault", for all components together: chi2 with K degrees of freedom (K - 1
      for weights, and one less for each duplicate component). nan for the weight of a single component, and of
      duplicates. If scores overflow, ``joint`` is infinite and the p-value 0.
    - ``adjusted_p_value`` over "fault": the same with the other faults free.

    Components with fewer than 5 expected observations have nan, with a warning. The covariance of the scores is
    estimated from draws of the model (``seed``), with an error of a few percent whatever the data. Memory is bounded.
    The cost is that of two evaluations of the density for each observation, and of 40,000 in all if 6e7 component
    densities allow it.

    Raises:
        ValueError: if components are of another family, or there are fewer than 8 observations, and as `pit`.

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
    from posterity.inference.diagnostics.sources.mixture_scores import component_scores, shape_of

    shape_of(data.mixture.component_distribution)
    count = len(data.observed)
    if count < FEWEST_ROWS:
        raise ValueError(f"expected at least {FEWEST_ROWS} observations for mixture tests, got {count}")
    total, covariance, weight = component_scores(data, seed)
    components = len(weight)
    frequent = weight * count >= FEWEST
    if not frequent.all():
        warnings.warn(
            f"{int((~frequent).sum())} of {components} components are expected fewer than {FEWEST:g} times in {count} "
            "observations: their tests are nan; use more observations, or fewer components",
            stacklevel=2,
        )
    keep = np.stack([frequent, frequent, frequent & (frequent.sum() > 1)])
    overflow = ~np.isfinite(total)
    information = np.where(keep.ravel() & (np.diag(covariance) > 0) & ~overflow, np.diag(covariance), np.nan)
    total = np.where(overflow, 0.0, total)
    estimate, error = total / information, 1 / np.sqrt(information)
    p_value = 2 * stats.norm.sf(np.abs(estimate / error))
    p_value[overflow & keep.ravel()] = 0.0
    # Weights are compared with each other: the scores of all weights sum to zero, those of frequent components nearly
    # so, and the rest of this direction is the scatter of a few rare observations.
    project = np.eye(3 * components)
    places = 2 * components + np.flatnonzero(keep[2])
    project[np.ix_(places, places)] -= 1 / max(1, len(places))
    joint, adjusted, freedom = _joint(project @ total, project @ covariance @ project, keep)
    infinite = (overflow.reshape(keep.shape) & keep).any(1)
    joint, adjusted = np.where(infinite, np.inf, joint), np.where(infinite, np.inf, adjusted)
    dims = ("fault", "component")
    columns = {
        "estimate": (dims, estimate.reshape(3, -1)),
        "error": (dims, error.reshape(3, -1)),
        "p_value": (dims, p_value.reshape(3, -1)),
        "joint": ("fault", joint),
        "joint_p_value": ("fault", stats.chi2.sf(joint, freedom[0])),
        "adjusted_p_value": ("fault", stats.chi2.sf(adjusted, freedom[1])),
        "weight": ("component", weight),
    }
    return xr.Dataset(columns, coords={"fault": list(FAULTS)}, attrs={"n": count, "seed": seed})


def _joint(total: np.ndarray, covariance: np.ndarray, keep: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Quadratic forms (3,) of the scores of each fault, alone and adjusted for the others; degrees of freedom (2, 3).

    An adjusted form is that of the residuals of a regression on the scores of the other faults. The degrees of freedom
    are the ranks of the covariances.
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
    """v' C^-1 v and the rank of C; eigenvalues small against those of ``scale`` (C itself) are 0. nan if C is zero."""
    values, directions = np.linalg.eigh(covariance)
    largest = float(np.linalg.eigvalsh(covariance if scale is None else scale)[-1])
    positive = values > SMALLEST * largest
    if not largest > 0 or not positive.any():
        return np.nan, np.nan
    return float(((directions.T @ vector)[positive] ** 2 / values[positive]).sum()), float(positive.sum())


def _inverse(covariance: np.ndarray) -> np.ndarray:
    """Pseudo-inverse: scores of weights sum to zero, so their covariance is singular."""
    return np.linalg.pinv(covariance, rcond=SMALLEST, hermitian=True)
