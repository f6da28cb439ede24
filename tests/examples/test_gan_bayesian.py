"""The example of the Bayesian GAN as a person runs it, with ``--quick``."""

from pathlib import Path

import pytest

from tests.examples_run import run_twice


@pytest.mark.slow
def test_the_report_compares_the_posterior_with_a_single_gan(tmp_path: Path) -> None:
    metrics = run_twice("gan_bayesian", tmp_path)
    keys = {f"grid.{kind}.{key}" for kind in ("single", "bayesian") for key in ("modes_mean", "high_quality_mean")}
    assert keys | {"grid.bayesian.relative_spread_mean"} <= metrics.keys()
    assert (tmp_path / "gan-bayesian.png").exists()
