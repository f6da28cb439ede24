"""The closed-form posterior of linear regression against scikit-learn, and what the sampler check reports."""

import pytest
import torch
from sklearn.linear_model import Ridge

from tests.examples_run import script


def test_the_closed_form_posterior_is_that_of_ridge_regression() -> None:
    """A standard normal prior is a ridge penalty of noise²; for orthogonal columns the sd is (1 + N / noise²)^-½."""
    random = torch.Generator().manual_seed(0)
    x, y = torch.randn(30, 2, generator=random).double(), torch.randn(30, generator=random).double()
    with script("_conjugate") as module:
        mean, _ = module.closed_form(x, y)
        design = torch.cat([x, torch.ones(30, 1).double()], 1)
        ridge = Ridge(alpha=module.NOISE**2, fit_intercept=False).fit(design.numpy(), y.numpy())
        assert mean.numpy() == pytest.approx(ridge.coef_, rel=1e-9)
        _, sd = module.closed_form(torch.tensor([-1.0, 1.0] * 15).double()[:, None], y)
        assert sd.tolist() == pytest.approx([(1 + 30 / module.NOISE**2) ** -0.5] * 2)


def test_exact_draws_pass_the_sampler_check_and_shifted_ones_do_not() -> None:
    """8 chains of 500 independent draws: the largest of 3 z values is below 5; a shift of one sd is far beyond."""
    mean, sd = torch.tensor([1.0, -2.0, 0.5]).double(), torch.tensor([0.1, 2.0, 1.0]).double()
    draws = mean + sd * torch.randn(8, 500, 3, generator=torch.Generator().manual_seed(0)).double()
    with script("_conjugate") as module:
        right, shifted = module.sampler_errors(draws, mean, sd), module.sampler_errors(draws + sd, mean, sd)
    assert right["max_z"] < 5
    assert right["rhat_max"] < 1.01
    assert 0.95 < right["sd_ratio_min"] <= right["sd_ratio_max"] < 1.05
    assert shifted["max_z"] > 30
