"""A Bayesian network for classes: a pair of a Pyro model and its guide, like those of `posterity.models.pairs`."""

from collections.abc import Mapping
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor

from posterity.data import Standardization
from posterity.models.guides import check_guide
from posterity.models.networks import bayesian, mlp
from posterity.models.pairs import INPUT_SCALE, Pair, WeightPrior
from posterity.models.priors import Normal, choose
from posterity.validation import check_integer, check_sizes, shown_shape


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
        scale: standardisation of the inputs; that of y is not used.
        classes: the number of classes, two or more.
        hidden: widths of the hidden layers.
        prior: prior over the weights, as in `bayesian`; by default `priors.Normal`, wider for the first layer.
        activation: activation function, as in `mlp`.
        guide: name of the guide, as in `make_guide`.

    Raises:
        ValueError: fewer than two classes, a scale that is not a `Standardization` of the columns of a table, an
            unknown activation or guide, or a prior that does not fit the parameters of the network; in the model, x
            that is not of shape (N, D).
    """
    check_integer("classes", classes, 2)
    if not isinstance(scale, Standardization) or scale.x_loc.ndim != 1:
        raise ValueError(f"expected scale to standardise the columns of a table, got {scale!r}")
    check_guide(guide)
    if hidden:
        check_sizes("hidden", hidden)
    net = mlp(len(scale.x_loc), *hidden, classes, activation=activation, seed=0).to(scale.x_loc)
    names = [name for name, _ in net.named_parameters()]
    if prior is None:
        prior = {"": Normal(), "hidden1": Normal(scale=INPUT_SCALE)} if hidden else Normal(scale=INPUT_SCALE)
    choose(prior, names)

    def model(x: Tensor, y: Tensor | None = None) -> Any:
        if not isinstance(x, Tensor) or x.ndim != 2 or x.shape[1] != len(scale.x_loc):
            raise ValueError(f"expected x of shape (N, {len(scale.x_loc)}), got {shown_shape(x)}")
        logits = bayesian("net", net, prior)(scale.x(x).to(scale.x_loc))
        with pyro.plate("obs", len(x)):
            return pyro.sample("y", dist.Categorical(logits=logits), obs=y)

    return Pair(model, guide)


def input_standardization(x: Tensor) -> Standardization:
    """Standardisation of the columns of x (N, D) alone; y keeps its values.

    Raises:
        ValueError: a constant column.
    """
    spread = x.std(0, correction=0)
    if not bool((spread > 0).all()):
        constant = [int(column) for column in (~(spread > 0)).nonzero().flatten()]
        raise ValueError(f"expected columns of x that vary, got constant values in columns {constant}")
    return Standardization(x.mean(0), spread, torch.zeros(()).to(x), torch.ones(()).to(x))
