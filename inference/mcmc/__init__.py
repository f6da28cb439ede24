"""Markov chain Monte Carlo.

- `HMC`: many chains with one trajectory length for all chains; usually the faster of the two.
- `NUTS`: many chains, each with its own trajectory lengths.
- `Settings`: the settings that both share: chains, starts, stopping, checkpoints.
- `Blocks` runs the chains of either in several processes, or on a cluster.
- `resume` continues a run of either from its checkpoint.
- `reference`: Pyro's own kernels, one chain at a time, for comparison and for models that cannot be batched.
"""

from posterity.inference.mcmc import reference
from posterity.inference.mcmc.blocks import Blocks
from posterity.inference.mcmc.hmc import HMC
from posterity.inference.mcmc.nuts import NUTS
from posterity.inference.mcmc.resuming import resume
from posterity.inference.mcmc.settings import Settings

__all__ = ["HMC", "NUTS", "Blocks", "Settings", "reference", "resume"]
