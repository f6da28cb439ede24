"""Data, networks, settings and monitors that the tests of adversarial training share."""

import warnings

import torch
from torch import nn

from posterity.data import ring
from posterity.inference.adversarial import Adversarial, TrainingAlarm, train
from posterity.models.discriminators import dense_discriminator
from posterity.models.generators import dense_generator

RING = ring().sample(500, seed=0)
NORMAL = torch.randn(400, 2, generator=torch.Generator().manual_seed(0))
CLUSTERS = ring(sd=0.05)
TRAINING, HELD_OUT = CLUSTERS.sample(4000, seed=0), CLUSTERS.sample(4000, seed=1)


# Dense networks on a ring


def networks(dropout=0.0):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        generator = dense_generator(3, (2,), hidden=(16,), squash=False)
        discriminator = dense_discriminator((2,), hidden=(16,))
    if dropout:
        discriminator.net.insert(2, nn.Dropout(dropout))
    return generator, discriminator


def pairs(seeds, dropout=0.0):
    """Networks with different initial weights for each seed."""
    made = [networks(dropout) for _ in seeds]
    for seed, nets in zip(seeds, made, strict=True):
        random = torch.Generator().manual_seed(seed)
        for net in nets:
            for parameter in net.parameters():
                parameter.data = 0.3 * torch.randn(parameter.shape, generator=random)
    return [one for one, _ in made], [two for _, two in made]


def quick(**changes):
    return Adversarial(**({"steps": 30, "batch_size": 20, "progress": False, "monitor_every": 10} | changes))


def weights(run):
    return torch.cat([p.detach().flatten() for net in (run.generator, run.discriminator) for p in net.parameters()])


def weights_of(net):
    return torch.cat([p.detach().flatten() for p in net.parameters()])


# Networks whose gradients are known


class Shift(nn.Module):
    """The samples z + b; the gradient of a loss with respect to b is the mean of that with respect to the samples."""

    def __init__(self):
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(2))

    def forward(self, z):
        return z + self.bias


class Line(nn.Module):
    """The logits x w; stores the samples that it is given in training."""

    def __init__(self, weight=(3.0, 4.0)):
        super().__init__()
        self.weight, self.seen = nn.Parameter(torch.tensor(weight)), []

    def forward(self, x):
        if self.training:
            self.seen.append(x.detach().clone())
        return x @ self.weight


def linear_settings(**changes):
    base = {"steps": 4, "batch_size": 50, "progress": False, "monitor_every": 2, "loss": "wasserstein"}
    return Adversarial(**(base | changes))


def train_linear(generator=None, discriminator=None, **changes):
    return train(
        generator or Shift(), discriminator or Line(), NORMAL, latent=2, settings=linear_settings(**changes), seed=0
    )


# Monitors whose readings are made up


class Reads:
    """A monitor whose readings are made up: a number for all steps, or a function of the step."""

    def __init__(self, **curves):
        self.curves = curves

    def read(self, run):
        return {name: curve(run.step) if callable(curve) else curve for name, curve in self.curves.items()}


def short_settings(**changes):
    return Adversarial(**({"steps": 25, "batch_size": 10, "progress": False, "monitor_every": 5} | changes))


def train_monitored(*alarms, monitors=(), generator=None, resume=None, discriminator=None, **changes):
    nets = generator or nn.Linear(2, 2), discriminator or nn.Linear(2, 1)
    return train(
        *nets, NORMAL, latent=2, settings=short_settings(**changes), monitors=monitors, alarms=alarms, resume=resume
    )


def train_and_catch(*args, **named):
    """A run of `train_monitored` and its warnings, without those of other packages."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        run = train_monitored(*args, **named)
    return run, [one for one in caught if issubclass(one.category, RuntimeWarning | TrainingAlarm)]


# Generators and discriminators that are functions


class Fixed(nn.Module):
    """A generator whose samples are a function of z, with one weight that does nothing."""

    def __init__(self, make):
        super().__init__()
        self.make, self.weight = make, nn.Parameter(torch.zeros(()))

    def forward(self, z):
        return self.make(z) + 0 * self.weight


class Judge(nn.Module):
    """A discriminator whose logits are a function of the sample, with one weight that does nothing."""

    def __init__(self, logits):
        super().__init__()
        self.logits, self.weight = logits, nn.Parameter(torch.zeros(()))

    def forward(self, x):
        return self.logits(x) + 0 * self.weight


def perfect(z):
    """Exact samples of the ring from normal z: the angle's share of a turn chooses the cluster."""
    share = torch.special.ndtr(z[:, 0])
    which = (share * 8).floor().clamp(max=7).long()
    return CLUSTERS.centres[which] + CLUSTERS.sd * z[:, 1:3]


def half(z):
    """Four of the eight clusters."""
    which = (torch.special.ndtr(z[:, 0]) * 4).floor().clamp(max=3).long()
    return CLUSTERS.centres[which] + CLUSTERS.sd * z[:, 1:3]


def single(z):
    return CLUSTERS.centres[0] + CLUSTERS.sd * z[:, 1:3]


def read_monitors(make, *monitors, logits=lambda x: x[:, 0] * 0, loss="non_saturating", data=TRAINING):
    """The history of one step that changes nothing, and a reading."""
    settings = Adversarial(steps=1, batch_size=50, progress=False, loss=loss, learning_rate=(1e-30, 1e-30))
    return train(Fixed(make), Judge(logits), data, latent=3, settings=settings, monitors=monitors).history
