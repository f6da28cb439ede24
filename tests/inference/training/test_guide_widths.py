"""Widths of guides at the start, held against the curvature of a linear model in closed form."""

import re

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import autoguide

from posterity.inference.training.guide_widths import (
    guide_unit,
    is_point,
    limit_widths,
    set_widths,
    widths_as_units,
    with_spread,
)
from posterity.models.guides import empty_guide, make_guide

DESIGN = torch.tensor([[1.0, 2.0], [0.0, 3.0], [4.0, 1.0]])
NOISE = 0.01
PRECISION = DESIGN.T @ DESIGN / NOISE**2 + torch.eye(2)


def model(x, y=None):
    w = pyro.sample("w", dist.Normal(torch.zeros(2), 1.0).to_event(1))
    with pyro.plate("rows", len(x)):
        return pyro.sample("y", dist.Normal(x @ w, NOISE), obs=y)


ARGS = (DESIGN, torch.ones(3))


@pytest.fixture(autouse=True)
def own_store():
    with pyro.get_param_store().scope():
        yield


@pytest.mark.parametrize("name", ["mean_field", "full_rank", "low_rank"])
def test_a_guide_starts_no_wider_than_the_curvature_allows(name):
    """One over the root of the norm of each row of the precision; from 8 products with random signs, to 25 %."""
    guide = make_guide(name, model)
    set_widths(guide, ARGS, {"w": 5.0}, 1.0)
    before = torch.as_tensor(widths_as_units(guide, {"w": 1.0})["w"]).clone()
    share = 0.5**0.5 if name == "low_rank" else 1.0  # the other half of its variance is in its factors
    torch.testing.assert_close(before, torch.full((2,), 5.0 * share))
    limit_widths(guide, model, ARGS)
    found = torch.as_tensor(widths_as_units(guide, {"w": 1.0})["w"])
    torch.testing.assert_close(found, PRECISION.norm(dim=1).rsqrt(), rtol=0.25, atol=0)


def test_a_narrow_guide_stays_as_it_is():
    guide = make_guide("mean_field", model)
    set_widths(guide, ARGS, {"w": 1e-6}, 1.0)
    limit_widths(guide, model, ARGS)
    torch.testing.assert_close(guide.scales.w.detach(),
                               torch.full((2,), 1e-6))  # fmt: skip


def test_points_are_points():
    assert is_point(empty_guide)
    assert is_point(autoguide.AutoDelta(model))
    assert is_point(autoguide.AutoLaplaceApproximation(model))
    assert not is_point(autoguide.AutoNormal(model))


def test_the_laplace_guide_has_the_covariance_of_the_posterior():
    """Exact for a linear model with normal noise."""
    guide = autoguide.AutoLaplaceApproximation(model)
    guide(*ARGS)
    mode = torch.linalg.solve(PRECISION, DESIGN.T @ ARGS[1] / NOISE**2)
    with torch.no_grad():
        guide.loc.copy_(mode)
    spread = with_spread(guide, ARGS)
    scale = spread.get_posterior().covariance_matrix
    torch.testing.assert_close(scale, torch.linalg.inv(PRECISION), rtol=1e-3, atol=1e-9)


def unconstrained(guide):
    """The parameters of a guide in the space in which they are fitted, by name."""
    with pyro.poutine.trace(param_only=True) as capture:
        guide(*ARGS)
    return {name: node["value"].unconstrained() for name, node in capture.trace.nodes.items()}


@pytest.mark.parametrize("name", ["mean_field", "full_rank", "low_rank"])
def test_log_widths_have_the_unit_1_also_where_they_differ(name):
    """Widths of a vector that differed once had no unit: they took plain steps of Adam and ended too wide."""
    guide = make_guide(name, model)
    set_widths(guide, ARGS, {"w": 5.0}, 1.0)
    limit_widths(guide, model, ARGS)
    (name, width), *others = [(n, v) for n, v in unconstrained(guide).items() if re.search(r"\.scales?\b", n)]
    assert not others
    assert float(width.detach().std()) > 0
    assert guide_unit(guide, name, width, {"w": 3.0}) == 1.0


@pytest.mark.parametrize("width", [1e-3, 0.3, 20.0])
def test_the_unit_of_an_inverse_softplus_changes_a_width_by_its_own_size(width):
    guide = autoguide.AutoNormal(model, init_scale=width)
    free = unconstrained(guide)["AutoNormal.scales.w"].detach().requires_grad_()
    (slope,) = torch.autograd.grad(torch.nn.functional.softplus(free).sum(), free)
    unit = guide_unit(guide, "AutoNormal.scales.w", free, {"w": 3.0})
    torch.testing.assert_close(unit * slope, torch.full((2,), width))


def test_locations_have_the_unit_of_their_site():
    guide = make_guide("mean_field", model)
    locations = unconstrained(guide)["AutoNormal.locs.w"]
    assert guide_unit(guide, "AutoNormal.locs.w", locations, {"w": 3.0}) == 3.0
    assert guide_unit(empty_guide, "net.weight", locations, {"w": 3.0}) is None
