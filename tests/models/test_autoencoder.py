"""The autoencoder against Pyro's evidence lower bound, and against the exact posterior of a linear model."""

import math

import pyro
import pytest
import torch
from pyro.infer import TraceMeanField_ELBO
from torch import nn

from posterity.models.autoencoder import Autoencoder


def pictures(n: int = 64) -> torch.Tensor:
    return torch.rand(n, 1, 8, 8, generator=torch.Generator().manual_seed(0))


def test_the_loss_is_that_of_pyro():
    """Both estimate the same bound: 400 draws of each agree within 4 standard errors, seed 0."""
    model, x = Autoencoder((1, 8, 8), latent=2), pictures()
    model.log_scale.data.fill_(-1.0)  # of these pictures, which are noise
    random = torch.Generator().manual_seed(0)
    with torch.no_grad():
        ours = torch.stack([model.loss(x, generator=random) for _ in range(400)])
        pyro.set_rng_seed(0)
        bound = TraceMeanField_ELBO()
        theirs = torch.tensor([bound.loss(model.model, model.guide, x) / len(x) for _ in range(400)])
    error = math.hypot(float(ours.std()), float(theirs.std())) / math.sqrt(400)
    assert abs(float(ours.mean() - theirs.mean())) < 4 * error
    assert error < 0.05


def test_free_bits_and_the_weight_change_the_divergence_alone():
    model, x = Autoencoder((1, 8, 8), latent=2).double(), pictures().double()
    mean, scale = model.encode(x)
    each = (0.5 * (mean**2 + scale**2 - 1) - scale.log()).mean(0).detach()

    def loss(**settings: float) -> float:
        return float(model.loss(x, generator=torch.Generator().manual_seed(1), **settings).detach())

    assert loss() - loss(beta=0.0) == pytest.approx(float(each.sum()), rel=1e-4)
    assert loss(free_bits=5.0) - loss(beta=0.0) == pytest.approx(10.0, rel=1e-4)
    assert loss(free_bits=float(each.min()) / 2) == pytest.approx(loss(), rel=1e-6)


def test_the_bound_of_a_linear_decoder_is_the_exact_evidence_at_its_posterior():
    """x = a z + noise: with the exact posterior as encoder, the bound is log p(x) = log N(x; 0, a a' + s²)."""
    model = Autoencoder((1, 8, 8), latent=1).double()
    a = torch.linspace(-1, 1, 64, dtype=torch.double)
    model.log_scale.data.fill_(math.log(0.5 - 1e-3))
    variance = 1 / (1 + float(a @ a) / 0.25)
    x = pictures(200).double()

    class Linear(nn.Module):
        def forward(self, values: torch.Tensor) -> torch.Tensor:
            if values.shape[1:] == (1,):
                return (values * a).reshape(-1, 1, 8, 8)
            mean = variance * (values.flatten(1) @ a)[:, None] / 0.25
            spread = math.sqrt(variance) - 1e-4
            return torch.cat([mean, torch.full_like(mean, math.log(math.expm1(spread)))], -1)

    model.encoder = model.decoder = Linear()
    exact = torch.distributions.LowRankMultivariateNormal(torch.zeros(64).double(), a[:, None], torch.full((64,), 0.25))
    draws = [model.loss(x, generator=torch.Generator().manual_seed(seed)) for seed in range(50)]
    bound = torch.stack(draws).detach()
    error = float(bound.std()) / math.sqrt(50)
    assert abs(float(bound.mean() + exact.log_prob(x.flatten(1)).mean())) < 4 * error


def test_bad_input_is_named():
    model = Autoencoder((1, 8, 8), latent=2)
    with pytest.raises(ValueError, match=r"expected pictures of shape \(N, 1, 8, 8\)"):
        model.encode(torch.zeros(3, 1, 9, 9))
    with pytest.raises(ValueError, match="expected pictures with finite values"):
        model.encode(torch.full((3, 1, 8, 8), torch.nan))
    with pytest.raises(ValueError, match=r"expected pictures with values in \[0, 1\], got 0 to 255"):
        model.loss(255 * pictures().round())
    with pytest.raises(ValueError, match="expected one picture or more, got none"):
        model.loss(pictures()[:0])
    with pytest.raises(ValueError, match=r"expected latents of shape \(..., 2\)"):
        model.decode(torch.zeros(3, 3))
    with pytest.raises(ValueError, match="expected free_bits to be"):
        model.loss(pictures(), free_bits=-1.0)
    with pytest.raises(ValueError, match="expected latent to be"):
        Autoencoder((1, 8, 8), latent=0)
