"""Super-resolution as a person runs it, with ``--quick`` and with a picture of their own."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.examples_run import run_twice, script

STORED = Path(__file__).parents[2] / "examples" / "results" / "super_resolution"


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


@pytest.mark.slow
def test_the_report_has_what_it_says(tmp_path: Path) -> None:
    """After seconds of training: everything is measured, and the network is better than bicubic enlargement."""
    metrics = run_twice("super_resolution", tmp_path)
    ways = ("nearest", "bicubic", "pixel", "pixel_oriented", "adversarial")
    keys = ("psnr", "ssim", "spectrum_distance", "gradient_distance")
    assert {f"{way}.{key}" for way in ways for key in keys} <= metrics.keys()
    assert metrics["nearest.psnr"] < metrics["bicubic.psnr"] < metrics["pixel.psnr"] < metrics["pixel_oriented.psnr"]
    assert metrics["pixel.gain"] == pytest.approx(metrics["pixel.psnr"] - metrics["bicubic.psnr"])
    assert 0.5 < metrics["errors.pull_width"] < 1.5
    assert 0.5 < metrics["errors.coverage_90"] <= 1
    names = {f"super-resolution-{name}.png" for name in ("details", "textures", "errors")}
    assert {path.name for path in tmp_path.glob("*.png")} == names
    assert not list(tmp_path.rglob("*.part"))


def test_a_picture_of_a_user_is_enlarged_with_the_stored_networks(tmp_path: Path) -> None:
    """Their files together have less than 3 MB."""
    assert sum(path.stat().st_size for path in STORED.glob("*.pt")) < 3_000_000
    array = np.random.default_rng(0).integers(0, 256, (30, 22, 4), np.uint8)
    Image.fromarray(array).save(tmp_path / "mine.png")
    with script("super_resolution") as module:
        assert module.main(["--image", str(tmp_path / "mine.png"), "--out", str(tmp_path)]) == 0
    for way in ("bicubic", "pixel", "adversarial"):
        assert pixels(tmp_path / f"mine-{way}.png").shape == (120, 88, 4)
    assert pixels(tmp_path / "mine-sd.png").shape == (120, 88)
    assert (tmp_path / "mine-side-by-side.png").exists()


def test_what_is_no_picture_is_named_and_nothing_is_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wrong = tmp_path / "mine.png"
    wrong.write_text("no picture")
    large = tmp_path / "large.png"
    Image.new("1", (20_000, 20_000)).save(large)
    with script("super_resolution") as module:
        for path, words in (
            (wrong, "expected a picture in"),
            (large, "expected a picture of at most 5000000 pixels in"),
            (tmp_path / "none.png", "expected path to be a picture"),
        ):
            assert module.main(["--image", str(path), "--out", str(tmp_path)]) == 1
            assert words in capsys.readouterr().err
    assert {path.name for path in tmp_path.iterdir()} == {"mine.png", "large.png"}


@pytest.mark.parametrize("size", [(1, 1), (2, 3)])
def test_a_tiny_picture_is_enlarged(size: tuple[int, int], tmp_path: Path) -> None:
    Image.fromarray(np.full(size, 77, np.uint8)).save(tmp_path / "tiny.png")
    with script("super_resolution") as module:
        assert module.main(["--image", str(tmp_path / "tiny.png"), "--out", str(tmp_path)]) == 0
    found = pixels(tmp_path / "tiny-pixel.png")
    assert found.shape == (4 * size[0], 4 * size[1])
    assert abs(float(found.mean()) - 77) < 10


def test_scores_of_a_perfect_picture() -> None:
    import torch

    with script("super_resolution") as module:
        truth = torch.rand(80, 90)
        found = module.evaluation.quality(truth + 0.01, truth)
    assert found["psnr"] == pytest.approx(40, abs=1e-3)
    assert found["spectrum_distance"] < 1e-4
    assert found["gradient_distance"] < 1e-4
    assert 0.9 < found["ssim"] <= 1
