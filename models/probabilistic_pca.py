r"""`ProbabilisticPCA`: a normal distribution with few directions, and the exact posterior of values that are missing.

Tipping & Bishop 1999 (J. R. Stat. Soc. B 61, 611): a latent point $z \sim N(0, 1)$ of q numbers gives

$$x = \mu + W z + \sigma \epsilon, \quad \epsilon \sim N(0, 1).$$

Everything about this model is known in closed form, so it is a reference for networks that complete pictures. All is
computed in double precision: with little noise, the terms of the density nearly cancel.
"""

import math
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor
from torch.distributions import LowRankMultivariateNormal

from posterity.validation import check_finite, check_floating, check_integer, check_number, shown, shown_shape


class ProbabilisticPCA:
    r"""The model $x = \mu + W z + \sigma \epsilon$; `fit` finds the parameters of largest likelihood.

    Args:
        mean: (D,).
        loadings: W, (D, q).
        noise: sigma, above 0.

    Raises:
        ValueError: parameters of other shapes, NaN or infinity, or a noise that is not above 0.
    """

    def __init__(self, mean: Tensor, loadings: Tensor, noise: float) -> None:
        for name, values in (("mean", mean), ("loadings", loadings)):
            check_floating(name, values)
            check_finite(name, values)
        if mean.ndim != 1 or loadings.ndim != 2 or len(loadings) != len(mean) or not loadings.numel():
            raise ValueError(
                f"expected mean (D,) and loadings (D, q), got {shown_shape(mean)} and {shown_shape(loadings)}"
            )
        self.mean, self.loadings = mean.double(), loadings.double()
        self.noise = check_number("noise", noise, "(0, inf)")

    @classmethod
    def fit(cls, data: Tensor, components: int) -> "ProbabilisticPCA":
        """The maximum of the likelihood of data (N, D): eqs. 7 and 8 of Tipping & Bishop.

        Raises:
            ValueError: data of another shape or with NaN or infinity; or components below 1, or so many that no
                variance is left for the noise.

        >>> import torch
        >>> x = torch.randn(500, 3, generator=torch.Generator().manual_seed(0)) * torch.tensor([3.0, 1.0, 1.0])
        >>> round(ProbabilisticPCA.fit(x, 1).noise, 1)
        1.0
        """
        check_floating("data", data)
        check_finite("data", data)
        if data.ndim != 2 or len(data) < 3 or data.shape[1] < 2:
            raise ValueError(f"expected data of shape (N, D), N of 3 and D of 2 or more, got {shown_shape(data)}")
        check_integer("components", components, 1, min(len(data) - 2, data.shape[1] - 1))
        mean = data.double().mean(0)
        _, values, directions = torch.linalg.svd(data.double() - mean, full_matrices=False)
        variances = values.square() / len(data)
        left = float(variances[components:].sum())
        if not left > torch.finfo(data.dtype).eps ** 2 * data.numel() * float(variances.sum()):
            raise ValueError(f"expected fewer components than directions with variance, got {components}")
        rest = left / (data.shape[1] - components)
        scale = (variances[:components] - rest).clamp_min(0).sqrt()
        return cls(mean, directions[:components].T * scale, math.sqrt(rest))

    @property
    def distribution(self) -> LowRankMultivariateNormal:
        """The distribution of x, event shape (D,)."""
        return _low_rank(self.mean, self.loadings, self.noise)

    def conditional(self, values: Tensor, observed: Tensor) -> LowRankMultivariateNormal:
        r"""The exact posterior of the entries that are not observed, batch shape (N,), event shape (hidden,).

        The posterior of z has the precision $1 + W_o^T W_o / \sigma^2$ for the rows $W_o$ of observed entries.

        Args:
            values: (N, D); entries that are not observed are not used, and may be NaN.
            observed: boolean (D,), the same entries for all rows.

        Raises:
            ValueError: values of another shape, observed entries with NaN or infinity, or a mask that observes all
                entries or none.
        """
        latent, covariance = self.latent_posterior(values, observed)
        hidden = self.loadings[~observed]
        loc = self.mean[~observed] + latent @ hidden.T
        return _low_rank(loc, hidden @ torch.linalg.cholesky(covariance), self.noise)

    def latent_posterior(self, values: Tensor, observed: Tensor) -> tuple[Tensor, Tensor]:
        """Means (N, q) of z given the observed entries, and its covariance (q, q); arguments as for `conditional`."""
        observed = self._checked_mask(observed)
        seen = self._seen(values, observed)
        loadings = self.loadings[observed]
        precision = torch.eye(loadings.shape[1]).to(loadings) + loadings.T @ loadings / self.noise**2
        root = torch.linalg.cholesky(precision)
        latent = torch.cholesky_solve(loadings.T @ (seen - self.mean[observed]).T / self.noise**2, root).T
        return latent, torch.cholesky_inverse(root)

    def distance(self, values: Tensor, observed: Tensor) -> Tensor:
        """Squared Mahalanobis distance of the observed entries from their mean, over their number: (N,).

        For rows that the model describes its mean is 1, and its standard deviation the root of 2 over the number. It is
        larger for rows of another kind. Arguments as for `conditional`.
        """
        observed = self._checked_mask(observed)
        rest, loadings = self._seen(values, observed) - self.mean[observed], self.loadings[observed]
        inner = loadings.T @ loadings + self.noise**2 * torch.eye(loadings.shape[1]).to(loadings)
        z = torch.linalg.solve(inner, (rest @ loadings).T).T
        # The same number as a difference of squares, but without cancellation.
        squares = ((rest - z @ loadings.T) / self.noise).square().sum(1) + z.square().sum(1)
        return squares / rest.shape[1]

    def model(self, values: Tensor, observed: Tensor) -> Any:
        """The same model in Pyro, with sites "z" (N, q) and "x" for the observed entries of ``values`` (N, D)."""
        observed = self._checked_mask(observed)
        seen, loadings = self._seen(values, observed), self.loadings[observed]
        with pyro.plate("rows", len(values)):
            z = pyro.sample("z", dist.Normal(0.0, torch.ones(loadings.shape[1]).to(loadings)).to_event(1))
            mean = self.mean[observed] + z @ loadings.T
            return pyro.sample("x", dist.Normal(mean, self.noise).to_event(1), obs=seen)

    def __repr__(self) -> str:
        return f"ProbabilisticPCA({self.loadings.shape[1]} directions in {len(self.mean)} dimensions)"

    def _seen(self, values: Tensor, observed: Tensor) -> Tensor:
        """The observed entries (N, seen) in double precision."""
        check_floating("values", values)
        if values.ndim != 2 or values.shape[1] != len(self.mean):
            raise ValueError(f"expected values of shape (N, {len(self.mean)}), got {shown_shape(values)}")
        seen = values[:, observed].double()
        check_finite("values", seen)
        return seen

    def _checked_mask(self, observed: Tensor) -> Tensor:
        if not isinstance(observed, Tensor) or observed.dtype != torch.bool or observed.shape != self.mean.shape:
            got = (
                f"{observed.dtype} of shape {tuple(observed.shape)}"
                if isinstance(observed, Tensor)
                else shown(observed)
            )
            raise ValueError(f"expected observed to be a boolean tensor of shape ({len(self.mean)},), got {got}")
        if bool(observed.all()) or not bool(observed.any()):
            raise ValueError(f"expected observed to leave out some entries, not all, got {int(observed.sum())} of them")
        return observed


def _low_rank(loc: Tensor, factor: Tensor, noise: float) -> LowRankMultivariateNormal:
    """A normal distribution of covariance factor factor^T + noise² 1."""
    batch = loc.shape[:-1]
    return LowRankMultivariateNormal(
        loc, factor.expand(*batch, *factor.shape), torch.full_like(loc, noise**2), validate_args=False
    )
