"""`Posterior`: the result of every method of inference."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor
from torch.distributions import Distribution

from posterity.files import read_tensors, write_tensors
from posterity.inference import arviz
from posterity.inference.export import ArvizNames, UnmaskedRows, observation_dims, to_dataset, unmasked_rows
from posterity.inference.overview import posterior_html, posterior_text
from posterity.inference.predictive import PredictiveMixture
from posterity.inference.program.arguments import read_arguments, read_as_fitted
from posterity.inference.program.likelihood import ScoredDraws, likelihood_over_draws, score_draws
from posterity.inference.program.sites import Program, inspect
from posterity.inference.program.tables import Names, expand_observations, names_from_attrs
from posterity.inference.program.trace import Model, unwrap_pair
from posterity.random import seeded
from posterity.validation import check_flag

FORMAT = 1


@dataclass(frozen=True, eq=False)
class Posterior:
    """Draws of a model's latent sites (and values of its parameters), together with the model.

    - ``draws[name]``: shape (chain, draw, ...), in the space of the model (constrained).
    - ``sample_stats[name]``: shape (chain, draw), named as ArviZ names them; empty for variational inference.
    - ``history[name]``: learning curves of shape (step,), for an ensemble (step, member); empty for samplers.
      ``loss`` of every step; with ``holdout`` also ``held_out`` of every check and ``held_out_step``, its step.
    - ``attrs``: method, settings, seed, seconds, warnings, names of columns.

    The methods take the model's arguments as `infer` does: tensors, arrays, frames, or one `Observations`. The columns
    of a frame are put in the order of the fit; other columns than those of the fit raise a ``ValueError``.
    """

    model: Model
    program: Program
    draws: Mapping[str, Tensor]
    sample_stats: Mapping[str, Tensor] = field(default_factory=dict)
    history: Mapping[str, Tensor] = field(default_factory=dict)
    attrs: Mapping[str, str | int | float] = field(default_factory=dict)

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

    def likelihood(self, *args: Any, draws: int | None = None, **named: Any) -> Distribution:
        """The distribution of the observed site at other inputs, for each draw: batch shape (S, N).

        ``args`` are the model's arguments without y, as tensors or arrays, by position or name. ``draws`` is the number
        of draws to use, evenly spaced over all chains; default: all. The S = chain * draw are ordered by chain.
        """
        args, site, others = self.inputs(*args, **named), self.program.site, self.program.observed
        return likelihood_over_draws(self.model, args, self._flat(draws, args), site, others=others)[0]

    def predictive(self, *args: Any, draws: int | None = None, **named: Any) -> PredictiveMixture:
        """The posterior predictive distribution at ``args`` (the model's arguments without y), batch shape (N,).

        ``draws`` as in `likelihood`. Masks and scales of the model affect the log likelihood only, not predictions.
        Memory grows as N * draws * K.
        """
        return PredictiveMixture.from_draws(self.likelihood(*args, draws=draws, **named))

    def function_draws(self, *args: Any, **named: Any) -> Tensor:
        """E[y|x, w] of every draw, shape (chain, draw, N); the convergence of a network is judged on it."""
        likelihood = self.likelihood(*args, **named)
        return likelihood.mean.unflatten(0, self._shape)

    def log_likelihood(self, *args: Any, **named: Any) -> Tensor:
        """log p(y_n | x_n, w) of every draw, shape (chain, draw, N); the last argument is y.

        The scored value is that of the observed site, also if the model transforms y first. The terms are those of the
        fitted log joint: the term of a masked row is 0, and a scale (``poutine.scale``) multiplies the terms.

        Raises ``ValueError`` if y is missing, has another shape than the model predicts, or is outside the support.
        """
        log_prob = self._score(self._arguments(args, named)).log_prob
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
        return self._log_prior(self._score(self._arguments(args, named), terms=True))

    def to_arviz(self, *args: Any, predict: Any = None, seed: int = 0, log_prior: bool = False, **named: Any) -> Any:
        """ArviZ data with every group that ArviZ's functions need, and the names of plates as dimensions.

        The groups are ``posterior`` (latent and deterministic sites), ``sample_stats``, ``log_likelihood``,
        ``posterior_predictive`` (one draw of y for each posterior draw), ``observed_data`` and ``constant_data``. Draws
        from a guide or an ensemble are stored as one chain, with a note in ``attrs["sampling"]``.

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
        args = self._arguments(args, named)
        scores = self._score(args, terms=check_flag("log_prior", log_prior))
        likelihood, y, site = scores.likelihood, scores.observation.value, self.program.site
        x_names, y_names = names_from_attrs(self.attrs)
        inputs = _inputs(args, y, x_names)
        names = ArvizNames([*self.draws, *scores.deterministics, site, *inputs])
        all_dims = observation_dims(names, site, scores.observation.plates, y.ndim)
        rows = unmasked_rows(names, all_dims[: len(likelihood.batch_shape) - 1], scores.scored_rows)
        if y.is_floating_point():
            y = torch.where(scores.scored, y, torch.nan)
        dims, variable = rows.selected_dims(all_dims), names.variables[site]
        batch_dims = dims[: len(dims) - len(likelihood.event_shape)]
        targets = _name_coordinate(dims[-1:], y_names, y.shape[-1:]) if len(likelihood.event_shape) == 1 else {}
        coords = rows.coords | targets
        log_prob = rows.select(scores.log_prob.unflatten(0, self._shape), 2)
        predicted = rows.select(self._sample(likelihood, seed), 2)
        posterior = {**self.draws, **{n: v.unflatten(0, self._shape) for n, v in scores.deterministics.items()}}
        groups = {
            "posterior": self._site_dataset(names, posterior),
            "log_likelihood": self._draw_dataset({variable: log_prob}, {variable: batch_dims}, coords),
            "posterior_predictive": self._draw_dataset({variable: predicted}, {variable: dims}, coords),
            "observed_data": to_dataset({variable: rows.select(y)}, {variable: dims}, coords),
            "constant_data": _input_dataset(names, inputs, rows, dims),
        }
        if log_prior:
            groups["log_prior"] = self._site_dataset(names, self._log_prior(scores))
        if self.sample_stats:
            groups["sample_stats"] = self._site_dataset(ArvizNames(self.sample_stats), self.sample_stats)
        if predict is not None:
            new = self.inputs(*(predict if isinstance(predict, tuple) else (predict,)))
            predictions = self._sample(self.likelihood(*new), seed + 1)
            groups["predictions"] = self._draw_dataset({variable: predictions}, {variable: all_dims}, targets)
            groups["predictions_constant_data"] = _input_dataset(names, _numbered(new, x_names), None, all_dims)
        # Draws of a guide and members of an ensemble are not a Markov chain, although they have the chain dimension.
        sampling = {} if self.sample_stats else {"sampling": arviz.INDEPENDENT}
        return arviz.from_groups(groups, {**self.attrs, **sampling})

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
    def load(cls, path: str | Path, model: Any, *args: Any) -> "Posterior":
        """The posterior that `save` wrote, for the same ``model`` (or ready pair) and example ``args``.

        Raises ``ValueError`` for a file that is damaged or of another format, a model with other sites, or sites of
        other shapes.
        """
        model, args = unwrap_pair(model), read_arguments(args)
        content = read_tensors(path, f"a posterior of format {FORMAT}")
        if content.get("format") != FORMAT or "draws" not in content:
            raise ValueError(f"expected a posterior of format {FORMAT} in {path}, got something else")
        program = inspect(model, args, content["site"])
        sites = {*program.latents, *program.parameters}
        if sites != set(content["draws"]):
            raise ValueError(
                f"expected draws of the model's sites {sorted(sites)}, got {sorted(content['draws'])} in {path}"
            )
        posterior = cls(model, program, *(content[part] for part in ("draws", "sample_stats", "history", "attrs")))
        if len(args) > 1:
            posterior.likelihood(*args[:-1], draws=1)  # raises if draws and sites differ in shape
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

    def _score(self, args: tuple[Any, ...], *, terms: bool = False) -> ScoredDraws:
        draws, others = self._flat(None, args), self.program.observed
        return score_draws(self.model, args, draws, self.program.site, others=others, terms=terms)

    def _log_prior(self, scores: ScoredDraws) -> dict[str, Tensor]:
        latents = (name for name in self.program.latents if name in scores.terms)
        return {name: scores.terms[name].unflatten(0, self._shape) for name in latents}

    def _flat(self, draws: int | None, args: tuple[Any, ...]) -> dict[str, Tensor]:
        """Draws (S, ...) on the device of ``args``: a sampler stores its draws on the CPU."""
        device = next((value.device for value in args if isinstance(value, Tensor)), None)
        flat = {name: value.flatten(0, 1).to(device) for name, value in self.draws.items()}
        total = self.num_chains * self.num_draws
        if draws is None or draws == total:
            return flat
        if not 1 <= draws <= total:
            raise ValueError(f"expected between 1 and {total} draws, got {draws}")
        chosen = torch.linspace(0, total - 1, draws).round().long()
        return {name: value[chosen.to(value.device)] for name, value in flat.items()}

    def _sample(self, likelihood: Distribution, seed: int) -> Tensor:
        with seeded(seed):
            return likelihood.sample().unflatten(0, self._shape)

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


def _inputs(args: tuple[Any, ...], y: Tensor, names: list[Names]) -> dict[str, tuple[Tensor, Names]]:
    """The model's arguments without the one that is observed unchanged; if there is none, without the last."""
    place = next((n for n, value in enumerate(args) if value is y), len(args) - 1)
    return _numbered(args[:place] + args[place + 1 :], names)


def _numbered(inputs: tuple[Any, ...], names: list[Names]) -> dict[str, tuple[Tensor, Names]]:
    """The inputs as variable x, or x0, x1, ... if there are several, with the names of their columns."""
    named = [pair for pair in zip_longest(inputs, names[: len(inputs)]) if isinstance(pair[0], Tensor)]
    return {"x" if len(named) == 1 else f"x{i}": pair for i, pair in enumerate(named)}


def _name_coordinate(dims: tuple[str, ...], names: Names, shape: tuple[int, ...]) -> dict[str, Any]:
    """The names of columns as the coordinate of their dimension, the only one of ``dims``; {} without names."""
    return {dims[0]: (dims[0], list(names))} if names and len(dims) == 1 and shape == (len(names),) else {}


def _input_dataset(
    names: ArvizNames, inputs: Mapping[str, tuple[Tensor, Names]], rows: UnmaskedRows | None, dims: tuple[str, ...]
) -> xr.Dataset:
    """The inputs for the unmasked rows of y; ``dims`` are the dimensions of y."""
    first = (dims or (names.dimension("obs"),))[0]
    values: dict[str, Tensor] = {}
    input_dims: dict[str, tuple[str, ...]] = {}
    coords = {} if rows is None else rows.coords
    for name, (value, column_names) in inputs.items():
        columns = names.site_dims(name, max(0, value.ndim - 1))
        coords |= _name_coordinate(columns, column_names, value.shape[1:])
        if value.ndim:
            values[name], along = (value, first) if rows is None else rows.select_input(value, first)
            input_dims[name] = (along, *columns)
        else:
            values[name], input_dims[name] = value, ()
    return to_dataset(values, input_dims, coords)
