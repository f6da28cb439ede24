"""The lecture's first pictures as a person makes them, with ``--quick``, and options of one's own."""

import json
from pathlib import Path

import pytest
import torch

from tests.examples_run import Finished, run_and_resume, script, start

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    return run_and_resume("bnn_regression", tmp_path_factory.mktemp("bnn_regression"))


def test_every_page_has_its_figure(finished: Finished) -> None:
    assert finished.figures == {"rows-gp.png", "methods-gp.png", "widths-gp.png", "wide.png", "many.png"}


def test_bands_close_with_data_and_open_in_the_gap(finished: Finished) -> None:
    """Short chains already show it: the epistemic band falls, and the exact one beside it; the noise stays."""
    metrics = finished.metrics
    for name in ("hmc", "exact"):
        bands = [metrics[f"gp_points.n{n}.{name}.band_epistemic"] for n in (10, 50, 200)]
        assert bands[0] > bands[1] > bands[2]
        assert metrics[f"gp_points.n200.{name}.sd_gap_ratio"] > 3
    assert metrics["gp_points.n200.hmc.band_epistemic"] == pytest.approx(bands[2], rel=0.3)
    noises = [metrics[f"gp_noise.{sd}.hmc.band_noise"] for sd in ("sd01", "sd03", "sd09")]
    assert noises[0] < noises[1] < noises[2]


def test_frozen_features_are_linear_regression(finished: Finished) -> None:
    """8 chains of 60 draws, some 300 effective: five standard errors of a mean are .3 of its sd, of an sd .2."""
    assert finished.metrics["wide.features.mean_max"] < 0.3
    assert 0.8 < finished.metrics["wide.features.sd_ratio_min"] < finished.metrics["wide.features.sd_ratio_max"] < 1.2


def test_own_rows(tmp_path: Path) -> None:
    """One curve with noise and numbers of points of one's own, and one method: only the figure of its rows."""
    options = ["--curve", "wave", "--noise", "0.2", "--points", "20", "30", "--methods", "ensemble", "--quick"]
    result = start("bnn_regression", *options, "--out", str(tmp_path))
    assert result.returncode == 0, result.stderr[-3000:]
    metrics = json.loads((tmp_path / "report.json").read_text())["metrics"]
    assert {"wave.wave-n50-sd0p2.map.r2", "wave.wave-n20-sd0p3.ensemble.elpd"} <= set(metrics)
    assert {path.name for path in tmp_path.glob("*.png")} == {"rows-wave.png", "widths-wave.png"}


def test_bad_options_are_named(tmp_path: Path) -> None:
    result = start("bnn_regression", "--noise", "-1", "--out", str(tmp_path))
    assert result.returncode == 2
    assert "expected noise above 0" in result.stderr


def test_each_data_set_has_its_own_name() -> None:
    with script("_bnn.panels") as panels:
        wanted = panels.wanted_panels(["gp"], [50, 51], [0.301, 0.304, 1e-4])
        assert len({panels.panel_name(panel) for panel in wanted}) == len(wanted) == 5


def test_the_exact_posterior_integrates_the_noise() -> None:
    """Mean and standard deviation of the noise against a fine grid, where a coarse one has one value."""
    with script("_bnn.exact") as exact, script("_bnn.curves") as curves:
        for points in (10, 400):
            data = curves.CURVES["gp"].data(points, 0.3, 0)
            found = exact.ExactPosterior(data)
            moments = [float(found.log_weights.exp() @ found.noises**power) for power in (1, 2)]
            fine = found._condition(data, torch.logspace(-2, 0.5, 500)).exp()
            assert moments == pytest.approx([float(fine @ found.noises**power) for power in (1, 2)], rel=2e-3)
            assert float(found.log_weights.max().exp()) < 0.3
