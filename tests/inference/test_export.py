"""ArvizNames that would collide in ArviZ data, and files of it, in both kinds of container."""

import arviz as az
import pyro
import pyro.distributions as dist
import pytest
import torch

from posterity.inference import SVI, Posterior, infer
from posterity.inference import arviz as boundary
from posterity.inference.arviz import containers
from posterity.inference.program.sites import inspect

N = 5
X = torch.linspace(-1, 1, N)


def model_of(latent="w", site="y", plate="obs", also=None):
    def model(x, y=None):
        w = pyro.sample(latent, dist.Normal(torch.zeros(2), 1.0).to_event(1))
        if also:
            pyro.deterministic(also, 2 * w, event_dim=1)
        fn = dist.Normal(w[0] * x + w[1], 1.0)
        if plate is None:
            return pyro.sample(site, fn.to_event(1), obs=y)
        with pyro.plate(plate, len(x)):
            return pyro.sample(site, fn, obs=y)

    return model


# (names in the model), then (dimension of y, its name, name of the latent site) in the data.
NAMES = {
    "site obs": ({"site": "obs", "plate": None}, ("obs_dim", "obs", "w")),
    "latent chain": ({"latent": "chain"}, ("obs", "y", "chain_site")),
    "latent draw": ({"latent": "draw"}, ("obs", "y", "draw_site")),
    "latent sample": ({"latent": "sample"}, ("obs", "y", "sample_site")),
    "site chain": ({"site": "chain"}, ("obs", "chain_site", "w")),
    "plate chain": ({"plate": "chain"}, ("chain_dim", "y", "w")),
    "plate draw": ({"plate": "draw"}, ("draw_dim", "y", "w")),
    "plate x": ({"plate": "x"}, ("x_dim", "y", "w")),
    "site x": ({"site": "x"}, ("obs", "x", "w")),
    "latent x": ({"latent": "x"}, ("obs", "y", "x")),
    "plate w_dim_0": ({"plate": "w_dim_0"}, ("w_dim_0", "y", "w")),
    "also w_dim_0": ({"also": "w_dim_0"}, ("obs", "y", "w")),
    "also obs": ({"also": "obs", "plate": None}, ("obs_dim", "y", "w")),
    "chain and chain_site": ({"latent": "chain", "also": "chain_site"}, ("obs", "y", "chain_site_site")),
    "slashes": ({"latent": "a/b", "site": "a/y", "plate": "a/c"}, ("a.c", "a.y", "a.b")),
    "slash and dot": ({"latent": "a/b", "also": "a.b"}, ("obs", "y", "a.b_site")),
    "only a slash": ({"latent": "/"}, ("obs", "y", "site")),
}


@pytest.mark.parametrize("inference_data", [True, False], ids=["InferenceData", "DataTree"])
@pytest.mark.parametrize("name", NAMES)
def test_names_that_would_collide_are_changed(name, inference_data, tmp_path, monkeypatch):
    names, (dim, site, latent) = NAMES[name]
    if not inference_data:
        monkeypatch.setattr(containers, "HAS_INFERENCE_DATA", False)
    elif not boundary.HAS_INFERENCE_DATA:
        pytest.skip("this ArviZ has no InferenceData")
    model = model_of(**names)
    draws = {names.get("latent", "w"): torch.randn(2, 5, 2)}
    posterior = Posterior(model, inspect(model, (X, X)), draws, {"lp": torch.randn(2, 5)})
    data = posterior.to_arviz(X, X, predict=X[:3])
    assert latent in boundary.group(data, "posterior")
    assert boundary.group(data, "observed_data")[site].dims == (dim,)
    assert boundary.group(data, "constant_data")["x"].dims == (dim,)
    if not inference_data and "slash" not in name:  # both kinds of container write the same files
        return
    back = boundary.load(boundary.save(data, tmp_path / "data.nc"))
    for group in boundary.group_names(data):
        assert boundary.group(back, group).equals(boundary.group(data, group)), group
    if inference_data:
        az.extract(data)


@pytest.mark.parametrize("names", [{"site": "obs"}, {"plate": "y"}, {"latent": "obs"}, {"also": "obs"}], ids=str)
def test_two_sites_of_one_name_are_an_error_before_the_fit(names):
    """A plate is a site to Pyro."""
    with pytest.raises(ValueError, match=r"Multiple sample sites named '(obs|y)'"):
        infer(model_of(**names), X, X, method=SVI(steps=2, progress=False))


def test_a_plate_that_is_not_the_first_dimension_names_its_own():
    def model(x, y=None):
        w = pyro.sample("w", dist.Normal(0.0, 1.0))
        with pyro.plate("columns", N, dim=-1):
            return pyro.sample("y", dist.Normal(w * x, 1.0).expand([2, N]), obs=y)

    y = torch.randn(2, N)
    data = Posterior(model, inspect(model, (X[:2, None], y)), {"w": torch.randn(1, 3)}).to_arviz(X[:2, None], y)
    assert boundary.group(data, "observed_data")["y"].dims == ("y_dim_0", "columns")
