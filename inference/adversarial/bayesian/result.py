"""`BayesianRun`: draws of generators, and their samples."""

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
from posterity.validation import check_flag, check_integer, check_number, check_real, check_seed

MAX_ROWS = 200_000  # samples or pairs in memory at once


@dataclass(frozen=True, eq=False)
class BayesianRun:
    """The result of `train_bayesian`: draws of generators, and their samples.

    A GAN has no density of the data, so the observed site of ``posterior`` is not the data but the answers of the
    discriminators, with z as the input of the model (see `generator_posterior_model`). Thus
    ``posterior.log_likelihood(z, ones)`` is log D_k(G(z)), and ``posterior.to_arviz(z, ones)`` has the weights and the
    samples x. These discriminators are those of the last step, also for earlier draws of generators.

    Attributes:
        posterior: Draws (J_g, draws, ...) of each weight of the generator.
        generator: A generator whose weights are replaced by those of a draw.
        discriminators: The discriminators of the last step.
        latent: Dimension of the latent points.
        settings: Settings of the run.
        history: ``generator_log_likelihood`` (readings, J_g) and ``discriminator_log_likelihood`` (readings, J_d), per
            sample.
        interrupted: Whether an interrupt ended the run.
    """

    posterior: Posterior
    generator: nn.Module
    discriminators: Stacked
    latent: int
    settings: BayesianAdversarial
    history: Mapping[str, Tensor] = field(default_factory=dict)
    interrupted: bool = False

    @torch.no_grad()
    def samples(self, n: int, *, seed: int, per_draw: bool = False) -> Tensor:
        """n samples (n, ...) in random order, as evenly as possible from all S = J_g * draws generators.

        With ``per_draw``: n samples of each generator, (S, n, ...), from the same latent points, so that they differ by
        the weights alone.

        Raises:
            ValueError: n below 1, or a negative seed.
        """
        check_integer("n", n, 1)
        check_seed(seed)
        check_flag("per_draw", per_draw)
        random = torch.Generator().manual_seed(seed)
        weights = self._weights()
        total = len(next(iter(weights.values())))
        if per_draw:
            z = torch.randn(n, self.latent, generator=random)
            return self._generate(weights, z.expand(total, -1, -1))
        order = torch.randperm(total, generator=random)[:n]
        z = torch.randn(len(order), -(-n // len(order)), self.latent, generator=random)
        chosen = {name: value[order.to(value.device)] for name, value in weights.items()}
        # The first sample of every generator, then the second: cut off after n, none is more than one sample ahead.
        flat = self._generate(chosen, z).transpose(0, 1).flatten(0, 1)[:n]
        return flat[torch.randperm(n, generator=random).to(flat.device)]

    def density_spread(
        self, points: Tensor, bandwidth: float, *, samples: int = 1000, seed: int = 0
    ) -> tuple[Tensor, Tensor]:
        """Mean (P,) and standard deviation (P,) over all draws of the density of samples at points (P, D).

        The standard deviation is the epistemic uncertainty of the density. The density of each draw is a kernel density
        estimate from the same latent points, with normal kernels.

        Args:
            points: Points (P, D).
            bandwidth: Standard deviation of the kernels, in units of the data.
            samples: Number of samples of each draw.
            seed: Seed of the latent points.

        Raises:
            ValueError: Points of another shape or not finite, a bandwidth that is not above 0, or ``samples`` below 1.
        """
        check_number("bandwidth", bandwidth, "(0, inf)")
        check_integer("samples", samples, 1)
        generated = self.samples(samples, seed=seed, per_draw=True).flatten(2)
        targets = generated.shape[2]
        if not isinstance(points, Tensor) or points.ndim != 2 or points.shape[1] != targets or not len(points):
            got = tuple(points.shape) if isinstance(points, Tensor) else type(points).__name__
            raise ValueError(f"expected points of shape (P, {targets}), got {got}")
        check_real("points", points)
        if not bool(torch.isfinite(points).all()):
            raise ValueError("expected finite points, got values that are NaN or infinite")
        at, log_norm = points.to(generated), targets * math.log(bandwidth * math.sqrt(2 * math.pi))

        def density(draw: Tensor) -> Tensor:
            parts = at.split(max(1, MAX_ROWS // samples))
            squares = [(torch.cdist(part, draw) / bandwidth) ** 2 for part in parts]
            return torch.cat([torch.exp(-0.5 * square - log_norm).mean(1) for square in squares])

        densities = torch.stack([density(draw) for draw in generated])
        return densities.mean(0), densities.std(0, correction=0)

    def _weights(self) -> dict[str, Tensor]:
        """Weights (S, ...) by the generator's own parameter names."""
        return {name.removeprefix(f"{SITE}."): value.flatten(0, 1) for name, value in self.posterior.draws.items()}

    def _generate(self, weights: dict[str, Tensor], z: Tensor) -> Tensor:
        """Samples (S, n, ...) of generators with weights (S, ...) at latent points z (S, n, latent)."""
        like = next(iter(weights.values()))
        generate = torch.func.vmap(
            lambda weight, points: functional_call(self.generator, weight, (points,)),
            chunk_size=max(1, MAX_ROWS // z.shape[1]),
        )
        with evaluation_mode(self.generator):
            generated: Tensor = generate(weights, z.to(like))
        return generated
