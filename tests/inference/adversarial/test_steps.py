"""Each setting of a training step has its effect, measured on networks whose gradients are known."""

import copy
import math

import pytest
import torch
from torch import nn

from posterity.inference.adversarial import train, train_many
from posterity.inference.adversarial.regularisers import gradient_penalty, r1, r2
from tests.adversarial_cases import RING, Line, Shift, linear_settings, networks, quick, train_linear, weights


def test_each_network_is_updated_as_often_as_the_settings_say():
    run = train_linear(updates=(2, 3))
    counts = [int(next(iter(one.state.values()))["step"]) for one in run.optimisers]
    assert counts == [4 * 2, 4 * 3]


@pytest.mark.parametrize("clip", [None, 0.5])
def test_the_norm_of_a_gradient_is_that_before_it_is_clipped(clip):
    """For the generator it is |w| of the discriminator, 5 while that hardly learns. Adam's first moment is clipped."""
    run = train_linear(clip=clip, learning_rate=(1e-3, 1e-12))
    assert run.history["generator_gradient"] == pytest.approx([5.0, 5.0], rel=1e-5)
    moment = run.optimisers[0].state[run.generator.bias]["exp_avg"].norm()  # (1 - 0.5^4) of a constant gradient
    assert float(moment) == pytest.approx((5.0 if clip is None else clip) * (1 - 0.5**4), rel=1e-5)


def test_noise_falls_to_zero_over_the_first_half():
    """Zero data reach the discriminator with an sd of 2 (1 - 2 step / steps), within 5 standard errors."""
    discriminator, data = Line((1e-30, 1e-30)), torch.zeros(100, 2)
    chosen = linear_settings(noise=2.0, batch_size=100, learning_rate=(1e-30, 1e-30))
    train(Shift(), discriminator, data, latent=2, settings=chosen)
    batches = discriminator.seen[0::3]  # of each step: data, samples, and samples in the generator's update
    sds = [float(batch.std()) for batch in batches]
    error = 2 / math.sqrt(2 * 200)
    assert sds[0] == pytest.approx(2, abs=5 * error)
    assert sds[1] == pytest.approx(1, abs=5 * error / 2)
    assert sds[2:] == [0, 0]


class Place(nn.Module):
    """A generator of samples at one place."""

    def __init__(self, place):
        super().__init__()
        self.place = nn.Parameter(torch.tensor([place]))

    def forward(self, z):
        return self.place.expand(len(z), 1)


class Square(nn.Module):
    """The logits w x² / 2, whose slope is w x."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(1.0))

    def forward(self, x):
        return 0.5 * self.weight * x[:, 0] ** 2


@pytest.mark.parametrize(
    ("penalties", "expected"),
    [
        ((), [-4.0, -4.0]),  # -3²/2 + 1²/2
        ((r1(2.0),), [5.0, 5.0]),  # 3² more, the squared slope at the data
        ((r2(2.0),), [-3.0, -3.0]),  # 1² more, that at the generated samples
        ((r1(2.0), r2(4.0)), [7.0, 7.0]),
        ((r1(2.0, every=2),), [14.0, -4.0]),  # twofold in every second step
        ((gradient_penalty(1.0),), [-4 + 5 / 6, -4 + 5 / 6]),
    ],
)
def test_a_run_takes_each_penalty_at_its_own_samples(penalties, expected):
    """Data at 3, samples at -1, D = x²/2 and the Wasserstein loss; within 5 standard errors of 400 draws in between.

    E (|u| - 1)² of u ~ U(-1, 3) is 5/6, with an sd of 1.06.
    """
    chosen = linear_settings(steps=2, batch_size=400, learning_rate=(1e-30, 1e-30), regularisers=penalties)
    for train_one in (train, lambda one, two, *rest, **named: train_many([one], [two], *rest, seeds=(0,), **named)[0]):
        run = train_one(Place(-1.0), Square(), torch.full((500, 1), 3.0), latent=1, settings=chosen)
        error = 5 * 1.06 / 20 if "gradient" in repr(penalties) else 1e-5
        assert run.history["discriminator_loss"] == pytest.approx(expected, abs=error)


@pytest.mark.parametrize("noise", [0.0, 2.0])
def test_a_penalty_gets_the_samples_of_the_discriminator(noise):
    """Real and generated samples, in that order, with their noise; and the discriminator with the data's conditions."""
    given, batches = [], []

    def penalty(discriminator, real, fake, uniform):
        given.append((real.clone(), fake.clone(), uniform().clone(), discriminator(real).detach().clone()))
        return torch.zeros(())

    class Discriminator(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(()))

        def forward(self, x, condition):
            if self.training:
                batches.append(x.detach().clone())
            return self.weight * (x[:, 0] + 10 * condition[:, 0])

    class Copies(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(()))

        def forward(self, z, condition):
            return -condition + self.weight

    data = torch.arange(1.0, 101.0)[:, None]
    chosen = linear_settings(steps=1, regularisers=(penalty,), batch_size=20, noise=noise)
    train(Copies(), Discriminator(), data, latent=1, condition=data, settings=chosen)
    ((real, fake, share, logits),) = given
    assert torch.equal(real, batches[0])
    assert torch.equal(fake, batches[1])
    if noise:
        return
    assert set(real.flatten().tolist()) <= set(data.flatten().tolist())
    assert torch.equal(fake, -real)  # generated from the conditions of the real samples
    assert share.shape == (20,)
    torch.testing.assert_close(logits, 11 * real[:, 0])


def test_the_discriminator_is_fixed_while_the_generator_learns():
    """Its weights are the same before and after a generator's update, in which they require no gradient."""
    calls = []

    class Watched(nn.Module):
        def __init__(self, net):
            super().__init__()
            self.net = net

        def forward(self, x):
            calls.append((self.training and all(p.requires_grad for p in self.parameters()), weights_of(self.net)))
            return self.net(x)

    def weights_of(net):
        return torch.cat([p.detach().clone().flatten() for p in net.parameters()])

    generator, discriminator = networks()
    watched = Watched(discriminator)
    run = train(generator, watched, RING, latent=3, settings=quick(steps=2), seed=0)
    # After the check of shapes, each step has three calls: real, generated, and generated with fixed weights.
    assert [learns for learns, _ in calls[1:]] == [True, True, False] * 2
    torch.testing.assert_close(calls[3][1], calls[4][1])  # the generator's update left them alone
    assert not torch.equal(calls[2][1], calls[3][1])
    assert all(p.requires_grad for p in run.discriminator.parameters())


def test_each_network_has_its_own_learning_rate():
    """At a rate of 1e-30 the generator stays as it is; the discriminator learns."""
    settings = quick(learning_rate=(1e-30, 1e-2))
    generator, discriminator = networks()
    before = copy.deepcopy(generator.state_dict()), copy.deepcopy(discriminator.state_dict())
    train(generator, discriminator, RING, latent=3, settings=settings, seed=0)
    assert all(
        torch.allclose(a, b, rtol=0, atol=1e-20)
        for a, b in zip(before[0].values(), generator.state_dict().values(), strict=True)
    )
    assert not any(
        torch.equal(a, b) for a, b in zip(before[1].values(), discriminator.state_dict().values(), strict=True)
    )


def test_averaged_weights_follow_with_their_decay():
    """After one step from w0 to w1 with decay m: m w0 + (1 - m) w1."""
    generator, discriminator = networks()
    start = copy.deepcopy(generator)
    run = train(generator, discriminator, RING, latent=3, settings=quick(steps=1, ema=0.75), seed=0)
    for average, first, last in zip(
        run.ema_generator.parameters(), start.parameters(), generator.parameters(), strict=True
    ):
        torch.testing.assert_close(average, 0.75 * first + 0.25 * last)
    torch.testing.assert_close(run.samples(5, seed=2), run.samples(5, seed=2))


def test_half_precision_keeps_float32_weights_and_learns_almost_the_same():
    changes = {"steps": 30, "regularisers": (r1(0.1),)}
    exact = train(*networks(), RING, latent=3, settings=quick(**changes), seed=1)
    half = train(*networks(), RING, latent=3, settings=quick(**changes, precision="bfloat16"), seed=1)
    assert weights(half).dtype == torch.float32
    difference = float((weights(half) - weights(exact)).abs().mean())
    assert 0 < difference < 2e-3  # 30 steps of 2e-4 move a weight by at most 6e-3; bfloat16 has three digits
