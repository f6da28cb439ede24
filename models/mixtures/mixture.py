"""Mixtures of one family: the predictive distribution of all methods of this package.

`Mixture` is Pyro's ``MixtureSameFamily``, for use in a model like any other distribution, with the methods of a later
analysis: quantiles, both tails, modes, highest-density regions, responsibilities, a temperature, marginal and
conditional mixtures of several targets, gradients of samples, and the variance within and between components.
"""

import math
from collections.abc import Sequence
from typing import Any, Self

import numpy as np
import pyro.distributions as dist
import torch
from torch import Size, Tensor
from torch.distributions import Distribution

from posterity.data.affine import affine
from posterity.models import tails
from posterity.models.mixtures import diagonal, fused, moments, pathwise, quantiles, subspace
from posterity.models.mixtures.arguments import (
    as_tensor_like,
    batch_places,
    broadcastable,
    check_loc_and_scale,
    check_value,
    checked_normal,
    multivariate_parts,
)
from posterity.models.mixtures.drawing import gather_components
from posterity.models.mixtures.modes import Modes, find_modes
from posterity.models.mixtures.regions import Regions, find_regions, level_at
from posterity.models.mixtures.weights import Weights
from posterity.models.parameters import map_parameters
from posterity.validation import check_floating, check_integer, check_number, shown, to_numbers


class Mixture(dist.MixtureSameFamily):
    """A mixture of K components of one family, for one target or several.

    Built from ``(mixture_distribution, component_distribution)``, as ``torch.distributions.MixtureSameFamily``: a
    ``Categorical`` of batch shape ``(...)`` and K categories, and components of batch shape ``(..., K)``. Families:

    - for one target: Normal, StudentT, Laplace, LogNormal, Gamma, Beta; Poisson, Bernoulli, Binomial, Geometric and
      NegativeBinomial for counts; VonMises for angles in (-pi, pi], whose mean and variance are circular (see
      `posterity.models.mixtures.moments`);
    - for several targets: MultivariateNormal, LowRankMultivariateNormal, or Normal with ``to_event(1)``.

    Moments, `log_prob` and samples are available for other families too. Distribution functions, quantiles and regions
    need a scalar event and a family with a distribution function; `marginal` reduces several targets to one.

    Raises:
        ValueError: a weight distribution that is not a ``Categorical``, or components that are not a distribution; in
            methods, an event shape or a family for which the result is not defined.

    >>> mixture = Mixture.normal(logits=torch.zeros(2), loc=torch.tensor([-1.0, 1.0]), scale=torch.tensor(0.5))
    >>> mixture.within_component, mixture.between_component
    (tensor(0.2500), tensor(1.))
    >>> mixture.icdf(torch.tensor(0.5)).abs() < 1e-6
    tensor(True)
    """

    def __init__(
        self,
        mixture_distribution: dist.Categorical,
        component_distribution: Distribution,
        validate_args: bool | None = None,
    ) -> None:
        for name, given, kind in (
            ("mixture_distribution", mixture_distribution, torch.distributions.Categorical),
            ("component_distribution", component_distribution, Distribution),
        ):
            if not isinstance(given, kind):
                raise ValueError(f"expected {name} to be a {kind.__name__}, got {type(given).__name__}")
        lazy = isinstance(mixture_distribution, Weights)
        mixing = mixture_distribution.unnormalized() if lazy else mixture_distribution
        super().__init__(mixing, component_distribution, validate_args=validate_args)
        self._batch_shape, self._event_shape = Size(self.batch_shape), Size(self.event_shape)  # tuples in some of Pyro
        self._mixture_distribution = mixture_distribution

    def expand(self, batch_shape: Any, _instance: Any = None) -> Self:
        new: Self = super().expand(batch_shape, self._get_checked_instance(Mixture, _instance))
        return new

    @classmethod
    def normal(cls, logits: Tensor, loc: Tensor, scale: Tensor) -> "Mixture":
        """A mixture of normals from ``logits``, ``loc`` and ``scale``, which broadcast to (..., K).

        ``logits`` need not be normalised.

        Raises:
            ValueError: the shapes do not broadcast, or a parameter is not a floating tensor.
        """
        for name, value in (("logits", logits), ("loc", loc), ("scale", scale)):
            check_floating(name, value)
        try:
            logits, loc, scale = torch.broadcast_tensors(logits, loc, scale)
        except RuntimeError:
            raise ValueError(
                "expected logits, loc and scale to broadcast to (..., K), got "
                f"{tuple(logits.shape)}, {tuple(loc.shape)} and {tuple(scale.shape)}"
            ) from None
        return cls(Weights(logits), checked_normal(loc, scale))

    @classmethod
    def multivariate_normal(cls, logits: Tensor, loc: Tensor, scale: Tensor) -> "Mixture":
        """A mixture of normals of D targets: ``logits`` (..., K), ``loc`` (..., K, D), and ``scale``.

        A ``scale`` of shape (..., K, D) has the standard deviations of targets that are independent within a component;
        one of shape (..., K, D, D) is the lower Cholesky factor of a full covariance.

        Raises:
            ValueError: parameters of other shapes.
        """
        logits, components = multivariate_parts(logits, loc, scale)
        return cls(Weights(logits), components)

    @property
    def num_components(self) -> int:
        """K, the number of components."""
        return self.component_distribution.batch_shape[-1]

    @property
    def log_weights(self) -> Tensor:
        """Normalised log weights, shape (..., K)."""
        return torch.log_softmax(self._logits, -1).expand(*self.batch_shape, self.num_components)

    @property
    def _logits(self) -> Tensor:
        """Log weights that need not be normalised, shape (..., K)."""
        mixing = self.mixture_distribution
        return mixing.raw if isinstance(mixing, Weights) else mixing.logits

    @property
    def mean(self) -> Tensor:
        """E[Y], shape (...) + event."""
        return moments.mean(self.log_weights.exp(), self.component_distribution)

    @property
    def within_component(self) -> Tensor:
        """E_k[Var(Y|k)], shape (...) + event: the variance that remains if the component is known."""
        return moments.within(self.log_weights.exp(), self.component_distribution)

    @property
    def between_component(self) -> Tensor:
        """Var_k(E[Y|k]), shape (...) + event: the variance of the components' means."""
        return moments.between(self.log_weights.exp(), self.component_distribution)

    @property
    def covariance_matrix(self) -> Tensor:
        """Cov(Y), shape (..., D, D); ``ValueError`` for a scalar event."""
        if self._event_ndim != 1:
            raise ValueError(f"expected several targets for a covariance, got event shape {tuple(self.event_shape)}")
        return moments.covariance(self.log_weights.exp(), self.component_distribution)

    @property
    def variance(self) -> Tensor:
        """Var(Y), shape (...) + event: the sum of `within_component` and `between_component`."""
        return self.within_component + self.between_component

    def responsibilities(self, value: Tensor) -> Tensor:
        """P(component k | Y = value), shape (..., K)."""
        value = self._point(value)
        component = self.component_distribution.log_prob(value.unsqueeze(-1 - self._event_ndim))
        return torch.softmax(self.log_weights + component, -1)

    def log_prob(self, value: Tensor) -> Tensor:
        """log p(value) in nats, shape (...); of normals by the modules `fused` and `diagonal`, where they apply."""
        logits, components = self._logits, self.component_distribution
        one = fused.applies(logits, components, value)
        if not one and not diagonal.applies_to_vectors(logits, components, value):
            return super().log_prob(value)
        if self._validate_args:
            self._validate_sample(value)
        if one:
            return fused.log_prob(logits, components.loc, components.scale, value)
        normal = components.base_dist
        return diagonal.log_prob_of_vectors(logits, normal.loc, normal.scale, value)

    def _validate_sample(self, value: Tensor) -> None:
        if not isinstance(value, Tensor) or value.is_complex() or value.dtype == torch.bool:
            raise ValueError(f"expected value to be a tensor of real numbers, got {shown(value)}")
        check_value(value, self.batch_shape, self.event_shape, self._logits)
        if value.numel():  # torch's check cannot reshape an empty tensor
            super()._validate_sample(value)

    def cdf(self, value: Tensor) -> Tensor:
        """P(Y <= value), shape (...)."""
        self._require_scalar_event("cdf")
        point = self._point(value).unsqueeze(-1)
        return (self.log_weights.exp() * tails.cdf(self.component_distribution, point)).sum(-1)

    def sf(self, value: Tensor) -> Tensor:
        """P(Y > value), shape (...), accurate where ``1 - cdf`` would round to 0."""
        self._require_scalar_event("sf")
        point = self._point(value).unsqueeze(-1)
        return (self.log_weights.exp() * tails.sf(self.component_distribution, point)).sum(-1)

    def icdf(self, probability: Tensor | float | Sequence[float]) -> Tensor:
        """Quantiles, by Newton steps inside a bracket that is at least halved in every fourth step.

        A number gives one quantile for each mixture of the batch (...), a list of Q levels gives (Q, ...). A tensor
        broadcasts against the batch shape, as in torch; a tensor that does not broadcast is a set of levels and gives
        the shape of the levels + (...). A tensor of Q levels for a batch of Q or of one is therefore one level for
        each mixture: for Q levels of each pass a list, or a tensor (Q, 1).

        The quantile of a mixture lies between the smallest and the largest quantile of its components: the bracket is
        exact. The result is accurate to the dtype; for counts it is the smallest count whose distribution function
        reaches the probability. It carries no gradient.

        Raises:
            ValueError: a probability outside [0, 1].
        """
        self._require_scalar_event("icdf")
        like = self.component_distribution.mean
        levels = not isinstance(probability, Tensor)
        probability = as_tensor_like("probability", probability, like)
        if levels or not broadcastable(probability.shape, self.batch_shape):
            probability = probability.reshape((*probability.shape, *(1,) * len(self.batch_shape)))
        if not bool(((probability >= 0) & (probability <= 1)).all()):
            raise ValueError(f"expected probability to be a number in [0, 1], got {probability.flatten()[:5].tolist()}")
        shape = np.broadcast_shapes(probability.shape, self.batch_shape)
        # A step may leave the support of a component, where the distribution function is 0 or 1, not an error.
        unchecked = self.with_parts(self.mixture_distribution, map_parameters(self.component_distribution, torch.clone))
        unchecked._validate_args = False
        with torch.no_grad():
            return quantiles.mixture_quantiles(unchecked, probability.expand(shape))

    def interval(self, level: float = 0.9) -> tuple[Tensor, Tensor]:
        """Both ends, each of the batch shape, of the central interval of probability ``level``.

        Equal probabilities (1 - level) / 2 lie below and above. If there are several modes, the smallest region of this
        probability is shorter: see `hdr`.

        Raises:
            ValueError: ``level`` outside (0, 1).

        >>> Mixture.normal(torch.zeros(1), torch.zeros(1), torch.ones(1)).interval(0.9)
        (tensor(-1.6449), tensor(1.6449))
        """
        check_number("level", level, "(0, 1)")
        low, high = self.icdf([0.5 * (1 - level), 0.5 * (1 + level)])
        return low, high

    def quantiles(self, levels: Sequence[float] = (0.05, 0.5, 0.95)) -> Tensor:
        """The quantiles of each mixture at Q ``levels``, shape (..., Q): one row for each mixture, ascending as levels.

        The last dimension is that of the levels, as in ``predict_quantiles`` of the estimators; `icdf` has it first.

        Raises:
            ValueError: ``levels`` are not numbers in [0, 1].

        >>> Mixture.normal(torch.zeros(3, 1), torch.arange(3.0)[:, None], torch.ones(3, 1)).quantiles([0.025, 0.5])
        tensor([[-1.9600,  0.0000],
                [-0.9600,  1.0000],
                [ 0.0400,  2.0000]])
        """
        wanted = to_numbers("levels", levels)
        if wanted.ndim != 1 or not len(wanted) or not ((wanted >= 0) & (wanted <= 1)).all():
            raise ValueError(f"expected levels to be a sequence of numbers in [0, 1], got {shown(levels)}")
        return self.icdf(wanted.tolist()).movedim(0, -1)

    def modes(self, min_probability: float = 0.0) -> Modes:
        """All local maxima of the density, the highest first: see `Modes`.

        Modes of a probability below ``min_probability`` are left out: each component far from the others makes a mode,
        however small its weight. For one target, or several with normal components. Modes are computed in double
        precision and carry no gradient.

        Raises:
            ValueError: ``min_probability`` outside [0, 1), or components of several targets that are not normal.

        >>> two = Mixture.normal(torch.tensor([0.4, 0.6]).log(), torch.tensor([-1.0, 1.0]), torch.tensor(0.5))
        >>> two.modes().location, two.modes().probability
        (tensor([ 0.9996, -0.9990]), tensor([0.6026, 0.3974]))
        """
        return find_modes(self, min_probability)

    def hdr(self, level: float) -> Regions:
        """The smallest region of probability ``level``, as a union of intervals: see `Regions`.

        Hyndman 1996, "Computing and graphing highest density regions", The American Statistician 50. Regions are
        computed in double precision and carry no gradient.

        Raises:
            ValueError: a level outside (0, 1), or several targets.

        >>> two = Mixture.normal(torch.zeros(2), torch.tensor([-1.0, 1.0]), torch.tensor(0.5))
        >>> region = two.hdr(0.5)
        >>> region.lower, region.upper
        (tensor([-1.3350,  0.6612]), tensor([-0.6612,  1.3350]))
        """
        self._require_scalar_event("hdr")
        return find_regions(self, level)

    def hdr_level(self, value: Tensor) -> Tensor:
        """The probability of the highest-density region on whose border ``value`` (...) lies, shape (...).

        ``value`` is inside ``hdr(q)`` if this level is below q. For draws from the mixture the level is uniform on
        (0, 1), however many modes there are: the coverage of regions at all levels follows from it, many times faster
        than from `hdr`. (For counts the level is larger, by up to the probability of the count.)

        Raises:
            ValueError: a value of another shape or outside the support, or several targets.

        >>> normal = Mixture.normal(torch.zeros(1), torch.zeros(1), torch.ones(1))
        >>> normal.hdr_level(torch.tensor(1.96)).round(decimals=3)
        tensor(0.9500)
        """
        self._require_scalar_event("hdr_level")
        value = value if isinstance(value, Tensor) else as_tensor_like("value", value, self._logits)
        if self._validate_args and value.shape == self.batch_shape:
            self._validate_sample(value)
        return level_at(self, value)

    def marginal(self, targets: int | list[int]) -> "Mixture":
        """The mixture of some of several targets, in the given order; with an ``int`` a mixture of scalars.

        Raises:
            ValueError: targets that do not exist or are repeated, or components that are not normal.
        """
        return self.with_parts(self.mixture_distribution, subspace.marginal(self.component_distribution, targets))

    def conditional(self, targets: int | list[int], value: Tensor) -> "Mixture":
        """The mixture of the other targets given that ``targets`` have this ``value``.

        ``value`` is (...) for an ``int``, (..., number of targets) for a list; further dimensions on the left are added
        to the batch. The other targets keep their order; a single one gives a mixture of scalars.

        Raises:
            ValueError: targets that do not exist, are repeated, or leave no others, or components that are not normal.
        """
        evidence, components = subspace.condition(self.component_distribution, targets, value)
        return self.with_parts(Weights(self.log_weights + evidence), components)

    def entropy(self, draws: int = 1000) -> Tensor:
        """-E[log p(Y)] in nats, shape (...), as the mean over ``draws`` samples: see `sampled_entropy`."""
        return self.sampled_entropy(draws)[0]

    def sampled_entropy(self, draws: int = 1000) -> tuple[Tensor, Tensor]:
        """-E[log p(Y)] in nats from samples, and its standard error; both of shape (...).

        The entropy of a mixture has no closed form. Samples use torch's global generator, as in ``sample``.

        Raises:
            ValueError: fewer than two draws.
        """
        check_integer("draws", draws, 2)
        surprise = -self.log_prob(self.sample(Size((draws,))))
        return surprise.mean(0), surprise.std(0) / math.sqrt(draws)

    @property
    def has_rsample(self) -> bool:  # type: ignore[override]
        """Whether samples carry gradients: with Normal, Laplace or LogNormal components, or multivariate normals."""
        return pathwise.has_gradients(self.component_distribution)

    def rsample(self, sample_shape: Size = Size()) -> Tensor:  # noqa: B008 - torch's own default
        """As `sample`, with gradients by weights and parameters from implicit reparameterisation (`pathwise`).

        Raises:
            ValueError: components whose distribution function has no derivatives.
            RuntimeError: at a second derivative.
        """
        if not self.has_rsample:
            raise ValueError(
                "expected Normal, Laplace or LogNormal components, or normals of several targets, for rsample, got "
                f"{type(self.component_distribution).__name__}"
            )
        return pathwise.attach(self.log_weights, self.component_distribution, self.sample(sample_shape))

    def sample(self, sample_shape: Size = Size()) -> Tensor:  # noqa: B008 - torch's own default
        """Samples of shape sample_shape + batch + event: a drawn component, then a draw from it."""
        with torch.no_grad():
            logits = self._logits
            uniform = torch.rand(sample_shape + self.batch_shape, dtype=logits.dtype, device=logits.device)
            chosen = fused.pick(logits.expand(*uniform.shape, logits.shape[-1]), uniform)
            return gather_components(self.component_distribution, chosen).sample()

    def to(self, *args: Any) -> Self:
        """The mixture on another device or in another dtype, with the arguments of ``Tensor.to``."""
        return map_parameters(self, lambda tensor: tensor.to(*args))

    def __getitem__(self, index: Any) -> Self:
        """The mixtures at an index into the batch, as the index of a tensor of shape (...)."""
        if not self.batch_shape:
            raise ValueError("expected a mixture with a batch shape to index, got batch shape ()")
        ndim = len(self.batch_shape)
        places = batch_places(index, self.batch_shape, self._logits.device)
        return map_parameters(self, lambda tensor: tensor.reshape(-1, *tensor.shape[ndim:])[places])

    def with_parts(self, mixing: dist.Categorical, components: Distribution) -> "Mixture":
        """A mixture of the same class with other weights and components."""
        return type(self)(mixing, components)

    def affine(self, loc: Tensor | float, scale: Tensor | float) -> "Mixture":
        """The mixture of ``loc + scale * Y``, scale > 0, as for a standardised prediction in its original units.

        ``loc`` and ``scale`` are the same for the whole batch: numbers, or tensors of the event shape. The result has
        the widest dtype of the mixture and these tensors.

        Raises:
            ValueError: tensors of other shapes, numbers that are not finite, or a scale that is not above 0.
        """
        check_loc_and_scale(loc, scale, self.event_shape, bool(self._validate_args))
        dtype = self._logits.dtype
        for value in (loc, scale):
            if isinstance(value, Tensor) and value.is_floating_point():
                dtype = torch.promote_types(dtype, value.dtype)
        # float32 weights sum to one up to 1e-7, which at a location of 1e9 would move the mean by a hundred.
        wide = self if dtype == self._logits.dtype else self.to(dtype)
        return self.with_parts(wide.mixture_distribution, affine(wide.component_distribution, loc, scale))

    def tempered(self, temperature: float) -> "Mixture":
        """The mixture with weights to the power 1/temperature, renormalised, and scales times sqrt(temperature).

        The sampling temperature of world models (Ha & Schmidhuber 2018, section 2.2): below one, samples vary less than
        the data; above one, more. For Normal, StudentT or Laplace components, and normals of several targets.

        Raises:
            ValueError: a temperature that is not above 0, or components without a location and scale.
        """
        check_number("temperature", temperature, "(0, inf)")
        weights = Weights(self.log_weights / temperature)
        components, factor = self.component_distribution, math.sqrt(temperature)
        centre = getattr(components, "loc", None)
        centre = components.mean if centre is None else centre  # Student's t has a location even without a mean
        return self.with_parts(weights, affine(components, (1 - factor) * centre, factor))

    @property
    def _event_ndim(self) -> int:
        return len(self.event_shape)

    def _point(self, value: Any) -> Tensor:
        return check_value(value, self.batch_shape, self.event_shape, self._logits)

    def _require_scalar_event(self, method: str) -> None:
        if self._event_ndim:
            raise ValueError(f"expected a scalar event for {method}, got event shape {tuple(self.event_shape)}")
