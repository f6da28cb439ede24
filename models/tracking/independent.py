"""A convolutional network with one mixture density for b1 and another for b2.

A mixture density network as for events of one track, applied to events of several: K components for each intercept, of
which surplus ones lose their weight. By construction it does not tell which b1 belongs to which b2.
"""

import torch
from torch import Tensor, nn

from posterity.data.tracks import Detector, check_tracks
from posterity.models.mixtures import Mixture, mixture_head
from posterity.validation import check_integer


class IndependentFinder(nn.Module):
    """Images (N, 1, size, layers) of zeros and ones -> `Mixture` of batch shape (N, 2): b1 and b2, in pixels.

    With several tracks in an event each mixture is the density of the intercept of a randomly chosen track.

    Args:
        size, layers: pixels of a layer and layers of the detector, both at least 8.
        components: components of each mixture.
        channels: channels of the first convolution; the second has twice as many.
        hidden: width of the dense layer.

    Raises:
        ValueError: a size or number of layers below 8, components, channels or hidden below 1; when called, images of
            another shape or with pixels other than 0 and 1.

    >>> IndependentFinder(16, 16, components=4)(torch.zeros(5, 1, 16, 16)).batch_shape
    torch.Size([5, 2])
    """

    def __init__(
        self, size: int = 28, layers: int = 28, *, components: int = 8, channels: int = 16, hidden: int = 256
    ) -> None:
        super().__init__()
        check_integer("size", size, 8)
        check_integer("layers", layers, 8)
        check_integer("channels", channels, 1)
        check_integer("hidden", hidden, 1)
        self.size, self.layers, self.detector = size, layers, Detector(size=size, layers=layers)
        self.head = mixture_head(components, floor=0.5 / size)
        left = (size // 4) * (layers // 4)
        self.encoder = nn.Sequential(
            nn.Conv2d(1, channels, 5, padding=2),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(channels, 2 * channels, 5, padding=2),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(2 * channels * left, hidden),
            nn.ReLU(),
            nn.Linear(hidden, 2 * self.head.features),
        )

    def forward(self, images: Tensor) -> Mixture:
        fired = self.detector.check(images)[:, None]
        features = self.encoder(fired.to(next(self.parameters()))).unflatten(1, (2, -1))
        unit = self.head(features)
        normals = unit.component_distribution
        half = self.size / 2
        return Mixture.normal(unit.log_weights, half * (1 + normals.loc), half * normals.scale)

    def log_prob(self, images: Tensor, tracks: Tensor) -> Tensor:
        """The log density (N,), summed over tracks (N, T, 2), without rows of NaN, and over both intercepts."""
        check_tracks(tracks, len(images), rows=False)
        mixture = self(images)
        normals = mixture.component_distribution
        each = Mixture.normal(mixture.log_weights[:, None], normals.loc[:, None], normals.scale[:, None]).log_prob(
            tracks.nan_to_num()
        )
        return torch.where(tracks.isnan(), 0.0, each).sum((1, 2))
