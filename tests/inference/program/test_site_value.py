"""Values at observed sites: their support, masks, scales and dtypes."""

import contextlib

import pyro
import pyro.distributions as dist
import pytest
import torch

from posterity.inference import SVI, Posterior, infer
from posterity.inference.program.site_value import check_site_value, dtype_to_score, scored_elements, site_log_density
from posterity.inference.program.sites import inspect
from posterity.inference.program.trace import trace

N = 12
X = torch.linspace(-1, 1, N)
FAST = SVI(guide="map", steps=2, progress=False)
TWO = torch.stack([X, -X], -1)


def model_of(family, held=None):
    """y of a family around slope * x; ``held`` is data that the model brings itself."""

    def model(x, y=None):
        slope = pyro.sample("slope", dist.Normal(0.0, 1.0))
        with pyro.plate("obs", len(x)):
            return pyro.sample("y", family(slope * x), obs=y if held is None else held)

    return model


def one_wrong(good, bad):
    y = torch.full((N,), float(good))
    y[3] = bad
    return y


OUTSIDE = {
    "Bernoulli": (lambda f: dist.Bernoulli(logits=f), 1, -1.0),
    "Poisson": (lambda f: dist.Poisson(f.exp()), 2, 1.5),
    "Geometric": (lambda f: dist.Geometric(logits=f), 2, -1.0),
    "Binomial": (lambda f: dist.Binomial(3, logits=f), 3, 4.0),
    "NegativeBinomial": (lambda f: dist.NegativeBinomial(3.0, logits=f), 3, 0.5),
    "Categorical": (lambda f: dist.Categorical(logits=torch.stack([f, -f], -1)), 1, 2.0),
    "LogNormal": (lambda f: dist.LogNormal(f, 1.0), 1, -1.0),
    "Gamma": (lambda f: dist.Gamma(f.exp(), 1.0), 1, -1.0),
    "Beta": (lambda f: dist.Beta(f.exp(), 1.0), 0.5, 1.5),
    "fixed Uniform": (lambda f: dist.Uniform(0 * f, 2.0), 1, 2.5),
    "masked": (lambda f: dist.Poisson(f.exp()).mask(X < 0.9), 2, 1.5),
    "mixture": (
        lambda f: dist.MixtureSameFamily(
            dist.Categorical(torch.ones(N, 2)), dist.LogNormal(f[:, None].expand(N, 2), 1.0)
        ),
        1,
        -1.0,
    ),
}


@pytest.mark.parametrize("held", [False, True], ids=["given", "held"])
@pytest.mark.parametrize("name", OUTSIDE)
def test_y_outside_of_the_support_is_an_error(name, held):
    family, good, bad = OUTSIDE[name]
    y = one_wrong(good, bad)
    model = model_of(family, y if held else None)
    message = r"expected values in the support of \w+ at the observed site 'y', got 1 of 12 outside of it, the first in"
    with pytest.raises(ValueError, match=f"{message} row 3: {bad}"):
        infer(model, X, y, method=FAST)
    fine = model_of(family)
    posterior = Posterior(fine, inspect(fine, (X, one_wrong(good, good))), {"slope": torch.zeros(1, 3)})
    with pytest.raises(ValueError, match=message):
        posterior.log_likelihood(X, y)
    with pytest.raises(ValueError, match=message):
        posterior.to_arviz(X, y)


def test_what_a_mask_leaves_out_may_be_outside():
    model = model_of(lambda f: dist.Poisson(f.exp()).mask(torch.arange(N) != 3))
    inspect(model, (X, one_wrong(2, -1.5)))


def test_a_support_that_depends_on_latent_sites_refuses_nothing():
    """The first draw of the bound is below y; the samplers look for a start above."""

    def model(y=None):
        top = pyro.sample("top", dist.Pareto(1.0, 1.0))
        with pyro.plate("obs", N):
            return pyro.sample("y", dist.Uniform(0.0, top), obs=y)

    y = torch.full((N,), 500.0)
    assert inspect(model, (y,)).latents == ("top",)
    found = Posterior(model, inspect(model, (y,)), {"top": torch.tensor([[400.0, 1000.0]])}).log_likelihood(y)
    torch.testing.assert_close(found[0, :, 0], torch.tensor([-torch.inf, -torch.tensor(1000.0).log()]))


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_what_the_model_holds_itself_must_be_finite(bad):
    model = model_of(lambda f: dist.Normal(f, 1.0), one_wrong(1, bad))
    with pytest.raises(ValueError, match=f"expected finite values at the observed site 'y', got 1 of 12 .* 3: {bad}"):
        infer(model, X, method=FAST)


def node_of(fn, value, mask=None, scale=None):
    def model():
        with contextlib.ExitStack() as stack:
            if mask is not None:
                stack.enter_context(pyro.poutine.mask(mask=mask))
            if scale is not None:
                stack.enter_context(pyro.poutine.scale(scale=scale))
            pyro.sample("y", fn, obs=value)

    return trace(model, (), seed=0)["y"]


KEEP = torch.tensor([True, False, True])


def test_masks_of_a_plate_of_a_distribution_and_of_an_event_add_up():
    fn = dist.Normal(torch.zeros(3, 2), 1.0)
    both = node_of(fn.mask(torch.tensor([True, False])), torch.zeros(3, 2), mask=KEEP[:, None])
    assert scored_elements(both).tolist() == [[True, False], [False, False], [True, False]]
    inside = node_of(fn.mask(torch.tensor([True, False])).to_event(1), torch.zeros(3, 2), mask=KEEP)
    assert scored_elements(inside).tolist() == [[True, False], [False, False], [True, False]]
    mixture = dist.MixtureSameFamily(dist.Categorical(torch.ones(3, 2)), fn.mask(KEEP[:, None]))
    assert scored_elements(node_of(mixture, torch.zeros(3))).tolist() == KEEP.tolist()
    assert scored_elements(node_of(fn, torch.zeros(3, 2))).all()


def test_the_log_density_has_the_mask_and_the_scale():
    y = torch.tensor([1.0, 2.0, 3.0])
    node = node_of(dist.Normal(torch.zeros(3), 1.0), y, mask=KEEP, scale=2.0)
    expected = torch.where(KEEP, 2 * dist.Normal(0.0, 1.0).log_prob(y), 0.0)
    torch.testing.assert_close(site_log_density(node), expected)
    assert site_log_density(node, torch.float64).dtype == torch.float64


@pytest.mark.parametrize(
    ("fn", "value", "dtype"),
    [
        (dist.Bernoulli(torch.full((2,), 0.5).double()), torch.tensor([0, 1]), torch.float64),
        (dist.Poisson(torch.ones(2)), torch.tensor([True, False]), torch.float32),
        (dist.Normal(torch.zeros(2), 1.0), torch.zeros(2), None),
    ],
    ids=["Bernoulli", "Poisson", "floats"],
)
def test_integers_are_converted_to_the_dtype_of_the_parameters(fn, value, dtype):
    assert dtype_to_score({"fn": fn, "value": value}) is dtype


@pytest.mark.parametrize(
    ("value", "change", "message"),
    [
        (1.0, {}, "expected y as a tensor at the observed site 'y', got float"),
        (torch.zeros(3), {}, r"expected y of shape \(2,\) at the observed site 'y', got \(3,\)"),
        (
            torch.zeros(2),
            {"mask": torch.ones(3)},
            r"expected a mask of shape \(2,\) at .* 'y', got \(3,\)",
        ),
        (torch.zeros(2), {"scale": torch.ones(2, 1)}, r"expected a scale of shape \(2,\) .* got \(2, 1\)"),
        (
            torch.tensor([0.0, torch.nan]),
            {},
            "expected finite values .* 1 of 2 nan or infinite, .* in row 1: nan",
        ),
    ],
)
def test_values_masks_and_scales_that_do_not_fit_are_refused(value, change, message):
    site = {"fn": dist.Normal(torch.zeros(2), 1.0), "value": value, "mask": None, "scale": 1.0} | change
    with pytest.raises(ValueError, match=message):
        check_site_value("y", site, list)
