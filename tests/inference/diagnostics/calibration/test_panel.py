"""The panel of all tests: it keeps its level together, and names the fault that is there, small or gross."""

from collections import Counter

import numpy as np
import pytest
import torch
from torch.distributions import Categorical, Poisson

from posterity.inference import PredictiveMixture
from posterity.inference.diagnostics import calibration_tests
from posterity.inference.diagnostics.calibration.panel import _log_p_of_normality
from posterity.models.mixtures import Mixture

DOUBLE = {"dtype": torch.double}
WEIGHTS, LOC, SCALE = [0.4, 0.6], [-1.5, 1.5], [1.0, 1.0]


def mixture(n, weights=WEIGHTS, loc=LOC, scale=SCALE):
    logits, loc, scale = (torch.tensor(value, **DOUBLE) for value in (weights, loc, scale))
    return Mixture.normal(logits.log(), loc, scale).expand([n])


def samples(count, n, seed):
    torch.manual_seed(seed)
    return mixture(n).sample((count,))


def faults(model, sets):
    return Counter(calibration_tests(model, y, seed=k).attrs["fault"] for k, y in enumerate(sets))


@pytest.mark.slow
def test_the_panel_names_the_fault():
    """25 repetitions of 300 values (seed 8)."""
    models = {
        "component_width": mixture(300, scale=[0.75, 0.75]),
        "component_shift": mixture(300, loc=[-1.5, 2.0]),
        "component_weight": mixture(300, weights=[0.56, 0.44]),
        "shape": mixture(300, [1.0], [0.3], [float(np.sqrt(1 + 0.24 * 9))]),
        "none": mixture(300),
    }
    drawn = samples(25, 300, 8)
    for fault, model in models.items():
        named = [calibration_tests(model, y, seed=k).attrs["fault"] for k, y in enumerate(drawn)]
        assert np.mean([name == fault for name in named]) > 0.8, fault


def test_the_panel_of_draws_has_what_draws_can_tell():
    rng = np.random.default_rng(9)
    found = calibration_tests(0.7 * rng.normal(size=(500, 400)), rng.normal(size=400))
    assert found.attrs["fault"] == "pull_width"
    assert found.attrs["verdict"] == "the predicted errors are wrong"
    assert found.test.values.tolist() == ["pull_mean", "pull_width", "ks", "ad", "chi2", "berkowitz", "pot_c"]
    assert str(found.sees.sel(test="chi2").values) == "a peak or a gap anywhere: another shape"


def test_the_panel_of_counts_leaves_out_what_there_is_not():
    torch.manual_seed(10)
    counts = Mixture(Categorical(logits=torch.zeros(200, 1)), Poisson(torch.full((200, 1), 400.0)))
    found = calibration_tests(counts, counts.sample())
    assert "hdi" in found.test
    assert "component_width" not in found.test


@pytest.mark.parametrize("shift", [0.5, 1.0, 1.5, 2.5, 4.0, 10.0])
@pytest.mark.parametrize("apart", [1.5, 3.0])
def test_gross_shifts_are_shifts(shift, apart):
    """Beyond sqrt(2) widths the score of the width is the larger one: 10 repetitions of 200 values (seed 13)."""
    model = mixture(200, [0.5, 0.5], [-apart, apart])
    torch.manual_seed(13)
    assert faults(model, model.sample((10,)) + shift) == {"component_shift": 10}


@pytest.mark.parametrize("width", [0.4, 2.0, 20.0])
def test_gross_widths_are_widths(width):
    torch.manual_seed(14)
    truth = mixture(200, scale=[width, width])
    assert faults(mixture(200), truth.sample((10,)))["component_width"] >= 9


@pytest.mark.parametrize("shift", [1.0, 2.0, 6.0, 30.0, 1e4, 1e200])
def test_shifts_of_one_peak_are_no_shape(shift):
    """Of a single component, of one in several draws of the posterior, and of draws: 10 repetitions (seed 15)."""
    rng = np.random.default_rng(15)
    y = rng.normal(size=(10, 100)) + shift
    single = mixture(100, [1.0], [0.0], [1.0])
    assert faults(single, y) == {"component_shift": 10}
    same = PredictiveMixture.from_draws(torch.distributions.Normal(torch.zeros(3, 100, **DOUBLE), 1.0))
    assert faults(same, y[:3]) == {"component_shift": 3}
    drawn = Counter(calibration_tests(rng.normal(size=(999, 100)), one).attrs["fault"] for one in y)
    assert drawn == {"pull_mean": 10}


def test_another_shape_of_draws_is_a_shape():
    rng = np.random.default_rng(16)
    named = Counter(
        calibration_tests(rng.normal(size=(999, 200)), rng.exponential(size=200) - 1).attrs["fault"] for _ in range(20)
    )
    assert named["shape"] >= 18


@pytest.mark.slow
def test_all_tests_together_keep_their_level():
    """Draws of a right model, 1,500 repetitions of 100 values: within 3 standard errors (seed 17)."""
    rng = np.random.default_rng(17)
    p = np.array(
        [calibration_tests(rng.normal(size=(99, 100)), rng.normal(size=100)).attrs["p_value"] for _ in range(1500)]
    )
    for level in (0.01, 0.05, 0.1, 0.2):
        assert abs((p < level).mean() - level) < 3 * np.sqrt(level * (1 - level) / 1500)
    assert p.max() > 0.9


def test_the_test_of_normality_has_its_level():
    """Mean and width fitted: 4,000 repetitions of 50 values, 3 standard errors and 5 % of the table (seed 18)."""
    rng = np.random.default_rng(18)
    p = np.exp([_log_p_of_normality(3 + 2 * rng.normal(size=50)) for _ in range(4000)])
    for level in (0.01, 0.05, 0.2, 0.5, 0.9):
        assert abs((p < level).mean() - level) < 3 * np.sqrt(level * (1 - level) / 4000) + 0.05 * level
    far = [_log_p_of_normality(np.r_[np.zeros(n), np.ones(n)] + 1e-3 * rng.normal(size=2 * n)) for n in (50, 500, 5000)]
    assert far[0] > far[1] > far[2] > -np.inf


@pytest.mark.parametrize("level", [0, 1, float("nan"), "0.05"])
def test_another_level_is_refused(level):
    with pytest.raises(ValueError, match=r"expected level to be a number in \(0, 1\), got"):
        calibration_tests(mixture(20), torch.zeros(20), level=level)
