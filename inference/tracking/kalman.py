"""Fits of straight lines to hits: the Kalman filter, and the deterministic annealing filter that uses it.

A track is its two intercepts (b1, b2), see `posterity.data.tracks`; it crosses layer i at y_i = (1 - u_i) b1 + u_i b2.
Without scattering the state is the same in all layers. The filter processes one layer after the other and ends at the
weighted least-squares estimate (Frühwirth 1987, "Application of Kalman filtering to track and vertex fitting", NIM A
262, section 2), which is also the smoothed state of every layer.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from posterity.validation import check_number, check_real, shown

DIFFUSE = 1e8  # variance of an intercept before the first hit, over the variance of a hit
MIN_WEIGHT = 1e-6  # of all hits of a layer: with less, the layer has no hit
COOLING = (81.0, 9.0, 4.0, 1.0, 1.0)


@dataclass(frozen=True, eq=False)
class TrackFit:
    """Fits of B tracks.

    Attributes:
        tracks: Intercepts (B, 2) in pixels.
        covariance: Their covariance (B, 2, 2) in pixels².
        chi2: Chi squared (B,), with ``hits`` - 2 degrees of freedom.
        hits: Number of hits (B,), or the sum of their weights.
    """

    tracks: Tensor
    covariance: Tensor
    chi2: Tensor
    hits: Tensor


def kalman_fit(positions: Tensor, variances: Tensor) -> TrackFit:
    """Fits of tracks to one hit in each layer: ``positions`` and ``variances`` (B, L).

    A missing hit has an infinite variance. Directions that the hits do not determine get a variance of 1e8 times that
    of the best hit.

    Raises:
        ValueError: Different shapes, fewer than 2 layers, variances that are not above 0, or positions that are NaN or
            infinite although their variance is finite.

    >>> y = torch.tensor([[1.0, 2.0, 3.0]])
    >>> kalman_fit(y, torch.full_like(y, 0.1)).tracks.round(decimals=3)
    tensor([[1., 3.]], dtype=torch.float64)
    """
    check_real("positions", positions)
    check_real("variances", variances)
    if positions.ndim != 2 or positions.shape != variances.shape or positions.shape[1] < 2:
        raise ValueError(
            f"expected positions and variances of one shape (B, L), L of 2 or more, got {tuple(positions.shape)} "
            f"and {tuple(variances.shape)}"
        )
    if not bool((variances > 0).all()):
        raise ValueError("expected variances above 0, got zero, negative numbers or NaN")
    if not bool((positions.isfinite() | variances.isinf()).all()):
        raise ValueError("expected finite positions wherever the variance is finite, got NaN or infinity")
    y, variance = positions.double(), variances.double()
    count, layers = y.shape
    u = torch.linspace(0, 1, layers, dtype=torch.double, device=y.device)
    seen = variance.isfinite()
    least = torch.where(seen, variance, torch.inf).amin(1).nan_to_num(posinf=1.0)
    state = y.new_zeros(count, 2)
    eye = torch.eye(2, dtype=torch.double, device=y.device)
    covariance = (DIFFUSE * least)[:, None, None] * eye
    for layer in range(layers):
        design = torch.stack([1 - u[layer], u[layer]])
        cross = covariance @ design  # (B, 2)
        innovation_variance = cross @ design + variance[:, layer]
        gain = torch.where(seen[:, layer, None], cross / innovation_variance[:, None], 0.0)
        innovation = torch.where(seen[:, layer], y[:, layer] - state @ design, 0.0)
        state = state + gain * innovation[:, None]
        keep = eye - gain[:, :, None] * design
        noise = torch.where(seen[:, layer], variance[:, layer], 0.0)
        # Joseph's form stays symmetric and positive definite in spite of rounding.
        covariance = keep @ covariance @ keep.mT + noise[:, None, None] * gain[:, :, None] * gain[:, None, :]
    residual = y - torch.lerp(state[:, :1], state[:, 1:], u)
    chi2 = torch.where(seen, residual**2 / variance, 0.0).sum(1)
    return TrackFit(state, covariance, chi2, seen.sum(1).double())


def annealed_fit(
    fired: Tensor,
    start: Tensor,
    *,
    resolution: float = 12**-0.5,
    cutoff: float = 3.0,
    temperatures: tuple[float, ...] = COOLING,
) -> TrackFit:
    r"""Robust fits by the deterministic annealing filter (Frühwirth & Strandlie 1999, Comp. Phys. Comm. 120, 197).

    All hits of a layer compete; every fired pixel is a hit at its centre. At temperature T, a hit at distance d from
    the track has the weight $\phi(d) / (\sum \phi + \phi(\mathrm{cutoff}))$ with $\phi(d) = \exp(-d^2 / (2 T
    \mathrm{resolution}^2))$. Distant noise therefore has no weight, and a layer without a near hit is ignored. After
    each weighted fit T falls. A track with hits in fewer than two layers keeps its position and gets an infinite
    covariance.

    Args:
        fired: Fired pixels (B, size, layers), booleans.
        start: Initial tracks (B, 2), in pixels.
        resolution: Standard deviation of a hit in pixels; by default that of a uniform distribution within a pixel.
        cutoff: Distance at which a single hit has a weight of one half at T = 1, in units of the resolution.
        temperatures: T of each iteration.

    Raises:
        ValueError: Other shapes, a resolution or cutoff that is not above 0, or temperatures below 1 or none.
    """
    _check_annealed(fired, start, resolution, cutoff, temperatures)
    size, layers = fired.shape[1:]
    centres = torch.arange(size, dtype=torch.double, device=fired.device)[:, None] + 0.5
    u = torch.linspace(0, 1, layers, dtype=torch.double, device=fired.device)
    zeros = start.new_zeros(len(start), dtype=torch.double)
    fit = TrackFit(start.double(), torch.full((len(start), 2, 2), torch.inf).to(zeros), zeros, zeros)
    for temperature in temperatures:
        line = torch.lerp(fit.tracks[:, :1], fit.tracks[:, 1:], u)[:, None]  # (B, 1, layers)
        distance = (centres - line) / resolution
        phi = torch.where(fired, torch.exp(-(distance**2) / (2 * temperature)), 0.0)
        weights = phi / (phi.sum(1, keepdim=True) + math.exp(-(cutoff**2) / (2 * temperature)))
        total = weights.sum(1)
        seen = total > MIN_WEIGHT
        mean = torch.where(seen, (weights * centres).sum(1) / total.clamp_min(MIN_WEIGHT), 0.0)
        variance = torch.where(seen, resolution**2 / total.clamp_min(MIN_WEIGHT), torch.inf)
        enough = seen.sum(1) >= 2
        new = kalman_fit(mean, torch.where(enough[:, None], variance, resolution**2))
        fit = TrackFit(
            torch.where(enough[:, None], new.tracks, fit.tracks),
            torch.where(enough[:, None, None], new.covariance, torch.inf),
            torch.where(enough, new.chi2, 0.0),
            total.sum(1),
        )
    return fit


def _check_annealed(
    fired: Tensor, start: Tensor, resolution: float, cutoff: float, temperatures: tuple[float, ...]
) -> None:
    check_real("fired", fired)
    check_real("start", start)
    if fired.ndim != 3 or fired.shape[2] < 2 or not fired.shape[1] or tuple(start.shape) != (len(fired), 2):
        raise ValueError(
            f"expected fired of shape (B, size, layers) and start of shape (B, 2), layers of 2 or more, got "
            f"{tuple(fired.shape)} and {tuple(start.shape)}"
        )
    if fired.dtype != torch.bool:
        raise ValueError(f"expected fired to be a boolean tensor, got {fired.dtype}")
    if not bool(start.isfinite().all()):
        raise ValueError("expected finite start, got values that are NaN or infinite")
    check_number("resolution", resolution, "(0, inf)")
    check_number("cutoff", cutoff, "(0, inf)")
    if not isinstance(temperatures, Sequence) or not temperatures:
        raise ValueError(f"expected temperatures to be a sequence of at least one number, got {shown(temperatures)}")
    for temperature in temperatures:
        check_number("every one of temperatures", temperature, "[1, inf)")
