"""`PredictiveMixture`: the predictive distribution of every model, whatever the method of inference.

The average of the likelihoods of all draws of the posterior is a mixture over draws:

    p(y | x, data) = 1/S sum_s p(y | x, w_s)   with S draws, each of K components   (S x K components)

A network fitted by maximum likelihood has S = 1, a Gaussian likelihood K = 1. By the law of total variance

    Var[y|x] = E_s E_k[sigma²]      noise      within component: does not shrink with more data
             + E_s Var_k[mu]        ambiguity  between the components of one draw: several answers are right
             + Var_s[E_k mu]        epistemic  between draws: not enough data
"""

import contextlib
from typing import Any

import pyro.distributions as dist
import torch
from pyro.distributions.torch_distribution import MaskedDistribution
from torch import Size, Tensor
from torch.distributions import Distribution, Independent, MixtureSameFamily

from posterity.display import COLUMNS, ROWS, count, listing, panel, paragraph, short, table
from posterity.models.mixtures import Mixture
from posterity.models.mixtures.moments import is_circular
from posterity.models.mixtures.weights import Weights
from posterity.models.parameters import map_parameters, split

NEXT = ("mean, variance, noise, ambiguity, epistemic", "interval(0.9), hdr(0.9), log_prob(y), sample()")


class PredictiveMixture(Mixture):
    """A `Mixture` of S x K components that remembers which component belongs to which draw.

    Component ``s * K + k`` is component k of draw s. Build one with `from_draws`; everything `Mixture` offers
    (``mean``, ``variance``, ``cdf``, ``icdf``, ``log_prob``, ``sample``) describes the predictive distribution.

    >>> draws = dist.Normal(torch.tensor([[0.0, 5.0], [2.0, 5.0]]), 1.0)  # two draws, two points
    >>> predictive = PredictiveMixture.from_draws(draws)
    >>> predictive.mean, predictive.noise, predictive.epistemic
    (tensor([1., 5.]), tensor([1., 1.]), tensor([1., 0.]))
    """

    def __init__(
        self,
        mixture_distribution: dist.Categorical,
        component_distribution: Distribution,
        num_draws: int,
        validate_args: bool | None = None,
    ) -> None:
        total = component_distribution.batch_shape[-1] if component_distribution.batch_shape else 0
        if num_draws < 1 or total == 0 or total % num_draws:
            raise ValueError(f"expected a multiple of {num_draws} draws' components, got {total}")
        self.num_draws = num_draws
        super().__init__(mixture_distribution, component_distribution, validate_args=validate_args)

    @classmethod
    def from_draws(cls, likelihood: Distribution, log_draw_weights: Tensor | None = None) -> "PredictiveMixture":
        """Average a likelihood of batch shape (S, ...) over its first dimension.

        ``log_draw_weights`` (S,) are log weights of the draws, not necessarily normalised; equal by default.
        Raises ``ValueError`` if there is no batch dimension, or the weights have another shape.
        """
        if not likelihood.batch_shape:
            raise ValueError("expected a likelihood of batch shape (draws, ...), got a batch shape of ()")
        num_draws, *batch = likelihood.batch_shape
        ndim = len(batch)
        tensors, rebuild = split(likelihood)
        moved = rebuild([tensor.movedim(0, ndim) for tensor in tensors])
        if isinstance(moved, MixtureSameFamily):
            within = moved.mixture_distribution.logits.log_softmax(-1)  # (..., S, K)
            components = map_parameters(moved.component_distribution, lambda t: t.flatten(ndim, ndim + 1))
        else:
            like = next((tensor for tensor in tensors if tensor.is_floating_point()), torch.empty(0))
            within = like.new_zeros((*batch, num_draws, 1))
            components = moved
        if log_draw_weights is None:
            log_draw_weights = within.new_zeros(num_draws)
        if log_draw_weights.shape != (num_draws,):
            raise ValueError(f"expected log_draw_weights of shape ({num_draws},), got {tuple(log_draw_weights.shape)}")
        logits = (within + log_draw_weights.log_softmax(-1).to(within)[:, None]).flatten(-2)
        return cls(Weights(logits), components, num_draws)

    @property
    def components_per_draw(self) -> int:
        """The number of components K of each draw."""
        return self.num_components // self.num_draws

    @property
    def per_draw(self) -> Mixture:
        """The predictive distribution of each draw: a `Mixture` of batch shape (..., S) with K components."""
        ndim, shape = len(self.batch_shape), (self.num_draws, self.components_per_draw)
        components = map_parameters(self.component_distribution, lambda t: t.unflatten(ndim, shape))
        logits = self.log_weights.unflatten(-1, shape)
        # A draw of weight 0 gets arbitrary finite weights: nan would spread into every average.
        logits = torch.where(logits.logsumexp(-1, keepdim=True) > -torch.inf, logits, 0.0)
        return Mixture(Weights(logits), components)

    @property
    def log_draw_weights(self) -> Tensor:
        """Normalised log weights of the draws, shape (..., S)."""
        shape = (self.num_draws, self.components_per_draw)
        return self.log_weights.unflatten(-1, shape).logsumexp(-1)

    @property
    def noise(self) -> Tensor:
        """E_s E_k[sigma²], in squared units of y."""
        return self.within_component

    @property
    def ambiguity(self) -> Tensor:
        """E_s Var_k[mu], in squared units of y; zero if each draw has one component."""
        return self._over_draws(self.per_draw.between_component)

    @property
    def epistemic(self) -> Tensor:
        """Var_s[E_k mu], in squared units of y; zero for a single draw.

        For angles it is the circular variance minus the average circular variance of the draws.
        """
        if is_circular(self.component_distribution):
            return (self.variance - self._over_draws(self.per_draw.variance)).clamp_min(0)
        means = self.per_draw.mean
        centred = means - self.mean.unsqueeze(-1 - len(self.event_shape))
        return self._over_draws(centred**2)

    def _over_draws(self, values: Tensor) -> Tensor:
        event_ndim = len(self.event_shape)
        weights = self.log_draw_weights.exp()[(...,) + (None,) * event_ndim]
        return (weights * values).sum(-1 - event_ndim)

    def __repr__(self) -> str:
        return f"PredictiveMixture({self._words()})"

    def _repr_html_(self) -> str:
        """Rows, draws and components, and a summary of the first rows alone."""
        rows = self.batch_shape[-1] if self.batch_shape else 1
        place: Any = (*(0,) * (len(self.batch_shape) - 1), slice(ROWS)) if self.batch_shape else ()
        logits = self._logits.expand(*self.batch_shape, self.num_components)[place]
        few = Mixture(Weights(logits), map_parameters(self.component_distribution, lambda t: t[place]))
        header, lines = summarise_rows(few)
        more = f"the first of {count(rows, 'row')}" if rows > ROWS else ""
        return panel(
            "PredictiveMixture",
            paragraph(self._words()),
            table(header, lines, more) if lines else "",
            listing("Next", NEXT, code=True),
        )

    def _words(self) -> str:
        rows = count(self.batch_shape[0], "row") if len(self.batch_shape) == 1 else f"batch {tuple(self.batch_shape)}"
        draws, components = count(self.num_draws, "draw"), count(self.components_per_draw, "component")
        family = type(base_of(self.component_distribution)).__name__
        targets = f", {self.event_shape[0]} targets" if self.event_shape else ""
        return f"{rows}, {draws} of {components} each, {family}{targets}"

    def with_parts(self, mixing: dist.Categorical, components: Distribution) -> "PredictiveMixture":
        return PredictiveMixture(mixing, components, self.num_draws)

    def expand(self, batch_shape: Size, _instance: "PredictiveMixture | None" = None) -> "PredictiveMixture":
        new = self._get_checked_instance(PredictiveMixture, _instance)
        new.num_draws = self.num_draws
        return super().expand(batch_shape, _instance=new)


def summarise_rows(mixture: Mixture) -> tuple[list[str], list[list[Any]]]:
    """The header and rows of a table with mean, standard deviation and central 90 % interval of each mixture.

    ``mixture`` has batch shape (N,) or (). Classes have probabilities instead. A column that is not defined for the
    family is left out.
    """
    columns: dict[str, Tensor] = {}
    with contextlib.suppress(ValueError, NotImplementedError):
        columns["mean"] = mixture.mean
        columns["sd"] = mixture.variance.sqrt()
    with contextlib.suppress(ValueError, NotImplementedError):
        columns["5 %"], columns["95 %"] = mixture.interval(0.9)
    if isinstance(base_of(mixture.component_distribution), torch.distributions.Categorical):
        classes = range(min(COLUMNS, mixture.component_distribution.logits.shape[-1]))
        shape = mixture.batch_shape
        columns = {f"P(class {c})": mixture.log_prob(torch.full(shape, float(c))).exp() for c in classes}
    cells = {name: value.reshape(-1, *mixture.event_shape).tolist() for name, value in columns.items()}
    lines = [[row, *(_cell(value) for value in values)] for row, values in enumerate(zip(*cells.values(), strict=True))]
    return ["row", *cells], lines


def base_of(distribution: Distribution) -> Distribution:
    """The distribution inside ``to_event`` and masks."""
    while hasattr(distribution, "base_dist") and isinstance(distribution, Independent | MaskedDistribution):
        distribution = distribution.base_dist
    return distribution


def _cell(value: Any) -> Any:
    return ", ".join(short(one) for one in value[:ROWS]) if isinstance(value, list) else value
