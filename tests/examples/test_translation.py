"""Unpaired translation as a person runs it, with ``--quick``, and its parts where the answer is known."""

from pathlib import Path

import pytest
import torch

from tests.examples_run import run_twice, script


@pytest.mark.slow
def test_the_report_has_what_it_says(tmp_path: Path) -> None:
    """The small digits differ by a zoom, which the affine start knows: translated ones keep their classes."""
    metrics = run_twice("translation", tmp_path)
    for name in ("mnist_to_usps", "usps_to_mnist"):
        assert metrics[f"{name}.accuracy"] > 0.85
        assert metrics[f"{name}.permuted_classes"] == 0
        rows = [sum(metrics[f"{name}.confusion.{a}.{b}"] for b in range(10)) for a in range(10)]
        assert rows == pytest.approx([1] * 10)
        assert {f"digits.{name}.judge.{key}" for key in ("own", "untranslated", "placed_only")} <= metrics.keys()
        assert f"adapted.{name}.adapted" in metrics
    assert metrics["cycle.error_quantised"] < 1.5 * metrics["cycle.error"]
    assert {"edges.psnr", "edges.psnr_clothes", "edges.paired.psnr", "edges.mean.psnr", "alarms"} <= metrics.keys()
    names = {f"translation-{name}.png" for name in ("digits", "clothes", "scores")}
    assert {path.name for path in tmp_path.glob("*.png")} == names
    assert not list(tmp_path.rglob("*.part"))


def test_a_hidden_code_does_not_survive_noise() -> None:
    """A translation that hides its input in a thousandth of its values: exact without rounding, lost with it."""
    with script("translation") as module:
        images = 2 * torch.rand(20, 1, 8, 8) - 1

        class Decode(torch.nn.Module):
            def forward(self, moved: torch.Tensor) -> torch.Tensor:
                return (moved * 1000).clamp(-1, 1)

        found = module.digits.cycle_errors("hidden", images, images / 1000, Decode(), 0)
    assert found["hidden.cycle.error"] < 1e-4
    assert found["hidden.cycle.error_quantised"] > 0.3


def test_an_honest_translation_survives_noise() -> None:
    with script("translation") as module:
        images = 2 * torch.rand(20, 1, 8, 8) - 1
        found = module.digits.cycle_errors("plain", images, -images, torch.nn.Tanhshrink(), 0)
    assert found["plain.cycle.error_quantised"] == pytest.approx(found["plain.cycle.error"], rel=0.05)


def test_means_over_seeds() -> None:
    with script("translation") as module:
        settings = module.Settings(seeds=(3, 4))
        rows = {"digits.3.a.accuracy": 0.5, "digits.4.a.accuracy": 1.0, "training.digits.3.alarms": 1.0}
        found = module.means_over_seeds(rows | {"training.digits.4.alarms": 0.0, "edges.3.psnr": 1.0}, settings)
    assert found["a.accuracy"] == 0.75
    assert found["a.accuracy.worst"] == 0.5
    assert found["alarms"] == 1.0


def test_no_clothes_are_in_both_domains() -> None:
    """Image i of outlines is not that of image i of clothes, which would make pairs of unpaired images."""
    with script("translation") as module:
        from posterity.data import edges

        settings = module.QUICK
        first, second = module.clothes.domains("clothes", "train", settings)
        outlines = edges(first).pixels.flatten(1)
        assert not bool((outlines[:, None] == second.pixels.flatten(1)[None, :300]).all(-1).any())
        test_first, test_second = module.clothes.domains("clothes", "test", settings)
        assert torch.equal(edges(test_first).pixels, test_second.pixels)
