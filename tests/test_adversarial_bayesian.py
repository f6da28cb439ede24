"""The Bayesian GAN: its kernel has the right law, its chains keep to themselves, its draws make the right samples."""

import math

import pytest
import torch
from torch import nn
from torch.nn.functional import logsigmoid

from posterity.inference.adversarial.bayesian import (
    BayesianAdversarial,
    _Chains,
    discriminator_log_likelihood,
    generator_log_likelihood,
    play_bayesian,
    sghmc,
)
from posterity.models.discriminators import dense_discriminator
from posterity.models.generators import dense_generator
from posterity.models.stacked import Stacked

DATA = 0.5 * torch.randn(200, 2, generator=torch.Generator().manual_seed(0))


def make_generator():
    return dense_generator(3, (2,), hidden=(8,), squash=False)


def make_discriminator():
    return dense_discriminator((2,), hidden=(8,))


def settings(**changes):
    base = {
        "steps": 30, "warmup": 10, "draws": 5, "generators": 3, "discriminators": 2, "batch_size": 20,
        "monitor_every": 10, "progress": False,
    }  # fmt: skip
    return BayesianAdversarial(**(base | changes))


def short(**changes):
    seed = changes.pop("seed", 4)
    return play_bayesian(
        make_generator, make_discriminator, DATA, latent=3, settings=settings(**changes), seed=seed
    )  # fmt: skip


# The kernel


@pytest.mark.parametrize(("friction", "temperature", "step"), [(0.1, 1.0, 0.05), (0.5, 0.25, 0.2), (1.0, 1.0, 0.1)])
def test_the_kernel_has_the_moments_of_a_normal_target(friction, temperature, step):
    """10,000 chains on N(mean, sd²) after 50 relaxation times: mean and variance within 5 standard errors.

    The chains are independent and normal: standard errors sd/sqrt(n) and var sqrt(2/n), 7 % in all. Noise of a wrong
    scale, such as sqrt(friction η) for sqrt(2 friction η), is far beyond. Each target has a step of its own.
    """
    random, count = torch.Generator().manual_seed(1), 10_000
    mean, sd = torch.tensor([1.0, -3.0]).double(), torch.tensor([0.5, 2.0]).double()
    rate = step * sd**2
    position = torch.zeros(count, 2).double()
    velocity = torch.zeros_like(position)
    for _ in range(int(100 * max(friction / step, 1 / friction))):
        noise = torch.randn(count, 2, generator=random).double()
        position, velocity = sghmc(
            position, velocity, (mean - position) / sd**2, noise, rate=rate, friction=friction, temperature=temperature
        )  # fmt: skip
    variance = temperature * sd**2 / (1 - step / (4 - 2 * friction))
    assert bool(((position.mean(0) - mean).abs() < 5 * (variance / count).sqrt()).all())
    assert bool(((position.var(0) / variance - 1).abs() < 5 * math.sqrt(2 / count)).all())
    assert bool(((velocity.var(0) / (temperature * rate) - 1).abs() < 0.5).all())  # the kinetic energy, but for a step


def test_a_step_of_the_kernel_is_the_formula():
    """v = 0.9 * 2 + 0.01 * 3 + sqrt(2 * 0.1 * 0.01 * 4) * 0.5, θ = 1 + v."""
    one, two, three, half = (torch.tensor(value).double() for value in (1.0, 2.0, 3.0, 0.5))
    position, velocity = sghmc(one, two, three, half, rate=0.01, friction=0.1, temperature=4.0)
    expected = 1.8 + 0.03 + math.sqrt(0.008) * 0.5
    assert float(velocity) == pytest.approx(expected)
    assert float(position) == pytest.approx(1 + expected)


# The target


def test_likelihoods_are_those_of_a_loop_over_all_pairs():
    random = torch.Generator().manual_seed(0)
    generators, judges = [make_generator() for _ in range(3)], [make_discriminator() for _ in range(2)]
    z, real = torch.randn(3, 7, 3, generator=random), torch.randn(2, 7, 2, generator=random)
    fake = [net(own) for net, own in zip(generators, z, strict=True)]
    first = [sum(logsigmoid(judge(made)).mean() for judge in judges) / 2 for made in fake]
    second = [
        logsigmoid(judge(own)).mean() + sum((1 - judge(made).sigmoid()).log().mean() for made in fake) / 3
        for judge, own in zip(judges, real, strict=True)
    ]
    many, all_judges = Stacked(generators), Stacked(judges)
    torch.testing.assert_close(generator_log_likelihood(many, all_judges, z), torch.stack(first))
    torch.testing.assert_close(discriminator_log_likelihood(all_judges, real, many(z)), torch.stack(second))


@pytest.mark.parametrize(("opponents", "times"), [("mean", (1, 1)), ("sum", (2, 3))])
def test_the_gradient_is_the_likelihood_of_all_data_and_one_prior(opponents, times):
    """Plain and cold, from rest: θ moves by η (w N grad L - θ/sd²), with w times the opponents if they add up."""
    chosen = settings(
        preconditioned=False, temperature=0.0, learning_rate=(1e-4, 1e-4), opponents=opponents, prior_sd=(0.5, 2.0),
        data_weight=(0.3, 0.7),
    )  # fmt: skip
    nets = [[make_generator() for _ in range(3)], [make_discriminator() for _ in range(2)]]
    kinds = ("generator", "discriminator")
    chains = [_Chains(kind, nets[which], list(range(len(nets[which]))), which) for which, kind in enumerate(kinds)]
    z = torch.randn(3, 20, 3)
    value = generator_log_likelihood(chains[0].net, chains[1].net, z)
    before = [chains[0].position.clone(), chains[1].position.clone()]
    chains[0].move(value, len(DATA), chosen, warm=True)
    other = discriminator_log_likelihood(chains[1].net, DATA[:20].expand(2, -1, -1), chains[0].net(z).detach())
    chains[1].move(other, len(DATA), chosen, warm=True)

    def moved(which, seat, likelihood):
        net, sd, weight = nets[which][seat], chosen.prior_sd[which], chosen.data_weight[which] * times[which]
        prior = sum((weight**2).sum() for weight in net.parameters()) / (2 * sd**2)
        parts = torch.autograd.grad(weight * len(DATA) * likelihood - prior, list(net.parameters()))
        return before[which][seat] + 1e-4 * torch.cat([part.flatten() for part in parts])

    for seat, net in enumerate(nets[0]):
        likelihood = sum(logsigmoid(judge(net(z[seat]))).mean() for judge in nets[1]) / 2
        torch.testing.assert_close(chains[0].position[seat], moved(0, seat, likelihood), atol=1e-6, rtol=1e-5)
    fake = chains[0].net(z).detach()
    for seat, judge in enumerate(nets[1]):
        likelihood = logsigmoid(judge(DATA[:20])).mean() + sum(logsigmoid(-judge(made)).mean() for made in fake) / 3
        torch.testing.assert_close(chains[1].position[seat], moved(1, seat, likelihood), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("preconditioned", [False, True])
def test_without_data_the_draws_are_the_priors(preconditioned):
    """The sd of 40 chains * 10 draws * 50 weights is 0.3 within 5 standard errors of 40 * 50 independent ones."""
    rate = (0.3, 0.3) if preconditioned else (0.005, 0.005)
    game = short(
        steps=700, warmup=200, draws=10, generators=40, data_weight=(0.0, 0.0), prior_sd=(0.3, 1.0), learning_rate=rate,
        preconditioned=preconditioned,
    )  # fmt: skip
    draws = torch.cat([value.flatten(2) for value in game.posterior.draws.values()], 2)
    assert draws.shape == (40, 10, 50)
    assert float(draws.std()) == pytest.approx(0.3, rel=5 / math.sqrt(2 * 40 * 50))
    assert float(draws.mean()) == pytest.approx(0, abs=5 * 0.3 / math.sqrt(40 * 50))
    apart = draws.flatten(1).corrcoef() - torch.eye(40)  # 780 pairs of chains, whose weights have nothing in common
    assert float(apart.abs().max()) < 5 * 2.5 / math.sqrt(50)


class Line(nn.Module):
    """x = a + b z."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([0.0, 1.0]))

    def forward(self, z):
        return self.weight[0] + self.weight[1] * z


class Quadratic(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(3))

    def forward(self, x):
        return torch.cat([torch.ones_like(x), x, x**2], 1) @ self.weight
