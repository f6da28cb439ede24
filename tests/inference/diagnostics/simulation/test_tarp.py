"""Balls around random points: uniform for exact posteriors in any number of dimensions.

Posteriors are two-dimensional normals in closed form. Bars: 1e-3 for what is right (seeds are fixed), 1e-6 for what is
wrong.
"""

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
import xarray as xr
from scipy import stats

from posterity.inference.diagnostics.calibration.regions import coverage
from posterity.inference.diagnostics.simulation.refits import refit
from posterity.inference.diagnostics.simulation.sbc import sbc
from posterity.inference.diagnostics.simulation.tarp import tarp
from posterity.inference.plots.coverage import plot_coverage

RIGHT, WRONG = 1e-3, 1e-6
CORRELATED = np.array([[1.0, 0.9], [0.9, 1.0]])
NOISE = 0.5
GAIN = 1 / (1 + NOISE**2)  # of the posterior of a standard normal seen with noise


def problem(seed, *, count=600, draws=99, width=1.0, shift=0.0, root=None, gain=GAIN):
    """Truths of a correlated normal prior, data with noise, and draws of the posterior, or of one that is not.

    ``root`` is that of the posterior's covariance; ``gain`` 0 gives the prior, whatever the data.
    """
    rng = np.random.default_rng(seed)
    prior = np.linalg.cholesky(CORRELATED)
    truths = rng.normal(size=(count, 2)) @ prior.T
    data = truths + NOISE * rng.normal(size=(count, 2)) @ prior.T  # noise of the prior's shape: the gain is a number
    own = (1 - GAIN if gain else 1.0) ** 0.5 * prior if root is None else root
    samples = gain * data + shift * own.sum(1) + width * rng.normal(size=(draws, count, 2)) @ own.T
    return samples, truths, data


# Right and wrong


@pytest.mark.parametrize("references", ["prior", "neighbour"])
def test_balls_of_exact_posteriors_are_uniform(references):
    samples, truths, data = problem(0)
    result = tarp(samples, truths, data=data, references=references, confidence=1 - RIGHT / 19)
    assert float(result.p_value) > RIGHT
    # All 19 levels, by Bonferroni: levels share the simulations, so that at 95 % each many are outside together.
    assert bool(((result["lower"] <= result["level"]) & (result["level"] <= result["upper"])).all())
    assert result["ball"].shape == (600,)


def test_any_references_that_do_not_know_the_truth_will_do():
    samples, truths, data = problem(1)
    for points in (np.zeros_like(truths), data, 3 * data + 1):
        assert float(tarp(samples, truths, references=points).p_value) > RIGHT
    assert float(tarp(samples, truths, references=truths + 0.01).p_value) < WRONG  # and one that does will not


@pytest.mark.parametrize("fault", [{"width": 0.5}, {"width": 2.0}, {"shift": 1.0}])
@pytest.mark.parametrize("references", ["prior", "neighbour"])
def test_wrong_posteriors_are_detected(fault, references):
    samples, truths, data = problem(2, **fault)
    assert float(tarp(samples, truths, data=data, references=references).p_value) < WRONG


def test_the_curve_says_which_way_the_width_is_wrong():
    """Seen from far away truths are at both ends of narrow posteriors, and in the middle of wide ones."""
    far = np.full((600, 2), 100.0)
    narrow, wide = (
        tarp(*problem(3, width=w)[:2], references=far, levels=[0.1, 0.9]).coverage.values for w in (0.5, 2.0)
    )
    assert narrow[0] > 0.2
    assert narrow[1] < 0.8
    assert wide[0] < 0.05
    assert wide[1] > 0.95


def test_a_posterior_that_ignores_the_data_needs_references_that_do_not():
    """The prior passes with references from the prior, as it must (theorem 3 asks for all that depend on the data)."""
    samples, truths, data = problem(4, gain=0)
    assert float(tarp(samples, truths).p_value) > RIGHT
    assert float(tarp(samples, truths, references="neighbour", data=data).p_value) < WRONG


def test_a_wrong_correlation_is_seen_though_every_marginal_is_right():
    """Which ranks of single parameters cannot."""
    samples, truths, data = problem(5, count=1500, root=(1 - GAIN) ** 0.5 * np.eye(2))
    ranks = sbc(as_refits(samples, truths, data))
    assert float(ranks.p_value) > RIGHT
    assert float(tarp(samples, truths, references="neighbour", data=data).p_value) < WRONG


@pytest.mark.parametrize("references", ["prior", "neighbour"])
def test_false_alarms_are_as_many_as_they_should_be(references):
    """Exact posteriors, 200 times: rejected at 5 % within 4 standard errors (6.2 %), though references are shared.

    With the nearest of all as reference, earlier or later, it is 12 % of 600 simulations.
    """
    rejected = 0
    for seed in range(200):
        samples, truths, data = problem(1000 + seed, count=300, draws=19)
        rejected += int(tarp(samples, truths, references=references, data=data, levels=[0.5], seed=seed).p_value < 0.05)
    assert abs(rejected / 200 - 0.05) < 4 * (0.05 * 0.95 / 200) ** 0.5


# The numbers


def test_balls_are_those_of_a_loop_by_hand():
    samples, truths, data = problem(6, count=30, draws=20)
    centre = np.median(truths, 0)
    spread = (np.quantile(truths, 0.75, axis=0) - np.quantile(truths, 0.25, axis=0)) / 1.349
    data_spread = (np.quantile(data, 0.75, axis=0) - np.quantile(data, 0.25, axis=0)) / 1.349
    points = []
    for i in range(30):
        apart = [np.linalg.norm((data[i] - data[j]) / data_spread) for j in range(i)]  # earlier ones
        points.append(truths[int(np.argmin(apart))] if i else centre)
    nearer = np.zeros(30)
    for i in range(30):
        own = np.linalg.norm((truths[i] - points[i]) / spread)
        for draw in samples[:, i]:
            nearer[i] += np.linalg.norm((draw - points[i]) / spread) < own
    result = tarp(samples, truths, references="neighbour", data=data, levels=[0.3, 0.8])
    np.testing.assert_array_equal(np.floor(result["ball"] * 21), nearer)
    ball = result["ball"].values
    np.testing.assert_allclose(result["coverage"], [(ball <= 0.3).mean(), (ball <= 0.8).mean()])
    assert float(result.p_value) == stats.kstest(ball, "uniform").pvalue
    limits = stats.binomtest(int((ball <= 0.3).sum()), 30).proportion_ci(0.95, method="exact")
    assert (float(result["lower"][0]), float(result["upper"][0])) == pytest.approx((limits.low, limits.high))


def test_in_one_dimension_with_a_reference_far_below_balls_are_ranks():
    samples, truths, _ = problem(7, count=50)
    far = np.full(50, -1e3)
    result = tarp(samples[..., 0], truths[:, 0], references=far)
    np.testing.assert_array_equal(np.floor(result["ball"] * 100), (samples[..., 0] < truths[:, 0]).sum(0))


def test_references_from_the_prior_are_earlier_truths():
    """Of two simulations the second has the first's truth, and the first the median: by hand."""
    truths = np.array([[0.0], [1.0]])
    samples = np.array([[[0.5], [0.1]], [[-3.0], [0.4]], [[0.9], [-2.6]]])
    result = tarp(samples, truths)
    assert np.floor(result["ball"].values * 4).tolist() == [2.0, 2.0]


def test_units_do_not_matter():
    samples, truths, data = problem(8, count=50)
    units, zero = np.array([1e-3, 1e4]), np.array([5.0, -7.0])
    one = tarp(samples, truths, references="neighbour", data=data)
    two = tarp(zero + units * samples, zero + units * truths, references="neighbour", data=100 * data - 3)
    np.testing.assert_array_equal(one["ball"], two["ball"])


def test_blocks_do_not_matter(monkeypatch):
    samples, truths, data = problem(9, count=50)
    one = tarp(samples, truths, references="neighbour", data=data)
    monkeypatch.setattr("posterity.inference.diagnostics.simulation.tarp.CHUNK", 700)
    xr.testing.assert_identical(one, tarp(samples, truths, references="neighbour", data=data))


def test_tensors_are_as_good_as_arrays_and_the_seed_decides():
    samples, truths, _ = problem(10, count=50)
    xr.testing.assert_identical(tarp(samples, truths), tarp(torch.as_tensor(samples), torch.as_tensor(truths)))
    assert not tarp(samples, truths)["ball"].equals(tarp(samples, truths, seed=1)["ball"])


# Refits


def as_refits(samples, truths, data):
    return xr.Dataset(
        {
            "truth": (("simulation", "quantity"), truths),
            "draws": (("simulation", "draw", "quantity"), samples.swapaxes(0, 1)),
            "y": (("simulation", "y_dim_0"), data),
        },
        coords={"simulation": np.arange(len(truths)), "quantity": ["a", "b"]},
        attrs={"method": "by hand"},
    )


def normal(x, y=None):
    w = pyro.sample("w", dist.Normal(x.new_zeros(2), 1.0).to_event(1))
    with pyro.plate("obs", 2):
        return pyro.sample("y", dist.Normal(w, NOISE), obs=y)


def test_one_set_of_refits_serves_ranks_and_balls(tmp_path):
    def posterior(y):
        return GAIN * y[:, None] + (1 - GAIN) ** 0.5 * torch.randn(len(y), 50, 2)

    settings = {"posterior_draws": posterior, "count": 120, "draws": 50, "progress": False}
    refits = refit(normal, torch.zeros(2), **settings)
    assert float(sbc(refits).p_value) > RIGHT
    result = tarp(refits, references="neighbour")
    assert float(result.p_value) > RIGHT
    assert result.attrs["quantities"] == "w[0], w[1]"
    arrays = refits["draws"].values[..., :2].swapaxes(0, 1), refits["truth"].values[:, :2]
    np.testing.assert_array_equal(
        result["ball"], tarp(*arrays, references="neighbour", data=refits["y"].values)["ball"]
    )
    xr.testing.assert_identical(result, tarp(normal, torch.zeros(2), references="neighbour", **settings))
    assert tarp(refits, quantities=["w[1]", "log_likelihood"]).attrs["quantities"] == "w[1], log_likelihood"
    result.to_netcdf(tmp_path / "tarp.nc", engine="h5netcdf")


def test_the_result_is_one_of_coverage():
    samples, truths, data = problem(11, count=60)
    result = tarp(as_refits(samples, truths, data))
    lines = plot_coverage({"normal": result}).get_lines()
    np.testing.assert_allclose(lines[-1].get_ydata(), result["coverage"])
    again = coverage(xr.Dataset({"level": ("simulation", result["ball"].values)}))
    np.testing.assert_array_equal(again["coverage"], result["coverage"])


SAMPLES, TRUTHS, DATA = problem(12, count=10, draws=5)


@pytest.mark.parametrize(
    ("arguments", "settings", "message"),
    [
        ((SAMPLES,), {}, "expected samples and truths, got 1 arrays"),
        ((SAMPLES, TRUTHS), {"count": 3}, r"expected samples and truths, got 2 arrays and \['count'\]"),
        ((SAMPLES[:, :9], TRUTHS), {}, r"expected samples \(draws, simulations, D\) .*, got \(5, 9, 2\) and \(10, 2\)"),
        ((SAMPLES[:, :1], TRUTHS[:1]), {}, "expected at least 2 simulations, got 1"),
        ((SAMPLES[:0], TRUTHS), {}, r"got \(0, 10, 2\)"),
        ((SAMPLES * np.nan, TRUTHS), {}, "expected finite samples, got 100 of 100"),
        ((SAMPLES, TRUTHS * np.inf), {}, "expected finite truths"),
        ((SAMPLES, TRUTHS * [1.0, 0.0]), {}, r"expected truths that differ, got equal ones in the dimensions \[1\]"),
        ((SAMPLES, TRUTHS), {"references": "far"}, r"expected references to be 'prior', 'neighbour' or an array"),
        ((SAMPLES, TRUTHS), {"references": TRUTHS[:3]}, r"expected references of shape \(10, 2\), got \(3, 2\)"),
        ((SAMPLES, TRUTHS), {"references": TRUTHS * np.nan}, "expected finite references"),
        ((SAMPLES, TRUTHS), {"references": "neighbour"}, "expected data of each simulation"),
        (
            (SAMPLES, TRUTHS),
            {"references": "neighbour", "data": DATA[:3]},
            "expected data of 10 simulations, got shape",
        ),
        ((SAMPLES, TRUTHS), {"references": "neighbour", "data": DATA * np.nan}, "expected finite data"),
        ((SAMPLES + 0j, TRUTHS), {}, "expected real numbers as samples, got complex128"),
        ((SAMPLES.astype(str), TRUTHS), {}, "expected real numbers as samples, got <U"),
        ((np.ma.masked_array(SAMPLES), TRUTHS), {}, "expected samples without a mask"),
        ((SAMPLES, TRUTHS.astype(str)), {}, "expected real numbers as truths, got <U"),
        ((SAMPLES, TRUTHS), {"references": TRUTHS + 0j}, "expected real numbers as references, got complex128"),
        (
            (SAMPLES, TRUTHS),
            {"references": "neighbour", "data": DATA + 0j},
            "expected real numbers as data, got complex128",
        ),
        ((SAMPLES, TRUTHS), {"levels": ["a"]}, "expected real numbers as levels, got <U1"),
        ((SAMPLES, TRUTHS), {"levels": None}, "expected real numbers as levels, got object"),
        ((SAMPLES, TRUTHS), {"confidence": "0.9"}, r"expected confidence to be a number in \(0, 1\), got '0.9'"),
        ((as_refits(SAMPLES, TRUTHS, DATA),), {"quantities": 3}, r"expected quantities from \['a', 'b'\], got 3"),
        ((SAMPLES, TRUTHS), {"levels": [1.5]}, r"expected levels to be numbers in \(0, 1\)"),
        ((SAMPLES, TRUTHS), {"seed": 0.5}, "expected seed"),
        ((as_refits(SAMPLES, TRUTHS, DATA),), {"quantities": ["c"]}, r"expected quantities from \['a', 'b'\], got"),
        ((as_refits(SAMPLES, TRUTHS, DATA),), {"data": DATA}, "refits contain their data"),
        ((as_refits(SAMPLES, TRUTHS, DATA), TRUTHS), {}, "expected no inputs or settings"),
        (("refits",), {}, "expected a model, or a Dataset"),
    ],
)
def test_bad_input_is_refused(arguments, settings, message):
    with pytest.raises(ValueError, match=message):
        tarp(*arguments, **settings)
