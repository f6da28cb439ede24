r"""`set_pulls`: pulls of sets of tracks, for finders that find any number of tracks at once.

The candidate that a true track belongs to is unknown, and choosing the nearest one would make every pull too small. The
candidate is drawn from its responsibility instead, r_m p_m(b) / intensity(b). If the intensity is right, the pair of
track and candidate is then distributed as a draw from it, so the pulls are exactly standard normal.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.special import ndtri

from posterity.data.tracks import check_tracks
from posterity.models.tracking import TrackIntensity
from posterity.models.tracking.normals import log_normal
from posterity.random import as_generator
from posterity.validation import shown

MIN_TAIL = 2.2e-308  # smaller tail probabilities count as this, which bounds pulls by 37.5


@dataclass(frozen=True, eq=False)
class SetPulls:
    r"""Pulls of tracks (N, T, 2); NaN and -1 where there is no track.

    Attributes:
        pull: Pulls (N, T, 2) of both intercepts b, $\Phi^{-1}(F(b))$ with F the distribution function of the drawn
            candidate; float64, from -37.5 to 37.5.
        sd: Predicted standard deviations (N, T, 2) of the intercepts, in pixels.
        candidate: Index (N, T) of the drawn candidate; -1 if a cell of the plane was drawn, whose normal distribution
            then takes the place of a candidate.
    """

    pull: Tensor
    sd: Tensor
    candidate: Tensor


@torch.no_grad()
def set_pulls(intensity: TrackIntensity, tracks: Tensor, *, seed: int | torch.Generator) -> SetPulls:
    """Pulls of the true ``tracks`` (N, T, 2) under an intensity of N events; rows of NaN where there is no track.

    The pulls of a right intensity are standard normal given the images. In a selection of events by their true tracks,
    for example by the number of tracks, they need not be.

    Raises:
        ValueError: Tracks of another shape, or rows other than two finite numbers or two NaN.
    """
    if not isinstance(intensity, TrackIntensity):
        raise ValueError(f"expected intensity to be the TrackIntensity of a finder, got {shown(intensity)}")
    check_tracks(tracks, len(intensity))
    missing = tracks.isnan()
    normals = intensity.candidates.component_distribution
    at = tracks.nan_to_num().to(intensity.candidates.log_weights)
    drawn = _draw_parts(intensity, at, seed)
    candidates = intensity.log_rates.shape[-1]
    inside = drawn < candidates
    event = torch.arange(len(at), device=at.device)[:, None]
    own = torch.where(inside, drawn, 0)
    scale = normals.scale_tril.double().square().sum(-1).sqrt()
    standardised = (at.double()[:, :, None] - normals.loc[event, own].double()) / scale[event, own]  # (N, T, K, 2)
    share = intensity.candidates.log_weights[event, own].double().exp()[..., None]
    lower, upper = (share * _upper_tail(-standardised)).sum(2), (share * _upper_tail(standardised)).sum(2)
    pull = torch.where(lower < upper, ndtri(lower.clamp_min(MIN_TAIL)), -ndtri(upper.clamp_min(MIN_TAIL)))
    sd = intensity.candidates.variance.sqrt()[event, own].double()
    cell = intensity.cells[(drawn - candidates).clamp_min(0)]
    pull = torch.where(inside[..., None], pull, (at - cell).double() / intensity.width)
    sd = torch.where(inside[..., None], sd, intensity.width)
    return SetPulls(
        pull.masked_fill(missing, torch.nan),
        sd.masked_fill(missing, torch.nan),
        torch.where(inside, drawn, -1).masked_fill(missing.any(-1), -1),
    )


def _draw_parts(intensity: TrackIntensity, at: Tensor, seed: int | torch.Generator) -> Tensor:
    """For each track (N, T, 2), a candidate or (counted after the candidates) a cell, drawn by responsibility."""
    normals, weights = intensity.candidates.component_distribution, intensity.candidates.log_weights
    near = log_normal(at[:, :, None, None], normals.loc[:, None], normals.scale_tril[:, None])
    near = (near + weights[:, None]).logsumexp(-1) + intensity.log_rates[:, None]
    eye = intensity.width * torch.eye(2).to(weights)
    far = log_normal(at[:, :, None], intensity.cells, eye) + intensity.log_cell_rates[:, None]
    parts = torch.cat([near, far], -1)
    random = as_generator(seed)
    uniform = torch.rand(parts.shape, generator=random, dtype=torch.double, device=random.device).to(parts.device)
    return (parts - (-uniform.log()).log()).argmax(-1)  # the Gumbel-max trick needs no normalisation


def _upper_tail(z: Tensor) -> Tensor:
    """Standard normal probability above z, accurate where `torch.special.ndtr` of -z is 0 (beyond 8.3)."""
    return 0.5 * torch.special.erfc(z / math.sqrt(2))
