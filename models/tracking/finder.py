"""A network that finds tracks: a coarse search over the whole (b1, b2) plane, then fine grids around candidates.

The Hough map of an image gives the cells of the (b1, b2) plane with the most hits. For these cells a network that reads
the map around each cell (a convolution at selected positions) returns the expected number of tracks. The best cells
become candidates, around which the hits are counted on successively finer grids of tracks. The density of a
candidate's track follows from the number of hits on each track and the log-odds of one more hit. It has one narrow
normal for each point of the finest grid, since the exact density is constant on polygons, which few wide normals
cannot approximate, and one wide normal for each coarser grid, for tracks that finer grids miss. The log-odds of a hit,
the odds of a track, and the widths and weights of the grids are learnt. The time depends on the fixed number of
candidates, not on the number of tracks or noise hits.
"""

import math

import pyro
import torch
from torch import Tensor, nn
from torch.nn import functional

from posterity.data.tracks import Detector
from posterity.models.mixtures import Mixture
from posterity.models.pair import Pair
from posterity.models.tracking.intensity import TrackIntensity, TrackSet
from posterity.models.tracking.normals import grid_moments
from posterity.models.tracking.roads import HoughMap, RoadMap, hits_on
from posterity.validation import check_integer, shown_shape

COARSE_HIT = 2.5  # log-odds of one more hit on the first grid, in nats: small, since the grid is coarse
FINER_HITS = (3.0, 4.5)  # the same on the following grids
HIT = 4.5  # initial log-odds contributed by one more hit, in nats
MISS = 3.0  # log-odds against a track contributed by a layer without a hit, in nats: an efficiency of 0.95
USUAL = 0.8  # typical fraction of layers with a hit on a track
RARE = -5.0  # initial log-odds that a cell with that many hits has a track
SCORED = 128  # cells with the most hits, which the network scores: the others share one small rate
WINDOW = 8  # side of the part of the Hough map around a cell that the network reads, in half pixels
REACH, SIDE = 3.2, 16  # half-width, in standard deviations, and side, in points, of the grids after the first
SPARE = 1.5  # points of the finest grid that are evaluated for each one that is selected
LEVELS = (0.0, -7.0, -6.0, -4.0)  # initial log weights: of the finest grid, then of all grids from the first one on
CELL_WIDTH = 0.5  # standard deviation of a track in a cell, in pixels
WIDEST = 2.0  # bound of the log of learnt width factors, which would be unbounded for grids without weight
VOLUME_SHIFT = 2.0  # nats added to the log volume of possible tracks, which centres the inputs of the networks
AREA = 3.0
"""Approximate minus log area of a point of the finest grid, (gap / finer)² in squared standard deviations: 3.1 for
finer = 2, 3.9 for finer = 3. The difference is learnt."""


class TrackFinder(nn.Module):
    """Images (N, 1, size, layers) of zeros and ones -> `TrackIntensity`.

    Args:
        size, layers: pixels of a layer and layers of the detector.
        candidates: the number of candidates, at least the largest number of tracks.
        components: points of the finest grid around each candidate, whose mixture has as many narrow normals and three
            wide ones. The points cover 0.18 components / finer² squared standard deviations; 12 are needed.
        finer: points of the finest grid for each point of the grid before it, in both directions.
        channels: channels of the convolutions.
        hidden: width of the networks for the log-odds, weights and widths.

    Raises:
        ValueError: a size, width or number below 1, more candidates than cells, more components than points; when
            called, images of another shape or with pixels other than 0 and 1.

    >>> finder = TrackFinder(16, 16, candidates=3, components=20)
    >>> finder(torch.zeros(5, 1, 16, 16)).log_rates.shape
    torch.Size([5, 3])
    """

    cells: Tensor
    grid: Tensor
    inner: Tensor

    def __init__(
        self,
        size: int = 28,
        layers: int = 28,
        *,
        candidates: int = 4,
        components: int = 300,
        finer: int = 2,
        channels: int = 32,
        hidden: int = 32,
    ) -> None:
        super().__init__()
        for name, count in (
            ("candidates", candidates),
            ("components", components),
            ("finer", finer),
            ("channels", channels),
            ("hidden", hidden),
        ):
            check_integer(name, count, 1)
        self.detector = Detector(size=size, layers=layers)
        if candidates > size**2:
            raise ValueError(f"expected at most {size**2} candidates, one for each cell, got {candidates}")
        if components > (most := (SIDE * finer) ** 2):
            raise ValueError(f"expected at most {most} components, the points of the finest grid, got {components}")
        self.size, self.layers, self.candidates, self.components = size, layers, candidates, components
        self.finer = finer
        self.hough, self.roads = HoughMap(size, layers), RoadMap(size, layers)
        self.encoder = nn.Sequential(
            nn.Linear(WINDOW**2 + 1, channels),
            nn.ReLU(),
            nn.Linear(channels, channels),
            nn.ReLU(),
            last := nn.Linear(channels, 1),
        )
        nn.init.constant_(last.bias, RARE)
        self.elsewhere = nn.Parameter(torch.tensor(-16.0))
        self.leftover = nn.Parameter(torch.tensor(-4.0))
        self.worth = _zero_network(2, hidden, 1)
        self.odds = _zero_network(5, hidden, 1)
        self.level = _zero_network(4, hidden, 2 * len(LEVELS))
        along = torch.linspace(-REACH, REACH, SIDE)
        self.gap = 2 * REACH / (SIDE - 1)
        within = ((torch.arange(finer) + 0.5) / finer - 0.5) * self.gap
        self.register_buffer("grid", torch.cartesian_prod(along, along), persistent=False)
        self.register_buffer("inner", torch.cartesian_prod(within, within), persistent=False)
        at = torch.arange(size) + 0.5
        self.register_buffer("cells", torch.cartesian_prod(at, at), persistent=False)

    def forward(self, images: Tensor) -> TrackIntensity:
        images = self.detector.check(images)[:, None].to(self.cells.dtype)
        noise = images.mean((1, 2, 3))
        logits, scored = self._score_cells(images, noise)
        rates = self.elsewhere.expand(len(images), len(self.cells)).scatter(1, scored, logits)
        which = self._peaks(logits, scored)
        log_odds, near = self._refine(images, noise, self.cells[which], rates.gather(1, which))
        # Detached: the loss of the remaining rate would lower the scores of true cells, which would then be missed.
        left = rates.gather(1, which).detach() + self.leftover
        return TrackIntensity(
            log_odds=log_odds,
            candidates=near,
            log_cell_rates=functional.logsigmoid(rates.scatter(1, which, left)),
            cells=self.cells,
            width=CELL_WIDTH,
        )

    def _score_cells(self, images: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (N, L) of the cells with the most votes, and the indices (N, L) of these cells."""
        votes = self.hough(images)
        most, scored = functional.max_pool2d(votes, 2).flatten(1).topk(min(SCORED, len(self.cells)), 1)
        # The convolution is evaluated at the scored cells only: over the whole plane it would take most of the time.
        windows = functional.pad(votes[:, 0], (WINDOW // 2 - 1,) * 4).unfold(1, WINDOW, 2).unfold(2, WINDOW, 2)
        event = torch.arange(len(images), device=images.device)[:, None]
        around = windows[event, scored // self.size, scored % self.size].flatten(2)
        level = noise[:, None, None].expand(*scored.shape, 1)
        logits = self.encoder(5 * torch.cat([around - level, level], -1))[..., 0]
        return logits + COARSE_HIT * self.layers * (most - USUAL), scored

    @torch.no_grad()
    def _peaks(self, logits: Tensor, scored: Tensor) -> Tensor:
        """Indices (N, M) of the cells with the highest logits among local maxima."""
        plane = logits.new_full((len(logits), len(self.cells)), -torch.inf).scatter(1, scored, logits)
        plane = plane.unflatten(1, (1, self.size, self.size))
        peak = plane >= functional.max_pool2d(plane, 3, 1, 1)
        return torch.where(peak, plane, -torch.inf).flatten(1).topk(self.candidates, 1).indices

    def _refine(self, images: Tensor, noise: Tensor, cells: Tensor, rates: Tensor) -> tuple[Tensor, Mixture]:
        """Log-odds (N, M) of a track near each of ``cells`` (N, M, 2) with logits (N, M), and its density if it exists.

        The odds rise with the number of hits and with the volume of tracks with that many hits, as the evidence in
        `posterity.data.track_posterior` for one track.
        """
        with torch.no_grad():
            grids = self._narrow(images, cells)
            mean, factor = grids[-1]
            hits, points = self._finest_points(images, mean, factor)
            inside = ((points >= 0) & (points <= self.size)).all(-1)
            most = hits[..., :1]
            level = 5 * noise[:, None, None].expand_as(most)
            share = 5 * (most / self.layers - USUAL)
        value = HIT * functional.softplus(self.worth(torch.cat([level, share], -1)) + math.log(math.e - 1))
        log_shape = torch.where(inside, value * (hits - most), -60.0)
        size = log_shape.logsumexp(-1, keepdim=True) + factor.diagonal(dim1=-2, dim2=-1).log().sum(-1, keepdim=True)
        size = size + VOLUME_SHIFT
        summary = torch.cat([level, share, size, value - HIT], -1)
        log_levels, log_widths = self.level(summary).unflatten(-1, (2, -1)).unbind(-2)
        log_levels = (log_levels + log_levels.new_tensor(LEVELS)).log_softmax(-1)
        widths = (WIDEST * torch.tanh(log_widths / WIDEST)).exp()[..., None, None]
        narrow = factor * (0.5 * self.gap / self.finer) * widths[..., 0, :, :]
        wide = torch.stack([tril for _, tril in grids], -3) * widths[..., 1:, :, :]
        mixture = Mixture.multivariate_normal(
            torch.cat([log_shape.log_softmax(-1) + log_levels[..., :1], log_levels[..., 1:]], -1),
            torch.cat([points, *(loc for loc, _ in grids)], -2),
            torch.cat([narrow[..., None, :, :].expand(*points.shape, 2), wide], -3),
        )
        evidence = value * most - MISS * self.layers + size - 2 * math.log(self.size) - (VOLUME_SHIFT + AREA)
        summary = torch.cat([summary, rates[..., None] / 5], -1)
        return (evidence + self.odds(summary))[..., 0], mixture

    def _narrow(self, images: Tensor, cells: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Means (N, M, 1, 2) and Cholesky factors of tracks near ``cells`` (N, M, 2), on successively finer grids."""
        shape = (COARSE_HIT * self.roads(images, cells)).softmax(-1)
        mean, factor = grid_moments(shape, self.roads.offsets, self.roads.step**2)
        grids = [(cells[..., None, :] + mean, factor)]
        for log_odds in FINER_HITS:
            mean, factor = grids[-1]
            hits = self._hits(images, mean + self.grid @ factor.mT)
            shift, own = grid_moments((log_odds * hits).softmax(-1), self.grid, self.gap**2)
            grids.append((mean + shift @ factor.mT, factor @ own))
        return grids

    def _finest_points(self, images: Tensor, mean: Tensor, factor: Tensor) -> tuple[Tensor, Tensor]:
        """The points of the finest grid with the most hits: hits (N, M, K), descending, and tracks (N, M, K, 2)."""
        hits = self._hits(images, mean + self.grid @ factor.mT)
        around = functional.max_pool2d(hits.unflatten(-1, (SIDE, SIDE)), 3, 1, 1).flatten(2)  # edges lie in between
        squares = min(math.ceil(SPARE * self.components / self.finer**2), SIDE**2)
        chosen = (around + 0.5 * hits).topk(squares, -1).indices
        points = mean + (self.grid[chosen][..., None, :] + self.inner).flatten(2, 3) @ factor.mT
        hits, best = self._hits(images, points).topk(self.components, -1)
        return hits, points.gather(2, best[..., None].expand(*best.shape, 2))

    def _hits(self, images: Tensor, tracks: Tensor) -> Tensor:
        return hits_on(images, tracks.flatten(1, 2)).unflatten(1, tracks.shape[1:3])


def _zero_network(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    """A network with one hidden layer whose initial outputs are 0."""
    last = nn.Linear(hidden, outputs)
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    return nn.Sequential(nn.Linear(inputs, hidden), nn.ReLU(), last)


def _check_finder(finder: nn.Module) -> None:
    if not isinstance(finder, nn.Module):
        raise ValueError(f"expected finder to be a torch.nn.Module, such as TrackFinder(), got {finder!r:.200}")


def _check_images(images: Tensor) -> None:
    if not isinstance(images, Tensor) or not images.ndim or not len(images):
        raise ValueError(f"expected images of shape (N, 1, size, layers), N of 1 or more, got {shown_shape(images)}")


def track_set_pair(finder: nn.Module) -> Pair:
    """``model(images, tracks=None)`` of all tracks of each event, (N, T, 2) with rows of NaN, and an empty guide.

    Raises:
        ValueError: ``finder`` is not a module.
    """
    _check_finder(finder)

    def model(images: Tensor, tracks: Tensor | None = None) -> Tensor:
        _check_images(images)
        net = pyro.module("finder", finder)
        with pyro.plate("events", len(images)):
            return pyro.sample("tracks", TrackSet(net(images)), obs=tracks)

    return Pair(model, None)


def single_track_pair(finder: nn.Module) -> Pair:
    """``model(images, track=None)`` of events with one track each, (N, 2), and an empty guide.

    Raises:
        ValueError: ``finder`` is not a module.
    """
    _check_finder(finder)

    def model(images: Tensor, track: Tensor | None = None) -> Tensor:
        _check_images(images)
        net = pyro.module("finder", finder)
        with pyro.plate("events", len(images)):
            return pyro.sample("track", net(images).single(), obs=track)

    return Pair(model, None)
