import numpy as np
import pytest
import torch
import xarray as xr
from scipy import stats
from torch.distributions import Categorical, StudentT

from posterity.inference.arviz import from_groups
from posterity.inference.diagnostics import coverage
from posterity.inference.diagnostics.calibration.sharpness import calibration_error, class_calibration_error, sharpness
from posterity.models.mixtures import Mixture


def normals(loc: np.ndarray, scale: np.ndarray) -> Mixture:
    loc, scale = torch.tensor(loc)[:, None], torch.tensor(scale)[:, None]
    return Mixture.normal(torch.zeros_like(loc), loc, scale)


def gaussian_predictions(n: int = 300) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    loc, scale = rng.normal(size=n), rng.uniform(0.3, 2, n)
    return loc, scale, loc + 1.4 * scale * rng.normal(size=n) + 0.1


def test_sharpness_of_normals_in_closed_form():
    toolbox = pytest.importorskip("uncertainty_toolbox")
    loc, scale, y = gaussian_predictions()
    result = sharpness(normals(loc, scale), levels=[0.5, 0.9])
    np.testing.assert_allclose(result.width, 2 * np.outer(stats.norm.ppf([0.75, 0.95]), scale), rtol=1e-9)
    np.testing.assert_allclose(result.sd, scale, rtol=1e-9)
    np.testing.assert_allclose(result.mean_width, result.width.values.mean(1), rtol=1e-12)
    assert float(result.rms_sd) == pytest.approx(toolbox.metrics_calibration.sharpness(scale), rel=1e-9)
    assert float(result.mean_sd) == pytest.approx(scale.mean(), rel=1e-9)
    xr.testing.assert_identical(result, sharpness(normals(loc, scale), torch.tensor(y), levels=[0.5, 0.9]))


def test_sharpness_of_two_peaks_is_that_of_both_without_the_gap():
    loc = torch.tensor([-5.0, 5.0]).double()
    mixture = Mixture.normal(torch.zeros(2, 2).double(), loc, torch.ones(2, 2).double())
    central, dense = (sharpness(mixture, levels=[0.5], kind=kind) for kind in ("central", "hdi"))
    np.testing.assert_allclose(dense.width, 4 * stats.norm.ppf(0.75), rtol=1e-5)
    np.testing.assert_allclose(central.width, 10, rtol=1e-5)


def test_sharpness_of_draws_and_arviz_data(tmp_path):
    draws = np.random.default_rng(1).normal(size=(400, 6))
    result = sharpness(draws)
    np.testing.assert_allclose(result.sd, draws.std(0, ddof=1), rtol=1e-12)
    np.testing.assert_allclose(result.width[1], np.ptp(np.quantile(draws, [0.05, 0.95], axis=0), axis=0), rtol=1e-12)
    data = from_groups(
        {
            "posterior_predictive": xr.Dataset({"y": (("chain", "draw", "place"), draws.reshape(2, 200, 6))}),
            "observed_data": xr.Dataset({"y": ("place", np.zeros(6))}),
        }
    )
    found = sharpness(data)
    assert (found.width.dims, found.sd.dims) == (("level", "place"), ("place",))
    np.testing.assert_allclose(found.width.values, result.width.values)
    found.to_netcdf(tmp_path / "sharpness.nc", engine="h5netcdf")


def test_endless_variance_is_said_and_the_widths_are_there():
    cauchy = Mixture(Categorical(logits=torch.zeros(3, 1)), StudentT(torch.ones(3, 1).double()))
    with pytest.warns(UserWarning, match="sd is not finite for 3 of 3 predictives"):
        result = sharpness(cauchy, levels=[0.5])
    np.testing.assert_allclose(result.width, 2.0, rtol=1e-6)
    assert not np.isfinite(result.mean_sd)


def test_calibration_error_equals_uncertainty_toolbox():
    """Its levels are 0, ..., 1 with the two ends, where nothing can differ."""
    toolbox = pytest.importorskip("uncertainty_toolbox").metrics_calibration
    loc, scale, y = gaussian_predictions()
    levels = np.linspace(0, 1, 100)
    result = calibration_error(normals(loc, scale), torch.tensor(y), levels=levels[1:-1])
    absolute = toolbox.mean_absolute_calibration_error(loc, scale, y, vectorized=True)
    assert float(result.mean_absolute) * 98 / 100 == pytest.approx(absolute, rel=1e-9)
    square = toolbox.root_mean_squared_calibration_error(loc, scale, y, vectorized=True)
    assert float(result.root_mean_square) * np.sqrt(98 / 100) == pytest.approx(square, rel=1e-9)
    found = coverage(normals(loc, scale), torch.tensor(y), levels=levels[1:-1])
    _, share = toolbox.get_proportion_lists_vectorized(loc, scale, y)
    np.testing.assert_allclose(found.coverage, share[1:-1], rtol=1e-12)
    for name in result.data_vars:
        np.testing.assert_array_equal(calibration_error(found)[name], result[name])


def test_what_chance_makes_of_a_right_model():
    """Over 400 repetitions: the mean error is as predicted, and the unbiased square is 0, to 4 standard errors."""
    rng = np.random.default_rng(2)
    errors = [
        calibration_error(coverage(xr.Dataset({"level": ("obs", rng.random(40))}), levels=[0.1, 0.55, 0.9]))
        for _ in range(400)
    ]
    for name, expected in (("mean_absolute", float(errors[0].mean_absolute_by_chance)), ("mean_square_unbiased", 0.0)):
        values = np.array([float(error[name]) for error in errors])
        assert abs(values.mean() - expected) < 4 * values.std() / np.sqrt(len(values))
    counts = np.arange(41)
    exact = np.mean([stats.binom.pmf(counts, 40, p) @ np.abs(counts / 40 - p) for p in (0.1, 0.55, 0.9)])
    assert float(errors[0].mean_absolute_by_chance) == pytest.approx(exact, rel=1e-12)
    biased = np.mean([float(error.root_mean_square) ** 2 for error in errors])
    assert biased > 0.002  # p (1 - p)/n on average: 0.0036


def test_wrong_widths_have_errors_of_the_right_sign():
    loc, scale, _ = gaussian_predictions(2000)
    y = torch.tensor(loc + scale * np.random.default_rng(3).normal(size=2000))
    narrow, wide, right = (calibration_error(normals(loc, factor * scale), y) for factor in (0.7, 1.4, 1.0))
    assert float(narrow.mean_difference) < -0.1
    assert float(wide.mean_difference) > 0.1
    assert float(right.mean_absolute) < 3 * float(right.mean_absolute_by_chance)
    assert float(narrow.mean_square_unbiased) == pytest.approx(float(narrow.root_mean_square) ** 2, rel=0.05)


def test_calibration_error_by_group(tmp_path):
    loc, scale, y = gaussian_predictions()
    group = np.repeat(["a", "b"], [100, 200])
    found = coverage(normals(loc, scale), torch.tensor(y), by=group)
    result = calibration_error(found)
    alone = calibration_error(normals(loc[:100], scale[:100]), torch.tensor(y[:100]))
    for name in alone.data_vars:
        assert result[name].dims == ("group",)
        assert float(result[name][0]) == pytest.approx(float(alone[name]), rel=1e-12)
    result.to_netcdf(tmp_path / "error.nc", engine="h5netcdf")


def classes(n: int, sharper: float = 1.0, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities of four classes, and labels from them; those stated may be sharper than the true ones."""
    rng = np.random.default_rng(seed)
    true = rng.dirichlet([0.7] * 4, size=n)
    labels = (rng.random((n, 1)) > true.cumsum(1)).sum(1).clip(max=3)
    stated = true**sharper
    return stated / stated.sum(1, keepdims=True), labels


def test_right_classes_have_the_error_of_chance():
    """300 repetitions of 500 rows; to four standard errors, and what chance predicts to 3 %."""
    errors = [class_calibration_error(*classes(500, seed=seed), bins=10) for seed in range(300)]
    mean = {
        name: np.mean([float(error[name]) for error in errors])
        for name in ("ece", "ece_by_chance", "classwise_ece", "classwise_ece_by_chance")
    }
    square = np.array([float(error.mean_square_unbiased) for error in errors])
    assert abs(square.mean()) < 4 * square.std() / np.sqrt(300)
    assert mean["ece"] == pytest.approx(mean["ece_by_chance"], rel=0.03)
    assert mean["classwise_ece"] == pytest.approx(mean["classwise_ece_by_chance"], rel=0.03)


def test_overconfident_classes_are_seen():
    error = class_calibration_error(*classes(5000, sharper=2.0))
    assert float(error.ece) > 5 * float(error.ece_by_chance)
    assert float(error.classwise_ece) > 3 * float(error.classwise_ece_by_chance)
    assert bool((error.accuracy < error.confidence)[2:].all())
    assert int(error["count"].sum()) == 5000


def test_class_error_by_hand(tmp_path):
    """Two confidences, 0.6 right once in two and 0.9 always: 1/2 0.1 + 1/2 0.1."""
    probabilities = np.array([[0.6, 0.4], [0.6, 0.4], [0.1, 0.9], [0.1, 0.9]])
    error = class_calibration_error(probabilities, np.array([0, 1, 1, 1]))
    assert float(error.ece) == pytest.approx(0.1)
    np.testing.assert_allclose(error.confidence, [0.6, 0.9])
    np.testing.assert_allclose(error.accuracy, [0.5, 1.0])
    # 0.01 - 0.25/(2 - 1) in the first bin, 0.01 - 0 in the second.
    assert float(error.mean_square_unbiased) == pytest.approx(0.5 * (0.01 - 0.25) + 0.5 * 0.01)
    error.to_netcdf(tmp_path / "classes.nc", engine="h5netcdf")


@pytest.mark.parametrize(
    ("probabilities", "labels", "bins", "message"),
    [
        (np.ones(3), np.zeros(3, int), 5, r"expected probabilities of shape \(N, C >= 2\), got \(3,\)"),
        (np.full((3, 2), 0.6), np.zeros(3, int), 5, "expected rows of probabilities that sum to one"),
        (np.full((3, 2), 0.5), np.zeros(3), 5, r"expected labels of shape \(3,\), whole numbers, got float64 \(3,\)"),
        (np.full((3, 2), 0.5), np.array([0, 1, 2]), 5, "expected labels from 0 to 1, got 0 to 2"),
        (np.full((3, 2), 0.5), np.zeros(3, int), 0, "expected bins to be a whole number of 1 or more, got 0"),
        (np.array([[0.1, 0.9], [0.3, 0.7]]), np.zeros(2, int), 5, "expected at least 2 observations in each group"),
        (np.full((3, 2), np.nan), np.zeros(3, int), 5, "expected finite probabilities, got 6 of 6"),
        (np.full((3, 2), 0.5), np.zeros(3, int), 2.5, "expected bins to be a whole number of 1 or more, got 2.5"),
        (np.full((3, 2), 0.5 + 0j), np.zeros(3, int), 5, "expected real numbers as probabilities, got complex128"),
        (np.full((3, 2), "0.5"), np.zeros(3, int), 5, "expected real numbers as probabilities, got <U3"),
        (np.ma.masked_all((3, 2)), np.zeros(3, int), 5, "expected probabilities without a mask"),
    ],
)
def test_bad_classes_are_refused(probabilities, labels, bins, message):
    with pytest.raises(ValueError, match=message):
        class_calibration_error(probabilities, labels, bins=bins)


def test_bad_input_is_refused():
    mixture = normals(np.zeros(3), np.ones(3))
    with pytest.raises(ValueError, match=r"expected levels to be numbers in \(0, 1\)"):
        sharpness(mixture, levels=[0.0])
    with pytest.raises(ValueError, match="expected kind to be one of 'central', 'hdi', got 'other'"):
        sharpness(mixture, kind="other")
    with pytest.raises(ValueError, match=r"expected y of shape \(3,\), got \(2,\)"):
        sharpness(mixture, torch.zeros(2))
    with pytest.raises(ValueError, match="expected at least 2 posterior-predictive draws, got 1"):
        sharpness(np.zeros((1, 3)))
    with pytest.raises(ValueError, match=r"expected a result of coverage\(\), with coverage, n, level"):
        calibration_error(xr.Dataset({"pit": ("obs", [0.5])}))
    with pytest.raises(ValueError, match="expected y of shape"):
        calibration_error(mixture)
