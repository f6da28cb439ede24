"""The continuous ranked probability score, in closed form for mixtures of normals and from draws for all else.

    CRPS(F, y) = integral (F(t) - 1{t >= y})² dt = E|Y - y| - 1/2 E|Y - Y'|      (Gneiting & Raftery 2007, eq. 21)

in units of y; lower is better, and for a point prediction it is the absolute error.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from posterity.inference.diagnostics.sources.reading import require_mixture
from posterity.inference.diagnostics.sources.source import Source
from posterity.validation import check_finite, to_numbers

if TYPE_CHECKING:
    from torch import Tensor

    from posterity.models.mixtures import Mixture

PAIR_BUDGET = 3e8
"""Up to this many pairs of components, over all observations, the closed form is used: some 3 s on one core."""


def crps_in_closed_form(data: Source) -> np.ndarray | None:
    """CRPS (N,) of a mixture of normals with N K² pairs within `PAIR_BUDGET`; None for any other source."""
    if not data.has_density:
        return None
    from posterity.models.mixtures.crps import closed_form, is_normal

    source = require_mixture(data, "the closed form of the CRPS")
    pairs = source.mixture.batch_shape[0] * float(source.mixture.num_components) ** 2
    if not is_normal(source.mixture) or pairs > PAIR_BUDGET:
        return None
    return closed_form(source.mixture, source.y)


def crps_normal_mixture(mixture: Mixture, y: Tensor) -> np.ndarray:
    """CRPS (N,) of a mixture of normals of batch shape (N,) at y (N,), in units of y.

        sum_i w_i A(y - mu_i, s_i²) - 1/2 sum_ij w_i w_j A(mu_i - mu_j, s_i² + s_j²),
        A(m, s²) = E|N(m, s²)| = 2 s phi(m/s) + m (2 Phi(m/s) - 1)

    (Grimit, Gneiting, Berrocal & Johnson 2006, Q. J. R. Meteorol. Soc. 132, eq. 5). The pairs are taken in blocks,
    so memory is bounded for any number of components.
    Raises ``ValueError`` for components of another family, another shape, or y that is not finite.
    """
    from posterity.inference.diagnostics.sources.mixture import source_of_mixture
    from posterity.models.mixtures.crps import closed_form, is_normal

    data = source_of_mixture(mixture, y, several=False)
    if not is_normal(data.mixture):
        family = type(data.mixture.component_distribution).__name__
        raise ValueError(f"expected normal components for the closed form of the CRPS, got {family}")
    return closed_form(data.mixture, data.y)


def crps_from_draws(draws: np.ndarray, y: np.ndarray) -> np.ndarray:
    """CRPS (N,) estimated from M >= 2 draws (M, N) of the predictive, in units of y; unbiased for any M.

        1/M sum |x_i - y| + b0 - 2 b1,     b0 = mean(x),  b1 = sum_i (i - 1) x_(i) / (M (M - 1))

    with sorted draws x_(i), the estimator by probability-weighted moments (Zamo & Naveau 2018, Math. Geosci. 50,
    209-234), which equals the fair one, E|Y - Y'| over pairs of different draws (Ferro 2014), in O(M log M).
    Raises ``ValueError`` for fewer than two draws, other shapes, or numbers that are not finite.
    """
    draws, y = to_numbers("draws", draws), to_numbers("y", y)
    if draws.ndim != 2 or y.shape != draws.shape[1:]:
        raise ValueError(f"expected draws of shape (M, N) and y of shape (N,), got {draws.shape} and {y.shape}")
    check_finite("draws", draws)
    check_finite("y", y)
    count = len(draws)
    if count < 2:
        raise ValueError(f"expected at least 2 draws for the CRPS, got {count}")
    centred = draws - y
    ranked = np.sort(centred, axis=0)
    weights = (np.arange(count) / (count * (count - 1)))[:, None]
    return np.abs(centred).mean(0) + centred.mean(0) - 2 * (weights * ranked).sum(0)
