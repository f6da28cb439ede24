"""Take a distribution apart into its parameter tensors, and put it together again.

This is what lets a likelihood written for one draw come back as one batched distribution: under ``vmap`` only
tensors can leave, so the parameters do, and the family is rebuilt outside around whatever dimensions were added.
"""

import inspect
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor
from torch.distributions import (
    AffineTransform,
    Distribution,
    Independent,
    MixtureSameFamily,
    TransformedDistribution,
    constraints,
)

# Ways to give one parameter: a distribution keeps the one it was given, and may have computed others since.
ALTERNATIVES = (
    ("probs", "logits"),
    ("gate", "gate_logits"),
    ("covariance_matrix", "precision_matrix", "scale_tril"),
)
_NOTHING = SimpleNamespace()

Rebuild = Callable[[list[Tensor]], Distribution]


def split(distribution: Distribution) -> tuple[list[Tensor], Rebuild]:
    """The parameters of a distribution, each expanded to its full batch shape, and the way back.

    Every tensor has shape ``batch_shape + (dimensions of the parameter's own)``; where tensors with further
    dimensions on the left are handed to the way back, the distribution has them on the left of its batch shape.
    A mask is dropped: it says what is scored, not what is predicted.
    Raises ``ValueError`` for a family whose parameters are not known.
    """
    if hasattr(distribution, "_mask") and hasattr(distribution, "base_dist"):
        return split(distribution.base_dist)
    if isinstance(distribution, Independent):
        return _split_independent(distribution)
    if isinstance(distribution, MixtureSameFamily):
        return _split_mixture(distribution)
    if distribution.arg_constraints:
        return _split_leaf(distribution)
    if isinstance(distribution, TransformedDistribution):
        return _split_transformed(distribution)
    raise ValueError(f"expected a distribution with arg_constraints, got {type(distribution).__name__}")


def map_parameters(distribution: Distribution, function: Callable[[Tensor], Tensor]) -> Any:
    """The same family around ``function`` of every parameter tensor."""
    tensors, rebuild = split(distribution)
    return rebuild([function(tensor) for tensor in tensors])


def family(distribution: Distribution) -> tuple[Any, ...]:
    """The kinds of a distribution and of its parts, which are equal where `split` takes two apart in the same way."""
    parts = [value for value in vars(distribution).values() if isinstance(value, Distribution)]
    kinds = tuple(type(value) for value in getattr(distribution, "transforms", ()))
    return (type(distribution), *kinds, *(family(part) for part in parts))


def _split_leaf(distribution: Distribution) -> tuple[list[Tensor], Rebuild]:
    family, known = type(distribution), distribution.arg_constraints
    names, tensors, settings = [], [], {}
    for name in _arguments(distribution):
        value = getattr(distribution, name)
        if name not in known and not isinstance(value, Tensor):
            settings[name] = value  # a number that is no parameter, as the total count of a multinomial
            continue
        value = torch.as_tensor(value)
        own = value.shape[value.ndim - _own_ndim(known.get(name), value.ndim - len(distribution.batch_shape)) :]
        names.append(name)
        tensors.append(value.expand(distribution.batch_shape + own))
    return tensors, lambda values: family(**dict(zip(names, values, strict=True)), **settings, validate_args=False)


def _arguments(distribution: Distribution) -> list[str]:
    """The arguments that build the distribution: of two ways to say the same, the one it was given."""
    family = type(distribution)
    signature = inspect.signature(family.__init__).parameters.values()
    named = [p.name for p in signature if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    names = [name for name in named if name not in ("self", "validate_args") and _has(distribution, name)]
    names += [name for name in distribution.arg_constraints if name not in names and name not in named]
    # A lazy parameter joins the stored ones when it is first read, so it comes after the one that was given.
    stored = [*vars(distribution), *vars(getattr(distribution, "_categorical", None) or _NOTHING)]
    for alternatives in ALTERNATIVES:
        there = [name for name in names if name in alternatives]
        given = min(there, key=lambda name: stored.index(name) if name in stored else len(stored), default=None)
        names = [name for name in names if name not in there or name == given]
    return names


def _has(distribution: Distribution, name: str) -> bool:
    """As ``hasattr``, but a lazy parameter is not computed: of a normal, by inverting every covariance."""
    return inspect.getattr_static(distribution, name, None) is not None or hasattr(distribution, name)


def _own_ndim(constraint: constraints.Constraint | None, extra: int) -> int:
    """How many dimensions of its own a parameter has beside the batch's."""
    try:
        return 0 if constraint is None else constraint.event_dim
    except NotImplementedError:
        return max(extra, 0)


def _split_independent(distribution: Independent) -> tuple[list[Tensor], Rebuild]:
    family, ndims = type(distribution), distribution.reinterpreted_batch_ndims
    tensors, rebuild = split(distribution.base_dist)
    return tensors, lambda values: family(rebuild(values), ndims, validate_args=False)


def _split_mixture(distribution: MixtureSameFamily) -> tuple[list[Tensor], Rebuild]:
    mixing = distribution.mixture_distribution.expand(distribution.batch_shape)
    weights, rebuild_weights = split(mixing)
    components, rebuild_components = split(distribution.component_distribution)
    count = len(weights)
    # A mixture that carries more than its two parts says how it is put together again.
    assemble: Callable[..., Distribution] = getattr(distribution, "with_parts", type(distribution))
    return weights + components, lambda values: assemble(
        rebuild_weights(values[:count]), rebuild_components(values[count:])
    )


def _split_transformed(distribution: TransformedDistribution) -> tuple[list[Tensor], Rebuild]:
    family, event_ndim = type(distribution), len(distribution.event_shape)
    if event_ndim:
        raise ValueError(f"expected a transformed distribution of scalar events, got {distribution.event_shape}")
    base = distribution.base_dist.expand(distribution.batch_shape)
    tensors, rebuild_base = split(base)
    count = len(tensors)
    for transform in distribution.transforms:
        if isinstance(transform, AffineTransform):
            tensors += [
                torch.as_tensor(value).to(tensors[0]).expand(distribution.batch_shape)
                for value in (transform.loc, transform.scale)
            ]
        elif any(isinstance(value, Tensor) and value.ndim for value in vars(transform).values()):
            raise ValueError(f"expected affine or parameter-free transforms, got {type(transform).__name__}")

    def rebuild(values: list[Tensor]) -> Distribution:
        rest = iter(values[count:])
        transforms = [
            AffineTransform(next(rest), next(rest)) if isinstance(t, AffineTransform) else t
            for t in distribution.transforms
        ]
        return family(rebuild_base(values[:count]), transforms, validate_args=False)

    return tensors, rebuild
