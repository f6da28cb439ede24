"""Completing faces as a person runs it, with ``--quick``, and scores of known completions."""

from pathlib import Path

import pytest
import torch

from tests.examples_run import run_twice, script

PARTS = ("lower", "eyes", "centre")


def test_scores_of_known_completions() -> None:
    """An error of 0.02 of a range of 2 is 40 dB, and pixels that are not hidden do not count."""
    mask = torch.zeros(16, 16, dtype=torch.bool)
    mask[8:] = True
    truth = torch.rand(3, 1, 16, 16, generator=torch.Generator().manual_seed(0)) - 0.5
    with script("faces") as module:
        found = truth.clone()
        found[..., ~mask] += 5
        found[..., mask] += 0.02
        assert module.evaluation.psnr(found, truth, mask).tolist() == pytest.approx([40, 40, 40], abs=1e-3)
        assert module.evaluation.ssim(truth, truth, mask) == pytest.approx(1)
        draws = truth + 0.1 * torch.randn(2000, 3, 1, 16, 16, generator=torch.Generator().manual_seed(1))
        other = truth + 0.1 * torch.randn(3, 1, 16, 16, generator=torch.Generator().manual_seed(2))
        numbers = module.evaluation._intervals(draws[..., mask], other[..., mask])
        assert numbers["coverage"] == pytest.approx(0.9, abs=0.06)  # 384 pixels: 4 standard errors
        assert numbers["pit_distance"] < 1.63 / 384**0.5  # 1% of the Kolmogorov distribution


def test_no_person_is_in_two_groups() -> None:
    with script("faces") as module:
        groups = module.evaluation.people(module.QUICK)
        people = {name: set(images.labels.tolist()) for name, images in groups.items()}
    assert people["fitted"] | people["held_out"] == people["training"]
    assert not people["fitted"] & people["held_out"]
    assert not people["training"] & people["tested"]


@pytest.mark.slow
def test_the_report_has_what_it_says(tmp_path: Path) -> None:
    metrics = run_twice("faces", tmp_path)
    methods = ("network", "mean", "knn", "ridge", "ridge_moved", "ppca")
    assert {f"{name}.{part}.{key}" for name in methods for part in PARTS for key in ("psnr", "ssim")} <= set(metrics)
    for part in PARTS:
        assert metrics[f"network.{part}.psnr"] > metrics[f"mean.{part}.psnr"]
        assert 0.5 < metrics[f"network.{part}.coverage"] <= 1
        assert metrics[f"pca.{part}.pit_p_of_own_draws"] > 1e-3
    assert metrics["refused.noise"] == 1
    assert {path.name for path in tmp_path.glob("*.png")} == {"faces-completions.png", "faces-scores.png"}
