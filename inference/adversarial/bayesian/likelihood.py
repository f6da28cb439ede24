"""What each kind of network is likely by: the answers of the other kind; and a generator as a Pyro model of them."""

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
    """log D_k(G_j(z_b)), the mean over b and k: (J_g,), of z (J_g, B, latent)."""
    return logsigmoid(_judged(discriminators, generators(z))).mean((0, 2))


def discriminator_log_likelihood(discriminators: Stacked, real: Tensor, fake: Tensor) -> Tensor:
    """log D_k(x_b) + log(1 - D_k(y_jb)), means over b and j: (J_d,), of real x (J_d, B, ...) and made y (J_g, B, ...).

    Each discriminator has its own real samples, and all have the same made ones.
    """
    right = logsigmoid(discriminators(real).flatten(1)).mean(1)
    return right + logsigmoid(-_judged(discriminators, fake)).mean((1, 2))


def _judged(discriminators: Stacked, made: Tensor) -> Tensor:
    """Logits (J_d, J_g, B) of made (J_g, B, ...)."""
    flat = made.flatten(0, 1)
    logits: Tensor = discriminators(flat.expand(discriminators.count, *flat.shape))
    return logits.reshape(discriminators.count, *made.shape[:2])


def judged(generator: nn.Module, discriminators: Stacked, prior_sd: float) -> Callable[..., Tensor]:
    """The generator as a Pyro model ``model(z, real)``, by which its draws are read: see `BayesianGame`.

    Sites: the weights ``generator.*`` ~ N(0, prior_sd²); ``x`` = G(z), deterministic; ``real`` (N, J_d), Bernoulli with
    the answers of the discriminators, observed as the argument ``real`` (N,): with ones, its log density is that of the
    paper's equation 1.
    """

    def model(z: Tensor, real: Tensor | None = None) -> Tensor:
        made = bayesian(SITE, generator, Normal(scale=prior_sd, fan_in=False))(z)
        x = pyro.deterministic("x", made)
        logits = _judged(discriminators, x[None])[:, 0].T
        seen = None if real is None else real[:, None].expand(logits.shape)
        with pyro.plate("samples", len(z), dim=-2), pyro.plate("judges", discriminators.count, dim=-1):
            answer: Tensor = pyro.sample("real", dist.Bernoulli(logits=logits), obs=seen)
        return answer

    return model
