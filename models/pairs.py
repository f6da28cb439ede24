"""Ready pairs: a Pyro model of a table and its guide, in the units of the table.

Each function returns a `Pair` with ``.model`` (``model(x, y=None)``, written for one draw) and ``.guide``, which
`posterity.inference.infer` takes as it takes a bare model. Which one:

- `bayesian_regression`: one answer with Gaussian noise, the same everywhere or depending on x.
- `mixture_density`: several answers; the weights are parameters (maximum likelihood, or MAP with ``decay``).
- `bayesian_mixture_density`: several answers, and a posterior of the weights.

Inside, x and y are standardised; the observed site is ``y`` in its own units, so that log scores, pulls and scales
need no conversion, and another unit of x or y changes nothing else. x is standardised in the dtype it comes in, before
it is cast to the network's; y is scored in the wider dtype of both.

``resolution`` is how finely y was recorded, in its units: no scale falls below it. By default it is a thousandth of the
standard deviation of y. Give it where y is known better than that: y with noise of 1e-5 standard deviations would
otherwise be predicted a hundred times too wide. Models of your own are as short; read the source.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from posterity.data import Standardization
from posterity.models.guides import check_guide, empty_guide, make_guide
from posterity.models.likelihoods import gaussian, heteroscedastic_gaussian
from posterity.models.mixture_priors import MixturePrior
from posterity.models.mixtures import MixtureHead, MultivariateMixtureHead, mixture_head
from posterity.models.modules import dtype_of, trainable
from posterity.models.networks import bayesian, mlp, point
from posterity.models.priors import Normal, Prior, begins, choose
from posterity.validation import check_choice, check_number

Model = Callable[..., Any]
WeightPrior = Prior | Distribution
Head = MixtureHead | MultivariateMixtureHead
NOISES = ("constant", "input")
SWEPT = ("components", "decay")

# A tanh unit of a standardised input then turns within about a third of the input's spread, and its centre lies
# anywhere in the data: wiggles of the size that tables show, where unit weights give little more than a slope.
INPUT_SCALE = 3.0
RESOLUTION = 1e-3  # standard deviations of y, where none is given


@dataclass(frozen=True)
class Pair:
    """A model and the guide made for it, by name, or None for the empty one.

    Each reading of ``guide`` is a fresh one: a trained guide is not shared. Inference takes the name where there is
    one, so that its settings (where to start, how wide) hold for a pair as for a bare model.
    """

    model: Model
    guide_name: str | None

    @property
    def guide(self) -> Callable[..., Any]:
        return empty_guide if self.guide_name is None else make_guide(self.guide_name, self.model)


def table_prior() -> dict[str, Prior]:
    """The pairs' default prior over the weights: `priors.Normal`, wider for the first layer (see INPUT_SCALE)."""
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
    """A Bayesian network with a Gaussian likelihood; sites ``net...``, ``noise`` (constant noise alone) and ``y``.

    ``scale`` is the standardisation of the training data. ``noise`` is "constant" (one standard deviation, half
    normal of scale 1 on standardised y) or "input" (a second output of the network). ``prior``: see `bayesian`.
    ``resolution``: see above. Raises ``ValueError`` for an unknown noise or guide, a resolution that is not positive,
    or a prior that does not fit the network's parameters; the model, for x that is not of shape (N, D).
    """
    check_choice("noise", noise, NOISES)
    _check(scale, guide)
    floor = _floor(scale, resolution)
    outputs = 1 if noise == "constant" else 2
    if scale.x_loc.ndim == 0:
        raise ValueError("expected a standardisation of the columns of a table, got one of inputs of any shape")
    net = mlp(len(scale.x_loc), *_hidden(hidden), outputs, activation=activation, seed=0).to(scale.x_loc)
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

    return Pair(model, guide)


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

    ``decay`` d adds ``-d/2 |w|²`` to the log likelihood: the log density of a normal prior of precision d, so that the
    fit is MAP. Zero is maximum likelihood. ``seed`` is that of the initial weights. ``head`` (in units of the
    standardised y) takes the place of ``components`` and ``resolution``: another family, several targets, components
    that start where the data are. ``net``, from standardised x to
    ``head.features``, takes the place of the multilayer perceptron: `radial`, or any of your own. With
    `Standardization.whole` it may take images (N, C, H, W), or sequences (N, T, D) and say something about each step:
    what it returns is (N, features) or (N, T, features), and y is (N,) or (N, T). ``mixture_priors``:
    see `posterity.models.mixture_priors`. ``swept`` makes settings, of "components" and "decay", into parameters that
    the model reads, for `posterity.inference.sweep`: with ``components`` for the largest number.
    Raises ``ValueError`` for a resolution that is not positive or stands beside a head, a negative decay, or a net of
    other outputs.
    """
    check_number("decay", decay, "[0, inf)")
    _check(scale, None, mixture_priors)
    if not isinstance(swept, tuple | list):
        raise ValueError(f"expected swept as a tuple of names, got {swept!r}")
    for name in swept:
        check_choice("swept", name, SWEPT)
    head = _head(scale, head, components, resolution)
    net = _network(scale, head, net, hidden, activation, seed)
    if "components" in swept:
        if not isinstance(head, MixtureHead):
            raise ValueError("expected a head of one target to sweep its components, got one of several")
        head = head.spread_first()

    def network() -> Callable[..., Tensor]:
        return point("net", net, decay=_swept("decay", decay) if "decay" in swept else decay)

    return Pair(_mixture_model(scale, head, net, network, mixture_priors, "components" in swept), None)


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

    ``head``, ``net`` and ``mixture_priors``: see `mixture_density`. Raises ``ValueError`` for a resolution that is not
    positive or stands beside a head, a net of other outputs, an unknown guide, or a prior that does not fit the net's
    parameters.
    """
    _check(scale, guide, mixture_priors)
    head = _head(scale, head, components, resolution)
    net = _network(scale, head, net, hidden, activation, 0)
    weights_prior = _weights_prior(net, prior)
    model = _mixture_model(scale, head, net, lambda: bayesian("net", net, weights_prior), mixture_priors)
    return Pair(model, guide)


def _mixture_model(
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

    return model


@contextmanager
def _plates(batch: torch.Size) -> Iterator[None]:
    """The rows, and what each of them has several answers for, as the steps of a sequence or the pixels of an image."""
    with ExitStack() as stack:
        for place, size in enumerate(batch):
            name = "obs" if place == 0 else f"obs.{place}"
            stack.enter_context(pyro.plate(name, size, dim=place - len(batch)))
        yield


def _check(scale: Any, guide: Any, priors: Any = ()) -> None:
    if not isinstance(scale, Standardization):
        raise ValueError(f"expected scale to be a Standardization, got {type(scale).__name__}")
    if guide is not None and not isinstance(guide, str):
        raise ValueError(f"expected a guide by its name, got {guide!r}")
    if guide is not None:
        check_guide(guide)
    if not isinstance(priors, tuple | list) or not all(callable(p) and not isinstance(p, type) for p in priors):
        raise ValueError(f"expected mixture_priors as a tuple of priors, got {priors!r}")


def _network(
    scale: Standardization, head: Head, net: nn.Module | None, hidden: tuple[int, ...], activation: str, seed: int
) -> nn.Module:
    if net is not None and not isinstance(net, nn.Module):
        raise ValueError(f"expected net to be a torch.nn.Module, got {type(net).__name__}")
    if scale.x_loc.ndim == 0:
        if net is None:
            raise ValueError("expected a net for a standardisation of inputs of any shape, got none")
        return net
    columns = len(scale.x_loc)
    if net is None:
        net = mlp(columns, *_hidden(hidden), head.features, activation=activation, seed=seed).to(scale.x_loc)
    trainable(net)
    row = torch.zeros(1, columns, dtype=dtype_of(net) or scale.x_loc.dtype, device=scale.x_loc.device)
    try:
        with torch.no_grad():
            found = tuple(net(row).shape)
    except RuntimeError as error:
        raise ValueError(f"expected a net of {columns} inputs, got one that cannot take them: {error}") from error
    if found != (1, head.features):
        raise ValueError(f"expected a net from {columns} inputs to {head.features} features, got {found[-1]}")
    return net


def _head(scale: Standardization, head: Head | None, components: int, resolution: float | None) -> Head:
    if head is None:
        return mixture_head(components, floor=_floor(scale, resolution))
    if not isinstance(head, Head):
        raise ValueError(f"expected head to be a MixtureHead or MultivariateMixtureHead, got {type(head).__name__}")
    if resolution is not None:
        raise ValueError(
            f"expected a resolution or a head, which has a floor of its own, got both: {resolution}, {head}"
        )
    targets = getattr(head, "targets", 1)
    if targets != scale.y_loc.numel():
        raise ValueError(f"expected a head of {scale.y_loc.numel()} targets, as the standardisation has, got {targets}")
    return head


def _weights_prior(net: nn.Module, prior: Any) -> Any:
    """The prior, checked before the model runs; the default one without the layers that the net lacks."""
    names = [name for name, _ in trainable(net)]
    if prior is None:
        prior = {key: value for key, value in table_prior().items() if any(begins(name, key) for name in names)}
    choose(prior, names)
    return prior


def _hidden(hidden: Any) -> tuple[int, ...]:
    if not isinstance(hidden, tuple | list):
        raise ValueError(f"expected hidden to be a tuple of widths, got {hidden!r}")
    return tuple(hidden)


def _standardised(scale: Standardization, net: nn.Module, x: Tensor, ndim: int | None = None) -> Tensor:
    """x in units of its spread and in the dtype of the net, to which it is cast last: the spread is not lost."""
    columns = scale.x_loc.ndim
    if not isinstance(x, Tensor) or not x.numel() or (x.ndim != ndim if ndim else x.ndim <= columns):
        wanted = f"(N, {len(scale.x_loc)})" if columns else "(N, ...)"
        found = tuple(x.shape) if isinstance(x, Tensor) else type(x).__name__
        raise ValueError(f"expected x of shape {wanted}, got {found}")
    dtype = dtype_of(net)
    return scale.x(x) if dtype is None else scale.x(x).to(dtype)


def _swept(name: str, value: float) -> Tensor:
    return pyro.param(name, torch.tensor(float(value))).detach()


def _floor(scale: Standardization, resolution: float | None) -> float:
    """The resolution in standardised units."""
    if scale.y_loc.ndim:
        raise ValueError(f"expected a standardisation of one target, got {len(scale.y_loc)} targets")
    if resolution is None:
        return RESOLUTION
    check_number("resolution", resolution, "(0, inf)")
    return resolution / float(scale.y_scale)
