"""Data, networks and settings that the tests of the Bayesian GAN share."""

import torch
from torch import nn

from posterity.inference.adversarial.bayesian import BayesianAdversarial, train_bayesian
from posterity.models.discriminators import dense_discriminator
from posterity.models.generators import dense_generator

DATA = 0.5 * torch.randn(200, 2, generator=torch.Generator().manual_seed(0))


def make_generator():
    return dense_generator(3, (2,), hidden=(8,), squash=False)


def make_discriminator():
    return dense_discriminator((2,), hidden=(8,))


def bayesian_settings(**changes):
    base = {
        "steps": 30, "warmup": 10, "draws": 5, "generators": 3, "discriminators": 2, "batch_size": 20,
        "monitor_every": 10, "progress": False,
    }  # fmt: skip
    return BayesianAdversarial(**(base | changes))


def train_short(**changes):
    seed = changes.pop("seed", 4)
    return train_bayesian(
        make_generator, make_discriminator, DATA, latent=3, settings=bayesian_settings(**changes), seed=seed
    )  # fmt: skip


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
