"""Models that ``vmap`` cannot run: their predictions are those of one draw at a time."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn

from posterity.data import Standardization
from posterity.inference import HMC, SVI, Ensemble, Posterior, infer
from posterity.inference import arviz as boundary
from posterity.inference.program.batching import for_each_draw
from posterity.inference.program.likelihood import likelihood_over_draws
from posterity.inference.program.sites import inspect
from posterity.models import bayesian_mixture_density, mixture_density, mixture_head

N, S = 6, 4
X = torch.linspace(-1, 1, N)


class Recurrent(nn.Module):
    def __init__(self, kind, outputs):
        super().__init__()
        self.cell, self.output = kind(1, 2, batch_first=True), nn.Linear(2, outputs)

    def forward(self, x):
        return self.output(self.cell(x)[0])


FITS = {
    "SVI": (mixture_density, SVI(steps=2, progress=False)),
    "Ensemble": (mixture_density, Ensemble(members=2, steps=2, engine="eager", progress=False)),
    "Bayesian SVI": (bayesian_mixture_density, SVI(guide="mean_field", steps=2, draws=3, progress=False)),
    "HMC": (bayesian_mixture_density, HMC(chains=2, warmup=1, draws=2, engine="eager", progress=False)),
}
CASES = [
    pytest.param(fit, kind, marks=[pytest.mark.slow] if fit == "HMC" and kind is not nn.GRU else [])
    for fit in FITS
    for kind in (nn.LSTM, nn.GRU, nn.RNN)
]


@pytest.mark.filterwarnings("ignore:There is a performance drop")
@pytest.mark.parametrize(("fit", "kind"), CASES)
def test_recurrent_networks_fit_and_predict(fit, kind):
    pair, method = FITS[fit]
    x = torch.randn(5, 3, 1)
    y = x[..., 0].cumsum(1)
    head = mixture_head(2)
    net = Recurrent(kind, head.features)
    posterior = infer(pair(Standardization.whole(x, y), net=net, head=head), x, y, method=method)
    shape = (posterior.num_chains, posterior.num_draws, 5, 3)
    assert posterior.predictive(x).mean.shape == (5, 3)
    assert posterior.function_draws(x).shape == posterior.log_likelihood(x, y).shape == shape
    data = posterior.to_arviz(x, y, predict=x[:2])
    assert boundary.group(data, "log_likelihood")["y"].shape == shape
    for draw in range(posterior.num_draws):  # against Pyro, one draw at a time
        values = {name: value[0, draw] for name, value in posterior.draws.items()}
        with pyro.get_param_store().scope():
            conditioned = pyro.poutine.condition(pyro.poutine.lift(posterior.model, dist.Normal(0.0, 1.0)), values)
            fn = pyro.poutine.trace(conditioned).get_trace(x).nodes["y"]["fn"]
        torch.testing.assert_close(posterior.log_likelihood(x, y)[0, draw], fn.log_prob(y), rtol=1e-4, atol=1e-4)


def in_place(x, slope):
    mean = torch.zeros(len(x))
    mean[:] = slope * x
    return mean


def branches(x, slope):
    return slope * x if slope > 0 else 2 * slope * x


def by_number(x, slope):
    return float(slope) * x


def through_numpy(x, slope):
    return torch.from_numpy(slope.numpy() * x.numpy())


@pytest.mark.parametrize("mean", [in_place, branches, by_number, through_numpy])
def test_work_in_place_and_control_flow_are_run_draw_by_draw(mean):
    def model(x, y=None):
        slope = pyro.sample("slope", dist.Normal(0.0, 1.0))
        pyro.deterministic("double", 2 * slope)
        with pyro.plate("obs", len(x)):
            return pyro.sample("y", dist.Normal(mean(x, slope), 0.5), obs=y)

    draws = torch.linspace(-1, 1, S)
    likelihood, deterministics = likelihood_over_draws(model, (X,), {"slope": draws}, "y")
    expected = torch.stack([mean(X, slope) for slope in draws])
    torch.testing.assert_close(likelihood.mean, expected)
    torch.testing.assert_close(deterministics["double"], 2 * draws)
    posterior = Posterior(model, inspect(model, (X, X)), {"slope": draws[None]})
    torch.testing.assert_close(posterior.log_likelihood(X, X)[0], dist.Normal(expected, 0.5).log_prob(X))


def test_random_numbers_are_refused_draw_by_draw_too():
    def model(x, y=None):
        slope = float(pyro.sample("slope", dist.Normal(0.0, 1.0)))
        with pyro.plate("obs", len(x)):
            return pyro.sample("y", dist.Normal(slope * x + torch.randn(len(x)), 0.5), obs=y)

    state = torch.get_rng_state()
    with pytest.raises(ValueError, match="got a model that draws random numbers outside its sites"):
        likelihood_over_draws(model, (X,), {"slope": torch.zeros(S)}, "y")
    assert torch.equal(torch.get_rng_state(), state)


def test_a_family_that_changes_with_the_draw_is_an_error():
    def model(x, y=None):
        slope = pyro.sample("slope", dist.Normal(0.0, 1.0))
        family = dist.Normal if slope > 0 else dist.Laplace
        with pyro.plate("obs", len(x)):
            return pyro.sample("y", family(slope * x, 0.5), obs=y)

    with pytest.raises(ValueError, match="expected a likelihood of one family and shape"):
        likelihood_over_draws(model, (X,), {"slope": torch.linspace(-1, 1, S)}, "y")


def test_inputs_that_a_network_cannot_take_are_named():
    net = nn.Linear(2, 1)
    with pytest.raises(ValueError, match=r"expected a model that runs .* RuntimeError: mat1 and mat2 .*\(6,\) float32"):
        likelihood_over_draws(lambda x: pyro.sample("y", dist.Normal(net(x), 1.0)), (X,), {}, "y")


@pytest.mark.parametrize("chunk_size", [1, 3, 100])
def test_all_methods_give_the_results_of_a_loop(chunk_size):
    """With ``vmap``; with a layer that has no batching rule; with writes; with control flow on values."""
    draws = {"w": torch.randn(5, 2, generator=torch.Generator().manual_seed(0))}
    cell = nn.RNN(2, 3)

    def smooth(index, draw):
        return index * draw["w"].sum(), {"square": draw["w"] ** 2}

    def recurrent(index, draw):
        return index * 0 + cell(draw["w"][None])[0].detach(), {}

    def writing(index, draw):
        steps = torch.zeros(3)
        for t in range(1, 3):
            steps[t] = draw["w"].sum() + 0.5 * steps[t - 1]
        return steps, {"last": steps[-1]}

    def branching(index, draw):
        return draw["w"] if float(draw["w"].sum()) > 0 else -draw["w"], {}

    for function in (smooth, recurrent, writing, branching):
        found, rest = for_each_draw(function, 5, draws, {}, chunk_size)
        for number in range(5):
            expected, others = function(torch.tensor(number), {"w": draws["w"][number]})
            torch.testing.assert_close(found[number], expected)
            for name, value in others.items():
                torch.testing.assert_close(rest[name][number], value)
