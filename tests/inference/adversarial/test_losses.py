"""Losses against their theory: the best discriminator, the distance it measures, the generator's gradient."""

import math

import pytest
import torch

from posterity.inference.adversarial.losses import (
    LOSSES,
    hinge,
    least_squares,
    make_loss,
    minimax,
    non_saturating,
    relativistic,
    relativistic_average,
    wasserstein,
)

# Two distributions over four points, as counts of samples: expectations are exact.
P, Q = torch.tensor([4, 3, 2, 1]), torch.tensor([1, 1, 3, 5])
POINTS = torch.arange(4)
REAL, FAKE = POINTS.repeat_interleave(P), POINTS.repeat_interleave(Q)


def best_discriminator(loss, steps=4000):
    """The logits of all points with the smallest discriminator loss, by gradient descent; and that loss."""
    logits = torch.zeros(4, dtype=torch.double, requires_grad=True)
    optimiser = torch.optim.Adam([logits], lr=0.02)
    for _ in range(steps):
        optimiser.zero_grad()
        value = loss.discriminator(logits[REAL], logits[FAKE])
        value.backward()
        optimiser.step()
    return logits.detach(), float(loss.discriminator(logits[REAL], logits[FAKE]).detach())


def kl(p, q):
    return float((p * (p / q).log()).sum())


@pytest.mark.parametrize("make", [minimax, non_saturating])
def test_the_best_discriminator_knows_the_ratio_and_its_loss_is_the_jensen_shannon_distance(make):
    """Goodfellow et al. 2014: D* = p/(p + q), and the loss there is log 4 - 2 JSD."""
    p, q = P.double() / 10, Q.double() / 10
    logits, value = best_discriminator(make())
    torch.testing.assert_close(logits, (p / q).log(), atol=1e-3, rtol=0)
    middle = (p + q) / 2
    assert value == pytest.approx(math.log(4) - kl(p, middle) - kl(q, middle), abs=1e-6)


def test_least_squares_finds_the_ratio_too():
    """Mao et al. 2017, eq. 6: D* = p/(p + q) for targets 1 and 0; with smoothing s it is (1 - s) times that."""
    p, q = P.double() / 10, Q.double() / 10
    torch.testing.assert_close(best_discriminator(least_squares())[0], p / (p + q), atol=1e-4, rtol=0)
    torch.testing.assert_close(best_discriminator(least_squares(0.1))[0], 0.9 * p / (p + q), atol=1e-4, rtol=0)


def test_the_hinge_measures_total_variation():
    """At its best, the sign of p - q, the hinge loss is 2 - sum |p - q|; no other logits have less."""
    p, q = P.double() / 10, Q.double() / 10
    least = 2 - float((p - q).abs().sum())
    best = (p - q).sign()
    assert float(hinge().discriminator(best[REAL], best[FAKE])) == pytest.approx(least)
    for other in 2 * torch.randn(200, 4, dtype=torch.double, generator=torch.Generator().manual_seed(0)):
        assert float(hinge().discriminator(other[REAL], other[FAKE])) >= least


def test_wasserstein_is_the_difference_of_means():
    logits = torch.tensor([0.3, -1.0, 2.0, 0.5])
    expected = float(logits[FAKE].mean() - logits[REAL].mean())
    assert float(wasserstein().discriminator(logits[REAL], logits[FAKE])) == pytest.approx(expected, abs=1e-6)
    assert float(wasserstein().generator(logits[REAL], logits[FAKE])) == pytest.approx(-float(logits[FAKE].mean()))


def test_smoothing_bounds_the_best_logit_where_nothing_is_generated():
    """For real samples alone the best logit is log((1 - s)/s) instead of infinity."""
    logit = torch.zeros(1, dtype=torch.double, requires_grad=True)
    optimiser = torch.optim.Adam([logit], lr=0.05)
    never = torch.full((1,), -50.0, dtype=torch.double)
    for _ in range(2000):
        optimiser.zero_grad()
        non_saturating(0.1).discriminator(logit, never).backward()
        optimiser.step()
    assert float(logit.detach()) == pytest.approx(math.log(9), abs=1e-3)


def generator_slope(loss, logit):
    fake = torch.tensor([float(logit)], requires_grad=True)
    loss.generator(torch.zeros(1), fake).backward()
    return float(fake.grad)


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_every_generator_is_pulled_to_higher_logits(name):
    assert all(generator_slope(make_loss(name), logit) < 0 for logit in (-2.0, 0.0, 0.5))


def test_where_the_generator_loses_only_minimax_loses_its_gradient():
    """At a logit of -20 the slope of minimax is e^-20, that of the non-saturating loss -1."""
    assert generator_slope(minimax(), -20) == pytest.approx(-math.exp(-20), rel=1e-3)
    assert generator_slope(non_saturating(), -20) == pytest.approx(-1, abs=1e-6)


@pytest.mark.parametrize("make", [relativistic, relativistic_average])
def test_relativistic_losses_depend_on_differences_alone(make):
    """A number added to all logits changes nothing; equal logits cost log 2 for each comparison."""
    torch.manual_seed(0)
    real, fake = torch.randn(2, 8, dtype=torch.double)
    loss = make()
    for part in (loss.discriminator, loss.generator):
        torch.testing.assert_close(part(real + 3, fake + 3), part(real, fake))
    level = float(loss.discriminator(torch.zeros(3), torch.zeros(3)))
    assert level == pytest.approx(math.log(2) * (1 if make is relativistic else 2))
    # The generator has the discriminator's loss with exchanged roles.
    torch.testing.assert_close(loss.generator(real, fake), loss.discriminator(fake, real))


def test_the_discriminators_loss_is_the_sum_of_its_terms():
    real, fake = torch.randn(2, 9, dtype=torch.double, generator=torch.Generator().manual_seed(0))
    for name in LOSSES:
        loss = make_loss(name)
        assert (loss.terms is None) == name.startswith("relativistic")
        if loss.terms is not None:
            torch.testing.assert_close(loss.terms[0](real) + loss.terms[1](fake), loss.discriminator(real, fake))


def test_losses_of_runs_side_by_side_are_those_of_each():
    real, fake = torch.randn(2, 3, 6, generator=torch.Generator().manual_seed(0))
    for name in LOSSES:
        loss = make_loss(name)
        for part in (loss.discriminator, loss.generator):
            each = torch.stack([part(one, other) for one, other in zip(real, fake, strict=True)])
            torch.testing.assert_close(part(real, fake), each)


def test_bad_arguments_of_losses_are_refused():
    with pytest.raises(ValueError, match=r"expected loss to be one of 'minimax', .*, got 'gan'"):
        make_loss("gan")
    assert make_loss(hinge()).name == "hinge"
    for smoothing in (-0.1, 0.5, math.nan):
        with pytest.raises(ValueError, match=r"expected smoothing to be a number in \[0, 0.5\)"):
            minimax(smoothing)
    with pytest.raises(ValueError, match=r"expected as many real logits as fake ones, got \(3,\) and \(2,\)"):
        relativistic().discriminator(torch.zeros(3), torch.zeros(2))
