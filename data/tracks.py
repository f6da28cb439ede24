"""Straight tracks through a detector of pixels that also fire by themselves.

The exact density of an image given its tracks is known, so everything that looks for tracks can be held against what
is possible: see `posterity.data.track_posterior`. Lengths are in pixels. Layer i of L is crossed at

    y_i = b1 + (b2 - b1) u_i + 4 c u_i (1 - u_i),   u_i = i / (L - 1),

by a track that enters the first layer at ``b1`` and leaves the last one at ``b2``; c, its sagitta, is 0 for a straight
one. Pixel r of a layer is hit where r <= y_i < r + 1: its centre is at r + 1/2.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from posterity.random import as_generator
from posterity.validation import check_floating, check_integer, check_number, is_number


@dataclass(frozen=True, eq=False)
class Events:
    """Images and the tracks they were made of; T is the largest number of tracks in one event.

    Attributes:
        images: (N, 1, size, layers), 1 where a pixel fired and 0 where not, uint8; rows are y, columns are layers.
        tracks: (N, T, 2), both intercepts in pixels; NaN beyond the tracks of an event.
        sagittas: (N, T), in pixels, 0 for straight tracks; NaN likewise.
        hits: (N, T, layers), whether the track's own hit was seen; False beyond the tracks of an event.
    """

    images: Tensor
    tracks: Tensor
    sagittas: Tensor
    hits: Tensor

    def __post_init__(self) -> None:
        for name in ("images", "tracks", "sagittas", "hits"):
            if not isinstance(getattr(self, name), Tensor):
                raise ValueError(f"expected {name} as a tensor, got {type(getattr(self, name)).__name__}")
        if self.images.ndim != 4 or self.images.shape[1] != 1:
            raise ValueError(f"expected images of shape (N, 1, size, layers), got {tuple(self.images.shape)}")
        events, layers = len(self.images), self.images.shape[-1]
        check_tracks(self.tracks, events, rows=False)
        tracks = self.tracks.shape[1]
        for name, shape in (("sagittas", (events, tracks)), ("hits", (events, tracks, layers))):
            if tuple(getattr(self, name).shape) != shape:
                raise ValueError(f"expected {name} of shape {shape}, got {tuple(getattr(self, name).shape)}")

    def __len__(self) -> int:
        return len(self.images)

    @property
    def present(self) -> Tensor:
        """(N, T), True where there is a track."""
        return ~self.tracks[..., 0].isnan()

    @property
    def count(self) -> Tensor:
        """(N,), tracks of each event."""
        return self.present.sum(-1)


@dataclass(frozen=True)
class Detector:
    """``layers`` layers of ``size`` pixels each.

    Args:
        size: pixels of a layer.
        layers: how many layers there are, one column of the image each.
        efficiency: probability that a layer sees a track that crosses it.
        noise: probability that a pixel without such a hit fires nevertheless.

    Raises:
        ValueError: fewer than 2 pixels or layers, an efficiency outside (0, 1], or noise outside [0, 1).

    >>> events = Detector(noise=0.1).simulate(5, tracks=3, seed=0)
    >>> events.images.shape, events.tracks.shape
    (torch.Size([5, 1, 28, 28]), torch.Size([5, 3, 2]))
    """

    size: int = 28
    layers: int = 28
    efficiency: float = 0.95
    noise: float = 0.1

    def __post_init__(self) -> None:
        check_integer("size", self.size, 2)
        check_integer("layers", self.layers, 2)
        check_number("efficiency", self.efficiency, "(0, 1]")
        check_number("noise", self.noise, "[0, 1)")

    def simulate(
        self,
        n: int,
        *,
        tracks: int | None = None,
        mean_tracks: float | None = None,
        sagitta: float = 0.0,
        seed: int | torch.Generator,
    ) -> Events:
        """n events, intercepts uniform over [0, size), with ``tracks`` each or Poisson(``mean_tracks``) of them.

        ``sagitta`` bends every track by as much up or down; what leaves the detector makes no hits.

        Raises:
            ValueError: both or neither of ``tracks`` and ``mean_tracks``, one of them below 0, or an infinite sagitta.
        """
        check_integer("n", n, 1)
        if not is_number(sagitta):
            raise ValueError(f"expected a finite sagitta, got {sagitta!r}")
        random = as_generator(seed)
        count = self._counts(n, tracks, mean_tracks, random)
        most = int(count.max())
        device = random.device
        intercepts = self.size * torch.rand(n, most, 2, generator=random, device=device)
        intercepts = intercepts.clamp_max(self.size - 1e-3)  # float32 rounds up to size itself
        bend = sagitta * (2.0 * torch.randint(2, (n, most), generator=random, device=device) - 1.0)
        beyond = torch.arange(most, device=device) >= count[:, None]
        rows = self.crossed(intercepts, bend)
        inside = (rows >= 0) & (rows < self.size) & ~beyond[..., None]
        hits = inside & (torch.rand(rows.shape, generator=random, device=device) < self.efficiency)
        images = (torch.rand(n, self.size, self.layers, generator=random, device=device) < self.noise).to(torch.uint8)
        for rows_of, hit in zip(rows.unbind(1), hits.unbind(1), strict=True):
            seen = images.gather(1, rows_of.clamp(0, self.size - 1)[:, None])
            images.scatter_(1, rows_of.clamp(0, self.size - 1)[:, None], seen | hit[:, None].to(torch.uint8))
        missing = torch.where(beyond, torch.nan, 0.0)
        return Events(images[:, None], intercepts + missing[..., None], bend + missing, hits)

    def positions(self, tracks: Tensor, sagittas: Tensor | None = None) -> Tensor:
        """Where tracks (..., 2) cross the layers: (..., layers), in pixels; ``sagittas`` (...).

        Raises ``ValueError`` for other shapes, or what is not floating.
        """
        check_floating("tracks", tracks)
        if not tracks.ndim or tracks.shape[-1] != 2:
            raise ValueError(f"expected tracks of shape (..., 2), got {tuple(tracks.shape)}")
        if sagittas is not None:
            check_floating("sagittas", sagittas)
            if sagittas.shape != tracks.shape[:-1]:
                raise ValueError(f"expected sagittas of shape {tuple(tracks.shape[:-1])}, got {tuple(sagittas.shape)}")
        u = torch.linspace(0, 1, self.layers, dtype=tracks.dtype, device=tracks.device)
        y = torch.lerp(tracks[..., :1], tracks[..., 1:], u)
        return y if sagittas is None else y + 4 * sagittas[..., None] * u * (1 - u)

    def crossed(self, tracks: Tensor, sagittas: Tensor | None = None) -> Tensor:
        """The pixels that tracks (..., 2) cross: (..., layers), whole numbers; outside [0, size) there is none."""
        return self.positions(tracks, sagittas).floor().long()

    def log_prob(self, images: Tensor, tracks: Tensor) -> Tensor:
        """log p(image | tracks), (N,): of images (N, 1, size, layers), and all straight tracks (N, T, 2) of each event.

        A pixel crossed by k tracks fires with probability 1 - (1 - efficiency)^k (1 - noise), independently of all
        others. Rows of NaN are no tracks. Raises ``ValueError`` for other shapes, no event, tracks that are not
        floating, rows that are neither finite nor NaN, or pixels other than 0 and 1.
        """
        fired = self.check(images)
        check_tracks(tracks, len(fired))
        if not tracks.is_floating_point():
            raise ValueError(f"expected floating tracks, got {tracks.dtype}")
        rows = self.crossed(tracks.nan_to_num(-1e4))
        inside = (rows >= 0) & (rows < self.size)
        crossings = torch.zeros(fired.shape, dtype=torch.float64, device=fired.device)
        for rows_of, there in zip(rows.unbind(1), inside.unbind(1), strict=True):
            crossings.scatter_add_(1, rows_of.clamp(0, self.size - 1)[:, None], there[:, None].to(crossings))
        silent = (1 - self.efficiency) ** crossings * (1 - self.noise)
        return torch.where(fired, (1 - silent).log(), silent.log()).sum((1, 2))

    def check(self, images: Tensor) -> Tensor:
        """Images (N, 1, size, layers) of this detector, N of 1 or more, as booleans (N, size, layers).

        Only its shape matters. Raises ``ValueError`` for others, or pixels other than 0 and 1.
        """
        if not isinstance(images, Tensor):
            raise ValueError(f"expected images as a tensor, such as events.images, got {type(images).__name__}")
        if images.ndim != 4 or tuple(images.shape[1:]) != (1, self.size, self.layers) or not len(images):
            wanted = f"(N, 1, {self.size}, {self.layers}), N of 1 or more"
            raise ValueError(f"expected images of shape {wanted}, got {tuple(images.shape)}")
        fired = images[:, 0] == 1
        if not bool((fired | (images[:, 0] == 0)).all()):
            raise ValueError("expected pixels that are 0 or 1, got others")
        return fired

    def _counts(self, n: int, tracks: int | None, mean: float | None, random: torch.Generator) -> Tensor:
        if (tracks is None) == (mean is None):
            raise ValueError(f"expected either tracks or mean_tracks, got tracks={tracks} and mean_tracks={mean}")
        if mean is not None:
            check_number("mean_tracks", mean, "[0, inf)")
            return torch.poisson(torch.full((n,), float(mean), device=random.device), generator=random).long()
        each = -1 if tracks is None else tracks
        check_integer("tracks", each, 0)
        return torch.full((n,), int(each), device=random.device)


def check_tracks(tracks: Tensor, events: int, *, rows: bool = True, draws: bool = False) -> None:
    """``ValueError`` unless tracks are a table (events, T, 2), of rows that are `proper_rows`.

    Without ``rows`` the numbers in it are not looked at; with ``draws`` there may be any number of them,
    (..., events, T, 2).
    """
    if not isinstance(tracks, Tensor):
        raise ValueError(f"expected tracks as a tensor, such as events.tracks, got {type(tracks).__name__}")
    if tracks.ndim < 3 or (tracks.ndim > 3 and not draws) or tracks.shape[-3] != events or tracks.shape[-1] != 2:
        wanted = f"({'..., ' if draws else ''}{events}, T, 2)"
        raise ValueError(f"expected tracks of shape {wanted}, got {tuple(tracks.shape)}")
    if rows and not bool(proper_rows(tracks).all()):
        raise ValueError("expected rows of two finite numbers, or of two NaN where there is no track, got others")


def proper_rows(tracks: Tensor) -> Tensor:
    """(...,), whether a row of tracks (..., 2) is two finite numbers, or two NaN where there is no track."""
    return tracks.isfinite().all(-1) | tracks.isnan().all(-1)


def track_distances(one: Tensor, other: Tensor) -> Tensor:
    """Root mean squares along tracks (..., F, 2) and (..., T, 2) of how far they are apart: (..., F, T), in pixels.

    Of a distance that goes from d1 to d2 along a line it is sqrt((d1² + d1 d2 + d2²) / 3). Straight tracks.
    """
    first, last = (one[..., :, None, :] - other[..., None, :, :]).unbind(-1)
    return ((first**2 + first * last + last**2) / 3).sqrt()


def intercept_covariance(layers: int, resolution: float) -> Tensor:
    """Least covariance (2, 2) of both intercepts, hits of ``layers`` layers normal around the track (Cramér-Rao).

    Of either the variance is resolution² (4 L - 2) / (L (L + 1)), with a correlation of -(L - 2) / (2 L - 1).
    Raises ``ValueError`` for fewer than 2 layers or a resolution that is not positive.

    >>> intercept_covariance(2, 0.5)
    tensor([[0.2500, 0.0000],
            [0.0000, 0.2500]], dtype=torch.float64)
    """
    check_integer("layers", layers, 2)
    check_number("resolution", resolution, "(0, inf)")
    variance = resolution**2 * (4 * layers - 2) / (layers * (layers + 1))
    correlation = -(layers - 2) / (2 * layers - 1)
    return variance * torch.tensor([[1.0, correlation], [correlation, 1.0]], dtype=torch.float64)


def normal_hits(tracks: Tensor, layers: int, resolution: float, *, seed: int | torch.Generator) -> Tensor:
    """Where each of ``layers`` layers sees the tracks (..., 2): (..., layers), normal around them.

    Raises ``ValueError`` for fewer than 2 layers, a negative resolution, or tracks that are no pairs.
    """
    check_integer("layers", layers, 2)
    if not isinstance(tracks, Tensor):
        raise ValueError(f"expected floating tracks of shape (..., 2), got {type(tracks).__name__}")
    if not tracks.ndim or tracks.shape[-1] != 2 or not tracks.is_floating_point():
        raise ValueError(f"expected floating tracks of shape (..., 2), got {tracks.dtype} of {tuple(tracks.shape)}")
    check_number("resolution", resolution, "[0, inf)")
    y = Detector(layers=layers).positions(tracks)
    random = as_generator(seed)
    return y + resolution * torch.randn(y.shape, generator=random, dtype=y.dtype, device=random.device).to(y)
