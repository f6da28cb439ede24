"""`infer`, the function that runs every method of inference."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Protocol, runtime_checkable

from posterity.inference.posterior import Posterior
from posterity.inference.program.arguments import bind_arguments, read_arguments
from posterity.inference.program.by_position import by_position
from posterity.inference.program.observation import observe_as_numbers
from posterity.inference.program.reparam import with_reparametrised
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

    The model takes the arguments that it takes in Pyro's ``MCMC.run``: by position or name, of several lengths, or none
    at all if its data are in a closure. It may have several observed sites, one in each step of a loop, or factors
    (``pyro.factor``) alone.

    Args:
        model: a Pyro model ``model(x, y=None)``, or a ready pair with ``.model`` and ``.guide``.
        args: the arguments of the model, y last: tensors, arrays, lists of numbers, frames of pandas or polars with
            numbers in all columns, columns of frames, or dictionaries of these; or one `Observations` instead of x and
            y. An array keeps its dtype. The names of columns are kept: see `Posterior.x_names`. The longest data have
            one row per observation. Values of other types are passed on unchanged.
        method: a settings object such as `NUTS`, `HMC`, `SVI` or `Ensemble`.
        seed: seed of all random numbers.
        site: the observed site that the posterior scores and predicts, if there are several; None: all of them.
        named: arguments of the model by name, as in ``y=y``.

    Raises:
        ValueError: if a value is not finite or outside the support of its likelihood, ``method`` is not a method, the
            model does not run with the arguments or has neither an observed site nor a factor, or a frame has missing
            values or categories, which `Observations.from_frame` reads.
    """
    if isinstance(method, type) or not isinstance(method, Method):
        raise ValueError(f"expected a method such as NUTS(), HMC() or SVI(), got {method!r}")
    check_seed(seed)
    bare = by_position(unwrap_pair(model), args, named)
    args, defaults = bind_arguments(bare, expand_observations(args), named)
    tables = read_tables(args)
    args = read_arguments(tables)
    # A guide made by name takes the settings of the method; the guide of a pair is used as it is.
    guide = getattr(model, "guide_name", None) or getattr(model, "guide", None)
    if defaults:
        inspect(bare, args, site, left_out=defaults)
    posterior = method.run(observe_as_numbers(bare, args), *args, seed=int(seed), guide=guide, site=site)
    draws = with_reparametrised(posterior.model, args, posterior.program, posterior.draws)
    return replace(posterior, draws=draws, attrs={**posterior.attrs, **names_to_attrs(tables)})
