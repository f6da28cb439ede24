"""A network that finds tracks: where to look in all of the plane, then what exactly is there.

The Hough map of an image says which cells of the (b1, b2) plane have many hits; of those, a network that sees the map
around each (a convolution that is computed where it matters) gives the expected number of tracks. The best cells are
looked at closely, on ever finer grids of tracks where most hits are: how many hits there are, and what a hit is worth,
is the shape of the density. It is handed over as the mixture of K normals with full covariances that is nearest to it.
What a hit is worth, how many tracks that makes, and what to change in the weight and width of each component is learnt.
The time depends on the number of these candidates, which is fixed: not on that of tracks or of noise hits.
"""

import math

import pyro
import torch
from torch import Tensor, nn
from torch.nn import functional

from posterity.data._random import check_count
from posterity.models.mixtures import Mixture
from posterity.models.pairs import Pair
from posterity.models.tracking.intensity import TrackIntensity, TrackSet
from posterity.models.tracking.normals import moment, moments, shares
from posterity.models.tracking.roads import HoughMap, RoadMap, hits_on

BLUR = 2.5  # nats: a hit of the first grid counts for less, since the grid is coarse
NARROWER = (3.0, 4.5)  # nats, likewise of the grids that follow
WORTH = 4.5  # nats, to begin with: what a hit more is
LOOKED = 128  # cells with most votes: others have the same small rate
WINDOW = 8  # votes on each side that a cell is judged by, half pixels
KEPT = 300  # points of the finest grid with most hits
ROUNDS = 10  # of expectation-maximisation
REACH, SIDES = 3.2, (16, 28)  # of the finer grids: standard deviations, and points
CELL_WIDTH = 0.5  # pixels


class TrackFinder(nn.Module):
    """Images (N, 1, size, layers) of zeros and ones -> `TrackIntensity`.

    Args:
        size, layers: of the detector.
        candidates: how many cells are looked at closely, at least as many as there may be tracks.
        components: of the mixture of each.
        channels: of the convolutions. hidden: width of the small networks that say how many and how wide.

    Raises ``ValueError`` for a size, width or number below 1, more candidates than cells, or images of another shape.

    >>> finder = TrackFinder(16, 16, candidates=3, components=4)
    >>> finder(torch.zeros(5, 1, 16, 16)).log_rates.shape
    torch.Size([5, 3])
    """

    cells: Tensor
    rough: Tensor
    grid: Tensor
    starts: Tensor

    def __init__(
        self,
        size: int = 28,
        layers: int = 28,
        *,
        candidates: int = 4,
        components: int = 12,
        channels: int = 32,
        hidden: int = 32,
    ) -> None:
        super().__init__()
        for name, count in (
            ("candidates", candidates),
            ("components", components),
            ("channels", channels),
            ("hidden", hidden),
        ):
            check_count(name, count)
        if candidates > size**2:
            raise ValueError(f"expected at most {size**2} candidates, one for each cell, got {candidates}")
        self.size, self.layers, self.candidates = size, layers, candidates
        self.hough, self.roads = HoughMap(size, layers), RoadMap(size, layers)
        self.encoder = nn.Sequential(
            nn.Linear(WINDOW**2 + 1, channels),
            nn.ReLU(),
            nn.Linear(channels, channels),
            nn.ReLU(),
            nn.Linear(channels, 1),
        )
        self.elsewhere = nn.Parameter(torch.tensor(-12.0))
        self.leftover = nn.Parameter(torch.tensor(-4.0))
        self.worth = _small(2, hidden, 1)
        self.rate = _small(4, hidden, 1)
        self.shape = _small(4, hidden, components * 2)
        self.piece = _small(7, hidden, 2)
        angle = math.pi * (3 - math.sqrt(5)) * torch.arange(components)  # a sunflower: evenly over a disk
        radius = 1.6 * ((torch.arange(components) + 0.5) / components).sqrt()
        starts = torch.stack([radius * angle.cos(), radius * angle.sin()], 1)
        self.register_buffer("starts", starts, persistent=False)
        self.gaps = [2 * REACH / (side - 1) for side in SIDES]
        for name, side in zip(("rough", "grid"), SIDES, strict=True):
            along = torch.linspace(-REACH, REACH, side)
            self.register_buffer(name, torch.cartesian_prod(along, along), persistent=False)
        at = torch.arange(size) + 0.5
        self.register_buffer("cells", torch.cartesian_prod(at, at), persistent=False)

    def forward(self, images: Tensor) -> TrackIntensity:
        if images.ndim != 4 or tuple(images.shape[1:]) != (1, self.size, self.layers):
            raise ValueError(f"expected images (N, 1, {self.size}, {self.layers}), got {tuple(images.shape)}")
        images = images.to(self.cells.dtype)
        noise = images.mean((1, 2, 3))
        rates = self._rates(images, noise)
        which = self._peaks(rates)
        log_rates, near = self._closely(images, noise, self.cells[which])
        return TrackIntensity(
            log_rates=functional.logsigmoid(rates.gather(1, which) + log_rates),
            candidates=near,
            log_rest=functional.logsigmoid(rates.scatter_add(1, which, self.leftover.expand(which.shape))),
            cells=self.cells,
            width=CELL_WIDTH,
        )

    def _rates(self, images: Tensor, noise: Tensor) -> Tensor:
        """(N, C), logits."""
        votes = self.hough(images)
        looked = functional.max_pool2d(votes, 2).flatten(1).topk(min(LOOKED, len(self.cells)), 1).indices
        # A convolution at a few places only: at all of them, of so few channels, it would be most of the time.
        windows = functional.pad(votes[:, 0], (WINDOW // 2 - 1,) * 4).unfold(1, WINDOW, 2).unfold(2, WINDOW, 2)
        event = torch.arange(len(images), device=images.device)[:, None]
        seen = windows[event, looked // self.size, looked % self.size].flatten(2)
        level = noise[:, None, None].expand(*looked.shape, 1)
        found = self.encoder(5 * torch.cat([seen - level, level], -1))[..., 0]
        return self.elsewhere.expand(len(images), len(self.cells)).scatter(1, looked, found)

    @torch.no_grad()
    def _peaks(self, rates: Tensor) -> Tensor:
        """(N, M), the best cells that are best among their neighbours."""
        plane = rates.unflatten(1, (1, self.size, self.size))
        peak = (plane >= functional.max_pool2d(plane, 3, 1, 1)) & (plane > self.elsewhere)
        return torch.where(peak, plane, -torch.inf).flatten(1).topk(self.candidates, 1).indices

    def _closely(self, images: Tensor, noise: Tensor, cells: Tensor) -> tuple[Tensor, Mixture]:
        """What is seen around ``cells`` (N, M, 2): logits to add (N, M), and where the track is if it is there."""
        with torch.no_grad():
            shape = (BLUR * self.roads(images, cells)).softmax(-1)
            mean, factor = moment(shape, self.roads.offsets.expand(*cells.shape[:2], -1, -1), self.roads.step**2)
            mean = cells[..., None, :] + mean
            for worth in NARROWER:  # where it is narrower than the grid before can tell
                hits = hits_on(images, (mean + self.rough @ factor.mT).flatten(1, 2)).unflatten(1, (cells.shape[1], -1))
                shift, own = moment((worth * hits).softmax(-1), self.rough.expand(*hits.shape, 2), self.gaps[0] ** 2)
                mean, factor = mean + shift @ factor.mT, factor @ own
            hits = hits_on(images, (mean + self.grid @ factor.mT).flatten(1, 2)).unflatten(1, (cells.shape[1], -1))
            hits, which = hits.topk(KEPT, -1)
            points, area = self.grid[which], self.gaps[1] ** 2
            most = hits[..., :1]
            level = 5 * noise[:, None, None].expand_as(most)
            share = 5 * (most / self.layers - 0.8)
        value = WORTH * functional.softplus(self.worth(torch.cat([level, share], -1)) + math.log(math.e - 1))
        log_shape = value * (hits - most)
        size = log_shape.logsumexp(-1, keepdim=True) + factor.diagonal(dim1=-2, dim2=-1).log().sum(-1, keepdim=True) + 2
        seen = torch.cat([level, share, size, value - WORTH], -1)
        shape = log_shape.softmax(-1)
        pieces = shape[..., None] * shares(shape, points, area, self.starts, ROUNDS)
        weights = pieces.sum(-2).clamp_min(1e-12)
        loc, tril = moments(pieces / weights[..., None, :], points, area)
        log_weights = weights.log()
        changes = self.shape(seen).unflatten(-1, (2, -1))
        own = torch.stack([0.3 * log_weights, *tril.diagonal(dim1=-2, dim2=-1).log().unbind(-1)], -1)
        changes = changes + self.piece(torch.cat([own, seen[..., None, :].expand(*own.shape[:3], 4)], -1)).mT
        mixture = Mixture.multivariate_normal(
            log_weights + changes[..., 0, :],
            mean + loc @ factor.mT,
            factor[..., None, :, :] @ tril * changes[..., 1, :, None, None].exp(),
        )
        return self.rate(seen)[..., 0], mixture


def _small(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    """A network that says nothing to begin with."""
    last = nn.Linear(hidden, outputs)
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    return nn.Sequential(nn.Linear(inputs, hidden), nn.ReLU(), last)


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
