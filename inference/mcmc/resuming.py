"""Continuing a run from its checkpoint."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from posterity.inference.engine.density import Density
from posterity.inference.mcmc import checkpoints
from posterity.inference.mcmc.run import Run, Sampler
from posterity.inference.posterior import Posterior
from posterity.inference.program.arguments import read_arguments
from posterity.inference.program.observation import in_numbers
from posterity.inference.program.trace import bare_model

# Settings that may change on resume. Any other change would mix different draws, or have no effect any more.
CHANGES = ("draws", "max_seconds", "target_ess", "threads", "progress", "checkpoint", "checkpoint_seconds")


def resume(
    path: str | Path, model: Any, *args: Any, methods: dict[str, Callable[..., Sampler]], **changes: Any
) -> Posterior:
    """See `posterity.inference.mcmc.resume`."""
    other = sorted(changes.keys() - set(CHANGES))
    if other:
        raise ValueError(f"expected changes to {list(CHANGES)} only, since other settings are fixed, got {other}")
    args = read_arguments(args)
    model = in_numbers(bare_model(model), args)
    content = checkpoints.read(path, methods)
    settings = methods[content["method"]](
        **{**content["settings"], "threads": content["threads"], "checkpoint": str(path), **changes}
    )
    made = len(content["positions"])
    if settings.draws < made:
        raise ValueError(f"expected draws of at least {made}, the number in the checkpoint, got {settings.draws}")
    sites = {s.name: list(s.shape) for s in Density(model, args).sites}
    if sites != content["sites"]:
        raise ValueError(f"expected the model of the checkpoint, with sites {content['sites']}, got {sites}")
    checkpoints.check_arguments(args, content["arguments"])
    return Run(settings, model, args, content["seed"], content["site"], saved=content).go()
