import math

import pyro
import pyro.distributions as dist
import pytest
import torch

from posterity.inference import HMC, NUTS, SVI, Method, Posterior, infer
from posterity.models import empty_guide, gaussian, mlp, point


def model(x, y=None):
    w = pyro.sample("w", dist.Normal(0.0, 1.0))
    with pyro.plate("obs", len(x)):
        return pyro.sample("y", dist.Normal(w * x, 1.0), obs=y)


X, Y = torch.linspace(-1, 1, 5), torch.linspace(-2, 2, 5)
METHODS = {
    "NUTS": NUTS(draws=3, warmup=3, chains=1, progress=False),
    "HMC": HMC(draws=3, warmup=3, chains=1, progress=False),
    "SVI": SVI(steps=3, draws=3, progress=False),
}


@pytest.mark.parametrize("name", METHODS)
def test_changing_the_method_is_changing_one_word(name):
    posterior = infer(model, X, Y, method=METHODS[name], seed=1)
    assert isinstance(METHODS[name], Method)
    assert isinstance(posterior, Posterior)
    assert posterior.draws["w"].shape == (1, 3)
    assert posterior.attrs["method"] == name
    assert posterior.attrs["seed"] == 1
    assert posterior.attrs["seconds"] > 0
    assert posterior.attrs["interrupted"] == 0


@pytest.mark.parametrize("name", METHODS)
def test_global_state_and_parameters_of_the_caller_are_untouched(name):
    pyro.param("w", torch.tensor(7.0))
    pyro.param("AutoNormal.locs.w", torch.tensor(8.0))
    state = torch.get_rng_state()
    infer(model, X, Y, method=METHODS[name])
    assert torch.equal(torch.get_rng_state(), state)
    assert set(pyro.get_param_store()) == {"w", "AutoNormal.locs.w"}
    assert pyro.param("AutoNormal.locs.w") == 8.0


@pytest.mark.parametrize("name", METHODS)
def test_the_same_seed_gives_the_same_draws_and_another_seed_others(name):
    torch.manual_seed(5)
    first = infer(model, X, Y, method=METHODS[name], seed=1)
    torch.manual_seed(6)
    second, other = (infer(model, X, Y, method=METHODS[name], seed=seed) for seed in (1, 2))
    assert torch.equal(first.draws["w"], second.draws["w"])
    assert not torch.equal(first.draws["w"], other.draws["w"])


def test_a_pair_brings_its_guide():
    class Pair:
        net = mlp(1, 1, seed=0)
        guide = staticmethod(empty_guide)

        @staticmethod
        def model(x, y=None):
            features = point("net", Pair.net)(x[:, None])
            with pyro.plate("obs", len(x)):
                return pyro.sample("y", gaussian(features, 1.0), obs=y)

    assert set(infer(Pair(), X, Y, method=METHODS["SVI"]).draws) == {"net.output.weight", "net.output.bias"}


def test_the_observed_site_is_named_where_there_are_several():
    def two(x, y=None):
        w = pyro.sample("w", dist.Normal(0.0, 1.0))
        with pyro.plate("obs", len(x)):
            pyro.sample("a", dist.Normal(w, 1.0), obs=y)
            pyro.sample("b", dist.Normal(w * x, 1.0), obs=y)

    with pytest.raises(ValueError, match=r"expected one observed site or the name of one \(site=...\)"):
        infer(two, X, Y, method=METHODS["SVI"])
    assert infer(two, X, Y, method=METHODS["SVI"], site="b").program.site == "b"


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("position", [0, 1])
def test_values_that_are_not_finite_raise(value, position):
    args = [X.clone(), Y.clone()]
    args[position][2:4] = value
    with pytest.raises(ValueError, match=f"expected finite values, got 2 that are not in argument {position}"):
        infer(model, *args, method=METHODS["SVI"])


def test_lengths_that_differ_raise():
    with pytest.raises(ValueError, match=r"expected arguments with the same number of rows, got \[5, 4\]"):
        infer(model, X, Y[:4], method=METHODS["SVI"])


def test_empty_data_raise():
    with pytest.raises(ValueError, match=r"expected data, got an empty argument 0 of shape \(0,\)"):
        infer(model, X[:0], Y[:0], method=METHODS["SVI"])


@pytest.mark.parametrize("args", [(), ("a", None)])
def test_no_tensor_raises(args):
    with pytest.raises(ValueError, match=f"got {len(args)} arguments and no tensor"):
        infer(model, *args, method=METHODS["SVI"])


@pytest.mark.parametrize("method", ["NUTS", None, 3])
def test_what_is_no_method_raises(method):
    with pytest.raises(ValueError, match=r"expected a method such as NUTS\(\), HMC\(\) or SVI\(\), got"):
        infer(model, X, Y, method=method)


def test_a_class_instead_of_settings_raises():
    with pytest.raises(ValueError, match="expected a method such as"):
        infer(model, X, Y, method=NUTS)


def test_a_model_without_an_observed_site_raises():
    with pytest.raises(ValueError, match="expected a model with an observed site"):
        infer(lambda x, y: model(x), X, Y, method=METHODS["SVI"])
