"""The transform to positive definite matrices: a bijection, and its log determinant by automatic differentiation."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch.distributions import biject_to, constraints

from posterity.inference import NUTS, infer
from posterity.models.positive_definite import PositiveDefinite, bijection_to


@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_vectors_are_mapped_one_to_one_with_the_determinant_of_the_jacobian(size):
    transform, count = PositiveDefinite(), size * (size + 1) // 2
    x = torch.randn(5, count, dtype=torch.double, generator=torch.Generator().manual_seed(size))
    y = transform(x)
    assert y.shape == transform.forward_shape(x.shape) == (5, size, size)
    assert transform.inverse_shape(y.shape) == x.shape
    assert bool(constraints.positive_definite.check(y).all())
    torch.testing.assert_close(transform.inv(y), x)
    rows, columns = torch.tril_indices(size, size)
    for one, log_det in zip(x, transform.log_abs_det_jacobian(x, y), strict=True):
        jacobian = torch.autograd.functional.jacobian(lambda v: PositiveDefinite()(v)[rows, columns], one)
        torch.testing.assert_close(log_det, torch.linalg.slogdet(jacobian).logabsdet)


def test_other_supports_have_the_bijection_of_torch():
    assert bijection_to(constraints.positive) == biject_to(constraints.positive)
    assert isinstance(bijection_to(constraints.positive_definite), PositiveDefinite)


@pytest.mark.filterwarnings("ignore:Singular sample detected")  # torch says this of samples that are not
def test_a_wishart_prior_is_sampled():
    """Its mean is df times the scale; the tolerance is 5 standard errors, with variances df (V_ij^2 + V_ii V_jj)."""
    scale = torch.tensor([[1.0, 0.3], [0.3, 0.5]])

    def model(y=None):
        precision = pyro.sample("precision", dist.Wishart(torch.tensor(6.0), scale))
        pyro.sample("y", dist.Normal(0.0 * precision[0, 0], 1.0), obs=y)

    method = NUTS(chains=8, warmup=200, draws=400, progress=False)
    draws = infer(model, torch.tensor(0.0), method=method, seed=0).draws["precision"].double()
    diagonal = scale.diagonal()
    error = (6 * (scale**2 + diagonal[:, None] * diagonal) / 800).sqrt()  # 3,200 draws, more than 800 effective
    assert bool(((draws.mean((0, 1)) - 6 * scale).abs() < 5 * error).all())
