"""Pulls: by how many standard deviations is y off, and is that as often as it should be?

A pull is a residual in units of its predicted error. Over many observations a correct model has pulls of mean 0
and width 1: a width of 1.25 says that the predicted errors are 20 % too small. What "a standard deviation" is
where the predictive is not normal is a choice, made by ``kind``:

- ``"gaussianised"`` (default): z = Phi^-1(F(y|x)), exactly N(0, 1) for any correct continuous predictive.
- ``"moment"``: (y - mean) / sd. Mean 0 and width 1 for a correct model, but not normal: where the predictive has
  two peaks, so have the pulls.
- ``"component"``: (y - mu_k) / sigma_k for one component k of a mixture of normals, *drawn* from the
  responsibilities P(k | y, x). If the model is correct, (k, y) is then a draw of the joint distribution of
  component and value, so that z is exactly N(0, 1). Taking the nearest or the most probable component instead
  reassigns the far tail of each component to its neighbour, and a correct model shows a width below 1 (0.90 is
  typical).
"""

import numpy as np
import torch
import xarray as xr
from scipy.special import ndtri
from scipy.stats import norm
from torch import Tensor

from posterity.inference.diagnostics._rows import by_rows
from posterity.inference.diagnostics._source import MixtureSource, Source, read, require_finite, require_mixture
from posterity.models.mixtures import Mixture

KINDS = ("gaussianised", "moment", "component")
_ONE_SIGMA = float(norm.cdf(1.0) - norm.cdf(-1.0))


def pulls(
    source: object,
    y: Tensor | None = None,
    *,
    kind: str = "gaussianised",
    var_name: str | None = None,
    seed: int = 0,
) -> xr.Dataset:
    """``pull`` of every observation, without unit; positive where y lies above the prediction.

    ``source`` is a `Mixture` of batch shape (N,) with ``y`` (N,), or ArviZ data with ``posterior_predictive`` and
    ``observed_data``. For the kinds, see the module.

    - ``"gaussianised"`` uses whichever tail of y is smaller, so that 12 standard deviations come out as 12. Tails
      below 2.2e-308 count as that, which limits pulls to ±37.5. From ArviZ data the PIT is a randomised rank among
      S draws (see `pit`; ``seed``), so pulls hardly exceed Phi^-1(1 - 1/S): ±3.3 for 1,000 draws.
    - ``"moment"`` needs a finite variance of the predictive, or draws that differ.
    - ``"component"`` needs a mixture; the choice of ``component`` (N,) is returned as well, and depends on
      ``seed``.

    Raises ``ValueError`` for an unknown kind, a kind that the source cannot serve, and as `pit`.

    >>> from posterity.models.mixtures import Mixture
    >>> mixture = Mixture.normal(torch.zeros(3, 1), torch.zeros(3, 1), torch.full((3, 1), 2.0))
    >>> pulls(mixture, torch.tensor([-2.0, 0.0, 24.0])).pull.values.round(6) + 0.0
    array([-1.,  0., 12.])
    """
    if kind not in KINDS:
        raise ValueError(f"expected kind to be one of {', '.join(KINDS)}, got {kind!r}")
    data = read(source, y, var_name)
    attrs: dict[str, str | int] = {"kind": kind, "num_draws": data.num_draws}
    if kind == "component":
        chosen, values = _component_pulls(require_mixture(data, "kind='component'"), seed)
        return data.dataset({"pull": values, "component": chosen}, **attrs, seed=seed)
    if kind == "moment":
        return data.dataset({"pull": _moment_pulls(data)}, **attrs)
    if not isinstance(data, MixtureSource):
        attrs["seed"] = seed
    return data.dataset({"pull": _gaussianised(*data.tails(seed))}, **attrs)


def pull_summary(pulls: xr.Dataset) -> xr.Dataset:
    """Location and width of ``pull`` with their standard errors, as scalars.

    - ``mean`` ± ``mean_se`` = s/sqrt(n), and ``width`` = s, the standard deviation (n - 1).
    - ``width_se`` = s sqrt((kurtosis - (n-3)/(n-1)) / 4n), the large-sample error for pulls of any distribution
      (the variance of s² as in Cramér 1946, section 27.4, and the delta method). The kurtosis is the sample's,
      but 3 at least: at n ~ 100 the sample kurtosis of normal pulls lies below 3 in 62 % of the samples, and
      would make the error too small just there (2 ``width_se`` then hold in 93.8 % of the samples instead of 95.3
      %). So ``width_se`` is never below that of normal pulls, s/sqrt(2(n-1)). Where the tails are heavy enough
      for the fourth moment to be unknown (a few pulls beyond 5), no such error is to be trusted: compare with the
      robust width.
    - ``robust_width`` is half the distance between the 15.87 % and 84.13 % quantiles, blind to outliers, and
      ``robust_width_se`` = 0.96 w/sqrt(n), for pulls that are normal in the middle.
    - ``n``, the number of pulls.

    Takes what `pulls` returns. Pulls are taken as independent. Read by ``summary["mean"]``: ``summary.mean`` is
    a method of the Dataset. Raises ``ValueError`` for fewer than two, or none
    that differ.

    >>> normal = xr.Dataset({"pull": ("obs", norm.ppf((np.arange(2000) + 0.5) / 2000))})
    >>> summary = pull_summary(normal)
    >>> [round(float(summary[name]), 2) for name in ("width", "width_se", "robust_width")]
    [1.0, 0.02, 1.0]
    """
    values = pull_array(pulls)
    n, width = values.size, values.std(ddof=1)
    if width == 0:
        raise ValueError(f"expected pulls that differ, got {n} times {values[0]}")
    kurtosis = max(3.0, float(np.mean((values - values.mean()) ** 4) / values.var() ** 2))
    low, high = np.quantile(values, [0.5 - 0.5 * _ONE_SIGMA, 0.5 + 0.5 * _ONE_SIGMA])
    robust = 0.5 * (high - low)
    # Asymptotic variance of half the difference of two quantiles of a normal, each with p outside: p(1-2p)/(2n
    # phi²).
    outside = norm.sf(1.0)
    robust_se = robust * np.sqrt(outside * (1 - 2 * outside) / (2 * n)) / norm.pdf(1.0)
    return xr.Dataset(
        {
            "mean": values.mean(),
            "mean_se": width / np.sqrt(n),
            "width": width,
            "width_se": width * np.sqrt((kurtosis - (n - 3) / (n - 1)) / (4 * n)),
            "robust_width": robust,
            "robust_width_se": robust_se,
            "n": n,
        },
        attrs=pulls.attrs,
    )


def pull_array(pulls: xr.Dataset) -> np.ndarray:
    """The values of ``pull`` (N,), N >= 2; ``ValueError`` unless they are there and finite."""
    if not isinstance(pulls, xr.Dataset) or "pull" not in pulls:
        got = list(pulls.data_vars) if isinstance(pulls, xr.Dataset) else type(pulls).__name__
        raise ValueError(f"expected a Dataset with a variable 'pull', as pulls() returns, got {got}")
    values = pulls["pull"].values.reshape(-1).astype(float)
    require_finite("pulls", values)
    if values.size < 2:
        raise ValueError(f"expected at least 2 pulls, got {values.size}")
    return values


def _gaussianised(lower: np.ndarray, upper: np.ndarray) -> np.ndarray:
    """The normal quantile, from the smaller tail: 1 - 1e-20 is not a number, 1e-20 is."""
    tail = np.maximum(np.minimum(lower, upper), np.finfo(float).tiny)
    return np.where(lower <= upper, ndtri(tail), -ndtri(tail))


def _moment_pulls(data: Source) -> np.ndarray:
    mean, sd = data.moments()
    bad = int((~np.isfinite(sd) | ~np.isfinite(mean) | (sd <= 0)).sum())
    if bad:
        raise ValueError(
            f"expected predictives of finite, positive variance for kind='moment', got {bad} of {sd.size} without"
        )
    return (data.observed - mean) / sd


def _component_pulls(data: MixtureSource, seed: int) -> tuple[np.ndarray, np.ndarray]:
    uniform = torch.as_tensor(np.random.default_rng(seed).random(len(data.y)))

    chosen, values = by_rows(data.mixture, lambda part, rows: _draw_component(part, data.y[rows], uniform[rows]), 3)
    return chosen.astype(int), values


def _draw_component(mixture: Mixture, y: Tensor, uniform: Tensor) -> Tensor:
    """A component drawn from its responsibilities, and the pull from it: (2, N)."""
    steps = mixture.responsibilities(y).cumsum(-1)
    reached = steps <= (uniform * steps[:, -1]).unsqueeze(-1)
    chosen = reached.sum(-1, keepdim=True).clamp_max(mixture.num_components - 1)
    components = mixture.component_distribution
    mean, sd = (
        moment.expand(steps.shape).gather(-1, chosen).squeeze(-1) for moment in (components.mean, components.stddev)
    )
    require_finite("standard deviations of the components for kind='component'", sd.numpy())
    return torch.stack([chosen.squeeze(-1).double(), (y - mean) / sd])
