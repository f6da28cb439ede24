"""Stacked digits: modes counted where they are known, and the quick run."""

import math
from pathlib import Path

import pytest
import torch

from tests.examples_run import run_twice, script


class Brightness:
    """A classifier that knows images by their brightness: digit d has pixels of d / 10."""

    held_out = (torch.arange(50) % 10 / 10)[:, None, None, None].expand(50, 1, 4, 4)

    @staticmethod
    def probabilities(images: torch.Tensor) -> torch.Tensor:
        digit = (10 * images.mean((1, 2, 3))).round().long()
        return torch.nn.functional.one_hot(digit, 10).double()


def stacks(*digits: tuple[int, int, int]) -> torch.Tensor:
    return (torch.tensor(digits) / 10)[:, :, None, None].expand(-1, -1, 4, 4)


def test_a_mode_is_the_digits_of_red_green_and_blue() -> None:
    with script("gan_stacked") as module:
        found = module.labels(stacks((0, 0, 0), (1, 2, 3), (3, 2, 1), (9, 9, 9)), Brightness())
        assert found.tolist() == [0, 123, 321, 999]


def test_modes_and_divergence_of_known_samples() -> None:
    with script("gan_stacked") as module:
        found = module.count_modes(stacks((1, 2, 3), (1, 2, 3), (3, 2, 1), (3, 2, 1)), Brightness())
        assert found["modes"] == 2
        assert found["kl"] == pytest.approx(math.log(500))
        every = stacks(*((i // 100, i // 10 % 10, i % 10) for i in range(1000)))
        assert module.count_modes(every, Brightness()) == {
            "modes": 1000,
            "kl": pytest.approx(0, abs=1e-12),
            "kl_floor": 999 / 2000,
        }


def test_held_out_stacks_draw_each_colour_by_itself() -> None:
    """The KL of 26,000 stacks of even digits is its expectation for finite numbers, 999 / 52,000, seed 0.

    2 N KL is nearly chi-squared with 999 degrees of freedom; the tolerance is 4 standard errors.
    """
    with script("gan_stacked") as module:
        found = module.count_modes(module.held_out_stacks(Brightness(), 26_000, seed=0), Brightness())
        assert found["modes"] == 1000
        assert abs(found["kl"] - 999 / 52_000) < 4 * math.sqrt(2 * 999) / 52_000


@pytest.mark.slow
def test_the_report_has_what_it_says(tmp_path: Path) -> None:
    metrics = run_twice("gan_stacked", tmp_path)
    assert 800 < metrics["real.modes"] <= 1000
    assert metrics["generated.modes"] > 20
    assert metrics["generated.kl"] > metrics["real.kl"]
    assert {path.name for path in tmp_path.glob("*.png")} == {"gan-stacked.png"}
