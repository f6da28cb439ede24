"""The model for all chains without a recording, and the errors of models and starts that cannot be sampled."""

import re

import pyro
import pyro.distributions as dist
import pytest
import torch

from posterity.inference.engine import Density, prepare
from posterity.inference.engine.evaluation import (
    ModelGradient,
    check_start,
    start_fault,
    value_and_gradient,
    why_not_finite,
)
from posterity.models import bayesian, gaussian
from tests.inference.engine.cases import CASES, X, Y, assert_close, branching, without_optimisation
from tests.inference.engine.cases import expected as expected_of


def evaluate(model, *args, chains=3):
    """The first evaluation of a run, and its check."""
    density = Density(model, args)
    positions = 0.1 * torch.ones(chains, density.dim, dtype=density.dtype)
    check_start(density, positions, *value_and_gradient(density, positions))


@pytest.mark.parametrize("name", ["hierarchical", "LKJ covariance", "float64 network"])
def test_all_chains_at_once_are_as_one_by_one(name):
    density = Density(CASES[name].model, CASES[name].args)
    for points, values, gradients in expected_of(name):
        assert_close(value_and_gradient(density, points), (values, gradients))


def reads_a_number(x, y=None):
    w = pyro.sample("w", dist.Normal(0.0, 1.0))
    return pyro.sample("y", dist.Normal(w.item() * x[:, 0] + w, 1.0).to_event(1), obs=y)


def reads_a_list(x, y=None):
    w = pyro.sample("w", dist.Normal(0.0, 1.0))
    return pyro.sample("y", dist.Normal(w.tolist() * x[:, 0] + w, 1.0).to_event(1), obs=y)


def reads_an_array(x, y=None):
    w = pyro.sample("w", dist.Normal(0.0, 1.0))
    return pyro.sample("y", dist.Normal(float(w.detach().numpy()) * x[:, 0] + w, 1.0).to_event(1), obs=y)


DROPOUT = torch.nn.Sequential(torch.nn.Linear(1, 4), torch.nn.Dropout(0.5), torch.nn.Linear(4, 1))


def drops_out(x, y=None):
    return pyro.sample("y", gaussian(bayesian("net", DROPOUT)(x), 0.3).to_event(1), obs=y)


def adds_noise(x, y=None):
    w = pyro.sample("w", dist.Normal(0.0, 1.0))
    return pyro.sample("y", dist.Normal(w * x[:, 0] + torch.randn(len(x)), 1.0).to_event(1), obs=y)


def subsampled(x, y=None):
    w = pyro.sample("w", dist.Normal(0.0, 1.0))
    with pyro.plate("obs", len(x), subsample_size=4) as rows:
        return pyro.sample("y", dist.Normal(w * x[rows, 0], 1.0), obs=y[rows])


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (
            branching,
            r"expected a model without control flow on sampled values .* branches at line \d+ of .*cases",
        ),
        (reads_a_number, "expected a model without control flow on sampled values"),
        (reads_a_list, "expected a model without control flow on sampled values"),
        (reads_an_array, "expected a model without control flow on sampled values"),
        (drops_out, "expected all randomness in pyro.sample statements .*, got a model that draws random numbers"),
        (adds_noise, "expected all randomness in pyro.sample statements .*, got a model that draws random numbers"),
        (subsampled, "expected all randomness in pyro.sample statements .*, got a model that draws random numbers"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_models_that_are_no_function_of_their_sites_are_refused(model, message):
    with pytest.raises(ValueError, match=message):
        evaluate(model, X, Y)


def in_place(x, y=None):
    w = pyro.sample("w", dist.Normal(0.0, 1.0))
    mean = torch.zeros(len(x))
    mean += w * x[:, 0]
    mean[::2] += 0 * w  # vmap has no rule for it
    return pyro.sample("y", dist.Normal(mean, 1.0).to_event(1), obs=y)


def test_what_vmap_cannot_do_runs_for_one_chain_at_a_time_and_is_said_with_its_line():
    density = Density(in_place, (X, Y))
    q = torch.tensor([[0.3], [-1.0]])
    exact = ModelGradient(density)
    expected = torch.stack([density(p) for p in q]), -q + ((Y - q * X[:, 0]) * X[:, 0]).sum(1, keepdim=True)
    for _ in range(2):
        assert_close(exact(q), expected)
    assert re.search(r"^one chain at a time, since vmap fails at line \d+ of .*test_evaluation", exact.reason)
    with pytest.warns(
        RuntimeWarning, match="the model runs on the tier 'eager': one chain at a time, since vmap fails"
    ):
        engine = prepare(density, q, tier="replay")
    assert_close(engine.gradient(q), expected)
    assert prepare(density, q, tier="compiled").kind == "lanes"  # the recording of a single chain


def hidden_write(x, y=None):
    w = pyro.sample("w", dist.Normal(torch.zeros(2), 1.0).to_event(1))
    mean = torch.zeros(len(x))
    mean[:2] = w
    with torch.no_grad():
        mean[0] = 0.0
    return pyro.sample("y", dist.Normal(mean * 2, 1.0).to_event(1), obs=y)


def transposed(x, y=None):
    w = pyro.sample("w", dist.Normal(torch.zeros(2), 1.0).to_event(1))
    table = torch.zeros(len(x), 2)
    table.T[:, 0] = w
    return pyro.sample("y", dist.Normal(table.view(-1).cumsum(0)[: len(x)], 1.0).to_event(1), obs=y)


def own_product(x, y=None):
    w = pyro.sample("w", dist.Normal(torch.zeros(2), 1.0).to_event(1))
    mean = w[0] * x[:, 0]
    mean[1:] += w[1]
    return pyro.sample("y", dist.Normal(mean, 1.0).to_event(1), obs=y)


@pytest.mark.filterwarnings("ignore:the model runs")
@pytest.mark.parametrize("tier", ["eager", "replay", "compiled"])
@pytest.mark.parametrize("model", [hidden_write, transposed, own_product])
def test_models_that_write_have_the_gradient_of_autograd(model, tier, monkeypatch):
    without_optimisation(monkeypatch)
    density = Density(model, (X, Y))
    q = torch.randn(3, 2, generator=torch.Generator().manual_seed(0))
    expected = []
    for point in q:  # by Pyro, without this engine
        leaf = point.clone().requires_grad_()
        joint = pyro.poutine.trace(pyro.condition(model, data={"w": leaf})).get_trace(X, Y).log_prob_sum()
        expected.append((joint.detach(), torch.autograd.grad(joint, leaf)[0]))
    expected = tuple(torch.stack(part) for part in zip(*expected, strict=True))
    assert_close(prepare(density, q, tier=tier, threads=1).gradient(q), expected)


def root(x, y=None):
    w = pyro.sample("w", dist.Normal(0.0, 1.0))
    slope = pyro.sample("slope", dist.Normal(0.0, 1.0))
    mean = torch.where(w > -1, slope, (-1 - w).sqrt()) * x[:, 0]
    return pyro.sample("y", dist.Normal(mean, 1.0).to_event(1), obs=y)


def test_a_gradient_that_is_nan_names_its_site():
    with pytest.raises(ValueError, match=r"expected a finite gradient at the start, got nan .* the sites \['w'\]"):
        evaluate(root, X, Y)


def test_a_start_of_no_density_is_refused():
    def model(x, y=None):
        w = pyro.sample("w", dist.Normal(0.0, 1.0))
        return pyro.sample("y", dist.Uniform(w, w + 1.0).expand(x.shape[:1]).to_event(1), obs=y)

    with pytest.raises(ValueError, match=r"expected starts inside the support, .*, got -inf in 3 of 3 chains"):
        evaluate(model, X, 10 + Y.abs())


def test_faulty_starts_are_counted_and_named_by_their_chains():
    def model(x, y=None):
        w = pyro.sample("w", dist.Normal(0.0, 1.0))
        return pyro.sample("y", dist.Normal(x[:, 0], w).to_event(1), obs=y)

    density = Density(model, (X, Y))
    positions = torch.tensor([1.0, -1.0, 2.0, -3.0])[:, None]
    fault, reason = start_fault(density, positions, *value_and_gradient(density, positions))
    assert fault == "starts inside the support, with a finite log density, got nan in 2 of 4 chains (1, 3)"
    assert "Expected parameter scale" in reason
    assert why_not_finite(density, positions[0]) == ""
    assert start_fault(density, positions[::2], *value_and_gradient(density, positions[::2])) == ("", "")
    many = -torch.ones(9, 1)
    assert start_fault(density, many, *value_and_gradient(density, many))[0].endswith(
        "9 of 9 chains (0, 1, 2, 3, 4, ...)"
    )
