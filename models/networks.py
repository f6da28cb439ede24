"""Small networks, and the ways a network enters a Pyro model.

A network is an ordinary ``torch.nn.Module``; nothing here is needed to use your own. Inside a model it becomes

- `bayesian("net", module, prior)`: its weights are sample sites, so that they have a posterior;
- `point("net", module)`: its weights are Pyro parameters, so that SVI maximises over them;
- the module itself, called directly: its weights are constants (frozen features).

Both return a function with the signature of the module, evaluated by ``torch.func.functional_call``: the module
itself is never changed, and a model stays a model for one draw; the engine adds draws and chains from outside.
"""

from collections import OrderedDict
from collections.abc import Callable, Mapping
from functools import partial
from itertools import pairwise
from numbers import Integral
from typing import Any

import pyro
import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from posterity.models.modules import trainable, with_weights
from posterity.models.plates import factor_once, refuse_plates
from posterity.models.priors import Prior, choose
from posterity.validation import check_number, check_seed, is_number

WEIGHTS = "posterity_weights"  # in ``infer`` of a site that `bayesian` made
INITIAL = "posterity_initial"  # there too, of a weight: its value in the module

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "tanh": nn.Tanh,
    "relu": nn.ReLU,
    "silu": nn.SiLU,
    "gelu": nn.GELU,
    "softplus": nn.Softplus,
}


def mlp(*widths: int, activation: str = "tanh", seed: int | None = None) -> nn.Sequential:
    """A fully connected network, (..., widths[0]) -> (..., widths[-1]), with named layers.

    ``mlp(1, 32, 32, 9)`` has layers ``hidden1``, ``hidden2`` and ``output``, so that sample sites read
    ``net.hidden1.weight``. ``activation`` is one of tanh, relu, silu, gelu, softplus. With ``seed`` the initial
    weights depend on it alone and the global random state is left as it was; without, they are torch's.
    Raises ``ValueError`` for fewer than two widths, a width below one, or an unknown activation.

    >>> mlp(1, 8, 2)(torch.zeros(5, 1)).shape
    torch.Size([5, 2])
    """
    if len(widths) < 2 or not all(_is_width(width) for width in widths):
        raise ValueError(f"expected at least two widths of 1 or more (input, ..., output), got {widths}")
    if not isinstance(activation, str) or activation not in ACTIVATIONS:
        raise ValueError(f"expected an activation from {sorted(ACTIVATIONS)}, got {activation!r}")
    if seed is None:
        return _stack(widths, activation)
    check_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would also seed an accelerator, for good
        return _stack(widths, activation)


def _is_width(width: Any) -> bool:
    return isinstance(width, Integral) and not isinstance(width, bool) and int(width) >= 1


def _stack(widths: tuple[int, ...], activation: str) -> nn.Sequential:
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for index, (fan_in, fan_out) in enumerate(pairwise(widths[:-1]), start=1):
        layers[f"hidden{index}"] = nn.Linear(fan_in, fan_out)
        layers[f"{activation}{index}"] = ACTIVATIONS[activation]()
    layers["output"] = nn.Linear(widths[-2], widths[-1])
    return nn.Sequential(layers)


class RadialBasis(nn.Module):
    """Gaussian bumps at fixed centres along one input, normalised to sum to one (Moody & Darken 1989).

    (..., 1) -> (..., centres). What a layer after it says at one place it learns from the data there, so that answers
    which appear and vanish along the input do not disturb each other; beyond the centres it says what it says at the
    last of them.
    """

    centres: Tensor

    def __init__(self, low: float, high: float, count: int, width: float = 1.0) -> None:
        super().__init__()
        if not (is_number(low) and is_number(high) and low < high):
            raise ValueError(f"expected a finite range of the input, got {low} to {high}")
        if not _is_width(count) or count < 2:
            raise ValueError(f"expected 2 centres or more, got {count}")
        check_number("width", width, "(0, inf)")
        self.register_buffer("centres", torch.linspace(low, high, count))
        self.width = width * (high - low) / (count - 1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.softmax(-0.5 * ((x - self.centres) / self.width) ** 2, -1)


def radial(x: Tensor, centres: int, outputs: int, *, width: float = 1.0, seed: int | None = None) -> nn.Sequential:
    """A network of one input, (..., 1) -> (..., outputs): `RadialBasis` over the range of ``x`` (N, 1), then a layer.

    With as many rows as here and there decide what is said there, as 10^5 of one input, it finds in seconds what a
    multilayer perceptron takes long to. ``width`` of a bump is in units of the distance of centres. The weights start
    small; with ``seed`` they depend on it alone, as in `mlp`. Raises ``ValueError`` for x of another shape or without
    a range, fewer than two centres, or fewer than one output.

    >>> radial(torch.linspace(-2, 2, 50)[:, None], 20, 9)(torch.zeros(5, 1)).shape
    torch.Size([5, 9])
    """
    if not isinstance(x, Tensor) or x.ndim != 2 or x.shape[1] != 1 or not len(x):
        found = tuple(x.shape) if isinstance(x, Tensor) else type(x).__name__
        raise ValueError(f"expected one input, x of shape (N, 1), got {found}")
    if not x.is_floating_point():
        raise ValueError(f"expected x of floating point, got {x.dtype}")
    if not _is_width(outputs):
        raise ValueError(f"expected 1 output or more, got {outputs}")
    if seed is not None:
        check_seed(seed)
    basis = RadialBasis(float(x.min()), float(x.max()), centres, width)
    layer = nn.Linear(centres, outputs)
    generator = None if seed is None else torch.Generator().manual_seed(seed)
    with torch.no_grad():
        layer.weight.copy_(0.05 * torch.randn(layer.weight.shape, generator=generator))
        layer.bias.zero_()
    return nn.Sequential(OrderedDict(basis=basis, output=layer)).to(x)


def bayesian(
    name: str, module: nn.Module, prior: Prior | Distribution | Mapping[str, Prior | Distribution] | None = None
) -> Callable[..., Any]:
    """Turn the weights of any module into sample sites; call it inside a Pyro model, outside of its plates.

    Every parameter ``p`` of the module becomes a site ``{name}.{p}`` of the parameter's shape (a prior with a
    hierarchy adds its own sites beside it). ``prior`` is one object for all, or a mapping from the beginning of
    a parameter's name to a prior, the longest match winning (``{"": Normal(), "output": Laplace()}``); the
    default is `priors.Normal`, standard deviation 1/sqrt(fan-in). A key ends where a word or a number of the name ends:
    "hidden1" is not the beginning of "hidden10", "hidden" is. A distribution of Pyro's is a prior too: each entry of a
    weight follows it on its own. Parameters that do not require a gradient stay constants, and buffers are used as they
    are: put a module with running averages in ``eval()`` first. The sites are marked as weights, on which chains need
    not agree (see `posterity.inference.program.weights`).

    Returns a function with the module's signature; floating inputs are cast to the dtype of the weights. Raises
    ``ValueError`` for a module without trainable parameters or with running averages in training mode, a mapping that
    leaves a parameter out or has a key that no parameter begins with, a call inside a plate, or inputs of another shape
    or that the dtype of the weights cannot tell apart.

    >>> layer = bayesian("net", mlp(2, 3))
    >>> layer(torch.zeros(5, 2)).shape
    torch.Size([5, 3])
    """
    refuse_plates(f"bayesian({name!r})")
    parameters = dict(trainable(module))
    chosen = choose(prior, list(parameters))
    first = {f"{name}.{p}": value for p, value in parameters.items()}
    with pyro.poutine.infer_config(config_fn=partial(_of_a_network, first)):
        weights = {p: chosen[p](f"{name}.{p}", value.shape, value) for p, value in parameters.items()}
    return with_weights(module, weights)


def _of_a_network(first: Mapping[str, Tensor], site: Any) -> dict[str, Any]:
    """Marks a site: chains are compared by what the network computes, and not by its weights.

    A site that is a weight itself also carries the module's initial value (see `posterity.models.guides`).
    """
    return {WEIGHTS: True, **({INITIAL: first[site["name"]]} if site["name"] in first else {})}


def point(name: str, module: nn.Module, *, decay: float | Tensor = 0.0) -> Callable[..., Any]:
    """Turn the weights of any module into Pyro parameters ``{name}.{p}``; call it inside a Pyro model.

    ``decay`` d adds ``-d/2 |w|²`` to the log joint, the log density of a normal prior of precision d: maximum a
    posteriori instead of maximum likelihood. It counts once, also inside a plate or with batches of the rows. A tensor
    () is taken as it is, without a look at its value.

    Training starts from the module's own weights and leaves them as they are; the trained ones are in the
    `Posterior` that `SVI` returns, as one draw. Inputs as in `bayesian`. Raises ``ValueError`` for a module without
    trainable parameters or with running averages in training mode, or a decay that is negative or not finite.
    """
    if not isinstance(decay, Tensor) and not (is_number(decay) and decay >= 0):
        raise ValueError(f"expected a decay of 0 or more, got {decay!r}")
    weights = {parameter: pyro.param(f"{name}.{parameter}", value.clone()) for parameter, value in trainable(module)}
    if isinstance(decay, Tensor) or decay:
        factor_once(f"{name}.decay", -0.5 * decay * sum((value**2).sum() for value in weights.values()))
    return with_weights(module, weights)
