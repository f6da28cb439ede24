"""Models with known answers for tests of fits: a line in any unit, and a model with two modes."""

import pyro
import pyro.distributions as dist
import torch

X = torch.linspace(-1, 1, 50)
Y = 60 + 2 * X + torch.randn(50, generator=torch.Generator().manual_seed(0))
DESIGN = torch.stack([torch.ones(50), X], 1)
MEAN = torch.linalg.lstsq(DESIGN, Y[:, None]).solution[:, 0]
RESIDUAL = (Y - DESIGN @ MEAN).square().mean().sqrt()


def line(unit, vague=1.0):
    """y = 60 + 2x + e in units of ``unit``, and priors ``vague`` times as wide as N(0, 100)."""
    width = 100.0 * unit * vague

    def model(x, y=None):
        a = pyro.sample("a", dist.Normal(0.0, width))
        b = pyro.sample("b", dist.Normal(0.0, width))
        s = pyro.sample("s", dist.HalfNormal(torch.tensor(width / 10)))
        with pyro.plate("obs", len(x)):
            return pyro.sample("y", dist.Normal(a + b * x, s), obs=y)

    return model


def two_modes(x, y=None):
    """The mode at -10 is 5,000 nats below the one at 10; which is found depends on the side of the start."""
    m = pyro.sample("m", dist.Normal(0.0, 5.0))
    with pyro.plate("obs", len(x)):
        level = torch.where(m > 0, -0.5 * (m - 10) ** 2, -0.5 * (m + 10) ** 2 - 50)
        pyro.factor("bump", level.expand(len(x)))
        return pyro.sample("y", dist.Normal(x, 1.0), obs=y)
