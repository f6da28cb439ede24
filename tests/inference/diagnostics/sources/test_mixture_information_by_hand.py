"""Entropies and information of mixtures, against their values for components far apart."""

import math

import numpy as np
import torch
from torch.distributions import Normal

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


def test_terms_add_up_and_do_not_depend_on_the_blocks(monkeypatch):
    likelihood = Mixture.normal(torch.randn(4, 6, 2), torch.randn(4, 6, 2), torch.rand(4, 6, 2) + 0.2)
    predictive = PredictiveMixture.from_draws(likelihood)
    terms = mixture_information(predictive, 64, seed=0)
    np.testing.assert_allclose(terms["total_entropy"], terms["expected_entropy"] + terms["mutual_information"])
    np.testing.assert_allclose(terms["expected_entropy"], terms["noise_entropy"] + terms["ambiguity"])
    assert (terms["mutual_information"] >= 0).all()
    assert (terms["mutual_information"] <= math.log(4)).all()
    monkeypatch.setattr(module, "BLOCK", 8 * 64)  # one row after another, with other random numbers
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
