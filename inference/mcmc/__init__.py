"""Markov chain Monte Carlo.

- `HMC`: many chains, one trajectory length for all; mostly the faster of the two.
- `NUTS`: many chains, a tree for each.
- `Settings`: what both have in common: chains, starts, stopping, checkpoints.
- `Blocks` runs the chains of either in several processes, or on a cluster.
- `resume` goes on from a checkpoint of either.
- `reference`: Pyro's own kernels, one chain at a time, for comparison and for models that cannot be batched.
"""

from pathlib import Path
from typing import Any

from posterity.inference.mcmc import reference
from posterity.inference.mcmc.blocks import Blocks
from posterity.inference.mcmc.hmc import HMC
from posterity.inference.mcmc.nuts import NUTS
from posterity.inference.mcmc.resuming import resume as _resume
from posterity.inference.mcmc.settings import Settings
from posterity.inference.posterior import Posterior

__all__ = ["HMC", "NUTS", "Blocks", "Settings", "reference", "resume"]


def resume(path: str | Path, model: Any, *args: Any, **changes: Any) -> Posterior:
    """Go on with a run from its checkpoint, bit for bit as if it had never stopped (on the same device).

    ``model`` and ``args`` are those of the run; ``changes`` may name settings of what follows: ``draws`` (in all,
    those before included), ``max_seconds``, ``target_ess``, ``threads``, ``progress``, ``checkpoint`` (default: the
    file itself) and ``checkpoint_seconds``. Returns the `Posterior` of all draws.
    Raises ``ValueError`` for other changes, a file that is no checkpoint, or one of another model or other data.
    """
    return _resume(path, model, *args, methods={"HMC": HMC, "NUTS": NUTS}, **changes)
