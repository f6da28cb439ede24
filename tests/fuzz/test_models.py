"""Each argument of each public function of `posterity.models`, replaced by a wrong value in turn.

Every outcome is a result or a ``ValueError`` that says what was expected: the share is 100 %. A wrong type counts too.
"""

import math

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn

from posterity.data import Standardization
from posterity.models import (
    LeNet,
    Mixture,
    RadialBasis,
    Stacked,
    bayesian,
    bayesian_mixture_density,
    bayesian_regression,
    discriminators,
    gaussian,
    generators,
    heteroscedastic_gaussian,
    load_lenet,
    mixture_density,
    mixture_head,
    mixture_priors,
    mlp,
    multivariate_mixture_head,
    point,
    priors,
    radial,
    save_lenet,
    student_t,
)

NUMBERS = (None, "text", math.nan, math.inf, -math.inf, -1, 0, 0.5, True, 10**9 + 0.5, [], {}, object(), int, 1j)
TENSORS = (
    torch.zeros(()),
    torch.zeros(0),
    torch.zeros(0, 2),
    torch.zeros(1, 2),
    torch.zeros(3),
    torch.zeros(5, 3),
    torch.zeros(2, 3, 4),
    torch.full((5,), math.nan),
    torch.full((5, 2), math.inf),
    torch.zeros(5, dtype=torch.long),
    torch.zeros(5, 2, dtype=torch.double),
    torch.zeros(5, 2, dtype=torch.bool),
    torch.zeros(5, 2, dtype=torch.cfloat),
    np.zeros((5, 2)),
    np.array(["a"]),
    [[1.0, 2.0], [3.0]],
    ["a", "b"],
)
BAD = (*NUMBERS, *TENSORS)

torch.manual_seed(0)
SCALE = Standardization.identity(2)
FEATURES, VALUES = torch.randn(5, 6), torch.randn(5)
ONE = Mixture.normal(torch.zeros(5, 2), torch.randn(5, 2), torch.ones(5, 2))
TWO = Mixture(dist.Categorical(torch.ones(5, 2)), dist.Normal(torch.randn(5, 2, 2), 1.0).to_event(1))
COUNTS = Mixture(dist.Categorical(torch.ones(5, 2)), dist.Binomial(4, probs=torch.rand(5, 2)))
HEAD, SEVERAL = mixture_head(2), multivariate_mixture_head(2, 2)
NET = mlp(2, 3, 2, seed=0)
LENET = LeNet(3, (1, 12, 12), widths=(2, 2))
HIDDEN = {"hidden": (3,)}


def sampled(function):
    """A call inside a model, without its result."""

    def call(**arguments):
        with pyro.get_param_store().scope():
            return pyro.poutine.trace(lambda: function(**arguments)).get_trace()

    return call


def run(build):
    """The model of a pair, run once on two columns."""
    return sampled(lambda **arguments: build(SCALE, **arguments).model(torch.zeros(4, 2)))


def weighted(prior):
    return lambda **arguments: pyro.poutine.trace(
        lambda: prior(**arguments)("w", torch.Size((3, 2)), torch.zeros(3, 2))
    ).get_trace()


def factor(prior):
    return lambda **arguments: pyro.poutine.trace(lambda: prior(**arguments)("f", ONE)).get_trace()


# Every function with arguments that are right.
CALLS = {
    "mlp": (lambda w0, w1, **k: mlp(w0, w1, **k), {"w0": 2, "w1": 1, "activation": "tanh", "seed": 0}),
    "RadialBasis": (RadialBasis, {"low": 0.0, "high": 1.0, "count": 3, "width": 1.0}),
    "radial": (radial, {"x": torch.linspace(0, 1, 5)[:, None], "centres": 3, "outputs": 2, "width": 1.0, "seed": 0}),
    "bayesian": (sampled(bayesian), {"name": "net", "module": NET, "prior": None}),
    "bayesian(x)": (sampled(lambda x: bayesian("net", NET)(x)), {"x": torch.zeros(5, 2)}),
    "point": (sampled(point), {"name": "net", "module": NET, "decay": 0.1}),
    "point(x)": (sampled(lambda x: point("net", NET)(x)), {"x": torch.zeros(5, 2)}),
    "gaussian": (gaussian, {"features": torch.zeros(5, 1), "noise": 0.5}),
    "heteroscedastic_gaussian": (heteroscedastic_gaussian, {"features": torch.zeros(5, 2), "floor": 1e-3}),
    "student_t": (student_t, {"features": torch.zeros(5, 1), "scale": 0.5, "df": 4.0}),
    "mixture_head": (
        mixture_head,
        {"components": 2, "floor": 1e-3, "spread": 1.0, "family": "normal", "df": 4.0, "ceiling": 2.0},
    ),
    "mixture_head(features)": (HEAD, {"features": FEATURES}),
    "started_at": (HEAD.started_at, {"y": VALUES, "method": "k_means", "seed": 0}),
    "multivariate_mixture_head": (
        multivariate_mixture_head,
        {"components": 2, "targets": 2, "covariance": "full", "rank": 1, "floor": 1e-3},
    ),
    "multivariate_mixture_head(features)": (SEVERAL, {"features": torch.zeros(5, SEVERAL.features)}),
    "multivariate started_at": (SEVERAL.started_at, {"y": torch.randn(9, 2), "seed": 0}),
    "Mixture": (
        lambda mixing, components: Mixture(mixing, components),
        {"mixing": dist.Categorical(torch.ones(5, 2)), "components": dist.Normal(torch.zeros(5, 2), 1.0)},
    ),
    "Mixture.normal": (
        Mixture.normal,
        {"logits": torch.zeros(5, 2), "loc": torch.zeros(5, 2), "scale": torch.ones(5, 2)},
    ),
    "cdf": (ONE.cdf, {"value": VALUES}),
    "sf": (ONE.sf, {"value": VALUES}),
    "cdf of counts": (COUNTS.cdf, {"value": torch.zeros(5)}),
    "icdf": (ONE.icdf, {"probability": 0.5}),
    "icdf of counts": (COUNTS.icdf, {"probability": 0.5}),
    "log_prob": (ONE.log_prob, {"value": VALUES}),
    "log_prob of two": (TWO.log_prob, {"value": torch.zeros(5, 2)}),
    "responsibilities": (ONE.responsibilities, {"value": VALUES}),
    "responsibilities of two": (TWO.responsibilities, {"value": torch.zeros(5, 2)}),
    "modes": (ONE[:2].modes, {"min_probability": 0.1}),
    "hdr": (ONE[:1].hdr, {"level": 0.5}),
    "hdr_level": (ONE.hdr_level, {"value": VALUES}),
    "marginal": (TWO.marginal, {"targets": 0}),
    "conditional": (TWO.conditional, {"targets": 0, "value": torch.zeros(5)}),
    "entropy": (ONE.entropy, {"draws": 3}),
    "tempered": (ONE.tempered, {"temperature": 1.0}),
    "affine": (ONE.affine, {"loc": 1.0, "scale": 2.0}),
    "WideScales": (factor(mixture_priors.WideScales), {"scale": 0.3, "concentration": 1.0, "strength": 1.0}),
    "EvenWeights": (factor(mixture_priors.EvenWeights), {"strength": 1.0}),
    "SparseWeights": (factor(mixture_priors.SparseWeights), {"concentration": 0.1, "strength": 1.0}),
    "priors.Normal": (weighted(priors.Normal), {"scale": 1.0, "fan_in": True, "bias_scale": None}),
    "priors.Laplace": (weighted(priors.Laplace), {"scale": 1.0, "fan_in": True, "bias_scale": None}),
    "priors.StudentT": (weighted(priors.StudentT), {"scale": 1.0, "df": 4.0}),
    "priors.ScaleMixture": (weighted(priors.ScaleMixture), {"scale": 1.0, "weight": 0.5, "narrow": 0.1}),
    "priors.HierarchicalNormal": (weighted(priors.HierarchicalNormal), {"concentration": 2.0, "rate": 2.0}),
    "priors.Horseshoe": (weighted(priors.Horseshoe), {"scale": 1.0}),
    "bayesian_regression": (
        run(bayesian_regression),
        HIDDEN | {"noise": "input", "resolution": 0.1, "prior": None, "activation": "tanh", "guide": "map"},
    ),
    "mixture_density": (
        run(mixture_density),
        HIDDEN
        | {"components": 2, "resolution": 0.1, "decay": 0.1, "activation": "tanh", "seed": 0, "swept": ()}
        | {"mixture_priors": (mixture_priors.EvenWeights(),)},
    ),
    "mixture_density, own parts": (run(mixture_density), {"head": HEAD, "net": mlp(2, 6)}),
    "bayesian_mixture_density": (
        run(bayesian_mixture_density),
        HIDDEN | {"components": 2, "resolution": 0.1, "prior": None, "activation": "tanh", "guide": "map"},
    ),
    "scale of a pair": (lambda scale: mixture_density(scale, hidden=(3,)), {"scale": SCALE}),
    "x of a pair": (
        sampled(lambda x: bayesian_regression(SCALE, hidden=(3,)).model(x)),
        {"x": torch.zeros(5, 2)},
    ),
    "Stacked": (Stacked, {"nets": [nn.Linear(2, 1), nn.Linear(2, 1)]}),
    "Stacked(x)": (Stacked([nn.Linear(2, 1) for _ in range(3)]), {"x": torch.zeros(3, 5, 2)}),
    "LeNet": (LeNet, {"classes": 3, "shape": (1, 12, 12), "widths": (2, 2), "dropout": 0.1}),
    "LeNet(x)": (LENET, {"x": torch.zeros(2, 1, 12, 12)}),
    "save_lenet": (save_lenet, {"net": LENET}),
    "dense_generator": (
        generators.dense_generator,
        {"latent": 2, "shape": (1, 8, 8), "hidden": (3,), "slope": 0.2, "squash": True, "start": "he"},
    ),
    "dcgan_generator": (
        generators.dcgan_generator,
        {"latent": 2, "shape": (1, 8, 8), "width": 2, "hidden": (), "batch_norm": True, "start": None},
    ),
    "dense_discriminator": (
        discriminators.dense_discriminator,
        {"shape": (1, 8, 8), "hidden": (3,), "slope": 0.2, "spectral": False, "octaves": 0},
    ),
    "dcgan_discriminator": (discriminators.dcgan_discriminator, {"shape": (1, 8, 8), "width": 2, "norm": "none"}),
    "dense_discriminator(x)": (discriminators.dense_discriminator((2,), hidden=(3,)), {"x": torch.zeros(5, 2)}),
}
MODULES = ("Stacked(x)", "LeNet(x)", "dense_discriminator(x)")  # their forward takes no names


def outcomes(name, tmp_path):
    """For each argument and bad value: None, or the unexpected error."""
    function, right = CALLS[name]
    more = {"path": tmp_path / "net.pt"} if name == "save_lenet" else {}
    call = (lambda **k: function(*k.values())) if name in MODULES else function
    call(**right, **more)
    for argument in right:
        for bad in BAD:
            try:
                call(**right | {argument: bad}, **more)
                yield argument, bad, None
            except ValueError as error:
                yield argument, bad, None if "xpected" in str(error) else error
            except Exception as error:  # noqa: BLE001 - which one is what the test is about
                yield argument, bad, error


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", CALLS)
def test_what_does_not_belong_is_a_result_or_a_named_error(name, tmp_path):
    found = list(outcomes(name, tmp_path))
    wrong = [f"{argument}={bad!r:.60}: {error!r:.200}" for argument, bad, error in found if error is not None]
    assert not wrong, f"{len(found) - len(wrong)} of {len(found)} outcomes are right, not:\n" + "\n".join(wrong)


@pytest.mark.parametrize("path", [0, None, 1.5, b"text"])
def test_a_path_that_is_none_is_refused(path):
    with pytest.raises((ValueError, TypeError, OSError)):
        load_lenet(path)
