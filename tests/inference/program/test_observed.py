import pyro
import pyro.distributions as dist
import pytest
import torch

from posterity.inference import HMC, SVI, Ensemble, Posterior, infer
from posterity.inference.program.sites import inspect

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


METHODS = {
    "SVI": FAST,
    "Ensemble": Ensemble(members=2, steps=2, progress=False),
    "HMC": HMC(chains=2, warmup=2, draws=2, engine="eager", progress=False),
}


@pytest.mark.parametrize("kind", [torch.int64, torch.bool, torch.uint8, "numpy"])
@pytest.mark.parametrize("method", METHODS)
def test_whole_numbers_and_truth_values_are_data_of_a_bernoulli(method, kind):
    model = model_of(OUTSIDE["Bernoulli"][0])
    y = (torch.arange(N) % 2).float()
    given = y.numpy().astype(int) if kind == "numpy" else y.to(kind)
    one, two = (infer(model, X, values, method=METHODS[method], seed=1) for values in (given, y))
    assert torch.equal(one.draws["slope"], two.draws["slope"])
    torch.testing.assert_close(one.log_likelihood(X, given), two.log_likelihood(X, y))
    one.to_arviz(X, given)


@pytest.mark.parametrize("name", ["Poisson", "Geometric", "Binomial", "NegativeBinomial", "Categorical"])
def test_counts_may_be_whole_numbers(name):
    family, good, _ = OUTSIDE[name]
    model = model_of(family)
    y = torch.full((N,), good)
    one, two = (infer(model, X, values, method=FAST, seed=1) for values in (y, y.float()))
    torch.testing.assert_close(one.log_likelihood(X, y), two.log_likelihood(X, y.float()))
