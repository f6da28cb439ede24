"""Does the inference find what made the data? Many data sets from a model's own prior, each fitted by itself.

Where the parameters are drawn from the prior and the data from the model, truth and posterior draws are exchangeable
given the data. That holds for every model and every prior, so it judges the computation alone: the sampler, the
guide, the trained network. One set of refits serves `sbc`, which looks at one quantity at a time, and `tarp`, which
looks at all together.

Refits need torch; what `refit` returns is an `xarray.Dataset`, which is judged without.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import xarray as xr

from posterity.validation import check_integer

if TYPE_CHECKING:
    from torch import Tensor

    from posterity.inference.diagnostics.simulation._simulations import Simulations
    from posterity.inference.infer import Method


def simulate(model: Any, *inputs: Any, count: int, seed: int = 0, site: str | None = None) -> Simulations:
    """``count`` independent draws of the latent sites from their prior, and of data y made with each of them.

    ``model`` is a plain Pyro model ``model(*inputs, y=None)`` or a ready pair; ``inputs`` are its arguments without y.
    Returns ``latents[name]`` and ``deterministics[name]``, each (count, ...), ``y`` (count, ...) and the name of the
    observed ``site``. Draw i is the same however many are drawn.

    Raises ``ValueError`` for a model from which not everything can be drawn: parameters, factors, other observed
    sites, flat or masked priors, scaled densities, y that the model transforms before it observes it; and where the
    prior makes data that are not finite. The errors of a model that fails at a draw of its prior are raised as they
    are: to draw again would be another prior.

    >>> import pyro, pyro.distributions as dist, torch
    >>> def model(x, y=None):
    ...     w = pyro.sample("w", dist.Normal(0.0, 1.0))
    ...     with pyro.plate("obs", len(x)):
    ...         return pyro.sample("y", dist.Normal(w * x, 0.1), obs=y)
    >>> drawn = simulate(model, torch.linspace(0, 1, 5), count=3)
    >>> drawn.latents["w"].shape, drawn.y.shape, drawn.site
    (torch.Size([3]), torch.Size([3, 5]), 'y')
    """
    from posterity.inference.diagnostics.simulation import _simulations

    if not callable(model) and not hasattr(model, "model"):
        raise ValueError(f"expected model to be a Pyro model or a ready pair, got {type(model).__name__}")
    if site is not None and not isinstance(site, str):
        raise ValueError(f"expected site to be the name of a site, got {type(site).__name__}")
    check_integer("count", count)
    return _simulations.simulate(model, *inputs, count=count, seed=seed, site=site)


def refit(
    model: Any,
    *inputs: Any,
    method: Method | None = None,
    posterior_draws: Callable[[Tensor], Any] | None = None,
    count: int = 200,
    draws: int = 99,
    test_quantities: Any = None,
    sites: Sequence[str] | None = None,
    at: Any = None,
    log_likelihood: bool = True,
    seed: int = 0,
    site: str | None = None,
    batched: bool = False,
    n_jobs: int | None = None,
    retries: int = 1,
    max_failures: float = 0.1,
    folder: str | Path | None = None,
    progress: bool = True,
) -> xr.Dataset:
    """Fit ``count`` data sets simulated from ``model``, and keep each truth with ``draws`` draws of its posterior.

    *How.* Either ``method``, any of `infer`'s (NUTS, HMC, SVI, an Ensemble): data set i is fitted by
    ``infer(model, *inputs, y_i, method=method)`` on one thread with a seed of its own, so that a refit is the same
    whatever runs beside it. They run over joblib: ``n_jobs`` at a time, by default as the caller's
    ``joblib.parallel_config`` says (one after another without it), which may also name a Dask or Ray cluster. Or
    ``posterior_draws(y)``, amortised: a function of all data sets (count, ...) at once that returns draws
    (count, S, ...) of the latent site, or a dictionary of them by name, such as a conditional density that was trained
    on simulations; it is called once, with torch's random state from ``seed``.

    ``batched=True`` runs the chains of many data sets as one run of `HMC` or `NUTS`, tens of times as fast for small
    models. They then share the step size and the mass matrix that warm-up finds, and the transition is what is tested,
    not the adaptation of each fit.

    *What is compared*, all of it scalars:

    - every element of the latent sites; with ``at`` or ``test_quantities`` those given, and with ``at`` the scalar
      sites besides; ``sites`` names the latent and deterministic sites whose elements are wanted.
    - ``at``: inputs x* (one, or a tuple) at which the function f(x*) = E[y|x*, w] is compared. The weights of a
      network are exchangeable, and a sampler that finds one of their arrangements is not wrong.
    - ``test_quantities``: a function ``(latents, y) -> number`` of one draw, or several by name.
    - the ``log_likelihood`` of the data. A posterior that ignores the data, or some of them, has uniform ranks in all
      parameters, and not in this (Modrák et al. 2023, arXiv:2211.02383).

    *Autocorrelation.* The draws of a sampler are thinned to ``draws`` spread evenly over its chains, which are nearly
    independent where the smallest bulk ESS of the quantities is ``draws`` or more. Where it is less, the refit is
    repeated with more draws, up to ten times as many (Talts et al. 2018, arXiv:1804.06788, algorithm 2; not when
    batched); where that is not enough, a warning says so, and ``attrs["too_few"]`` counts.

    *What can go wrong.* A refit that raises is tried ``retries`` times more with other seeds; one whose worker was lost
    (killed, out of memory) is sent again as it was, at last by itself. What fails then is left out, counted in
    ``attrs["failed"]`` and warned about; ``ValueError``, with the last error as a note, is raised as soon as more than
    the share ``max_failures`` of all has failed or is bound to. With ``folder`` each refit is written as it comes in,
    and the same call goes on where an earlier one ended; ``count`` may be another. An interrupt returns the refits
    there are, with ``attrs["interrupted"]`` 1 and a warning; slow ones are then missing more often than quick ones.
    What the method finds wrong in its own draws is in ``warnings``, and one `ConvergenceWarning` counts it.

    Returns over "simulation" (the index of each): ``truth`` (simulation, quantity), ``draws`` (simulation, draw,
    quantity), ``ess`` (simulation, quantity), the data ``y`` (simulation, ...), ``seconds`` and ``warnings``, what the
    sampler said of itself. To be judged by `sbc` and `tarp`, at once or from a netCDF file.
    Raises ``ValueError`` as `simulate`; for both or neither of ``method`` and ``posterior_draws``; for more than 100
    quantities by default, fewer draws of a posterior than ``draws``, values that are not numbers; for a ``folder``
    with refits of other settings or data. A function in ``test_quantities``, or of a guide, is known there by its
    name alone.
    """
    from posterity.files import checksum, describe
    from posterity.inference.diagnostics.simulation._folder import Folder
    from posterity.inference.diagnostics.simulation._quantities import read_quantities
    from posterity.inference.diagnostics.simulation._refits import Refits
    from posterity.inference.infer import Method
    from posterity.inference.program.arguments import read_arguments
    from posterity.inference.program.trace import unwrap_pair
    from posterity.validation import check_integer, check_number

    if (method is None) == (posterior_draws is None):
        raise ValueError("expected either method or posterior_draws, got both" if method else "expected a method "
                         "such as NUTS(), or posterior_draws, got neither")  # fmt: skip
    if method is not None and (isinstance(method, type) or not isinstance(method, Method)):
        raise ValueError(f"expected a method such as NUTS(), HMC() or SVI(), got {method!r}")
    check_integer("draws", draws, 1)
    check_integer("retries", retries, 0)
    check_number("max_failures", max_failures, "[0, 1]")
    inputs = read_arguments(inputs)
    quantities = read_quantities(test_quantities, sites, at, log_likelihood)
    simulations = simulate(model, *inputs, count=count, seed=seed, site=site)
    first = {name: value[:1] for name, value in simulations.latents.items()}
    names = list(quantities.evaluate(unwrap_pair(model), inputs, simulations.y[0], simulations.site, first))
    settings = {
        "method": describe(method or posterior_draws), "seed": int(seed), "draws": int(draws), "quantities": names,
        "site": simulations.site, "batched": int(batched), "guide": describe(getattr(model, "guide", None)),
        "arguments": checksum(*inputs, *(quantities.at or ())),
    }  # fmt: skip
    keep = None if folder is None else Folder(folder, settings)
    run = Refits(model, inputs, simulations, keep, max_failures, progress)
    if posterior_draws is not None:
        run.amortised(posterior_draws, quantities, int(draws), int(seed))
    else:
        run.fitted(method, quantities, int(draws), int(seed), batched=batched, n_jobs=n_jobs, retries=retries)
    return run.dataset(names, settings)
