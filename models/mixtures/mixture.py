"""Mixtures of one family: the distribution that every predictor of this package ends in.

`Mixture` is Pyro's ``MixtureSameFamily`` (use it in a model like any other distribution) with what an analysis
asks of it afterwards: quantiles, both tails, modes, highest-density regions, responsibilities, a temperature, marginal
and conditional mixtures of several targets, gradients of samples, and the variance split in its part within
components and its part between them.
"""

import math
from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any, Self

import pyro.distributions as dist
import torch
from torch import Size, Tensor
from torch.distributions import Distribution

from posterity.data.affine import affine
from posterity.models import tails
from posterity.models.mixtures import checked, fused, moments, pathwise, quantiles, subspace
from posterity.models.mixtures.checked import normal
from posterity.models.mixtures.modes import Modes, find_modes
from posterity.models.mixtures.regions import Regions, highest_density, level_at
from posterity.models.mixtures.weights import Weights
from posterity.models.parameters import map_parameters, split
from posterity.validation import check_floating, check_number, is_number


class Mixture(dist.MixtureSameFamily):
    """A mixture of K components of one family, for one target or several.

    Takes ``(mixture_distribution, component_distribution)`` as ``torch.distributions.MixtureSameFamily`` does:
    a ``Categorical`` of batch shape ``(...)`` and K categories, and components of batch shape ``(..., K)``. Components:

    - one target: Normal, StudentT, Laplace, LogNormal, Gamma, Beta; Poisson, Bernoulli, Binomial, Geometric and
      NegativeBinomial for counts; VonMises for angles in (-pi, pi], whose mean and variance are circular (see
      `moments`);
    - several: MultivariateNormal, LowRankMultivariateNormal, or Normal with ``to_event(1)``.

    Moments, `log_prob` and samples hold for other families too. Distribution functions, quantiles and regions need a
    scalar event and a family that has one, and raise ``ValueError`` otherwise; `marginal` gives a scalar event.

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
        self._batch_shape, self._event_shape = Size(self.batch_shape), Size(self.event_shape)  # Pyro's may be tuples
        self._mixture_distribution = mixture_distribution

    def expand(self, batch_shape: Any, _instance: Any = None) -> Self:
        new: Self = super().expand(batch_shape, self._get_checked_instance(Mixture, _instance))
        return new

    @classmethod
    def normal(cls, logits: Tensor, loc: Tensor, scale: Tensor) -> "Mixture":
        """A mixture of normals from ``logits``, ``loc`` and ``scale``, each broadcastable to (..., K).

        ``logits`` need not be normalised. Raises ``ValueError`` where the shapes do not broadcast.
        """
        for name, value in (("logits", logits), ("loc", loc), ("scale", scale)):
            check_floating(name, value)
        try:
            logits, loc, scale = torch.broadcast_tensors(logits, loc, scale)
        except RuntimeError:
            raise ValueError(
                "expected logits, loc and scale that broadcast to (..., K), got "
                f"{tuple(logits.shape)}, {tuple(loc.shape)} and {tuple(scale.shape)}"
            ) from None
        return cls(Weights(logits), normal(loc, scale))

    @classmethod
    def multivariate_normal(cls, logits: Tensor, loc: Tensor, scale: Tensor) -> "Mixture":
        """A mixture of normals of D targets: ``logits`` (..., K), ``loc`` (..., K, D), and ``scale``.

        ``scale`` of shape (..., K, D) is the standard deviation of every target (independent within a component);
        of shape (..., K, D, D) the lower Cholesky factor of a full covariance. Raises ``ValueError`` for others.
        """
        targets = loc.shape[-1] if loc.ndim else 0
        if loc.ndim >= 2 and scale.shape[-2:] == (targets, targets) and scale.ndim == loc.ndim + 1:
            components = dist.MultivariateNormal(loc, scale_tril=scale)
        elif loc.ndim >= 2 and scale.shape == loc.shape:
            components = dist.Normal(loc, scale).to_event(1)
        else:
            raise ValueError(
                f"expected loc of shape (..., K, D) and scale of the same shape or with another D, got "
                f"{tuple(loc.shape)} and {tuple(scale.shape)}"
            )
        if logits.shape[-1:] != loc.shape[-2:-1]:
            raise ValueError(f"expected logits of shape (..., {loc.shape[-2]}), got {tuple(logits.shape)}")
        try:
            logits = logits.expand(components.batch_shape)
        except RuntimeError:
            raise ValueError(
                f"expected logits that broadcast to {tuple(components.batch_shape)}, got {tuple(logits.shape)}"
            ) from None
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
        """Not necessarily normalised."""
        mixing = self.mixture_distribution
        return mixing.raw if isinstance(mixing, Weights) else mixing.logits

    @property
    def mean(self) -> Tensor:
        return moments.mean(self.log_weights.exp(), self.component_distribution)

    @property
    def within_component(self) -> Tensor:
        """E_k[Var(Y|k)], shape (...) + event: the spread left once the component is known."""
        return moments.within(self.log_weights.exp(), self.component_distribution)

    @property
    def between_component(self) -> Tensor:
        """Var_k(E[Y|k]), shape (...) + event: the spread of the answers."""
        return moments.between(self.log_weights.exp(), self.component_distribution)

    @property
    def covariance_matrix(self) -> Tensor:
        """Cov(Y), shape (..., D, D); ``ValueError`` for a mixture of one target."""
        if self._event_ndim != 1:
            raise ValueError(f"expected several targets for a covariance, got event shape {tuple(self.event_shape)}")
        return moments.covariance(self.log_weights.exp(), self.component_distribution)

    @property
    def variance(self) -> Tensor:
        return self.within_component + self.between_component

    def responsibilities(self, value: Tensor) -> Tensor:
        """P(component k | Y = value), shape (..., K); rows sum to one."""
        value = self._point(value)
        component = self.component_distribution.log_prob(value.unsqueeze(-1 - self._event_ndim))
        return torch.softmax(self.log_weights + component, -1)

    def log_prob(self, value: Tensor) -> Tensor:
        """log p(value) in nats, shape (...). Of very many normals in blocks that fit into the cache: see `fused`."""
        logits, components = self._logits, self.component_distribution
        if not fused.applies(logits, components, value):
            return super().log_prob(value)
        if self._validate_args:
            self._validate_sample(value)
        return fused.log_prob(logits, components.loc, components.scale, value)

    def _validate_sample(self, value: Tensor) -> None:
        if not isinstance(value, Tensor) or value.is_complex() or value.dtype == torch.bool:
            found = value.dtype if isinstance(value, Tensor) else type(value).__name__
            raise ValueError(f"expected value to be a tensor of real numbers, got {found}")
        checked.point(value, self.batch_shape, self.event_shape, self._logits)
        if value.numel():  # torch's check cannot reshape what has no elements
            super()._validate_sample(value)

    def cdf(self, value: Tensor) -> Tensor:
        """P(Y <= value), shape as ``log_prob``."""
        self._require_scalar_event("cdf")
        point = self._point(value).unsqueeze(-1)
        return (self.log_weights.exp() * tails.cdf(self.component_distribution, point)).sum(-1)

    def sf(self, value: Tensor) -> Tensor:
        """P(Y > value), accurate where it is tiny (``1 - cdf`` would be 0)."""
        self._require_scalar_event("sf")
        point = self._point(value).unsqueeze(-1)
        return (self.log_weights.exp() * tails.sf(self.component_distribution, point)).sum(-1)

    def icdf(self, probability: Tensor | float | Sequence[float]) -> Tensor:
        """Quantiles, by Newton steps kept inside a bracket that halves at least every fourth step.

        A number gives one quantile for each mixture of the batch (...), a list of Q levels gives (Q, ...). A tensor
        broadcasts against the batch shape, as in torch; one that does not is taken as levels: shape of levels + (...).
        A tensor of Q levels for a batch of Q or of one is thus one level for each: pass a list, or (Q, 1).

        A mixture's quantile lies between the smallest and the largest of its components' quantiles, so the bracket is
        exact. Accurate to the dtype; of counts the smallest whose distribution function reaches the probability. No
        gradient passes. Raises ``ValueError`` for a probability outside [0, 1].
        """
        self._require_scalar_event("icdf")
        like = self.component_distribution.mean
        levels = not isinstance(probability, Tensor)
        probability = checked.numbers("probabilities", probability, like)
        if levels or not checked.broadcast(probability.shape, self.batch_shape):
            probability = probability.reshape((*probability.shape, *(1,) * len(self.batch_shape)))
        if not bool(((probability >= 0) & (probability <= 1)).all()):
            raise ValueError(f"expected probabilities in [0, 1], got {probability.flatten()[:5].tolist()}")
        shape = torch.broadcast_shapes(probability.shape, self.batch_shape)
        # A step may leave the support of a component, where the distribution function is 0 or 1 and not an error.
        unchecked = self.with_parts(self.mixture_distribution, map_parameters(self.component_distribution, torch.clone))
        unchecked._validate_args = False
        with torch.no_grad():
            return quantiles.solve(unchecked, probability.expand(shape))

    def modes(self, least: float = 0.0) -> Modes:
        """All local maxima of the density, the highest first: see `Modes`.

        ``least`` leaves out modes that hold less probability than that: every component far from the others makes
        one, however small its weight. Of one target or several (normal components). Found in double precision; no
        gradient passes. Raises ``ValueError`` for ``least`` outside [0, 1), or components of several targets that
        are not normal.

        >>> two = Mixture.normal(torch.zeros(2), torch.tensor([-1.0, 1.0]), torch.tensor(0.5))
        >>> two.modes().location, two.modes().probability
        (tensor([-0.9993,  0.9993]), tensor([0.5000, 0.5000]))
        """
        if not is_number(least):
            raise ValueError(f"expected a least probability in [0, 1), got {least!r}")
        return find_modes(self, least)

    def hdr(self, level: float) -> Regions:
        """The smallest region that holds the probability ``level``, as a union of intervals: see `Regions`.

        Hyndman 1996, "Computing and graphing highest density regions". Of one target; in double precision, no gradient
        passes. Raises ``ValueError`` for a level outside (0, 1) or several targets.

        >>> two = Mixture.normal(torch.zeros(2), torch.tensor([-1.0, 1.0]), torch.tensor(0.5))
        >>> region = two.hdr(0.5)
        >>> region.lower, region.upper
        (tensor([-1.3350,  0.6612]), tensor([-0.6612,  1.3350]))
        """
        self._require_scalar_event("hdr")
        if not is_number(level):
            raise ValueError(f"expected a level in (0, 1), got {level!r}")
        return highest_density(self, level)

    def hdr_level(self, value: Tensor) -> Tensor:
        """The probability of all points at least as likely as ``value`` (...): shape (...), from 0 to 1.

        That of the highest-density region on whose border it lies, so that ``value`` is in ``hdr(q)`` where this is
        below q. Of draws from the mixture it is uniform, however many modes there are: what a coverage of regions is
        counted with, at every level at once, and many times faster than by `hdr`. (Of counts it is larger, by up to
        the probability of the count itself.) Raises ``ValueError`` for a value of another shape or outside the
        support, or several targets.

        >>> normal = Mixture.normal(torch.zeros(1), torch.zeros(1), torch.ones(1))
        >>> normal.hdr_level(torch.tensor(1.96)).round(decimals=3)
        tensor(0.9500)
        """
        self._require_scalar_event("hdr_level")
        value = value if isinstance(value, Tensor) else checked.numbers("value", value, self._logits)
        if self._validate_args and value.shape == self.batch_shape:
            self._validate_sample(value)
        return level_at(self, value)

    def marginal(self, targets: int | list[int]) -> "Mixture":
        """The mixture of some of several targets, in the order given; of an ``int`` a mixture of scalars.

        For normal components. Raises ``ValueError`` for targets that are not there, or given twice.
        """
        return self.with_parts(self.mixture_distribution, subspace.marginal(self.component_distribution, targets))

    def conditional(self, targets: int | list[int], value: Tensor) -> "Mixture":
        """The mixture of the other targets, given that ``targets`` have this ``value``.

        ``value`` (...) for an ``int``, (..., number of targets) for a list; further dimensions on the left are added
        to the batch. The others keep their order; where one is left, it is a mixture of scalars. For normal
        components. Raises ``ValueError`` for targets that are not there, given twice, or all of them.
        """
        evidence, components = subspace.condition(self.component_distribution, targets, value)
        return self.with_parts(Weights(self.log_weights + evidence), components)

    def entropy(self, draws: int = 1000) -> Tensor:
        """-E[log p(Y)] in nats, shape (...): the mean over ``draws`` samples, see `sampled_entropy`."""
        return self.sampled_entropy(draws)[0]

    def sampled_entropy(self, draws: int = 1000) -> tuple[Tensor, Tensor]:
        """-E[log p(Y)] in nats from samples, and its standard error; both of shape (...).

        A mixture's entropy has no closed form. Uses torch's global generator, as ``sample`` does. Raises
        ``ValueError`` for fewer than two draws.
        """
        if isinstance(draws, bool) or not isinstance(draws, Integral) or draws < 2:
            raise ValueError(f"expected at least 2 draws, got {draws!r}")
        surprise = -self.log_prob(self.sample(Size((draws,))))
        return surprise.mean(0), surprise.std(0) / math.sqrt(draws)

    @property
    def has_rsample(self) -> bool:  # type: ignore[override]
        """Whether samples carry gradients: for Normal, Laplace and LogNormal components, and normals of several."""
        return pathwise.has_gradients(self.component_distribution)

    def rsample(self, sample_shape: Size = Size()) -> Tensor:  # noqa: B008 - torch's own default
        """As `sample`, with gradients to weights and components: implicit reparameterisation, see `pathwise`.

        Gradients of the first order.

        Raises ``ValueError`` for components whose distribution function has no gradient.
        """
        if not self.has_rsample:
            raise ValueError(
                "expected Normal, Laplace or LogNormal components, or normals of several targets, for rsample, got "
                f"{type(self.component_distribution).__name__}"
            )
        return pathwise.attach(self.log_weights, self.component_distribution, self.sample(sample_shape))

    def sample(self, sample_shape: Size = Size()) -> Tensor:  # noqa: B008 - torch's own default
        """Samples of shape sample_shape + batch + event: a component first, then a draw from it alone."""
        with torch.no_grad():
            logits = self._logits
            uniform = torch.rand(sample_shape + self.batch_shape, dtype=logits.dtype, device=logits.device)
            chosen = fused.pick(logits.expand(*uniform.shape, logits.shape[-1]), uniform)
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
        ndim = len(self.batch_shape)
        try:
            places = torch.arange(self.batch_shape.numel(), device=self._logits.device).reshape(self.batch_shape)[index]
        except IndexError as error:
            raise IndexError(f"expected an index into a batch of shape {tuple(self.batch_shape)}: {error}") from None
        return map_parameters(self, lambda tensor: tensor.reshape(-1, *tensor.shape[ndim:])[places])

    def with_parts(self, mixing: dist.Categorical, components: Distribution) -> "Mixture":
        """The same kind of mixture around other weights and components."""
        return type(self)(mixing, components)

    def affine(self, loc: Tensor | float, scale: Tensor | float) -> "Mixture":
        """The mixture of ``loc + scale * Y``, scale > 0: how a standardised prediction gets its units back.

        ``loc`` and ``scale`` are the same for the whole batch: numbers, or tensors of the event shape. Weights and
        components take the wider dtype of theirs and these tensors'. Raises ``ValueError`` for other shapes, which
        would be taken for the components', and numbers that are not finite, or a scale that is not above 0.
        """
        dtype = self._logits.dtype
        for name, value in (("loc", loc), ("scale", scale)):
            if isinstance(value, Tensor) and value.is_floating_point():
                dtype = torch.promote_types(dtype, value.dtype)
            elif not isinstance(value, Tensor | Real) or isinstance(value, bool):
                raise ValueError(f"expected {name} to be a number or a tensor, got {value!r}")
            shape = tuple(getattr(value, "shape", ()))
            if shape not in ((), tuple(self.event_shape)):
                raise ValueError(f"expected {name} of shape () or {tuple(self.event_shape)}, got {shape}")
            number = torch.as_tensor(value)
            allowed = number.isfinite() if name == "loc" else number.isfinite() & (number > 0)
            if self._validate_args and not torch._is_all_true(allowed):
                wanted = "a finite loc" if name == "loc" else "a finite scale above 0"
                raise ValueError(f"expected {wanted}, got {value}")
        # Weights of float32 sum to one up to 1e-7, which at 1e9 would move the mean by a hundred.
        wide = self if dtype == self._logits.dtype else self.to(dtype)
        return self.with_parts(wide.mixture_distribution, affine(wide.component_distribution, loc, scale))

    def tempered(self, temperature: float) -> "Mixture":
        """Weights to the power 1/temperature, renormalised, and scales times sqrt(temperature).

        The sampling temperature of world models (Ha & Schmidhuber 2018, eq. in section 2.2): below one the
        samples are safer than the data, above one wilder. Components: Normal, StudentT or Laplace.
        """
        check_number("temperature", temperature, "(0, inf)")
        weights = Weights(self.log_weights / temperature)
        components, factor = self.component_distribution, math.sqrt(temperature)
        centre = getattr(components, "loc", None)
        centre = components.mean if centre is None else centre  # Student's t has a centre where it has no mean
        return self.with_parts(weights, affine(components, (1 - factor) * centre, factor))

    @property
    def _event_ndim(self) -> int:
        return len(self.event_shape)

    def _point(self, value: Any) -> Tensor:
        return checked.point(value, self.batch_shape, self.event_shape, self._logits)

    def _require_scalar_event(self, what: str) -> None:
        if self._event_ndim:
            raise ValueError(f"expected one target dimension for {what}, got event shape {tuple(self.event_shape)}")
