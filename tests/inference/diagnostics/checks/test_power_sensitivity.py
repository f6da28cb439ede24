import numpy as np
import pandas as pd
import pyro
import pyro.distributions as dist
import pytest
import torch
import xarray as xr
from scipy import stats

from posterity.inference import Posterior
from posterity.inference.arviz import from_arrays, group
from posterity.inference.diagnostics.checks.power_sensitivity import power_sensitivity
from posterity.inference.program.sites import inspect
from posterity.inference.program.tables import names_to_attrs, read_tables
from posterity.models import bayesian, mlp
from tests.inference.arviz.power_cases import NOISE, PRIOR, PRIOR_MEAN, Y, distance, even_draws, sensitivity

X = torch.ones(len(Y), dtype=torch.float64)
DATA = torch.as_tensor(Y)


def mean_of(x, y=None):
    mean = pyro.sample("mean", dist.Normal(torch.tensor(PRIOR_MEAN).to(x), PRIOR))
    pyro.deterministic("double", 2 * mean)
    with pyro.plate("obs", len(x)):
        return pyro.sample("y", dist.Normal(mean * x, NOISE), obs=y)


POSTERIOR = Posterior(mean_of, inspect(mean_of, (X, DATA)), {"mean": torch.as_tensor(even_draws())})
WITHOUT, WITH = POSTERIOR.to_arviz(X, DATA), POSTERIOR.to_arviz(X, DATA, log_prior=True)
ZEROS = np.zeros((2, 5))
EMPTY = from_arrays(posterior={"w": ZEROS}, log_prior={}, log_likelihood={"y": ZEROS})
FEW = from_arrays(posterior={"w": ZEROS}, log_prior={"w": ZEROS}, log_likelihood={"y": ZEROS})


def test_sites_and_functions_have_the_closed_form_of_a_normal_mean():
    found = power_sensitivity(POSTERIOR, X, DATA, at=torch.tensor([-2.0, 0.0, 0.5]).double())
    exact = sensitivity()
    for component, expected in exact.items():
        np.testing.assert_allclose(found["mean"].sel(component=component), expected, rtol=0.01)
        # f(x) = x mean: its distribution is that of the mean in other units, and constant at x = 0.
        np.testing.assert_allclose(found["f"].sel(component=component), [expected, 0.0, expected], rtol=0.01)
    assert found["f"].dims == ("component", "obs")
    assert found.attrs["finding"] == "the prior hardly matters for any of these"
    assert exact["prior"] < 0.05 < exact["likelihood"]


def test_arviz_data_with_a_log_prior_give_the_same():
    found = power_sensitivity(POSTERIOR, X, y=DATA, var_names=["mean", "double"])
    xr.testing.assert_allclose(power_sensitivity(WITH), found, rtol=1e-9)
    assert list(power_sensitivity(WITH, var_names="double")) == ["double"]
    assert group(WITH, "log_prior")["mean"].dims == ("chain", "draw")


def test_correlated_weights_and_their_functions_have_closed_forms():
    """Two weights with a conjugate posterior; 40000 draws, of which a sensitivity has an error of about 2 %."""
    x = torch.tensor([[1.0, 0.9], [0.5, 0.6], [-1.0, -1.1], [0.2, 0.1]]).double()
    y, at = torch.tensor([1.0, 0.4, -1.3, 0.3]).double(), torch.tensor([[1.0, 1.0], [1.0, -1.0]]).double()

    def line(x, y=None):
        w = pyro.sample("w", dist.Normal(torch.zeros(2).to(x), 1.0).to_event(1))
        with pyro.plate("obs", len(x)):
            return pyro.sample("y", dist.Normal(x @ w, 0.5), obs=y)

    def moments(prior=1.0, likelihood=1.0):
        covariance = np.linalg.inv(prior * np.eye(2) + likelihood * (x.T @ x).numpy() / 0.25)
        return covariance @ (x.T @ y).numpy() * likelihood / 0.25, covariance

    def function(place, **powers):
        mean, covariance = moments(**powers)
        direction = at[place].numpy()
        return stats.norm(direction @ mean, np.sqrt(direction @ covariance @ direction))

    draws = np.random.default_rng(0).multivariate_normal(*moments(), size=(4, 10_000))
    posterior = Posterior(line, inspect(line, (x, y)), {"w": torch.as_tensor(draws)})
    found = power_sensitivity(posterior, x, y, at=at)
    for place in range(2):
        values = draws @ at[place].numpy()
        for component in ("prior", "likelihood"):
            ends = values.min(), values.max()
            expected = sum(
                distance(function(place), function(place, **{component: power}), *ends) for power in (1.01, 1 / 1.01)
            ) / (2 * np.log2(1.01))
            assert float(found["f"].sel(component=component)[place]) == pytest.approx(expected, rel=0.06)
    # The data determine the sum of the weights, and the prior their difference.
    assert float(found["f"].sel(component="prior")[0]) < 0.05 < float(found["f"].sel(component="prior")[1])
    assert found.attrs["finding"] == "the prior dominates: w (2 of 2), f (1 of 2)"
    assert found["w"].dims == ("component", "w_dim_0")


def test_all_observed_sites_are_the_likelihood():
    """Five observations at two sites are those of one site."""

    def two_sites(x, y=None):
        mean = pyro.sample("mean", dist.Normal(torch.tensor(PRIOR_MEAN).to(x), PRIOR))
        pyro.sample("first", dist.Normal(mean, NOISE), obs=DATA[0])
        with pyro.plate("obs", len(x)):
            return pyro.sample("y", dist.Normal(mean * x, NOISE), obs=y)

    program = inspect(two_sites, (X[1:], DATA[1:]), "y")
    found = power_sensitivity(Posterior(two_sites, program, POSTERIOR.draws), X[1:], DATA[1:])
    xr.testing.assert_allclose(found, power_sensitivity(POSTERIOR, X, DATA), rtol=1e-9)


def test_networks_are_judged_by_their_functions_and_classes_by_their_probabilities():
    net = mlp(1, 3, 2, seed=0)

    def classes(x, y=None):
        logits = bayesian("net", net)(x)
        with pyro.plate("obs", len(x)):
            return pyro.sample("y", dist.Categorical(logits=logits), obs=y)

    x, y = torch.linspace(-1, 1, 6)[:, None], torch.tensor([0, 0, 1, 0, 1, 1])
    program = inspect(classes, (x, y))
    shapes = {
        n: v["value"].shape
        for n, v in pyro.poutine.trace(classes).get_trace(x, y).nodes.items()
        if n in program.latents
    }
    generator = torch.Generator().manual_seed(0)
    draws = {name: torch.randn(2, 50, *shape, generator=generator) for name, shape in shapes.items()}
    posterior = Posterior(classes, program, draws)
    found = power_sensitivity(posterior, x, y, at=x[:3])
    assert list(found) == ["f"]
    assert found["f"].dims == ("component", "obs", "target")
    np.testing.assert_allclose(found["f"][..., 0], found["f"][..., 1], rtol=1e-4)  # p and 1 - p
    with pytest.raises(ValueError, match=r"expected at=x, .* got None for a model whose latent sites are all weights"):
        power_sensitivity(posterior, x, y)


@pytest.mark.parametrize(
    ("source", "settings", "message"),
    [
        (np.zeros(3), {}, "expected ArviZ data .* got ndarray"),
        (WITHOUT, {}, "with a group 'log_prior', got groups"),
        (WITH, {"at": X}, "expected args and at only with a Posterior, got them"),
        (WITH, {"var_names": ["z"]}, r"expected var_names from \['mean', 'double'\], got \['z'\]"),
        (WITH, {"var_names": 3}, "expected var_names to be a list of strings, got 3"),
        (WITH, {"delta": -1}, r"expected delta to be a number in \(0, 1\], got -1"),
        (EMPTY, {}, "log_prior"),
        (FEW, {}, "expected at least 25 draws for importance sampling, got 10"),
    ],
    ids=range(8),
)  # fmt: skip
def test_bad_input_is_refused(source, settings, message):
    with pytest.raises(ValueError, match=message):
        power_sensitivity(source, **settings)


def test_bad_input_with_a_posterior_is_refused():
    with pytest.raises(ValueError, match=r"expected var_names from \['mean', 'double'\], got \['z'\]"):
        power_sensitivity(POSTERIOR, X, DATA, var_names=["z"])
    with pytest.raises(ValueError, match="expected y, which the model observes at 'y'"):
        power_sensitivity(POSTERIOR, X)


def test_columns_of_a_frame_are_put_in_the_order_of_the_fit():
    def line(x, y=None):
        w = pyro.sample("w", dist.Normal(torch.zeros(2), 1.0).to_event(1))
        with pyro.plate("obs", len(x)):
            return pyro.sample("y", dist.Normal(x.float() @ w, 1.0), obs=y)

    frame = pd.DataFrame({"a": [1.0, 2.0, 3.0], "b": [0.1, -0.1, 0.0]})
    y = torch.tensor([1.0, 2.0, 3.5])
    draws = {"w": torch.randn(1, 200, 2, generator=torch.Generator().manual_seed(0)) * 0.3 + torch.tensor([1.0, 0.0])}
    args = (torch.tensor(frame.to_numpy(copy=True)), y)
    posterior = Posterior(line, inspect(line, args), draws, attrs=names_to_attrs(read_tables((frame, y))))
    xr.testing.assert_equal(power_sensitivity(posterior, frame[["b", "a"]], y), power_sensitivity(posterior, frame, y))
    with pytest.raises(ValueError, match="with the columns of the fit, got none of"):
        power_sensitivity(posterior, frame.rename(columns={"a": "c"}), y)
