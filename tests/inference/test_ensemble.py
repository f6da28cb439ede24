"""Ensembles against closed forms: least squares, ridge regression, and the same members alone."""

import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.nn import PyroModule
from torch import nn

from posterity.data import Standardization, inverse_sine
from posterity.inference import SVI, Ensemble, infer, members_descent
from posterity.models import (
    bayesian,
    gaussian,
    mixture_density,
    mlp,
    point,
)
from posterity.models.priors import Normal

GENERATOR = torch.Generator().manual_seed(0)
X = torch.randn(80, 3, generator=GENERATOR)
Y = X @ torch.tensor([1.0, -2.0, 0.5]) + 0.7 + 0.3 * torch.randn(80, generator=GENERATOR)
DESIGN = torch.cat([X, torch.ones(80, 1)], 1)
LAYER = nn.Linear(3, 1)
QUICK = {"members": 3, "steps": 600, "learning_rate": 0.05, "engine": "replay", "progress": False}


def maximum_likelihood(x, y=None):
    features = point("net", LAYER)(x)
    with pyro.plate("obs", len(x)):
        return pyro.sample("y", gaussian(features, 0.3), obs=y)


def maximum_a_posteriori(x, y=None):
    features = bayesian("net", LAYER, Normal(scale=0.2, fan_in=False))(x)
    with pyro.plate("obs", len(x)):
        return pyro.sample("y", gaussian(features, 0.3), obs=y)


def noisy(x, y=None):
    """A positive latent site beside the weights: its mode is in its own space."""
    features = point("net", LAYER)(x)
    noise = pyro.sample("noise", dist.HalfNormal(torch.tensor(10.0)))
    with pyro.plate("obs", len(x)):
        return pyro.sample("y", gaussian(features, noise), obs=y)


def weights(posterior):
    values = posterior.draws
    return torch.cat([values["net.weight"][0, :, 0], values["net.bias"][0]], -1)


@pytest.mark.parametrize("engine", ["eager", "replay", "compiled"])
def test_every_member_is_least_squares_where_that_is_the_only_maximum(engine):
    posterior = infer(maximum_likelihood, X, Y, method=Ensemble(**(QUICK | {"engine": engine})), seed=0)
    expected = torch.linalg.lstsq(DESIGN, Y[:, None]).solution[:, 0]
    assert posterior.attrs["tier"] == engine
    torch.testing.assert_close(weights(posterior), expected.expand(3, 4), atol=2e-4, rtol=0)


class OfPyro(PyroModule):
    def __init__(self):
        super().__init__()
        self.layer = PyroModule[nn.Linear](3, 1)

    def forward(self, x, y=None):
        features = self.layer(x)
        with pyro.plate("obs", len(x)):
            return pyro.sample("y", gaussian(features, 0.3), obs=y)


def under_pyro_module(x, y=None):
    features = pyro.module("layer", LAYER)(x)
    with pyro.plate("obs", len(x)):
        return pyro.sample("y", gaussian(features, 0.3), obs=y)


@pytest.mark.parametrize(("model", "between"), [(OfPyro(), "."), (under_pyro_module, "$$$")], ids=["own", "module"])
def test_parameters_of_modules_are_fitted(model, between):
    """Modules read their parameters as attributes, past Pyro; predictions are those of the members."""
    before = [value.clone() for value in LAYER.parameters()]
    posterior = infer(model, X, Y, method=Ensemble(**QUICK), seed=0)
    exact = torch.linalg.lstsq(DESIGN, Y[:, None]).solution[:, 0]
    weight, bias = (posterior.draws[f"layer{between}{name}"][0] for name in ("weight", "bias"))
    torch.testing.assert_close(torch.cat([weight[:, 0], bias], -1), exact.expand(3, 4), atol=2e-4, rtol=0)
    torch.testing.assert_close(posterior.predictive(X).mean, DESIGN @ exact, atol=2e-3, rtol=0)
    assert all(torch.equal(one, other) for one, other in zip(before, LAYER.parameters(), strict=True))


@pytest.mark.parametrize("engine", ["eager", "replay", "compiled"])
def test_the_first_member_takes_the_steps_that_pyro_takes(engine):
    """`SVI` with few steps differentiates Pyro's own bound; without random numbers both are equal to rounding."""
    settings = {"steps": 100, "learning_rate": 0.02, "progress": False}
    members = infer(maximum_likelihood, X, Y, method=Ensemble(members=3, engine=engine, **settings), seed=0)
    alone = infer(maximum_likelihood, X, Y, method=SVI(**settings), seed=0)
    assert alone.attrs["engine"] == "pyro"
    torch.testing.assert_close(members.history["loss"][:, 0], alone.history["loss"], rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(weights(members)[0], weights(alone)[0], rtol=1e-4, atol=1e-5)


def test_few_members_are_replayed():
    """A block of compiled chains takes as long for one as for sixteen."""
    settings = {"members": 3, "steps": 1000, "learning_rate": 0.05, "progress": False}
    assert infer(maximum_likelihood, X, Y, method=Ensemble(**settings), seed=0).attrs["tier"] == "replay"


def test_a_prior_makes_it_ridge_regression():
    posterior = infer(maximum_a_posteriori, X, Y, method=Ensemble(**QUICK), seed=0)
    precision = DESIGN.T @ DESIGN / 0.09 + torch.eye(4) / 0.04
    expected = torch.linalg.solve(precision, DESIGN.T @ Y / 0.09)
    torch.testing.assert_close(weights(posterior), expected.expand(3, 4), atol=2e-4, rtol=0)


def test_the_mode_of_a_positive_site_is_in_its_own_space():
    """With a wide prior the residual's root mean square, and not what a log determinant would make of it."""
    posterior = infer(noisy, X, Y, method=Ensemble(**QUICK), seed=0)
    residual = Y - DESIGN @ torch.linalg.lstsq(DESIGN, Y[:, None]).solution[:, 0]
    torch.testing.assert_close(
        posterior.draws["noise"][0], residual.square().mean().sqrt().expand(3), atol=1e-3, rtol=0
    )


def test_batches_lead_to_the_same_place():
    settings = {**QUICK, "steps": 2500, "final_rate": 1e-4}
    posterior = infer(maximum_a_posteriori, X, Y, method=Ensemble(**settings, batch_size=20), seed=0)
    whole = infer(maximum_a_posteriori, X, Y, method=Ensemble(**QUICK), seed=0)
    assert posterior.attrs["tier"] == "replay"
    # The scale of the prior against the data would move every weight by more than this.
    torch.testing.assert_close(weights(posterior), weights(whole), atol=0.02, rtol=0)


def model_of_many_ways(x, y=None):
    features = point("net", NET)(x)
    with pyro.plate("obs", len(x)):
        return pyro.sample("y", gaussian(features, 0.3), obs=y)


NET = mlp(3, 8, 1, seed=0)
SHORT = {"steps": 60, "progress": False, "engine": "eager"}


def test_members_start_apart_and_do_not_depend_on_how_many_there_are():
    few = infer(model_of_many_ways, X, Y, method=Ensemble(members=2, **SHORT), seed=3)
    many = infer(model_of_many_ways, X, Y, method=Ensemble(members=4, **SHORT), seed=3)
    one, two = few.draws["net.hidden1.weight"][0]
    assert float((one - two).abs().max()) > 0.05
    torch.testing.assert_close(many.draws["net.hidden1.weight"][0, :2], few.draws["net.hidden1.weight"][0])


def test_one_seed_one_result_and_no_random_state_is_touched():
    torch.manual_seed(5)
    before = torch.get_rng_state()
    method = Ensemble(members=2, **(SHORT | {"steps": 10}))
    runs = [infer(model_of_many_ways, X, Y, method=method, seed=s) for s in (1, 1, 2)]
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(runs[0].draws["net.output.bias"], runs[1].draws["net.output.bias"])
    assert not torch.equal(runs[0].draws["net.output.bias"], runs[2].draws["net.output.bias"])
    assert len(pyro.get_param_store()) == 0


def test_it_predicts_with_the_mixture_of_its_members():
    posterior = infer(model_of_many_ways, X, Y, method=Ensemble(members=3, **SHORT), seed=0)
    predictive = posterior.predictive(X[:5])
    assert predictive.num_components == 3
    torch.testing.assert_close(predictive.mean, posterior.function_draws(X[:5])[0].mean(0))
    torch.testing.assert_close(predictive.epistemic, posterior.function_draws(X[:5])[0].var(0, correction=0))


def test_each_member_keeps_its_best_and_the_best_are_kept():
    data = inverse_sine(200, seed=0)
    pair = mixture_density(Standardization.fit(data), components=6, hidden=(30,))
    settings = {
        "members": 4,
        "steps": 1200,
        "learning_rate": 0.03,
        "holdout": 0.25,
        "progress": False,
    }
    every = infer(pair, data.x, data.y, method=Ensemble(**settings), seed=0)
    two = infer(pair, data.x, data.y, method=Ensemble(**settings, keep=2), seed=0)
    held_out = every.history["held_out"]
    assert held_out.shape[1] == 4
    best = held_out.max(0).values
    assert bool((best > held_out[-1] + 1e-3).any())  # it overfits: the last is not the best
    kept = best.argsort(descending=True)[:2].sort().values
    name = next(iter(every.draws))
    torch.testing.assert_close(two.draws[name][0], every.draws[name][0, kept])
    torch.testing.assert_close(two.history["held_out"], held_out[:, kept])
    assert two.attrs["best_score"] == pytest.approx(float(best.max()))


def test_training_stops_when_no_member_gets_better():
    settings = {**QUICK, "steps": 20_000, "holdout": 0.3, "check_every": 20, "patience": 3}
    posterior = infer(maximum_likelihood, X, Y, method=Ensemble(**settings), seed=0)
    assert len(posterior.history["loss"]) < 20_000
    scores, steps = posterior.history["held_out"], posterior.history["held_out_step"]
    assert scores.shape == steps.shape
    assert bool((steps == 20.0 * torch.arange(1, len(steps) + 1)[:, None]).all())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"members": 0}, "expected members to be a whole number of 1 or more, got 0"),
        ({"steps": 0}, "expected steps to be a whole number of 1 or more, got 0"),
        ({"learning_rate": 0.0}, "expected learning_rate to be a finite number above 0, got 0.0"),
        ({"holdout": 1.0}, r"expected holdout to be a number in \[0, 1\), got 1.0"),
        ({"members": 3, "keep": 4}, "expected keep to be a whole number from 1 to 3, got 4"),
        ({"batch_size": 0}, "expected batch_size to be a whole number of 1 or more, got 0"),
        ({"engine": "jax"}, "expected engine to be one of .*, got 'jax'"),
    ],
)
def test_bad_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        Ensemble(**settings)


def test_data_and_models_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="expected a batch_size of at most 80 rows, got 81"):
        infer(maximum_likelihood, X, Y, method=Ensemble(batch_size=81), seed=0)
    with pytest.raises(ValueError, match="expected rows left to train on, got 80 rows and 80 held out"):
        infer(maximum_likelihood, X, Y, method=Ensemble(holdout=0.999), seed=0)

    def nothing(x, y=None):
        with pyro.plate("obs", len(x)):
            return pyro.sample("y", dist.Normal(0.0, torch.ones(len(x))), obs=y)

    with pytest.raises(ValueError, match="expected a model with latent sites or parameters to fit, got none"):
        infer(nothing, X, Y, method=Ensemble(), seed=0)


def test_the_log_score_of_an_ensemble_is_not_below_its_members_average():
    """Jensen: the mixture of predictions scores at least the mean of the scores."""
    posterior = infer(model_of_many_ways, X, Y, method=Ensemble(members=4, **SHORT), seed=0)
    alone = posterior.log_likelihood(X, Y)[0]
    together = posterior.predictive(X).log_prob(Y)
    assert bool((together >= alone.mean(0) - 1e-5).all())
    torch.testing.assert_close(together, torch.logsumexp(alone, 0) - math.log(4))


@pytest.mark.parametrize("batch_size", [None, 10])
def test_a_second_model_with_the_same_names_is_another(batch_size):
    """Nothing of one fit is left in Pyro's store: a network of other widths and the caller's own values are met."""

    def of_width(width):
        net = mlp(1, width, 1, seed=0)

        def model(x, y=None):
            with pyro.plate("obs", len(x)):
                return pyro.sample("y", dist.Normal(point("net", net)(x)[:, 0], 1.0), obs=y)

        return model

    with pyro.get_param_store().scope():
        pyro.param("net.output.bias", torch.tensor([7.0]))
        method = Ensemble(members=2, steps=20, batch_size=batch_size, progress=False)
        for width in (3, 5):
            posterior = infer(of_width(width), X[:, :1], Y, method=method, seed=0)
            assert posterior.draws["net.hidden1.weight"].shape == (1, 2, width, 1)
        assert list(pyro.get_param_store()) == ["net.output.bias"]
        assert float(pyro.param("net.output.bias").detach()) == 7.0


def rows(n=60):
    torch.manual_seed(0)
    x = torch.randn(n, 1)
    return x, x[:, 0] + 0.1 * torch.randn(n)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"restarts": 0.5}, "expected restarts to be a whole number of 0 or more"),
        ({"restarts": True}, "expected restarts to be a whole number of 0 or more"),
        ({"keep": 1.5}, "expected keep to be a whole number of 1 or more"),
        ({"threads": -3}, "expected threads to be a whole number of 1 or more"),
        ({"threads": 1.5}, "expected threads to be a whole number of 1 or more"),
    ],
)
def test_settings_of_ensembles_are_whole_numbers(settings, message):
    with pytest.raises(ValueError, match=message):
        Ensemble(**settings)


def test_varied_values_have_the_parameters_shape():
    x, y = rows()
    scale = Standardization(torch.zeros(1), torch.ones(1), torch.tensor(0.0), torch.tensor(1.0))
    pair = mixture_density(scale, components=2, hidden=(4,), swept=("decay",))
    with pytest.raises(ValueError, match=r"expected 1 numbers of 'decay' .* of shape \(2, 3\)"):
        Ensemble(members=2, steps=1, vary={"decay": torch.ones(2, 3)}, progress=False).run(pair.model, x, y, seed=0)


def test_an_interrupt_keeps_what_is_fitted(monkeypatch):
    count, step = iter(range(100)), members_descent.MembersDescent._step

    def stop(self, share, losses):
        if next(count) == 30:
            raise KeyboardInterrupt
        step(self, share, losses)

    monkeypatch.setattr(members_descent.MembersDescent, "_step", stop)
    with pytest.warns(RuntimeWarning, match=r"Ensemble was interrupted and returns its members .* 30 of 60"):
        posterior = infer(model_of_many_ways, X, Y, method=Ensemble(members=2, **SHORT), seed=0)
    assert posterior.attrs["interrupted"] == 1
    assert len(posterior.history["loss"]) == 30
    assert float(posterior.history["loss"][-1].mean()) < float(posterior.history["loss"][0].mean())


def test_a_step_into_infinity_is_taken_back_and_one_too_many_is_said(monkeypatch):
    def exploding(x, y=None):
        w = pyro.param("w", torch.tensor(0.5))
        with pyro.plate("obs", len(x)):
            return pyro.sample("y", dist.Normal(torch.exp(w * 3).exp().expand(len(x)), 1.0), obs=y)

    method, y = (
        Ensemble(members=1, learning_rate=1e3, steps=400, progress=False, engine="eager"),
        torch.full((80,), 1e6),
    )
    posterior = infer(exploding, X, y, method=method, seed=0)
    loss = posterior.history["loss"]
    assert bool(torch.isfinite(loss).all())
    assert len(loss) == 400
    monkeypatch.setattr(members_descent, "FAILURES", 0)
    with pytest.raises(ValueError, match=r"expected a finite log joint, got .* try a learning_rate below 1000"):
        infer(exploding, X, y, method=method, seed=0)
