"""The functions and named sites by which a posterior is judged."""

import numpy as np
import pandas as pd
import pyro
import pyro.distributions as dist
import pytest
import torch
import xarray as xr

from posterity.inference import HMC, Posterior, infer
from posterity.inference.arviz import rhat
from posterity.inference.diagnostics.sampling.report import convergence_report
from posterity.inference.program.sites import inspect
from posterity.models import bayesian, mlp
from tests.inference.diagnostics.sampling.cases import (
    FAST,
    GRID,
    SHAPES,
    X,
    classes,
    line,
    mirrored,
    names,
)


def test_a_posterior_is_judged_by_what_it_predicts():
    posterior = infer(line, X, 2 * X, method=HMC(chains=4, warmup=100, draws=200, **FAST), seed=0)
    found = convergence_report(posterior, GRID)
    places = ["x[0] = -0.5", "x[1] = 0", "x[2] = 0.7"]
    assert found.dataset.label.values.tolist() == [*places, "log density", "w[0]", "w[1]"]
    assert "judged by 4 functions and 2 elements of sites" in str(found)
    np.testing.assert_allclose(
        found.dataset.rhat[4:], rhat(xr.DataArray(posterior.draws["w"].double().numpy(), dims=("chain", "draw", "p")))
    )
    functions = xr.DataArray(posterior.function_draws(GRID).numpy(), dims=("chain", "draw", "point"))
    np.testing.assert_allclose(found.dataset.rhat[:3], rhat(functions.astype(float)), rtol=1e-6)
    assert found.dataset.x.values[:3, 0].tolist() == pytest.approx(GRID.tolist())
    assert "4 chains of 200 draws of HMC" in str(found)
    assert found.verdict in ("note", "caution")
    assert {"ebfmi", "divergences", "acceptance_rate"} <= set(found.dataset.data_vars)


def test_a_posterior_of_classes_is_judged_by_their_probabilities():
    posterior = infer(
        classes, X, (X > 0).long(), method=HMC(chains=4, superchains=2, draws=30, warmup=50, **FAST), seed=0
    )
    found = convergence_report(posterior, GRID)
    assert found.dataset.sizes["point"] == 13
    assert found.dataset.label.values[[0, 8]].tolist() == ["x[0] = -0.5, class 0", "x[2] = 0.7, class 2"]
    # At x = 0 every draw gives each class a third.
    assert found["constant"].number == 3
    assert found.dataset.attrs["superchains"] == 2


def test_mirrored_modes_are_a_matter_of_the_site_and_not_of_the_predictions():
    report = convergence_report(mirrored(torch.tensor([1.0, 1.0, -1.0, 1.0])), GRID)
    assert report.verdict == "caution"
    assert names(report)[0] == ("site_rhat", "caution")
    said = report["site_rhat"]
    assert said.number > 1.5
    assert "agree on predictions, but not on site 'm' (R-hat" in said.words
    assert "label switching, mirrored modes" in said.words
    assert "rhat" not in dict(names(report))
    assert convergence_report(mirrored(torch.ones(4)), GRID).ok


def test_weights_of_a_network_are_no_named_sites():
    net = mlp(1, 2, 1, seed=0)

    def network(x, y=None):
        f = bayesian("net", net)(x[:, None])[:, 0]
        sigma = pyro.sample("sigma", dist.HalfNormal(1.0))
        with pyro.plate("obs", len(x)):
            return pyro.sample("y", dist.Normal(f, sigma), obs=y)

    program = inspect(network, (X, X))
    rng = torch.Generator().manual_seed(0)
    draws = {name: torch.randn(4, 500, *shape, generator=rng) for name, shape in SHAPES.items()}
    draws["sigma"] = torch.rand(4, 500, generator=rng)
    for name in ("net.hidden1.weight", "net.hidden1.bias"):  # units in another order in the last chain
        draws[name] = draws[name] + torch.tensor([1.0, -4.0]).view(2, *[1] * (draws[name].ndim - 3))
        draws[name][3] = draws[name][3].flip(1)
    draws["net.output.weight"][3] = draws["net.output.weight"][3].flip(-1)
    stats = {"lp": torch.randn(4, 500, generator=rng)}
    found = convergence_report(Posterior(network, program, draws, stats), GRID)
    assert found.dataset.label.values.tolist()[-2:] == ["log density", "sigma"]
    assert float(found.dataset.rhat.max()) < 1.02


def test_chains_that_predict_differently_disagree_on_the_site_as_well():
    found = convergence_report(mirrored(torch.tensor([1.0, 1.0, 1.5, 1.0])), GRID)
    assert [(name, severity) for name, severity in names(found) if "rhat" in name] == [
        ("rhat", "stop"), ("site_rhat", "stop")
    ]  # fmt: skip
    assert found["site_rhat"].words.startswith("The chains do not agree on site 'm'")


def test_points_have_the_names_of_the_columns_of_the_fit():
    def plane(x, y=None):
        w = pyro.sample("w", dist.Normal(torch.zeros(2), 1.0).to_event(1))
        with pyro.plate("obs", len(x)):
            return pyro.sample("y", dist.Normal(x @ w, 0.5), obs=y)

    frame = pd.DataFrame({"dose": [0.0, 1.0, 2.0], "age": [1.5, 0.5, 1.0]})
    posterior = infer(plane, frame, X[:3].double(), method=HMC(chains=2, warmup=20, draws=20, **FAST), seed=0)
    dataset = convergence_report(posterior, frame[["age", "dose"]]).dataset
    assert dataset.label.values[:2].tolist() == ["x[0] (dose = 0, age = 1.5)", "x[1] (dose = 1, age = 0.5)"]
    assert dataset.x.sel(feature="age").values[:3].tolist() == [1.5, 0.5, 1.0]
    assert np.isnan(dataset.x.values[3:]).all()
