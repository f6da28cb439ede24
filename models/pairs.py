"""Pairs of a Pyro model of a table and its guide, in the units of the table.

Each function returns a `Pair` with ``.model`` (``model(x, y=None)``, written for one draw) and ``.guide``, which
`posterity.inference.infer` accepts like a bare model:

- `bayesian_regression`: unimodal y with Gaussian noise, constant or depending on x, and a posterior of the weights.
- `bayesian_classification`: classes, and a posterior of the weights.
- `mixture_density`: multimodal y; the weights are parameters (maximum likelihood, or MAP with ``decay``).
- `bayesian_mixture_density`: multimodal y, and a posterior of the weights.

Inside the model x and y are standardised. The observed site is ``y`` in its own units, so that log scores, pulls and
scales need no conversion, and a change of units of x or y changes nothing else. x is standardised in its own dtype
before the cast to the dtype of the network; y is scored in the wider dtype of both.

``resolution`` is the precision to which y was recorded, in units of y: no scale falls below it. By default it is a
thousandth of the standard deviation of y. Pass it if y is known more precisely: y with noise of 1e-5 standard
deviations would otherwise be predicted a hundred times too wide.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from posterity.data import Standardization
from posterity.models.guides import check_guide
from posterity.models.likelihoods import gaussian, heteroscedastic_gaussian
from posterity.models.mixture_priors import MixturePrior
from posterity.models.mixtures import MixtureHead, MultivariateMixtureHead, mixture_head
from posterity.models.modules import dtype_of, trainable
from posterity.models.networks import bayesian, mlp, point
from posterity.models.pair import Model, Pair
from posterity.models.priors import Normal, Prior, choose, has_prefix
from posterity.validation import check_choice, check_integer, check_number, shown_shape

WeightPrior = Prior | Distribution
Head = MixtureHead | MultivariateMixtureHead
NOISES = ("constant", "input")
SWEPT = ("components", "decay")

INPUT_SCALE = 3.0
"""Prior scale of the first layer. A tanh unit of a standardised input then turns within about a third of the spread of
the input, with its centre anywhere in the data. With unit scale functions are little more than straight lines."""
RESOLUTION = 1e-3  # default resolution, in standard deviations of y


def table_prior() -> dict[str, Prior]:
    """The default prior over the weights of pairs: `priors.Normal`, wider for the first layer (see `INPUT_SCALE`)."""
    return {"": Normal(), "hidden1": Normal(scale=INPUT_SCALE)}


def bayesian_regression(
    scale: Standardization,
    *,
    hidden: tuple[int, ...] = (32,),
    noise: str = "input",
    resolution: float | None = None,
    prior: WeightPrior | Mapping[str, WeightPrior] | None = None,
    activation: str = "tanh",
    guide: str = "mean_field",
) -> Pair:
    """A Bayesian network with a Gaussian likelihood; sites ``net...``, ``noise`` (if constant) and ``y``.

    Args:
        scale: standardisation of the training data.
        hidden: widths of the hidden layers.
        noise: "constant" (one standard deviation, with a half-normal prior of scale 1 for standardised y) or "input" (a
            second output of the network).
        resolution: lower bound of the noise, in units of y; see the module.
        prior: prior over the weights, as in `bayesian`; `table_prior` by default.
        activation: activation function, as in `mlp`.
        guide: name of the guide, as in `make_guide`.

    Raises:
        ValueError: an unknown noise, activation or guide, a resolution that is not above 0, or a prior that does not
            fit the parameters of the network; in the model, x that is not of shape (N, D).
    """
    check_choice("noise", noise, NOISES)
    _check(scale, guide)
    floor = _floor(scale, resolution)
    outputs = 1 if noise == "constant" else 2
    net = _perceptron(scale, hidden, outputs, activation)
    weights_prior = _weights_prior(net, prior)

    def model(x: Tensor, y: Tensor | None = None) -> Tensor:
        features = bayesian("net", net, weights_prior)(_standardised(scale, net, x, ndim=2))
        if noise == "constant":
            sigma = pyro.sample("noise", dist.HalfNormal(features.new_ones(())))
            likelihood = gaussian(features, (sigma**2 + floor**2).sqrt())
        else:
            likelihood = heteroscedastic_gaussian(features, floor=floor)
        with pyro.plate("obs", len(x)):
            return pyro.sample("y", scale.undo(likelihood), obs=y)

    return Pair(model, guide, _example(scale))


def bayesian_classification(
    scale: Standardization,
    classes: int,
    *,
    hidden: tuple[int, ...] = (32,),
    prior: WeightPrior | Mapping[str, WeightPrior] | None = None,
    activation: str = "tanh",
    guide: str = "mean_field",
) -> Pair:
    """A network with a posterior of the weights whose outputs are the logits of classes; sites ``net...`` and ``y``.

    The model takes x (N, D) and y (N,), whole numbers from 0 to ``classes`` - 1.

    Args:
        scale: standardisation of the training data, of which only the inputs count.
        classes: the number of classes, two or more.
        hidden: widths of the hidden layers; none is logistic regression.
        prior: prior over the weights, as in `bayesian`; `table_prior` by default.
        activation: activation function, as in `mlp`.
        guide: name of the guide, as in `make_guide`.

    Raises:
        ValueError: fewer than two classes, an unknown activation or guide, or a prior that does not fit the parameters
            of the network; in the model, x that is not of shape (N, D).
    """
    check_integer("classes", classes, 2)
    _check(scale, guide)
    net = _perceptron(scale, hidden, classes, activation)
    weights_prior = _weights_prior(net, prior)

    def model(x: Tensor, y: Tensor | None = None) -> Tensor:
        logits = bayesian("net", net, weights_prior)(_standardised(scale, net, x, ndim=2))
        with pyro.plate("obs", len(x)):
            return pyro.sample("y", dist.Categorical(logits=logits), obs=y)

    return Pair(model, guide, _example(scale))


def mixture_density(
    scale: Standardization,
    *,
    components: int = 3,
    hidden: tuple[int, ...] = (32,),
    resolution: float | None = None,
    decay: float = 0.0,
    activation: str = "tanh",
    seed: int = 0,
    head: Head | None = None,
    net: nn.Module | None = None,
    mixture_priors: tuple[MixturePrior, ...] = (),
    swept: tuple[str, ...] = (),
) -> Pair:
    """A mixture density network (Bishop 1994) whose weights are parameters; its guide is empty.

    With `Standardization.whole` the net may take images (N, C, H, W) or sequences (N, T, D). Its output is then
    (N, features) with y (N,), or (N, T, features) with y (N, T).

    Args:
        scale: standardisation of the training data.
        components: the number of components; the largest one if it is swept.
        hidden: widths of the hidden layers.
        resolution: lower bound of all scales, in units of y; see the module.
        decay: precision d of a normal prior over the weights, which adds ``-d/2 |w|²`` to the log likelihood (MAP);
            0 for maximum likelihood.
        activation: activation function, as in `mlp`.
        seed: seed of the initial weights.
        head: a head in units of the standardised y, instead of ``components`` and ``resolution``, for another family,
            several targets, or components that start at the data.
        net: a network from standardised x to ``head.features`` instead of the multilayer perceptron, such as `radial`.
        mixture_priors: priors over the components, see `posterity.models.mixture_priors`.
        swept: settings ("components", "decay") that the model reads from parameters, for `posterity.inference.sweep`.

    Raises:
        ValueError: a resolution that is not above 0 or is passed together with a head, a negative decay, or a net with
            a wrong number of inputs or outputs.
    """
    check_number("decay", decay, "[0, inf)")
    _check(scale, None, mixture_priors)
    if not isinstance(swept, tuple | list):
        raise ValueError(f"expected swept to be a tuple of names, got {swept!r}")
    for name in swept:
        check_choice("swept", name, SWEPT)
    head = _head(scale, head, components, resolution)
    net = _network(scale, head, net, hidden, activation, seed)
    if "components" in swept:
        if not isinstance(head, MixtureHead):
            raise ValueError("expected a head of one target for a sweep over components, got a multivariate head")
        head = head.spread_first()

    def network() -> Callable[..., Tensor]:
        return point("net", net, decay=_swept("decay", decay) if "decay" in swept else decay)

    model = _mixture_model("mixture_density", scale, head, net, network, mixture_priors, "components" in swept)
    return Pair(model, None, _example(scale))


def bayesian_mixture_density(
    scale: Standardization,
    *,
    components: int = 3,
    hidden: tuple[int, ...] = (32,),
    resolution: float | None = None,
    prior: WeightPrior | Mapping[str, WeightPrior] | None = None,
    activation: str = "tanh",
    guide: str = "low_rank",
    head: Head | None = None,
    net: nn.Module | None = None,
    mixture_priors: tuple[MixturePrior, ...] = (),
) -> Pair:
    """A mixture density network with a posterior of the weights; sites ``net...`` and ``y``.

    Args:
        scale, components, hidden, resolution, activation, head, net, mixture_priors: as in `mixture_density`.
        prior: prior over the weights, as in `bayesian`; `table_prior` by default.
        guide: name of the guide, as in `make_guide`.

    Raises:
        ValueError: a resolution that is not above 0 or is passed together with a head, a net with a wrong number of
            inputs or outputs, an unknown guide, or a prior that does not fit the parameters of the net.
    """
    _check(scale, guide, mixture_priors)
    head = _head(scale, head, components, resolution)
    net = _network(scale, head, net, hidden, activation, 0)
    weights_prior = _weights_prior(net, prior)
    weights = lambda: bayesian("net", net, weights_prior)  # noqa: E731
    model = _mixture_model("bayesian_mixture_density", scale, head, net, weights, mixture_priors)
    return Pair(model, guide, _example(scale))


def _mixture_model(
    name: str,
    scale: Standardization,
    head: Head,
    net: nn.Module,
    network: Callable[[], Callable[..., Tensor]],
    mixture_priors: tuple[MixturePrior, ...],
    sweep_components: bool = False,
) -> Model:
    def model(x: Tensor, y: Tensor | None = None) -> Tensor:
        features = network()(_standardised(scale, net, x))
        if sweep_components and isinstance(head, MixtureHead):
            mixture = head(features, _swept("components", head.components))
        else:
            mixture = head(features)
        for number, prior in enumerate(mixture_priors):
            prior(f"mixture_prior.{number}", mixture)
        with _plates(mixture.batch_shape):
            return pyro.sample("y", scale.undo(mixture), obs=y)

    model.__qualname__ = f"{name}.<locals>.model"
    return model


def _example(scale: Standardization) -> tuple[Tensor] | None:
    """One row of x with which the model runs; None for inputs of any shape."""
    return (scale.x_loc.unsqueeze(0),) if scale.x_loc.ndim else None


@contextmanager
def _plates(batch: torch.Size) -> Iterator[None]:
    """Plates of the rows, and of steps of a sequence or pixels of an image."""
    with ExitStack() as stack:
        for place, size in enumerate(batch):
            name = "obs" if place == 0 else f"obs.{place}"
            stack.enter_context(pyro.plate(name, size, dim=place - len(batch)))
        yield


def _check(scale: Any, guide: Any, priors: Any = ()) -> None:
    if not isinstance(scale, Standardization):
        raise ValueError(f"expected scale to be a Standardization, got {type(scale).__name__}")
    if guide is not None:
        check_guide(guide)
    if not isinstance(priors, tuple | list) or not all(callable(p) and not isinstance(p, type) for p in priors):
        raise ValueError(f"expected mixture_priors to be a tuple of priors, got {priors!r}")


def _perceptron(
    scale: Standardization, hidden: tuple[int, ...], outputs: int, activation: str, seed: int = 0
) -> nn.Module:
    """A multilayer perceptron of the columns of a table, in its dtype and on its device."""
    if scale.x_loc.ndim == 0:
        raise ValueError("expected scale to standardise the columns of a table, got one for inputs of any shape")
    return mlp(len(scale.x_loc), *_hidden(hidden), outputs, activation=activation, seed=seed).to(scale.x_loc)


def _network(
    scale: Standardization, head: Head, net: nn.Module | None, hidden: tuple[int, ...], activation: str, seed: int
) -> nn.Module:
    if net is not None and not isinstance(net, nn.Module):
        raise ValueError(f"expected net to be a torch.nn.Module, got {type(net).__name__}")
    if scale.x_loc.ndim == 0:
        if net is None:
            raise ValueError("expected a net with a standardisation of inputs of any shape, got none")
        return net
    columns = len(scale.x_loc)
    if net is None:
        net = _perceptron(scale, hidden, head.features, activation, seed)
    trainable(net)
    row = torch.zeros(1, columns, dtype=dtype_of(net) or scale.x_loc.dtype, device=scale.x_loc.device)
    try:
        with torch.no_grad():
            shape = tuple(net(row).shape)
    except RuntimeError as error:
        raise ValueError(f"expected a net of {columns} inputs, got one that fails with them: {error}") from error
    if shape != (1, head.features):
        raise ValueError(
            f"expected a net from (N, {columns}) to (N, {head.features}) features, got {shape} for (1, {columns})"
        )
    return net


def _head(scale: Standardization, head: Head | None, components: int, resolution: float | None) -> Head:
    if head is None:
        return mixture_head(components, floor=_floor(scale, resolution))
    if not isinstance(head, Head):
        raise ValueError(f"expected head to be a MixtureHead or MultivariateMixtureHead, got {type(head).__name__}")
    if resolution is not None:
        raise ValueError(f"expected either resolution or head, which has its own floor, got both: {resolution}, {head}")
    targets = getattr(head, "targets", 1)
    if targets != scale.y_loc.numel():
        raise ValueError(f"expected head with {scale.y_loc.numel()} targets, as the standardisation, got {targets}")
    return head


def _weights_prior(net: nn.Module, prior: Any) -> Any:
    """The prior, checked before the model runs; the default prior without the layers that the net lacks."""
    names = [name for name, _ in trainable(net)]
    if prior is None:
        prior = {key: value for key, value in table_prior().items() if any(has_prefix(name, key) for name in names)}
    choose(prior, names)
    return prior


def _hidden(hidden: Any) -> tuple[int, ...]:
    if not isinstance(hidden, tuple | list):
        raise ValueError(f"expected hidden to be a tuple of widths, got {hidden!r}")
    return tuple(hidden)


def _standardised(scale: Standardization, net: nn.Module, x: Tensor, ndim: int | None = None) -> Tensor:
    """Standardised x, cast to the dtype of the net after standardisation, which keeps its digits."""
    columns = scale.x_loc.ndim
    if not isinstance(x, Tensor) or not x.numel() or (x.ndim != ndim if ndim else x.ndim <= columns):
        wanted = f"(N, {len(scale.x_loc)})" if columns else "(N, ...)"
        raise ValueError(f"expected x of shape {wanted}, got {shown_shape(x)}")
    dtype = dtype_of(net)
    return scale.x(x) if dtype is None else scale.x(x).to(dtype)


def _swept(name: str, value: float) -> Tensor:
    return pyro.param(name, torch.tensor(float(value))).detach()


def _floor(scale: Standardization, resolution: float | None) -> float:
    """The resolution in standardised units."""
    if scale.y_loc.ndim:
        raise ValueError(f"expected scale to standardise one target, got {len(scale.y_loc)} targets")
    if resolution is None:
        return RESOLUTION
    check_number("resolution", resolution, "(0, inf)")
    return resolution / float(scale.y_scale)
