"""`infer`, the function that runs every method of inference."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Protocol, runtime_checkable

from posterity.inference.posterior import Posterior
from posterity.inference.program.arguments import bind_arguments, read_arguments
from posterity.inference.program.observation import observe_as_numbers
from posterity.inference.program.sites import inspect
from posterity.inference.program.tables import expand_observations, names_to_attrs, read_tables
from posterity.inference.program.trace import unwrap_pair
from posterity.validation import check_seed


@runtime_checkable
class Method(Protocol):
    """An inference algorithm: a frozen settings object with the method ``run``."""

    def run(
        self, model: Callable[..., Any], *args: Any, seed: int, guide: Any = None, site: str | None = None
    ) -> Posterior: ...


def infer(model: Any, *args: Any, method: Method, seed: int = 0, site: str | None = None, **named: Any) -> Posterior:
    """Condition ``model`` on data and return its `Posterior`; to compare methods, change only ``method``.

    The same ``seed`` gives the same result on the same device. The global random state and the caller's parameter store
    do not change. A missing observation is an error; pass None for an observation that is to be inferred as a latent
    site.

    Args:
        model: a Pyro model ``model(x, y=None)``, or a ready pair with ``.model`` and ``.guide``.
        args: the arguments of the model, y last, each with one row per observation: tensors, arrays, lists of numbers,
            frames of pandas or polars with numbers in all columns, or columns of frames; or one `Observations` instead
            of x and y. An array keeps its dtype. The names of columns are kept: see `Posterior.x_names`.
        method: a settings object such as `NUTS`, `HMC`, `SVI` or `Ensemble`.
        seed: seed of all random numbers.
        site: the observed site, if there are several.
        named: arguments of the model by name, as in ``y=y``.

    Raises:
        ValueError: if a value is not finite or outside the support of its likelihood, arguments differ in length,
            ``method`` is not a method, the model has no observed site, or a frame has missing values or categories,
            which `Observations.from_frame` reads.
    """
    if isinstance(method, type) or not isinstance(method, Method):
        raise ValueError(f"expected a method such as NUTS(), HMC() or SVI(), got {method!r}")
    check_seed(seed)
    bare = unwrap_pair(model)
    args, defaults = bind_arguments(bare, expand_observations(args), named)
    tables = read_tables(args)
    args = read_arguments(tables)
    # A guide made by name takes the settings of the method; the guide of a pair is used as it is.
    guide = getattr(model, "guide_name", None) or getattr(model, "guide", None)
    if defaults:
        inspect(bare, args, site, left_out=defaults)
    posterior = method.run(observe_as_numbers(bare, args), *args, seed=int(seed), guide=guide, site=site)
    return replace(posterior, attrs={**posterior.attrs, **names_to_attrs(tables)})
