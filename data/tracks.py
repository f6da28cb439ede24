r"""Straight tracks through a detector with layers of noisy pixels.

The exact density of an image given its tracks is known, so that track finders can be compared with the best possible
result: see `posterity.data.track_posterior`. Lengths are in pixels. A track that crosses the first layer at $b_1$ and
the last one at $b_2$ crosses layer i of L at

$$y_i = b_1 + (b_2 - b_1) u_i + 4 c u_i (1 - u_i), \quad u_i = i / (L - 1),$$

where the sagitta c is 0 for a straight track. It hits pixel r of the layer if $r \le y_i < r + 1$; the centre of the
pixel is at r + 1/2.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from posterity.random import as_generator
from posterity.validation import check_floating, check_integer, check_number, check_tensor


@dataclass(frozen=True, eq=False)
class Events:
    """Images of N events and their true tracks; T is the largest number of tracks in an event.

    Attributes:
        images: (N, 1, size, layers), uint8, 1 for pixels that fired and 0 for others; rows are y, columns are layers.
        tracks: (N, T, 2), both intercepts in pixels; NaN beyond the tracks of an event.
        sagittas: (N, T), in pixels, 0 for straight tracks; NaN beyond the tracks of an event.
        hits: (N, T, layers), whether the layer registered the track; False beyond the tracks of an event.

    Raises:
        ValueError: attributes that are not tensors or whose shapes do not fit.
    """

    images: Tensor
    tracks: Tensor
    sagittas: Tensor
    hits: Tensor

    def __post_init__(self) -> None:
        for name in ("images", "tracks", "sagittas", "hits"):
            check_tensor(name, getattr(self, name))
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
        """Whether each row of ``tracks`` is a track, (N, T)."""
        return ~self.tracks[..., 0].isnan()

    @property
    def count(self) -> Tensor:
        """The number of tracks of each event, (N,)."""
        return self.present.sum(-1)


@dataclass(frozen=True)
class Detector:
    """A detector with ``layers`` layers of ``size`` pixels each.

    Args:
        size: pixels of a layer.
        layers: number of layers, one column of the image each.
        efficiency: probability that a layer registers a track that crosses it.
        noise: probability that a pixel without a registered track fires.

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
        """n simulated events with intercepts uniform over [0, size).

        Args:
            n: the number of events.
            tracks: the number of tracks of each event, or
            mean_tracks: the mean of a Poisson number of tracks.
            sagitta: curvature of each track, in pixels, with a random sign; a track outside the detector has no hits.
            seed: an int, or a generator, whose state advances.

        Raises:
            ValueError: both or neither of ``tracks`` and ``mean_tracks``, one of them below 0, or an infinite sagitta.
        """
        check_integer("n", n, 1)
        check_number("sagitta", sagitta)
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
        """Positions (..., layers), in pixels, at which tracks (..., 2) with ``sagittas`` (...) cross the layers.

        Raises:
            ValueError: other shapes, or tensors that are not floating.
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
        """Indices (..., layers) of the pixels that tracks (..., 2) cross, outside [0, size) without a pixel.

        Raises:
            ValueError: as `positions`.
        """
        return self.positions(tracks, sagittas).floor().long()

    def log_prob(self, images: Tensor, tracks: Tensor) -> Tensor:
        """log p(image | tracks), (N,), of images (N, 1, size, layers) with all straight tracks (N, T, 2) of each event.

        A pixel that k tracks cross fires with probability 1 - (1 - efficiency)^k (1 - noise), independently of all
        others. Rows of NaN are ignored.

        Raises:
            ValueError: other shapes, no events, tracks that are not floating, rows that are neither finite nor NaN, or
                pixels other than 0 and 1.
        """
        fired = self.check(images)
        check_tracks(tracks, len(fired))
        check_floating("tracks", tracks)
        rows = self.crossed(tracks.nan_to_num(-1e4))
        inside = (rows >= 0) & (rows < self.size)
        crossings = torch.zeros(fired.shape, dtype=torch.float64, device=fired.device)
        for rows_of, there in zip(rows.unbind(1), inside.unbind(1), strict=True):
            crossings.scatter_add_(1, rows_of.clamp(0, self.size - 1)[:, None], there[:, None].to(crossings))
        silent = (1 - self.efficiency) ** crossings * (1 - self.noise)
        return torch.where(fired, (1 - silent).log(), silent.log()).sum((1, 2))

    def check(self, images: Tensor) -> Tensor:
        """Images (N, 1, size, layers), N of 1 or more, of a detector of this shape, as booleans (N, size, layers).

        Raises:
            ValueError: images of another shape, or with pixels other than 0 and 1.
        """
        check_tensor("images", images)
        if images.ndim != 4 or tuple(images.shape[1:]) != (1, self.size, self.layers) or not len(images):
            wanted = f"(N, 1, {self.size}, {self.layers}), N of 1 or more"
            raise ValueError(f"expected images of shape {wanted}, got {tuple(images.shape)}")
        fired = images[:, 0] == 1
        if not bool((fired | (images[:, 0] == 0)).all()):
            raise ValueError("expected pixels to be 0 or 1, got other values")
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
    """``ValueError`` unless ``tracks`` is a table (events, T, 2) whose rows are all `proper_rows`.

    With ``rows`` false the values are not checked; with ``draws`` the shape may be (..., events, T, 2).
    """
    check_tensor("tracks", tracks)
    if tracks.ndim < 3 or (tracks.ndim > 3 and not draws) or tracks.shape[-3] != events or tracks.shape[-1] != 2:
        wanted = f"({'..., ' if draws else ''}{events}, T, 2)"
        raise ValueError(f"expected tracks of shape {wanted}, got {tuple(tracks.shape)}")
    if rows and not bool(proper_rows(tracks).all()):
        raise ValueError("expected rows of tracks with two finite numbers, or two NaN for no track, got other values")


def proper_rows(tracks: Tensor) -> Tensor:
    """Whether each row of tracks (..., 2) has two finite numbers, or two NaN for no track: (...)."""
    return tracks.isfinite().all(-1) | tracks.isnan().all(-1)


def track_distances(one: Tensor, other: Tensor) -> Tensor:
    """Root mean square distances (..., F, T), in pixels, between straight tracks (..., F, 2) and (..., T, 2).

    The root mean square of a distance that changes linearly from d1 to d2 is sqrt((d1² + d1 d2 + d2²) / 3).
    """
    first, last = (one[..., :, None, :] - other[..., None, :, :]).unbind(-1)
    return ((first**2 + first * last + last**2) / 3).sqrt()


def intercept_covariance(layers: int, resolution: float) -> Tensor:
    """The Cramér-Rao bound (2, 2) of the covariance of both intercepts, for normal hits in L = ``layers`` layers.

    The variance of each intercept is resolution² (4 L - 2) / (L (L + 1)), their correlation -(L - 2) / (2 L - 1).

    Raises:
        ValueError: fewer than 2 layers, or a resolution that is not above 0.

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
    """Measured positions (..., layers) of tracks (..., 2), with normal errors of standard deviation ``resolution``.

    Raises:
        ValueError: fewer than 2 layers, a negative resolution, or tracks of another shape or dtype.
    """
    check_integer("layers", layers, 2)
    check_number("resolution", resolution, "[0, inf)")
    y = Detector(layers=layers).positions(tracks)
    random = as_generator(seed)
    return y + resolution * torch.randn(y.shape, generator=random, dtype=y.dtype, device=random.device).to(y)
