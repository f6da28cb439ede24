"""The one verb: `infer`."""

from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

from posterity.inference.posterior import Posterior
from posterity.inference.program.arguments import positional, read_arguments
from posterity.inference.program.observation import in_numbers
from posterity.inference.program.sites import inspect
from posterity.inference.program.trace import bare_model
from posterity.validation import check_seed


@runtime_checkable
class Method(Protocol):
    """An inference algorithm: a small frozen settings object with one method."""

    def run(
        self, model: Callable[..., Any], *args: Any, seed: int, guide: Any = None, site: str | None = None
    ) -> Posterior: ...


def infer(model: Any, *args: Any, method: Method, seed: int = 0, site: str | None = None, **named: Any) -> Posterior:
    """Condition ``model`` on data and return its `Posterior`; comparing methods is changing one word.

    ``model`` is a Pyro model ``model(x, y=None)``, or a ready pair with ``.model`` and ``.guide``. ``args`` are the
    arguments of the model, y last, each with one row per observation: tensors, arrays or lists of numbers, by position
    or by name (``y=y``). An array keeps its dtype. ``method`` is a settings object such as `NUTS`, `HMC` or `SVI`. The
    same ``seed`` gives the same result on the same device. The global random state and the caller's parameter store are
    not changed. ``site`` names the observed site if there are several.

    A missing observation is an error; pass None for an observation that is to be inferred as a latent site.

    Raises ``ValueError`` for values that are not finite or outside the support of their likelihood, arguments of
    different length, an object that is not a method, a seed that is not a whole number of 0 or more, or a model without
    an observed site.
    """
    if isinstance(method, type) or not isinstance(method, Method):
        raise ValueError(f"expected a method such as NUTS(), HMC() or SVI(), got {method!r}")
    check_seed(seed)
    bare = bare_model(model)
    args, between = positional(bare, args, named)
    args = read_arguments(args)
    # A guide made by name takes the method's settings; one that the pair brings is used as it is.
    guide = getattr(model, "guide_name", None) or getattr(model, "guide", None)
    if between:
        inspect(bare, args, site, left_out=between)
    return method.run(in_numbers(bare, args), *args, seed=int(seed), guide=guide, site=site)
