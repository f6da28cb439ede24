"""Chains: their gradient, their prior, and that each chain has its own course."""

import math

import pytest
import torch
from torch.nn.functional import logsigmoid

from posterity.inference.adversarial.bayesian.chains import Chains
from posterity.inference.adversarial.bayesian.likelihood import (
    discriminator_log_likelihood,
    generator_log_likelihood,
)
from posterity.inference.adversarial.bayesian.run import SamplingLoop
from tests.bayesian_gan_cases import (
    DATA,
    bayesian_settings,
    make_discriminator,
    make_generator,
    train_short,
)


@pytest.mark.parametrize(("opponents", "times"), [("mean", (1, 1)), ("sum", (2, 3))])
def test_a_step_follows_the_likelihood_of_all_data_and_one_prior(opponents, times):
    """Without preconditioner, noise and velocity, θ moves by η (w N grad L - θ/sd²); "sum" multiplies w."""
    chosen = bayesian_settings(
        preconditioned=False, temperature=0.0, learning_rate=(1e-4, 1e-4), opponents=opponents, prior_sd=(0.5, 2.0),
        data_weight=(0.3, 0.7),
    )  # fmt: skip
    nets = [[make_generator() for _ in range(3)], [make_discriminator() for _ in range(2)]]
    kinds = ("generator", "discriminator")
    chains = [Chains(kind, nets[which], list(range(len(nets[which]))), which) for which, kind in enumerate(kinds)]
    z = torch.randn(3, 20, 3)
    value = generator_log_likelihood(chains[0].net, chains[1].net, z)
    before = [chains[0].position.clone(), chains[1].position.clone()]
    chains[0].step(value, len(DATA), chosen, warmup=True)
    other = discriminator_log_likelihood(chains[1].net, DATA[:20].expand(2, -1, -1), chains[0].net(z).detach())
    chains[1].step(other, len(DATA), chosen, warmup=True)

    def expected(which, index, likelihood):
        net, sd, weight = nets[which][index], chosen.prior_sd[which], chosen.data_weight[which] * times[which]
        prior = sum((weight**2).sum() for weight in net.parameters()) / (2 * sd**2)
        parts = torch.autograd.grad(weight * len(DATA) * likelihood - prior, list(net.parameters()))
        return before[which][index] + 1e-4 * torch.cat([part.flatten() for part in parts])

    for index, net in enumerate(nets[0]):
        likelihood = sum(logsigmoid(judge(net(z[index]))).mean() for judge in nets[1]) / 2
        torch.testing.assert_close(chains[0].position[index], expected(0, index, likelihood), atol=1e-6, rtol=1e-5)
    fake = chains[0].net(z).detach()
    for index, judge in enumerate(nets[1]):
        likelihood = logsigmoid(judge(DATA[:20])).mean() + sum(logsigmoid(-judge(made)).mean() for made in fake) / 3
        torch.testing.assert_close(chains[1].position[index], expected(1, index, likelihood), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("preconditioned", [False, True])
def test_without_data_the_draws_follow_the_prior(preconditioned):
    """The sd of 40 chains * 10 draws * 50 weights is 0.3 within 5 standard errors of 40 * 50 independent values."""
    rate = (0.3, 0.3) if preconditioned else (0.005, 0.005)
    run = train_short(
        steps=700, warmup=200, draws=10, generators=40, data_weight=(0.0, 0.0), prior_sd=(0.3, 1.0), learning_rate=rate,
        preconditioned=preconditioned,
    )  # fmt: skip
    draws = torch.cat([value.flatten(2) for value in run.posterior.draws.values()], 2)
    assert draws.shape == (40, 10, 50)
    assert float(draws.std()) == pytest.approx(0.3, rel=5 / math.sqrt(2 * 40 * 50))
    assert float(draws.mean()) == pytest.approx(0, abs=5 * 0.3 / math.sqrt(40 * 50))
    apart = draws.flatten(1).corrcoef() - torch.eye(40)  # 780 pairs of independent chains
    assert float(apart.abs().max()) < 5 * 2.5 / math.sqrt(50)


def explore(order, judges_order):
    """Positions after 20 steps of a run whose chains are in this order, each with its own seed."""
    chosen = bayesian_settings(learning_rate=(1e-2, 1e-2))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        nets = [make_generator() for _ in range(3)]
        judges = [make_discriminator() for _ in range(2)]
    generators = Chains("generator", [nets[i] for i in order], [10 + i for i in order], 0)
    discriminators = Chains("discriminator", [judges[i] for i in judges_order], [20 + i for i in judges_order], 1)
    loop = SamplingLoop(chosen, generators, discriminators, DATA, 3)
    for step in range(1, 21):
        loop.step(step)
    return generators.position, discriminators.position


def test_chains_do_not_depend_on_their_order():
    """In another order every network has the same trajectory up to rounding: each has its own random numbers."""
    first, first_judges = explore([0, 1, 2], [0, 1])
    other, other_judges = explore([2, 0, 1], [1, 0])
    torch.testing.assert_close(other, first[[2, 0, 1]], atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(other_judges, first_judges[[1, 0]], atol=1e-4, rtol=1e-3)
    assert float((first[0] - first[1]).abs().max()) > 0.1


def test_generators_interact_only_through_the_discriminators():
    """With discriminators that do not learn, a generator is the same beside others as alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        nets, judges = [make_generator() for _ in range(3)], [make_discriminator() for _ in range(2)]
    chosen = bayesian_settings(learning_rate=(1e-2, 1e-30))

    def trajectory(indices):
        generators = Chains("generator", [nets[i] for i in indices], [10 + i for i in indices], 0)
        loop = SamplingLoop(chosen, generators, Chains("discriminator", judges, [20, 21], 1), DATA, 3)
        for step in range(1, 21):
            loop.step(step)
        return generators.position

    torch.testing.assert_close(trajectory([1])[0], trajectory([0, 1, 2])[1], atol=1e-4, rtol=1e-3)
