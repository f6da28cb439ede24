"""Penalties of discriminators whose slopes are known."""

import math

import pytest
import torch

from posterity.inference.adversarial.regularisers import due_penalties, gradient_penalty, r1, r2
from posterity.models.discriminators import dense_discriminator, packed


def linear(weight):
    return lambda x: x.flatten(1) @ weight


def numbers(n):
    return lambda: torch.rand(n, generator=torch.Generator().manual_seed(1))


def test_penalties_of_a_linear_discriminator_are_those_of_its_slope():
    """A slope of norm 3 everywhere: (3 - 1)² and 3² / 2, times the weight; images are flattened."""
    weight = torch.tensor([1.0, 2.0, 2.0, 0.0])
    real, fake = torch.randn(2, 5, 1, 2, 2)
    values = [p(linear(weight), real, fake, numbers(5)) for p in (gradient_penalty(10.0), r1(2.0), r2(4.0))]
    assert [float(value) for value in values] == pytest.approx([40.0, 9.0, 18.0], rel=1e-5)


def test_each_penalty_is_at_its_own_samples():
    """D(x) = x²/2 has the slope x: real samples at 3, generated ones at -1, points of the gradient penalty between."""
    real, fake = torch.full((400, 1), 3.0), torch.full((400, 1), -1.0)

    def square(x):
        return 0.5 * (x**2).sum(1)

    values = [float(p(square, real, fake, numbers(400)).detach()) for p in (r1(2.0), r2(2.0), gradient_penalty(1.0))]
    assert values[:2] == pytest.approx([9.0, 1.0])
    # E (|u| - 1)² of u ~ U(-1, 3) is (1/4)(2/3 + 8/3) = 5/6; within 5 standard errors of 400 draws (sd 1.06).
    assert values[2] == pytest.approx(5 / 6, abs=5 * 1.06 / 20)


def test_penalties_of_runs_side_by_side_are_those_of_each():
    weight = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))
    real, fake = torch.randn(2, 3, 5, 4, generator=torch.Generator().manual_seed(1))
    share = torch.rand(3, 5, generator=torch.Generator().manual_seed(2))

    def cubic(weight):
        return lambda x: ((x * weight) ** 3).sum(-1)

    for penalty in (gradient_penalty(10.0), r1(2.0), r2(4.0)):
        together = penalty(cubic(weight[:, None]), real, fake, lambda: share)
        each = [penalty(cubic(w), x, y, lambda s=s: s) for w, x, y, s in zip(weight, real, fake, share, strict=True)]
        torch.testing.assert_close(together, torch.stack(each))


def test_a_penalty_has_a_gradient_and_is_the_same_for_the_same_seed():
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
def test_bad_arguments_of_penalties_are_refused(make):
    for weight in (0.0, -1.0, math.nan, math.inf):
        with pytest.raises(ValueError, match="expected weight to be a finite number above 0"):
            make(weight)
    with pytest.raises(ValueError, match="expected every to be a whole number of 1 or more, got 0"):
        make(every=0)


def test_lazy_penalties_take_turns_and_add_up_to_the_same_total():
    """Over twelve steps the factors of each add up to twelve; the two with every=4 are never due in the same step."""
    three = (r1(0.1, every=4), r2(0.1, every=4), gradient_penalty(every=3))
    steps = [due_penalties(three, step) for step in range(12)]
    assert [sum(factor for row in steps for factor, one in row if one is penalty) for penalty in three] == [12, 12, 12]
    assert [sum(one is penalty for row in steps for _, one in row) for penalty in three] == [3, 3, 4]
    assert not any(three[0] in (due := [one for _, one in row]) and three[1] in due for row in steps)
    assert due_penalties((r1(), len), 7) == [(1, r1()), (1, len)]
    assert due_penalties((), 3) == []
    assert r1(0.1, every=4) != r1(0.1)


def test_a_penalty_of_packs_is_that_of_the_logit_of_a_pack():
    """The gradient of D = w . (pack of p samples) has the squared norm |w|² for any p, which is R1 with weight 2."""
    net = packed(dense_discriminator, 4, (2,), hidden=())
    squares = float((net.net.net[1].weight.detach() ** 2).sum())
    x = torch.randn(20, 2)
    for penalty in (r1(2.0), r2(2.0)):
        assert float(penalty(net, x, x, lambda: torch.rand(20)).detach()) == pytest.approx(squares, rel=1e-5)
    value = gradient_penalty(1.0)(net, x, x, lambda: torch.rand(20)).detach()
    assert float(value) == pytest.approx((squares**0.5 - 1) ** 2, rel=1e-4)
