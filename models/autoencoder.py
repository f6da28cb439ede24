r"""A convolutional variational autoencoder: pictures as points of a few dimensions.

Kingma & Welling 2014, arXiv:1312.6114: $z \sim N(0, 1)$, and a picture is normal around the decoded z with one standard
deviation $\sigma$ for all pixels, a parameter (Rybkin et al. 2021, arXiv:2006.13202), so that training learns the
balance between reconstruction and prior. `Autoencoder.loss` is the negative evidence lower bound,

$$-E_{q(z|x)} \log p(x|z) + \beta \sum_d \max(\lambda, KL_d),$$

with the free bits $\lambda$ of each dimension (Kingma et al. 2016, arXiv:1606.04934, C.8) and a weight $\beta$ that a
warm-up raises from 0 to 1 (Sønderby et al. 2016, arXiv:1602.02282).
"""

import math
from itertools import pairwise
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn

from posterity.models.chunks import untransformed
from posterity.models.generators import halvings
from posterity.validation import check_floating, check_integer, check_number, shown_shape

SLOPE = 0.01
STARTING_SCALE = 0.1  # of a pixel: with more, a small object counts for little, and is learned late
SMALLEST_SCALE = 1e-3  # of a pixel: a perfect decoder would send the log likelihood to infinity


class _Pixel(nn.Module):
    """A sigmoid with a slope: where a sigmoid alone is saturated, black parts of pictures would never be learned."""

    def forward(self, raw: Tensor) -> Tensor:
        return raw.sigmoid() + SLOPE * raw


class Autoencoder(nn.Module):
    """Pictures (N, C, H, W) in [0, 1] <-> latents (N, D).

    The encoder halves the picture while both sides are even and above 4, with twice as many channels each time; the
    decoder mirrors it.

    Args:
        shape: (C, H, W) of a picture.
        latent: D.
        width: channels after the first convolution.
        floor: lower bound of the standard deviation of a pixel. If pictures have no noise, it falls towards
            this bound in training; with a low one, latents hold fine details and are hard to predict.
        seed: seed of the initial weights.

    Raises:
        ValueError: sizes below 1, or pictures that cannot be halved.

    >>> model = Autoencoder((1, 16, 16), latent=3)
    >>> mean, scale = model.encode(torch.zeros(5, 1, 16, 16))
    >>> mean.shape, model.decode(mean).shape
    (torch.Size([5, 3]), torch.Size([5, 1, 16, 16]))
    """

    def __init__(
        self, shape: tuple[int, int, int], latent: int, *, width: int = 16, floor: float = SMALLEST_SCALE, seed: int = 0
    ) -> None:
        super().__init__()
        check_integer("latent", latent, 1)
        check_integer("width", width, 1)
        self.shape, self.latent, self.floor = tuple(shape), latent, check_number("floor", floor, "(0, inf)")
        channels, height, across = self.shape
        count = halvings(height, across)
        widths = [channels, *(width * 2**i for i in range(count))]
        small = (widths[-1], height // 2**count, across // 2**count)
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            down = [m for a, b in pairwise(widths) for m in (nn.Conv2d(a, b, 4, 2, 1), nn.ELU())]
            self.encoder = nn.Sequential(*down, nn.Flatten(), nn.Linear(math.prod(small), 2 * latent))
            up: list[nn.Module] = [nn.Linear(latent, math.prod(small)), nn.Unflatten(1, small)]
            for a, b in pairwise(widths[::-1]):
                up += [nn.ELU(), nn.ConvTranspose2d(a, b, 4, 2, 1)]
            self.decoder = nn.Sequential(*up, _Pixel())
        self.log_scale = nn.Parameter(torch.tensor(STARTING_SCALE).log())

    def encode(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of q(z|x), (N, D) each.

        Raises:
            ValueError: pictures of another shape, or with values outside [0, 1].
        """
        check_floating("pictures", pictures)
        if tuple(pictures.shape[1:]) != self.shape or pictures.ndim != 4:
            wanted = ", ".join(map(str, self.shape))
            raise ValueError(f"expected pictures of shape (N, {wanted}), got {shown_shape(pictures)}")
        if untransformed(pictures) and len(pictures) and not bool(((pictures >= 0) & (pictures <= 1)).all()):
            if not bool(pictures.isfinite().all()):
                raise ValueError("expected pictures with finite values, got NaN or infinity")
            low, high = float(pictures.min()), float(pictures.max())
            raise ValueError(f"expected pictures with values in [0, 1], got {low:g} to {high:g}")
        mean, raw = self.encoder(pictures).chunk(2, -1)
        return mean, nn.functional.softplus(raw) + 1e-4

    def decode(self, latents: Tensor) -> Tensor:
        """Mean pictures (..., C, H, W) of latents (..., D), a little outside [0, 1] at times: clamp before `encode`."""
        if latents.shape[-1:] != (self.latent,):
            raise ValueError(f"expected latents of shape (..., {self.latent}), got {shown_shape(latents)}")
        return self.decoder(latents.reshape(-1, self.latent)).reshape(*latents.shape[:-1], *self.shape)

    @property
    def scale(self) -> Tensor:
        """The standard deviation of a pixel, shape ()."""
        return self.log_scale.exp() + self.floor

    def loss(
        self, pictures: Tensor, *, beta: float = 1.0, free_bits: float = 0.0, generator: torch.Generator | None = None
    ) -> Tensor:
        """The negative evidence lower bound in nats per picture, with one draw of z for each.

        Raises:
            ValueError: a negative weight or negative free bits (nats per dimension), or pictures as in `encode`.
        """
        check_number("beta", beta, "[0, inf)")
        check_number("free_bits", free_bits, "[0, inf)")
        mean, scale = self.encode(pictures)
        if not len(pictures):
            raise ValueError("expected one picture or more, got none")
        noise = torch.randn(mean.shape, generator=generator, dtype=mean.dtype, device=mean.device)
        likelihood = dist.Normal(self.decode(mean + scale * noise), self.scale).log_prob(pictures)
        prior = dist.Normal(torch.zeros_like(mean), torch.ones_like(mean))
        divergence = torch.distributions.kl_divergence(dist.Normal(mean, scale), prior)
        # Free bits of the mean over the batch, as in the paper: single pictures may need more or less.
        kept = divergence.mean(0).clamp_min(free_bits).sum()
        return beta * kept - likelihood.flatten(1).sum(-1).mean()

    def model(self, pictures: Tensor) -> Any:
        """The Pyro model: sites "z" and "x"."""
        pyro.module("autoencoder", self)
        with pyro.plate("obs", len(pictures)):
            zero = pictures.new_zeros(len(pictures), self.latent)
            z = pyro.sample("z", dist.Normal(zero, torch.ones_like(zero)).to_event(1))
            return pyro.sample("x", dist.Normal(self.decode(z), self.scale).to_event(3), obs=pictures)

    def guide(self, pictures: Tensor) -> Any:
        """The Pyro guide: site "z"."""
        pyro.module("autoencoder", self)
        with pyro.plate("obs", len(pictures)):
            return pyro.sample("z", dist.Normal(*self.encode(pictures)).to_event(1))
