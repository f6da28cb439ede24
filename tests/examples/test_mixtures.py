"""Examples of mixture density networks as a person runs them, with ``--quick``, against the exact densities."""

import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.examples_run import start

CASES = ("gauss05.k3", "gauss05.k5", "uniform.k3")
PER_CASE = (
    *("nll", "nll_se", "nll_oracle", "nll_below_oracle_z", "excess", "excess_se"),
    *("coverage50", "coverage90", "pit_p", "pit_distance", "seconds"),
)
HEADS = ("full", "low_rank", "diagonal", "diagonal.k5", "full.k5")
Run = tuple[Path, dict[str, float], str]

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Run]:
    """An example in a process of its own: its folder, its metrics, what it printed. Once for all tests."""
    done: dict[str, Run] = {}

    def example(name: str) -> Run:
        if name not in done:
            out = tmp_path_factory.mktemp(name)
            result = start(name, "--quick", "--out", str(out))
            assert result.returncode == 0, result.stderr[-3000:]
            report = json.loads((out / "report.json").read_text())
            assert report["example"] == name
            assert report["quick"] is True
            assert "not_finite" not in report
            done[name] = out, report["metrics"], result.stdout
        return done[name]

    return example


@pytest.mark.parametrize(
    ("name", "pictures"),
    [
        ("inverse_bishop", {"bishop-answers.png", "bishop-scores.png"}),
        ("two_dimensional", {"two-dimensional.png"}),
        ("inverse_sine", {"density.png", "scores.png", "split.png"}),
        ("mixture_uncertainty", {"maps.png", "split.png"}),
    ],
)
def test_figures_are_drawn_and_a_repeated_run_takes_up_its_fits(
    run: Callable[[str], Run], name: str, pictures: set[str]
) -> None:
    out, metrics, printed = run(name)
    assert {path.name for path in out.glob("*.png")} == pictures
    assert all(path.stat().st_size > 10_000 for path in out.glob("*.png"))
    assert "nan" not in printed
    assert not list(out.rglob("*.part"))
    before = {path: path.stat().st_mtime_ns for path in (out / "parts").iterdir()}
    again = start(name, "--quick", "--out", str(out), limit=200)
    assert again.returncode == 0, again.stderr[-3000:]
    assert {path: path.stat().st_mtime_ns for path in (out / "parts").iterdir()} == before  # nothing fitted twice
    assert json.loads((out / "report.json").read_text())["metrics"] == metrics


def test_inverse_bishop_is_near_the_oracle_and_never_below(run: Callable[[str], Run]) -> None:
    _, metrics, _ = run("inverse_bishop")
    assert {f"{case}.{key}" for case in CASES for key in PER_CASE} <= set(metrics)
    assert all(math.isfinite(value) for value in metrics.values())
    floors = {"gauss05.k3": -1.2263, "gauss05.k5": -1.2263, "uniform.k3": -1.2823}
    for case, floor in floors.items():
        get = {key: metrics[f"{case}.{key}"] for key in PER_CASE}
        assert get["nll_below_oracle_z"] < 4
        assert 0 < get["excess"] < 0.3
        assert get["excess"] == pytest.approx(get["nll"] - get["nll_oracle"])
        # 20,000 points whose scores have a standard deviation below 0.9.
        assert get["nll_oracle"] == pytest.approx(floor, abs=4 * 0.9 / math.sqrt(20_000))
    # Three Gaussians cannot make a density with sharp edges: this is above the best there is for one interval.
    assert metrics["uniform.k3.excess"] > 0.08
    # 2,000 rows: 4 standard errors are 0.045 and 0.027; the fit of 800 steps may be off by 0.03 more.
    assert metrics["gauss05.k5.coverage50"] == pytest.approx(0.5, abs=0.075)
    assert metrics["gauss05.k5.coverage90"] == pytest.approx(0.9, abs=0.057)


def test_inverse_bishop_finds_the_mean_and_the_modes(run: Callable[[str], Run]) -> None:
    _, metrics, _ = run("inverse_bishop")
    assert metrics["uniform.oracle_mse"] == pytest.approx(0.0383, rel=0.05)
    assert 1.0 <= metrics["uniform.mean_mse"] / metrics["uniform.oracle_mse"] < 1.1
    assert metrics["gauss05.modes_found"] == 3
    assert metrics["gauss05.modes_max_error"] < 0.05  # neighbours are 0.29 apart


def test_two_dimensional_a_full_covariance_is_worth_more_and_never_below_the_oracle(run: Callable[[str], Run]) -> None:
    _, metrics, _ = run("two_dimensional")
    assert all(math.isfinite(value) for value in metrics.values())
    # 2 x 20,000 points whose scores have a standard deviation of 1.
    assert metrics["oracle.nll"] == pytest.approx(2.0075, abs=4 / math.sqrt(40_000))
    for head in HEADS:
        assert metrics[f"{head}.below_oracle_z"] < 4
        assert 0 < metrics[f"{head}.excess"] < (1.5 if "diagonal" in head else 0.5)
    assert metrics["diagonal.nll"] > 2.8379 - 4 / math.sqrt(40_000)  # the floor of independent targets
    assert metrics["full_minus_diagonal.nats"] > 0.5
    assert metrics["full_minus_diagonal.nats"] == pytest.approx(metrics["diagonal.nll"] - metrics["full.nll"])


def test_two_dimensional_marginal_and_conditional_make_up_the_joint_score(run: Callable[[str], Run]) -> None:
    """log p(y0, y1|z) = log p(y0|z) + log p(y1|z, y0), for the fits and for the oracle's own formulas."""
    _, metrics, _ = run("two_dimensional")
    for own, head in (("nll", "full"), ("diagonal_nll", "diagonal"), ("diagonal_k5_nll", "diagonal.k5")):
        both = metrics[f"marginal.{own}"] + metrics[f"conditional.{own}"]
        assert both == pytest.approx(metrics[f"{head}.nll"], abs=1e-4)
    exact = metrics["marginal.oracle_nll"] + metrics["conditional.oracle_nll"]
    assert exact == pytest.approx(metrics["oracle.nll"], abs=1e-4)
    noise = 0.5 * math.log(2 * math.pi * math.e)  # entropy of a unit normal; 0.8304 nats less once y0 is known
    assert metrics["marginal.oracle_nll"] == pytest.approx(noise, abs=0.02)
    assert metrics["conditional.oracle_nll"] == pytest.approx(noise + 0.5 * math.log(1 - 0.9**2), abs=0.02)
    assert 0 < metrics["conditional.kl"] < 0.3
    assert metrics["conditional.diagonal_nll"] > metrics["conditional.nll"] + 0.5


def test_inverse_sine_is_never_below_the_oracle(run: Callable[[str], Run]) -> None:
    _, metrics, _ = run("inverse_sine")
    names = ("mode_nll_excess", "any_nll_excess", "ensemble_nll_excess", "bayes_nll_excess")
    wanted = {f"n{n}.{name}{end}" for n in (100, 300) for name in names for end in ("", "_se")}
    wanted |= {f"{term}.n{n}" for n in (100, 300) for term in ("noise", "ambiguity", "epistemic")}
    wanted |= {
        "n300.nll_excess",
        "n100000.nll_excess",
        "n100000.coverage50",
        "n100000.coverage90",
        "bayes_minus_ml_n100.elpd_se",
    }
    assert wanted <= set(metrics)
    assert all(math.isfinite(value) for value in metrics.values())
    for task in ("n100", "n300", "single", "large"):
        assert metrics[f"{task}.below_oracle_z_max"] < 4
    # Jensen: the score of the mixture of all networks is at least their average.
    assert metrics["n300.ensemble_nll_excess"] < metrics["n300.any_nll_excess"]


def test_each_kind_of_not_knowing_has_its_term(run: Callable[[str], Run]) -> None:
    """Even from 300 rows: much noise is noise, two answers are ambiguity, and halving components changes nothing."""
    _, metrics, _ = run("mixture_uncertainty")
    assert metrics["noise.noise.first"] > 3 * metrics["absence.noise.elsewhere"]
    assert metrics["composition.ambiguity.first"] > metrics["noise.ambiguity.first"]
    assert metrics["branches.halved_change"] < 1e-5
    assert metrics["branches.epistemic.n200"] < metrics["branches.epistemic.n50"]
    assert metrics["branches.ambiguity.n200"] == pytest.approx(1.0, abs=0.2)
