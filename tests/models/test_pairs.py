import math

import pyro
import pytest
import torch
from torch import Tensor, nn

from posterity.data import Observations, Standardization
from posterity.inference import NUTS, SVI, Ensemble, infer
from posterity.models import (
    Mixture,
    bayesian_mixture_density,
    bayesian_regression,
    mixture_density,
    mixture_head,
    mixture_priors,
    priors,
    radial,
    table_prior,
)

UNITS = 50.0


def curve(n=60, seed=0):
    """y in units of fifty, x in thousands, which must not affect a pair."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(n, 1, generator=generator) * 2 - 1
    y = torch.sin(3 * x[:, 0]) + 0.2 * torch.randn(n, generator=generator)
    return Observations(1000 * x, 200 + UNITS * y)


DATA = curve()
SCALE = Standardization.fit(DATA)
PAIRS = {
    "regression, constant noise": lambda **k: bayesian_regression(SCALE, hidden=(8,), noise="constant", **k),
    "regression, noise of the input": lambda **k: bayesian_regression(SCALE, hidden=(8,), noise="input", **k),
    "mixture density": lambda **k: mixture_density(SCALE, components=2, hidden=(8,), **k),
    "Bayesian mixture density": lambda **k: bayesian_mixture_density(SCALE, components=2, hidden=(8,), **k),
}


@pytest.mark.parametrize("name", PAIRS)
def test_a_pair_learns_and_predicts_in_the_units_of_the_table(name):
    """On new rows it beats the marginal normal, the best that ignores x, and not the truth (3.5 standard errors)."""
    posterior = infer(
        PAIRS[name](), DATA.x, DATA.y, method=SVI(steps=400, learning_rate=0.03, draws=100, progress=False)
    )
    marginal = torch.distributions.Normal(DATA.y.mean(), DATA.y.std())
    assert (posterior.predictive(DATA.x).log_prob(DATA.y) - marginal.log_prob(DATA.y)).mean() > 0.3
    new = curve(n=300, seed=1)
    predictive = posterior.predictive(new.x)
    assert predictive.batch_shape == (300,)
    score = predictive.log_prob(new.y)
    assert (score - marginal.log_prob(new.y)).mean() > 0.3
    truth = torch.distributions.Normal(200 + UNITS * torch.sin(3 * new.x[:, 0] / 1000), 0.2 * UNITS)
    loss = truth.log_prob(new.y) - score
    assert loss.mean() > -3.5 * loss.std() / 300**0.5
    assert (predictive.mean - new.y).abs().mean() < 0.6 * UNITS


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize("resolution", [2.0, 30.0])
def test_no_scale_falls_below_the_resolution_in_units_of_y(name, resolution):
    """Random weights and noise times thirty, so that the features take extreme values."""
    pair = PAIRS[name](resolution=resolution)
    smallest = math.inf
    for seed in range(30):
        torch.manual_seed(seed)
        pyro.clear_param_store()
        trace = pyro.poutine.trace(pair.model).get_trace(DATA.x)
        wild = {
            n: node["value"] * (-30.0 if "net" in n else 1e-6)
            for n, node in trace.nodes.items()
            if node["type"] in ("sample", "param") and n != "y"
        }
        with torch.no_grad():
            for parameter in list(pyro.get_param_store()):
                pyro.param(parameter).copy_(wild[parameter])
        fn = pyro.poutine.trace(pyro.poutine.condition(pair.model, data=wild)).get_trace(DATA.x).nodes["y"]["fn"]
        scale = getattr(fn, "component_distribution", fn).scale
        smallest = min(smallest, scale.min().item())
    assert resolution * (1 - 1e-5) <= smallest < resolution * 1.2


def test_each_reading_of_the_guide_is_a_fresh_one():
    pair = bayesian_regression(SCALE, hidden=(4,))
    assert pair.guide is not pair.guide
    assert type(pair.guide).__name__ == "AutoNormal"
    assert type(bayesian_mixture_density(SCALE).guide).__name__ == "AutoLowRankMultivariateNormal"


def test_a_pair_fitted_twice_gives_the_same_twice():
    pair = bayesian_regression(SCALE, hidden=(4,))
    method = SVI(steps=30, draws=5, progress=False)
    first, second = (infer(pair, DATA.x, DATA.y, method=method, seed=3).draws for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_pair_is_sampled_by_nuts_too():
    pair = bayesian_regression(SCALE, hidden=(2,), noise="constant")
    posterior = infer(pair, DATA.x, DATA.y, method=NUTS(draws=5, warmup=5, chains=1, max_tree_depth=3, progress=False))
    assert set(posterior.draws) == {
        "net.hidden1.weight", "net.hidden1.bias", "net.output.weight", "net.output.bias", "noise",
    }  # fmt: skip


def test_the_noise_is_in_units_of_the_standardised_y():
    """The likelihood's sd is y_scale sqrt(noise² + floor²)."""
    pair = bayesian_regression(SCALE, hidden=(2,), noise="constant", resolution=10.0)
    fixed = pyro.poutine.condition(pair.model, data={"noise": torch.tensor(0.5)})
    fn = pyro.poutine.trace(fixed).get_trace(DATA.x).nodes["y"]["fn"]
    expected = math.sqrt((0.5 * SCALE.y_scale.item()) ** 2 + 100)
    torch.testing.assert_close(fn.scale, torch.full((60,), expected))


def test_the_default_prior_is_wider_in_the_first_layer_alone():
    prior = table_prior()
    assert prior["hidden1"].scale == 3.0
    assert prior[""] == priors.Normal()


def test_a_prior_of_ones_own_is_used():
    pair = bayesian_regression(SCALE, hidden=(2,), prior=priors.Laplace())
    fn = pyro.poutine.trace(pair.model).get_trace(DATA.x).nodes["net.hidden1.weight"]["fn"]
    assert type(fn.base_dist).__name__ == "Laplace"


def test_decay_shrinks_the_weights_of_a_mixture_density():
    norms = []
    for decay in (0.0, 30.0):
        pair = mixture_density(SCALE, components=2, hidden=(8,), decay=decay)
        posterior = infer(pair, DATA.x, DATA.y, method=SVI(steps=200, progress=False))
        norms.append(sum((value**2).sum() for value in posterior.draws.values()))
    assert norms[1] < 0.3 * norms[0]


@pytest.mark.parametrize("build", [bayesian_regression, mixture_density, bayesian_mixture_density])
@pytest.mark.parametrize("resolution", [0.0, -1.0, math.inf])
def test_a_resolution_that_is_not_positive_raises(build, resolution):
    with pytest.raises(ValueError, match="expected resolution to be a finite number above 0"):
        build(SCALE, resolution=resolution)


@pytest.mark.parametrize("build", [bayesian_regression, mixture_density, bayesian_mixture_density])
def test_several_targets_raise(build):
    with pytest.raises(ValueError, match="expected scale to standardise one target, got 2 targets"):
        build(Standardization.identity(1, targets=2))


def test_an_unknown_noise_raises():
    with pytest.raises(ValueError, match=r"expected noise to be one of 'constant', 'input', got 'none'"):
        bayesian_regression(SCALE, noise="none")


def test_an_unknown_activation_of_a_pair_raises():
    with pytest.raises(ValueError, match="expected activation to be one of"):
        mixture_density(SCALE, activation="none")


@pytest.mark.parametrize("build", [bayesian_regression, bayesian_mixture_density])
def test_an_unknown_guide_raises_at_once(build):
    with pytest.raises(ValueError, match=r"expected guide to be one of .*, got 'normal'"):
        build(SCALE, guide="normal")


def test_a_negative_decay_raises_at_once():
    with pytest.raises(ValueError, match="expected decay to be a finite number of 0 or more, got -1"):
        mixture_density(SCALE, decay=-1.0)


def test_a_net_of_ones_own_takes_the_place_of_the_perceptron():
    net = radial(SCALE.x(DATA.x), 10, 6, seed=0)
    for make in (mixture_density, bayesian_mixture_density):
        pair = make(SCALE, components=2, net=net)
        names = set(pyro.poutine.trace(pair.model).get_trace(DATA.x, DATA.y).nodes)
        assert {"net.output.weight", "net.output.bias", "y"} <= names
        assert not any("hidden" in name for name in names)
        with pytest.raises(ValueError, match=r"expected a net from \(N, 1\) to \(N, 9\) features, got \(1, 6\)"):
            make(SCALE, components=3, net=net)
    pyro.clear_param_store()


def few_points(rows, seed):
    generator = torch.Generator().manual_seed(seed)
    x = 2 * torch.rand(rows, 1, generator=generator) - 1
    return x, torch.sin(2 * x[:, 0]) + 0.3 * torch.randn(rows, generator=generator)


def trained_on_12(resolution, *priors):
    """Smallest scale of all members and components at the training rows, scores there and on new rows."""
    x, y = few_points(12, seed=0)
    scale = Standardization(x.mean(0), x.std(0), y.mean(), y.std())
    pair = mixture_density(scale, components=3, hidden=(16,), resolution=resolution, mixture_priors=priors)
    method = Ensemble(members=2, steps=800, learning_rate=0.02, progress=False)
    posterior = infer(pair, x, y, method=method, seed=0)
    found, (x_new, y_new) = posterior.predictive(x), few_points(400, seed=1)
    members = posterior.predictive(x_new).per_draw
    return {
        "narrowest": float(members.component_distribution.scale.min()),
        "train": float(found.log_prob(y).mean()),
        "worst": float(members.log_prob(y_new[:, None]).mean(0).min()),  # the mean score of the worst member
    }


NOISE = -0.5 * math.log(2 * math.pi * math.e * 0.09)  # the best mean score there is, -0.2


TOLERATED = -15.0  # nats a row for the worst member, against hundreds where components have collapsed


def has_not_collapsed(found):
    return found["train"] - NOISE < 2.0 and found["worst"] > TOLERATED


def test_without_a_floor_components_collapse_on_few_points():
    """Without a floor the collapse of the two tests below occurs: scales far below the noise of 0.3."""
    found = trained_on_12(1e-8)
    assert found["narrowest"] < 1e-2
    assert not has_not_collapsed(found)


def test_a_resolution_keeps_components_from_collapsing():
    """No scale is below it, so that no row scores more than the peak of a normal that wide."""
    found = trained_on_12(0.1)
    assert found["narrowest"] >= 0.1 * (1 - 1e-5)
    assert found["train"] <= -math.log(0.1 * math.sqrt(2 * math.pi))
    assert has_not_collapsed(found)


@pytest.mark.parametrize("strength", [1.0, 12.0])
def test_a_prior_over_scales_keeps_components_from_collapsing(strength):
    """With a negligible floor. A prior with the weight of the 12 rows is closer to the best possible score."""
    found = trained_on_12(1e-8, mixture_priors.WideScales(scale=0.3, strength=strength))
    assert found["narrowest"] > 0.05
    assert has_not_collapsed(found)
    assert strength == 1.0 or NOISE - found["worst"] < 1.5


NOISE = 0.1


def two_answers(size: Tensor) -> Mixture:
    """Plus or minus ``size``, with noise."""
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
    """Within 0.1 nats per target on new rows; one normal would be 0.9 nats worse. Quantiles have the shape of y."""
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
    with pytest.raises(ValueError, match="expected a net with a standardisation of inputs of any shape"):
        mixture_density(scale)
    with pytest.raises(ValueError, match="expected scale to standardise the columns of a table"):
        bayesian_regression(scale)
    with pytest.raises(ValueError, match="expected columns that vary, got 1 in all 12 rows of 'x'"):
        Standardization.whole(torch.ones(3, 2, 2), torch.randn(3))
    pair = mixture_density(scale, components=2, net=network("images", 7))
    with pytest.raises(ValueError, match="features of shape"):
        infer(pair, x, y, method=Ensemble(members=1, steps=1, progress=False), seed=0)
    assert math.isfinite(float(scale.x_scale))
