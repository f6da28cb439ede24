"""More draws of a posterior in memory are those of one longer run; other data start where it ended."""

import copy
import pickle

import numpy as np
import pandas as pd
import pyro
import pyro.distributions as dist
import pytest
import torch

from posterity.inference import HMC, NUTS, SVI, Posterior, infer
from posterity.inference.engine.lanes import build
from tests.inference.mcmc.cases import FAMILIES, X, Y, both, every, line, same, short


@every
@pytest.mark.parametrize("changes", [{}, {"thin": 3}, {"dtype": "float16"}, {"warmup": 0, "step_size": 0.1}])
def test_more_draws_are_those_of_a_longer_run(name, changes, fast_engine):
    """Bit for bit, also in two steps, and again from the same posterior."""
    whole = infer(line, X, Y, method=short(name, draws=12, **changes), seed=2)
    first = infer(line, X, Y, method=short(name, draws=5, **changes), seed=2)
    second = first.extend(draws=3)
    assert (first.num_draws, second.num_draws) == (5, 8)
    for longer in (first.extend(draws=7), second.extend(draws=4), first.extend(draws=7)):
        assert same(longer, whole)
        assert longer.attrs["gradients"] == whole.attrs["gradients"]
        assert longer.attrs["settings"] == whole.attrs["settings"]


@every
def test_compiled_runs_go_on_without_a_compilation(name, monkeypatch):
    def model(x, y=None):
        return line(x, y)

    method = {"engine": "compiled", "warmup": 30, "draws": 5}
    first = infer(model, X, Y, method=short(name, **method), seed=2)
    monkeypatch.setattr("posterity.inference.mcmc.run.prepare", None)
    longer = first.extend(draws=7)
    monkeypatch.undo()
    assert same(longer, infer(model, X, Y, method=short(name, **{**method, "draws": 12}), seed=2))


def test_a_limit_that_was_reached_does_not_end_the_rest(fast_engine):
    method = short("HMC", chains=24, draws=600, max_steps=30, target_ess=300.0)
    first = infer(line, X, Y, method=method)
    assert first.num_draws < 600
    assert first.extend(draws=10).num_draws == first.num_draws + 10


def test_a_warm_up_that_was_cut_short_is_not_made_longer(fast_engine, monkeypatch):
    method = short("HMC", draws=4, warmup=50, max_seconds=1000.0)
    monkeypatch.setattr("posterity.inference.mcmc.clock.Clock.warmup_over", True)
    first = infer(line, X, Y, method=method)
    longer = first.extend(draws=3)
    assert longer.num_draws == 7
    assert torch.equal(longer.draws["w"][:, :4], first.draws["w"])


@every
def test_reparametrised_models_and_names_of_columns_are_kept(name):
    frame = pd.DataFrame({"x": np.linspace(-1, 1, 9)})

    def model(x, y=None):
        scale = pyro.sample("scale", dist.LogNormal(0.0, 1.0))
        slope = pyro.sample("slope", dist.Normal(0.0, scale))
        with pyro.plate("obs", len(x)):
            return pyro.sample("y", dist.Normal(slope * x[:, 0], 1.0), obs=y)

    settings = {"reparam": "auto", "draws": 4}
    whole = infer(model, frame, frame["x"], method=short(name, **{**settings, "draws": 6}))
    longer = infer(model, frame, frame["x"], method=short(name, **settings)).extend(draws=2)
    assert same(longer, whole)
    assert set(longer.draws) == {"scale", "slope"}
    assert longer.x_names == whole.x_names == ("x",)


def test_what_is_not_in_memory_is_said(tmp_path, fast_engine):
    posterior = infer(line, X, Y, method=short("NUTS", draws=3))
    posterior.save(tmp_path / "saved")
    loaded = Posterior.load(tmp_path / "saved", line, X, Y)
    fitted = infer(line, X, Y, method=SVI(steps=2, draws=2, progress=False))
    message = (
        "expected a posterior of HMC, NUTS or MCLMC from this session, got one of '{}' without the state of its chains"
    )
    for other, method in ((loaded, "NUTS"), (fitted, "SVI")):
        with pytest.raises(ValueError, match=message.format(method)):
            other.extend(draws=2)
        with pytest.raises(ValueError, match=message.format(method)):
            other.update(X, Y)
    with pytest.raises(ValueError, match="expected draws to be a whole number of 1 or more, got 0"):
        posterior.extend(draws=0)


def test_the_end_of_a_run_is_copied_but_not_pickled(fast_engine):
    continuation = infer(line, X, Y, method=short("NUTS", draws=3)).continuation
    assert copy.deepcopy(continuation) is continuation
    assert pickle.loads(pickle.dumps({"end": continuation})) == {"end": None}  # noqa: S301 - made here


# Other data


def conjugate(x, y=None):
    """Posterior precision n + 1, mean n / (n + 1) times the mean of y."""
    mean = pyro.sample("mean", dist.Normal(0.0, 1.0))
    with pyro.plate("obs", len(x)):
        return pyro.sample("y", dist.Normal(mean, 1.0), obs=y)


GENERATOR = torch.Generator().manual_seed(0)
FIRST, MORE = torch.randn(40, generator=GENERATOR) + 1, torch.randn(80, generator=GENERATOR) - 0.5


@pytest.mark.parametrize("family", [HMC, NUTS])
@pytest.mark.parametrize("rows", [40, 80])
def test_other_data_have_their_exact_posterior(family, rows):
    """The tolerance is 5 standard errors of 16 chains of 200 draws, of which 400 count as effective."""
    method = family(chains=16, warmup=150, draws=200, threads=1, progress=False)
    first = infer(conjugate, FIRST, FIRST, method=method, seed=0)
    y = MORE[:rows]
    found = first.update(y, y, seed=1).draws["mean"].double()
    assert found.shape == (16, 200)
    sd = (rows + 1) ** -0.5
    assert abs(float(found.mean()) - float(y.mean()) * rows / (rows + 1)) < 5 * sd / 20
    assert float(found.std()) == pytest.approx(sd, rel=5 / (2 * 400) ** 0.5)


def test_equal_shapes_need_no_compilation():
    method = short("NUTS", engine="compiled", draws=3)
    first = infer(conjugate, FIRST, FIRST, method=method)
    before = build.compile_source.cache_info().misses
    second = first.update(MORE[:40], MORE[:40], warmup=2)
    assert second.attrs["engine"] == "lanes"
    assert build.compile_source.cache_info().misses == before
    assert second.update(MORE[:60], y=MORE[:60], warmup=2, draws=5).num_draws == 5
    assert build.compile_source.cache_info().misses == before + 1  # the code of other shapes


@both
def test_the_adaptation_is_the_start_of_the_next(name, fast_engine, monkeypatch):
    first = infer(line, X, Y, method=short(name, warmup=60))
    seen = {}
    family = FAMILIES[name].kernel
    monkeypatch.setattr(FAMILIES[name], "kernel", lambda self, engine: seen.setdefault("kernel", family(self, engine)))
    first.update(X, Y + 0.1, warmup=0, draws=2)
    state, end = seen["kernel"].state(), first.continuation.content["kernel"]
    assert torch.equal(state["inverse_mass"], end["inverse_mass"])
    assert torch.equal(state["own"], end["own"])
    assert state["step"]["log_step"] == end["step"]["log_step"]


def test_data_with_sites_of_other_shapes_are_refused():
    def own_mean(x, y=None):
        with pyro.plate("obs", len(x)):
            return pyro.sample("y", dist.Normal(pyro.sample("mean", dist.Normal(0.0, 1.0)), 1.0), obs=y)

    first = infer(own_mean, FIRST, FIRST, method=short("NUTS", draws=2))
    with pytest.raises(ValueError, match=r"expected data with latent sites of the shapes {'mean': \[40\]}, as before"):
        first.update(MORE, MORE)
