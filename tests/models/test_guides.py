import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import autoguide

from posterity.models import empty_guide, make_guide
from posterity.random import seeded


def model():
    pyro.sample("w", dist.Normal(torch.zeros(3), 10.0).to_event(1))
    pyro.sample("s", dist.HalfCauchy(2.0))
    pyro.sample("u", dist.Uniform(-1.0, 3.0))


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("map", autoguide.AutoDelta),
        ("mean_field", autoguide.AutoNormal),
        ("low_rank", autoguide.AutoLowRankMultivariateNormal),
        ("full_rank", autoguide.AutoMultivariateNormal),
    ],
)
def test_guides_by_name_sample_every_latent_site(name, kind):
    guide = make_guide(name, model)
    assert isinstance(guide, kind)
    sampled = guide()
    assert {name: value.shape for name, value in sampled.items()} == {"w": (3,), "s": (), "u": ()}
    assert sampled["s"] > 0
    assert -1 < sampled["u"] < 3


def test_from_the_prior_every_site_starts_at_a_draw_of_it():
    """500 starts: the spread of w to 4.5 standard errors, the quartiles of s and u to 4.5 of theirs."""
    starts = {"w": [], "s": [], "u": []}
    for _ in range(500):
        pyro.clear_param_store()
        for name, value in make_guide("map", model)().items():
            starts[name].append(value.detach())
    w, s, u = (torch.stack(values) for values in starts.values())
    assert abs(w.std() - 10) < 4.5 * 10 / (2 * w.numel()) ** 0.5
    for values, quartiles in ((s, (0.8284, 2.0, 4.8284)), (u, (0.0, 1.0, 2.0))):
        for level, quartile in zip((0.25, 0.5, 0.75), quartiles, strict=True):
            error = (level * (1 - level) / len(values)) ** 0.5
            assert abs((values < quartile).double().mean() - level) < 4.5 * error


def at_the_edge():
    """In float32 a log-normal draw of more than 88.7 on the log scale, one in four here, is infinite."""
    pyro.sample("s", dist.LogNormal(85.0, 5.0).expand([20]).to_event(1))


def test_draws_on_the_edge_of_their_support_are_drawn_again():
    for seed in range(3):
        with seeded(seed):
            value = make_guide("map", at_the_edge)()["s"]
            drawn = dist.LogNormal(85.0, 5.0).expand([20]).sample()
        assert value.isfinite().all()
        assert not drawn.isfinite().all()


def test_the_scale_at_the_start_is_the_one_asked_for():
    guide = make_guide("mean_field", model, init="median", init_scale=0.2)
    guide()
    assert torch.stack([p.detach() for p in [guide.scales.w[0], guide.scales.s]]).allclose(torch.tensor(0.2))


def test_the_rank_is_the_one_asked_for():
    guide = make_guide("low_rank", model, rank=2)
    guide()
    assert guide.cov_factor.shape == (5, 2)


@pytest.mark.parametrize("name", ["normal", "MAP", ""])
def test_an_unknown_guide_raises(name):
    with pytest.raises(ValueError, match=r"expected guide to be one of 'map', 'mean_field', .*, got"):
        make_guide(name, model)


def test_an_unknown_start_raises():
    with pytest.raises(ValueError, match=r"expected init to be one of .*'network', 'prior', 'uniform', got 'zero'"):
        make_guide("map", model, init="zero")


def test_the_empty_guide_is_empty():
    assert not pyro.poutine.trace(empty_guide).get_trace(1, y=2).stochastic_nodes
