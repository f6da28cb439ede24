"""Likelihoods of generators and discriminators given each other, and a generator as a Pyro model of its likelihood."""

from collections.abc import Callable

import pyro
import pyro.distributions as dist
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

from posterity.models.networks import bayesian
from posterity.models.priors import Normal
from posterity.models.stacked import Stacked

SITE = "generator"


def generator_log_likelihood(generators: Stacked, discriminators: Stacked, z: Tensor) -> Tensor:
    """Mean of log D_k(G_j(z_b)) over b and k, (J_g,), for latent points z (J_g, B, latent)."""
    return logsigmoid(_logits(discriminators, generators(z))).mean((0, 2))


def discriminator_log_likelihood(discriminators: Stacked, real: Tensor, fake: Tensor) -> Tensor:
    """Mean of log D_k(x_b) over b, plus mean of log(1 - D_k(y_jb)) over b and j: (J_d,).

    Each discriminator has its own real samples x (J_d, B, ...); all have the same generated samples y (J_g, B, ...).
    """
    right = logsigmoid(discriminators(real).flatten(1)).mean(1)
    return right + logsigmoid(-_logits(discriminators, fake)).mean((1, 2))


def _logits(discriminators: Stacked, samples: Tensor) -> Tensor:
    """Logits (J_d, J_g, B) of generated samples (J_g, B, ...)."""
    flat = samples.flatten(0, 1)
    logits: Tensor = discriminators(flat.expand(discriminators.count, *flat.shape))
    return logits.reshape(discriminators.count, *samples.shape[:2])


def generator_posterior_model(generator: nn.Module, discriminators: Stacked, prior_sd: float) -> Callable[..., Tensor]:
    """The generator as a Pyro model ``model(z, real)`` for the `Posterior` of a `BayesianRun`.

    Sites: the weights ``generator.*`` ~ N(0, prior_sd²); ``x`` = G(z), deterministic; and ``real`` (N, J_d), Bernoulli
    with the logits of the discriminators, observed as the argument ``real`` (N,). For ``real`` of ones, its log density
    is that of the paper's equation 1.
    """

    def model(z: Tensor, real: Tensor | None = None) -> Tensor:
        samples = bayesian(SITE, generator, Normal(scale=prior_sd, fan_in=False))(z)
        x = pyro.deterministic("x", samples)
        logits = _logits(discriminators, x[None])[:, 0].T
        observed = None if real is None else real[:, None].expand(logits.shape)
        with pyro.plate("samples", len(z), dim=-2), pyro.plate("discriminators", discriminators.count, dim=-1):
            answer: Tensor = pyro.sample("real", dist.Bernoulli(logits=logits), obs=observed)
        return answer

    return model
