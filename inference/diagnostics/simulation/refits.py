"""Does the inference find the parameters that made the data? Fits of many data sets drawn from a model's prior.

If the parameters are drawn from the prior and the data from the model, the truth and a posterior draw are exchangeable
given the data. This holds for every model and every prior, so it tests the computation alone: the sampler, the guide or
the trained network. The same refits serve `sbc`, which tests one quantity at a time, and `tarp`, which tests all
together.

Refits need torch. The result of `refit` is an `xarray.Dataset`, and its tests do not need torch.
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
    """Independent draws of the latent sites from their prior, each with data y drawn given them.

    Args:
        model: a plain Pyro model ``model(*inputs, y=None)`` or a ready pair.
        inputs: its arguments without y.
        count: number of simulations. Draw i does not depend on it.
        seed: seed of all draws.
        site: name of the observed site, if the model has several that could be.

    Returns:
        ``latents[name]`` and ``deterministics[name]``, each (count, ...), ``y`` (count, ...) and the name of the
        observed ``site``.

    Raises:
        ValueError: The model cannot be drawn from as a whole: it has parameters, factors, other observed sites, flat or
            masked priors or scaled densities, or transforms y before observing it; or some data are not finite.
            Other errors that the model raises at a draw of its prior are passed on: drawing again would change the
            prior.

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
    return _simulations.draw_simulations(model, *inputs, count=count, seed=seed, site=site)


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

    *Autocorrelation.* The draws of a sampler are thinned to ``draws``, spread evenly over its chains. They are nearly
    independent if the smallest bulk ESS of the quantities is at least ``draws``. If it is smaller, the refit is
    repeated with up to ten times as many draws (Talts et al. 2018, arXiv:1804.06788, algorithm 2; not if ``batched``).
    If this is not enough either, a warning says so, and ``attrs["too_few"]`` counts such refits.

    *Failures.* A refit that raises is repeated up to ``retries`` times with other seeds. One whose worker died (killed,
    out of memory) is sent again unchanged, and finally alone. A refit that still fails is left out, counted in
    ``attrs["failed"]`` and named in a warning. An interrupt returns the finished refits with a warning and
    ``attrs["interrupted"]`` 1; slow refits are then missing more often than fast ones. Problems that the method reports
    about its own draws are in ``warnings``, and one `ConvergenceWarning` counts them.

    Args:
        model: a plain Pyro model ``model(*inputs, y=None)`` or a ready pair, as for `simulate`.
        inputs: its arguments without y.
        method: any method of `infer`. Data set i is fitted by ``infer(model, *inputs, y_i, method=method)`` on one
            thread and with its own seed, so its result does not depend on what else runs.
        posterior_draws: instead of ``method``, an amortised posterior, such as a conditional density that was trained
            on simulations. It takes all data sets (count, ...) at once and returns draws (count, S, ...) of the latent
            site, or a dictionary of such draws by name. It is called once, with torch's random state from ``seed``.
        count: number of data sets.
        draws: number of posterior draws that are kept for each.
        test_quantities: a function ``(latents, y) -> number`` of one draw, or several such functions by name.
        sites: latent and deterministic sites whose elements are compared. By default they are all elements of the
            latent sites. With ``test_quantities`` there are none by default, and with ``at`` only the scalar sites.
        at: inputs x* (one, or a tuple) at which the function f(x*) = E[y|x*, w] is compared. The hidden units of a
            network can be exchanged, and a sampler that finds one order of them is not wrong.
        log_likelihood: whether to compare the log likelihood of the data too. If a posterior ignores some of the data,
            the ranks of all parameters can be uniform, but not those of the log likelihood (Modrák et al. 2023,
            arXiv:2211.02383).
        seed: seed of the simulations and of the fits.
        site: name of the observed site, as for `simulate`.
        batched: run the chains of many data sets as one run of `HMC` or `NUTS`, tens of times as fast for small models.
            All data sets then share the step size and the mass matrix, so the test concerns the transitions and not
            the adaptation of each fit.
        n_jobs: number of refits at a time, by joblib. By default the caller's ``joblib.parallel_config`` decides, which
            may also name a Dask or Ray cluster; without one, the refits run one after another.
        retries: number of further attempts at a refit that fails.
        max_failures: share of failed refits above which an error is raised, as soon as this is certain.
        folder: each finished refit is written there, and the same call continues from them, also with another
            ``count``. The folder identifies a function (of ``test_quantities``, or as a guide) by its name alone.
        progress: whether to show a progress bar.

    Returns:
        Over "simulation" (the index of each): ``truth`` (simulation, quantity), ``draws`` (simulation, draw,
        quantity), ``ess`` (simulation, quantity), the data ``y`` (simulation, ...), ``seconds``, and ``warnings``, the
        texts of the method. `sbc` and `tarp` take this Dataset, directly or from a netCDF file.

    Raises:
        ValueError: as `simulate`; if both or neither of ``method`` and ``posterior_draws`` are given; if there are more
            than 100 quantities by default, fewer draws of a posterior than ``draws``, or values that are not finite
            numbers; if ``folder`` has refits with other settings or data; if too many refits fail (the last error is a
            note of this one).
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
