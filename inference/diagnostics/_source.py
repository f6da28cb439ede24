"""What a diagnostic is computed from: a mixture and y, or ArviZ data. The only module that asks which of the two.

Both answer the same questions (both tails of y, the predictive's first two moments, the log score, draws), so that
a diagnostic is written once. `read` checks everything that a user can get wrong.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import xarray as xr
from scipy.special import logsumexp
from torch import Tensor

from posterity.inference.arviz import group, group_names
from posterity.inference.diagnostics._rows import by_rows, sample
from posterity.models.mixtures import Mixture

Attribute = str | int | float


@dataclass(frozen=True)
class MixtureSource:
    """A predictive mixture of batch shape (N,) and the observations (N,) it is judged by."""

    mixture: Mixture
    y: Tensor

    @property
    def num_draws(self) -> int:
        """Draws of the posterior behind the predictive; 1 for a bare mixture."""
        return int(getattr(self.mixture, "num_draws", 1))

    @property
    def observed(self) -> np.ndarray:
        """y as an array (N,)."""
        return self.y.numpy()

    def tails(self, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """P(Y <= y) and P(Y > y), each (N,); exact, so the seed is not used."""
        stacked = by_rows(
            self.mixture, lambda part, rows: torch.stack([part.cdf(self.y[rows]), part.sf(self.y[rows])]), 2
        )
        # Weights sum to one only up to rounding.
        lower, upper = np.clip(stacked, 0.0, 1.0)
        return lower, upper

    def moments(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation of the predictive, each (N,)."""
        mean, sd = by_rows(self.mixture, lambda part, rows: torch.stack([part.mean, part.variance.sqrt()]), 2)
        return mean, sd

    def log_score(self) -> np.ndarray:
        """log p(y), (N,), in nats."""
        return by_rows(self.mixture, lambda part, rows: part.log_prob(self.y[rows]))

    def draws(self, count: int, seed: int) -> np.ndarray:
        """Draws of the predictive, (count, N)."""
        return sample(self.mixture, count, seed)

    def dataset(self, variables: Mapping[str, np.ndarray], **attrs: Attribute) -> xr.Dataset:
        """Variables (N,) over the dimension "obs"."""
        return xr.Dataset({name: ("obs", np.asarray(values)) for name, values in variables.items()}, attrs=attrs)


@dataclass(frozen=True)
class DrawsSource:
    """Posterior-predictive draws (S, N) from ArviZ data, with the observations behind the N columns."""

    predictive: np.ndarray
    template: xr.DataArray
    log_likelihood: np.ndarray | None
    groups: list[str]

    @property
    def num_draws(self) -> int:
        return len(self.predictive)

    @property
    def observed(self) -> np.ndarray:
        return self.template.values.reshape(-1).astype(float)

    def tails(self, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Randomised ranks of y among the draws, from below and from above; they sum to one."""
        y, count = self.observed, self.num_draws
        below, above = (self.predictive < y).sum(0), (self.predictive > y).sum(0)
        slots = count - below - above + 1
        share = np.random.default_rng(seed).random(len(y))
        return (below + share * slots) / (count + 1), (above + (1 - share) * slots) / (count + 1)

    def moments(self) -> tuple[np.ndarray, np.ndarray]:
        if self.num_draws < 2:
            raise ValueError("expected at least 2 posterior-predictive draws, got 1")
        return self.predictive.mean(0), self.predictive.std(0, ddof=1)

    def log_score(self) -> np.ndarray:
        if self.log_likelihood is None:
            raise ValueError(f"expected ArviZ data with a group 'log_likelihood', got groups {self.groups}")
        return logsumexp(self.log_likelihood, axis=0) - np.log(len(self.log_likelihood))

    def draws(self, count: int, seed: int) -> np.ndarray:
        """All the draws there are, (S, N), whatever ``count``."""
        return self.predictive

    def dataset(self, variables: Mapping[str, np.ndarray], **attrs: Attribute) -> xr.Dataset:
        """Variables over the observations' own dimensions and coordinates."""
        shaped = {
            name: (self.template.dims, np.asarray(values).reshape(self.template.shape))
            for name, values in variables.items()
        }
        return xr.Dataset(shaped, coords=self.template.coords, attrs=attrs)


Source = MixtureSource | DrawsSource


def read(source: object, y: Tensor | None, var_name: str | None = None) -> Source:
    """Mixture and y, or ArviZ data, checked: finite numbers of matching shapes.

    Raises ``ValueError`` that says what was expected and what came.
    """
    if isinstance(source, Mixture):
        return _read_mixture(source, y, var_name)
    try:
        groups = group_names(source)
    except ValueError:
        raise ValueError(
            f"expected a Mixture with y, or ArviZ data (InferenceData or DataTree), got {type(source).__name__}"
        ) from None
    if y is not None:
        raise ValueError("expected no y beside ArviZ data, which holds its own in 'observed_data', got one")
    return _read_arviz(source, groups, var_name)


def require_mixture(data: Source, what: str) -> MixtureSource:
    """The source, if it is a mixture; ``ValueError`` saying that ``what`` needs one otherwise."""
    if not isinstance(data, MixtureSource):
        raise ValueError(f"expected a mixture and y for {what}, got ArviZ data, which has draws but no components")
    return data


def check_mixture(mixture: object) -> Mixture:
    """A mixture of batch shape (N,) with N > 0; ``ValueError`` otherwise."""
    if not isinstance(mixture, Mixture):
        raise ValueError(f"expected a Mixture, got {type(mixture).__name__}")
    if len(mixture.batch_shape) != 1 or mixture.batch_shape[0] == 0:
        raise ValueError(f"expected a mixture of batch shape (N,), got {tuple(mixture.batch_shape)}")
    return mixture


def require_finite(name: str, values: np.ndarray) -> None:
    """``ValueError`` that counts the values which are nan or infinite, if any is."""
    bad = int((~np.isfinite(values)).sum())
    if bad:
        raise ValueError(f"expected finite {name}, got {bad} of {values.size} that are nan or infinite")


def require_scalar_event(mixture: Mixture) -> None:
    """``ValueError`` for a mixture of several target dimensions."""
    if mixture.event_shape:
        raise ValueError(f"expected a mixture of one target, got event shape {tuple(mixture.event_shape)}")


def _read_mixture(mixture: Mixture, y: Tensor | None, var_name: str | None) -> MixtureSource:
    check_mixture(mixture)
    require_scalar_event(mixture)
    shape = tuple(mixture.batch_shape)
    if var_name is not None:
        raise ValueError(f"expected var_name only with ArviZ data, got {var_name!r} with a mixture")
    if y is None:
        raise ValueError(f"expected y of shape {shape} with a mixture, got None")
    y = torch.as_tensor(y).detach().to("cpu", torch.double)
    if tuple(y.shape) != shape:
        raise ValueError(f"expected y of shape {shape}, got {tuple(y.shape)}")
    require_finite("y", y.numpy())
    return MixtureSource(mixture, y)


def _read_arviz(data: Any, groups: list[str], var_name: str | None) -> DrawsSource:
    observed = group(data, "observed_data")
    names = [str(name) for name in observed.data_vars]
    if var_name is None and len(names) == 1:
        var_name = names[0]
    if var_name not in names:
        raise ValueError(f"expected var_name, one of {names}, got {var_name!r}")
    template = observed[var_name]
    require_finite(f"observed_data[{var_name!r}]", template.values.astype(float))
    log_likelihood = None
    if "log_likelihood" in groups and var_name in group(data, "log_likelihood"):
        log_likelihood = _flatten(data, "log_likelihood", var_name, template)
    predictive = _flatten(data, "posterior_predictive", var_name, template)
    return DrawsSource(predictive, template, log_likelihood, groups)


def _flatten(data: Any, name: str, var_name: str, template: xr.DataArray) -> np.ndarray:
    """A variable (chain, draw, obs...) as an array (S, N), its columns in the order of the observations."""
    found = group(data, name)
    if var_name not in found:
        raise ValueError(f"expected {name} with a variable {var_name!r}, got {list(found.data_vars)}")
    values, wanted = found[var_name], ("chain", "draw", *template.dims)
    sizes = {dim: values.sizes.get(dim) for dim in template.dims}
    if set(values.dims) != set(wanted) or sizes != dict(template.sizes):
        raise ValueError(
            f"expected {name}[{var_name!r}] with dimensions chain, draw and {dict(template.sizes)}, "
            f"got {dict(values.sizes)}"
        )
    flat = values.transpose(*wanted).values.reshape(-1, template.size).astype(float)
    if name == "posterior_predictive":
        require_finite(f"{name}[{var_name!r}]", flat)
    elif np.isnan(flat).any():
        raise ValueError(f"expected {name}[{var_name!r}] without nan, got {int(np.isnan(flat).sum())}")
    return flat
