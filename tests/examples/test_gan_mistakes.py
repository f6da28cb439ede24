"""Mistakes of generators as a person counts them, with ``--quick``, and counts where the answer is known."""

from pathlib import Path

import pytest
import torch

from tests.examples_run import run_twice, script


@pytest.mark.slow
def test_the_report_has_what_it_says(tmp_path: Path) -> None:
    metrics = run_twice("gan_mistakes", tmp_path)
    for kind in ("generated", "real"):
        assert 0 <= metrics[f"mnist.holes.{kind}"] < 1
        assert metrics[f"mnist.holes.{kind}_counted"] > 20
    assert metrics["mnist.alarms"] == 0
    assert metrics["mnist.holes.generated"] > metrics["mnist.holes.real"] - 3 * metrics["mnist.holes.real_se"]
    assert {path.name for path in tmp_path.glob("*.png")} == {"gan-mistakes.png"}


def test_only_sure_classes_are_counted() -> None:
    class Data:
        @staticmethod
        def probabilities(images: torch.Tensor) -> torch.Tensor:
            return torch.tensor([[0.97, 0.03], [0.6, 0.4], [0.01, 0.99]])

    with script("gan_mistakes") as module:
        sure, label = module.classes(Data(), torch.zeros(3, 1, 2, 2))
        assert sure.tolist() == [True, False, True]
        assert label.tolist() == [0, 0, 1]
        assert module.among(label, (1,)).tolist() == [False, False, True]
