"""`trace`: draws of the prior at which a model cannot be run, flat priors, precision and errors of the model."""

import contextlib

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn

from posterity.inference.program.observation import observed_value
from posterity.inference.program.sites import inspect
from posterity.inference.program.trace import default_dtype, model_failure, trace, unwrap_pair, widest_dtype

N = 6
X = torch.linspace(-1, 1, N)[:, None]


def test_a_flat_prior_is_drawn_between_minus_two_and_two_in_unconstrained_space():
    def model(x, y=None):
        a = pyro.sample("a", dist.ImproperUniform(dist.constraints.real, (), (50,)))
        s = pyro.sample("s", dist.ImproperUniform(dist.constraints.positive, (), (50,)))
        with pyro.plate("obs", len(x)):
            return pyro.sample("y", dist.Normal(a.sum() * x[:, 0], s.sum()), obs=y)

    assert inspect(model, (X, torch.zeros(N))).latents == ("a", "s")
    assert torch.equal(observed_value(model, (X, torch.ones(N)), "y"), torch.ones(N))
    nodes = trace(model, (X, torch.ones(N)), seed=0)
    for free in (nodes["a"]["value"], nodes["s"]["value"].log()):
        assert float(free.abs().max()) <= 2
        assert abs(float(free.var()) - 4 / 3) < 5 * 1.2 / 50**0.5  # five standard errors; the kurtosis is 1.8


@pytest.mark.parametrize("kind", ["matrix", "scale", "scale at no draw"])
def test_a_draw_of_the_prior_at_which_the_model_is_not_defined_is_not_the_end(kind):
    """The first draw of r is 0.77: the matrix then has no Cholesky factor, and the scale is negative."""

    def model(x, y=None):
        r = pyro.sample("r", dist.Normal(0.0, 0.5))
        if kind == "matrix":
            torch.linalg.cholesky(torch.eye(20) - (1 - torch.eye(20)) * r)
        scale = {"matrix": 1.0, "scale": 0.3 - r, "scale at no draw": r - 9.0}[kind]
        with pyro.plate("obs", len(x)):
            return pyro.sample("y", dist.Normal(x[:, 0], scale), obs=y)

    assert inspect(model, (X, torch.zeros(N))).latents == ("r",)


def test_an_error_of_the_model_s_own_is_raised_as_it_is():
    def model(x, y=None):
        pyro.sample("w", dist.Normal(0.0, 1.0))
        raise ValueError("no such table")

    with pytest.raises(ValueError, match=r"^no such table"):
        trace(model, (X, torch.zeros(N)), seed=0)


def test_other_errors_come_with_the_shapes_of_the_arguments():
    with pytest.raises(ValueError, match=r"RuntimeError: mat1 and mat2 .*\(arguments: \(6, 1\) float32, None\)"):
        trace(lambda x, y: nn.Linear(3, 1)(x), (X, None), seed=0)
    failure = model_failure(KeyError("age\nmore lines"), ("a",))
    assert str(failure).endswith("got KeyError: 'age\\nmore lines' (arguments: str)")


def test_a_model_that_writes_into_its_data_is_refused():
    def model(data):
        data["x"] -= data["x"].mean()
        slope = pyro.sample("slope", dist.Normal(0.0, 1.0))
        return pyro.sample("y", dist.Normal(slope * data["x"], 1.0).to_event(1), obs=data["y"])

    with pytest.raises(
        ValueError, match="expected a model that does not write into its arguments, got one that changes"
    ):
        trace(model, ({"x": torch.ones(N), "y": torch.ones(N)},), seed=0)


def test_a_seed_is_a_draw_and_the_callers_state_is_untouched():
    def model():
        return pyro.sample("w", dist.Normal(pyro.param("loc", torch.tensor(3.0)), 1.0))

    pyro.param("loc", torch.tensor(8.0))
    state = torch.get_rng_state()
    one, two, other = (float(trace(model, (), seed=seed)["w"]["value"].detach()) for seed in (1, 1, 2))
    assert one == two != other
    assert abs(one - 3) < 5  # the parameter of the model, not the caller's
    assert torch.equal(torch.get_rng_state(), state)
    assert float(pyro.param("loc").detach()) == 8.0


def test_float64_data_meet_a_prior_of_float32():
    def model(x, y=None):
        w = pyro.sample("w", dist.Normal(torch.zeros(1, dtype=torch.get_default_dtype()), 1.0).to_event(1))
        return pyro.sample("y", dist.Normal(x @ w, 1.0).to_event(1), obs=y)

    nodes = trace(model, (X.double(), torch.zeros(N).double()), seed=0)
    assert nodes["w"]["value"].dtype == torch.float64
    assert torch.get_default_dtype() == torch.float32


def test_the_widest_dtype_and_the_default():
    values = [1.0, torch.zeros(1, dtype=torch.int64), torch.zeros(1), torch.zeros(1, dtype=torch.float16)]
    assert widest_dtype(values, torch.float16) == torch.float32
    assert widest_dtype([], torch.bfloat16) == torch.bfloat16
    with default_dtype(torch.float64):
        assert torch.tensor(1.0).dtype == torch.float64
    with contextlib.suppress(RuntimeError), default_dtype(torch.float64):
        raise RuntimeError("inside")
    assert torch.get_default_dtype() == torch.float32
    with default_dtype(None):
        assert torch.get_default_dtype() == torch.float32


def test_only_a_pair_is_unwrapped():
    class Pair:
        model, guide = print, abs

    class Wrapper:
        model = print

    assert unwrap_pair(Pair) is print
    assert unwrap_pair(Wrapper) is Wrapper
    assert unwrap_pair(abs) is abs
