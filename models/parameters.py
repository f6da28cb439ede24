"""Split a distribution into its parameter tensors, and rebuild it from them.

A likelihood written for one draw becomes one batched distribution this way: only tensors can leave ``vmap``, so the
parameters leave it, and the family is rebuilt outside with the added dimensions in its batch shape.
"""

import copy
import inspect
import itertools
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any

import torch
from pyro.distributions import DiscreteHMM, GaussianHMM
from torch import Tensor
from torch.distributions import (
    AffineTransform,
    ComposeTransform,
    Distribution,
    Independent,
    MixtureSameFamily,
    PowerTransform,
    Transform,
    TransformedDistribution,
    constraints,
)

# Alternative parametrisations: a distribution stores the one it was given, and may have computed the others later.
ALTERNATIVES = (
    ("probs", "logits"),
    ("gate", "gate_logits"),
    ("covariance_matrix", "precision_matrix", "scale_tril"),
)
_NOTHING = SimpleNamespace()

Rebuild = Callable[[list[Tensor]], Distribution]


def split(distribution: Distribution) -> tuple[list[Tensor], Rebuild]:
    """The parameter tensors of a distribution, expanded to its batch shape, and a function that rebuilds it from them.

    Each tensor has shape ``batch_shape + (event dimensions of the parameter)``. From tensors with further dimensions on
    the left, the function builds a distribution with these dimensions on the left of its batch shape. A mask is
    dropped: it concerns scores, not predictions.

    Raises:
        ValueError: a family whose parameters are not known.
    """
    if hasattr(distribution, "_mask") and hasattr(distribution, "base_dist"):
        return split(distribution.base_dist)
    if isinstance(distribution, Independent):
        return _split_independent(distribution)
    if isinstance(distribution, MixtureSameFamily):
        return _split_mixture(distribution)
    if isinstance(distribution, GaussianHMM):
        return _split_gaussian_hidden_markov(distribution)
    if isinstance(distribution, DiscreteHMM):
        return _split_hidden_markov(distribution)
    if distribution.arg_constraints:
        return _split_leaf(distribution)
    if isinstance(distribution, TransformedDistribution):
        return _split_transformed(distribution)
    raise ValueError(f"expected a distribution with arg_constraints, got {type(distribution).__name__}")


def map_parameters(distribution: Distribution, function: Callable[[Tensor], Tensor]) -> Any:
    """The distribution of the same family with ``function`` applied to each parameter tensor."""
    tensors, rebuild = split(distribution)
    return rebuild([function(tensor) for tensor in tensors])


def family(distribution: Distribution) -> tuple[Any, ...]:
    """The types of a distribution and its parts, equal for two distributions that `split` splits in the same way."""
    parts = [value for value in vars(distribution).values() if isinstance(value, Distribution)]
    kinds = tuple(type(value) for value in getattr(distribution, "transforms", ()))
    return (type(distribution), *kinds, *(family(part) for part in parts))


def _split_leaf(distribution: Distribution) -> tuple[list[Tensor], Rebuild]:
    family: Callable[..., Distribution] = type(distribution)
    known = distribution.arg_constraints
    tensors: list[Tensor] = []
    places: dict[str, int] = {}
    settings: dict[str, Any] = {}
    nested: dict[str, tuple[slice, Rebuild]] = {}
    unchecked = {"validate_args": False} if "validate_args" in _signature(family) else {}
    for name in _arguments(distribution):
        value = getattr(distribution, name)
        if isinstance(value, Distribution):  # such as the base distribution of a zero-inflated one
            inner, rebuild_inner = split(value.expand(distribution.batch_shape))
            nested[name] = (slice(len(tensors), len(tensors) + len(inner)), rebuild_inner)
            tensors += inner
            continue
        if name not in known and not isinstance(value, Tensor):
            settings[name] = value  # a number that is not a parameter, such as the total count of a multinomial
            continue
        value = torch.as_tensor(value)
        extra = value.ndim - len(distribution.batch_shape)
        own = value.shape[value.ndim - max(_own_ndim(known.get(name), extra), extra) :]
        places[name] = len(tensors)
        tensors.append(value.expand(distribution.batch_shape + own))

    def rebuild(values: list[Tensor]) -> Distribution:
        parts = {name: one(values[where]) for name, (where, one) in nested.items()}
        own = {name: values[place] for name, place in places.items()}
        return family(**own, **parts, **settings, **unchecked)

    return tensors, rebuild


def _split_hidden_markov(distribution: DiscreteHMM) -> tuple[list[Tensor], Rebuild]:
    """The logits of a hidden Markov model end in states, and its observations in steps and states."""
    family: Callable[..., Distribution] = type(distribution)
    batch = distribution.batch_shape
    initial, transition = distribution.initial_logits, distribution.transition_logits
    transition = transition if transition.ndim > 2 else transition.unsqueeze(-3)
    observed = distribution.observation_dist
    steps = observed.batch_shape[-2:] if len(observed.batch_shape) > 1 else (1, *observed.batch_shape)
    inner, rebuild_observed = split(observed.expand((*batch, *steps)))
    tensors = [initial.expand((*batch, *initial.shape[-1:])), transition.expand((*batch, *transition.shape[-3:]))]
    duration = distribution.duration
    return tensors + inner, lambda values: family(
        values[0], values[1], rebuild_observed(values[2:]), validate_args=False, duration=duration
    )


def _arguments(distribution: Distribution) -> list[str]:
    """The arguments that build the distribution: among alternative parametrisations, the one it was given."""
    signature = _signature(type(distribution)).values()
    named = [p.name for p in signature if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    names = [name for name in named if name not in ("self", "validate_args") and _has(distribution, name)]
    names += [name for name in distribution.arg_constraints if name not in names and name not in named]
    # A lazy parameter is stored at its first access, so it comes after the one that was given.
    stored = [*vars(distribution), *vars(getattr(distribution, "_categorical", None) or _NOTHING)]
    for alternatives in ALTERNATIVES:
        there = [name for name in names if name in alternatives]
        given = min(there, key=lambda name: stored.index(name) if name in stored else len(stored), default=None)
        names = [name for name in names if name not in there or name == given]
    return names


def _split_gaussian_hidden_markov(distribution: GaussianHMM) -> tuple[list[Tensor], Rebuild]:
    """The tensors of its three normal factors; those of transitions and observations have a dimension of steps."""
    batch, parts, tensors = distribution.batch_shape, {}, []
    for name in ("_init", "_trans", "_obs"):
        part = getattr(distribution, name)
        part = part.expand(batch if name == "_init" else (*batch, *(part.batch_shape[-1:] or (1,))))
        own = [key for key, value in vars(part).items() if isinstance(value, Tensor)]
        parts[name] = part, own
        tensors += [getattr(part, key) for key in own]

    def rebuild(values: list[Tensor]) -> Distribution:
        remaining = iter(values)
        whole = copy.copy(distribution)
        for name, (part, own) in parts.items():
            part = copy.copy(part)
            vars(part).update({key: next(remaining) for key in own})
            setattr(whole, name, part)
        whole._batch_shape = whole._init.batch_shape
        return whole

    return tensors, rebuild


def _signature(family: Any) -> Mapping[str, inspect.Parameter]:
    return inspect.signature(family.__init__).parameters


def _has(distribution: Distribution, name: str) -> bool:
    """As ``hasattr``, without computing lazy parameters, which may invert covariance matrices."""
    return inspect.getattr_static(distribution, name, None) is not None or hasattr(distribution, name)


def _own_ndim(constraint: constraints.Constraint | None, extra: int) -> int:
    """The number of event dimensions of a parameter."""
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
    # A subclass with more attributes than these two parts defines ``with_parts``.
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
    ways: list[tuple[slice, Callable[[list[Tensor]], Transform]]] = []
    for transform in distribution.transforms:
        own, way = _split_transform(transform)
        ways.append((slice(len(tensors), len(tensors) + len(own)), way))
        tensors += [value.to(tensors[0]).expand(distribution.batch_shape) for value in own]

    def rebuild(values: list[Tensor]) -> Distribution:
        transforms = [way(values[where]) for where, way in ways]
        return family(rebuild_base(values[:count]), transforms, validate_args=False)

    return tensors, rebuild


def _split_transform(transform: Transform) -> tuple[list[Tensor], Callable[[list[Tensor]], Transform]]:
    """The parameters of a transform of scalars, and a function that rebuilds it from them.

    Raises:
        ValueError: a transform whose parameters are not known, so that its tensors would belong to a single draw.
    """
    if isinstance(transform, AffineTransform):
        return [torch.as_tensor(transform.loc), torch.as_tensor(transform.scale)], lambda v: AffineTransform(*v)
    if isinstance(transform, PowerTransform):
        return [transform.exponent], lambda v: PowerTransform(*v)
    inverted = getattr(transform, "_inv", None)
    if type(transform).__name__ == "_InverseTransform" and inverted is not None:
        tensors, way = _split_transform(inverted)
        return tensors, lambda values: way(values).inv
    if isinstance(transform, ComposeTransform):
        parts = [_split_transform(part) for part in transform.parts]
        ends = [0, *itertools.accumulate(len(tensors) for tensors, _ in parts)]
        return [value for tensors, _ in parts for value in tensors], lambda values: ComposeTransform(
            [way(values[i:j]) for (_, way), (i, j) in zip(parts, itertools.pairwise(ends), strict=True)]
        )
    held = [value for name, value in vars(transform).items() if name not in ("_inv", "_cached_x_y")]
    held += [part for value in held if isinstance(value, list | tuple) for part in value]
    if any(isinstance(value, Tensor | Distribution | Transform) for value in held):
        raise ValueError(
            f"expected affine, power or parameter-free transforms, or chains of them, got {type(transform).__name__}"
        )
    return [], lambda values: transform
