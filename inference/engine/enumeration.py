"""The log joint without its enumerated discrete sites, by message passing over plates (Obermeyer et al. 2019).

Pyro contracts the factors of a trace in the order that ``opt_einsum`` finds, with a ``logsumexp`` for each sum. The
product of two factors is computed in log space by `einsum`, since Pyro's own cannot be differentiated by `torch.func`.
"""

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import torch
from pyro.ops.contract import contract_to_tensor
from pyro.ops.rings import LogRing
from torch import Tensor

from posterity.inference.program.sites import is_subsample


class _Ring(LogRing):
    _backend = __name__


def enumerated_log_prob(trace: Any) -> Tensor:
    """The log joint of a ``trace`` whose discrete latent sites are enumerated, summed over their values; a scalar.

    Elements of a site that are in no plate belong together: their log densities are added first.
    """
    trace.compute_log_prob()
    samples = [node for node in trace.nodes.values() if node["type"] == "sample" and not is_subsample(node)]
    for node in samples:
        log_prob = node["log_prob"]
        kept = {frame.dim for frame in node["cond_indep_stack"] if frame.vectorized} | set(node["infer"]["_dim_to_id"])
        loose = [dim for dim in range(-log_prob.ndim, 0) if log_prob.shape[dim] > 1 and dim not in kept]
        node["log_prob"] = node["unscaled_log_prob"] = log_prob.sum(loose, keepdim=True) if loose else log_prob
    trace.pack_tensors()
    factors: OrderedDict[frozenset[str], list[Tensor]] = OrderedDict()
    for node in samples:
        plates = frozenset(trace.plate_to_symbol[f.name] for f in node["cond_indep_stack"] if f.vectorized)
        factors.setdefault(plates, []).append(node["packed"]["log_prob"])
    summed = set(trace.symbol_to_dim) - set(trace.plate_to_symbol.values())
    return contract_to_tensor(factors, summed, ring=_Ring())


def check_enumerated(enumerated: Any, plain: Any, nesting: int) -> None:
    """Compare an ``enumerated`` trace with a ``plain`` one, in which every discrete site has a single value.

    Raises ``ValueError`` if a site has another log density, because its model mixes the dimension of the values with
    its own dimensions.
    """
    enumerated.compute_log_prob()
    plain.compute_log_prob()
    places = {}
    for name, node in enumerated.nodes.items():
        dim = node["infer"].get("_enumerate_dim") if node["type"] == "sample" else None
        if dim is not None:
            values = node["fn"].enumerate_support(expand=False)
            same = values == plain.nodes[name]["value"]
            same = same.flatten(-node["fn"].event_dim).all(-1) if node["fn"].event_dim else same
            places[node["infer"]["_dim_to_id"][dim]] = same.int().argmax(0)
    for name, node in enumerated.nodes.items():
        if node["type"] != "sample" or is_subsample(node):
            continue
        found, expected = _at(node, places, nesting), plain.nodes[name]["log_prob"]
        if found is None or not bool(torch.isclose(found, expected, rtol=1e-3, atol=1e-4).all()):
            raise ValueError(f"another log density at {name!r} than with one value of each")


def _at(node: Any, places: dict[int, Tensor], nesting: int) -> Tensor | None:
    """The log density of a site at one value of each enumerated site; None if an enumerated dimension is unknown."""
    log_prob, ids = node["log_prob"], node["infer"].get("_dim_to_id", {})
    index = []
    for dim in range(-log_prob.ndim, 0):
        size = log_prob.shape[dim]
        if size > 1 and dim < -nesting:
            if ids.get(dim) not in places:
                return None
            index.append(places[ids[dim]])
        else:
            index.append(torch.arange(size).reshape(-1, *[1] * (-1 - dim)) if dim >= -nesting else torch.tensor(0))
    return log_prob[tuple(index)] if index else log_prob


# The functions that `opt_einsum` calls by name


def transpose(value: Tensor, axes: Sequence[int]) -> Tensor:
    return value.permute(tuple(axes))


def einsum(equation: str, *operands: Tensor) -> Tensor:
    """``torch.einsum`` in log space: products are sums, and sums are ``logsumexp``."""
    inputs, output = equation.split("->")
    parts = inputs.split(",")
    summed = sorted(set("".join(parts)) - set(output))
    dims = output + "".join(summed)
    total: Any = 0
    for names, operand in zip(parts, operands, strict=True):
        order = [names.index(name) for name in dims if name in names]
        shape = [operand.shape[names.index(name)] if name in names else 1 for name in dims]
        total = total + operand.permute(order).reshape(shape)
    return torch.logsumexp(total, list(range(len(output), len(dims)))) if summed else total


def tensordot(one: Tensor, two: Tensor, axes: tuple[Sequence[int], Sequence[int]]) -> Tensor:
    """The product of two factors in log space, summed over pairs of ``axes``, as ``torch.tensordot``."""
    letters = [chr(ord("a") + i) for i in range(one.ndim + two.ndim)]
    left, right = letters[: one.ndim], letters[one.ndim :]
    for i, j in zip(*axes, strict=True):
        right[j] = left[i]
    output = [x for i, x in enumerate(left) if i not in axes[0]] + [x for j, x in enumerate(right) if j not in axes[1]]
    return einsum(f"{''.join(left)},{''.join(right)}->{''.join(output)}", one, two)
