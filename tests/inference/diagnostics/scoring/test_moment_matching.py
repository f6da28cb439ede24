"""Moment matching with the densities of a Pyro model."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pyro
import pyro.distributions as dist
import pytest
import torch

from posterity.inference import NUTS, SVI, Posterior, infer
from posterity.inference.arviz import HAS_INFERENCE_DATA
from posterity.inference.diagnostics.scoring.comparison import to_elpd
from posterity.inference.diagnostics.scoring.loo import leave_one_out, loo
from posterity.inference.diagnostics.scoring.moment_matching import moment_matching
from posterity.inference.program.sites import inspect
from posterity.inference.program.tables import names_to_attrs, read_tables
from posterity.models import mlp, point
from tests.inference.arviz import outlier_cases as cases

ONLY_IN_1 = pytest.mark.skipif(HAS_INFERENCE_DATA, reason="moment matching came with ArviZ 1.x")
BAD = pytest.mark.filterwarnings("ignore:Pareto k of")
X, Y = torch.as_tensor(cases.X), torch.as_tensor(cases.Y)


def regression(x, y=None):
    w = pyro.sample("w", dist.Normal(torch.zeros(3).to(x), cases.PRIOR).to_event(1))
    with pyro.plate("obs", len(x)):
        return pyro.sample("y", dist.Normal(x @ w, cases.NOISE), obs=y)


def of_all_rows(x, y=None):
    """The same, but a row alone gets another noise."""
    w = pyro.sample("w", dist.Normal(torch.zeros(3).to(x), cases.PRIOR).to_event(1))
    with pyro.plate("obs", len(x)):
        return pyro.sample("y", dist.Normal(x @ w, cases.NOISE * 20 / len(x)), obs=y)


def of(model, args=(X, Y), seed=0):
    return Posterior(model, inspect(model, args), {"w": torch.as_tensor(cases.exact_draws(seed))})


POSTERIOR = of(regression)
DATA = POSTERIOR.to_arviz(X, Y)


@ONLY_IN_1
@BAD
def test_an_outlier_gets_nearer_to_its_exact_density_and_other_rows_stay():
    """Over 4 sets of draws the error of the outlier is less than a third of that of PSIS, more than a nat."""
    errors = []
    for seed in range(4):
        posterior = of(regression, seed=seed)
        data = posterior.to_arviz(X, Y)
        rough, found = loo(data), loo(data, moment_match=moment_matching(posterior, X, y=Y))
        assert rough.pareto_k[cases.OUTLIER] > 0.7 > found.pareto_k[cases.OUTLIER]
        np.testing.assert_array_equal(found.matched, np.arange(20) == cases.OUTLIER)
        np.testing.assert_array_equal(found.pareto_k_before, rough.pareto_k)
        np.testing.assert_array_equal(found.elpd[~found.matched], rough.elpd[~found.matched])
        np.testing.assert_allclose(found.elpd_loo - rough.elpd_loo, (found.elpd - rough.elpd).sum(), rtol=1e-9)
        assert (int(rough.n_bad), int(found.n_bad)) == (1, 0)
        errors.append([float(one.elpd[cases.OUTLIER]) - cases.exact()[cases.OUTLIER] for one in (rough, found)])
    before, after = np.mean(errors, 0)
    assert before > 1
    assert abs(after) < before / 3
    assert not to_elpd(found).warning


@ONLY_IN_1
@BAD
def test_rows_that_cannot_be_scored_alone_and_masked_rows_give_the_same():
    expected = loo(DATA, moment_match=moment_matching(POSTERIOR, X, Y))
    posterior = of(of_all_rows)
    found = loo(posterior.to_arviz(X, Y), moment_match=moment_matching(posterior, X, Y))
    np.testing.assert_allclose(found.elpd, expected.elpd, rtol=1e-9)
    seen = torch.arange(22) > 1

    args = torch.cat([X[:2], X]), torch.cat([Y[:2], Y])

    def with_mask(x, y=None):
        w = pyro.sample("w", dist.Normal(torch.zeros(3).to(x), cases.PRIOR).to_event(1))
        with pyro.plate("obs", len(x)), pyro.poutine.mask(mask=seen):
            return pyro.sample("y", dist.Normal(x @ w, cases.NOISE), obs=y)

    posterior = of(with_mask, args)
    found = loo(posterior.to_arviz(*args), moment_match=moment_matching(posterior, *args))
    np.testing.assert_allclose(found.elpd, expected.elpd, rtol=1e-6)
    np.testing.assert_array_equal(found.matched, expected.matched)


@ONLY_IN_1
@BAD
@pytest.mark.slow
def test_a_constrained_model_gets_nearer_to_a_refit():
    """With unknown noise, by NUTS: the mean distance to the fit without the row is halved, at least."""
    y = Y.clone()
    y[cases.OUTLIER] += 1

    def noisy(x, y=None):
        w = pyro.sample("w", dist.Normal(torch.zeros(3).to(x), cases.PRIOR).to_event(1))
        noise = pyro.sample("noise", dist.LogNormal(torch.tensor(-0.7).to(x), 0.2))
        with pyro.plate("obs", len(x)):
            return pyro.sample("y", dist.Normal(x @ w, noise), obs=y)

    method = NUTS(chains=4, warmup=200, draws=500, progress=False)
    refit = leave_one_out(noisy, X, y, method=NUTS(chains=4, warmup=200, draws=1000, progress=False))(cases.OUTLIER)
    errors = []
    for seed in range(2):
        posterior = infer(noisy, X, y, method=method, seed=seed)
        data = posterior.to_arviz(X, y)
        rough, found = loo(data), loo(data, moment_match=moment_matching(posterior, X, y))
        assert rough.pareto_k[cases.OUTLIER] > 0.7 > found.pareto_k[cases.OUTLIER]
        errors.append([float(one.elpd[cases.OUTLIER]) - refit for one in (rough, found)])
    before, after = np.abs(errors).mean(0)
    assert after < before / 2


@pytest.mark.skipif(not HAS_INFERENCE_DATA, reason="ArviZ 1.x has moment matching")
@BAD
def test_older_versions_are_refused_by_name():
    with pytest.raises(ValueError, match=r"expected ArviZ 1.0 or newer .* for moment matching, got 0\."):
        loo(DATA, moment_match=moment_matching(POSTERIOR, X, Y))


@BAD
def test_bad_input_is_refused():
    with pytest.raises(ValueError, match=r"expected moment_match to be a function of rows.*, got 3"):
        loo(DATA, moment_match=3)
    with pytest.raises(ValueError, match="expected posterior to be a Posterior, got ndarray"):
        moment_matching(np.zeros(3), X, Y)
    with pytest.raises(ValueError, match="expected y, which the model observes at 'y'"):
        moment_matching(POSTERIOR, X)
    with pytest.raises(ValueError, match="expected max_iters to be a whole number of 1 or more, got 0"):
        moment_matching(POSTERIOR, X, Y, max_iters=0)
    with pytest.raises(ValueError, match="expected split to be True or False, got 1"):
        moment_matching(POSTERIOR, X, Y, split=1)
    for other, args in ((of(regression, seed=1), (X, Y)), (of(regression, (X[:2], Y[:2])), (X[:2], Y[:2]))):
        with pytest.raises(ValueError, match="expected data of the posterior and arguments of moment_match"):
            loo(DATA, moment_match=moment_matching(other, *args))
    net = mlp(3, 2, 1, seed=0)

    def trained(x, y=None):
        with pyro.plate("obs", len(x)):
            return pyro.sample("y", dist.Normal(point("net", net)(x)[:, 0], 1.0), obs=y)

    fitted = infer(trained, X.float(), Y.float(), method=SVI(steps=5, progress=False))
    with pytest.raises(ValueError, match="expected a posterior without trained parameters, got"):
        moment_matching(fitted, X.float(), Y.float())


def test_columns_of_a_frame_are_put_in_the_order_of_the_fit():
    frame = pd.DataFrame(cases.X, columns=["a", "b", "c"])
    named = replace(POSTERIOR, attrs=names_to_attrs(read_tables((frame, Y))))
    with pytest.raises(ValueError, match="with the columns of the fit, got none of"):
        moment_matching(named, frame.rename(columns={"a": "d"}), Y)
