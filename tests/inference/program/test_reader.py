"""`ReadLikelihood`: one run at one draw, against Pyro's own conditioning."""

import pyro
import pyro.distributions as dist
import pytest
import torch

from posterity.inference.program.reader import ReadLikelihood

X, Y = torch.linspace(-1, 1, 5), torch.linspace(0, 2, 5)
MASK = torch.tensor([True, False, True, True, False])


def model(x, y=None, z=None):
    slope = pyro.sample("slope", dist.Normal(0.0, 1.0))
    offset = pyro.param("offset", torch.tensor(0.0))
    pyro.deterministic("double", 2 * slope)
    with pyro.plate("obs", len(x)):
        pyro.sample("z", dist.Normal(x, 1.0), obs=z)
        with pyro.poutine.mask(mask=MASK), pyro.poutine.scale(scale=3.0):
            return pyro.sample("y", dist.Normal(slope * x + offset, 0.5), obs=y)


DRAW = {"slope": torch.tensor(0.7), "offset": torch.tensor(-0.2)}


def test_it_reads_the_likelihood_the_deterministic_sites_and_the_terms_of_the_log_joint():
    with ReadLikelihood(DRAW, ["y"], ["z"], scoring={"y": None}) as reader:
        model(X, Y)
    torch.testing.assert_close(reader.likelihoods["y"].mean, 0.7 * X - 0.2)
    torch.testing.assert_close(reader.deterministics["double"], torch.tensor(1.4))
    log_prob, scored = reader.scores["y"]
    expected = torch.where(MASK, 3 * dist.Normal(0.7 * X - 0.2, 0.5).log_prob(Y), 0.0)
    torch.testing.assert_close(log_prob, expected)
    assert torch.equal(scored, MASK)
    assert reader.filled == ["z"]
    assert reader.names == ["slope", "double", "obs", "z", "y"]


def test_terms_of_other_sites_are_stored_on_request():
    with ReadLikelihood(DRAW, ["y"], ["z"], scoring={"y": None}, terms=True) as reader:
        model(X, Y, z=Y)
    assert set(reader.terms) == {"slope", "z"}
    torch.testing.assert_close(reader.terms["slope"], dist.Normal(0.0, 1.0).log_prob(DRAW["slope"]))
    torch.testing.assert_close(reader.terms["z"], dist.Normal(X, 1.0).log_prob(Y))
    with ReadLikelihood(DRAW, ["y"], ["z"], scoring={"y": None}) as reader:
        model(X, Y, z=Y)
    assert reader.terms is None


def test_a_missing_observation_is_nan_and_a_missing_draw_is_named():
    with ReadLikelihood(DRAW, ["y"], ["z"]):
        assert bool(torch.isnan(model(X)).all())
    with ReadLikelihood({}, ["y"], ["z"]), pytest.raises(ValueError, match="got none of 'slope'"):
        model(X, Y)
    wrong = {"slope": torch.zeros(2)}
    with ReadLikelihood(wrong, ["y"], []), pytest.raises(ValueError, match=r"shape \(\) with these inputs, got \(2,\)"):
        model(X, Y)


def test_the_value_is_converted_before_it_is_scored():
    def counts(y):
        return pyro.sample("y", dist.Poisson(torch.full((3,), 2.0)).to_event(1), obs=y)

    y = torch.tensor([1, 2, 3])
    with ReadLikelihood({}, ["y"], [], scoring={"y": torch.float64}) as reader:
        counts(y)
    torch.testing.assert_close(reader.scores["y"][0], dist.Poisson(2.0).log_prob(y.double()).sum())
