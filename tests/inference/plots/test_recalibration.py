"""PIT values before and after recalibration, with their largest distances."""

import numpy as np
import pytest
import xarray as xr
from matplotlib import pyplot as plt
from scipy.stats import kstest

from posterity.inference.plots import plot_recalibration
from tests.inference.plots.cases import UNIFORM, legend


def test_recalibration_gives_the_largest_distances():
    before, after = UNIFORM**2, xr.Dataset({"pit": ("obs", np.random.default_rng(0).random(200))})
    texts = legend(plot_recalibration(before, after)).split("\n")
    for name, values, text in (("before", before, texts[1]), ("after", after, texts[2])):
        assert text.startswith(f"{name}: off by up to {kstest(values.pit.values, 'uniform').statistic:.3f}")
    assert "outside at" in texts[1]
    assert "outside" not in texts[2]


def test_bad_input_of_recalibration_is_refused_before_a_figure_is_there():
    with pytest.raises(
        ValueError, match="expected as many PIT values in each result, for one band, got \\[200, 199\\]"
    ):
        plot_recalibration(UNIFORM, UNIFORM.isel(obs=slice(1, None)))
    assert not plt.get_fignums()
