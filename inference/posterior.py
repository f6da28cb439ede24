"""`Posterior`: what every inference returns, whatever the method."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor
from torch.distributions import Distribution

from posterity.files import read_tensors, write_tensors
from posterity.inference import arviz
from posterity.inference.export import ArvizNames, Rows, dataset, left_rows, observation_dims
from posterity.inference.predictive import PredictiveMixture
from posterity.inference.program.arguments import positional, read_arguments
from posterity.inference.program.likelihood import Score, over_draws, score
from posterity.inference.program.sites import Program, inspect
from posterity.inference.program.trace import Model, bare_model
from posterity.random import seeded

FORMAT = 1


@dataclass(frozen=True, eq=False)
class Posterior:
    """Draws of a model's latent sites (and values of its parameters), with the model that gives them meaning.

    - ``draws[name]``: shape (chain, draw, ...), in the space of the model (constrained).
    - ``sample_stats[name]``: shape (chain, draw), named as ArviZ names them; empty for variational inference.
    - ``history[name]``: the learning curve, one value per step, of an ensemble (step, member); empty for samplers.
    - ``attrs``: method, settings, seed, seconds.
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

    def likelihood(self, *args: Any, draws: int | None = None, **named: Any) -> Distribution:
        """The observed site's distribution at other inputs, one for each draw: batch shape (S, N).

        ``args`` are the model's arguments without y, as tensors or arrays, by position or name. ``draws`` is the number
        of draws to use, evenly spaced over all chains; default: all. The S = chain * draw are ordered by chain.
        """
        args = self._inputs(args, named)
        return over_draws(self.model, args, self._flat(draws), self.program.site, others=self.program.observed)[0]

    def predictive(self, *args: Any, draws: int | None = None, **named: Any) -> PredictiveMixture:
        """The posterior predictive distribution at ``args`` (the model's arguments without y), batch shape (N,).

        ``draws`` as in `likelihood`. Masks and scales of the model affect the log likelihood only, not predictions.
        Memory grows as N * draws * K.
        """
        return PredictiveMixture.from_draws(self.likelihood(*args, draws=draws, **named))

    def function_draws(self, *args: Any, **named: Any) -> Tensor:
        """E[y|x, w] of every draw, shape (chain, draw, N): what convergence of a network is judged on."""
        likelihood = self.likelihood(*args, **named)
        return likelihood.mean.unflatten(0, self._shape)

    def log_likelihood(self, *args: Any, **named: Any) -> Tensor:
        """log p(y_n | x_n, w) of every draw, shape (chain, draw, N); the last argument is y.

        The scored value is that of the model's observed site, also if the model transforms y first. The terms are those
        of the fitted log joint: a row that is masked out has 0, and a scale (``poutine.scale``) multiplies its term.

        Raises ``ValueError`` if y is missing, has another shape than the model predicts, or is outside the support.
        """
        log_prob = self._score(self._arguments(args, named)).log_prob
        return log_prob.unflatten(0, self._shape)

    def to_arviz(self, *args: Any, predict: Any = None, seed: int = 0, **named: Any) -> Any:
        """ArviZ data: everything ArviZ's functions ask for, with the plates' names as dimensions.

        ``args`` are the arguments of the model, y last. Groups: ``posterior`` (latent and deterministic sites),
        ``sample_stats``, ``log_likelihood``, ``posterior_predictive`` (one draw of y for each posterior draw),
        ``observed_data`` and ``constant_data``. ``predict`` takes new inputs (one, or a tuple of them) and adds
        ``predictions`` and ``predictions_constant_data``. ``seed`` seeds the predictive draws. Draws that no Markov
        chain made (from a guide or an ensemble) are stored as one chain, with a note in ``attrs["sampling"]``.

        ``log_likelihood`` has the scale of the method of that name. Rows that are masked out are in no group, and other
        rows keep their index as coordinate. If a mask removes only some steps of a row, the remaining steps are stored
        along one dimension "unmasked". Masked elements of an event are nan in ``observed_data``. ArvizNames that would
        collide or cannot be stored are changed, see `posterity.inference.export.ArvizNames`.
        Raises ``ValueError`` like `log_likelihood`, and if everything is masked out.
        """
        args = self._arguments(args, named)
        found = self._score(args)
        likelihood, y, site = found.likelihood, found.observation.value, self.program.site
        batch = len(likelihood.batch_shape) - 1
        inputs = _inputs(args, y)
        names = ArvizNames([*self.draws, *found.deterministics, site, *inputs])
        dims = observation_dims(names, site, found.observation.plates, y.ndim)
        rows = left_rows(names, dims[:batch], found.kept_rows)
        if y.is_floating_point():
            y = torch.where(found.kept, y, torch.nan)
        dims, called, coords = rows.named(dims), names.variables[site], rows.coords
        scored = dims[: len(dims) - len(likelihood.event_shape)]
        log_prob = rows.of(found.log_prob.unflatten(0, self._shape), 2)
        drawn = rows.of(self._sample(likelihood, seed), 2)
        posterior = {**self.draws, **{n: v.unflatten(0, self._shape) for n, v in found.deterministics.items()}}
        groups = {
            "posterior": self._own(names, posterior),
            "log_likelihood": self._dataset({called: log_prob}, {called: scored}, coords),
            "posterior_predictive": self._dataset({called: drawn}, {called: dims}, coords),
            "observed_data": dataset({called: rows.of(y)}, {called: dims}, coords),
            "constant_data": _constant(names, inputs, rows, dims),
        }
        if self.sample_stats:
            groups["sample_stats"] = self._own(ArvizNames(self.sample_stats), self.sample_stats)
        if predict is not None:
            new = self._arguments(predict if isinstance(predict, tuple) else (predict,), {})
            ahead = self._sample(self.likelihood(*new), seed + 1)
            whole = observation_dims(names, site, found.observation.plates, y.ndim)
            groups["predictions"] = self._dataset({called: ahead}, {called: whole})
            groups["predictions_constant_data"] = _constant(names, _named(new), None, whole)
        # Draws of a guide or members of an ensemble are no chain, whatever dimension they are stored along.
        sampling = {} if self.sample_stats else {"sampling": arviz.INDEPENDENT}
        return arviz.from_groups(groups, {**self.attrs, **sampling})

    def save(self, path: str | Path) -> Path:
        """Write draws, statistics and history to one file, without pickle; the model is code and is not in it."""
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
        """Read what `save` wrote, for the same ``model`` (or model and guide pair) and example ``args``.

        Raises ``ValueError`` for a file that is damaged or of another format, a model with other sites, or sites of
        other shapes.
        """
        model, args = bare_model(model), read_arguments(args)
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
            posterior.likelihood(*args[:-1], draws=1)  # raises where the draws are of other shapes than the sites
        return posterior

    def __repr__(self) -> str:
        sites = ", ".join(f"{name} {tuple(value.shape[2:])}" for name, value in self.draws.items())
        return f"Posterior({self.num_chains} chains of {self.num_draws} draws: {sites})"

    @property
    def _shape(self) -> tuple[int, int]:
        for value in self.draws.values():
            return value.shape[0], value.shape[1]
        return 1, 1

    def _arguments(self, args: tuple[Any, ...], named: Mapping[str, Any]) -> tuple[Any, ...]:
        return read_arguments(positional(self.model, args, named)[0])

    def _inputs(self, args: tuple[Any, ...], named: Mapping[str, Any]) -> tuple[Any, ...]:
        """The model's arguments without y; ``ValueError`` for one with fewer dimensions than in the fit."""
        read = self._arguments(args, named)
        for position, (value, dims) in enumerate(zip(read, self.program.dims, strict=False)):
            # One row without its dimension would be read as many rows.
            if isinstance(value, Tensor) and 0 < value.ndim < dims:
                raise ValueError(
                    f"expected argument {position} with {dims} dimensions as in the fit, got shape "
                    f"{tuple(value.shape)}: a single row is value[None]"
                )
        return read

    def _score(self, args: tuple[Any, ...]) -> Score:
        return score(self.model, args, self._flat(None), self.program.site, others=self.program.observed)

    def _flat(self, draws: int | None) -> dict[str, Tensor]:
        flat = {name: value.flatten(0, 1) for name, value in self.draws.items()}
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

    def _own(self, names: ArvizNames, values: Mapping[str, Tensor]) -> xr.Dataset:
        """Values of sites as variables, each with its own dimensions."""
        dims = {names.variables[site]: names.own(site, value.ndim - 2) for site, value in values.items()}
        return self._dataset({names.variables[site]: value for site, value in values.items()}, dims)

    def _dataset(
        self,
        values: Mapping[str, Tensor],
        dims: Mapping[str, tuple[str, ...]],
        coords: Mapping[str, Any] | None = None,
    ) -> xr.Dataset:
        found = dataset(values, {name: (*arviz.SAMPLE_DIMS, *dims[name]) for name in values}, coords)
        return found.assign_coords(chain=np.arange(self.num_chains), draw=np.arange(self.num_draws))


def _inputs(args: tuple[Any, ...], y: Tensor) -> dict[str, Tensor]:
    """The model's arguments without y: without the argument that is observed unchanged, or else the last."""
    place = next((n for n, value in enumerate(args) if value is y), len(args) - 1)
    return _named(args[:place] + args[place + 1 :])


def _named(inputs: tuple[Any, ...]) -> dict[str, Tensor]:
    """The inputs as variable x, or x0, x1, ... if there are several."""
    tensors = [value for value in inputs if isinstance(value, Tensor)]
    return {"x" if len(tensors) == 1 else f"x{i}": value for i, value in enumerate(tensors)}


def _constant(names: ArvizNames, inputs: Mapping[str, Tensor], rows: Rows | None, dims: tuple[str, ...]) -> xr.Dataset:
    """The inputs for the remaining rows of y; ``dims`` are the dimensions of y."""
    first, values, named = (dims or (names.dimension("obs"),))[0], {}, {}
    for name, value in inputs.items():
        own = names.own(name, max(0, value.ndim - 1))
        if value.ndim:
            values[name], along = (value, first) if rows is None else rows.of_input(value, first)
            named[name] = (along, *own)
        else:
            values[name], named[name] = value, ()
    return dataset(values, named, None if rows is None else rows.coords)
