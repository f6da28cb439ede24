"""The example of clusters as a person runs it, with ``--quick``."""

from pathlib import Path

import pytest

from tests.examples_run import run_twice

KEYS = ("modes_min", "modes_mean", "high_quality_mean", "reverse_kl_mean", "sd_ratio_mean", "seconds")


@pytest.mark.slow
def test_the_best_recipe_finds_all_clusters_and_the_plain_one_does_not(tmp_path: Path) -> None:
    metrics = run_twice("gan_clusters", tmp_path)
    names = {f"{data}.{recipe}.{key}" for data in ("ring", "grid") for recipe in ("plain", "best") for key in KEYS}
    assert names <= metrics.keys()
    assert metrics["ring.best.modes_mean"] == 8
    assert metrics["grid.best.modes_mean"] >= 24
    for data in ("ring", "grid"):
        assert metrics[f"{data}.best.high_quality_mean"] > max(0.5, 2 * metrics[f"{data}.plain.high_quality_mean"])
    assert (tmp_path / "gan-clusters.png").exists()
