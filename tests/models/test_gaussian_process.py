import pytest
import torch
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF
from torch.distributions import MultivariateNormal

from posterity.models import GaussianProcess, mlp
from posterity.models.kernels import feature_kernel, network_kernel, squared_exponential

X = torch.linspace(-3, 3, 12, dtype=torch.double)[:, None]
Y = torch.sin(2 * X[:, 0]) + 0.1 * torch.cos(17 * X[:, 0])
NEW = torch.linspace(-6, 6, 25, dtype=torch.double)[:, None]


def test_the_posterior_is_that_of_scikit_learn():
    own = GaussianProcess(squared_exponential(0.7), noise=0.2).condition(X, Y)
    theirs = GaussianProcessRegressor(RBF(0.7), alpha=0.04, optimizer=None).fit(X.numpy(), Y.numpy())
    mean, covariance = theirs.predict(NEW.numpy(), return_cov=True)
    ours = own.moments(NEW)
    torch.testing.assert_close(ours[0], torch.tensor(mean), rtol=0, atol=1e-9)
    torch.testing.assert_close(ours[1], torch.tensor(covariance), rtol=0, atol=1e-9)
    assert own.log_evidence == pytest.approx(theirs.log_marginal_likelihood_value_, abs=1e-9)


def test_linear_features_are_bayesian_linear_regression():
    """Precision A = I / s² + Z'Z / noise², mean A^-1 Z'y / noise² (Bishop 2006, equations 3.53 and 3.54)."""

    def features(x):
        return torch.cat([x, x**2, torch.cos(x)], 1)

    z, new = features(X), features(NEW)
    covariance = torch.linalg.inv(torch.eye(3, dtype=torch.double) / 1.5**2 + z.T @ z / 0.3**2)
    function = GaussianProcess(feature_kernel(features, scale=1.5), noise=0.3).condition(X, Y).function(NEW)
    torch.testing.assert_close(function.mean, new @ covariance @ z.T @ Y / 0.3**2, rtol=1e-7, atol=1e-9)
    torch.testing.assert_close(function.variance, (new @ covariance * new).sum(1), rtol=1e-7, atol=1e-9)


def test_the_evidence_is_the_density_of_y_and_new_observations_have_noise():
    process = GaussianProcess(network_kernel("erf"), noise=0.4)
    posterior = process.condition(X, Y)
    joint = MultivariateNormal(torch.zeros_like(Y), process.kernel(X, X) + 0.16 * torch.eye(len(Y), dtype=Y.dtype))
    assert posterior.log_evidence == pytest.approx(float(joint.log_prob(Y)), abs=1e-9)
    torch.testing.assert_close(posterior.predictive(NEW).variance, posterior.function(NEW).variance + 0.16)


def test_units_change_nothing_else():
    first = GaussianProcess(squared_exponential(0.7), noise=0.2).condition(X, Y).predictive(NEW)
    for unit in (1e-6, 1e6):
        process = GaussianProcess(squared_exponential(0.7 * unit, scale=3 * unit), noise=0.6 * unit)
        other = process.condition(unit * X, 3 * unit * Y).predictive(unit * NEW)
        torch.testing.assert_close(other.mean / (3 * unit), first.mean)
        torch.testing.assert_close(other.stddev / (3 * unit), first.stddev)


def test_many_rows_are_predicted_in_blocks():
    posterior = GaussianProcess(squared_exponential(0.7), noise=0.2).condition(X, Y)
    rows = torch.linspace(-4, 4, 700, dtype=torch.double)[:, None]
    mean, covariance = posterior.moments(rows)
    torch.testing.assert_close(posterior.function(rows).mean, mean)
    torch.testing.assert_close(posterior.function(rows).variance, covariance.diagonal(), rtol=1e-6, atol=1e-12)


def test_the_features_of_a_network():
    """A module in float32 gets x in its own dtype; the process works in float64."""
    posterior = GaussianProcess(feature_kernel(mlp(1, 5, seed=0)), noise=0.1).condition(X, Y)
    assert posterior.function(NEW).mean.dtype == torch.float64


def test_the_dtype_is_that_of_y():
    function = (
        GaussianProcess(squared_exponential(0.7), noise=0.2).condition(X.float(), Y.float()).function(NEW.float())
    )
    assert function.mean.dtype == function.stddev.dtype == torch.float32


def conditioned():
    return GaussianProcess(squared_exponential(0.7), noise=0.2).condition(X, Y)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: GaussianProcess(squared_exponential(1.0), noise=0.0), "noise"),
        (lambda: GaussianProcess(1.0, noise=0.1), "kernel"),
        (lambda: GaussianProcess(lambda x, z: x - z.T, 1.0).condition(X, Y), "expected a symmetric kernel"),
        (lambda: GaussianProcess(lambda x, z: x[:, 0], 9.0).condition(X, Y), r"of shape \(12, 12\), got \(12,\)"),
        (lambda: GaussianProcess(lambda x, z: x @ z.T / 0, 9.0).condition(X, Y), r"expected finite kernel\(x, z\)"),
        (lambda: conditioned().function(NEW / 0), "expected finite x"),
        (lambda: conditioned().predictive(torch.zeros(2)), r"expected x of shape \(M, 1\), got \(2,\)"),
        (lambda: conditioned().moments([[1.0]]), "expected x"),
        (
            lambda: GaussianProcess(squared_exponential(1.0), 0.1).condition(X, Y[:, None]),
            r"got \(12, 1\) and \(12, 1\)",
        ),
        (
            lambda: GaussianProcess(squared_exponential(1.0), 0.1).condition(X, Y[:3]),
            r"x of shape \(N, D\) and y \(N,\)",
        ),
        (lambda: GaussianProcess(squared_exponential(1.0), 0.1).condition(X, Y / 0), "expected finite y"),
        (
            lambda: GaussianProcess(squared_exponential(1.0), 1e-12).condition(torch.zeros(3, 1), Y[:3]),
            "positive definite",
        ),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
