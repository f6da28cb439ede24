"""Priors over the weights of a network, one object each.

A prior is called with the name of the site, the shape and the initial value of the weight, issues ``pyro.sample``
statements, and returns the weight. All priors are centred at zero and take keyword arguments. ``scale`` is the standard
deviation (or the scale of the family) of one *pre-activation* for inputs of unit size: with ``fan_in`` (the default)
the scale of a weight of shape (out, in, ...) is divided by sqrt(in * ...), so that the prior over functions does not
depend on the width (Neal 1996, "Bayesian Learning for Neural Networks", section 2.1). The scale of biases is not
divided, and may differ: ``bias_scale``.

Start with `Normal`. Use `HierarchicalNormal` if the size of the weights of a layer is unknown, which is common;
`Laplace` and `StudentT` for few large weights among small ones; `Horseshoe` if most inputs or units are irrelevant.
`ScaleMixture` is the spike-and-slab prior of Blundell et al. 2015.

Hierarchical priors are non-centred: the site ``{name}.raw`` is standard normal, a geometry in which samplers move
easily (Betancourt & Girolami 2015, arXiv:1312.0906), and the weight is a deterministic site ``{name}``.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor
from torch.distributions import Distribution

from posterity.validation import check_flag, check_number


class Prior(Protocol):
    """A callable that issues sample statements for one weight and returns it."""

    def __call__(self, name: str, shape: torch.Size, like: Tensor) -> Tensor: ...


@dataclass(frozen=True, kw_only=True)
class _FanInScaled:
    """Base of all priors: the scale of a weight of a given shape, and checks of the settings."""

    scale: float = 1.0
    fan_in: bool = True
    bias_scale: float | None = None

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            label = f"{name} of {type(self).__name__}"
            if name == "fan_in":
                check_flag(label, value)
            elif name != "bias_scale" or value is not None:
                check_number(label, value, "(0, inf)")

    def _scale_of(self, shape: torch.Size, like: Tensor) -> Tensor:
        if len(shape) < 2:
            return _number(self.scale if self.bias_scale is None else self.bias_scale, like)
        fan_in = math.prod(shape[1:]) if self.fan_in else 1
        return _number(self.scale / math.sqrt(fan_in), like)


@dataclass(frozen=True, kw_only=True)
class Normal(_FanInScaled):
    """Independent normals of standard deviation scale/sqrt(fan-in)."""

    def __call__(self, name: str, shape: torch.Size, like: Tensor) -> Tensor:
        return _sample(name, shape, dist.Normal, like.new_zeros(()), self._scale_of(shape, like))


@dataclass(frozen=True, kw_only=True)
class Laplace(_FanInScaled):
    """Independent Laplace distributions of scale scale/sqrt(fan-in); the variance is twice the scale squared."""

    def __call__(self, name: str, shape: torch.Size, like: Tensor) -> Tensor:
        return _sample(name, shape, dist.Laplace, like.new_zeros(()), self._scale_of(shape, like))


@dataclass(frozen=True, kw_only=True)
class StudentT(_FanInScaled):
    """Independent Student's t distributions with ``df`` degrees of freedom and scale scale/sqrt(fan-in)."""

    df: float = 4.0

    def __call__(self, name: str, shape: torch.Size, like: Tensor) -> Tensor:
        df = _number(self.df, like)
        return _sample(name, shape, dist.StudentT, df, like.new_zeros(()), self._scale_of(shape, like))


@dataclass(frozen=True, kw_only=True)
class ScaleMixture(_FanInScaled):
    """Independent mixtures of a wide normal, with probability ``weight``, and one of scale ``narrow``/sqrt(fan-in).

    Blundell et al. 2015, eq. 7.
    """

    weight: float = 0.5
    narrow: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("weight of ScaleMixture", self.weight, "(0, 1)")

    def __call__(self, name: str, shape: torch.Size, like: Tensor) -> Tensor:
        wide = self._scale_of(shape, like)
        scales = torch.stack([wide, wide * self.narrow / self.scale])
        weights = torch.stack([_number(self.weight, like), _number(1 - self.weight, like)])
        mixture = dist.MixtureSameFamily(dist.Categorical(probs=weights), dist.Normal(torch.zeros_like(scales), scales))
        return pyro.sample(name, mixture.expand(shape).to_event(len(shape)))


@dataclass(frozen=True, kw_only=True)
class HierarchicalNormal(_FanInScaled):
    """Normals whose precision, one for the whole weight, has a Gamma(concentration, rate) prior.

    With ``concentration = rate = a`` the marginal of a weight is Student's t with 2 a degrees of freedom and scale
    scale/sqrt(fan-in) (MacKay 1992; Neal 1996). Sites: ``{name}.precision``, ``{name}.raw``.
    """

    concentration: float = 2.0
    rate: float = 2.0

    def __call__(self, name: str, shape: torch.Size, like: Tensor) -> Tensor:
        gamma = dist.Gamma(_number(self.concentration, like), _number(self.rate, like))
        precision = pyro.sample(f"{name}.precision", gamma)
        return _non_centred(name, shape, like, self._scale_of(shape, like) / precision.sqrt())


@dataclass(frozen=True, kw_only=True)
class Horseshoe(_FanInScaled):
    """Normals whose scale is a half-Cauchy scale of the weight times one of each entry (Carvalho et al. 2010).

    Sites: ``{name}.overall``, ``{name}.local``, ``{name}.raw``. The tails are heavy: samplers need a high target
    acceptance. (Carvalho, Polson & Scott 2010, "The horseshoe estimator for sparse signals", Biometrika 97.)
    """

    def __call__(self, name: str, shape: torch.Size, like: Tensor) -> Tensor:
        overall = pyro.sample(f"{name}.overall", dist.HalfCauchy(self._scale_of(shape, like)))
        local = _sample(f"{name}.local", shape, dist.HalfCauchy, like.new_ones(()))
        return _non_centred(name, shape, like, overall * local)


def choose(prior: Any, parameters: Sequence[str]) -> dict[str, Prior]:
    """The prior of each parameter, from one prior for all or a mapping from prefixes of parameter names to priors.

    None is `Normal`. The longest matching prefix applies.

    Raises:
        ValueError: a parameter without a prior, a key that is not a prefix of a parameter, or a value that is not a
            prior.
    """
    priors: Mapping[Any, Any] = prior if isinstance(prior, Mapping) else {"": Normal() if prior is None else prior}
    known = {key: _checked(key, value) for key, value in priors.items()}
    chosen: dict[str, Prior] = {}
    for parameter in parameters:
        matches = [key for key in known if has_prefix(parameter, key)]
        if not matches:
            raise ValueError(f"expected a prior for {parameter!r}, got priors for {sorted(known)}")
        chosen[parameter] = known[max(matches, key=len)]
    idle = [key for key in known if not any(has_prefix(parameter, key) for parameter in parameters)]
    if idle:
        raise ValueError(f"expected keys of priors to be prefixes of {list(parameters)}, got {idle}")
    return chosen


def has_prefix(parameter: str, key: str) -> bool:
    """Whether ``key`` is a prefix of a parameter name that ends at the end of a word or number in the name."""
    inside_word = re.match(r"[A-Za-z]{2}|\d{2}", (key[-1:] or ".") + (parameter[len(key) :][:1] or "."))
    return parameter.startswith(key) and not inside_word


def _checked(key: Any, prior: Any) -> Prior:
    if not isinstance(key, str):
        raise ValueError(f"expected keys of priors to be names of parameters, got {key!r}")
    if isinstance(prior, Distribution):
        return _FromDistribution(prior)
    if isinstance(prior, type) or not callable(prior):
        raise ValueError(f"expected a prior such as priors.Normal() or dist.Normal(0, 1), got {prior!r}")
    return prior  # type: ignore[no-any-return]


@dataclass(frozen=True)
class _FromDistribution:
    """A distribution of Pyro as the prior of each entry of a weight, or of a weight of the distribution's shape."""

    distribution: Any

    def __call__(self, name: str, shape: torch.Size, like: Tensor) -> Tensor:
        own: Any = self.distribution
        if not hasattr(own, "to_event"):
            raise ValueError(f"expected a prior from pyro.distributions, got a distribution of torch: {own}")
        if not own.batch_shape and not own.event_shape:
            own = own.expand(shape)
        elif own.shape() != shape:
            raise ValueError(f"expected a prior of shape () or {tuple(shape)} for {name!r}, got {own}")
        return pyro.sample(name, own.to_event(len(own.batch_shape))).to(like)  # type: ignore[no-any-return]


def _number(value: float, like: Tensor) -> Tensor:
    """``value`` in the dtype of ``like``, without rounding to float32 in between."""
    return torch.as_tensor(value, dtype=like.dtype, device=like.device)


def _sample(name: str, shape: torch.Size, family: type, *parameters: Tensor) -> Tensor:
    return pyro.sample(name, family(*parameters).expand(shape).to_event(len(shape)))


def _non_centred(name: str, shape: torch.Size, like: Tensor, scale: Tensor) -> Tensor:
    raw = _sample(f"{name}.raw", shape, dist.Normal, like.new_zeros(()), like.new_ones(()))
    return pyro.deterministic(name, raw * scale, event_dim=len(shape))
