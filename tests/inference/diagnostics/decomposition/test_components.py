import math

import pyro.distributions as dist
import pytest
import torch
import xarray as xr

from posterity.inference import PredictiveMixture
from posterity.inference.diagnostics import component_usage, label_order, relabel
from posterity.models import Mixture

GENERATOR = torch.Generator().manual_seed(0)
X = torch.linspace(-1, 1, 60)


LOGNORMAL = Mixture(dist.Categorical(torch.ones(2, 1)), dist.LogNormal(torch.zeros(2, 1), 1.0))


def draws(count=30, seed=0, noise=0.05):
    """Three branches of y at each x, the components of each draw in an order of its own."""
    generator = torch.Generator().manual_seed(seed)
    loc = torch.stack([X - 3, -X, 2 + X**2], -1)  # (N, 3)
    loc = loc + noise * torch.randn(count, 1, 3, generator=generator)
    logits = torch.log(torch.tensor([0.2, 0.5, 0.3])) + 0.1 * torch.randn(count, 1, 3, generator=generator)
    order = torch.stack([torch.randperm(3, generator=generator) for _ in range(count)])
    index = order[:, None].expand(count, len(X), 3)
    likelihood = dist.MixtureSameFamily(
        dist.Categorical(logits=logits.expand(count, len(X), 3).gather(2, index)),
        dist.Normal(loc.gather(2, index), 0.2),
    )
    y = Mixture.normal(torch.log(torch.tensor([0.2, 0.5, 0.3])), loc.mean(0), torch.tensor(0.2))
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        observed = y.sample()
    return PredictiveMixture.from_draws(likelihood), observed, order


def test_relabelling_undoes_the_order_of_every_draw():
    predictive, y, order = draws()
    found = label_order(predictive, y)
    true = order.gather(1, found)  # which branch each place holds
    assert bool((true == true[0]).all())
    again = relabel(predictive, y)
    loc = again.component_distribution.loc.unflatten(1, (30, 3))
    assert float(loc.std(1).max()) < 0.1
    before = predictive.component_distribution.loc.unflatten(1, (30, 3))
    assert float(before.std(1).max()) > 1


def test_relabelling_changes_no_prediction():
    predictive, y, _ = draws()
    again = relabel(predictive, y)
    torch.testing.assert_close(again.log_prob(y), predictive.log_prob(y))
    for name in ("mean", "noise", "ambiguity", "epistemic"):
        torch.testing.assert_close(getattr(again, name), getattr(predictive, name))


def test_usage_is_the_share_that_a_component_explains():
    predictive, y, _ = draws()
    usage = component_usage(relabel(predictive, y), y)
    assert sorted(usage.weight.values.round(1).tolist()) == [0.2, 0.3, 0.5]
    assert usage.responsibility.values.sum() == pytest.approx(1)
    assert 2.5 < usage.attrs["effective"] < 3
    assert usage.attrs["unused"] == 0
    logits = torch.tensor([0.0, 0.0, -9.0]).expand(5, 3)
    lazy = component_usage(Mixture.normal(logits, torch.zeros(3), torch.ones(3)))
    assert lazy.used.values.tolist() == [True, True, False]
    assert lazy.attrs["unused"] == 1


def test_y_may_be_an_array_or_a_list():
    predictive, y, _ = draws()
    usage, order = component_usage(predictive, y), label_order(predictive, y)
    for given in (y.numpy(), y.tolist(), xr.DataArray(y.numpy(), dims="row")):
        xr.testing.assert_allclose(component_usage(predictive, given), usage, rtol=1e-6)
        assert torch.equal(label_order(predictive, given), order)


def test_several_targets():
    generator = torch.Generator().manual_seed(0)
    apart = torch.tensor([[-5.0, 5.0], [5.0, -5.0]]) + 0.1 * torch.randn(6, 40, 2, 2, generator=generator)
    apart[::2] = apart[::2].flip(2)  # the components of every other draw
    components = dist.Normal(apart, 1.0).to_event(1)
    likelihood = dist.MixtureSameFamily(dist.Categorical(torch.ones(6, 40, 2)), components)
    predictive = PredictiveMixture.from_draws(likelihood)
    y = torch.tensor([-5.0, 5.0]).expand(40, 2)
    order = label_order(predictive, y.numpy())
    assert bool((order[::2] == order[0]).all())
    assert bool((order[1::2] == order[0].flip(0)).all())
    usage = component_usage(relabel(predictive, y), y.numpy())
    assert sorted(usage.responsibility.values.round(3).tolist()) == [0.0, 1.0]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda p, y: component_usage(p, y[:3]), r"expected y of shape \(60,\), got \(3,\)"),
        (lambda p, y: component_usage(p, least=1.0), r"expected least to be a number in \[0, 1\), got 1.0"),
        (lambda p, y: component_usage(p, y[:, None]), r"expected y of shape \(60,\), got \(60, 1\)"),
        (lambda p, y: component_usage(p, y * math.nan), "expected finite y, got 60 of 60"),
        (lambda p, y: component_usage(p, y.numpy().astype(str)), "expected real numbers as y, got <U"),
        (
            lambda p, y: component_usage(LOGNORMAL, [-1.0, 1.0]),
            "expected y in the support of LogNormal components, got 1 of",
        ),
        (lambda p, y: component_usage(p, least="a"), r"expected least to be a number in \[0, 1\), got 'a'"),
        (lambda p, y: relabel(p, y[:3]), r"expected y of shape \(60,\), got \(3,\)"),
        (lambda p, y: relabel(p, y[:, None]), r"expected y of shape \(60,\), got \(60, 1\)"),
        (lambda p, y: relabel(p, None), r"expected y of shape \(60,\) with a mixture, got None"),
        (lambda p, y: relabel(p, y * math.nan), "expected finite y, got 60 of 60"),
        (lambda p, y: relabel(p.per_draw[:, 0], y), "expected a PredictiveMixture, got Mixture"),
    ],
)
def test_bad_input_is_refused(call, message):
    predictive, y, _ = draws()
    with pytest.raises(ValueError, match=message):
        call(predictive, y)
