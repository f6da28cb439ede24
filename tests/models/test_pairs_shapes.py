"""Mixtures conditional on images and on sequences, through fits and predictions, held against exact densities."""

import math

import pytest
import torch
from torch import Tensor, nn

from posterity.data import Standardization
from posterity.inference import SVI, Ensemble, infer
from posterity.models import Mixture, bayesian_mixture_density, bayesian_regression, mixture_density, mixture_head

NOISE = 0.1


def two_answers(size: Tensor) -> Mixture:
    """``size`` or minus it, with noise."""
    loc = torch.stack([size, -size], -1)
    return Mixture.normal(torch.zeros(2), loc, torch.tensor(NOISE))


def images(rows: int, seed: int) -> tuple[Tensor, Tensor, Mixture]:
    """A bright pixel in a dark image (N, 1, 4, 5) of sensor counts: y is its column or minus it, whatever its row."""
    generator = torch.Generator().manual_seed(seed)
    column, row = torch.randint(5, (rows,), generator=generator), torch.randint(4, (rows,), generator=generator)
    x = torch.full((rows, 1, 4, 5), 100.0)
    x[torch.arange(rows), 0, row, column] = 400.0
    truth = two_answers(column / 2)
    torch.manual_seed(seed)
    return x, truth.sample(), truth


def sequences(rows: int, seed: int) -> tuple[Tensor, Tensor, Mixture]:
    """Coins (N, 6, 1): at each step y is the sum of this and the last one or minus it, so that memory is needed."""
    x = torch.randint(2, (rows, 6, 1), generator=torch.Generator().manual_seed(seed)).float()
    coins = x[..., 0]
    truth = two_answers(coins + torch.cat([torch.zeros(rows, 1), coins[:, :-1]], 1))
    torch.manual_seed(seed)
    return x, truth.sample(), truth


class Causal(nn.Module):
    """(..., T, 1) -> (..., T, features), each step from itself and the one before."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.now, self.before, self.out = nn.Linear(1, 16), nn.Linear(1, 16), nn.Linear(16, features)

    def forward(self, x: Tensor) -> Tensor:
        past = torch.cat([torch.zeros_like(x[..., :1, :]), x[..., :-1, :]], -2)
        features: Tensor = self.out(torch.tanh(self.now(x) + self.before(past)))
        return features


def network(kind: str, features: int) -> nn.Module:
    torch.manual_seed(0)
    if kind == "sequences":
        return Causal(features)
    return nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.Tanh(), nn.Flatten(), nn.Linear(80, features))


KINDS = {"images": images, "sequences": sequences}


@pytest.mark.parametrize("kind", list(KINDS))
def test_a_fit_is_as_good_as_the_exact_density(kind):
    """Within 0.1 nats an answer on fresh rows; one normal would be 0.9 short. Quantiles and splits have y's shape."""
    x, y, _ = KINDS[kind](800, seed=0)
    fresh_x, fresh_y, truth = KINDS[kind](500, seed=1)
    head = mixture_head(2)
    pair = mixture_density(Standardization.whole(x, y), head=head, net=network(kind, head.features))
    method = Ensemble(members=2, steps=600, learning_rate=0.02, progress=False)
    predictive = infer(pair, x, y, method=method, seed=0).predictive(fresh_x)
    assert predictive.batch_shape == fresh_y.shape
    missing = (truth.log_prob(fresh_y) - predictive.log_prob(fresh_y)).mean()
    assert -0.02 < float(missing) < 0.1
    assert predictive.icdf(torch.tensor(0.5)).shape == fresh_y.shape
    ambiguity, expected = predictive.ambiguity, truth.between_component
    torch.testing.assert_close(ambiguity.mean(), expected.mean(), rtol=0.1, atol=0)


@pytest.mark.parametrize("kind", list(KINDS))
def test_batches_of_rows_take_all_that_belongs_to_a_row(kind):
    x, y, _ = KINDS[kind](300, seed=0)
    head = mixture_head(2)
    pair = mixture_density(Standardization.whole(x, y), head=head, net=network(kind, head.features))
    method = Ensemble(members=1, steps=300, batch_size=50, learning_rate=0.02, progress=False)
    fresh_x, fresh_y, truth = KINDS[kind](300, seed=1)
    found = infer(pair, x, y, method=method, seed=0).predictive(fresh_x).log_prob(fresh_y)
    assert float((truth.log_prob(fresh_y) - found).mean()) < 0.4


@pytest.mark.parametrize("kind", list(KINDS))
def test_a_posterior_of_their_weights(kind):
    x, y, _ = KINDS[kind](100, seed=0)
    head = mixture_head(2)
    pair = bayesian_mixture_density(Standardization.whole(x, y), head=head, net=network(kind, head.features))
    posterior = infer(pair, x, y, method=SVI(steps=20, draws=4, progress=False), seed=0)
    assert posterior.predictive(x[:7]).epistemic.shape == y[:7].shape


def test_one_location_and_scale_for_inputs_of_any_shape():
    x, y, _ = images(50, seed=0)
    scale = Standardization.whole(x, y)
    standard = scale.x(x)
    assert standard.shape == x.shape
    torch.testing.assert_close(standard.mean(), torch.tensor(0.0), atol=1e-5, rtol=0)
    torch.testing.assert_close(standard.std(correction=0), torch.tensor(1.0))
    torch.testing.assert_close(scale.inverse_x(standard), x)
    torch.testing.assert_close(scale.y_scale, y.std(correction=0))


def test_what_does_not_fit_is_refused():
    x, y, _ = images(50, seed=0)
    scale = Standardization.whole(x, y)
    with pytest.raises(ValueError, match="expected a net for a standardisation of inputs of any shape"):
        mixture_density(scale)
    with pytest.raises(ValueError, match="expected a standardisation of the columns of a table"):
        bayesian_regression(scale)
    with pytest.raises(ValueError, match="expected columns that vary, got 1 in all 12 rows of 'x'"):
        Standardization.whole(torch.ones(3, 2, 2), torch.randn(3))
    pair = mixture_density(scale, components=2, net=network("images", 7))
    with pytest.raises(ValueError, match="features of shape"):
        infer(pair, x, y, method=Ensemble(members=1, steps=1, progress=False), seed=0)
    assert math.isfinite(float(scale.x_scale))
