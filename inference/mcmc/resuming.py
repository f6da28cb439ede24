"""Continuing a run from its checkpoint."""

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from posterity.inference.engine.density import Density
from posterity.inference.mcmc import checkpoints
from posterity.inference.mcmc.hmc import HMC
from posterity.inference.mcmc.microcanonical import MCLMC
from posterity.inference.mcmc.nuts import NUTS
from posterity.inference.mcmc.run import Run, Sampler
from posterity.inference.posterior import Posterior
from posterity.inference.program.arguments import bind_arguments, read_arguments
from posterity.inference.program.by_position import by_position, takes
from posterity.inference.program.observation import observe_as_numbers
from posterity.inference.program.tables import expand_observations, names_to_attrs, read_tables
from posterity.inference.program.trace import unwrap_pair

METHODS: dict[str, type[Sampler]] = {"HMC": HMC, "NUTS": NUTS, "MCLMC": MCLMC}
SETTINGS = frozenset(field.name for method in METHODS.values() for field in fields(method))

# Settings that may change on resume. Changes of other settings would mix draws of different runs, or have no effect.
CHANGES = ("draws", "max_seconds", "target_ess", "threads", "progress", "checkpoint", "checkpoint_seconds")


def resume(path: str | Path, model: Any, *args: Any, **changes: Any) -> Posterior:
    """The `Posterior` of a run continued from its checkpoint, with all draws from before and after it.

    On the same device the draws are those of the uninterrupted run, bit for bit.

    Args:
        path: file of the checkpoint.
        model: the model of the run.
        *args: the arguments of the model in the run.
        **changes: new values of settings: ``draws`` (in total), ``max_seconds``, ``target_ess``, ``threads``,
            ``progress``, ``checkpoint`` (default: the same file) and ``checkpoint_seconds``. Other names are arguments
            of the model, as in `infer`.

    Raises:
        OSError: the file cannot be read.
        ValueError: another setting is changed, the file is not a checkpoint, or it belongs to another model or data.
    """
    bare = unwrap_pair(model)
    named = {name: value for name, value in changes.items() if name not in CHANGES and takes(bare, name, SETTINGS)}
    fixed = sorted(changes.keys() - set(CHANGES) - named.keys())
    if fixed:
        raise ValueError(f"expected changes to {list(CHANGES)} only, since other settings are fixed, got {fixed}")
    changes = {name: value for name, value in changes.items() if name in CHANGES}
    bare = by_position(bare, args, named)
    tables = read_tables(bind_arguments(bare, expand_observations(args), named)[0])
    args = read_arguments(tables)
    model = observe_as_numbers(bare, args)
    content = checkpoints.read_checkpoint(path, METHODS)
    settings = METHODS[content["method"]](
        **{**content["settings"], "threads": content["threads"], "checkpoint": str(path), **changes}
    )
    made = len(content["positions"])
    if settings.draws < made:
        raise ValueError(f"expected draws to be at least {made}, the number in the checkpoint, got {settings.draws}")
    sites = {s.name: list(s.shape) for s in Density(model, args).sites}
    if sites != content["sites"]:
        raise ValueError(f"expected the model of the checkpoint, with sites {content['sites']}, got {sites}")
    checkpoints.check_same_arguments(args, content["arguments"])
    posterior = Run(settings, model, args, content["seed"], content["site"], saved=content).sample(stacklevel=4)
    return replace(posterior, attrs={**posterior.attrs, **names_to_attrs(tables)})
