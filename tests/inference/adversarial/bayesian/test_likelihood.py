"""Likelihoods of generators and discriminators against loops over all pairs."""

import torch
from torch.nn.functional import logsigmoid

from posterity.inference.adversarial.bayesian.likelihood import (
    discriminator_log_likelihood,
    generator_log_likelihood,
)
from posterity.models.stacked import Stacked
from tests.bayesian_gan_cases import (
    make_discriminator,
    make_generator,
)


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
