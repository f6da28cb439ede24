"""Entropies and information of mixtures, against their values for components far apart."""

import math

import numpy as np
import pyro.distributions as dist
import torch
from torch.distributions import Normal

from posterity.inference.diagnostics.decomposition.information import information_split
from posterity.inference.diagnostics.sources import mixture_information as module
from posterity.inference.diagnostics.sources.mixture_information import default_samples, mixture_information
from posterity.inference.predictive import PredictiveMixture
from posterity.models.mixtures import Mixture

HALF = 0.5 * math.log(2 * math.pi * math.e)  # entropy of the standard normal in nats


def test_weights_of_draws_far_apart_are_known_after_one_observation():
    """I = H(w) and H(y) = H(w) + H(Normal), each mean within five of its own standard errors."""
    weights = torch.tensor([0.7, 0.2, 0.1], dtype=torch.double)
    loc = 1e3 * torch.arange(3.0).double()[:, None].expand(3, 20)
    terms = mixture_information(PredictiveMixture.from_draws(Normal(loc, 2.0), weights.log()), 200, seed=0)
    information, entropy = float(-(weights * weights.log()).sum()), HALF + math.log(2)
    error = 5 * np.maximum(terms["mutual_information_se"], 1e-6)
    assert (np.abs(terms["mutual_information"] - information) < error).all()
    assert (np.abs(terms["total_entropy"] - information - entropy) < error).all()
    np.testing.assert_allclose(terms["expected_entropy"], entropy, atol=1e-9)
    np.testing.assert_allclose(terms["ambiguity"], 0, atol=1e-9)


def test_terms_add_up_and_do_not_depend_on_the_chunks(monkeypatch):
    likelihood = Mixture.normal(torch.randn(4, 6, 2), torch.randn(4, 6, 2), torch.rand(4, 6, 2) + 0.2)
    predictive = PredictiveMixture.from_draws(likelihood)
    terms = mixture_information(predictive, 64, seed=0)
    np.testing.assert_allclose(terms["total_entropy"], terms["expected_entropy"] + terms["mutual_information"])
    np.testing.assert_allclose(terms["expected_entropy"], terms["noise_entropy"] + terms["ambiguity"])
    assert (terms["mutual_information"] >= 0).all()
    assert (terms["mutual_information"] <= math.log(4)).all()
    monkeypatch.setattr(module, "CHUNK", 8 * 64)  # one row after another, with other random numbers
    rows = mixture_information(predictive, 64, seed=0)
    difference = np.abs(rows["mutual_information"] - terms["mutual_information"])
    error = np.hypot(rows["mutual_information_se"], terms["mutual_information_se"])
    assert (difference > 0).any()
    assert (difference < 5 * error).all()


def test_default_samples_are_even_and_from_8_to_512(monkeypatch):
    predictive = PredictiveMixture.from_draws(Normal(torch.zeros(2, 5), 1.0))
    for budget, samples in ((1, 8), (10 * 31.2, 32), (1e9, 512)):
        monkeypatch.setattr(module, "BUDGET", budget)
        assert default_samples(predictive) == samples


def normals(loc, scale) -> PredictiveMixture:
    loc, scale = (torch.as_tensor(value, dtype=torch.double) for value in (loc, scale))
    return PredictiveMixture.from_draws(dist.Normal(loc, scale))


def test_normals_by_a_matrix_product_are_those_of_the_density():
    """The same numbers from the family's own log_prob, with means far from 0 and scales far apart; seed 1."""
    generator = torch.Generator().manual_seed(1)
    loc = 1e4 + 5 * torch.randn(20, 6, generator=generator).double()
    scale = torch.randn(20, 6, generator=generator).double().mul(2).exp()
    log_weights = torch.randn(6, 20, generator=generator).double().log_softmax(-1)
    components = dist.Normal(loc.T, scale.T)
    y = components.sample(torch.Size([3]))[..., 0]
    found = module._joint(components, log_weights, y)
    torch.testing.assert_close(found, components.log_prob(y[..., None]) + log_weights, rtol=1e-6, atol=1e-6)


def test_draws_of_no_weight_and_values_out_of_range_do_not_count():
    """A third draw of no weight changes nothing; of a log-normal nothing is below 0, which is no nan."""
    loc = torch.tensor([[0.0], [2.0], [50.0]]).double().expand(3, 200)
    weights = torch.tensor([0.0, 0.0, -torch.inf])
    with_none = information_split(PredictiveMixture.from_draws(dist.Normal(loc, 1.0), weights), samples=64)
    without = information_split(normals(loc[:2], torch.tensor(1.0)), samples=64)
    difference = float(with_none.mutual_information.mean() - without.mutual_information.mean())
    assert abs(difference) < 4 * math.sqrt(2) * float((without.mutual_information_se**2).sum()) ** 0.5 / 200
    narrow = dist.Uniform(torch.tensor([[0.0], [10.0]]).double(), torch.tensor([[1.0], [11.0]]).double())
    apart = information_split(PredictiveMixture.from_draws(narrow), samples=8)
    np.testing.assert_allclose(apart.mutual_information, math.log(2), rtol=1e-9)


def test_samples_keep_within_their_budget():
    assert information_split(normals(torch.zeros(2, 3), torch.tensor(1.0))).attrs["samples"] == 512
    large = normals(torch.zeros(1, 1), torch.tensor(1.0)).expand(torch.Size([10_000_000]))
    assert module.default_samples(large) == 30
