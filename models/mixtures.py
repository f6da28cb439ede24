"""Mixtures of one family: the distribution that every predictor of this package ends in.

`Mixture` is Pyro's ``MixtureSameFamily`` (use it in a model like any other distribution) with what an analysis
asks of it afterwards: quantiles, both tails, responsibilities, a temperature, and the variance split in its part
within components and its part between them.

`mixture_head` turns the last features of a network into a `Mixture` of normals; together they are a mixture
density network (Bishop 1994, "Mixture density networks", Aston University NCRG/94/004).
"""

import math
from typing import Any, Self

import pyro.distributions as dist
import torch
from torch import Size, Tensor
from torch.distributions import Distribution

from posterity.data.affine import affine
from posterity.models import tails
from posterity.models.likelihoods import floored_scale
from posterity.models.parameters import map_parameters, split

MAX_QUANTILE_STEPS = 200


class Mixture(dist.MixtureSameFamily):
    """A mixture of K components of one family, for one target dimension.

    Takes ``(mixture_distribution, component_distribution)`` as ``torch.distributions.MixtureSameFamily`` does:
    a ``Categorical`` of batch shape ``(...)`` and K categories, and components of batch shape ``(..., K)``.
    Moments and `log_prob` also hold for components with event dimensions; distribution functions need a scalar
    event and raise ``ValueError`` otherwise.

    >>> mixture = Mixture.normal(logits=torch.zeros(2), loc=torch.tensor([-1.0, 1.0]), scale=torch.tensor(0.5))
    >>> mixture.within_component, mixture.between_component
    (tensor(0.2500), tensor(1.))
    >>> mixture.icdf(torch.tensor(0.5)).abs() < 1e-6
    tensor(True)
    """

    @classmethod
    def normal(cls, logits: Tensor, loc: Tensor, scale: Tensor) -> "Mixture":
        """A mixture of normals from ``logits``, ``loc`` and ``scale``, each broadcastable to (..., K).

        ``logits`` need not be normalised. Raises ``ValueError`` where the shapes do not broadcast.
        """
        try:
            logits, loc, scale = torch.broadcast_tensors(logits, loc, scale)
        except RuntimeError:
            raise ValueError(
                "expected logits, loc and scale that broadcast to (..., K), got "
                f"{tuple(logits.shape)}, {tuple(loc.shape)} and {tuple(scale.shape)}"
            ) from None
        return cls(dist.Categorical(logits=logits), dist.Normal(loc, scale))

    @property
    def num_components(self) -> int:
        """K, the number of components."""
        return self.component_distribution.batch_shape[-1]

    @property
    def log_weights(self) -> Tensor:
        """Normalised log weights, shape (..., K)."""
        logits = self.mixture_distribution.logits
        return torch.log_softmax(logits, -1).expand(*self.batch_shape, self.num_components)

    @property
    def mean(self) -> Tensor:
        return _average(self.log_weights.exp(), self.component_distribution.mean, self._event_ndim)

    @property
    def within_component(self) -> Tensor:
        """E_k[Var(Y|k)], shape (...) + event: the spread left once the component is known."""
        return _average(self.log_weights.exp(), self.component_distribution.variance, self._event_ndim)

    @property
    def between_component(self) -> Tensor:
        """Var_k(E[Y|k]), shape (...) + event: the spread of the answers."""
        means = self.component_distribution.mean
        centred = means - self.mean.unsqueeze(-1 - self._event_ndim)
        return _average(self.log_weights.exp(), centred**2, self._event_ndim)

    @property
    def variance(self) -> Tensor:
        return self.within_component + self.between_component

    def responsibilities(self, value: Tensor) -> Tensor:
        """P(component k | Y = value), shape (..., K); rows sum to one."""
        component = self.component_distribution.log_prob(value.unsqueeze(-1 - self._event_ndim))
        return torch.softmax(self.log_weights + component, -1)

    def cdf(self, value: Tensor) -> Tensor:
        """P(Y <= value), shape as ``log_prob``."""
        self._require_scalar_event("cdf")
        return (self.log_weights.exp() * tails.cdf(self.component_distribution, value.unsqueeze(-1))).sum(-1)

    def sf(self, value: Tensor) -> Tensor:
        """P(Y > value), accurate where it is tiny (``1 - cdf`` would be 0)."""
        self._require_scalar_event("sf")
        return (self.log_weights.exp() * tails.sf(self.component_distribution, value.unsqueeze(-1))).sum(-1)

    def icdf(self, probability: Tensor | float) -> Tensor:
        """Quantiles, by Newton steps kept inside a bracket that halves at least every fourth step.

        ``probability`` broadcasts against the batch shape: for quantiles of a batch (N,), pass (Q, 1) to get
        (Q, N). A mixture's quantile lies between the smallest and the largest of its components' quantiles, so
        the bracket is exact. Accurate to the dtype. No gradient passes.
        Raises ``ValueError`` for a probability outside [0, 1].
        """
        self._require_scalar_event("icdf")
        like = self.component_distribution.mean
        probability = torch.as_tensor(probability, dtype=like.dtype, device=like.device)
        if not bool(((probability >= 0) & (probability <= 1)).all()):
            raise ValueError(f"expected probabilities in [0, 1], got {probability.flatten()[:5].tolist()}")
        shape = torch.broadcast_shapes(probability.shape, self.batch_shape)
        # A step may leave the support of a component, where the distribution function is 0 or 1 and not an error.
        unchecked = self.with_parts(self.mixture_distribution, map_parameters(self.component_distribution, torch.clone))
        unchecked._validate_args = False
        with torch.no_grad():
            return unchecked._solve_quantile(probability.expand(shape))

    def _solve_quantile(self, probability: Tensor) -> Tensor:
        # Solved for the smaller tail, so that quantiles next to 1 are as accurate as those next to 0.
        upper = probability > 0.5
        target = torch.where(upper, 1 - probability, probability)
        ends = tails.icdf(self.component_distribution, probability.unsqueeze(-1))
        ends = ends.expand(*probability.shape, self.num_components)
        present = (self.log_weights > -math.inf).expand(ends.shape)
        low = ends.masked_fill(~present, math.inf).amin(-1)
        high = ends.masked_fill(~present, -math.inf).amax(-1)
        unbounded = torch.isinf(low) | torch.isinf(high)
        answer = torch.where(unbounded, torch.where(upper, high, low), low)
        # Where the answer is infinite the loop needs any point of the support: the first component's median.
        middle = tails.icdf(self.component_distribution, torch.full_like(ends, 0.5))[..., 0]
        guess = torch.where(unbounded, middle, 0.5 * (low + high))
        tolerance = 4 * torch.finfo(guess.dtype).eps
        width = high - low
        for step in range(MAX_QUANTILE_STEPS):
            below, above = self.cdf(guess), self.sf(guess)
            excess = torch.where(upper, target - above, below - target)
            low, high = torch.where(excess < 0, guess, low), torch.where(excess < 0, high, guess)
            newton = guess - excess / self.log_prob(guess).exp().clamp_min(torch.finfo(guess.dtype).tiny)
            inside = (newton > low) & (newton < high)
            # Newton closes in from one side, so the bracket stays wide: the probability says when it has arrived.
            done = (excess.abs() <= 16 * tolerance * target) | (high - low <= tolerance * guess.abs()) | unbounded
            if bool(done.all()):
                break
            # Every fourth step must halve the bracket, or Newton may creep where the density is nearly flat.
            slow = (high - low > 0.5 * width) & (step % 4 == 3)
            width = high - low if step % 4 == 3 else width
            proposal = torch.where(inside & ~slow, newton, 0.5 * (low + high))
            guess = torch.where(done, guess, proposal)
        return torch.where(unbounded, answer, guess)

    def sample(self, sample_shape: Size = Size()) -> Tensor:  # noqa: B008 - torch's own default
        """Samples of shape sample_shape + batch + event: a component first, then a draw from it alone."""
        with torch.no_grad():
            chosen = self.mixture_distribution.expand(self.batch_shape).sample(sample_shape)
            tensors, rebuild = split(self.component_distribution)
            ndim = len(self.batch_shape)

            def pick(parameter: Tensor) -> Tensor:
                own = parameter.shape[ndim + 1 :]
                index = chosen.reshape(chosen.shape + (1,) * (1 + len(own)))
                spread = parameter.expand(chosen.shape + parameter.shape[ndim:])
                return spread.gather(chosen.ndim, index.expand(*chosen.shape, 1, *own)).squeeze(chosen.ndim)

            return rebuild([pick(tensor) for tensor in tensors]).sample()

    def to(self, *args: Any) -> Self:
        """On another device or in another dtype, as ``Tensor.to``: diagnostics work in float64."""
        return map_parameters(self, lambda tensor: tensor.to(*args))

    def __getitem__(self, index: Any) -> Self:
        """The mixtures at some places of the batch, indexed as a tensor of shape (...) would be."""
        if not self.batch_shape:
            raise ValueError("expected a mixture with a batch to index, got a single one")
        return map_parameters(self, lambda tensor: tensor[index])

    def with_parts(self, mixing: dist.Categorical, components: Distribution) -> "Mixture":
        """The same kind of mixture around other weights and components."""
        return type(self)(mixing, components)

    def affine(self, loc: Tensor | float, scale: Tensor | float) -> "Mixture":
        """The mixture of ``loc + scale * Y``, scale > 0: how a standardised prediction gets its units back.

        ``loc`` and ``scale`` are the same for the whole batch: numbers, or tensors of the event shape. Raises
        ``ValueError`` for other shapes, which would be taken for the components'.
        """
        for name, value in (("loc", loc), ("scale", scale)):
            shape = tuple(getattr(value, "shape", ()))
            if shape not in ((), tuple(self.event_shape)):
                raise ValueError(f"expected {name} of shape () or {tuple(self.event_shape)}, got {shape}")
        return self.with_parts(self.mixture_distribution, affine(self.component_distribution, loc, scale))

    def tempered(self, temperature: float) -> "Mixture":
        """Weights to the power 1/temperature, renormalised, and scales times sqrt(temperature).

        The sampling temperature of world models (Ha & Schmidhuber 2018, eq. in section 2.2): below one the
        samples are safer than the data, above one wilder. Components: Normal, StudentT or Laplace.
        """
        if not temperature > 0:
            raise ValueError(f"expected a temperature above 0, got {temperature}")
        weights = dist.Categorical(logits=self.log_weights / temperature)
        components, factor = self.component_distribution, math.sqrt(temperature)
        centre = getattr(components, "loc", None)
        centre = components.mean if centre is None else centre  # Student's t has a centre where it has no mean
        return self.with_parts(weights, affine(components, (1 - factor) * centre, factor))

    @property
    def _event_ndim(self) -> int:
        return len(self.event_shape)

    def _require_scalar_event(self, what: str) -> None:
        if self._event_ndim:
            raise ValueError(f"expected one target dimension for {what}, got event shape {tuple(self.event_shape)}")


def mixture_head(components: int, *, floor: float = 1e-3, spread: float = 1.0) -> "MixtureHead":
    """A function from a network's last features (..., 3 K) to a `Mixture` of K normals; see `MixtureHead`."""
    return MixtureHead(components, floor, spread)


class MixtureHead:
    """Features (..., 3 K) -> `Mixture` with batch shape (...), K normal components.

    The features are K logits, K locations and K log-scales. Two things keep training from collapsing:

    - ``scale = sqrt(floor² + exp(2 s))``, computed in log space: the scale of a component is never below
      ``floor``, which is the resolution at which y is known (in units of the head's y: divide a resolution
      in the units of the data by the standardisation's scale). A rounding step of d has sd d/sqrt(12).
    - component k starts at the normal quantile of (k + 1/2)/K times ``spread``, so that the components begin
      apart, in the order of their index, and cover a standardised y.

    Raises ``ValueError`` for fewer than one component, a floor that is not positive, or features whose last
    dimension is not 3 K.

    >>> mixture_head(components=2)(torch.zeros(5, 6)).batch_shape
    torch.Size([5])
    """

    def __init__(self, components: int, floor: float, spread: float) -> None:
        if components < 1:
            raise ValueError(f"expected at least 1 component, got {components}")
        if not 0 < floor < math.inf:
            raise ValueError(f"expected a finite floor above 0 (the resolution of y), got {floor}")
        if not 0 < spread < math.inf:
            raise ValueError(f"expected a finite spread above 0, got {spread}")
        self.components, self.floor, self.spread = components, float(floor), float(spread)
        positions = (torch.arange(components, dtype=torch.double) + 0.5) / components
        self._anchors = spread * torch.special.ndtri(positions)
        # K components of this width, side by side at the anchors, make up about one of width ``spread``.
        self._log_width = math.log(spread) - 0.5 * math.log(components)

    @property
    def features(self) -> int:
        """How many features the head expects: 3 K."""
        return 3 * self.components

    def __call__(self, features: Tensor) -> Mixture:
        if features.ndim == 0 or features.shape[-1] != self.features:
            raise ValueError(
                f"expected features of shape (..., {self.features}) for {self.components} components, "
                f"got {tuple(features.shape)}"
            )
        logits, loc, log_scale = features.unflatten(-1, (3, self.components)).unbind(-2)
        anchors = self._anchors.to(features)
        scale = floored_scale(log_scale + self._log_width, self.floor)
        return Mixture(dist.Categorical(logits=logits), dist.Normal(anchors + loc, scale))

    def __repr__(self) -> str:
        return f"mixture_head(components={self.components}, floor={self.floor}, spread={self.spread})"


def _average(weights: Tensor, values: Tensor, event_ndim: int) -> Tensor:
    """Weighted sum over the component dimension, which stands just before the event dimensions."""
    return (weights[(...,) + (None,) * event_ndim] * values).sum(-1 - event_ndim)
