"""A posterior in words and in a notebook."""

import pyro
import pyro.distributions as dist
import torch

from posterity.data import Observations, Standardization
from posterity.inference import HMC, Posterior
from posterity.inference.overview import posterior_html, posterior_text
from posterity.inference.program.sites import inspect
from posterity.models import bayesian_regression, mixture_density
from tests.test_display import cells

X, Y = torch.randn(9, 2), torch.randn(9)
SCALE = Standardization.fit(Observations(X, Y))
ATTRS = {"method": "HMC", "seconds": 12.345, "warnings": "R-hat is 1.3: draw <more>; 3 diverged: raise target_accept"}


def line(x, y=None):
    slope = pyro.sample("slope", dist.Normal(0.0, 1.0))
    pyro.sample("pair", dist.Normal(torch.zeros(2), 1.0).to_event(1))
    with pyro.plate("obs", len(x)):
        return pyro.sample("y", dist.Normal(slope * x, 1.0), obs=y)


def of(pair, attrs, chains=2, draws=5):
    model = getattr(pair, "model", pair)
    args = (X[:, 0], Y) if pair is line else (X, Y)
    nodes = pyro.poutine.trace(model).get_trace(*args).nodes
    program = inspect(model, args)
    pyro.clear_param_store()
    names = (*program.latents, *program.parameters)
    values = {name: nodes[name]["value"].detach().expand(chains, draws, *nodes[name]["value"].shape) for name in names}
    return Posterior(model, program, values, attrs=attrs)


def parts(posterior):
    return posterior.model, posterior.program, posterior.draws, posterior.attrs


def test_sites_are_rows_and_numbers_have_moments():
    posterior = of(line, ATTRS)
    html = posterior_html(*parts(posterior))
    slope = f"{float(posterior.draws['slope'][0, 0]):.4g}"
    assert cells(html) == ["slope", "()", slope, "0", "pair", "(2,)", "", ""]
    for words in (
        "Posterior: line by HMC",
        "2 chains of 5 draws, 12.3 s, observed site",
        "draw &lt;more&gt;",
        "to_arviz",
    ):
        assert words in html
    assert cells(html, "li")[:2] == ["R-hat is 1.3: draw <more>", "3 diverged: raise target_accept"]
    assert html == posterior._repr_html_()
    text = posterior_text(*parts(posterior))
    assert text == "Posterior(line by HMC, 2 chains of 5 draws: slope (), pair (2,), with warnings)" == repr(posterior)


def test_weights_of_a_network_are_one_row():
    posterior = of(bayesian_regression(SCALE, hidden=(4,), noise="constant"), {})
    assert cells(posterior._repr_html_())[-4:] == ["4 sites of weights", "with 17 numbers", "", ""]
    assert repr(posterior) == (
        "Posterior(bayesian_regression, 2 chains of 5 draws: noise (), 4 sites of weights with 17 numbers)"
    )
    assert "Warnings" not in posterior._repr_html_()
    trained = of(mixture_density(SCALE, hidden=(4,)), {"method": "SVI", "guide": "none"}, chains=1, draws=1)
    assert repr(trained) == "Posterior(mixture_density by SVI, 1 chain of 1 draw: 4 sites of weights with 57 numbers)"


def test_settings_of_a_method_are_not_needed_and_many_sites_are_cut():
    def many(x, y=None):
        for i in range(30):
            pyro.sample(f"w{i}", dist.Normal(0.0, 1.0))
        with pyro.plate("obs", len(x)):
            return pyro.sample("y", dist.Normal(x[:, 0], 1.0), obs=y)

    html = of(many, {"method": HMC().name})._repr_html_()
    assert "and 18 more sites" in html
    assert len(cells(html)) == 4 * 12
