"""`Posterior`: the result of every method of inference."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor
from torch.distributions import Distribution

from posterity.files import read_tensors, write_tensors
from posterity.inference import arviz
from posterity.inference.export import ArvizNames, to_dataset
from posterity.inference.export_sites import ExportedSite, export_sites, input_dataset, numbered
from posterity.inference.overview import posterior_html, posterior_text
from posterity.inference.predictive import PredictiveMixture
from posterity.inference.program.arguments import bind_arguments, read_arguments, read_as_fitted
from posterity.inference.program.by_position import by_position
from posterity.inference.program.likelihood import (
    ScoredDraws,
    likelihood_over_draws,
    likelihoods_over_draws,
    score_sites,
)
from posterity.inference.program.nested import leaves, tensors_in
from posterity.inference.program.sites import Program, inspect
from posterity.inference.program.tables import Names, expand_observations, names_from_attrs
from posterity.inference.program.trace import Model, unwrap_pair
from posterity.random import seeded
from posterity.validation import check_flag, check_seed

FORMAT = 1


@dataclass(frozen=True, eq=False)
class Posterior:
    """Draws of a model's latent sites (and values of its parameters), together with the model.

    - ``draws[name]``: shape (chain, draw, ...), in the space of the model (constrained).
    - ``sample_stats[name]``: shape (chain, draw), named as ArviZ names them; empty for variational inference.
    - ``history[name]``: learning curves of shape (step,), for an ensemble (step, member); empty for samplers.
      ``loss`` of every step; with ``holdout`` also ``held_out`` of every check and ``held_out_step``, its step.
    - ``attrs``: method, settings, seed, seconds, warnings, names of columns.

    The methods take the model's arguments as `infer` does: tensors, arrays, frames, dictionaries, or one
    `Observations`. The columns of a frame are put in the order of the fit; other columns than those of the fit raise a
    ``ValueError``.
    """

    model: Model
    program: Program
    draws: Mapping[str, Tensor]
    sample_stats: Mapping[str, Tensor] = field(default_factory=dict)
    history: Mapping[str, Tensor] = field(default_factory=dict)
    attrs: Mapping[str, str | int | float] = field(default_factory=dict)
    continuation: Any = field(default=None, repr=False)  # the end of a run of a sampler, for `extend`

    def __post_init__(self) -> None:
        shapes = {name: tuple(value.shape[:2]) for name, value in self.draws.items()}
        if len(set(shapes.values())) > 1 or any(len(shape) < 2 for shape in shapes.values()):
            raise ValueError(f"expected draws of one shape (chain, draw, ...) for all sites, got {shapes}")

    @property
    def num_chains(self) -> int:
        return self._shape[0]

    @property
    def num_draws(self) -> int:
        """Draws per chain."""
        return self._shape[1]

    @property
    def x_names(self) -> tuple[str, ...]:
        """The names of the columns of x, if `infer` was given a frame or `Observations`; () without names."""
        return next((names for names in names_from_attrs(self.attrs)[0] if names), ())

    @property
    def y_names(self) -> tuple[str, ...]:
        """The names of the targets, as `x_names`."""
        return names_from_attrs(self.attrs)[1] or ()

    def inputs(self, *args: Any, **named: Any) -> tuple[Any, ...]:
        """The model's arguments without y, by position, as the tensors that the model gets.

        Raises ``ValueError`` for columns that are not those of the fit, or fewer dimensions than in the fit.
        """
        read = self._arguments(expand_observations(args, targets=False), named)
        for position, (value, dims) in enumerate(zip(read, self.program.dims, strict=False)):
            # A single row without its row dimension would be read as many rows.
            if isinstance(value, Tensor) and 0 < value.ndim < dims:
                raise ValueError(
                    f"expected argument {position} with {dims} dimensions as in the fit, got shape "
                    f"{tuple(value.shape)}: a single row is value[None]"
                )
        return read

    def likelihood(self, *args: Any, draws: int | None = None, site: str | None = None, **named: Any) -> Distribution:
        """The distribution of the observed site at other inputs, for each draw: batch shape (S, N).

        ``args`` are the model's arguments without y, as tensors or arrays, by position or name. ``draws`` is the number
        of draws to use, evenly spaced over all chains; default: all. The S = chain * draw are ordered by chain.
        ``site`` names the observed site; it may be left out if the model has one, or one was named in `infer`.

        Raises ``ValueError`` if the model has several observed sites and none is named, or has none, and as `inputs`.
        """
        name, others = self.program.one_site(site), self.program.observed
        args = self.inputs(*args, **named)
        return likelihood_over_draws(self.model, args, self._flat(draws, args), name, others=others)[0]

    def predictive(
        self, *args: Any, draws: int | None = None, site: str | None = None, **named: Any
    ) -> PredictiveMixture:
        """The posterior predictive distribution at ``args`` (the model's arguments without y), batch shape (N,).

        ``draws`` and ``site`` as in `likelihood`. Masks and scales of the model affect the log likelihood only, not
        predictions. Memory grows as N * draws * K.
        """
        return PredictiveMixture.from_draws(self.likelihood(*args, draws=draws, site=site, **named))

    def function_draws(self, *args: Any, site: str | None = None, **named: Any) -> Tensor:
        """E[y|x, w] of every draw, shape (chain, draw, N); the convergence of a network is judged on it."""
        likelihood = self.likelihood(*args, site=site, **named)
        return likelihood.mean.unflatten(0, self._shape)

    def log_likelihood(self, *args: Any, site: str | None = None, **named: Any) -> Tensor:
        """log p(y_n | x_n, w) of every draw, shape (chain, draw, N); the last argument is y, ``site`` as `likelihood`.

        The scored value is that of the observed site, also if the model transforms y first. The terms are those of the
        fitted log joint: the term of a masked row is 0, and a scale (``poutine.scale``) multiplies the terms.

        Raises ``ValueError`` if y is missing, has another shape than the model predicts, or is outside the support.
        """
        name = self.program.one_site(site)
        log_prob = self._score(self._arguments(args, named), [name])[0][name].log_prob
        return log_prob.unflatten(0, self._shape)

    def log_prior(self, *args: Any, **named: Any) -> dict[str, Tensor]:
        """The log prior of each latent site at every draw, shape (chain, draw, *batch); ``args`` as `log_likelihood`.

        The terms are those of the fitted log joint: densities in the space of the model (constrained), summed over the
        event dimensions of a site, with masks, scales and plates as Pyro applies them. The prior of a site may depend
        on other sites. Factors (``pyro.factor``) and trained parameters have no prior.

        >>> import pyro.distributions as dist, pyro
        >>> def model(x, y=None):
        ...     slope = pyro.sample("slope", dist.Normal(0.0, 1.0))
        ...     with pyro.plate("obs", len(x)):
        ...         return pyro.sample("y", dist.Normal(slope * x, 1.0), obs=y)
        >>> x = torch.ones(2)
        >>> posterior = Posterior(model, inspect(model, (x, x)), {"slope": torch.zeros(1, 3)})
        >>> posterior.log_prior(x, x)["slope"]
        tensor([[-0.9189, -0.9189, -0.9189]])
        """
        return self._log_prior(self._score(self._arguments(args, named), self.program.sites, terms=True)[2])

    def to_arviz(self, *args: Any, predict: Any = None, seed: int = 0, log_prior: bool = False, **named: Any) -> Any:
        """ArviZ data with every group that ArviZ's functions need, and the names of plates as dimensions.

        The groups are ``posterior`` (latent and deterministic sites), ``sample_stats``, ``log_likelihood``,
        ``posterior_predictive`` (one draw of y for each posterior draw), ``observed_data`` and ``constant_data``. Each
        observed site is a variable, or the one named in `infer`; a model with factors alone has the first two groups
        and ``constant_data``. Draws from a guide or an ensemble are stored as one chain, with a note in
        ``attrs["sampling"]``.

        The names of columns (`x_names`, `y_names`) are coordinates of ``constant_data`` and of several targets.
        ``log_likelihood`` is scaled as in the method `log_likelihood`. Masked rows are in no group, and other rows keep
        their index as coordinate. If a mask removes only some steps of a row, the remaining steps are stored along one
        dimension "unmasked". Masked elements of an event are nan in ``observed_data``. Names that would collide or
        cannot be stored are changed, see `posterity.inference.export.ArvizNames`.

        Args:
            args: the arguments of the model, y last.
            predict: new inputs (one, or a tuple of them); adds the groups ``predictions`` and
                ``predictions_constant_data``.
            seed: seed of the predictive draws.
            log_prior: whether to add the group ``log_prior``, which power-scaling needs: the terms of the method
                `log_prior`, with the first dimensions of each site.
            named: arguments of the model by name.

        Raises:
            ValueError: as `log_likelihood`, and if all observations are masked.
        """
        args, sites = self._arguments(args, named), self.program.sites
        scores, deterministics, terms = self._score(args, sites, terms=check_flag("log_prior", log_prior))
        x_names, y_names = names_from_attrs(self.attrs)
        observations = {site: score.observation.value for site, score in scores.items()}
        inputs = _inputs(args, list(observations.values()), x_names)
        names = ArvizNames([*self.draws, *deterministics, *sites, *inputs])
        exported = export_sites(names, scores, y_names)
        posterior = {**self.draws, **{n: v.unflatten(0, self._shape) for n, v in deterministics.items()}}
        groups = {"posterior": self._site_dataset(names, posterior)}
        if exported:
            groups |= self._observed_groups(exported, scores, seed)
        dims, rows = next(((one.all_dims, one.rows) for one in exported.values()), ((), None))
        if inputs or exported:
            groups["constant_data"] = input_dataset(names, inputs, rows, dims)
        if log_prior:
            groups["log_prior"] = self._site_dataset(names, self._log_prior(terms))
        if self.sample_stats:
            groups["sample_stats"] = self._site_dataset(ArvizNames(self.sample_stats), self.sample_stats)
        if predict is not None:
            groups |= self._prediction_groups(names, exported, predict, seed + 1, x_names)
        # Draws of a guide and members of an ensemble are not a Markov chain, although they have the chain dimension.
        sampling = {} if self.sample_stats else {"sampling": arviz.INDEPENDENT}
        return arviz.from_groups(groups, {**self.attrs, **sampling})

    def _observed_groups(
        self, exported: Mapping[str, ExportedSite], scores: Mapping[str, ScoredDraws], seed: int
    ) -> dict[str, xr.Dataset]:
        """The groups with variables of the observed sites."""
        log_prob, predicted, y, dims, batch_dims, coords = {}, {}, {}, {}, {}, dict[str, Any]()
        with seeded(seed):
            for site, one in exported.items():
                likelihood, values = scores[site].likelihood, scores[site].observation.value
                if values.is_floating_point():
                    values = torch.where(scores[site].scored, values, torch.nan)
                log_prob[one.variable] = one.rows.select(scores[site].log_prob.unflatten(0, self._shape), 2)
                predicted[one.variable] = one.rows.select(likelihood.sample().unflatten(0, self._shape), 2)
                y[one.variable] = one.rows.select(values)
                dims[one.variable] = one.dims
                batch_dims[one.variable] = one.dims[: len(one.dims) - len(likelihood.event_shape)]
                coords |= one.coords
        return {
            "log_likelihood": self._draw_dataset(log_prob, batch_dims, coords),
            "posterior_predictive": self._draw_dataset(predicted, dims, coords),
            "observed_data": to_dataset(y, dims, coords),
        }

    def _prediction_groups(
        self, names: ArvizNames, exported: Mapping[str, ExportedSite], predict: Any, seed: int, x_names: list[Names]
    ) -> dict[str, xr.Dataset]:
        """The groups of new inputs."""
        if not exported:
            self.program.one_site()  # says that there is nothing to predict
        new = self.inputs(*(predict if isinstance(predict, tuple) else (predict,)))
        draws, others = self._flat(None, new), self.program.observed
        likelihoods = likelihoods_over_draws(self.model, new, draws, list(exported), others=others)[0]
        with seeded(seed):
            values = {
                one.variable: likelihoods[site].sample().unflatten(0, self._shape) for site, one in exported.items()
            }
        dims = {one.variable: one.all_dims for one in exported.values()}
        targets = {name: value for one in exported.values() for name, value in one.targets.items()}
        first = next(iter(dims.values()))
        return {
            "predictions": self._draw_dataset(values, dims, targets),
            "predictions_constant_data": input_dataset(names, numbered(new, x_names), None, first),
        }

    def extend(self, draws: int, *, progress: bool | None = None) -> "Posterior":
        """The posterior with ``draws`` more draws of each chain of `HMC`, `NUTS` or `MCLMC`, without another warm-up.

        All draws together are those of one longer run, bit for bit. The limits ``max_seconds`` and ``target_ess`` of
        the run do not count. ``progress``: whether to show a progress bar; by default as in the run.

        Raises ``ValueError`` for a posterior of another method, or one that was loaded or made in another process: the
        state of the chains stays in memory and is not saved.
        """
        return self._named(self._continued().extend(draws, progress))

    def update(
        self,
        *args: Any,
        draws: int | None = None,
        warmup: int = 50,
        seed: int = 0,
        progress: bool | None = None,
        **named: Any,
    ) -> "Posterior":
        """The posterior given other data, by the same method, from the last positions and the adaptation of its chains.

        The data replace those of the fit: give earlier rows again, beside the new ones. A short warm-up is enough if
        the posterior has moved little. Compiled code is used again if the arguments have the shapes of the fit.

        Args:
            args: the arguments of the model, y last, as in `infer`.
            draws: number of draws of each chain; by default as in the run.
            warmup: number of iterations of adaptation.
            seed: seed of all random numbers.
            progress: whether to show a progress bar; by default as in the run.
            named: arguments of the model by name.

        Raises:
            ValueError: as `extend` and `infer`, and if a latent site has another shape with these data.
        """
        continuation = self._continued()
        given, left_out = read_as_fitted(self.model, args, named, self.attrs)
        if left_out:
            inspect(self.model, given, self.program.site, left_out=left_out)
        return self._named(continuation.update(given, draws, warmup, check_seed(seed), progress))

    def _continued(self) -> Any:
        """The end of the run of this posterior."""
        if self.continuation is None:
            method = self.attrs.get("method", "")
            raise ValueError(
                f"expected a posterior of HMC, NUTS or MCLMC from this session, got one of {method!r} without the "
                "state of its chains, which is not saved: start again with infer(..., method=NUTS(init=posterior)), or "
                "resume a run from its checkpoint"
            )
        return self.continuation

    def _named(self, posterior: "Posterior") -> "Posterior":
        """Another posterior, with the names of columns of this one."""
        names = {name: self.attrs[name] for name in ("x_names", "y_names") if name in self.attrs}
        return replace(posterior, attrs={**posterior.attrs, **names})

    def save(self, path: str | Path) -> Path:
        """Write draws, statistics and history to one file, without pickle; the model, which is code, is not stored."""
        content = {
            "format": FORMAT,
            "site": self.program.site,
            "draws": {name: value.detach().cpu().clone() for name, value in self.draws.items()},
            "sample_stats": {name: value.cpu().clone() for name, value in self.sample_stats.items()},
            "history": {name: value.cpu().clone() for name, value in self.history.items()},
            "attrs": dict(self.attrs),
        }
        return write_tensors(content, path)

    @classmethod
    def load(cls, path: str | Path, model: Any, *args: Any, **named: Any) -> "Posterior":
        """The posterior that `save` wrote, for the same ``model`` (or ready pair) and example arguments with y.

        Raises ``ValueError`` for a file that is damaged or of another format, a model with other sites, or sites of
        other shapes.
        """
        model = by_position(unwrap_pair(model), args, named)
        args = read_arguments(bind_arguments(model, expand_observations(args), named)[0])
        content = read_tensors(path, f"a posterior of format {FORMAT}")
        if content.get("format") != FORMAT or "draws" not in content:
            raise ValueError(f"expected a posterior of format {FORMAT} in {path}, got something else")
        program = inspect(model, args, content["site"])
        sites = {*program.latents, *program.parameters}
        if sites != set(content["draws"]) - set(program.reparametrised):
            raise ValueError(
                f"expected draws of the model's sites {sorted(sites)}, got {sorted(content['draws'])} in {path}"
            )
        posterior = cls(model, program, *(content[part] for part in ("draws", "sample_stats", "history", "attrs")))
        # Raises if draws and sites differ in shape.
        likelihoods_over_draws(model, args, posterior._flat(1, args), program.sites, others=program.observed)
        return posterior

    def __repr__(self) -> str:
        return posterior_text(self.model, self.program, self.draws, self.attrs)

    def _repr_html_(self) -> str:
        return posterior_html(self.model, self.program, self.draws, self.attrs)

    @property
    def _shape(self) -> tuple[int, int]:
        for value in self.draws.values():
            return value.shape[0], value.shape[1]
        return 1, 1

    def _arguments(self, args: tuple[Any, ...], named: Mapping[str, Any]) -> tuple[Any, ...]:
        return read_as_fitted(self.model, args, named, self.attrs)[0]

    def _score(
        self, args: tuple[Any, ...], sites: Sequence[str], *, terms: bool = False
    ) -> tuple[dict[str, ScoredDraws], dict[str, Tensor], dict[str, Tensor]]:
        draws, others = self._flat(None, args), self.program.observed
        return score_sites(self.model, args, draws, sites, others=others, terms=terms)

    def _log_prior(self, terms: Mapping[str, Tensor]) -> dict[str, Tensor]:
        latents = (name for name in self.program.latents if name in terms)
        return {name: terms[name].unflatten(0, self._shape) for name in latents}

    def _flat(self, draws: int | None, args: tuple[Any, ...]) -> dict[str, Tensor]:
        """Draws (S, ...) on the device of ``args``: a sampler stores its draws on the CPU."""
        device = next((value.device for value in tensors_in(args)), None)
        flat = {name: value.flatten(0, 1).to(device) for name, value in self.draws.items()}
        total = self.num_chains * self.num_draws
        if draws is None or draws == total:
            return flat
        if not 1 <= draws <= total:
            raise ValueError(f"expected between 1 and {total} draws, got {draws}")
        chosen = torch.linspace(0, total - 1, draws).round().long()
        return {name: value[chosen.to(value.device)] for name, value in flat.items()}

    def _site_dataset(self, names: ArvizNames, values: Mapping[str, Tensor]) -> xr.Dataset:
        """Values of sites (chain, draw, ...) as variables; no two sites share a further dimension."""
        dims = {names.variables[site]: names.site_dims(site, value.ndim - 2) for site, value in values.items()}
        return self._draw_dataset({names.variables[site]: value for site, value in values.items()}, dims)

    def _draw_dataset(
        self,
        values: Mapping[str, Tensor],
        dims: Mapping[str, tuple[str, ...]],
        coords: Mapping[str, Any] | None = None,
    ) -> xr.Dataset:
        """Values (chain, draw, ...) as variables; ``dims`` are their further dimensions."""
        dataset = to_dataset(values, {name: (*arviz.SAMPLE_DIMS, *dims[name]) for name in values}, coords)
        return dataset.assign_coords(chain=np.arange(self.num_chains), draw=np.arange(self.num_draws))


def _inputs(args: tuple[Any, ...], observed: list[Tensor], names: list[Names]) -> dict[str, tuple[Tensor, Names]]:
    """The model's arguments without those that are observed unchanged; if there are none, without the last tensor."""
    found = [next((n for n, value in enumerate(args) if value is y), None) for y in observed]
    places = {place for place in found if place is not None}
    data = {id(leaf) for value in args if isinstance(value, dict) for _, leaf in leaves(value)}
    inside = data & {id(y) for y in observed}
    if not places and not inside and observed and args and isinstance(args[-1], Tensor):
        places = {len(args) - 1}
    return {name: pair for name, pair in numbered(args, names, places).items() if id(pair[0]) not in inside}
