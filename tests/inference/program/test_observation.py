"""The observation at a site, and integers and booleans as data of families that compute with floats."""

import pyro
import pyro.distributions as dist
import pytest
import torch

from posterity.inference import HMC, SVI, Ensemble, infer
from posterity.inference.program.observation import observe_as_numbers, observed_value, read_observation

N = 12
X = torch.linspace(-1, 1, N)
FAST = SVI(guide="map", steps=2, progress=False)
METHODS = {
    "SVI": FAST,
    "Ensemble": Ensemble(members=2, steps=2, engine="eager", progress=False),
    "HMC": HMC(chains=2, warmup=2, draws=2, engine="eager", progress=False),
}
COUNTS = {
    "Bernoulli": (lambda f: dist.Bernoulli(logits=f), 1),
    "Poisson": (lambda f: dist.Poisson(f.exp()), 2),
    "Geometric": (lambda f: dist.Geometric(logits=f), 2),
    "Binomial": (lambda f: dist.Binomial(3, logits=f), 3),
    "NegativeBinomial": (lambda f: dist.NegativeBinomial(3.0, logits=f), 3),
    "Categorical": (lambda f: dist.Categorical(logits=torch.stack([f, -f], -1)), 1),
}


def model_of(family):
    def model(x, y=None):
        slope = pyro.sample("slope", dist.Normal(0.0, 1.0))
        with pyro.plate("obs", len(x)):
            return pyro.sample("y", family(slope * x), obs=y)

    return model


KINDS = [torch.int64, torch.bool, torch.uint8, "numpy"]


@pytest.mark.parametrize(
    ("method", "kind"), [*(("SVI", kind) for kind in KINDS), ("Ensemble", torch.bool), ("HMC", torch.int64)]
)
def test_whole_numbers_and_truth_values_are_data_of_a_bernoulli(method, kind):
    model = model_of(COUNTS["Bernoulli"][0])
    y = (torch.arange(N) % 2).float()
    given = y.numpy().astype(int) if kind == "numpy" else y.to(kind)
    one, two = (infer(model, X, values, method=METHODS[method], seed=1) for values in (given, y))
    assert torch.equal(one.draws["slope"], two.draws["slope"])
    torch.testing.assert_close(one.log_likelihood(X, given), two.log_likelihood(X, y))
    one.to_arviz(X, given)


@pytest.mark.parametrize("name", [name for name in COUNTS if name != "Bernoulli"])
def test_counts_may_be_whole_numbers(name):
    family, count = COUNTS[name]
    model = model_of(family)
    y = torch.full((N,), count)
    one, two = (infer(model, X, values, method=FAST, seed=1) for values in (y, y.float()))
    torch.testing.assert_close(one.log_likelihood(X, y), two.log_likelihood(X, y.float()))


def test_the_value_is_that_of_the_site_with_its_plates_and_mask():
    keep = torch.tensor([[True, False, True]] * 2)

    def model(y):
        with pyro.plate("rows", 2, dim=-2), pyro.poutine.mask(mask=keep):
            return pyro.sample("log_y", dist.Normal(torch.zeros(2, 3), 1.0), obs=y.log())

    y = torch.arange(1.0, 7.0).reshape(2, 3)
    observation = read_observation(model, (y,), "log_y")
    torch.testing.assert_close(observation.value, y.log())
    torch.testing.assert_close(observed_value(model, (y,), "log_y"), y.log())
    assert torch.equal(observation.scored, keep)
    assert observation.plates == ("rows", None)
    assert observation.dtype is None


def test_integers_are_scored_as_floats_where_the_family_needs_them():
    model, y = model_of(COUNTS["Bernoulli"][0]), torch.ones(N, dtype=torch.int64)
    observation = read_observation(model, (X.double(), y), "y")
    assert observation.value.dtype == torch.int64
    assert observation.dtype == torch.float64  # that of the logits
    nodes = pyro.poutine.trace(observe_as_numbers(model, (X, y))).get_trace(X, y).nodes
    assert nodes["y"]["value"].dtype == torch.float32
    assert observe_as_numbers(model, (X, y.float())) is model


def test_a_missing_observation_is_named():
    with pytest.raises(ValueError, match=r"expected y, which the model observes at 'y', .*got 1 argument \(not given"):
        read_observation(model_of(COUNTS["Poisson"][0]), (X,), "y")
