"""Markov chain Monte Carlo.

- `HMC`: many chains with the same trajectory length; usually faster than `NUTS`.
- `NUTS`: many chains whose trajectory lengths adapt at every transition.
- `MCLMC`: microcanonical dynamics, by default without acceptance steps and with a small bias.
- `Settings`: the settings that the samplers share, such as chains, starts, stopping and checkpoints.
- `Blocks` runs the chains of a sampler in several processes, or on a cluster.
- `resume` continues a run from its checkpoint.
- `reference`: Pyro's kernels, one chain at a time, for comparison and for models that cannot be batched.
"""

from posterity.inference.mcmc import reference
from posterity.inference.mcmc.blocks import Blocks
from posterity.inference.mcmc.hmc import HMC
from posterity.inference.mcmc.microcanonical import MCLMC
from posterity.inference.mcmc.nuts import NUTS
from posterity.inference.mcmc.resuming import resume
from posterity.inference.mcmc.settings import Settings

__all__ = ["HMC", "MCLMC", "NUTS", "Blocks", "Settings", "reference", "resume"]
