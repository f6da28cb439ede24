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

from posterity.data.kept import read_tensors, write_tensors
from posterity.inference import arviz
from posterity.inference.predictive import PredictiveMixture
from posterity.inference.program import (
    Model,
    Program,
    bare_model,
    check_arguments,
    inspect,
    observed_value,
    over_draws,
    seeded,
)

FORMAT = 1


@dataclass(frozen=True, eq=False)
class Posterior:
    """Draws of a model's latent sites (and values of its parameters), with the model that gives them meaning.

    - ``draws[name]``: shape (chain, draw, ...), in the space of the model (constrained).
    - ``sample_stats[name]``: shape (chain, draw), named as ArviZ names them; empty for variational inference.
    - ``history[name]``: the learning curve, one value per step; empty for samplers.
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

    def likelihood(self, *args: Any, draws: int | None = None) -> Distribution:
        """The observed site's distribution at other inputs, one for each draw: batch shape (S, N).

        ``args`` are the model's without y. ``draws`` takes that many, evenly spaced over all chains; the default
        takes all. The S = chain * draw are in the order of the chains.
        """
        check_arguments(args)
        return self._over_draws(args, self._flat(draws))[0]

    def predictive(self, *args: Any, draws: int | None = None) -> PredictiveMixture:
        """The posterior predictive distribution at ``args`` (the model's arguments without y), batch shape (N,).

        ``draws`` as in `likelihood`. Memory grows as N * draws * K.
        """
        return PredictiveMixture.from_draws(self.likelihood(*args, draws=draws))

    def function_draws(self, *args: Any) -> Tensor:
        """E[y|x, w] of every draw, shape (chain, draw, N): what convergence of a network is judged on."""
        likelihood = self.likelihood(*args)
        return likelihood.mean.unflatten(0, self._shape)

    def log_likelihood(self, *args: Any) -> Tensor:
        """log p(y_n | x_n, w) of every draw, shape (chain, draw, N); the last argument is y.

        What is scored is the value of the model's observed site, also where the model transforms y first.

        Raises ``ValueError`` where y is not of the shape that the model predicts.
        """
        check_arguments(args)
        likelihood = self._over_draws(args, self._flat(None))[0]
        y = observed_value(self.model, args, self.program.site)
        _check_y(likelihood, y)
        return likelihood.log_prob(y).unflatten(0, self._shape)

    def to_arviz(self, *args: Any, predict: Any = None, seed: int = 0) -> Any:
        """ArviZ data: everything ArviZ's functions ask for, with the plates' names as dimensions.

        ``args`` are the model's, y last: groups ``posterior`` (latent and deterministic sites), ``sample_stats``,
        ``log_likelihood``, ``posterior_predictive`` (one draw of y for each posterior draw), ``observed_data`` and
        ``constant_data``. ``predict`` takes new inputs (one, or a tuple of them) and adds ``predictions`` and
        ``predictions_constant_data``. ``seed`` is that of the predictive draws. Draws that no Markov chain made (of a
        guide, an ensemble) are stored as one chain, and ``attrs["sampling"]`` says so.
        Raises ``ValueError`` where y is not of the shape that the model predicts.
        """
        check_arguments(args)
        likelihood, deterministics = self._over_draws(args, self._flat(None))
        inputs, y = list(args[:-1]), observed_value(self.model, args, self.program.site)
        _check_y(likelihood, y)
        site, obs = self.program.site, self._observation_dims(len(y.shape))
        # A score belongs to a whole event: it has the dimensions of y less those of its events.
        scored, rows = obs[: len(likelihood.batch_shape) - 1], (obs or ("obs",))[0]
        posterior = {**self.draws, **{n: v.unflatten(0, self._shape) for n, v in deterministics.items()}}
        groups = {
            "posterior": self._dataset(posterior),
            "log_likelihood": self._dataset({site: likelihood.log_prob(y).unflatten(0, self._shape)}, {site: scored}),
            "posterior_predictive": self._dataset({site: self._sample(likelihood, seed)}, {site: obs}),
            "observed_data": _dataset({site: y}, {site: obs}),
            "constant_data": _named("x", inputs, rows),
        }
        if self.sample_stats:
            groups["sample_stats"] = self._dataset(self.sample_stats)
        if predict is not None:
            new = predict if isinstance(predict, tuple) else (predict,)
            drawn = self._sample(self.likelihood(*new), seed + 1)
            groups["predictions"] = self._dataset({site: drawn}, {site: obs})
            groups["predictions_constant_data"] = _named("x", list(new), rows)
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
        model = bare_model(model)
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

    def _over_draws(self, args: tuple[Any, ...], draws: Mapping[str, Tensor]) -> tuple[Distribution, dict[str, Tensor]]:
        return over_draws(self.model, args, draws, self.program.site, others=self.program.observed)

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

    def _observation_dims(self, ndim: int) -> tuple[str, ...]:
        plates = (self.program.plates or ("obs",))[:ndim]
        return plates + tuple(f"{self.program.site}_dim_{i}" for i in range(ndim - len(plates)))

    def _dataset(self, values: Mapping[str, Tensor], dims: Mapping[str, tuple[str, ...]] | None = None) -> xr.Dataset:
        named = {
            name: ("chain", "draw", *(dims or {}).get(name, _default_dims(name, value.ndim - 2)))
            for name, value in values.items()
        }
        dataset = _dataset(values, named)
        chains, draws = np.arange(self.num_chains), np.arange(self.num_draws)
        return dataset.assign_coords(chain=chains, draw=draws)


def _check_y(likelihood: Distribution, y: Tensor) -> None:
    expected = likelihood.batch_shape[1:] + likelihood.event_shape
    if tuple(y.shape) != tuple(expected):
        raise ValueError(f"expected y of shape {tuple(expected)}, got {tuple(y.shape)}")


def _default_dims(name: str, ndim: int) -> tuple[str, ...]:
    return tuple(f"{name}_dim_{i}" for i in range(ndim))


def _dataset(values: Mapping[str, Tensor], dims: Mapping[str, tuple[str, ...]]) -> xr.Dataset:
    arrays = {name: (dims[name], value.detach().cpu().numpy()) for name, value in values.items()}
    sizes = {d: s for _, (names, array) in arrays.items() for d, s in zip(names, array.shape, strict=True)}
    coords = {name: np.arange(size) for name, size in sizes.items()}
    return xr.Dataset(arrays, coords=coords)


def _named(stem: str, inputs: list[Any], obs: str) -> xr.Dataset:
    """The inputs as variables x (or x0, x1, ... where there are several), observations first."""
    tensors = [value for value in inputs if isinstance(value, Tensor)]
    names = [stem] if len(tensors) == 1 else [f"{stem}{i}" for i in range(len(tensors))]
    dims = {
        name: (obs, *_default_dims(name, value.ndim - 1)) if value.ndim else ()
        for name, value in zip(names, tensors, strict=True)
    }
    return _dataset(dict(zip(names, tensors, strict=True)), dims)
