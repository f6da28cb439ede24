"""`BayesianGame`: draws of generators, and what they make."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.func import functional_call

from posterity.inference.adversarial.bayesian.likelihood import SITE
from posterity.inference.adversarial.bayesian.settings import BayesianAdversarial
from posterity.inference.posterior import Posterior
from posterity.inference.training.modes import evaluation_mode
from posterity.models.stacked import Stacked
from posterity.validation import check_integer, check_number, check_seed

ROWS = 200_000  # samples or pairs in memory at a time


@dataclass(frozen=True, eq=False)
class BayesianGame:
    """What `play_bayesian` returns: draws of generators, and what they make.

    ``posterior`` holds draws (J_g, draws, ...) of each weight of the generator. A GAN has no density of the data, so
    that its observed site is not the data: it is the discriminators' verdict, the only likelihood that a generator of
    this method has (see `judged`), with z as its input. So ``posterior.log_likelihood(z, ones)`` is log D_k(G(z)), and
    ``posterior.to_arviz(z, ones)`` has the weights and the samples x. The ``discriminators`` are those of the last
    step, and all draws are read by them, though earlier ones were drawn beside earlier ones.

    ``history`` has ``generator_log_likelihood`` (readings, J_g) and the like of discriminators, per sample.
    """

    posterior: Posterior
    generator: nn.Module
    discriminators: Stacked
    latent: int
    settings: BayesianAdversarial
    history: Mapping[str, Tensor] = field(default_factory=dict)
    interrupted: bool = False

    @torch.no_grad()
    def samples(self, n: int, *, seed: int, each: bool = False) -> Tensor:
        """n samples (n, ...), as evenly as can be from all S = J_g * draws generators, in random order.

        With ``each``, n of each: (S, n, ...), all from the same z, so that they differ by their weights alone. Raises
        ``ValueError`` for n below 1.
        """
        check_integer("n", n, 1)
        check_seed(seed)
        random = torch.Generator().manual_seed(seed)
        weights = self._weights()
        total = len(next(iter(weights.values())))
        if each:
            z = torch.randn(n, self.latent, generator=random)
            return self._made(weights, z.expand(total, -1, -1))
        order = torch.randperm(total, generator=random)[:n]
        z = torch.randn(len(order), -(-n // len(order)), self.latent, generator=random)
        chosen = {name: value[order.to(value.device)] for name, value in weights.items()}
        # The first of every generator, then the second: the n that are wanted have all of them as evenly as can be.
        flat = self._made(chosen, z).transpose(0, 1).flatten(0, 1)[:n]
        return flat[torch.randperm(n, generator=random).to(flat.device)]

    def density_spread(
        self, points: Tensor, bandwidth: float, *, samples: int = 1000, seed: int = 0
    ) -> tuple[Tensor, Tensor]:
        """The density of samples at points (P, D): its mean (P,) over all draws, and its sd (P,), what is not known.

        Of each draw, the kernel density estimate of ``samples`` from the same z, with normal kernels of sd
        ``bandwidth``. Raises ``ValueError`` for points of another shape, or a bandwidth or number that cannot be.
        """
        check_number("bandwidth", bandwidth, "(0, inf)")
        check_integer("samples", samples, 1)
        made = self.samples(samples, seed=seed, each=True).flatten(2)
        if not isinstance(points, Tensor) or points.ndim != 2 or points.shape[1] != made.shape[2] or not len(points):
            got = tuple(points.shape) if isinstance(points, Tensor) else type(points).__name__
            raise ValueError(f"expected points of shape (P, {made.shape[2]}), got {got}")
        if points.is_complex() or not bool(torch.isfinite(points).all()):
            raise ValueError(f"expected finite real points, got others of {points.dtype}")
        at, constant = points.to(made), points.shape[1] * math.log(bandwidth * math.sqrt(2 * math.pi))
        densities = torch.stack(
            [
                torch.cat(
                    [
                        torch.exp(-0.5 * (torch.cdist(part, one) / bandwidth) ** 2 - constant).mean(1)
                        for part in at.split(max(1, ROWS // samples))
                    ]
                )
                for one in made
            ]
        )
        return densities.mean(0), densities.std(0, correction=0)

    def _weights(self) -> dict[str, Tensor]:
        """(S, ...) by the generator's own names."""
        return {name.removeprefix(f"{SITE}."): value.flatten(0, 1) for name, value in self.posterior.draws.items()}

    def _made(self, weights: dict[str, Tensor], z: Tensor) -> Tensor:
        """(S, n, ...) of weights (S, ...) and z (S, n, latent)."""
        like = next(iter(weights.values()))
        one = torch.func.vmap(
            lambda own, some: functional_call(self.generator, own, (some,)), chunk_size=max(1, ROWS // z.shape[1])
        )
        with evaluation_mode(self.generator):
            made: Tensor = one(weights, z.to(like))
        return made
