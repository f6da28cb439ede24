"""L-C2ST of posteriors whose truth is known: theta ~ N(0, I), x ~ N(theta, I), so theta | x ~ N(x/2, I/2)."""

import joblib
import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.base import clone
from sklearn.discriminant_analysis import QuadraticDiscriminantAnalysis
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC
from sklearn.tree import DecisionTreeClassifier

from posterity.inference.diagnostics.simulation.lc2st import lc2st
from posterity.models import Mixture

QUADRATIC, NEIGHBOURS = QuadraticDiscriminantAnalysis(), KNeighborsClassifier(100)
RIGHT_AT, WRONG_AT = [[-1.5], [-1.0]], [[1.0], [1.5]]


def simulated(rng, count, dimensions=1):
    theta = rng.normal(size=(count, dimensions))
    return theta, theta + rng.normal(size=(count, dimensions))


def drawn(rng, x, shape=(), *, width=1.0, shift=0.0):
    """Draws of the posterior at x (N, D), with a wrong width or mean, which may depend on x."""
    return x / 2 + shift + width * np.sqrt(0.5) * rng.normal(size=(*shape, *x.shape))


def judged(seed, at, count=1000, dimensions=1, wrong=lambda x: {}, **settings):
    rng = np.random.default_rng(seed)
    theta, x = simulated(rng, count, dimensions)
    at = np.asarray(at, float)
    source = drawn(rng, x, **wrong(x)), drawn(rng, at, (500,), **wrong(at))
    return lc2st(source, theta, x, at, seed=seed, **settings)


@pytest.mark.parametrize("dimensions", [1, 2])
def test_p_values_of_the_exact_posterior_are_uniform(dimensions):
    """Over 40 seeds, made continuous by a uniform random number: KS at the level 0.001."""
    count, at = 39, [[0.7] * dimensions]
    p_values = [
        float(judged(seed, at, 300, dimensions, permutations=count, classifier=QUADRATIC).p_value[0])
        for seed in range(40)
    ]
    smooth = p_values - np.random.default_rng(0).random(40) / (count + 1)
    assert stats.kstest(smooth, "uniform").pvalue > 0.001
    assert np.unique(p_values).size > 15


@pytest.mark.parametrize("wrong", [{"width": 0.7}, {"width": 1.4}, {"shift": 0.4}], ids=str)
@pytest.mark.parametrize("dimensions", [1, 2])
def test_a_posterior_that_is_wrong_everywhere_is_rejected(wrong, dimensions):
    for seed in range(5):
        found = judged(
            seed, [[0.7] * dimensions], 1000, dimensions, lambda x: wrong, permutations=39, classifier=QUADRATIC
        )
        assert float(found.p_value[0]) == 1 / 40


@pytest.mark.parametrize("fault", ["shift", "width"])
def test_it_is_rejected_where_it_is_wrong_and_not_where_it_is_right(fault):
    """Wrong for x > 0, over 4 seeds: at least 7 of 8 p-values are 1/20, and at most 1 of 8 elsewhere."""

    def wrong(x):
        return {"shift": 0.8 * (x > 0)} if fault == "shift" else {"width": np.where(x > 0, 0.4, 1.0)}

    found = [
        judged(seed, [*RIGHT_AT, *WRONG_AT], 1200, wrong=wrong, permutations=19, classifier=NEIGHBOURS).p_value.values
        for seed in range(4)
    ]
    rejected = np.array(found) <= 0.05
    assert rejected[:, 2:].sum() >= 7
    assert rejected[:, :2].sum() <= 1


@pytest.mark.slow
def test_the_network_of_sbi_finds_the_same():
    """A shift for x > 0, with 4000 simulations: more than ten times the null statistics, or less than three times."""
    at = [*RIGHT_AT, *WRONG_AT]
    found = judged(0, at, 4000, wrong=lambda x: {"shift": 0.8 * (x > 0)}, permutations=5)
    ratio = (found.statistic / found.null.mean("permutation")).values
    assert ratio[:2].max() < 3
    assert ratio[2:].min() > 10
    assert found.attrs["classifier"] == "MLPClassifier"


def test_the_statistic_is_the_definition():
    """The mean squared distance from 1/2 of the probability of a true pair, by hand."""
    rng = np.random.default_rng(0)
    theta, x = simulated(rng, 200, 2)
    own, at = drawn(rng, x), np.array([[0.5, -1.0], [2.0, 0.0]])
    others = drawn(rng, at, (50,), shift=0.5)
    found = lc2st((own, others), theta, x, at, permutations=3, classifier=QUADRATIC)
    model = make_pipeline(StandardScaler(), clone(QUADRATIC))
    model.fit(np.concatenate([np.hstack([theta, x]), np.hstack([own, x])]), np.repeat([0, 1], 200))
    for place in range(2):
        probability = model.predict_proba(np.hstack([others[:, place], np.tile(at[place], (50, 1))]))[:, 0]
        np.testing.assert_allclose(found.statistic[place], ((probability - 0.5) ** 2).mean(), rtol=1e-9)
    assert found.null.dims == ("permutation", "observation")
    assert found.null.shape == (3, 2)
    expected = (1 + (found.null >= found.statistic).sum("permutation")) / 4
    np.testing.assert_array_equal(found.p_value, expected)


def test_a_function_that_returns_a_distribution_is_sampled():
    """An exact mixture passes, and one that is too narrow is rejected; seeds repeat, and leave the caller's state."""
    theta, x = simulated(np.random.default_rng(0), 1000)

    def q(width):
        def of(given):
            loc = given[:, :1] / 2
            return Mixture.normal(torch.zeros(1), loc, torch.full_like(loc, width * 0.5**0.5))

        return of

    settings = {"permutations": 39, "classifier": QUADRATIC, "draws": 300}
    before = torch.random.get_rng_state()
    right = lc2st(q(1.0), theta, x, RIGHT_AT, **settings)
    assert torch.equal(before, torch.random.get_rng_state())
    assert float(right.p_value.min()) > 0.05
    assert float(lc2st(q(0.7), theta, x, RIGHT_AT, **settings).p_value.max()) == 1 / 40
    as_tensors = torch.as_tensor(theta[:, 0]), torch.as_tensor(x).float(), torch.tensor(RIGHT_AT)
    np.testing.assert_allclose(lc2st(q(1.0), *as_tensors, **settings).statistic, right.statistic, rtol=1e-3)
    other = lc2st(q(1.0), theta, x, RIGHT_AT, seed=1, **settings)
    assert not right.equals(other)
    pairs, others = np.random.default_rng(0).normal(size=(2, 100, 2))

    def joint(given):
        return Mixture.multivariate_normal(torch.zeros(1), given[:, None] / 2, torch.full((len(given), 1, 2), 0.5))

    found = lc2st(joint, pairs, others, others[:3], permutations=2, classifier=QUADRATIC, draws=20)
    assert found.statistic.shape == (3,)


def test_classifiers_with_random_numbers_and_several_at_a_time_give_the_same():
    tree = make_pipeline(StandardScaler(), DecisionTreeClassifier(max_features=1, max_depth=3))
    settings = {"count": 200, "permutations": 8, "classifier": tree}
    expected = judged(0, RIGHT_AT, **settings)
    state = np.random.get_state()[1].copy()  # noqa: NPY002 - it must not change
    with joblib.parallel_config(backend="threading", n_jobs=2):
        np.testing.assert_array_equal(judged(0, RIGHT_AT, **settings).null, expected.null)
    assert np.array_equal(np.random.get_state()[1], state)  # noqa: NPY002
    assert np.unique(expected.null[:, 0]).size > 4


def test_bad_input_is_refused():
    rng = np.random.default_rng(0)
    theta, x = simulated(rng, 30)
    own, others = drawn(rng, x), drawn(rng, np.zeros((2, 1)), (5,))
    good = {"source": (own, others), "truths": theta, "data": x, "observations": np.zeros((2, 1))}
    for changes, message in (
        ({"source": own}, "expected source to be a function that returns a distribution, or two arrays .* got ndarray"),
        ({"source": lambda x: x}, "expected source to return a distribution, got Tensor"),
        ({"source": (own[:-1], others)}, r"expected a draw of the posterior of shape \(30, 1\) .* got \(29, 1\)"),
        (
            {"source": (own, others[0])},
            r"expected a draw .* and \(draws, 2, 1\) at the observations, got .* \(2, 1, 1\)",
        ),
        ({"source": (own * np.nan, others)}, "expected finite draws of the posterior, got 30 of 30"),
        ({"truths": theta[:5], "data": x[:5]}, "expected at least 10 simulations, got 5 truths"),
        ({"truths": np.array(1.0)}, "expected truths with a row for each of them"),
        ({"data": x[:-1]}, "expected data of 30 truths and observations of the same size, got 29 data"),
        ({"observations": np.zeros((2, 2))}, "expected data .* 1 numbers each and observations with 2"),
        ({"draws": 0}, "expected draws to be a whole number of 1 or more, got 0"),
        ({"permutations": 0}, "expected permutations to be a whole number of 1 or more, got 0"),
        ({"classifier": LinearSVC()}, r"expected classifier to be a scikit-learn classifier with predict_proba, got L"),
        ({"classifier": KNeighborsClassifier}, "expected classifier to be a scikit-learn classifier"),
        ({"seed": -1}, "expected seed to be a whole number of 0 or more, got -1"),
    ):
        with pytest.raises(ValueError, match=message):
            lc2st(**{**good, **changes})


def test_a_column_of_data_that_is_constant_but_for_rounding_does_not_decide():
    """The standard deviation of 200 times 0.1 is 2.8e-17."""
    rng = np.random.default_rng(0)
    theta = rng.normal(size=200)
    x = theta + rng.normal(size=200)
    own, others = x / 2 + 0.5**0.5 * rng.normal(size=200), 0.5 + 0.5**0.5 * rng.normal(size=(100, 1, 1))
    found = [
        lc2st(
            (own, others),
            theta,
            np.c_[x, np.full(200, filler)],
            [[1.0, filler + 0.01]],
            classifier=NEIGHBOURS,
            permutations=9,
        )
        for filler in (0.0, 0.1)
    ]
    np.testing.assert_allclose(found[0].statistic, found[1].statistic, rtol=1e-6)
