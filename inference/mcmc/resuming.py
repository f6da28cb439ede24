"""Continuing a run from its checkpoint."""

from pathlib import Path
from typing import Any

from posterity.inference.engine.density import Density
from posterity.inference.mcmc import checkpoints
from posterity.inference.mcmc.hmc import HMC
from posterity.inference.mcmc.nuts import NUTS
from posterity.inference.mcmc.run import Run, Sampler
from posterity.inference.posterior import Posterior
from posterity.inference.program.arguments import read_arguments
from posterity.inference.program.observation import observe_as_numbers
from posterity.inference.program.trace import unwrap_pair

METHODS: dict[str, type[Sampler]] = {"HMC": HMC, "NUTS": NUTS}

# Settings that may change on resume. A change of any other would mix different draws, or have no effect.
CHANGES = ("draws", "max_seconds", "target_ess", "threads", "progress", "checkpoint", "checkpoint_seconds")


def resume(path: str | Path, model: Any, *args: Any, **changes: Any) -> Posterior:
    """Continue a run from its checkpoint: the same draws, bit for bit, as if it had never stopped (on the same device).

    ``model`` and ``args`` are those of the run. Returns the `Posterior` of all draws, those before the checkpoint too.

    Args:
        path: the file of the checkpoint.
        model: the model of the run.
        *args: the arguments of the model in the run.
        **changes: settings that change from here on: ``draws`` (in total), ``max_seconds``, ``target_ess``,
            ``threads``, ``progress``, ``checkpoint`` (default: the same file) and ``checkpoint_seconds``.

    Raises:
        OSError: there is no such file.
        ValueError: other changes, a file that is not a checkpoint, or a checkpoint of another model or other data.
    """
    other = sorted(changes.keys() - set(CHANGES))
    if other:
        raise ValueError(f"expected changes to {list(CHANGES)} only, since other settings are fixed, got {other}")
    args = read_arguments(args)
    model = observe_as_numbers(unwrap_pair(model), args)
    content = checkpoints.read_checkpoint(path, METHODS)
    settings = METHODS[content["method"]](
        **{**content["settings"], "threads": content["threads"], "checkpoint": str(path), **changes}
    )
    made = len(content["positions"])
    if settings.draws < made:
        raise ValueError(f"expected draws of at least {made}, the number in the checkpoint, got {settings.draws}")
    sites = {s.name: list(s.shape) for s in Density(model, args).sites}
    if sites != content["sites"]:
        raise ValueError(f"expected the model of the checkpoint, with sites {content['sites']}, got {sites}")
    checkpoints.check_same_arguments(args, content["arguments"])
    return Run(settings, model, args, content["seed"], content["site"], saved=content).go()
