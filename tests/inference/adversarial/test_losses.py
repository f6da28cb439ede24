"""Losses against the theory of their games: the best discriminator, the distance it measures, the generator's pull."""

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
from posterity.inference.adversarial.regularisers import due, gradient_penalty, r1, r2

# Two distributions over four points, as counts of samples: expectations are exact.
P, Q = torch.tensor([4, 3, 2, 1]), torch.tensor([1, 1, 3, 5])
POINTS = torch.arange(4)
REAL, FAKE = POINTS.repeat_interleave(P), POINTS.repeat_interleave(Q)


def best_discriminator(loss, steps=4000):
    """A logit for each point, by gradient descent on the discriminator's loss; and that loss."""
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
    """At its best, the sign of p - q, the hinge loss is 2 - sum |p - q|; no other answers have less."""
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
    """Real alone: the logit goes to log((1 - s)/s) instead of infinity."""
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
def test_every_generator_is_pulled_to_higher_answers(name):
    assert all(generator_slope(make_loss(name), logit) < 0 for logit in (-2.0, 0.0, 0.5))


def test_where_the_generator_loses_its_gradient_dies_in_one_and_not_in_the_other():
    """Discriminator certain (logit -20): minimax has a slope of e^-20, the other one of -1."""
    assert generator_slope(minimax(), -20) == pytest.approx(-math.exp(-20), rel=1e-3)
    assert generator_slope(non_saturating(), -20) == pytest.approx(-1, abs=1e-6)


@pytest.mark.parametrize("make", [relativistic, relativistic_average])
def test_relativistic_losses_know_differences_alone(make):
    """The same number added to all answers changes nothing; level answers cost log 2 for each comparison."""
    torch.manual_seed(0)
    real, fake = torch.randn(2, 8, dtype=torch.double)
    loss = make()
    for part in (loss.discriminator, loss.generator):
        torch.testing.assert_close(part(real + 3, fake + 3), part(real, fake))
    level = float(loss.discriminator(torch.zeros(3), torch.zeros(3)))
    assert level == pytest.approx(math.log(2) * (1 if make is relativistic else 2))
    # What one wins the other loses: they change roles.
    torch.testing.assert_close(loss.generator(real, fake), loss.discriminator(fake, real))


def test_halves_are_the_discriminators_loss():
    real, fake = torch.randn(2, 9, dtype=torch.double, generator=torch.Generator().manual_seed(0))
    for name in LOSSES:
        loss = make_loss(name)
        assert (loss.halves is None) == name.startswith("relativistic")
        if loss.halves is not None:
            torch.testing.assert_close(loss.halves[0](real) + loss.halves[1](fake), loss.discriminator(real, fake))


def test_answers_of_many_games_are_averaged_for_each():
    real, fake = torch.randn(2, 3, 6, generator=torch.Generator().manual_seed(0))
    for name in LOSSES:
        loss = make_loss(name)
        for part in (loss.discriminator, loss.generator):
            each = torch.stack([part(one, other) for one, other in zip(real, fake, strict=True)])
            torch.testing.assert_close(part(real, fake), each)


def test_bad_input():
    with pytest.raises(ValueError, match=r"expected a loss from \['hinge', .*\], got 'gan'"):
        make_loss("gan")
    assert make_loss(hinge()).name == "hinge"
    for smoothing in (-0.1, 0.5, math.nan):
        with pytest.raises(ValueError, match=r"expected smoothing to be a number in \[0, 0.5\)"):
            minimax(smoothing)
    with pytest.raises(ValueError, match=r"expected as many real answers as generated ones, got \(3,\) and \(2,\)"):
        relativistic().discriminator(torch.zeros(3), torch.zeros(2))


# Regularisers


def linear(weight):
    return lambda x: x.flatten(1) @ weight


def numbers(n):
    return lambda: torch.rand(n, generator=torch.Generator().manual_seed(1))


def test_penalties_of_a_linear_discriminator_are_those_of_its_slope():
    """A slope of norm 3 everywhere: (3 - 1)² and 3² / 2, times the weight; images are flattened."""
    weight = torch.tensor([1.0, 2.0, 2.0, 0.0])
    real, fake = torch.randn(2, 5, 1, 2, 2)
    found = [p(linear(weight), real, fake, numbers(5)) for p in (gradient_penalty(10.0), r1(2.0), r2(4.0))]
    assert [float(value) for value in found] == pytest.approx([40.0, 9.0, 18.0], rel=1e-5)


def test_each_penalty_is_at_its_own_samples():
    """D(x) = x²/2 has the slope x: at 3 for real ones, at -1 for generated ones, in between for the penalty."""
    real, fake = torch.full((400, 1), 3.0), torch.full((400, 1), -1.0)

    def square(x):
        return 0.5 * (x**2).sum(1)

    found = [float(p(square, real, fake, numbers(400)).detach()) for p in (r1(2.0), r2(2.0), gradient_penalty(1.0))]
    assert found[:2] == pytest.approx([9.0, 1.0])
    # E (|u| - 1)² of u ~ U(-1, 3) is (1/4)(2/3 + 8/3) = 5/6; within 5 standard errors of 400 draws (sd 1.06).
    assert found[2] == pytest.approx(5 / 6, abs=5 * 1.06 / 20)


def test_penalties_of_many_games_are_those_of_each():
    weight = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))
    real, fake = torch.randn(2, 3, 5, 4, generator=torch.Generator().manual_seed(1))
    share = torch.rand(3, 5, generator=torch.Generator().manual_seed(2))

    def cubic(weight):
        return lambda x: ((x * weight) ** 3).sum(-1)

    for penalty in (gradient_penalty(10.0), r1(2.0), r2(4.0)):
        together = penalty(cubic(weight[:, None]), real, fake, lambda: share)
        each = [penalty(cubic(w), x, y, lambda s=s: s) for w, x, y, s in zip(weight, real, fake, share, strict=True)]
        torch.testing.assert_close(together, torch.stack(each))


def test_a_penalty_can_be_descended_and_is_the_same_for_the_same_seed():
    weight = torch.tensor([3.0], requires_grad=True)
    real, fake = torch.randn(2, 6, 1)
    values = [gradient_penalty(1.0)(linear(weight), real, fake, numbers(6)) for _ in range(2)]
    assert torch.equal(*values)
    values[0].backward()
    assert float(weight.grad) == pytest.approx(4.0, rel=1e-5)  # d (w - 1)² / dw
    flat = torch.zeros(1, requires_grad=True)
    r1()(linear(flat), real, fake, numbers(6)).backward()
    assert bool(flat.grad.isfinite().all())


@pytest.mark.parametrize("make", [gradient_penalty, r1, r2])
def test_weights_that_are_none_are_refused(make):
    for weight in (0.0, -1.0, math.nan, math.inf):
        with pytest.raises(ValueError, match="expected weight to be a finite number above 0"):
            make(weight)
    with pytest.raises(ValueError, match="expected every to be a whole number of 1 or more, got 0"):
        make(every=0)


def test_lazy_penalties_are_due_in_turn_and_as_much_in_all():
    """Over twelve steps each is taken twelve times, lazy ones in fewer steps, and no two of four in one."""
    both = (r1(0.1, every=4), r2(0.1, every=4), gradient_penalty(every=3))
    taken = [due(both, step) for step in range(12)]
    assert [sum(times for row in taken for times, one in row if one is penalty) for penalty in both] == [12, 12, 12]
    assert [sum(one is penalty for row in taken for _, one in row) for penalty in both] == [3, 3, 4]
    assert not any(both[0] in (found := [one for _, one in row]) and both[1] in found for row in taken)
    assert due((r1(), len), 7) == [(1, r1()), (1, len)]
    assert due((), 3) == []
    assert r1(0.1, every=4) != r1(0.1)
