import math

import pytest
import torch

from posterity.models import (
    gaussian,
    heteroscedastic_gaussian,
    student_t,
)
from posterity.models.likelihoods import floored_scale


def test_gaussian_has_one_noise():
    features, noise = torch.randn(5, 1, dtype=torch.double), 0.3
    y = torch.randn(5, dtype=torch.double)
    by_hand = -0.5 * ((y - features[:, 0]) / 0.3) ** 2 - math.log(0.3) - 0.5 * math.log(2 * math.pi)
    likelihood = gaussian(features, noise)
    assert likelihood.scale.dtype == torch.double
    torch.testing.assert_close(likelihood.log_prob(y), by_hand, atol=0, rtol=1e-12)


def test_heteroscedastic_gaussian_reads_mean_and_log_scale():
    features = torch.randn(5, 2, dtype=torch.double)
    likelihood = heteroscedastic_gaussian(features, floor=0.2)
    torch.testing.assert_close(likelihood.mean, features[:, 0])
    torch.testing.assert_close(likelihood.variance, 0.04 + (2 * features[:, 1]).exp())


@pytest.mark.parametrize("value", [-1000.0, -50.0, 0.0, 50.0, 1000.0])
def test_the_floor_holds_and_gradients_are_finite(value):
    features = torch.stack([torch.zeros(3), torch.full((3,), value)], -1).requires_grad_()
    likelihood = heteroscedastic_gaussian(features, floor=0.01)
    assert (likelihood.scale >= 0.01 * (1 - 1e-6)).all()
    (gradient,) = torch.autograd.grad(likelihood.log_prob(torch.ones(3)).sum(), features)
    assert torch.isfinite(gradient).all()


def test_student_t_is_location_and_scale():
    features, y = torch.randn(5, 1), torch.randn(5)
    expected = torch.distributions.StudentT(3.0, features[:, 0], 0.7).log_prob(y)
    torch.testing.assert_close(student_t(features, 0.7, df=3.0).log_prob(y), expected)


@pytest.mark.parametrize(
    ("likelihood", "width"),
    [(lambda f: gaussian(f, 1.0), 1), (heteroscedastic_gaussian, 2), (lambda f: student_t(f, 1.0), 1)],
    ids=["gaussian", "heteroscedastic", "student_t"],
)
@pytest.mark.parametrize("shape", [(), (4, 3), (3,)])
def test_features_of_another_width_raise(likelihood, width, shape):
    with pytest.raises(ValueError, match=rf"expected features of shape \(\.\.\., {width}\), got"):
        likelihood(torch.zeros(shape))


def test_a_floor_of_zero_raises():
    with pytest.raises(ValueError, match="expected floor to be a finite number above 0"):
        heteroscedastic_gaussian(torch.zeros(2, 2), floor=0.0)


@pytest.mark.parametrize("ceiling", [None, 1.0])
def test_the_smallest_floor_has_a_gradient(ceiling):
    x = torch.tensor([-60.0], requires_grad=True)
    found = floored_scale(x, 1e-23, ceiling)
    (slope,) = torch.autograd.grad(found.sum(), x)
    assert float(found.detach()) > 0
    assert bool(slope.isfinite().all())
    for floor in (-1.0, 0.0, math.nan, math.inf):
        with pytest.raises(ValueError, match="expected floor to be a finite number above 0"):
            floored_scale(x, floor, ceiling)
