"""Reparametrised models: the user's sites come back, with the posterior of the model as it was written."""

import functools
from dataclasses import replace

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer.mcmc.util import initialize_model
from pyro.infer.reparam import LocScaleReparam, TransformReparam
from pyro.infer.reparam.strategies import AutoReparam

from posterity.inference import HMC, NUTS, SVI, ConvergenceWarning, Posterior, infer
from posterity.inference.engine import Density
from posterity.inference.program.reparam import check_reparam, decentring, parametrise
from posterity.inference.program.sites import inspect
from tests.inference.mcmc.reference_models import compare, reference

EFFECT = torch.tensor([28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0], dtype=torch.double)
ERROR = torch.tensor([15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0], dtype=torch.double)
DATA = (ERROR, EFFECT)
SHORT = {"chains": 3, "warmup": 20, "draws": 10, "engine": "eager", "threads": 1, "progress": False}


def centred(error, effect=None):
    mu = pyro.sample("mu", dist.Normal(0.0, 5.0))
    tau = pyro.sample("tau", dist.HalfCauchy(5.0))
    with pyro.plate("school", len(error)):
        theta = pyro.sample("theta", dist.Normal(mu, tau))
        return pyro.sample("effect", dist.Normal(theta, error), obs=effect)


def transformed(error, effect=None):
    """Group effects that are log-normal, and a location of other groups that depends on nothing."""
    mu = pyro.sample("mu", dist.Normal(0.0, 1.0))
    pyro.sample("apart", dist.LogNormal(0.0, 1.0))
    with pyro.plate("school", len(error)):
        theta = pyro.sample("theta", dist.LogNormal(mu, 0.5))
        return pyro.sample("effect", dist.Normal(theta, error), obs=effect)


CONFIGS = {
    "fixed": {"theta": LocScaleReparam(0.0)},
    "half": {"theta": LocScaleReparam(0.5)},
    "learnt": {"theta": LocScaleReparam()},
    "auto": AutoReparam(),
}


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("decorated", [False, True])
def test_the_density_is_that_of_pyro_s_potential(name, decorated):
    config = CONFIGS[name]
    strategy = config if callable(config) else functools.partial(pyro.poutine.reparam, config=config)
    model = strategy(centred) if decorated else pyro.poutine.reparam(centred, config=config)
    program = inspect(model, DATA)
    assert program.site == "effect"
    assert "theta" in program.reparametrised
    run = parametrise(model, DATA, program)
    density = Density(run.model, DATA)
    torch.set_default_dtype(torch.double)
    try:
        _, potential, *_ = initialize_model(model, model_args=DATA)
        q = torch.linspace(-1.0, 1.0, density.dim)
        free = {s.name: q[s.start : s.start + s.size].reshape(s.unconstrained) for s in density.sites}
        torch.testing.assert_close(density(q), -potential(free))
    finally:
        torch.set_default_dtype(torch.float)
        pyro.clear_param_store()
    values = run.user_draws(DATA, {n: v[None, None] for n, v in density.constrain(q).items()})
    aux = density.constrain(q)
    centredness = {"fixed": 0.0, "half": 0.5, "learnt": 0.5, "auto": 0.5}[name]
    mu, tau = values["mu"][0, 0], aux["tau"]
    expected = mu + tau ** (1 - centredness) * (aux["theta_decentered"] - centredness * mu)
    torch.testing.assert_close(values["theta"][0, 0], expected)


@pytest.mark.parametrize("name", CONFIGS)
def test_the_sites_of_a_reparametrised_model_come_back_in_the_user_s_names(name, tmp_path):
    model = pyro.poutine.reparam(centred, config=CONFIGS[name])
    posterior = infer(model, *DATA, method=NUTS(**SHORT, max_tree_depth=3), seed=0)
    centredness = 0.5 if name in ("learnt", "auto") else {"fixed": 0.0, "half": 0.5}[name]
    mu, tau = posterior.draws["mu"][..., None], posterior.draws["tau"][..., None]
    expected = mu + tau ** (1 - centredness) * (posterior.draws["theta_decentered"] - centredness * mu)
    torch.testing.assert_close(posterior.draws["theta"], expected)
    data = posterior.to_arviz(*DATA)
    assert {"theta", "theta_decentered", "mu", "tau"} <= set(data.posterior.data_vars)
    np.testing.assert_allclose(data.posterior["theta"], posterior.draws["theta"], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(posterior.likelihood(ERROR).mean.unflatten(0, (3, 10)), posterior.draws["theta"])
    posterior.save(tmp_path / "saved")
    loaded = Posterior.load(tmp_path / "saved", model, *DATA)
    torch.testing.assert_close(loaded.log_likelihood(*DATA), posterior.log_likelihood(*DATA))
    pyro.clear_param_store()


def test_variational_inference_learns_the_centredness_and_returns_the_user_s_sites():
    model = pyro.poutine.reparam(centred, config={"theta": LocScaleReparam()})
    posterior = infer(model, *DATA, method=SVI(steps=20, draws=5, progress=False), seed=0)
    assert not torch.equal(posterior.draws["theta_centered"], torch.full_like(posterior.draws["theta_centered"], 0.5))
    torch.testing.assert_close(posterior.likelihood(ERROR).mean, posterior.draws["theta"].flatten(0, 1))


def test_agreement_is_judged_on_the_user_s_sites():
    """Chains that start at opposite effects and do not move disagree on theta, also where its name is auxiliary."""
    model = pyro.poutine.reparam(centred, config={"theta": LocScaleReparam(0.0)})
    starts = {
        "mu": torch.zeros(2),
        "tau": torch.ones(2),
        "theta_decentered": torch.tensor([[-1.0], [1.0]]).repeat(1, 8),
    }
    method = HMC(**{**SHORT, "chains": 2, "warmup": 0}, step_size=1e-3, max_steps=4, init=starts)
    with pytest.warns(ConvergenceWarning, match=r"nor on sites .*'theta\[\d\]'"):
        infer(model, *DATA, method=method, seed=0)


def test_parameters_other_than_centredness_are_refused():
    def learnt(error, effect=None):
        pyro.param("theta_centered", torch.tensor(0.5))
        return centred(error, effect)

    with pytest.raises(ValueError, match=r"expected a model without parameters .*, got \('theta_centered',\)"):
        infer(learnt, *DATA, method=NUTS(**SHORT))
    pyro.clear_param_store()


# The setting


def test_auto_reparametrises_what_depends_on_other_sites():
    assert {name: type(found) for name, found in decentring(centred, DATA).items()} == {"theta": LocScaleReparam}
    found = decentring(transformed, DATA)
    assert {name: type(one) for name, one in found.items()} == {
        "theta": TransformReparam,
        "theta_base": LocScaleReparam,
    }

    def plain(error, effect=None):
        return pyro.sample(
            "effect", dist.Normal(pyro.sample("mu", dist.Normal(0.0, 1.0)), error).to_event(1), obs=effect
        )

    assert decentring(plain, DATA) == {}


@pytest.mark.parametrize("model", [centred, transformed])
@pytest.mark.parametrize("reparam", ["auto", AutoReparam(centered=0.0)])
def test_draws_are_of_the_user_s_sites_alone(model, reparam, tmp_path):
    posterior = infer(model, *DATA, method=NUTS(**SHORT, max_tree_depth=3, reparam=reparam), seed=0)
    assert set(posterior.draws) == set(inspect(model, DATA).latents)
    assert posterior.model is model or posterior.model.__wrapped__ is model
    posterior.save(tmp_path / "saved")
    loaded = Posterior.load(tmp_path / "saved", model, *DATA)
    torch.testing.assert_close(loaded.likelihood(ERROR).mean, posterior.draws["theta"].flatten(0, 1))
    assert "reparam=" in posterior.attrs["settings"]


@pytest.mark.parametrize("model", [centred, transformed])
def test_starts_are_given_in_the_user_s_names(model):
    first = infer(model, *DATA, method=NUTS(**SHORT, max_tree_depth=3), seed=0)
    again = infer(
        model, *DATA, method=NUTS(**{**SHORT, "warmup": 0, "draws": 1}, init=first, step_size=1e-9, reparam="auto")
    )
    chosen = torch.linspace(0, 29, 3).round().long()
    for name, value in first.draws.items():
        rounding = 1e-6 * float(value.abs().max())
        torch.testing.assert_close(again.draws[name][:, 0], value.flatten(0, 1)[chosen], rtol=1e-5, atol=rounding)
    with pytest.raises(ValueError, match="expected a start for every latent site, got none for 'theta'"):
        infer(centred, *DATA, method=NUTS(**SHORT, reparam="auto", init={"mu": 0.0, "tau": 1.0}))


def test_centred_schools_with_auto_have_the_published_posterior():
    """10,000 reference draws of posteriordb; the tolerance is 4 standard errors for the worst of ten means."""
    method = NUTS(chains=16, warmup=300, draws=500, target_accept=0.95, progress=False, reparam="auto")
    posterior = infer(centred, *DATA, method=method, seed=0)
    mu, tau = posterior.draws["mu"][..., None], posterior.draws["tau"][..., None]
    noncentred = {**posterior.draws, "theta_trans": (posterior.draws["theta"] - mu) / tau}
    found = compare(replace(posterior, draws=noncentred), reference("eight_schools"))
    assert found["divergences"] == 0
    assert found["min_ess"] > 2000
    assert found["max_z"] < 4
    assert found["max_sd_z"] < 4


def test_divergences_of_the_centred_form_name_the_remedy():
    method = NUTS(**{**SHORT, "warmup": 0, "draws": 60}, step_size=1.5)  # far too long for small values of tau
    with pytest.warns(ConvergenceWarning, match=r"diverged.* use the non-centred model \(reparam='auto'\)"):
        infer(centred, *DATA, method=method, seed=0)


@pytest.mark.parametrize("reparam", ["centred", 5, LocScaleReparam])
def test_other_settings_are_refused(reparam):
    if callable(reparam):
        check_reparam(reparam)
        return
    message = rf"expected reparam to be None, 'auto', or a config of pyro.poutine.reparam .*, got {reparam!r}"
    with pytest.raises(ValueError, match=message):
        NUTS(reparam=reparam)
    with pytest.raises(ValueError, match=message):
        check_reparam(reparam)
