"""`fit_resolution`: the resolution of a calorimeter as a function of energy."""

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from posterity.validation import check_finite, check_floating, check_integer, check_seed, shown_shape

ITERATIONS = 6


@dataclass(frozen=True)
class Resolution:
    """The fit sd(response) / mean(response) = sqrt(a² / E + b²) = a / sqrt(E) (+) b.

    Attributes:
        a, b: the sampling term in sqrt(GeV), if energies are in GeV, and the constant term.
        a_se, b_se: their standard errors, by bootstrap over the showers.
        chi2: of the fit.
        bins: number of bins of energy; two parameters are fitted.
    """

    a: float
    b: float
    a_se: float
    b_se: float
    chi2: float
    bins: int


def fit_resolution(energy: Tensor, response: Tensor, *, seed: int, bins: int = 12, bootstrap: int = 200) -> Resolution:
    """Fit the resolution of N showers from their energy and response (N,), the energy seen over that of the particle.

    In each bin of ln E, with equally many showers, a straight line is fitted to the response, so that a mean that
    depends on energy does not count as spread. The squared relative spread is then a straight line in 1 / E, fitted by
    weighted least squares with the errors that a normal response of the fitted spread has; a negative a² or b² is set
    to 0.

    Raises:
        ValueError: samples of different shapes, with NaN or infinity, energies that are not above 0, negative
            responses, fewer than 3 bins, fewer than 20 showers in a bin, a single energy, or a response that is
            constant or 0.

    >>> import torch
    >>> random = torch.Generator().manual_seed(0)
    >>> energy = 100 ** torch.rand(20_000, generator=random, dtype=torch.double)
    >>> sd = (0.1**2 / energy + 0.01**2).sqrt()
    >>> fit = fit_resolution(energy, 1 + sd * torch.randn(20_000, generator=random), seed=0)
    >>> abs(fit.a - 0.1) < 3 * fit.a_se, abs(fit.b - 0.01) < 3 * fit.b_se
    (True, True)
    """
    check_seed(seed)
    check_integer("bins", bins, 3)
    check_integer("bootstrap", bootstrap, 2)
    for name, values in (("energy", energy), ("response", response)):
        check_floating(name, values)
        check_finite(name, values)
        if values.ndim != 1 or values.shape != energy.shape or len(values) < 20 * bins:
            raise ValueError(f"expected {name} of shape (N,), N of {20 * bins} or more, got {shown_shape(values)}")
        lowest = values.min().item()
        if lowest < 0 or (name == "energy" and not lowest):
            raise ValueError(f"expected {name} {'above' if name == 'energy' else 'of at least'} 0, got {lowest:g}")
    e, r = (values.detach().double().cpu().numpy() for values in (energy, response))
    if np.ptp(e) <= 1e-9 * e.max():
        raise ValueError(f"expected energy of several values, got {e[0]:g} alone")
    if np.ptp(r) == 0:
        raise ValueError(f"expected response to differ between showers, got {r[0]:g} for all")
    a, b, chi2 = _fit(e, r, bins)
    random = np.random.default_rng(seed)
    rows = (random.integers(len(e), size=len(e)) for _ in range(bootstrap))
    again = np.array([_fit(e[row], r[row], bins)[:2] for row in rows])
    a_se, b_se = again.std(0, ddof=1)
    return Resolution(a, b, float(a_se), float(b_se), chi2, bins)


def _fit(energy: np.ndarray, response: np.ndarray, bins: int) -> tuple[float, float, float]:
    order = np.argsort(energy)
    points = []
    for rows in np.array_split(order, bins):
        log_e = np.log(energy[rows]) - np.log(energy[rows]).mean()
        square = log_e @ log_e
        slope = log_e @ response[rows] / square if square > 1e-18 * len(rows) else 0.0  # 0 for a beam of one energy
        mean = response[rows].mean()
        if not mean > 0:
            raise ValueError(f"expected response above 0 on average, got {mean:g} near {energy[rows].mean():g} GeV")
        spread = ((response[rows] - mean - slope * log_e) ** 2).sum() / (len(rows) - 2) / mean**2
        points.append(((1 / energy[rows]).mean(), spread, np.sqrt(2 / (len(rows) - 2))))
    x, y, relative = np.array(points).T
    fitted = np.full_like(y, y.mean())
    for _ in range(ITERATIONS):  # errors of the fitted line: those of the observed spreads would favour small ones
        error = relative * np.maximum(fitted, 1e-3 * y.mean())
        found = _two_terms(x / error, 1 / error, y / error)
        fitted = found[0] * x + found[1]
    chi2 = float((((fitted - y) / error) ** 2).sum())
    a, b = np.sqrt(found)
    return float(a), float(b), chi2


def _two_terms(first: np.ndarray, second: np.ndarray, target: np.ndarray) -> np.ndarray:
    """The least squares of two terms that are not negative."""
    design = np.stack([first, second], 1)
    found = np.linalg.lstsq(design, target, rcond=None)[0]
    for index in np.flatnonzero(found < 0):  # one term alone
        other = design[:, 1 - index]
        found[index], found[1 - index] = 0.0, max(other @ target / (other @ other), 0.0)
    return found
