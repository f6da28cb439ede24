"""The one verb: `infer`."""

from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import torch

from posterity.inference.posterior import Posterior


@runtime_checkable
class Method(Protocol):
    """An inference algorithm: a small frozen settings object with one method."""

    def run(
        self, model: Callable[..., Any], *args: Any, seed: int, guide: Any = None, site: str | None = None
    ) -> Posterior: ...


def infer(model: Any, *args: Any, method: Method, seed: int = 0, site: str | None = None) -> Posterior:
    """Condition ``model`` on data and return its `Posterior`; comparing methods is changing one word.

    ``model`` is a Pyro model ``model(x, y=None)``, or a ready pair with ``.model`` and ``.guide``; ``args`` are its
    arguments, y last, each tensor with one row per observation. ``method`` is a settings object such as `NUTS`,
    `HMC` or `SVI`. The same ``seed`` gives the same result on the same device, and neither the global random
    state nor the caller's parameter store is touched. ``site`` names the observed site where there are several.
    Raises ``ValueError`` for values that are not finite, lengths that differ, an object that is no method, or a
    model without an observed site.
    """
    if isinstance(method, type) or not isinstance(method, Method):
        raise ValueError(f"expected a method such as NUTS(), HMC() or SVI(), got {method!r}")
    _check(args)
    # A guide made by name takes the method's settings; one that the pair brings is used as it is.
    guide = getattr(model, "guide_name", None) or getattr(model, "guide", None)
    return method.run(getattr(model, "model", model), *args, seed=seed, guide=guide, site=site)


def _check(args: tuple[Any, ...]) -> None:
    tensors = [value for value in args if isinstance(value, torch.Tensor)]
    if not tensors:
        raise ValueError(f"expected the model's arguments with y last, got {len(args)} arguments and no tensor")
    for position, value in enumerate(args):
        if not isinstance(value, torch.Tensor):
            continue
        if value.numel() == 0:
            raise ValueError(f"expected data, got an empty argument {position} of shape {tuple(value.shape)}")
        bad = int((~torch.isfinite(value)).sum()) if value.is_floating_point() else 0
        if bad:
            raise ValueError(f"expected finite values, got {bad} that are not in argument {position}")
    lengths = [len(value) for value in tensors if value.ndim]
    if len(set(lengths)) > 1:
        raise ValueError(f"expected arguments with the same number of rows, got {lengths}")
