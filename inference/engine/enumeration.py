"""The log joint without its enumerated discrete sites, by message passing over plates (Obermeyer et al. 2019).

Pyro contracts the factors of a trace in the order that ``opt_einsum`` finds, with a ``logsumexp`` for each sum. The
product of two factors is computed in log space by `einsum`, since Pyro's own cannot be differentiated by `torch.func`.
"""

import functools
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pyro
import torch
from pyro.ops.contract import contract_to_tensor
from pyro.ops.rings import LogRing
from torch import Tensor

from posterity.inference.program.enumeration import Enumerate, plate_nesting
from posterity.inference.program.nested import tensors_in
from posterity.inference.program.sites import Program, inspect, is_subsample
from posterity.inference.program.trace import Model, default_dtype, trace, widest_dtype
from posterity.random import seeded

SUMMED_OUT = "discrete sites summed out"  # the name of the factor in their place


class _Ring(LogRing):
    _backend = __name__


def enumerated_log_prob(run: Any) -> Tensor:
    """The log joint of a ``run`` whose discrete latent sites are enumerated, summed over their values; a scalar.

    Elements of a site that are in no plate belong together: their log densities are added first. A scale multiplies the
    log density at each value before the sum, as in Pyro's own samplers.
    """
    run.compute_log_prob()
    samples = [node for node in run.nodes.values() if node["type"] == "sample" and not is_subsample(node)]
    for node in samples:
        log_prob = node["log_prob"]
        kept = {frame.dim for frame in node["cond_indep_stack"] if frame.vectorized} | set(node["infer"]["_dim_to_id"])
        loose = [dim for dim in range(-log_prob.ndim, 0) if log_prob.shape[dim] > 1 and dim not in kept]
        node["log_prob"] = node["unscaled_log_prob"] = log_prob.sum(loose, keepdim=True) if loose else log_prob
    run.pack_tensors()
    factors: OrderedDict[frozenset[str], list[Tensor]] = OrderedDict()
    for node in samples:
        plates = frozenset(run.plate_to_symbol[f.name] for f in node["cond_indep_stack"] if f.vectorized)
        factors.setdefault(plates, []).append(node["packed"]["log_prob"])
    summed = set(run.symbol_to_dim) - set(run.plate_to_symbol.values())
    return contract_to_tensor(factors, summed, ring=_Ring())


class SummedOut:
    """A model without its discrete latent sites, for methods that run Pyro by themselves.

    A factor takes the place of the discrete sites and of all observations: the log density of the observations given
    the continuous sites. Other latent sites and parameters are those of ``model``.

    Args:
        model: a Pyro model.
        program: its sites.
        args: its arguments.
    """

    def __init__(self, model: Model, program: Program, args: tuple[Any, ...]) -> None:
        functools.update_wrapper(self, model, updated=())
        self.model, self.program = model, program
        nodes = trace(model, args, seed=0)
        self.nesting = plate_nesting(nodes.values())
        scaled = [n for n in program.enumerated if isinstance(s := nodes[n]["scale"], Tensor) or s != 1]
        if scaled:
            raise ValueError(
                f"expected discrete latent sites without a scale and outside of subsampled plates, got {scaled}: the "
                "sum over their values would not be that of the whole data"
            )
        first = {name: nodes[name]["value"] for name in program.latents}

        def run(enumerate_: bool) -> Any:
            known = pyro.poutine.condition(model, data=first)
            return pyro.poutine.trace(Enumerate(self.nesting)(known) if enumerate_ else known).get_trace(*args)

        with default_dtype(widest_dtype(tensors_in(args), torch.get_default_dtype())):
            check_enumeration(run, self.nesting, program.enumerated)

    def __call__(self, *args: Any, **named: Any) -> None:
        with pyro.poutine.block(hide_fn=self._hidden), pyro.poutine.trace() as capture, Enumerate(self.nesting):
            self.model(*args, **named)
        run = capture.trace
        for name in self.program.latents:
            node = run.nodes[name]
            shapes = [
                node["fn"].batch_shape,
                *(node[k].shape for k in ("scale", "mask") if isinstance(node[k], Tensor)),
            ]
            if any(size > 1 for shape in shapes for size in shape[: max(0, len(shape) - self.nesting)]):
                raise ValueError(
                    f"expected continuous latent sites that do not depend on discrete ones, got {name!r}: HMC and NUTS "
                    "take such a model"
                )
            run.remove_node(name)
        pyro.factor(SUMMED_OUT, enumerated_log_prob(run))

    def _hidden(self, msg: Any) -> bool:
        return msg["type"] == "sample" and (msg["is_observed"] or msg["name"] in self.program.enumerated)


def without_discrete(
    model: Model, program: Program, args: tuple[Any, ...], method: str, given: Mapping[str, Any]
) -> tuple[Model, Program]:
    """The model with its discrete sites summed out, and its sites; the model itself if it has none.

    Raises ``ValueError`` if a setting is ``given`` that needs the rows one by one, which a sum over all does not have.
    """
    if not program.enumerated:
        return model, program
    named = [f"{name}={value!r}" for name, value in given.items() if value]
    if named:
        raise ValueError(
            f"expected {method} of a model with discrete latent sites ({list(program.enumerated)}) without settings "
            f"that need its rows one by one, got {', '.join(named)}"
        )
    summed = SummedOut(model, program, args)
    return summed, inspect(summed, args)


def check_guide_sites(model: Model, guide: Callable[..., Any], args: tuple[Any, ...]) -> None:
    """``ValueError`` if a guide has sites that are summed out of its ``model``; any model is taken."""
    if isinstance(model, SummedOut):
        named = [name for name in trace(guide, args, seed=0) if name in model.program.enumerated]
        if named:
            raise ValueError(f"expected a guide without the discrete sites, which are summed out, got {named}")


def check_enumeration(run: Callable[[bool], Any], nesting: int, names: Sequence[str]) -> None:
    """``ValueError`` if a model cannot run with all values of its discrete sites ``names`` at once.

    ``run`` returns its trace with or without enumeration, always at the same values of its continuous sites.
    """
    try:
        with torch.no_grad(), pyro.validation_enabled(False), seeded(0), pyro.get_param_store().scope():
            check_enumerated(run(True), run(False), nesting)
    except (RuntimeError, ValueError, TypeError, LookupError) as error:
        reason = str(error).strip().partition("\n")[0][:200]
        raise ValueError(
            f"expected a model that runs with all values of its discrete sites {list(names)} along a new dimension on "
            f"the left (indexing such as mu[z], and broadcasting), got {reason}"
        ) from error


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
