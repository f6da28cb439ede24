"""Simulations and refits: the right numbers, wherever they run, whatever is lost on the way.

Models and methods are made inside functions: what a worker gets then is their code, as from a notebook.
"""

import warnings
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import xarray as xr
from pyro.infer import autoguide

from posterity.inference import NUTS, SVI
from posterity.inference.convergence import ConvergenceWarning
from posterity.inference.diagnostics.simulation import _fits
from posterity.inference.diagnostics.simulation import _refits as refits_module
from posterity.inference.diagnostics.simulation._refits import FITTED
from posterity.inference.diagnostics.simulation.refits import refit, simulate
from posterity.inference.diagnostics.simulation.sbc import sbc
from posterity.inference.engine import chain_data
from posterity.inference.mcmc import batched
from posterity.random import child_seeds
from tests.inference.diagnostics.simulation.cases import (
    SHORT,
    Prior,
    X,
    assert_same,
    deadly_method,
    failing,
    interrupting,
    line_model,
    logged,
    refits,
)


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
        ({"test_quantities": [1]}, "expected test_quantities to be a function or a mapping"),
        ({"test_quantities": lambda values, y: y}, "expected the test quantity 'lambda' to be one number, got 5"),
        ({"test_quantities": lambda values, y: np.inf}, "expected finite values of 'lambda', got 1 of 1"),
        ({"sites": "w"}, "expected sites to be a list of names, got 'w'"),
        ({"sites": ["v"]}, r"expected sites of the model \['end', 's', 'w'\], got \['v'\]"),
        ({"sites": [], "log_likelihood": False}, "expected at least one test quantity, got none"),
        ({"batched": True}, r"expected method to be HMC\(...\) or NUTS\(...\) with batched=True, got Prior"),
        (
            {"batched": True, "method": replace(SHORT, max_seconds=1.0)},
            "max_seconds, .* are not supported with batched=True, got max_seconds=1.0",
        ),
    ],
)
def test_bad_settings_are_refused(settings, message):
    chosen = {"method": Prior(), "count": 4, "draws": 20, "progress": False} | settings
    with pytest.raises(ValueError, match=message):
        refit(line_model(), X, **chosen)


def test_guides_that_keep_what_they_learn_are_refused():
    """They would start the next refit where the last one ended, and lose their model on the way to a worker."""
    guide = autoguide.AutoNormal(line_model())
    for settings in ({"method": SVI(guide=guide)}, {"model": SimpleNamespace(model=line_model(), guide=guide)}):
        with pytest.raises(ValueError, match="expected guide to be a name or a function, got a module"):
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
    with pytest.warns(RuntimeWarning, match=r"returns 2 of 6 refits\. With folder=\.\.\. it could continue"):
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
    with pytest.warns(ConvergenceWarning, match=r"warned in 2 of 6 refits \(.*\), first: chains apart") as caught:
        found = refits()
    assert len(caught) == 1
    assert found.warnings.values.tolist() == ["", "chains apart", "", "", "chains apart", ""]


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
        (torch.zeros(3, 20, 2), r"to return a mapping with the sites \['w', 's'\], got Tensor"),
        ({"w": torch.zeros(3, 20, 2)}, r"expected posterior_draws to return the sites \['s', 'w'\], got \['w'\]"),
        ({"w": torch.zeros(3, 20, 2), "s": torch.ones(3)}, r"to return 's' with shape \(3, draws\), got \(3,\)"),
        ({"w": torch.zeros(2, 20, 2), "s": torch.ones(3, 20)}, r"to return 'w' with shape \(3, draws, 2\), got \(2"),
        (
            {"w": torch.zeros(3, 20, 2), "s": torch.ones(3, 19)},
            r"to return equally many draws of every site, got \[19, 20\]",
        ),
        ({"w": torch.zeros(3, 9, 2), "s": torch.ones(3, 9)}, "expected at least 20 draws of each posterior"),
    ],
)
def test_bad_posterior_draws_are_refused(given, message):
    with pytest.raises(ValueError, match=message):
        refit(line_model(), X, posterior_draws=lambda y: given, count=3, draws=20, progress=False)


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
