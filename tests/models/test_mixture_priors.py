"""Priors over the components of a mixture, against densities of SciPy."""

import math

import pyro
import pytest
import torch
from scipy import stats

from posterity.models import Mixture, mixture_priors


def test_a_prior_of_weights_takes_a_single_mixture():
    mixture = Mixture.normal(torch.zeros(3), torch.zeros(3), torch.ones(3))
    trace = pyro.poutine.trace(mixture_priors.SparseWeights()).get_trace("prior", mixture)
    assert math.isfinite(float(trace.log_prob_sum()))


def log_factor(prior, mixture):
    trace = pyro.poutine.trace(lambda: prior("prior", mixture)).get_trace()
    return float(trace.log_prob_sum())


def normals(weights, scale, rows=3):
    weights, scale = torch.tensor(weights), torch.tensor(scale)
    return Mixture.normal(weights.log().expand(rows, -1), torch.zeros(rows, len(weights)), scale.expand(rows, -1))


def test_wide_scales_is_an_inverse_gamma_with_its_maximum_at_the_scale():
    prior = mixture_priors.WideScales(scale=0.5, concentration=2.0)
    inverse_gamma = stats.invgamma(2.0, scale=3 * 0.25)  # mode scale / (a + 1)
    found = [log_factor(prior, normals([1.0], [s])) for s in (0.1, 0.5, 2.0)]
    expected = [inverse_gamma.logpdf(s**2) - inverse_gamma.logpdf(0.25) for s in (0.1, 0.5, 2.0)]
    assert found == pytest.approx(expected, rel=1e-4)
    assert log_factor(prior, normals([1.0], [1e-6])) < -1e10
    # The average of the rows, so that it counts once.
    assert log_factor(prior, normals([1.0], [2.0], rows=100)) == pytest.approx(found[2], rel=1e-4)


def test_even_weights_is_the_entropy_less_its_maximum():
    prior = mixture_priors.EvenWeights(strength=3.0)
    assert log_factor(prior, normals([0.5, 0.5], [1.0, 1.0])) == pytest.approx(0.0, abs=1e-6)
    entropy = stats.entropy([0.9, 0.1])
    assert log_factor(prior, normals([0.9, 0.1], [1.0, 1.0])) == pytest.approx(3 * (entropy - math.log(2)), rel=1e-5)
    assert math.isfinite(log_factor(prior, normals([1.0, 0.0], [1.0, 1.0])))


def test_sparse_weights_prefers_few_components():
    prior = mixture_priors.SparseWeights(concentration=0.2)
    few, many = (log_factor(prior, normals(w, [1.0, 1.0])) for w in ([0.999, 0.001], [0.5, 0.5]))
    expected = [stats.dirichlet.logpdf(w, [0.2, 0.2]) for w in ([0.999, 0.001], [0.5, 0.5])]
    assert few - many == pytest.approx(expected[0] - expected[1], rel=0.02)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: mixture_priors.WideScales(scale=0.0),
            "expected scale of WideScales to be a finite number above 0, got 0.0",
        ),
        (
            lambda: mixture_priors.EvenWeights(strength=math.inf),
            "expected strength of EvenWeights to be a finite number above 0",
        ),
        (
            lambda: mixture_priors.SparseWeights(concentration=1.0),
            r"expected concentration of SparseWeights to be a number in \(0, 1\), got 1.0",
        ),
    ],
)
def test_bad_priors_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
