"""What goes wrong quietly elsewhere: each of these once gave a number, and a wrong one."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import Tensor, nn

from posterity.data import Observations, Standardization
from posterity.inference import NUTS, SVI, ConvergenceWarning, Posterior, infer
from posterity.inference.diagnostics import pulls
from posterity.inference.mcmc.potential import capture
from posterity.models import Mixture, bayesian, bayesian_regression, mlp

X = torch.linspace(-1, 1, 20)[:, None]
Y = X[:, 0] + 0.1 * torch.cos(20 * X[:, 0])
FAST = SVI(guide="map", steps=30, progress=False)


def linear(x: Tensor, y: Tensor | None = None) -> Tensor:
    slope = pyro.sample("slope", dist.Normal(0.0, 1.0))
    with pyro.plate("obs", len(x)):
        return pyro.sample("y", dist.Normal(slope * x[:, 0], 0.1), obs=y)


@pytest.mark.parametrize("method", [FAST, NUTS(draws=5, warmup=5, chains=1, progress=False)], ids=["svi", "nuts"])
def test_a_column_of_y_is_not_scored_as_all_pairs(method: SVI | NUTS) -> None:
    with pytest.raises(ValueError, match=r"expected y of shape \(20,\) at the observed site 'y', got \(20, 1\)"):
        infer(linear, X, Y[:, None], method=method)


def test_a_column_of_means_is_not_scored_as_all_pairs() -> None:
    def model(x: Tensor, y: Tensor | None = None) -> Tensor:
        slope = pyro.sample("slope", dist.Normal(0.0, 1.0))
        return pyro.sample("y", dist.Normal(slope * x, 0.1), obs=y)  # [:, 0] forgotten

    with pytest.raises(ValueError, match=r"expected y of shape \(20, 1\) at the observed site 'y', got \(20,\)"):
        infer(model, X, Y, method=FAST)


def test_integer_inputs_are_standardised_as_numbers() -> None:
    data = Observations(torch.arange(4.0)[:, None], torch.tensor([0.0, 1.0, 0.0, 1.0]))
    scale = Standardization.fit(data)
    whole = torch.arange(4)[:, None]
    torch.testing.assert_close(scale.x(whole), scale.x(whole.float()))
    torch.testing.assert_close(scale.inverse_y(torch.tensor([0, 1])), scale.inverse_y(torch.tensor([0.0, 1.0])))


def test_a_pair_takes_float64() -> None:
    data = Observations(X.double(), Y.double())
    pair = bayesian_regression(Standardization.fit(data), hidden=(4,))
    posterior = infer(pair, data.x, data.y, method=FAST)
    assert posterior.predictive(data.x).mean.dtype == torch.double


@pytest.mark.filterwarnings("ignore:Encountered NaN:UserWarning")  # Pyro's, before ours
def test_a_bound_that_is_lost_on_the_way_is_said() -> None:
    def model(x: Tensor, y: Tensor | None = None) -> Tensor:
        slope = pyro.sample("slope", dist.Normal(0.0, 1.0))
        # Finite at the start; the optimum, a slope of near ten, lies where the square root is not defined.
        spread = (5.0 - slope).sqrt()
        with pyro.plate("obs", len(x)):
            return pyro.sample("y", dist.Normal(slope * x[:, 0], 0.1 + 0 * spread), obs=y)

    method = SVI(guide="map", steps=500, learning_rate=0.05, init="median", progress=False)
    with pyro.validation_enabled(False), pytest.warns(ConvergenceWarning, match="the bound was not finite after"):
        infer(model, X, 10 * Y, method=method)


def test_an_interrupt_while_the_mode_is_sought_is_not_lost() -> None:
    calls = [0]

    def model(x: Tensor, y: Tensor | None = None) -> Tensor:
        calls[0] += 1
        if calls[0] == 10:
            raise KeyboardInterrupt
        return linear(x, y)

    with pytest.raises(KeyboardInterrupt):
        infer(model, X, Y, method=SVI(guide="mean_field", steps=90, init="map", progress=False))
    assert calls[0] < 20  # and not the ninety steps of the guide


def test_a_deterministic_site_that_uses_y_is_exported_with_y() -> None:
    def model(x: Tensor, y: Tensor | None = None) -> Tensor:
        slope = pyro.sample("slope", dist.Normal(0.0, 1.0))
        if y is not None:
            pyro.deterministic("residual", y - slope * x[:, 0])
        with pyro.plate("obs", len(x)):
            return pyro.sample("y", dist.Normal(slope * x[:, 0], 0.1), obs=y)

    posterior = infer(model, X, Y, method=FAST)
    residual = posterior.to_arviz(X, Y)["posterior"]["residual"].values[0, 0]
    slope = float(posterior.draws["slope"])
    np.testing.assert_allclose(residual, (Y - slope * X[:, 0]).numpy(), rtol=1e-5)


@pytest.mark.parametrize("holdout", [0.0, 0.2])
def test_one_of_two_observed_sites_can_be_predicted(holdout: float) -> None:
    def model(x: Tensor, z: Tensor | None = None, y: Tensor | None = None) -> Tensor:
        slope = pyro.sample("slope", dist.Normal(0.0, 1.0))
        with pyro.plate("obs", len(x)):
            pyro.sample("z", dist.Normal(-slope * x[:, 0], 0.1), obs=z)
            return pyro.sample("y", dist.Normal(slope * x[:, 0], 0.1), obs=y)

    method = SVI(guide="map", steps=400, holdout=holdout, progress=False)
    posterior = infer(model, X, -Y, Y, method=method, site="y")
    torch.testing.assert_close(posterior.predictive(X).mean, X[:, 0], atol=0.1, rtol=0)


def test_what_is_scored_is_what_the_model_observes() -> None:
    """A model of log y, with early stopping: its scores are those of log y, not of y under the same density."""

    def model(x: Tensor, y: Tensor | None = None) -> Tensor:
        slope = pyro.sample("slope", dist.Normal(0.0, 1.0))
        with pyro.plate("obs", len(x)):
            return pyro.sample("y", dist.Normal(slope * x[:, 0], 0.1), obs=None if y is None else y.log())

    posterior = infer(model, X, Y.exp(), method=SVI(guide="map", steps=400, holdout=0.2, progress=False))
    expected = dist.Normal(posterior.draws["slope"][0, 0] * X[:, 0], 0.1).log_prob(Y)
    torch.testing.assert_close(posterior.log_likelihood(X, Y.exp())[0, 0], expected, atol=1e-4, rtol=0)
    data = posterior.to_arviz(X, Y.exp())
    np.testing.assert_allclose(data["log_likelihood"]["y"].values[0, 0], expected.numpy(), atol=1e-4)
    np.testing.assert_allclose(data["observed_data"]["y"].values, Y.numpy(), atol=1e-5)
    assert posterior.history["held_out"].max() > 0  # log y is predicted to 0.1; y itself scores below -20


def test_a_module_whose_network_is_called_model_is_not_unwrapped() -> None:
    class Wrapper:
        model = nn.Linear(1, 1)

        def __call__(self, x: Tensor, y: Tensor | None = None) -> Tensor:
            return linear(x, y)

    assert "slope" in infer(Wrapper(), X, Y, method=FAST).draws


def test_a_file_of_another_width_is_refused(tmp_path: Path) -> None:
    def model_of(width: int) -> Callable[..., Tensor]:
        net = mlp(1, width, 1)

        def model(x: Tensor, y: Tensor | None = None) -> Tensor:
            mean = bayesian("net", net)(x)[:, 0]
            with pyro.plate("obs", len(x)):
                return pyro.sample("y", dist.Normal(mean, 0.1), obs=y)

        return model

    path = infer(model_of(3), X, Y, method=FAST).save(tmp_path / "three.posterior")
    with pytest.raises(ValueError, match=r"expected draws of 'net.hidden1.weight' of shape \(4, 1\).*got \(3, 1\)"):
        Posterior.load(path, model_of(4), X, Y)


def test_nan_inputs_are_refused_at_prediction() -> None:
    posterior = infer(linear, X, Y, method=FAST)
    with pytest.raises(ValueError, match="expected finite values, got 20 that are not in argument 0"):
        posterior.predictive(X * torch.nan)
    with pytest.raises(ValueError, match="expected data, got an empty argument 0"):
        posterior.predictive(X[:0])


def test_outliers_of_skewed_components_keep_their_size() -> None:
    """Gamma(2, 1) at 60: P(Y > 60) = 61 exp(-60), a pull of 10.2 and not the limit of 37.5."""
    gamma = dist.Gamma(torch.full((1, 1), 2.0).double(), torch.ones(1, 1).double())
    mixture = Mixture(dist.Categorical(logits=torch.zeros(1, 1).double()), gamma)
    y = torch.tensor([60.0]).double()
    assert float(mixture.sf(y)) == pytest.approx(61 * np.exp(-60), rel=1e-9)
    from scipy.stats import norm

    assert float(pulls(mixture, y)["pull"][0]) == pytest.approx(norm.isf(61 * np.exp(-60)), rel=1e-6)


def test_a_shift_for_each_row_is_not_taken_for_one_of_each_component() -> None:
    mixture = Mixture.normal(torch.zeros(3, 3), torch.zeros(3, 3), torch.ones(3, 3))
    with pytest.raises(ValueError, match=r"expected loc of shape \(\) or \(\), got \(3,\)"):
        mixture.affine(torch.tensor([1.0, 2.0, 3.0]), 1.0)


def test_a_recording_that_is_slightly_wrong_is_noticed_in_a_large_potential() -> None:
    """30 nats beside 200,000: a part in ten thousand of the value, and most of the change between two points."""
    calls = [0]

    def potential(values: dict[str, Tensor]) -> Tensor:
        calls[0] += 1
        return 2e5 + 0.5 * (values["z"] ** 2).sum() + 30.0 * (calls[0] % 2)

    with pytest.warns(RuntimeWarning, match="cannot be recorded"):
        capture(potential, {"z": torch.ones(3)})


@pytest.mark.parametrize("seed", [1.5, -1, "1", True, None])
def test_a_seed_that_is_no_whole_number_is_refused(seed: object) -> None:
    with pytest.raises(ValueError, match=f"expected seed to be a whole number of 0 or more.*, got {seed!r}"):
        infer(linear, X, Y, method=FAST, seed=seed)  # type: ignore[arg-type]
