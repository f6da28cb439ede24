"""Scores of components: the gradient of the log density, and the families that have one."""

import pytest
import torch
from torch.distributions import Categorical, Gamma, Laplace, LogNormal, StudentT

from posterity.inference.diagnostics.sources.mixture_scores import (
    _scores_of_rows,
    component_scores,
    has_shape,
    shape_of,
)
from posterity.inference.diagnostics.sources.reading import read
from posterity.models.mixtures import Mixture

DOUBLE = {"dtype": torch.double}


@pytest.mark.parametrize("family", ["normal", "t", "laplace", "lognormal"])
def test_scores_are_the_gradient_of_the_log_density(family):
    torch.manual_seed(0)
    logits, loc = torch.randn(4, 3, **DOUBLE), torch.randn(4, 3, **DOUBLE)
    scale, y = torch.rand(4, 3, **DOUBLE) + 0.5, torch.rand(4, **DOUBLE) * 2 + 0.1
    theta = torch.zeros(3, 3, **DOUBLE, requires_grad=True)  # log width, place in widths, log odds

    def components(loc, scale):
        if family == "t":
            return StudentT(torch.full_like(loc, 5.0), loc, scale)
        return {"normal": torch.distributions.Normal, "laplace": Laplace, "lognormal": LogNormal}[family](loc, scale)

    def build(theta):
        return Mixture(
            Categorical(logits=logits + theta[2]), components(loc + scale * theta[1], scale * theta[0].exp())
        )

    expected = torch.stack([torch.autograd.grad(build(theta).log_prob(y)[row], theta)[0] for row in range(4)])
    found = _scores_of_rows(build(theta.detach()), y, 1)
    torch.testing.assert_close(found, expected.flatten(1))


def test_the_covariance_of_the_scores_of_one_normal_is_the_fisher_information():
    """Of log width 2 n, of the place n, of a single weight 0; from 40,000 values within 5 %."""
    model = Mixture.normal(torch.zeros(50, 1), torch.zeros(50, 1), torch.ones(50, 1))
    total, covariance, weight = component_scores(read(model, torch.ones(50)), seed=0)
    torch.testing.assert_close(torch.tensor(total), torch.tensor([0.0, 50.0, 0.0], **DOUBLE))  # z² - 1, z, 0 at z = 1
    assert weight.tolist() == [1.0]
    assert abs(covariance[0, 0] / 100 - 1) < 0.05
    assert abs(covariance[1, 1] / 50 - 1) < 0.05
    assert covariance[2, 2] == 0


def test_families_of_location_and_scale_are_known_by_their_class():
    class Narrow(torch.distributions.Normal):
        pass

    weights = Categorical(logits=torch.zeros(3, 1))
    components = Narrow(torch.zeros(3, 1), torch.ones(3, 1))
    assert has_shape(Mixture(weights, components))
    assert not has_shape(Mixture(weights, Gamma(torch.ones(3, 1), torch.ones(3, 1))))
    with pytest.raises(ValueError, match=r"expected Normal, LogNormal, StudentT, Laplace components .* got Gamma"):
        shape_of(Gamma(torch.ones(3, 1), torch.ones(3, 1)))
