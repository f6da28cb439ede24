"""One refit: enough draws, a second attempt, the settings of the method."""

import numpy as np
import pyro
import pyro.distributions as dist
import pytest

from posterity.inference import HMC, NUTS, Blocks, Ensemble, infer
from posterity.inference.diagnostics.simulation import _fits
from posterity.inference.diagnostics.simulation._fits import prepared
from posterity.inference.diagnostics.simulation._refits import FITTED
from posterity.inference.diagnostics.simulation.refits import refit, simulate
from posterity.random import child_seeds
from tests.inference.diagnostics.simulation.cases import NOISE, Prior, Walk, X, failing, line_model, refits


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
    with pytest.warns(
        RuntimeWarning, match=r"in 3 of 3 refits the effective sample size is below 100: .* \(draws=...\)"
    ):
        found = refits(Walk(draws=100), draws=100, count=3, log_likelihood=False)
    assert found.attrs["too_few"] == 3
    assert found.sizes["draw"] == 100


def test_settings_of_a_refit_have_no_bar_no_file_and_one_thread(tmp_path):
    method = prepared(Blocks(NUTS(chains=4, checkpoint=tmp_path / "run.pt"), blocks=2))
    assert (method.method.progress, method.method.threads, method.method.checkpoint) == (False, 1, None)
    assert prepared(Ensemble()).progress is False


def test_a_refit_that_fails_is_tried_again_with_another_seed():
    seed = child_seeds(3, 6, FITTED)[2]
    found = refits(Prior(hook=failing([seed])))
    assert found.attrs["failed"] == 0
    again = infer(line_model(), X, simulate(line_model(), X, count=6, seed=3).y[2], method=Prior(),
                  seed=child_seeds(seed, 1, _fits.RETRIED)[0])  # fmt: skip
    np.testing.assert_allclose(found["draws"][2, :, 2], again.draws["s"][0, 1::2], rtol=1e-6)


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
