"""Pulls of sets of tracks: whose errors are right when any number of tracks is found at once.

Which candidate a true track belongs to is not known, and to take the nearest would make every pull too small. It is
drawn from its responsibility instead, r_m p_m(b) / intensity(b): when the intensity is right the pair of track and
candidate has the distribution of a sample, so the pulls are standard normal exactly.
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

LEAST = 2.2e-308  # smaller tails count as this: pulls of at most 37.5


@dataclass(frozen=True, eq=False)
class SetPulls:
    """Of tracks (N, T, 2); NaN and -1 where there is none.

    Attributes:
        pull: (N, T, 2), of both intercepts: Phi^-1(F(b)), F that of the candidate alone, float64, ±37.5 at the most.
        sd: (N, T, 2), the standard deviation predicted for them, in pixels.
        candidate: (N, T), which was drawn; -1 where it was none of them but a cell of the plane, whose normal counts.
    """

    pull: Tensor
    sd: Tensor
    candidate: Tensor


@torch.no_grad()
def set_pulls(intensity: TrackIntensity, tracks: Tensor, *, seed: int | torch.Generator) -> SetPulls:
    """Pulls of the true ``tracks`` (N, T, 2), rows of NaN where there is none, under an intensity of N events.

    Given the image, that is: among events chosen by what is true in them, such as the number of tracks, pulls of a
    right intensity need not be standard normal.

    Raises ``ValueError`` for tracks of another shape, or rows other than two finite numbers or two NaN.
    """
    if not isinstance(intensity, TrackIntensity):
        raise ValueError(f"expected the TrackIntensity that a finder returns, got {type(intensity).__name__}")
    check_tracks(tracks, len(intensity))
    missing = tracks.isnan()
    normals = intensity.candidates.component_distribution
    weights, width = intensity.candidates.log_weights, intensity.width
    at = tracks.nan_to_num().to(weights)
    near = log_normal(at[:, :, None, None], normals.loc[:, None], normals.scale_tril[:, None])
    near = (near + weights[:, None]).logsumexp(-1) + intensity.log_rates[:, None]
    eye = width * torch.eye(2).to(weights)
    far = log_normal(at[:, :, None], intensity.cells, eye) + intensity.log_cell_rates[:, None]
    parts = torch.cat([near, far], -1)
    # Gumbel's maximum draws from all of them without a division.
    random = as_generator(seed)
    uniform = torch.rand(parts.shape, generator=random, dtype=torch.double, device=random.device).to(parts.device)
    drawn = (parts - (-uniform.log()).log()).argmax(-1)
    candidates = near.shape[-1]
    candidate = torch.where(drawn < candidates, drawn, -1)
    event = torch.arange(len(at), device=at.device)[:, None]
    own = candidate.clamp_min(0)
    scale = normals.scale_tril.double().square().sum(-1).sqrt()
    white = (at.double()[:, :, None] - normals.loc[event, own].double()) / scale[event, own]  # (N, T, K, 2)
    share = weights[event, own].double().exp()[..., None]
    lower, upper = (share * _tail(-white)).sum(2), (share * _tail(white)).sum(2)
    pull = torch.where(lower < upper, ndtri(lower.clamp_min(LEAST)), -ndtri(upper.clamp_min(LEAST)))
    sd = intensity.candidates.variance.sqrt()[event, own].double()
    cell = intensity.cells[(drawn - candidates).clamp_min(0)]
    inside = (candidate >= 0)[..., None]
    pull = torch.where(inside, pull, (at - cell).double() / width)
    sd = torch.where(inside, sd, width)
    return SetPulls(
        pull.masked_fill(missing, torch.nan),
        sd.masked_fill(missing, torch.nan),
        candidate.masked_fill(missing.any(-1), -1),
    )


def _tail(white: Tensor) -> Tensor:
    """Of a standard normal above this: `torch.special.ndtr` is 0 from 8.3 on."""
    return 0.5 * torch.special.erfc(white / math.sqrt(2))
