"""The example of the inverse sine as a person runs it, with ``--quick``, against the exact density."""

import math

import pytest

from tests.examples_run import Finished, run_and_resume

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    return run_and_resume("inverse_sine", tmp_path_factory.mktemp("inverse_sine"))


def test_the_figures_of_the_inverse_sine_are_drawn(finished: Finished) -> None:
    assert finished.figures == {"density.png", "scores.png", "split.png"}


def test_scores_of_the_inverse_sine_are_never_better_than_the_exact_one(finished: Finished) -> None:
    metrics = finished.metrics
    names = ("mode_nll_excess", "any_nll_excess", "ensemble_nll_excess", "bayes_nll_excess")
    wanted = {f"n{n}.{name}{end}" for n in (100, 300) for name in names for end in ("", "_se")}
    wanted |= {f"{term}.n{n}" for n in (100, 300) for term in ("noise", "ambiguity", "epistemic")}
    wanted |= {"n300.nll_excess", "bayes_minus_ml_n100.elpd_se"}
    wanted |= {f"n100000.{key}" for key in ("nll_excess", "coverage50", "coverage90")}
    assert wanted <= set(metrics)
    assert all(math.isfinite(value) for value in metrics.values())
    for task in ("n100", "n300", "single", "large"):
        assert metrics[f"{task}.below_oracle_z_max"] < 4
    # Jensen: the score of the mixture of all networks is at least their average.
    assert metrics["n300.ensemble_nll_excess"] < metrics["n300.any_nll_excess"]
