"""The example of two targets as a person runs it, with ``--quick``, against the exact density."""

import math

import pytest

from tests.examples_run import Finished, run_and_resume

HEADS = ("full", "low_rank", "diagonal", "diagonal.k5", "full.k5")

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    return run_and_resume("two_dimensional", tmp_path_factory.mktemp("two_dimensional"))


def test_the_figure_of_two_targets_is_drawn(finished: Finished) -> None:
    assert finished.figures == {"two-dimensional.png"}


def test_a_full_covariance_scores_better_and_never_better_than_the_exact_density(finished: Finished) -> None:
    metrics = finished.metrics
    assert all(math.isfinite(value) for value in metrics.values())
    # 2 x 20,000 points whose scores have a standard deviation of 1.
    assert metrics["oracle.nll"] == pytest.approx(2.0075, abs=4 / math.sqrt(40_000))
    for head in HEADS:
        assert metrics[f"{head}.below_oracle_z"] < 4
        assert 0 < metrics[f"{head}.excess"] < (1.5 if "diagonal" in head else 0.5)
    assert metrics["diagonal.nll"] > 2.8379 - 4 / math.sqrt(40_000)  # the floor of independent targets
    assert metrics["full_minus_diagonal.nats"] > 0.5
    assert metrics["full_minus_diagonal.nats"] == pytest.approx(metrics["diagonal.nll"] - metrics["full.nll"])


def test_marginal_and_conditional_scores_sum_to_the_joint_score(finished: Finished) -> None:
    """log p(y0, y1|z) = log p(y0|z) + log p(y1|z, y0), for the fits and for the exact formulas."""
    metrics = finished.metrics
    for key, head in (("nll", "full"), ("diagonal_nll", "diagonal"), ("diagonal_k5_nll", "diagonal.k5")):
        both = metrics[f"marginal.{key}"] + metrics[f"conditional.{key}"]
        assert both == pytest.approx(metrics[f"{head}.nll"], abs=1e-4)
    exact = metrics["marginal.oracle_nll"] + metrics["conditional.oracle_nll"]
    assert exact == pytest.approx(metrics["oracle.nll"], abs=1e-4)
    noise = 0.5 * math.log(2 * math.pi * math.e)  # entropy of a unit normal; 0.8304 nats less given y0
    assert metrics["marginal.oracle_nll"] == pytest.approx(noise, abs=0.02)
    assert metrics["conditional.oracle_nll"] == pytest.approx(noise + 0.5 * math.log(1 - 0.9**2), abs=0.02)
    assert 0 < metrics["conditional.kl"] < 0.3
    assert metrics["conditional.diagonal_nll"] > metrics["conditional.nll"] + 0.5
