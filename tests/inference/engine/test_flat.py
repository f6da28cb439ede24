"""Masked latents and flat priors: right where the density is proper, else an error that names the site."""

import pyro
import pyro.distributions as dist
import pytest
import torch

from posterity.inference import HMC, NUTS, infer
from posterity.inference.engine import Density

Y = torch.tensor([0.5, -1.0, 2.0, 0.3, 1.2, -0.4])
THERE = torch.tensor([True, True, False, True, False, True])


def padded(y):
    """Four groups, of which one is padding, in each of the three ways to write a mask."""
    mask = torch.tensor([True, True, True, False])
    mean = pyro.sample("mean", dist.Normal(0.0, 1.0))
    with pyro.plate("groups", 4), pyro.poutine.mask(mask=mask):
        z = pyro.sample("z", dist.Normal(mean, 1.0))
        s = pyro.sample("s", dist.HalfNormal(1.0))
    w = pyro.sample("w", dist.Normal(torch.zeros(4), 1.0).mask(mask).to_event(1))
    v = pyro.sample("v", dist.Normal(torch.zeros(4, 2), 1.0).to_event(1).mask(mask).to_event(1))
    level = torch.where(mask, z + w + v.sum(-1), 0.0)
    with pyro.plate("obs", len(y)):
        return pyro.sample("y", dist.Normal(level.sum(), 1 + s[:3].sum()), obs=y)


def behind_the_mask(y):
    mean = pyro.sample("mean", dist.Normal(0.0, 1.0))
    z = pyro.sample("z", dist.Normal(mean, 1.0).expand([4]).to_event(1))
    s = pyro.sample("s", dist.HalfNormal(1.0).expand([4]).to_event(1))
    w = pyro.sample("w", dist.Normal(torch.zeros(4), 1.0).to_event(1))
    v = pyro.sample("v", dist.Normal(torch.zeros(4, 2), 1.0).to_event(2))
    with pyro.plate("obs", len(y)):
        return pyro.sample("y", dist.Normal((z + w + v.sum(-1))[:3].sum(), 1 + s[:3].sum()), obs=y)


def test_padding_has_the_prior_behind_the_mask():
    """The density is that of the model without masks, at random positions to 1e-5."""
    density, expected = Density(padded, (Y,)), Density(behind_the_mask, (Y,))
    assert {name: int(where.sum()) for name, where in density.padded.items()} == {"z": 1, "s": 1, "w": 1, "v": 2}
    for position in torch.randn(5, density.dim, generator=torch.Generator().manual_seed(0)):
        assert abs(density(position) - expected(position)) < 1e-5 * (1 + abs(expected(position)))


def imputed(y, there):
    mean = pyro.sample("mean", dist.Normal(0.0, 1.0))
    with pyro.plate("obs", len(y)):
        return pyro.sample("y", dist.Normal(mean, 1.0), obs=y, obs_mask=there)


@pytest.mark.parametrize("method", [HMC, NUTS])
def test_rows_without_y_are_imputed(method):
    """The mean has the posterior of the four rows that were observed; a row that was not, its predictive. 5 errors."""
    settings = {"chains": 8, "warmup": 100, "draws": 200, "engine": "replay", "threads": 1, "progress": False}
    posterior = infer(imputed, Y, THERE, method=method(**settings), seed=0)
    mean, variance = float(Y[THERE].sum()) / 5, 1 / 5
    row = posterior.draws["y_unobserved"][..., 2]
    for found, sd in ((posterior.draws["mean"], variance**0.5), (row, (1 + variance) ** 0.5)):
        assert abs(found.mean() - mean) < 5 * sd / 300**0.5
        assert abs(found.std() / sd - 1) < 5 / 600**0.5
    assert posterior.predictive(Y, THERE).mean.isfinite().all()


def flat_by_mask(y):
    """The mask takes the prior away from what the likelihood reads: a flat prior, and a proper posterior."""
    w = pyro.sample("w", dist.Normal(0.0, 1.0).mask(False))
    with pyro.plate("obs", len(y)):
        return pyro.sample("y", dist.Normal(w, 1.0), obs=y)


def test_a_masked_prior_of_what_the_likelihood_reads_stays_flat():
    density = Density(flat_by_mask, (Y,))
    assert not density.padded
    grad = torch.func.grad(density)(torch.tensor([0.7]))
    assert abs(float(grad) - float((Y - 0.7).sum())) < 1e-5


def unread(y):
    z = pyro.sample("z", dist.ImproperUniform(dist.constraints.real, (), (3,)))
    with pyro.plate("obs", len(y)):
        return pyro.sample("y", dist.Normal(z[0] + z[1] ** 2, 1.0), obs=y)


def only_the_sum(y):
    a, b = (pyro.sample(name, dist.ImproperUniform(dist.constraints.real, (), ())) for name in "ab")
    with pyro.plate("obs", len(y)):
        return pyro.sample("y", dist.Normal(a + b, 1.0), obs=y)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (unread, "expected a proper density, got one that does not depend on 1 of 3 entries of site 'z'"),
        (
            only_the_sum,
            r"expected a proper density, got one that is constant along a direction of the sites \['a', 'b'\]",
        ),
    ],
)
def test_a_density_that_is_flat_is_refused(model, message):
    with pytest.raises(ValueError, match=message):
        infer(model, Y, method=HMC(progress=False))


def bounded(y):
    pyro.sample("p", dist.ImproperUniform(dist.constraints.unit_interval, (), ()))
    return flat_by_mask(y)


def test_a_flat_prior_on_a_bounded_support_is_proper():
    assert Density(bounded, (Y,)).dim == 2
