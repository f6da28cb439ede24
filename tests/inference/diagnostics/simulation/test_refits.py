"""Simulations and refits: the right numbers, wherever they run, whatever is lost on the way.

Models and methods are made inside functions: what a worker gets then is their code, as from a notebook.
"""

import os
import signal
import time
import warnings
from dataclasses import dataclass, fields, replace
from types import SimpleNamespace

import joblib
import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
import xarray as xr
from pyro.infer import autoguide

from posterity.inference import HMC, NUTS, SVI, Blocks, Ensemble, Posterior, infer
from posterity.inference.convergence import ConvergenceWarning
from posterity.inference.diagnostics.simulation import _fits
from posterity.inference.diagnostics.simulation import _refits as refits_module
from posterity.inference.diagnostics.simulation._fits import prepared
from posterity.inference.diagnostics.simulation._refits import FITTED
from posterity.inference.diagnostics.simulation.refits import refit, simulate
from posterity.inference.diagnostics.simulation.sbc import sbc
from posterity.inference.engine import chain_data
from posterity.inference.mcmc import batched
from posterity.inference.program.sites import inspect
from posterity.models import bayesian, gaussian, mlp
from posterity.random import child_seeds, seeded

X = torch.linspace(0.0, 1.0, 5)
NOISE = 0.5
SHORT = HMC(chains=4, warmup=10, draws=5, engine="eager", progress=False)


def line_model():
    def model(x, y=None):
        w = pyro.sample("w", dist.Normal(x.new_zeros(2), 1.0).to_event(1))
        s = pyro.sample("s", dist.LogNormal(x.new_zeros(()), 0.1))
        pyro.deterministic("end", w.sum())
        with pyro.plate("obs", len(x)):
            return pyro.sample("y", dist.Normal(w[0] + w[1] * x, NOISE * s), obs=y)

    return model


@dataclass(frozen=True, kw_only=True)
class Prior:
    """Draws of the prior whatever the data; ``hook(seed)`` is called first. Its draws are those of ``seed``."""

    hook: object = None
    draws: int = 40
    stats: bool = False
    progress: bool = True

    def run(self, model, *args, seed, guide=None, site=None):
        if self.hook is not None:
            self.hook(seed)
        with seeded(seed):
            values = {"w": torch.randn(1, self.draws, 2), "s": (0.1 * torch.randn(1, self.draws)).exp()}
        statistics = {"lp": torch.zeros(1, self.draws)} if self.stats else {}
        return Posterior(model, inspect(model, args, site), draws=values, sample_stats=statistics)


def refits(method=None, *, backend="sequential", model=None, **settings):
    with joblib.parallel_config(backend):
        chosen = {"count": 6, "draws": 20, "seed": 3, "progress": False} | settings
        return refit(model or line_model(), X, method=method or Prior(), **chosen)


def assert_same(one, other):
    xr.testing.assert_identical(one.drop_vars("seconds").drop_attrs(), other.drop_vars("seconds").drop_attrs())


# Simulations


def test_a_simulation_is_a_run_of_the_model():
    """Noise and weights come back from y exactly: y - f(x) in units of the noise is that run's own normal draw."""
    found = simulate(line_model(), X, count=4, seed=1)
    for index, seed in enumerate(child_seeds(1, 4, 1)):
        with seeded(seed):
            y = line_model()(X)
        torch.testing.assert_close(found.y[index], y, rtol=0.0, atol=0.0)
        torch.testing.assert_close(found.deterministics["end"][index], found.latents["w"][index].sum())
    assert {name: value.shape for name, value in found.latents.items()} == {"w": (4, 2), "s": (4,)}
    assert found.site == "y"


def test_a_simulation_does_not_depend_on_how_many_there_are_and_leaves_the_random_state():
    state = torch.get_rng_state()
    few, many = simulate(line_model(), X, count=3, seed=1), simulate(line_model(), X, count=8, seed=1)
    torch.testing.assert_close(few.y, many.y[:3], rtol=0.0, atol=0.0)
    assert len(many.y.unique(dim=0)) == 8
    assert torch.equal(state, torch.get_rng_state())


def test_truths_and_data_have_the_moments_of_prior_and_likelihood():
    """2,000 simulations: every moment within 4.5 standard errors; seed 0."""
    found = simulate(line_model(), X, count=2000, seed=0)
    w, s = found.latents["w"].double(), found.latents["s"].double()
    z = (found.y - w[:, :1] - w[:, 1:] * X) / (NOISE * s[:, None])
    for normal in (w, s.log() / 0.1, z):
        assert abs(float(normal.mean())) < 4.5 / normal.numel() ** 0.5
        assert abs(float(normal.var()) - 1) < 4.5 * (2 / normal.numel()) ** 0.5


def with_site(sample):
    """A line with one more statement."""

    def model(x, y=None):
        w = pyro.sample("w", dist.Normal(x.new_zeros(()), 1.0))
        sample(w)
        with pyro.plate("obs", len(x)):
            return pyro.sample("y", dist.Normal(w * x, 1.0), obs=y)

    return model


def transforming(x, y=None):
    w = pyro.sample("w", dist.Normal(x.new_zeros(()), 1.0))
    with pyro.plate("obs", len(x)):
        return pyro.sample("y", dist.Normal(w * x, 1.0), obs=None if y is None else y.sinh())


def weighted(x, y=None):
    w = pyro.sample("w", dist.Normal(x.new_zeros(()), 1.0))
    with pyro.poutine.scale(scale=2.0), pyro.plate("obs", len(x)):
        return pyro.sample("y", dist.Normal(w * x, 1.0), obs=y)


def infinite(x, y=None):
    w = pyro.sample("w", dist.Normal(x.new_zeros(()), 1.0))
    with pyro.plate("obs", len(x)):
        return pyro.sample("y", dist.LogNormal(200.0 * w + x, 1.0), obs=y)


def without_latents(x, y=None):
    with pyro.plate("obs", len(x)):
        return pyro.sample("y", dist.Normal(x, 1.0), obs=y)


def asking(x, y):
    return transforming(x, y)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (with_site(lambda w: pyro.param("p", torch.tensor(1.0))), "expected a model whose unknowns all have a prior"),
        (with_site(lambda w: pyro.factor("f", -(w**2))), "of which y alone is given, got a pyro.factor at 'f'"),
        (
            with_site(lambda w: pyro.sample("z", dist.Normal(w, 1.0), obs=torch.tensor(0.3))),
            "expected a model of which y alone is given, got data of the model's own at 'z'",
        ),
        (
            with_site(lambda w: pyro.sample("b", dist.Normal(w, 1.0).mask(False))),
            "expected a proper prior of 'b', got a flat one",
        ),
        (
            with_site(lambda w: pyro.sample("b", dist.ImproperUniform(dist.constraints.real, (), ()))),
            "expected a model that draws every site",
        ),
        (transforming, "expected a model that observes y itself at 'y'"),
        (weighted, "expected densities as they are, got one that is scaled at 'y'"),
        (infinite, "expected finite data from the prior, got nan or infinity in .* of 20 simulations"),
        (without_latents, "expected a model with latent sites"),
        (asking, r"y too where none is given \(y=None\), got TypeError"),
    ],
)
def test_models_that_cannot_be_simulated_are_refused(model, message):
    with pytest.raises(ValueError, match=message):
        simulate(model, X, count=20)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"count": 0}, "expected count to be a whole number of 1 or more, got 0"),
        ({"count": 3, "seed": -1}, "expected seed to be a whole number of 0 or more, got -1"),
        ({"count": 3, "site": "z"}, "expected an observed site 'z'"),
        ({"count": 3, "site": "w"}, "expected a model that observes y at one of its sites"),
    ],
)
def test_bad_settings_of_a_simulation_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        simulate(line_model(), X, **settings)


# What is compared


def test_a_refit_is_the_method_run_alone_and_thinned_evenly():
    simulations = simulate(line_model(), X, count=6, seed=3)
    found = refits()
    assert list(found["quantity"].values) == ["w[0]", "w[1]", "s", "log_likelihood"]
    for i, seed in enumerate(child_seeds(3, 6, FITTED)):
        posterior = infer(line_model(), X, simulations.y[i], method=Prior(), seed=seed)
        w, s = posterior.draws["w"][0, 1::2], posterior.draws["s"][0, 1::2]
        score = dist.Normal(w[:, :1] + w[:, 1:] * X, NOISE * s[:, None]).log_prob(simulations.y[i]).sum(1)
        expected = torch.cat([w, s[:, None], score[:, None]], 1)
        np.testing.assert_allclose(found["draws"][i], expected, rtol=1e-5, atol=1e-5)
        w, s = simulations.latents["w"][i], simulations.latents["s"][i]
        score = dist.Normal(w[0] + w[1] * X, NOISE * s).log_prob(simulations.y[i]).sum()
        np.testing.assert_allclose(found["truth"][i], [*w, s, score], rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(found["y"], simulations.y)
    assert found["ess"].values.tolist() == [[40.0] * 4] * 6  # independent draws


def test_functions_of_a_network_instead_of_its_weights():
    """The values of the network at x*, for the truth and each draw, and the sites of one number."""
    net = mlp(1, 3, 1, seed=0)

    def model(x, y=None):
        features = bayesian("net", net)(x)
        s = pyro.sample("s", dist.LogNormal(x.new_zeros(()), 0.1))
        with pyro.plate("obs", len(x)):
            return pyro.sample("y", gaussian(features, s), obs=y)

    x, at = X[:, None], torch.tensor([[-1.0], [2.0]])
    method = SVI(guide="mean_field", steps=3, draws=30, progress=False)
    settings = {"method": method, "count": 2, "draws": 30, "progress": False}
    found = refit(model, x, at=at, **settings)
    assert list(found["quantity"].values) == ["s", "f[0]", "f[1]", "log_likelihood"]
    y = simulate(model, x, count=2).y
    posterior = infer(model, x, y[1], method=method, seed=child_seeds(0, 2, FITTED)[1])
    np.testing.assert_allclose(found["draws"][1, :, 1:3], posterior.function_draws(at)[0], rtol=1e-5, atol=1e-6)
    weights = refit(model, x, sites=["net.hidden1.bias"], **settings)
    expected = [f"net.hidden1.bias[{i}]" for i in range(3)] + ["log_likelihood"]
    assert list(weights["quantity"].values) == expected


def test_quantities_by_name_and_deterministic_sites():
    found = refits(
        test_quantities={"spread": lambda values, y: values["s"] * y.std(), "w0": lambda values, y: values["w"][0]},
        sites=["end", "w"],
        log_likelihood=False,
    )
    assert list(found["quantity"].values) == ["end", "w[0]", "w[1]", "spread", "w0"]
    by_name = found.assign_coords(quantity=found["quantity"])["draws"]
    np.testing.assert_allclose(by_name.sel(quantity="end"), by_name[..., 1] + by_name[..., 2], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(by_name.sel(quantity="w0"), by_name.sel(quantity="w[0]"))

    def largest(values, y):
        return values["w"].max()

    assert list(refits(test_quantities=largest)["quantity"].values) == ["largest", "log_likelihood"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"method": None, "posterior_draws": None}, "expected a method such as NUTS.*, got neither"),
        ({"method": Prior(), "posterior_draws": lambda y: y}, "expected either method or posterior_draws, got both"),
        ({"method": NUTS}, "expected a method such as NUTS"),
        ({"draws": 0}, "expected draws to be a whole number of 1 or more, got 0"),
        ({"draws": 41}, r"expected at least 41 draws of each posterior \(draws=...\), got 40"),
        ({"retries": -1}, "expected retries to be a whole number of 0 or more, got -1"),
        ({"max_failures": 1.5}, "expected max_failures to be a number in .0, 1., got 1.5"),
        ({"test_quantities": [1]}, "expected test_quantities as a function or several by name"),
        ({"test_quantities": lambda values, y: y}, "expected one number of the test quantity 'lambda', got 5"),
        ({"test_quantities": lambda values, y: np.inf}, "expected finite values of 'lambda', got 1 of 1"),
        ({"sites": "w"}, "expected sites as a list of names, got 'w'"),
        ({"sites": ["v"]}, r"expected sites of the model \['end', 's', 'w'\], got \['v'\]"),
        ({"sites": [], "log_likelihood": False}, "expected at least one test quantity, got none"),
        ({"batched": True}, r"expected HMC\(...\) or NUTS\(...\) for batched=True, got Prior"),
        (
            {"batched": True, "method": replace(SHORT, max_seconds=1.0)},
            "expected a method without max_seconds for batched=True",
        ),
    ],
)
def test_bad_settings_are_refused(settings, message):
    chosen = {"method": Prior(), "count": 4, "draws": 20, "progress": False} | settings
    with pytest.raises(ValueError, match=message):
        refit(line_model(), X, **chosen)


def test_too_many_weights_are_refused_with_what_to_do():
    net = mlp(1, 50, 1, seed=0)

    def model(x, y=None):
        features = bayesian("net", net)(x)
        with pyro.plate("obs", len(x)):
            return pyro.sample("y", gaussian(features, torch.tensor(1.0)), obs=y)

    with pytest.raises(ValueError, match=r"expected at most 100 test quantities, got 151 .*: give at=x"):
        refit(model, X[:, None], method=Prior(), count=2, progress=False)


# Correlated draws


@dataclass(frozen=True, kw_only=True)
class Walk:
    """Chains of coefficient 0.9: worth (1 - 0.9) / (1 + 0.9) of their length, near 1 in 19."""

    chains: int = 2
    draws: int = 300
    log: tuple = ()

    def run(self, model, *args, seed, guide=None, site=None):
        rng = np.random.default_rng(seed)
        noise = rng.normal(size=(self.chains, self.draws, 3))
        for step in range(1, self.draws):
            noise[:, step] = 0.9 * noise[:, step - 1] + 0.19**0.5 * noise[:, step]
        values = torch.as_tensor(noise, dtype=torch.float32)
        draws = {"w": values[..., :2], "s": values[..., 2].exp()}
        program = inspect(model, args, site)
        return Posterior(model, program, draws=draws, sample_stats={"lp": values[..., 0]})


def test_a_sampler_whose_draws_are_worth_too_few_runs_longer():
    """600 draws are worth 32 and 60 are wanted: 1,400 are made, and neighbours of those kept are near independent."""
    found = refits(Walk(), draws=60, count=20, log_likelihood=False)
    assert float(found["ess"].min()) > 60
    assert float(found["ess"].max()) < 600
    kept = found["draws"].values[..., :2]
    kept = kept - kept.mean(1, keepdims=True)
    neighbours = (kept[:, 1:] * kept[:, :-1]).sum() / (kept**2).sum()
    assert abs(neighbours) < 0.25  # 0.9 without thinning
    assert found.attrs["too_few"] == 0


def test_draws_that_stay_too_few_are_counted_and_said():
    with pytest.warns(RuntimeWarning, match=r"in 3 of 3 refits the draws are worth fewer than 100 .* \(draws=...\)"):
        found = refits(Walk(draws=100), draws=100, count=3, log_likelihood=False)
    assert found.attrs["too_few"] == 3
    assert found.sizes["draw"] == 100


def test_a_stuck_chain_is_worth_one_draw_and_a_constant_all():
    values = np.zeros((2, 50, 2))
    assert _fits.judge.__module__.endswith("_quantities")
    from posterity.inference.diagnostics.simulation._quantities import _ess

    assert _ess(values, np.array([0.0, 1.0])).tolist() == [100.0, 1.0]
    assert _ess(values[:, :2], np.array([0.0, 1.0])).tolist() == [2.0, 2.0]


# The same everywhere


def test_settings_of_a_refit_have_no_bar_no_file_and_one_thread(tmp_path):
    method = prepared(Blocks(NUTS(chains=4, checkpoint=tmp_path / "run.pt"), blocks=2))
    assert (method.method.progress, method.method.threads, method.method.checkpoint) == (False, 1, None)
    assert prepared(Ensemble()).progress is False


def test_guides_that_keep_what_they_learn_are_refused():
    """They would start the next refit where the last one ended, and lose their model on the way to a worker."""
    guide = autoguide.AutoNormal(line_model())
    for settings in ({"method": SVI(guide=guide)}, {"model": SimpleNamespace(model=line_model(), guide=guide)}):
        with pytest.raises(ValueError, match="expected a guide by its name or as a function, got an object"):
            refits(**settings)


def test_threads_take_turns_and_give_the_same():
    assert_same(refits(), refits(backend="threading", n_jobs=3))


@pytest.mark.slow  # processes import torch and Pyro
def test_the_same_refits_in_one_process_and_in_two():
    method = replace(SHORT, engine="replay")
    assert_same(refits(method, draws=4), refits(method, draws=4, backend="loky", n_jobs=2))


def test_a_result_is_judged_from_a_file_too(tmp_path):
    found = refits()
    found.to_netcdf(tmp_path / "refits.nc", engine="h5netcdf")
    with xr.open_dataset(tmp_path / "refits.nc", engine="h5netcdf") as read:
        xr.testing.assert_identical(sbc(read.load()), sbc(found))


# Chains of many data sets at once


@pytest.mark.parametrize(("method", "engine"), [(NUTS, "replay"), (HMC, "replay"), (HMC, "eager")])
def test_batched_chains_find_the_posterior_of_their_own_data(method, engine):
    """Means of 40 draws against closed forms, in standard errors of independent draws: a mean square of 1 within 0.5

    (80 values of it have a standard error of 0.16; 320 draws thinned to 40 are near independent)."""

    def model(x, y=None):
        w = pyro.sample("w", dist.Normal(x.new_zeros(2), 1.0).to_event(1))
        with pyro.plate("obs", len(x)):
            return pyro.sample("y", dist.Normal(w[0] + w[1] * x, NOISE), obs=y)

    settings = {"chains": 8, "warmup": 60, "draws": 40, "engine": engine}
    found = refit(model, X.double(), method=method(**settings), count=40, draws=40, batched=True, progress=False)
    design = np.stack([np.ones(5), X.numpy()], 1)
    covariance = np.linalg.inv(design.T @ design / NOISE**2 + np.eye(2))
    mean = found["y"].values @ design @ covariance / NOISE**2
    draws = found["draws"].values[..., :2]
    z = (draws.mean(1) - mean) / np.sqrt(covariance.diagonal() / 40)
    assert abs((z**2).mean() - 1) < 0.5
    ratio = draws.var(1, ddof=1).mean(0) / covariance.diagonal()
    np.testing.assert_allclose(ratio, 1.0, atol=0.15)  # 4.2 standard errors


def test_batches_are_the_same_whatever_is_there_already(tmp_path, monkeypatch):
    """Two data sets at a time: a file that was lost comes back as it was."""
    monkeypatch.setattr(refits_module, "CHAINS", 8)
    settings = {"batched": True, "draws": 4, "count": 5}
    whole = refits(SHORT, folder=tmp_path, **settings)
    (tmp_path / "refit-000003.pt").unlink()
    assert_same(whole, refits(SHORT, folder=tmp_path, **settings))
    assert_same(whole, refits(SHORT, **settings))


def test_the_recording_is_given_up_where_it_is_another_model(monkeypatch):
    monkeypatch.setattr(chain_data, "replay", lambda graph, *example: lambda q, data: graph(q, example[1]))
    tiers, prepare = [], batched.prepare_chain_data

    def watched(*args, **settings):
        engine = prepare(*args, **settings)
        tiers.append(engine.tier)
        return engine

    monkeypatch.setattr(batched, "prepare_chain_data", watched)
    refits(replace(SHORT, engine="auto"), batched=True, draws=5, count=3)
    assert tiers == ["eager"]


# Folders


def interrupting(after):
    """A hook that interrupts at the call after so many, once."""
    calls = []

    def hook(seed):
        calls.append(seed)
        if len(calls) == after + 1:
            raise KeyboardInterrupt

    return hook


def test_an_interrupted_run_goes_on_and_is_bit_equal_to_one_that_was_not(tmp_path):
    hook = interrupting(4)
    with pytest.warns(RuntimeWarning, match=r"refits was interrupted and returns 4 of 6 refits\. The same call"):
        partial = refits(Prior(hook=hook), folder=tmp_path)
    assert (partial.sizes["simulation"], partial.attrs["interrupted"]) == (4, 1)
    assert len(list(tmp_path.glob("refit-*.pt"))) == 4
    seen = []
    whole = refits(Prior(hook=hook), folder=tmp_path)
    assert (whole.sizes["simulation"], whole.attrs["interrupted"]) == (6, 0)
    assert_same(whole, refits())
    assert_same(partial, whole.isel(simulation=slice(4)))
    more = refits(Prior(hook=hook), folder=tmp_path, count=8)
    assert_same(more.isel(simulation=slice(6)), whole)
    assert_same(more, refits(count=8))
    assert not seen


def test_an_interrupt_before_the_first_refit_is_an_interrupt():
    with pytest.raises(KeyboardInterrupt):
        refits(Prior(hook=interrupting(0)))


def test_a_sampler_that_takes_the_interrupt_itself_is_not_counted(monkeypatch):
    """It returns the draws that it has; a refit of fewer draws than the others is none."""
    fitted = _fits._fitted
    calls = []

    def stopped(*args):
        calls.append(args)
        return {"interrupted": True} if len(calls) == 3 else fitted(*args)

    monkeypatch.setattr(_fits, "_fitted", stopped)
    with pytest.warns(RuntimeWarning, match=r"returns 2 of 6 refits\. With folder=\.\.\. it could go on"):
        found = refits()
    assert (found.sizes["simulation"], found.attrs["interrupted"], len(calls)) == (2, 1, 3)


def test_what_the_method_says_of_its_draws_is_told_once_for_all_refits(monkeypatch):
    """Two of six refits warn: kept by refit, warned of once, and not by each of them."""
    original, calls = Prior.run, []

    def troubled(self, *args, **keywords):
        posterior = original(self, *args, **keywords)
        calls.append(posterior)
        if len(calls) in (2, 5):
            warnings.warn("chains apart", ConvergenceWarning, stacklevel=2)
            posterior.attrs["warnings"] = "chains apart"
        return posterior

    monkeypatch.setattr(Prior, "run", troubled)
    with pytest.warns(ConvergenceWarning, match=r"warned in 2 of 6 refits \(.*\), the first: chains apart") as caught:
        found = refits()
    assert len(caught) == 1
    assert found.warnings.values.tolist() == ["", "chains apart", "", "", "chains apart", ""]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"method": Prior(draws=41)}, "expected another folder, or the settings .*: method Prior.*draws=40.* got .*41"),
        ({"seed": 4}, "seed 3, got 4"),
        ({"draws": 10}, "draws 20, got 10"),
        ({"log_likelihood": False}, "quantities .*log_likelihood"),
        ({"sites": ["w"]}, r"quantities \['w\[0\]', 'w\[1\]', 's', 'log_likelihood'\], got \['w\[0\]', 'w\[1\]', 'log"),
    ],
)
def test_another_s_folder_is_refused(tmp_path, changes, message):
    refits(folder=tmp_path, count=2)
    with pytest.raises(ValueError, match=message):
        refits(**({"folder": tmp_path, "count": 2} | changes))


def test_other_models_and_damaged_files_are_refused(tmp_path):
    def other(x, y=None):
        w = pyro.sample("w", dist.Normal(x.new_zeros(2), 1.0).to_event(1))
        s = pyro.sample("s", dist.LogNormal(x.new_zeros(()), 0.1))
        with pyro.plate("obs", len(x)):
            return pyro.sample("y", dist.Normal(w[0] + w[1] * x, s), obs=y)

    refits(folder=tmp_path, count=2)
    with pytest.raises(ValueError, match=r"expected a refit of this model's simulation 0 in .*, got one of other data"):
        refits(folder=tmp_path, count=2, model=other)
    with pytest.raises(ValueError, match="arguments"):
        refit(line_model(), X + 1, method=Prior(), count=2, draws=20, seed=3, folder=tmp_path, progress=False)
    (tmp_path / "refit-000001.pt").write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"expected a refit in .*refit-000001\.pt"):
        refits(folder=tmp_path, count=2)
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="expected folder as a folder, got a file"):
        refits(folder=tmp_path / "file")


# Failures


def failing(seeds):
    def hook(seed):
        if seed in seeds:
            raise RuntimeError("no luck today")

    return hook


def test_a_refit_that_fails_is_tried_again_with_another_seed():
    seed = child_seeds(3, 6, FITTED)[2]
    found = refits(Prior(hook=failing([seed])))
    assert found.attrs["failed"] == 0
    again = infer(line_model(), X, simulate(line_model(), X, count=6, seed=3).y[2], method=Prior(),
                  seed=child_seeds(seed, 1, _fits.RETRIED)[0])  # fmt: skip
    np.testing.assert_allclose(found["draws"][2, :, 2], again.draws["s"][0, 1::2], rtol=1e-6)


def test_failures_are_left_out_counted_and_said():
    seed = child_seeds(3, 6, FITTED)[2]
    with pytest.warns(RuntimeWarning, match=r"1 of 6 refits failed and are left out \(RuntimeError: no luck today\)"):
        found = refits(Prior(hook=failing([seed])), retries=0, max_failures=0.2)
    assert found["simulation"].values.tolist() == [0, 1, 3, 4, 5]
    assert found.attrs["failed"] == 1
    assert_same(found, refits().drop_sel(simulation=2))


def test_too_many_failures_are_an_error_and_early():
    seeds = child_seeds(3, 6, FITTED)
    with pytest.raises(ValueError, match=r"got 2 of 6 that failed, the last by RuntimeError: no luck today") as caught:
        refits(Prior(hook=failing([seeds[4], seeds[5]])), retries=0, max_failures=0.3)
    assert "in hook" in "".join(caught.value.__notes__)
    calls = []

    def never(seed):
        calls.append(seed)
        raise RuntimeError("never")

    with pytest.raises(ValueError, match="got 3 of 3 that failed"):
        refits(Prior(hook=never), count=100, retries=0)
    assert len(calls) == 3


# Amortised


def test_posterior_draws_are_called_once_with_all_data():
    simulations, calls = simulate(line_model(), X, count=6, seed=3), []

    def posterior(y):
        calls.append(y)
        return {"w": torch.randn(len(y), 40, 2), "s": torch.rand(len(y), 40)}

    def run(**settings):
        chosen = {"posterior_draws": posterior, "count": 6, "draws": 20, "seed": 3, "progress": False} | settings
        return refit(line_model(), X, **chosen)

    found = run()
    assert len(calls) == 1
    assert torch.equal(calls[0], simulations.y)
    assert_same(found, run())
    assert not np.array_equal(found["draws"], run(seed=4)["draws"])
    assert found.attrs["method"].startswith("<function")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (torch.zeros(3, 20, 2), r"expected posterior_draws with the sites \['w', 's'\] by name, got Tensor"),
        ({"w": torch.zeros(3, 20, 2)}, r"expected posterior_draws of the sites \['s', 'w'\], got \['w'\]"),
        ({"w": torch.zeros(3, 20, 2), "s": torch.ones(3)}, r"of 's' as a tensor of shape \(3, draws\), got \(3,\)"),
        ({"w": torch.zeros(2, 20, 2), "s": torch.ones(3, 20)}, r"of 'w' as a tensor of shape \(3, draws, 2\), got \(2"),
        (
            {"w": torch.zeros(3, 20, 2), "s": torch.ones(3, 19)},
            r"as many posterior_draws of every site, got \[19, 20\]",
        ),
        ({"w": torch.zeros(3, 9, 2), "s": torch.ones(3, 9)}, "expected at least 20 draws of each posterior"),
    ],
)
def test_bad_posterior_draws_are_refused(given, message):
    with pytest.raises(ValueError, match=message):
        refit(line_model(), X, posterior_draws=lambda y: given, count=3, draws=20, progress=False)


# Lost workers


def deadly_method(folder, victim, *, wait, always=False):
    """HMC that logs the seed of each refit, and kills its process at seed ``victim`` when ``wait`` are done."""
    parent = os.getpid()

    class Deadly(HMC):
        def run(self, model, *args, seed, guide=None, site=None):
            if seed == victim and os.getpid() != parent and (always or not (folder / "died").exists()):
                while len(logged(folder)) < wait:
                    time.sleep(0.02)
                time.sleep(0.5)  # for what is done to reach the parent
                (folder / "died").touch()
                os.kill(os.getpid(), signal.SIGKILL)
            posterior = super().run(model, *args, seed=seed, guide=guide, site=site)
            with (folder / "done").open("a") as file:
                file.write(f"{seed}\n")
            return posterior

    return Deadly(**{f.name: getattr(SHORT, f.name) for f in fields(SHORT)})


def logged(folder):
    path = folder / "done"
    return path.read_text().split() if path.exists() else []


@pytest.mark.slow
def test_refits_of_a_killed_worker_are_made_again(tmp_path):
    seeds = child_seeds(3, 8, FITTED)
    method = deadly_method(tmp_path, seeds[4], wait=4)
    found = refits(method, backend="loky", n_jobs=2, count=8, draws=4, folder=tmp_path / "refits")
    assert (tmp_path / "died").exists()
    assert set(logged(tmp_path)) == set(map(str, seeds))
    assert found.attrs["failed"] == 0
    assert_same(found, refits(SHORT, count=8, draws=4))


@pytest.mark.slow
def test_a_refit_that_kills_every_worker_is_left_out(tmp_path):
    seeds = child_seeds(3, 6, FITTED)
    method = deadly_method(tmp_path, seeds[0], wait=0, always=True)
    with pytest.warns(RuntimeWarning, match=r"1 of 6 refits failed .*lost with its worker \(TerminatedWorkerError"):
        found = refits(method, backend="loky", n_jobs=2, draws=4, retries=1, max_failures=0.2)
    assert_same(found, refits(SHORT, draws=4).drop_sel(simulation=0))


@pytest.mark.slow
def test_a_dask_cluster_gives_the_same_refits_and_survives_the_loss_of_a_worker(tmp_path):
    """Two workers, each a process. Dask itself gives up at the first death here, so that what is sent again counts."""
    distributed = pytest.importorskip("distributed")
    import dask

    seeds = child_seeds(3, 12, FITTED)
    method = deadly_method(tmp_path, seeds[6], wait=6)
    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 0}),
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None) as cluster,
        distributed.Client(cluster),
    ):
        found = refits(method, backend="dask", count=12, draws=4, folder=tmp_path / "refits")
    assert (tmp_path / "died").exists()
    assert set(logged(tmp_path)) == set(map(str, seeds))
    assert len(list((tmp_path / "refits").glob("refit-*.pt"))) == 12
    assert (found.attrs["failed"], found.attrs["interrupted"]) == (0, 0)
    assert_same(found, refits(SHORT, count=12, draws=4))
