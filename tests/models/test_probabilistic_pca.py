"""Probabilistic PCA against scikit-learn, the dense normal distribution, and Pyro."""

import math

import numpy as np
import pyro
import pytest
import torch
from pyro import poutine
from scipy.stats import kstest
from sklearn.decomposition import PCA
from torch.distributions import MultivariateNormal

from posterity.models.probabilistic_pca import ProbabilisticPCA


def truth(seed: int = 0) -> ProbabilisticPCA:
    random = torch.Generator().manual_seed(seed)
    return ProbabilisticPCA(
        torch.randn(7, generator=random, dtype=torch.double),
        torch.randn(7, 2, generator=random, dtype=torch.double),
        0.3,
    )


def drawn(n: int, seed: int = 0) -> torch.Tensor:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return truth().distribution.sample((n,))


OBSERVED = torch.tensor([True, False, True, True, False, True, False])


def test_the_fit_is_that_of_scikit_learn() -> None:
    """Its noise has the divisor N - 1, ours N, the maximum of the likelihood."""
    x = drawn(200)
    ours, theirs = ProbabilisticPCA.fit(x, 3), PCA(3, svd_solver="full").fit(x.numpy())
    factor = 199 / 200
    assert ours.noise**2 == pytest.approx(factor * theirs.noise_variance_)
    np.testing.assert_allclose(ours.distribution.covariance_matrix, factor * theirs.get_covariance(), rtol=1e-9)


def test_the_fit_has_the_largest_likelihood() -> None:
    x = drawn(100)
    best = ProbabilisticPCA.fit(x, 2)
    random = torch.Generator().manual_seed(1)
    for _ in range(20):
        shift = 0.02 * torch.randn(7, 2, generator=random, dtype=torch.double)
        other = ProbabilisticPCA(best.mean + shift[:, 0], best.loadings + shift, best.noise * float(1 + shift[0, 0]))
        assert float(other.distribution.log_prob(x).sum()) < float(best.distribution.log_prob(x).sum())


def test_the_parameters_are_found_from_many_rows() -> None:
    """Covariance within 5 standard errors, seed 0, 50,000 rows."""
    found, wanted = ProbabilisticPCA.fit(drawn(50_000), 2), truth()
    covariance = wanted.distribution.covariance_matrix
    diagonal = covariance.diagonal()
    error = ((covariance**2 + diagonal * diagonal[:, None]) / 50_000).sqrt()
    assert bool(((found.distribution.covariance_matrix - covariance).abs() < 5 * error).all())


def test_the_posterior_is_that_of_the_dense_normal_distribution() -> None:
    model, x = truth(), drawn(5)
    found = model.conditional(torch.where(OBSERVED, x, torch.nan), OBSERVED)
    covariance, seen, hidden = model.distribution.covariance_matrix, OBSERVED, ~OBSERVED
    gain = covariance[hidden][:, seen] @ torch.linalg.inv(covariance[seen][:, seen])
    dense = MultivariateNormal(
        model.mean[hidden] + (x[:, seen] - model.mean[seen]) @ gain.T,
        covariance[hidden][:, hidden] - gain @ covariance[seen][:, hidden],
    )
    np.testing.assert_allclose(found.mean, dense.mean, rtol=1e-9)
    np.testing.assert_allclose(found.covariance_matrix, dense.covariance_matrix, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(found.log_prob(x[:, hidden]), dense.log_prob(x[:, hidden]), rtol=1e-9)


def test_hidden_values_are_uniform_under_their_posterior() -> None:
    """PIT of 3 x 4,000 values, seed 2: Kolmogorov-Smirnov for each entry, p > 0.001."""
    x = drawn(4000, seed=2)
    found = truth().conditional(x, OBSERVED)
    pit = torch.special.ndtr((x[:, ~OBSERVED] - found.mean) / found.variance.sqrt())
    assert min(kstest(column, "uniform").pvalue for column in pit.T.numpy()) > 1e-3


def test_the_model_in_pyro_has_the_same_posterior() -> None:
    """log p(z, x) is quadratic in z: its maximum and curvature are those of the latent posterior."""
    model, x = truth(), drawn(3)
    mean, covariance = model.latent_posterior(x, OBSERVED)

    def log_joint(z: torch.Tensor) -> torch.Tensor:
        trace = poutine.trace(poutine.condition(model.model, {"z": z})).get_trace(x, OBSERVED)
        return trace.log_prob_sum()

    gradient = torch.autograd.functional.jacobian(log_joint, mean)
    np.testing.assert_allclose(gradient, 0, atol=1e-9)
    hessian = torch.autograd.functional.hessian(log_joint, mean)[0, :, 0]
    np.testing.assert_allclose(-hessian, torch.linalg.inv(covariance), rtol=1e-8)


def test_the_model_in_pyro_gives_the_evidence() -> None:
    """log p(x) = log p(z, x) - log p(z | x) for any z."""
    model, x = truth(), drawn(3)
    mean, covariance = model.latent_posterior(x, OBSERVED)
    trace = poutine.trace(poutine.condition(model.model, {"z": mean})).get_trace(x, OBSERVED)
    posterior = MultivariateNormal(mean, covariance).log_prob(mean).sum()
    covered = model.distribution.covariance_matrix[OBSERVED][:, OBSERVED]
    evidence = MultivariateNormal(model.mean[OBSERVED], covered).log_prob(x[:, OBSERVED]).sum()
    assert float(trace.log_prob_sum() - posterior) == pytest.approx(float(evidence))
    pyro.clear_param_store()


def test_single_precision_is_enough_for_the_data() -> None:
    """With little noise the terms of the density nearly cancel: in single precision it would be off by hundreds."""
    random = torch.Generator().manual_seed(3)
    model = ProbabilisticPCA(torch.zeros(400), torch.randn(400, 5, generator=random), 1e-3)
    x = (torch.randn(5, generator=random) @ model.loadings.float().T)[None]
    dense = MultivariateNormal(model.mean, model.distribution.covariance_matrix).log_prob(x.double())
    assert float(model.distribution.log_prob(x)) == pytest.approx(float(dense), rel=1e-6)
    observed = torch.arange(400) < 200
    assert model.conditional(x, observed).mean.dtype == torch.double


def test_little_noise_in_many_directions_is_noise() -> None:
    random = torch.Generator().manual_seed(4)
    x = torch.randn(60, 20, generator=random, dtype=torch.double) @ torch.randn(20, 2000, generator=random).double()
    noisy = x + 1e-4 * torch.randn(60, 2000, generator=random, dtype=torch.double)
    assert ProbabilisticPCA.fit(noisy, 20).noise == pytest.approx(1e-4, rel=0.3)


def test_units_of_the_data_do_not_matter() -> None:
    x = drawn(60)
    one, other = ProbabilisticPCA.fit(x, 2), ProbabilisticPCA.fit(100 * x + 7, 2)
    a, b = one.conditional(x, OBSERVED), other.conditional(100 * x + 7, OBSERVED)
    np.testing.assert_allclose(100 * a.mean + 7, b.mean, rtol=1e-8)
    np.testing.assert_allclose(1e4 * a.covariance_matrix, b.covariance_matrix, rtol=1e-7)


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (lambda: ProbabilisticPCA.fit(torch.ones(2, 5), 1), r"data of shape \(N, D\)"),
        (lambda: ProbabilisticPCA.fit(torch.full((9, 5), math.nan), 1), "data"),
        (lambda: ProbabilisticPCA.fit(torch.randn(9, 5), 5), "components"),
        (lambda: ProbabilisticPCA.fit(torch.randn(9, 1).expand(9, 5), 2), "fewer components"),
        (lambda: ProbabilisticPCA(torch.ones(3), torch.ones(4, 2), 1.0), r"mean \(D,\) and loadings \(D, q\)"),
        (lambda: ProbabilisticPCA(torch.ones(3), torch.ones(3, 2), 0.0), "noise"),
        (lambda: truth().conditional(torch.ones(2, 6).double(), OBSERVED), r"values of shape \(N, 7\)"),
        (lambda: truth().conditional(torch.full((2, 7), math.nan).double(), OBSERVED), "values"),
        (
            lambda: truth().conditional(torch.ones(2, 7).double(), OBSERVED[:6]),
            r"observed to be a boolean tensor of shape \(7,\), got torch.bool of shape \(6,\)",
        ),
        (lambda: truth().conditional(torch.ones(2, 7).double(), OBSERVED.long()), "boolean tensor .*, got torch.int64"),
        (lambda: truth().model(torch.ones(2, 6).double(), OBSERVED), r"values of shape \(N, 7\)"),
        (lambda: ProbabilisticPCA(torch.ones(3), torch.ones(3, 0), 1.0), r"mean \(D,\) and loadings \(D, q\)"),
        (lambda: truth().conditional(torch.ones(2, 7).double(), OBSERVED | True), "leave out some entries, not all"),
        (lambda: truth().conditional(torch.ones(2, 7).double(), OBSERVED & False), "leave out some entries, not all"),
    ],
)
def test_bad_input_is_refused(make, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        make()


def test_the_distance_is_that_of_the_dense_covariance_and_one_for_draws() -> None:
    random = torch.Generator().manual_seed(7)
    loadings = torch.randn(12, 3, generator=random, dtype=torch.double)
    model = ProbabilisticPCA(torch.randn(12, generator=random, dtype=torch.double), loadings, 0.4)
    observed = torch.arange(12) < 8
    x = torch.randn(5, 12, generator=random, dtype=torch.double)
    dense = loadings[:8] @ loadings[:8].T + 0.16 * torch.eye(8, dtype=torch.double)
    rest = (x - model.mean)[:, :8]
    wanted = (rest * torch.linalg.solve(dense, rest.T).T).sum(1) / 8
    torch.testing.assert_close(model.distance(x, observed), wanted)
    z, noise = (torch.randn(4000, size, generator=random, dtype=torch.double) for size in (3, 12))
    drawn = model.distance(model.mean + z @ loadings.T + 0.4 * noise, observed)
    assert abs(float(drawn.mean()) - 1) < 4 * (2 / 8 / 4000) ** 0.5


def test_the_distance_does_not_cancel_with_little_noise() -> None:
    random = torch.Generator().manual_seed(8)
    model = ProbabilisticPCA(torch.zeros(12, dtype=torch.double), torch.randn(12, 3, generator=random).double(), 1e-8)
    z, noise = (torch.randn(4000, size, generator=random, dtype=torch.double) for size in (3, 12))
    found = model.distance(z @ model.loadings.T + 1e-8 * noise, torch.arange(12) < 8)
    assert float(found.min()) > 0
    assert abs(float(found.mean()) - 1) < 4 * (2 / 8 / 4000) ** 0.5
