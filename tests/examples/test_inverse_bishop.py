"""The example of Bishop's inverse problem as a person runs it, with ``--quick``, against the exact densities."""

import math

import pytest

from tests.examples_run import Finished, run_and_resume

CASES = ("gauss05.k3", "gauss05.k5", "uniform.k3")
KEYS = (
    *("nll", "nll_se", "nll_oracle", "nll_below_oracle_z", "excess", "excess_se"),
    *("coverage50", "coverage90", "pit_p", "pit_distance", "seconds"),
)

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    return run_and_resume("inverse_bishop", tmp_path_factory.mktemp("inverse_bishop"))


def test_the_figures_of_bishops_problem_are_drawn(finished: Finished) -> None:
    assert finished.figures == {"bishop-answers.png", "bishop-scores.png"}


def test_scores_of_bishops_problem_are_near_the_exact_one_and_never_better(finished: Finished) -> None:
    metrics = finished.metrics
    assert {f"{case}.{key}" for case in CASES for key in KEYS} <= set(metrics)
    assert all(math.isfinite(value) for value in metrics.values())
    floors = {"gauss05.k3": -1.2263, "gauss05.k5": -1.2263, "uniform.k3": -1.2823}
    for case, floor in floors.items():
        row = {key: metrics[f"{case}.{key}"] for key in KEYS}
        assert row["nll_below_oracle_z"] < 4
        assert 0 < row["excess"] < 0.3
        assert row["excess"] == pytest.approx(row["nll"] - row["nll_oracle"])
        # 20,000 points whose scores have a standard deviation below 0.9.
        assert row["nll_oracle"] == pytest.approx(floor, abs=4 * 0.9 / math.sqrt(20_000))
    # Three Gaussians cannot make a density with sharp edges: even the best three of an interval have more.
    assert metrics["uniform.k3.excess"] > 0.08
    # 2,000 rows: 4 standard errors are 0.045 and 0.027; the fit of 800 steps may be off by 0.03 more.
    assert metrics["gauss05.k5.coverage50"] == pytest.approx(0.5, abs=0.075)
    assert metrics["gauss05.k5.coverage90"] == pytest.approx(0.9, abs=0.057)


def test_the_mean_and_the_modes_of_bishops_problem_are_found(finished: Finished) -> None:
    metrics = finished.metrics
    assert metrics["uniform.oracle_mse"] == pytest.approx(0.0383, rel=0.05)
    assert 1.0 <= metrics["uniform.mean_mse"] / metrics["uniform.oracle_mse"] < 1.1
    assert metrics["gauss05.modes_found"] == 3
    assert metrics["gauss05.modes_max_error"] < 0.05  # neighbours are 0.29 apart
