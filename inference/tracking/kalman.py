"""Straight lines through hits: the Kalman filter and the robust fit made of it.

A track is its two intercepts (b1, b2), see `posterity.data.tracks`; y_i = (1 - u_i) b1 + u_i b2 in layer i. Without
scattering the state does not change from layer to layer, and the filter, which takes one layer after the other, ends
where weighted least squares does (Frühwirth 1987, "Application of Kalman filtering to track and vertex fitting",
NIM A 262, section 2); the smoothed state of every layer is then the last one.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from posterity.validation import is_number

DIFFUSE = 1e8  # variance of an intercept before the first hit, in units of that of a hit
LEAST_WEIGHT = 1e-6  # of all hits of a layer: below it there is none
COOLING = (81.0, 9.0, 4.0, 1.0, 1.0)


@dataclass(frozen=True, eq=False)
class Fitted:
    """Tracks (B, 2), in pixels; ``covariance`` (B, 2, 2); ``chi2`` (B,) and the ``hits`` (B,) it is of, maybe weighted.

    Two of the hits are needed for the two intercepts: chi2 of n hits has n - 2 degrees of freedom.
    """

    tracks: Tensor
    covariance: Tensor
    chi2: Tensor
    hits: Tensor


def kalman_fit(positions: Tensor, variances: Tensor) -> Fitted:
    """Tracks through one hit in each layer: ``positions`` and their ``variances`` (B, L), infinite where there is none.

    What fewer than two hits leave open has a variance of 1e8 in units of a hit's. Raises ``ValueError`` for shapes that
    differ, fewer than 2 layers, variances that are not positive, or hits that are nowhere.

    >>> y = torch.tensor([[1.0, 2.0, 3.0]])
    >>> kalman_fit(y, torch.full_like(y, 0.1)).tracks.round(decimals=3)
    tensor([[1., 3.]], dtype=torch.float64)
    """
    _check_real(positions=positions, variances=variances)
    if positions.ndim != 2 or positions.shape != variances.shape or positions.shape[1] < 2:
        raise ValueError(
            f"expected positions and variances of one shape (B, L), L of 2 or more, got {tuple(positions.shape)} "
            f"and {tuple(variances.shape)}"
        )
    if not bool((variances > 0).all()):
        raise ValueError("expected variances above 0, got others")
    if not bool((positions.isfinite() | variances.isinf()).all()):
        raise ValueError("expected finite positions wherever the variance is finite, got others")
    y, variance = positions.double(), variances.double()
    count, layers = y.shape
    u = torch.linspace(0, 1, layers, dtype=torch.double, device=y.device)
    seen = variance.isfinite()
    least = torch.where(seen, variance, torch.inf).amin(1).nan_to_num(posinf=1.0)
    state = y.new_zeros(count, 2)
    spread = (DIFFUSE * least)[:, None, None] * torch.eye(2, dtype=torch.double, device=y.device)
    for layer in range(layers):
        design = torch.stack([1 - u[layer], u[layer]])
        cross = spread @ design  # (B, 2)
        expected = cross @ design + variance[:, layer]
        gain = torch.where(seen[:, layer, None], cross / expected[:, None], 0.0)
        away = torch.where(seen[:, layer], y[:, layer] - state @ design, 0.0)
        state = state + gain * away[:, None]
        keep = torch.eye(2, dtype=torch.double, device=y.device) - gain[:, :, None] * design
        noise = torch.where(seen[:, layer], variance[:, layer], 0.0)
        # Joseph's form: symmetric and positive in spite of rounding.
        spread = keep @ spread @ keep.mT + noise[:, None, None] * gain[:, :, None] * gain[:, None, :]
    residual = y - torch.lerp(state[:, :1], state[:, 1:], u)
    chi2 = torch.where(seen, residual**2 / variance, 0.0).sum(1)
    return Fitted(state, spread, chi2, seen.sum(1).double())


def annealed_fit(
    fired: Tensor,
    start: Tensor,
    *,
    resolution: float = 12**-0.5,
    cutoff: float = 3.0,
    temperatures: tuple[float, ...] = COOLING,
) -> Fitted:
    """The deterministic annealing filter (Frühwirth & Strandlie 1999, Comp. Phys. Comm. 120, 197): all hits compete.

    Every fired pixel of a layer is a hit at its centre. At temperature T a hit at distance d of the track has the
    weight phi / (sum of phi + phi at the cutoff), phi = exp(-d² / (2 T resolution²)); so noise far off counts for
    nothing, and a layer without a near hit is passed over. A weighted fit follows, and T falls. A track left with
    hits in fewer than two layers stays where it was, with an infinite covariance.

    Args:
        fired: (B, size, layers), True where a pixel fired.
        start: tracks (B, 2) to begin with, in pixels.
        resolution: standard deviation of a hit, in pixels: of a uniform one in its pixel by default.
        cutoff: distance at which a lone hit has a weight of one half when T is 1, in units of the resolution.
        temperatures: T of each iteration.

    Raises:
        ValueError: other shapes, a resolution or cutoff that is not positive, or temperatures below 1 or none.
    """
    _check_real(fired=fired, start=start)
    if fired.ndim != 3 or fired.shape[2] < 2 or not fired.shape[1] or tuple(start.shape) != (len(fired), 2):
        raise ValueError(
            f"expected fired of shape (B, size, layers) and start of shape (B, 2), layers of 2 or more, got "
            f"{tuple(fired.shape)} and "
            f"{tuple(start.shape)}"
        )
    if fired.dtype != torch.bool or not bool(start.isfinite().all()):
        raise ValueError(f"expected fired of True and False and a finite start, got {fired.dtype} and {start}")
    if not all(is_number(one) and one > 0 for one in (resolution, cutoff)):
        raise ValueError(f"expected a resolution and a cutoff above 0, got {resolution!r} and {cutoff!r}")
    if not isinstance(temperatures, Sequence) or not temperatures or not all(map(is_number, temperatures)):
        raise ValueError(f"expected temperatures of 1 or more, a sequence of numbers, got {temperatures!r}")
    if not all(t >= 1 for t in temperatures):
        raise ValueError(f"expected temperatures of 1 or more, got {temperatures}")
    size, layers = fired.shape[1:]
    centres = torch.arange(size, dtype=torch.double, device=fired.device)[:, None] + 0.5
    u = torch.linspace(0, 1, layers, dtype=torch.double, device=fired.device)
    nothing = start.new_zeros(len(start), dtype=torch.double)
    fitted = Fitted(start.double(), torch.full((len(start), 2, 2), torch.inf).to(nothing), nothing, nothing)
    for temperature in temperatures:
        line = torch.lerp(fitted.tracks[:, :1], fitted.tracks[:, 1:], u)[:, None]  # (B, 1, layers)
        away = (centres - line) / resolution
        phi = torch.where(fired, torch.exp(-(away**2) / (2 * temperature)), 0.0)
        weights = phi / (phi.sum(1, keepdim=True) + math.exp(-(cutoff**2) / (2 * temperature)))
        total = weights.sum(1)
        there = total > LEAST_WEIGHT
        mean = torch.where(there, (weights * centres).sum(1) / total.clamp_min(LEAST_WEIGHT), 0.0)
        variance = torch.where(there, resolution**2 / total.clamp_min(LEAST_WEIGHT), torch.inf)
        enough = there.sum(1) >= 2
        found = kalman_fit(mean, torch.where(enough[:, None], variance, resolution**2))
        fitted = Fitted(
            torch.where(enough[:, None], found.tracks, fitted.tracks),
            torch.where(enough[:, None, None], found.covariance, torch.inf),
            torch.where(enough, found.chi2, 0.0),
            total.sum(1),
        )
    return fitted


def _check_real(**tensors: Tensor) -> None:
    for name, value in tensors.items():
        if not isinstance(value, Tensor) or value.is_complex():
            got = value.dtype if isinstance(value, Tensor) else type(value).__name__
            raise ValueError(f"expected {name} as a real tensor, got {got}")
