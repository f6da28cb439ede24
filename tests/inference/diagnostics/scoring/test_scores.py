import arviz as az
import numpy as np
import pytest
import torch
import xarray as xr
from scipy import stats
from torch.distributions import Categorical, Laplace, StudentT

from posterity.inference.arviz import HAS_INFERENCE_DATA, from_groups
from posterity.inference.diagnostics import elpd_heldout, paired_difference, score_summary, scores
from posterity.inference.diagnostics.scoring.interval_score import interval_score
from posterity.inference.diagnostics.scoring.multivariate import energy_score, variogram_score
from posterity.inference.predictive import PredictiveMixture
from posterity.models.mixtures import Mixture


def normal(n: int, loc: float = 0.0, scale: float = 1.0) -> Mixture:
    full = torch.ones(n, 1).double()
    return Mixture.normal(0 * full, loc * full, scale * full)


def arviz_data(draws: PredictiveMixture, y: torch.Tensor, repeats: int = 200) -> object:
    """What ArviZ would hold: for each draw its log likelihood, and predictive draws of y."""
    per_draw = draws.per_draw
    log_likelihood = per_draw.log_prob(y[:, None]).T[None]
    predictive = per_draw.sample(torch.Size([repeats])).movedim(1, -1).reshape(1, -1, len(y))
    dims = ("chain", "draw", "obs")
    return from_groups(
        {
            "posterior_predictive": xr.Dataset({"y": (dims, predictive.numpy())}),
            "log_likelihood": xr.Dataset({"y": (dims, log_likelihood.numpy())}),
            "observed_data": xr.Dataset({"y": ("obs", y.numpy())}),
        }
    )


def test_scores_of_a_normal():
    y = np.array([0.0, 1.0, -3.0])
    result = scores(normal(3, 0.5, 2.0), torch.tensor(y))
    np.testing.assert_allclose(result.log_score, stats.norm.logpdf(y, 0.5, 2.0), rtol=1e-12)
    np.testing.assert_allclose(result.squared_error, (y - 0.5) ** 2, rtol=1e-12)
    assert result.attrs["crps_method"] == "closed form"


def test_crps_equals_that_of_two_other_libraries():
    scoringrules, properscoring = pytest.importorskip("scoringrules"), pytest.importorskip("properscoring")
    rng = np.random.default_rng(0)
    loc, scale, y = rng.normal(size=(40, 3)), rng.uniform(0.2, 2, (40, 3)), rng.normal(0, 3, 40)
    logits = rng.normal(size=(40, 3))
    weights = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    one = Mixture.normal(torch.zeros(40, 1), torch.tensor(loc[:, :1]), torch.tensor(scale[:, :1]))
    found = scores(one, torch.tensor(y)).crps
    np.testing.assert_allclose(found, properscoring.crps_gaussian(y, loc[:, 0], scale[:, 0]), atol=1e-9)
    np.testing.assert_allclose(found, scoringrules.crps_normal(y, loc[:, 0], scale[:, 0]), atol=1e-9)
    mixture = Mixture.normal(torch.tensor(logits), torch.tensor(loc), torch.tensor(scale))
    expected = scoringrules.crps_mixnorm(y, loc, scale, weights)
    np.testing.assert_allclose(scores(mixture, torch.tensor(y)).crps, expected, atol=1e-9)
    draws = rng.normal(size=(50, 40))
    fair = scoringrules.crps_ensemble(y, draws.T, estimator="fair")
    np.testing.assert_allclose(scores(draws, y).crps, fair, atol=1e-9)
    # properscoring divides the pairs by M² and not by M (M - 1).
    own_pairs = np.abs(draws[:, None] - draws[None]).sum((0, 1)) / 2
    biased = properscoring.crps_ensemble(y, draws.T)
    np.testing.assert_allclose(biased + own_pairs / 50**2 - own_pairs / (50 * 49), fair, atol=1e-9)


def test_blocks_of_columns_do_not_change_the_scores(monkeypatch):
    rng = np.random.default_rng(1)
    draws, y = rng.normal(size=(30, 23)), rng.normal(size=23)
    whole = scores(draws, y)
    monkeypatch.setattr("posterity.inference.diagnostics.sources.draws.CHUNK", 100)
    xr.testing.assert_allclose(whole, scores(draws, y), rtol=1e-13)


def test_an_array_of_draws_has_no_log_score():
    result = scores(np.random.default_rng(0).normal(size=(20, 3)), np.zeros(3))
    assert list(result.data_vars) == ["crps", "squared_error"]


def two_targets(n: int, correlation: float, loc: float = 0.0, scale: float = 1.0) -> Mixture:
    factor = torch.linalg.cholesky(torch.tensor([[1.0, correlation], [correlation, 1.0]]).double())
    return Mixture.multivariate_normal(
        torch.zeros(n, 1).double(),
        torch.full((n, 1, 2), loc, dtype=torch.double),
        scale * factor.expand(n, 1, 2, 2),
    )


def test_scores_of_several_targets():
    torch.manual_seed(4)
    mixture = two_targets(30, 0.5, loc=0.3)
    y = mixture.sample()
    result = scores(mixture, y, draws=200, seed=2)
    covariance = np.array([[1, 0.5], [0.5, 1]])
    expected = stats.multivariate_normal([0.3, 0.3], covariance).logpdf(y.numpy())
    np.testing.assert_allclose(result.log_score, expected, rtol=1e-10)
    np.testing.assert_allclose(result.squared_error, ((y.numpy() - 0.3) ** 2).sum(1), rtol=1e-6)
    np.testing.assert_array_equal(result.energy, energy_score(mixture, y, draws=200, seed=2).energy)
    np.testing.assert_array_equal(result.variogram, variogram_score(mixture, y, draws=200, seed=2).variogram)
    draws = mixture.sample(torch.Size([50]))
    assert list(scores(draws, y).data_vars) == ["energy", "variogram", "squared_error"]


def test_truth_has_the_best_scores_of_several_targets_too():
    """Each difference by more than five standard errors; a shift is nothing to the variogram, which the module says."""
    torch.manual_seed(5)
    n = 2000
    y = two_targets(n, 0.8).sample()
    truth = scores(two_targets(n, 0.8), y, draws=150)
    for other, blind in (
        (two_targets(n, 0.0), ()),
        (two_targets(n, 0.8, scale=1.5), ()),
        (two_targets(n, 0.8, loc=0.5), ("variogram",)),
    ):
        difference = paired_difference(truth, scores(other, y, draws=150))
        assert float(difference.log_score) > 5 * float(difference.log_score_se)
        for name in ("energy", "variogram"):
            ratio = float(difference[name]) / float(difference[f"{name}_se"])
            assert (abs(ratio) < 4) if name in blind else (ratio < -5), (name, ratio)


def test_scores_of_intervals_keep_their_levels():
    torch.manual_seed(6)
    y = normal(200).sample()
    result = interval_score(normal(200), y, levels=[0.5, 0.9])
    summary = score_summary(result)
    assert summary.interval_score.dims == ("level",)
    np.testing.assert_allclose(summary.interval_score, result.interval_score.values.mean(1), rtol=1e-12)
    expected = result.interval_score.values.std(1, ddof=1) / np.sqrt(200)
    np.testing.assert_allclose(summary.interval_score_se, expected, rtol=1e-12)
    assert int(summary.n) == 200
    difference = paired_difference(result, interval_score(normal(200, scale=3.0), y, levels=[0.5, 0.9]))
    assert bool((difference.interval_score < -5 * difference.interval_score_se).all())
    assert float(difference.weighted_interval_score) < -5 * float(difference.weighted_interval_score_se)


def test_float32_predictives_are_scored_in_float64():
    mixture = Mixture.normal(torch.zeros(1, 1), torch.zeros(1, 1), torch.ones(1, 1))
    assert scores(mixture, torch.tensor([1.0])).log_score.values[0] == pytest.approx(stats.norm.logpdf(1), rel=1e-13)


def test_truth_scores_best_on_its_own_data():
    torch.manual_seed(1)
    y = normal(4000).sample()
    truth = scores(normal(4000), y)
    for other in (normal(4000, loc=0.2), normal(4000, scale=0.8), normal(4000, scale=1.25)):
        difference = paired_difference(truth, scores(other, y))
        assert float(difference.log_score) > 3 * float(difference.log_score_se)
        assert float(difference.crps) < -3 * float(difference.crps_se)
    entropy = score_summary(truth)
    assert abs(float(entropy.log_score) + 0.5 * np.log(2 * np.pi * np.e)) < 4 * float(entropy.log_score_se)


def test_other_families_are_scored_from_draws():
    mixture = Mixture(Categorical(logits=torch.zeros(3, 1)), Laplace(torch.zeros(3, 1), torch.ones(3, 1)))
    y = torch.tensor([0.0, 1.0, 4.0])
    result = scores(mixture, y, draws=20_000, seed=3)
    # CRPS of a Laplace distribution: |y| + exp(-|y|) - 3/4.
    np.testing.assert_allclose(result.crps, y + torch.exp(-y) - 0.75, atol=4 * np.sqrt(2 / 20_000))
    assert (result.attrs["crps_method"], result.attrs["crps_draws"]) == ("draws", 20_000)
    xr.testing.assert_identical(result, scores(mixture, y, draws=20_000, seed=3))


def test_arviz_data_agree_with_the_mixture():
    torch.manual_seed(2)
    loc = 0.5 * torch.randn(20, 60).double()
    draws = PredictiveMixture.from_draws(torch.distributions.Normal(loc, 1.0))
    y = draws.sample()
    exact, found = scores(draws, y), scores(arviz_data(draws, y))
    np.testing.assert_allclose(found.log_score, exact.log_score, rtol=1e-10)
    np.testing.assert_allclose(found.crps, exact.crps, atol=4.5 / np.sqrt(4000) * 1.5)
    assert np.abs(found.squared_error - exact.squared_error).max() < 0.6
    assert found.attrs["crps_draws"] == 4000


def test_paired_error_is_of_the_differences():
    rng = np.random.default_rng(0)
    common, noise = rng.normal(0, 10, 500), rng.normal(0, 0.1, 500)
    a, b = (xr.Dataset({"crps": ("obs", values)}) for values in (common + noise, common))
    result = paired_difference(a, b)
    assert float(result.crps_se) == pytest.approx(noise.std(ddof=1) / np.sqrt(500))
    assert float(result.crps) == pytest.approx(noise.mean())


# ArviZ 0.23 with pandas 3.
@pytest.mark.filterwarnings("ignore:The inplace keyword:DeprecationWarning")
def test_compare_ranks_by_the_sum_of_log_scores():
    torch.manual_seed(3)
    y = normal(300).sample()
    good, bad = scores(normal(300), y), scores(normal(300, loc=0.7), y)
    table = az.compare({"bad": elpd_heldout(bad), "good": elpd_heldout(normal(300), y)})
    assert list(table.index) == ["good", "bad"]
    column = "elpd_loo" if "elpd_loo" in table else "elpd"
    # ArviZ 1.x rounds the table for display.
    assert float(table.loc["good", column]) == pytest.approx(float(good.log_score.sum()), rel=0.01)
    difference = (good.log_score - bad.log_score).values
    exact = elpd_heldout(good)
    assert float(exact["se"]) == pytest.approx(
        np.sqrt(300) * good.log_score.values.std(ddof=0 if HAS_INFERENCE_DATA else 1)
    )
    name = "elpd_diff" if "elpd_diff" in table else "elpd_delta"
    assert abs(float(table.loc["bad", name])) == pytest.approx(difference.sum(), rel=0.05)


def test_elpd_counts_the_draws_of_each_source():
    draws = PredictiveMixture.from_draws(torch.distributions.Normal(torch.zeros(20, 5).double(), 1.0))
    y = torch.zeros(5).double()
    for source in ((draws, y), (scores(draws, y),), (arviz_data(draws, y, repeats=1),)):
        assert int(elpd_heldout(*source)["n_samples"]) == 20


def test_result_is_written_as_netcdf(tmp_path):
    result = scores(normal(5), torch.zeros(5))
    for index, dataset in enumerate((result, score_summary(result), paired_difference(result, result))):
        dataset.to_netcdf(tmp_path / f"{index}.nc", engine="h5netcdf")


def test_bad_input_is_refused():
    result = scores(normal(5), torch.zeros(5))
    with pytest.raises(ValueError, match="expected draws to be a whole number of 2 or more, got 1"):
        scores(normal(5), torch.zeros(5), draws=1)
    cauchy = Mixture(Categorical(logits=torch.zeros(3, 1)), StudentT(torch.ones(3, 1)))
    with pytest.raises(ValueError, match="expected finite means of the predictive, got 3 of 3"):
        scores(cauchy, torch.zeros(3))
    with pytest.raises(
        ValueError, match=r"expected scores of the same observations, got \{'obs': 5\} and \{'obs': 4\}"
    ):
        paired_difference(result, scores(normal(4), torch.zeros(4)))
    with pytest.raises(ValueError, match="expected scores of the same observations, got other coordinates"):
        paired_difference(result.assign_coords(obs=range(5)), result.assign_coords(obs=range(1, 6)))
    with pytest.raises(ValueError, match="expected scores of the same kind"):
        paired_difference(result[["crps"]], result[["log_score"]])
    with pytest.raises(ValueError, match="expected a Dataset with any of log_score, crps, energy, variogram"):
        score_summary(xr.Dataset({"score": ("obs", [1.0])}))
    with pytest.raises(ValueError, match="expected at least 2 observations for a standard error, got 1"):
        score_summary(result.isel(obs=[0]))
    with pytest.raises(ValueError, match="expected a Dataset with 'log_score'"):
        elpd_heldout(result[["crps"]])
    with pytest.raises(ValueError, match="expected finite log scores, got 1 of 2"):
        elpd_heldout(xr.Dataset({"log_score": ("obs", [0.0, -np.inf])}))


def test_log_score_of_arviz_data_needs_the_log_likelihood():
    dims = ("chain", "draw", "obs")
    data = from_groups(
        {
            "posterior_predictive": xr.Dataset({"y": (dims, np.random.default_rng(0).normal(size=(2, 9, 3)))}),
            "observed_data": xr.Dataset({"y": ("obs", np.zeros(3))}),
        }
    )
    with pytest.raises(ValueError, match="expected ArviZ data with a group 'log_likelihood', got groups"):
        scores(data)
