"""Priors over the weights of a network: one small object each, all with the same call.

A prior is called with the site's name, the weight's shape and the weight's initial value, issues its own
``pyro.sample`` statements, and returns the weight. All are centred on zero and take keyword arguments. ``scale`` is
the standard deviation (or the family's scale) of one *pre-activation* when the inputs have unit size: with
``fan_in`` (the default) a weight of shape (out, in, ...) is divided by sqrt(in * ...), so that the prior over
functions does not change with the width (Neal 1996, "Bayesian Learning for Neural Networks", section 2.1). Biases
are not divided; ``bias_scale`` gives them a scale of their own.

Which one: `Normal` to begin with. `HierarchicalNormal` where the size of the weights of a layer is not known,
which is often. `Laplace` and `StudentT` for a few large weights among small ones. `Horseshoe` where most inputs or
units should be off. `ScaleMixture` is the spike and slab of Blundell et al. 2015.

The hierarchical ones are non-centred (the site ``{name}.raw`` is standard normal), because samplers move easily
there: Betancourt & Girolami 2015, arXiv:1312.0906. The weight itself is kept as a deterministic site ``{name}``.
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

from posterity.validation import is_positive


class Prior(Protocol):
    """Anything that issues sample statements for one weight and returns it."""

    def __call__(self, name: str, shape: torch.Size, like: Tensor) -> Tensor: ...


@dataclass(frozen=True, kw_only=True)
class _FanInScaled:
    """What all priors share: the scale of a weight of a given shape."""

    scale: float = 1.0
    fan_in: bool = True
    bias_scale: float | None = None

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            wrong = not isinstance(value, bool) if name == "fan_in" else not is_positive(value)
            if wrong and not (name == "bias_scale" and value is None):
                wanted = "to be True or False" if name == "fan_in" else "above 0"
                raise ValueError(f"expected {name} {wanted} in {type(self).__name__}, got {value!r}")

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
    """Independent double exponentials of scale scale/sqrt(fan-in); their variance is twice the scale squared."""

    def __call__(self, name: str, shape: torch.Size, like: Tensor) -> Tensor:
        return _sample(name, shape, dist.Laplace, like.new_zeros(()), self._scale_of(shape, like))


@dataclass(frozen=True, kw_only=True)
class StudentT(_FanInScaled):
    """Independent Student's t with ``df`` degrees of freedom and scale scale/sqrt(fan-in)."""

    df: float = 4.0

    def __call__(self, name: str, shape: torch.Size, like: Tensor) -> Tensor:
        df = _number(self.df, like)
        return _sample(name, shape, dist.StudentT, df, like.new_zeros(()), self._scale_of(shape, like))


@dataclass(frozen=True, kw_only=True)
class ScaleMixture(_FanInScaled):
    """Two normals, a wide one with probability ``weight`` and a narrow one (Blundell et al. 2015, eq. 7)."""

    weight: float = 0.5
    narrow: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.weight < 1:
            raise ValueError(f"expected a weight between 0 and 1, got {self.weight}")

    def __call__(self, name: str, shape: torch.Size, like: Tensor) -> Tensor:
        wide = self._scale_of(shape, like)
        scales = torch.stack([wide, wide * self.narrow / self.scale])
        weights = torch.stack([_number(self.weight, like), _number(1 - self.weight, like)])
        mixture = dist.MixtureSameFamily(dist.Categorical(probs=weights), dist.Normal(torch.zeros_like(scales), scales))
        return pyro.sample(name, mixture.expand(shape).to_event(len(shape)))


@dataclass(frozen=True, kw_only=True)
class HierarchicalNormal(_FanInScaled):
    """Normals whose precision, one for the whole weight, is Gamma(shape, rate) and learned from the data.

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
    """A half-Cauchy scale for the whole weight times one for each entry (Carvalho, Polson & Scott 2010).

    Sites: ``{name}.overall``, ``{name}.local``, ``{name}.raw``. Its tails are heavy: give the sampler a high target
    acceptance.
    """

    def __call__(self, name: str, shape: torch.Size, like: Tensor) -> Tensor:
        overall = pyro.sample(f"{name}.overall", dist.HalfCauchy(self._scale_of(shape, like)))
        local = _sample(f"{name}.local", shape, dist.HalfCauchy, like.new_ones(()))
        return _non_centred(name, shape, like, overall * local)


def choose(prior: Any, parameters: Sequence[str]) -> dict[str, Prior]:
    """The prior of each parameter, of one prior for all or a mapping from the beginnings of their names.

    None is `Normal`. Raises ``ValueError`` for a mapping without a prior for a parameter, a key that no parameter
    begins with, or a value that is not a prior.
    """
    priors: Mapping[Any, Any] = prior if isinstance(prior, Mapping) else {"": Normal() if prior is None else prior}
    known = {key: _checked(key, value) for key, value in priors.items()}
    found: dict[str, Prior] = {}
    for parameter in parameters:
        matches = [key for key in known if begins(parameter, key)]
        if not matches:
            raise ValueError(f"expected a prior for {parameter!r}, got priors for {sorted(known)}")
        found[parameter] = known[max(matches, key=len)]
    idle = [key for key in known if not any(begins(parameter, key) for parameter in parameters)]
    if idle:
        raise ValueError(f"expected keys of priors that begin one of {list(parameters)}, got {idle}")
    return found


def begins(parameter: str, key: str) -> bool:
    """Whether ``key`` is the beginning of a name, up to the end of a word or of a number in it."""
    inside_word = re.match(r"[A-Za-z]{2}|\d{2}", (key[-1:] or ".") + (parameter[len(key) :][:1] or "."))
    return parameter.startswith(key) and not inside_word


def _checked(key: Any, prior: Any) -> Prior:
    if not isinstance(key, str):
        raise ValueError(f"expected names of parameters as keys of priors, got {key!r}")
    if isinstance(prior, Distribution):
        return _FromDistribution(prior)
    if isinstance(prior, type) or not callable(prior):
        raise ValueError(f"expected a prior such as priors.Normal() or dist.Normal(0, 1), got {prior!r}")
    return prior  # type: ignore[no-any-return]


@dataclass(frozen=True)
class _FromDistribution:
    """A distribution of Pyro's over each entry of a weight, or over a weight of the distribution's own shape."""

    distribution: Any

    def __call__(self, name: str, shape: torch.Size, like: Tensor) -> Tensor:
        own: Any = self.distribution
        if not hasattr(own, "to_event"):
            raise ValueError(f"expected a distribution of pyro.distributions as a prior, got one of torch's: {own}")
        if not own.batch_shape and not own.event_shape:
            own = own.expand(shape)
        elif own.shape() != shape:
            raise ValueError(f"expected a prior of one number, or of shape {tuple(shape)} for {name!r}, got {own}")
        return pyro.sample(name, own.to_event(len(own.batch_shape))).to(like)  # type: ignore[no-any-return]


def _number(value: float, like: Tensor) -> Tensor:
    """In the dtype of ``like`` at once: by way of float32 a third would be wrong in the eighth digit."""
    return torch.as_tensor(value, dtype=like.dtype, device=like.device)


def _sample(name: str, shape: torch.Size, family: type, *parameters: Tensor) -> Tensor:
    return pyro.sample(name, family(*parameters).expand(shape).to_event(len(shape)))


def _non_centred(name: str, shape: torch.Size, like: Tensor, scale: Tensor) -> Tensor:
    raw = _sample(f"{name}.raw", shape, dist.Normal, like.new_zeros(()), like.new_ones(()))
    return pyro.deterministic(name, raw * scale, event_dim=len(shape))
