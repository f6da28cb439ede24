"""The ways to give data to `infer`: the log joint is that of Pyro's ``MCMC.run`` with the same arguments.

Models and arguments in a table, each compared with Pyro's potential at random points: 1e-10 relative in float64, 1e-5
in float32, which is a hundred times the rounding of a sum of twelve terms.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer.mcmc.util import initialize_model

from posterity.inference import HMC, NUTS, SVI, Blocks, Ensemble, Posterior, infer, resume
from posterity.inference.diagnostics import convergence_report
from posterity.inference.engine import Density
from posterity.inference.mcmc import reference

GENERATOR = np.random.default_rng(0)
X = GENERATOR.normal(size=12)
COUNTY = np.arange(12) % 3
URANIUM = np.array([0.3, -0.5, 1.0])
Y = 0.5 * X + URANIUM[COUNTY] + GENERATOR.normal(size=12)
TX, TY, TC, TU = (torch.from_numpy(a) for a in (X, Y, COUNTY, URANIUM))
SHORT = NUTS(draws=6, warmup=6, chains=2, engine="eager", progress=False)


def line(x, y):
    slope = pyro.sample("slope", dist.Normal(0.0, 1.0))
    with pyro.plate("obs", len(x)):
        return pyro.sample("y", dist.Normal(slope * x, 1.0), obs=y)


def keyword_only(x, *, y=None):
    return line(x, y)


def any_keywords(**data):
    return line(data["x"], data.get("y"))


def dictionary(data):
    return line(data["x"], data.get("y"))


def nested(data, *, scale=1.0):
    return line(data["inputs"]["x"] * scale, data.get("y"))


def closure():
    return line(TX, TY)


def radon(x, county, uranium, y=None):
    effect = pyro.sample("effect", dist.Normal(0.0, 1.0))
    with pyro.plate("counties", len(uranium)):
        level = pyro.sample("level", dist.Normal(effect * uranium, 1.0))
    slope = pyro.sample("slope", dist.Normal(0.0, 1.0))
    with pyro.plate("obs", len(x)):
        return pyro.sample("y", dist.Normal(level[county] + slope * x, 1.0), obs=y)


def factor_alone(x, y):
    slope = pyro.sample("slope", dist.Normal(0.0, 1.0))
    pyro.factor("fit", -(y - slope * x).abs().sum())


def two_sites(x, y=None, z=None):
    slope = pyro.sample("slope", dist.Normal(0.0, 1.0))
    with pyro.plate("obs", len(x)):
        pyro.sample("y", dist.Normal(slope * x, 1.0), obs=y)
    with pyro.plate("groups", 3):
        pyro.sample("z", dist.Normal(slope, 2.0), obs=z)


def loop(x, y=None):
    slope = pyro.sample("slope", dist.Normal(0.0, 1.0))
    for i in pyro.plate("obs", len(x)):
        pyro.sample(f"y_{i}", dist.Normal(slope * x[i], 1.0), obs=None if y is None else y[i])


def in_place(x, y=None):
    slope = pyro.sample("slope", dist.Normal(0.0, 1.0))
    mean = torch.empty_like(x)
    mean[0] = 0.0
    for t in range(1, len(x)):
        mean[t] = slope * x[t] + 0.5 * mean[t - 1]
    with pyro.plate("obs", len(x)):
        return pyro.sample("y", dist.Normal(mean, 1.0), obs=y)


def markov(y):
    scale, state = pyro.sample("scale", dist.HalfNormal(1.0)), 0.0
    for i in pyro.markov(range(len(y))):
        state = pyro.sample(f"state_{i}", dist.Normal(state, scale))
        pyro.sample(f"y_{i}", dist.Normal(state, 1.0), obs=y[i])


@dataclass
class Options:
    power: int = 2


def with_settings(x, kind, count, function, module, options, y=None):
    assert (kind, count) == ("linear", 3)
    return line(function(module(x[:, None])[:, 0] ** options.power), y)


LINEAR = torch.nn.Linear(1, 1).double().requires_grad_(False)
FRAME = {"x": X, "y": Y}


@dataclass(frozen=True)
class Door:
    """Arguments for `infer`, and for Pyro where it needs tensors."""

    model: Callable[..., Any]
    args: tuple[Any, ...] = ()
    named: dict[str, Any] = field(default_factory=dict)
    pyro_args: tuple[Any, ...] | None = None
    pyro_named: dict[str, Any] | None = None
    sites: tuple[str, ...] = ("y",)


DOORS = {
    "keyword alone": Door(keyword_only, (TX,), {"y": TY}),
    "keywords": Door(any_keywords, (), {"y": TY, "x": TX}),
    "arrays": Door(keyword_only, (X,), {"y": Y}, (TX,), {"y": TY}),
    "pandas": Door(keyword_only, (pd.Series(X),), {"y": pd.Series(Y)}, (TX,), {"y": TY}),
    "polars": Door(any_keywords, (), pl.DataFrame(FRAME).to_dict(), (), {"x": TX, "y": TY}),
    "dictionary": Door(dictionary, (FRAME,), {}, ({"x": TX, "y": TY},)),
    "dictionary of a frame": Door(dictionary, (dict(pd.DataFrame(FRAME)),), {}, ({"x": TX, "y": TY},)),
    "dictionary of lists": Door(
        dictionary, ({"x": X.tolist(), "y": Y.tolist()},), {}, ({"x": TX.float(), "y": TY.float()},)
    ),
    "nested dictionary": Door(
        nested, ({"inputs": {"x": X, "n": 12}, "y": Y},), {"scale": 2.0}, ({"inputs": {"x": TX}, "y": TY},)
    ),
    "several lengths": Door(radon, (X, COUNTY, URANIUM), {"y": Y}, (TX, TC, TU), {"y": TY}),
    "closure": Door(closure),
    "factor alone": Door(factor_alone, (TX, TY), sites=()),
    "two sites": Door(two_sites, (TX, TY), {"z": TU}, sites=("y", "z")),
    "loop": Door(loop, (TX, TY), sites=tuple(f"y_{i}" for i in range(12))),
    "loop in place": Door(in_place, (TX, TY)),
    "Markov loop": Door(markov, (TY,), sites=tuple(f"y_{i}" for i in range(12))),
    "settings": Door(with_settings, (TX, "linear", 3, torch.sin, LINEAR, Options()), {"y": TY}),
}


class Kept:
    """A method that keeps the density of the model that `infer` hands to it."""

    def run(self, model, *args, seed, guide=None, site=None):
        self.density = Density(model, args)
        return SHORT.run(model, *args, seed=seed, guide=guide, site=site)


@pytest.mark.filterwarnings("ignore::posterity.inference.ConvergenceWarning")
@pytest.mark.parametrize("name", DOORS)
def test_the_log_joint_is_that_of_pyro(name):
    door, kept = DOORS[name], Kept()
    posterior = infer(door.model, *door.args, method=kept, **door.named)
    assert posterior.program.sites == door.sites
    density = kept.density
    args, named = door.pyro_args or door.args, {**door.named, **(door.pyro_named or {})}
    torch.set_default_dtype(density.dtype)  # Pyro takes no data of another dtype than that of the priors
    try:
        start, potential, _, _ = initialize_model(door.model, args, named)
    finally:
        torch.set_default_dtype(torch.float32)
    assert set(start) == {site.name for site in density.sites}
    assert density.dtype == (torch.float32 if name == "dictionary of lists" else torch.float64)
    points = torch.randn(3, density.dim, generator=torch.Generator().manual_seed(1), dtype=density.dtype)
    for point in points:
        parts = {s.name: point[s.start : s.start + s.size].reshape(s.unconstrained) for s in density.sites}
        expected = -potential(parts)
        tolerance = 1e-10 if density.dtype == torch.float64 else 1e-5
        torch.testing.assert_close(density(point), expected, rtol=tolerance, atol=tolerance)


@pytest.mark.filterwarnings("ignore::posterity.inference.ConvergenceWarning")
@pytest.mark.parametrize(
    ("name", "args", "named"),
    [
        ("keyword alone", (TX,), {}),
        ("keywords", (), {"x": X}),
        ("dictionary", ({"x": X},), {}),
        ("dictionary of a frame", ({"x": pd.Series(X)},), {}),
        ("closure", (), {}),
    ],
)
def test_predictions_log_likelihood_and_files_take_the_same_door(name, args, named, tmp_path):
    door = DOORS[name]
    posterior = infer(door.model, *door.args, method=SHORT, **door.named)
    slopes = posterior.draws["slope"]
    torch.testing.assert_close(posterior.function_draws(*args, **named), slopes[..., None] * TX)
    assert posterior.predictive(*args, draws=3, **named).batch_shape == (12,)
    expected = dist.Normal(slopes[..., None] * TX, 1.0).log_prob(TY)
    torch.testing.assert_close(posterior.log_likelihood(*door.args, **door.named), expected)
    prior = posterior.log_prior(*door.args, **door.named)["slope"]
    torch.testing.assert_close(prior, dist.Normal(0.0, 1.0).log_prob(slopes))
    data = posterior.to_arviz(*door.args, **door.named)
    np.testing.assert_allclose(data["observed_data"]["y"].values, Y)
    np.testing.assert_allclose(data["log_likelihood"]["y"].values, expected)
    if name != "closure":
        np.testing.assert_allclose(data["constant_data"]["x"].values, X)
    again = Posterior.load(posterior.save(tmp_path / "posterior.pt"), door.model, *door.args, **door.named)
    torch.testing.assert_close(again.function_draws(*args, **named), slopes[..., None] * TX)


@pytest.mark.parametrize("method", [HMC(draws=4, warmup=4, chains=2, progress=False), SVI(steps=4, progress=False)])
@pytest.mark.filterwarnings("ignore::posterity.inference.ConvergenceWarning")
@pytest.mark.parametrize(
    "name", ["keyword alone", "dictionary", "closure", "several lengths", "two sites", "loop", "loop in place"]
)
def test_every_method_takes_every_door(name, method):
    door = DOORS[name]
    draws = infer(door.model, *door.args, method=method, **door.named).draws
    assert torch.isfinite(draws["slope"]).all()


@pytest.mark.filterwarnings("ignore::posterity.inference.ConvergenceWarning")
@pytest.mark.parametrize("name", ["keyword alone", "nested dictionary", "several lengths"])
def test_batches_and_held_out_rows_are_rows_of_the_longest_data(name):
    """A batch of eight of twelve rows; the county-level data stay whole."""
    door = DOORS[name]
    for method in (
        SVI(steps=4, batch_size=4, holdout=0.25, check_every=2, progress=False),
        Ensemble(members=2, steps=4, batch_size=4, holdout=0.25, check_every=2, progress=False),
    ):
        if name == "several lengths" and method.holdout:
            method = type(method)(steps=4, batch_size=4, progress=False)
        posterior = infer(door.model, *door.args, method=method, **door.named)
        assert torch.isfinite(posterior.draws["slope"]).all()


def test_a_guide_with_keywords_alone_is_called_as_its_model():
    def guide(x, *, y=None):
        mean = pyro.param("mean", torch.tensor(0.0, dtype=torch.double))
        pyro.sample("slope", dist.Normal(mean, 0.1))

    posterior = infer(keyword_only, TX, y=TY, method=SVI(guide=guide, steps=500, learning_rate=0.05, progress=False))
    exact = float((TX @ TY) / (1 + TX @ TX))
    # The noise of the last steps, whose rate falls to 1% of 0.05, and 1000 draws of standard deviation 0.1.
    assert abs(float(posterior.draws["slope"].mean()) - exact) < 0.05


def test_a_run_is_resumed_with_arguments_by_name(tmp_path):
    path, long = tmp_path / "run.pt", NUTS(draws=8, warmup=6, chains=2, engine="eager", progress=False)
    whole = infer(keyword_only, X, y=Y, method=long)
    infer(keyword_only, X, y=Y, method=NUTS(**{**vars(long), "draws": 3, "checkpoint": str(path)}))
    again = resume(path, keyword_only, X, y=Y, draws=8)
    assert torch.equal(again.draws["slope"], whole.draws["slope"])
    with pytest.raises(
        ValueError, match=r"expected the data of the checkpoint, got other values in the arguments \[1\]"
    ):
        resume(path, keyword_only, X, y=Y + 1, draws=9)
    for model in (keyword_only, any_keywords):
        with pytest.raises(ValueError, match=r"expected changes to .* only, .* got \['warmup'\]"):
            resume(path, model, x=X, y=Y, warmup=9)


@pytest.mark.parametrize("name", ["keywords", "dictionary", "two sites", "factor alone", "closure", "settings"])
def test_a_run_of_every_door_is_resumed(name, tmp_path):
    door, path = DOORS[name], tmp_path / "run.pt"
    long = NUTS(draws=6, warmup=4, chains=2, engine="eager", progress=False)
    whole = infer(door.model, *door.args, method=long, **door.named)
    infer(door.model, *door.args, method=NUTS(**{**vars(long), "draws": 3, "checkpoint": str(path)}), **door.named)
    again = resume(path, door.model, *door.args, **door.named, draws=6)
    assert torch.equal(again.draws["slope"], whole.draws["slope"])
    assert again.program == whole.program


@pytest.mark.filterwarnings("ignore::posterity.inference.ConvergenceWarning")
def test_blocks_and_the_kernels_of_pyro_take_arguments_by_name():
    blocks = infer(keyword_only, X, y=Y, method=Blocks(SHORT, blocks=2, jobs=2))
    assert blocks.draws["slope"].shape == (2, 6)
    theirs = infer(keyword_only, X, y=Y, method=reference.NUTS(draws=4, warmup=4, chains=1, progress=False))
    assert theirs.draws["slope"].shape == (1, 4)


def test_a_model_with_factors_alone_is_sampled_and_has_nothing_to_predict():
    posterior = infer(factor_alone, X, Y, method=SHORT)
    for method in (posterior.predictive, posterior.likelihood, posterior.log_likelihood, posterior.function_draws):
        with pytest.raises(ValueError, match="expected a model with an observed site to predict or score, got factors"):
            method(X, Y)
    torch.testing.assert_close(
        posterior.log_prior(X, Y)["slope"], dist.Normal(0.0, 1.0).log_prob(posterior.draws["slope"])
    )
    data = posterior.to_arviz(X, Y, log_prior=True)
    found = {
        name for name in ("posterior", "sample_stats", "log_prior", "log_likelihood", "observed_data") if name in data
    }
    assert found == {"posterior", "sample_stats", "log_prior"}
    with pytest.raises(ValueError, match="expected a model with an observed site to predict"):
        posterior.to_arviz(X, Y, predict=(X, Y))


def test_of_several_sites_all_are_exported_and_one_is_predicted_by_name():
    posterior = infer(two_sites, X, Y, z=URANIUM, method=SHORT)
    slopes = posterior.draws["slope"][..., None]
    expected = {
        "y": dist.Normal(slopes * TX, 1.0).log_prob(TY),
        "z": dist.Normal(slopes, 2.0).log_prob(TU),
    }
    data = posterior.to_arviz(X, Y, URANIUM, predict=(X[:5],))
    for name, log_prob in expected.items():
        torch.testing.assert_close(posterior.log_likelihood(X, Y, URANIUM, site=name), log_prob)
        np.testing.assert_allclose(data["log_likelihood"][name].values, log_prob)
    np.testing.assert_allclose(data["observed_data"]["z"].values, URANIUM)
    assert data["predictions"]["y"].shape == (2, 6, 5)
    torch.testing.assert_close(posterior.function_draws(X[:2], site="y"), slopes * TX[:2])
    for method in (posterior.predictive, posterior.log_likelihood):
        with pytest.raises(ValueError, match=r"expected site, the name of one observed site of \['y', 'z'\], got none"):
            method(X, Y, URANIUM)
    assert "observed sites [" in posterior._repr_html_()
    assert set(infer(two_sites, X, Y, z=URANIUM, site="z", method=SHORT).to_arviz(X, Y, URANIUM)["observed_data"]) == {
        "z"
    }


@pytest.mark.parametrize("name", ["two sites", "factor alone", "loop", "closure"])
def test_convergence_is_judged_without_inputs(name):
    door = DOORS[name]
    method = HMC(chains=4, draws=1000, warmup=200, progress=False)
    report = convergence_report(infer(door.model, *door.args, method=method, **door.named))
    assert report.ok, str(report)
    # The log density, and of one observed site the 12 rows.
    assert report.dataset.sizes["point"] - report.dataset.attrs["sites"] == (13 if name == "closure" else 1)


def test_the_rows_of_a_loop_are_variables_of_their_own():
    posterior = infer(loop, X, Y, method=SHORT)
    data = posterior.to_arviz(X, Y)
    np.testing.assert_allclose([float(data["observed_data"][f"y_{i}"]) for i in range(12)], Y)
    with pytest.raises(ValueError, match=r"\['y_0', 'y_1', 'y_2', 'y_3', 'y_4', ...\] \(12 in all\), got none"):
        posterior.predictive(X)
    expected = dist.Normal(posterior.draws["slope"] * X[3], 1.0).log_prob(TY[3])
    torch.testing.assert_close(posterior.log_likelihood(X, Y, site="y_3"), expected)


def test_predictors_of_groups_are_predicted_with_and_exported_beside_those_of_rows():
    posterior = infer(radon, X, COUNTY, URANIUM, Y, method=SHORT)
    mean = posterior.draws["level"][..., TC[:4]] + posterior.draws["slope"][..., None] * TX[:4]
    torch.testing.assert_close(posterior.function_draws(X[:4], COUNTY[:4], URANIUM), mean)
    data = posterior.to_arviz(X, COUNTY, URANIUM, Y, predict=(X[:4], COUNTY[:4], URANIUM))
    assert {name: v.shape for name, v in data["constant_data"].items()} == {"x0": (12,), "x1": (12,), "x2": (3,)}
    assert {n: v.shape for n, v in data["predictions_constant_data"].items()} == {"x0": (4,), "x1": (4,), "x2": (3,)}


def test_a_frame_in_a_dictionary_is_refused_with_the_way_out():
    with pytest.raises(ValueError, match=r"got a frame as argument 0\['x'\]: dict\(frame\) has its columns"):
        infer(dictionary, {"x": pd.DataFrame(FRAME), "y": Y}, method=SHORT)
