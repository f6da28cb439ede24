"""Members far behind the best, and which of them are kept."""

import math

import pyro
import pyro.distributions as dist
import torch

from posterity.inference import Ensemble
from posterity.inference.members import MembersFit
from posterity.inference.program.sites import inspect

X, Y = torch.linspace(-1, 1, 30), torch.linspace(-2, 2, 30)


def slope(x, y=None):
    b = pyro.param("b", torch.tensor(0.1))
    with pyro.plate("rows", len(x)):
        return pyro.sample("y", dist.Normal(b * x, 1.0), obs=y)


def fit(**settings):
    method = Ensemble(members=5, progress=False, engine="eager", **settings)
    return MembersFit(method, slope, inspect(slope, (X, Y)), (X, Y), seed=0)


def test_a_member_is_far_behind_beyond_half_a_nat_per_row_ten_nats_and_five_times_the_median_gap():
    """Of 30 rows half a nat each are 15; the median gap of the first is 0.1, that of the second 4 (times 5: 20)."""
    members = fit()
    members.gained = torch.zeros(5).double()
    members.score = torch.tensor([0.0, -0.1, -0.1, -14.9, -15.1]).double()
    assert members.far().tolist() == [False, False, False, False, True]
    members.score = torch.tensor([0.0, -4.0, -4.0, -19.0, -21.0]).double()
    assert members.far().tolist() == [False, False, False, False, True]
    members.gained[0] = math.inf  # the best has not converged: nothing is behind it
    assert not bool(members.far().any())


def test_the_gradient_is_that_of_the_log_joint():
    members = fit()
    q = torch.tensor([[-1.0], [0.0], [0.5], [1.0], [3.0]])
    value, gradient = members.gradient(q)
    residual = Y - q * X
    torch.testing.assert_close(value, -0.5 * (residual**2).sum(-1) - 15 * math.log(2 * math.pi))
    torch.testing.assert_close(gradient, (residual * X).sum(-1, keepdim=True))


def test_rows_held_out_are_not_trained_on():
    members = fit(holdout=0.2)
    assert (len(members.args[0]), len(members.held_out[0]), members.rows) == (24, 6, 24)
    assert sorted(torch.cat([members.args[0], members.held_out[0]]).tolist()) == sorted(X.tolist())
