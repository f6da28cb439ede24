"""A network that finds tracks: where to look in all of the plane, then what exactly is there.

The Hough map of an image says which cells of the (b1, b2) plane have many hits; of those, a network that sees the map
around each (a convolution that is computed where it matters) gives the expected number of tracks. The best cells are
looked at closely, on ever finer grids of tracks where most hits are: how many hits there are, and what a hit is worth,
is the shape of the density. The finest grid is handed over as it is, one narrow normal for each of its points: what is
uniform on polygons cannot be said with a few wide ones. Each coarser grid adds one wide normal, for tracks that the
finer ones miss. What a hit is worth, the odds of a track, and the widths and weights of the grids are learnt.
The time depends on the number of these candidates, which is fixed: not on that of tracks or of noise hits.
"""

import math

import pyro
import torch
from torch import Tensor, nn
from torch.nn import functional

from posterity.data.tracks import Detector
from posterity.models.mixtures import Mixture
from posterity.models.pairs import Pair
from posterity.models.tracking.intensity import TrackIntensity, TrackSet
from posterity.models.tracking.normals import moment
from posterity.models.tracking.roads import HoughMap, RoadMap, hits_on
from posterity.validation import check_integer

BLUR = 2.5  # nats: a hit of the first grid counts for less, since the grid is coarse
NARROWER = (3.0, 4.5)  # nats, likewise of the grids that follow
WORTH = 4.5  # nats, to begin with: what a hit more is
MISSED = 3.0  # nats: what a layer without a hit speaks against a track, of an efficiency of 0.95
USUAL = 0.8  # share of hits on a track, about: more of them speak for one
SELDOM = -5.0  # log odds to begin with: of all cells with so many hits, few have a track
LOOKED = 128  # cells with most votes: others have the same small rate
WINDOW = 8  # votes on each side that a cell is judged by, half pixels
REACH, SIDE = 3.2, 16  # of the grids that follow the first: standard deviations, and points
SPARE = 1.5  # points of the finest grid that are looked at for one that is kept
LEVELS = (0.0, -7.0, -6.0, -4.0)  # log weights to begin with: the finest grid, then from the first one on
CELL_WIDTH = 0.5  # pixels
WIDEST = 2.0  # nats: widths are between e⁻² and e² times those of the grids, or nothing would hold those of no weight
RAISED = 2.0  # nats that are added to the log volume of where a track may be, as the networks see it
# Nats, about: the area (gap / finer)² in squared standard deviations that one point of the finest grid stands for is
# exp(-3.1) where finer is 2 and exp(-3.9) where it is 3; what is left is learnt.
AREA = 3.0


class TrackFinder(nn.Module):
    """Images (N, 1, size, layers) of zeros and ones -> `TrackIntensity`.

    Args:
        size, layers: of the detector.
        candidates: how many cells are looked at closely, at least as many as there may be tracks.
        components: points of the finest grid around each: its mixture has as many normals, and three wide ones. They
            cover 0.18 components / finer² squared standard deviations, of which 12 are needed.
        finer: points of the finest grid for each one of the grid before, along both directions.
        channels: of the convolutions. hidden: width of the small networks that say how many and how wide.

    Raises ``ValueError`` for a size, width or number below 1, more candidates than cells, more components than points,
    or images of another shape or with pixels other than 0 and 1.

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
        nn.init.constant_(last.bias, SELDOM)
        self.elsewhere = nn.Parameter(torch.tensor(-16.0))
        self.leftover = nn.Parameter(torch.tensor(-4.0))
        self.worth = _small(2, hidden, 1)
        self.odds = _small(5, hidden, 1)
        self.level = _small(4, hidden, 2 * len(LEVELS))
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
        found, looked = self._coarsely(images, noise)
        rates = self.elsewhere.expand(len(images), len(self.cells)).scatter(1, looked, found)
        which = self._peaks(found, looked)
        log_odds, near = self._closely(images, noise, self.cells[which], rates.gather(1, which))
        # Nothing pushes the rates of chosen cells down for what is left in them, or true ones would not be chosen.
        left = rates.gather(1, which).detach() + self.leftover
        return TrackIntensity(
            log_odds=log_odds,
            candidates=near,
            log_rest=functional.logsigmoid(rates.scatter(1, which, left)),
            cells=self.cells,
            width=CELL_WIDTH,
        )

    def _coarsely(self, images: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (N, L) of the cells with most votes, and which (N, L) these are."""
        votes = self.hough(images)
        most, looked = functional.max_pool2d(votes, 2).flatten(1).topk(min(LOOKED, len(self.cells)), 1)
        # A convolution at a few places only: at all of them, of so few channels, it would be most of the time.
        windows = functional.pad(votes[:, 0], (WINDOW // 2 - 1,) * 4).unfold(1, WINDOW, 2).unfold(2, WINDOW, 2)
        event = torch.arange(len(images), device=images.device)[:, None]
        seen = windows[event, looked // self.size, looked % self.size].flatten(2)
        level = noise[:, None, None].expand(*looked.shape, 1)
        found = self.encoder(5 * torch.cat([seen - level, level], -1))[..., 0]
        return found + BLUR * self.layers * (most - USUAL), looked

    @torch.no_grad()
    def _peaks(self, found: Tensor, looked: Tensor) -> Tensor:
        """(N, M), the best cells that are best among their neighbours."""
        plane = found.new_full((len(found), len(self.cells)), -torch.inf).scatter(1, looked, found)
        plane = plane.unflatten(1, (1, self.size, self.size))
        peak = plane >= functional.max_pool2d(plane, 3, 1, 1)
        return torch.where(peak, plane, -torch.inf).flatten(1).topk(self.candidates, 1).indices

    def _closely(self, images: Tensor, noise: Tensor, cells: Tensor, rates: Tensor) -> tuple[Tensor, Mixture]:
        """What is seen around ``cells`` (N, M, 2) with logits (N, M): log odds, and where the track is if it is there.

        The odds of a track rise with its hits and with the volume of all that have as many; see
        `posterity.data.track_posterior`, whose evidence is this for one track.
        """
        with torch.no_grad():
            narrowed = self._narrowed(images, cells)
            mean, factor = narrowed[-1]
            hits, points = self._finest(images, mean, factor)
            inside = ((points >= 0) & (points <= self.size)).all(-1)
            most = hits[..., :1]
            level = 5 * noise[:, None, None].expand_as(most)
            share = 5 * (most / self.layers - USUAL)
        value = WORTH * functional.softplus(self.worth(torch.cat([level, share], -1)) + math.log(math.e - 1))
        log_shape = torch.where(inside, value * (hits - most), -60.0)
        size = log_shape.logsumexp(-1, keepdim=True) + factor.diagonal(dim1=-2, dim2=-1).log().sum(-1, keepdim=True)
        size = size + RAISED
        seen = torch.cat([level, share, size, value - WORTH], -1)
        log_levels, log_widths = self.level(seen).unflatten(-1, (2, -1)).unbind(-2)
        log_levels = (log_levels + log_levels.new_tensor(LEVELS)).log_softmax(-1)
        widths = (WIDEST * torch.tanh(log_widths / WIDEST)).exp()[..., None, None]
        narrow = factor * (0.5 * self.gap / self.finer) * widths[..., 0, :, :]
        wide = torch.stack([tril for _, tril in narrowed], -3) * widths[..., 1:, :, :]
        mixture = Mixture.multivariate_normal(
            torch.cat([log_shape.log_softmax(-1) + log_levels[..., :1], log_levels[..., 1:]], -1),
            torch.cat([points, *(loc for loc, _ in narrowed)], -2),
            torch.cat([narrow[..., None, :, :].expand(*points.shape, 2), wide], -3),
        )
        evidence = value * most - MISSED * self.layers + size - 2 * math.log(self.size) - (RAISED + AREA)
        seen = torch.cat([seen, rates[..., None] / 5], -1)
        return (evidence + self.odds(seen))[..., 0], mixture

    def _narrowed(self, images: Tensor, cells: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Where tracks near ``cells`` (N, M, 2) with most hits are, ever closer: means (N, M, 1, 2) and factors."""
        shape = (BLUR * self.roads(images, cells)).softmax(-1)
        mean, factor = moment(shape, self.roads.offsets, self.roads.step**2)
        narrowed = [(cells[..., None, :] + mean, factor)]
        for worth in NARROWER:  # where it is narrower than the grid before can tell
            mean, factor = narrowed[-1]
            hits = self._hits(images, mean + self.grid @ factor.mT)
            shift, own = moment((worth * hits).softmax(-1), self.grid, self.gap**2)
            narrowed.append((mean + shift @ factor.mT, factor @ own))
        return narrowed

    def _finest(self, images: Tensor, mean: Tensor, factor: Tensor) -> tuple[Tensor, Tensor]:
        """The points with most hits: hits (N, M, K), falling, and tracks (N, M, K, 2)."""
        hits = self._hits(images, mean + self.grid @ factor.mT)
        around = functional.max_pool2d(hits.unflatten(-1, (SIDE, SIDE)), 3, 1, 1).flatten(2)  # edges lie in between
        squares = min(math.ceil(SPARE * self.components / self.finer**2), SIDE**2)
        chosen = (around + 0.5 * hits).topk(squares, -1).indices
        points = mean + (self.grid[chosen][..., None, :] + self.inner).flatten(2, 3) @ factor.mT
        hits, best = self._hits(images, points).topk(self.components, -1)
        return hits, points.gather(2, best[..., None].expand(*best.shape, 2))

    def _hits(self, images: Tensor, tracks: Tensor) -> Tensor:
        return hits_on(images, tracks.flatten(1, 2)).unflatten(1, tracks.shape[1:3])


def _small(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    """A network that says nothing to begin with."""
    last = nn.Linear(hidden, outputs)
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    return nn.Sequential(nn.Linear(inputs, hidden), nn.ReLU(), last)


def _check_finder(finder: nn.Module) -> None:
    if not isinstance(finder, nn.Module):
        raise ValueError(f"expected finder as a torch.nn.Module, such as TrackFinder(), got {finder!r}")


def _check_images(images: Tensor) -> None:
    if not isinstance(images, Tensor) or not images.ndim or not len(images):
        got = tuple(images.shape) if isinstance(images, Tensor) else type(images).__name__
        raise ValueError(f"expected images (N, 1, size, layers), N of 1 or more, got {got}")


def track_set_pair(finder: nn.Module) -> Pair:
    """``model(images, tracks=None)``: all tracks of each event, (N, T, 2), NaN where there is none; an empty guide."""
    _check_finder(finder)

    def model(images: Tensor, tracks: Tensor | None = None) -> Tensor:
        _check_images(images)
        net = pyro.module("finder", finder)
        with pyro.plate("events", len(images)):
            return pyro.sample("tracks", TrackSet(net(images)), obs=tracks)

    return Pair(model, None)


def single_track_pair(finder: nn.Module) -> Pair:
    """``model(images, track=None)``: of events with one track each, (N, 2); an empty guide."""
    _check_finder(finder)

    def model(images: Tensor, track: Tensor | None = None) -> Tensor:
        _check_images(images)
        net = pyro.module("finder", finder)
        with pyro.plate("events", len(images)):
            return pyro.sample("track", net(images).single(), obs=track)

    return Pair(model, None)
