"""Models that several tests read."""

import pyro
import pyro.distributions as dist
import torch


def varying_slopes(x, y=None):
    """Slopes in a plate of groups, and a deterministic site."""
    group = torch.arange(len(x)) % 3
    overall = pyro.sample("overall", dist.Normal(0.0, 1.0))
    with pyro.plate("groups", 3):
        own = pyro.sample("own", dist.Normal(0.0, 1.0))
    slope = pyro.deterministic("slope", overall + 0.5 * own, event_dim=1)
    with pyro.plate("obs", len(x)):
        return pyro.sample("y", dist.Normal(slope[group] * x[:, 0], 0.5), obs=y)
