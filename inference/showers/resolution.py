"""`fit_resolution`: the resolution of a calorimeter as a function of energy."""

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from posterity.validation import check_finite, check_floating, check_integer, check_seed, shown_shape


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
    weighted least squares with the errors that a normal response has; a negative a² or b² is set to 0.

    Raises:
        ValueError: samples of different shapes, with NaN or infinity, energies or responses that are not above 0, fewer
            than 3 bins, or fewer than 20 showers in a bin.

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
        if float(values.min()) <= 0:
            raise ValueError(f"expected {name} above 0, got {float(values.min()):g}")
    e, r = (values.detach().double().cpu().numpy() for values in (energy, response))
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
        line = np.polynomial.polynomial.polyfit(log_e, response[rows], 1)
        spread = (response[rows] - line[0] - line[1] * log_e).var(ddof=2) / line[0] ** 2
        points.append(((1 / energy[rows]).mean(), spread, spread * np.sqrt(2 / (len(rows) - 2))))
    x, y, error = np.array(points).T
    design = np.stack([x, np.ones_like(x)], 1) / error[:, None]
    found = np.linalg.lstsq(design, y / error, rcond=None)[0]
    for index in np.flatnonzero(found < 0):  # one term alone
        other = design[:, 1 - index]
        found[index], found[1 - index] = 0.0, max(other @ (y / error) / (other @ other), 0.0)
    chi2 = float((((x * found[0] + found[1] - y) / error) ** 2).sum())
    a, b = np.sqrt(found)
    return float(a), float(b), chi2
