"""Small networks, and the functions that place a network in a Pyro model.

Any ``torch.nn.Module`` can be used. Inside a model,

- `bayesian("net", module, prior)` makes its weights sample sites, with a posterior;
- `point("net", module)` makes its weights Pyro parameters, over which SVI maximises;
- the module called directly has constant weights (frozen features).

Both functions return a function with the signature of the module, evaluated by ``torch.func.functional_call``. The
module is never modified, and the model describes one draw; the engine adds draws and chains from outside.
"""

from collections import OrderedDict
from collections.abc import Callable, Mapping
from functools import partial
from itertools import pairwise
from typing import Any

import pyro
import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from posterity.models.modules import trainable, with_weights
from posterity.models.plates import factor_once, refuse_plates
from posterity.models.priors import Prior, choose
from posterity.validation import (
    check_choice,
    check_floating,
    check_integer,
    check_number,
    check_pair,
    check_seed,
    check_sizes,
    shown_shape,
)

WEIGHTS = "posterity_weights"  # key in ``infer`` of the sites of `bayesian`
INITIAL = "posterity_initial"  # key in ``infer`` of a weight, with its value in the module


class Erf(nn.Module):
    """The error function: a sigmoid between -1 and 1 for which the wide limit of a network has a closed form."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.erf(x)


class Cosine(nn.Module):
    """The cosine: with normal weights and wide biases, a wide layer is a stationary Gaussian process."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.cos(x)


ACTIVATIONS: dict[str, type[nn.Module]] = {
    "tanh": nn.Tanh,
    "relu": nn.ReLU,
    "silu": nn.SiLU,
    "gelu": nn.GELU,
    "softplus": nn.Softplus,
    "erf": Erf,
    "cos": Cosine,
}


def mlp(*widths: int, activation: str = "tanh", seed: int | None = None) -> nn.Sequential:
    """A fully connected network with named layers, (..., widths[0]) -> (..., widths[-1]).

    ``mlp(1, 32, 32, 9)`` has layers ``hidden1``, ``hidden2`` and ``output``, so that a sample site has the name
    ``net.hidden1.weight``. ``activation`` is "tanh", "relu", "silu", "gelu", "softplus", "erf" or "cos". With ``seed``
    the initial weights depend on it alone and the global random state is unchanged; without, they use the global random
    state.

    Raises:
        ValueError: fewer than two widths, a width below 1, or an unknown activation.

    >>> mlp(1, 8, 2)(torch.zeros(5, 1)).shape
    torch.Size([5, 2])
    """
    check_sizes("widths", widths)
    if len(widths) < 2:
        raise ValueError(f"expected at least two widths (input, ..., output), got {widths}")
    check_choice("activation", activation, sorted(ACTIVATIONS))
    if seed is None:
        return _stack(widths, activation)
    check_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would also seed accelerators
        return _stack(widths, activation)


def _stack(widths: tuple[int, ...], activation: str) -> nn.Sequential:
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for index, (fan_in, fan_out) in enumerate(pairwise(widths[:-1]), start=1):
        layers[f"hidden{index}"] = nn.Linear(fan_in, fan_out)
        layers[f"{activation}{index}"] = ACTIVATIONS[activation]()
    layers["output"] = nn.Linear(widths[-2], widths[-1])
    return nn.Sequential(layers)


class RadialBasis(nn.Module):
    """Gaussian basis functions of one input, normalised to sum to one, (..., 1) -> (..., count).

    A layer on top of them learns its output at each input from nearby data alone, so that modes which appear and vanish
    along the input do not disturb each other. Outside the range of the centres the output is nearly constant.
    (Moody & Darken 1989, "Fast learning in networks of locally-tuned processing units", Neural Computation 1.)

    Args:
        low, high: the first and the last centre.
        count: the number of centres, equally spaced.
        width: standard deviation of a basis function, in units of the distance between centres.

    Raises:
        ValueError: an empty or infinite range, fewer than two centres, or a width that is not above 0.
    """

    centres: Tensor

    def __init__(self, low: float, high: float, count: int, width: float = 1.0) -> None:
        super().__init__()
        check_pair("range of the centres", (low, high))
        check_integer("count", count, 2)
        check_number("width", width, "(0, inf)")
        self.register_buffer("centres", torch.linspace(low, high, count))
        self.width = width * (high - low) / (count - 1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.softmax(-0.5 * ((x - self.centres) / self.width) ** 2, -1)


def radial(x: Tensor, centres: int, outputs: int, *, width: float = 1.0, seed: int | None = None) -> nn.Sequential:
    """A network of one input, (..., 1) -> (..., outputs): `RadialBasis` over the range of ``x``, then a linear layer.

    With many rows, such as 10^5, it fits in seconds what takes a multilayer perceptron much longer. The weights start
    small.

    Args:
        x: training inputs (N, 1), whose range the centres cover.
        centres: the number of centres.
        outputs: the number of outputs.
        width: standard deviation of a basis function, in units of the distance between centres.
        seed: seed of the initial weights; None for the global random state.

    Raises:
        ValueError: x of another shape or with equal values, fewer than two centres, or fewer than one output.

    >>> radial(torch.linspace(-2, 2, 50)[:, None], 20, 9)(torch.zeros(5, 1)).shape
    torch.Size([5, 9])
    """
    if not isinstance(x, Tensor) or x.ndim != 2 or x.shape[1] != 1 or not len(x):
        raise ValueError(f"expected x of shape (N, 1), got {shown_shape(x)}")
    check_floating("x", x)
    check_integer("centres", centres, 2)
    check_integer("outputs", outputs, 1)
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
    """Turn the weights of any module into sample sites; for calls inside a Pyro model, outside its plates.

    Each parameter ``p`` of the module becomes a site ``{name}.{p}`` of the shape of the parameter; a hierarchical prior
    adds sites beside it. ``prior`` is one object for all parameters, or a mapping from prefixes of parameter names to
    priors, of which the longest match applies (``{"": Normal(), "output": Laplace()}``). A prefix ends with a word or a
    number of the name: "hidden" is a prefix of "hidden10", "hidden1" is not. The default is `priors.Normal`, with
    standard deviation 1/sqrt(fan-in). A distribution of Pyro is the prior of each entry of a weight.

    Parameters that do not require a gradient are constants. Buffers are used without change: put a module with running
    averages in ``eval()`` mode first. The sites are marked as weights, which differ between chains that agree in their
    predictions (see `posterity.inference.program.weights`).

    Returns:
        A function with the signature of the module; floating inputs are cast to the dtype of the weights.

    Raises:
        ValueError: a module without trainable parameters or with running averages in training mode, a mapping without
            a prior for a parameter or with a key that is not a prefix of one, a call inside a plate; when called,
            inputs of another shape, or whose values the dtype of the weights cannot distinguish.

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
    """The mark of a site of a network: chains are compared by the outputs of the network and not by its weights.

    The site of a weight also stores the initial value in the module (see `posterity.models.guides`).
    """
    return {WEIGHTS: True, **({INITIAL: first[site["name"]]} if site["name"] in first else {})}


def point(name: str, module: nn.Module, *, decay: float | Tensor = 0.0) -> Callable[..., Any]:
    """Turn the weights of any module into Pyro parameters ``{name}.{p}``; for calls inside a Pyro model.

    ``decay`` d adds ``-d/2 |w|²`` to the log joint, the log density of a normal prior of precision d, so that the fit
    is maximum a posteriori instead of maximum likelihood. It counts once, also inside a plate and with minibatches. The
    value of a tensor () is not checked.

    Training starts from the weights of the module and does not modify them; the trained weights are one draw of the
    `Posterior` that `SVI` returns.

    Returns:
        A function as that of `bayesian`.

    Raises:
        ValueError: a module without trainable parameters or with running averages in training mode, or a decay that is
            negative or not finite.
    """
    if not isinstance(decay, Tensor):
        check_number("decay", decay, "[0, inf)")
    weights = {parameter: pyro.param(f"{name}.{parameter}", value.clone()) for parameter, value in trainable(module)}
    if isinstance(decay, Tensor) or decay:
        factor_once(f"{name}.decay", -0.5 * decay * sum((value**2).sum() for value in weights.values()))
    return with_weights(module, weights)
