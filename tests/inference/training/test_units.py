"""The unit of a site is the spread of its prior in unconstrained space."""

import math

import pyro
import pyro.distributions as dist
import pytest
import torch

from posterity.inference.engine import Density
from posterity.inference.training.units import density_units, parameter_unit, prior_units


def model(y=None):
    pyro.sample("wide", dist.Normal(torch.full((2000,), 7.0), 50.0).to_event(1))
    pyro.sample("scale", dist.LogNormal(torch.zeros(2000), 3.0).to_event(1))  # unconstrained by its logarithm
    pyro.sample("tails", dist.Cauchy(torch.zeros(2000), 2.0).to_event(1))
    return pyro.sample("y", dist.Normal(0.0, 1.0), obs=y)


def flat(y=None):
    free = pyro.sample("free", dist.ImproperUniform(dist.constraints.real, (), (2000,)))
    return pyro.sample("y", dist.Normal(free.mean(), 1.0), obs=y)


def test_units_are_spreads_of_the_priors():
    """The median absolute deviation from the median of ten draws each is 12 % small; the rest is 5 % of chance."""
    units = prior_units(model, (torch.tensor(0.0),))
    assert units["wide"] == pytest.approx(0.88 * 50.0, rel=0.05)
    assert units["scale"] == pytest.approx(0.88 * 3.0, rel=0.05)
    # Quartiles of a Cauchy are its scale from the median, those of a normal 0.6745 standard deviations.
    assert 0.8 < units["tails"] / (2.0 * 1.4826) < 1.1
    assert 0.7 < prior_units(flat, (torch.tensor(0.0),))["free"] / 1.4826 < 1.1  # uniform on (-2, 2)


def test_the_vector_of_a_density_has_the_unit_of_each_site_in_its_place():
    density = Density(model, (torch.tensor(0.0),))
    units = density_units(density)
    assert units.shape == (density.dim,)
    for site in density.sites:
        part = units[site.start : site.start + site.size]
        assert bool((part == part[0]).all())
        assert math.log(float(part[0])) == pytest.approx(math.log(prior_units(model, density.args)[site.name]))


def test_parameters_that_are_spread_take_plain_steps():
    assert parameter_unit(torch.randn(5)) == 0.0
    assert parameter_unit(torch.zeros(5)) == parameter_unit(torch.tensor(3.0)) == 1.0
