"""A network that finds tracks: where to look in all of the plane, then what exactly is there.

A convolutional encoder reads the Hough map of an image and gives each cell of the (b1, b2) plane its expected number of
tracks. The best cells are looked at closely: from the hits on a fine grid of tracks around each, one network makes a
mixture density with full covariances. What the time depends on is the number of these candidates, which is fixed: not
the number of tracks or of noise hits.
"""

from collections.abc import Callable
from typing import Any

import pyro
import torch
from torch import Tensor, nn
from torch.nn import functional

from posterity.data._random import check_count
from posterity.models.mixtures import Mixture, multivariate_mixture_head
from posterity.models.pairs import Pair
from posterity.models.tracking.intensity import TrackIntensity, TrackSet
from posterity.models.tracking.roads import HoughMap, RoadMap

SHARPNESS = (1.5, 4.5)  # of a hit more or less, in nats: about what it is worth among much noise, and among little
SCALE = 0.25  # pixels: unit of the local mixtures
CELL_WIDTH = 0.5  # pixels


class TrackFinder(nn.Module):
    """Images (N, 1, size, layers) of zeros and ones -> `TrackIntensity`.

    Args:
        size, layers: of the detector.
        candidates: how many cells are looked at closely, at least as many as there may be tracks.
        components: of the mixture of each.
        channels: of the convolutions. hidden: width of both dense layers.

    Raises ``ValueError`` for a size, width or number below 1, or images of another shape.

    >>> finder = TrackFinder(16, 16, candidates=3, components=4)
    >>> finder(torch.zeros(5, 1, 16, 16)).log_rates.shape
    torch.Size([5, 3])
    """

    cells: Tensor

    def __init__(
        self,
        size: int = 28,
        layers: int = 28,
        *,
        candidates: int = 4,
        components: int = 12,
        channels: int = 16,
        hidden: int = 256,
    ) -> None:
        super().__init__()
        for name, count in (("candidates", candidates), ("channels", channels), ("hidden", hidden)):
            check_count(name, count)
        self.size, self.layers, self.candidates = size, layers, candidates
        self.hough, self.roads = HoughMap(size, layers), RoadMap(size, layers)
        self.encoder = nn.Sequential(
            nn.Conv2d(2, channels, 4, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(channels, 1, 1),
        )
        self.head = multivariate_mixture_head(components, 2, covariance="full", floor=0.05)
        points = len(self.roads.offsets)
        self.local = nn.Sequential(
            nn.Linear(len(SHARPNESS) * (points + 1) + 2, hidden),
            nn.ReLU(),
            nn.Linear(hidden, hidden),
            nn.ReLU(),
            nn.Linear(hidden, 1 + self.head.features),
        )
        at = torch.arange(size) + 0.5
        self.register_buffer("cells", torch.cartesian_prod(at, at), persistent=False)

    def forward(self, images: Tensor) -> TrackIntensity:
        if images.ndim != 4 or tuple(images.shape[1:]) != (1, self.size, self.layers):
            raise ValueError(f"expected images (N, 1, {self.size}, {self.layers}), got {tuple(images.shape)}")
        images = images.to(self.cells.dtype)
        noise = images.mean((1, 2, 3))
        rates = self._rates(images, noise)
        which = self._peaks(rates)
        centres = self.cells[which]
        found = self.local(self._closely(images, noise, centres))
        near: Mixture = self.head(found[..., 1:])
        normals = near.component_distribution
        return TrackIntensity(
            log_rates=functional.logsigmoid(rates.gather(1, which) + found[..., 0]),
            candidates=Mixture.multivariate_normal(
                near.log_weights, centres[:, :, None] + SCALE * normals.loc, SCALE * normals.scale_tril
            ),
            log_rest=functional.logsigmoid(rates).scatter(1, which, -torch.inf),
            cells=self.cells,
            width=CELL_WIDTH,
        )

    def _rates(self, images: Tensor, noise: Tensor) -> Tensor:
        """(N, C), logits."""
        votes = self.hough(images)
        level = noise[:, None, None, None].expand_as(votes)
        rates: Tensor = self.encoder(5 * torch.cat([votes - level, level], 1))
        return rates.flatten(1)

    @torch.no_grad()
    def _peaks(self, rates: Tensor) -> Tensor:
        """(N, M), the best cells that are best among their neighbours."""
        plane = rates.unflatten(1, (1, self.size, self.size))
        peak = plane >= functional.max_pool2d(plane, 3, 1, 1)
        return torch.where(peak, plane, -torch.inf).flatten(1).topk(self.candidates, 1).indices

    @torch.no_grad()
    def _closely(self, images: Tensor, noise: Tensor, centres: Tensor) -> Tensor:
        """What is seen around ``centres`` (N, M, 2): about the posterior on the fine grid, and how much of it."""
        hits = self.roads(images, centres)
        most = hits.amax(-1, keepdim=True)
        maps = [(sharpness * (hits - most)).exp() for sharpness in SHARPNESS]
        sizes = [one.sum(-1, keepdim=True).log() - 2 for one in maps]
        level = noise[:, None, None].expand(*centres.shape[:2], 1)
        return torch.cat([*maps, *sizes, 5 * (most / self.layers - 0.8), 5 * level], -1)


def track_set_pair(finder: nn.Module) -> Pair:
    """``model(images, tracks=None)``: all tracks of each event, (N, T, 2), NaN where there is none; an empty guide."""

    def model(images: Tensor, tracks: Tensor | None = None) -> Tensor:
        net = pyro.module("finder", finder)
        return pyro.sample("tracks", TrackSet(net(images)), obs=tracks)

    return Pair(model, None)


def single_track_pair(finder: nn.Module) -> Pair:
    """``model(images, track=None)``: of events with one track each, (N, 2); an empty guide."""

    def model(images: Tensor, track: Tensor | None = None) -> Tensor:
        net = pyro.module("finder", finder)
        with pyro.plate("events", len(images)):
            return pyro.sample("track", net(images).single(), obs=track)

    return Pair(model, None)


Objective = Callable[[Any, Tensor], Tensor]
