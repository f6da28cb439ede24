"""Recurrent networks in the ready pairs: each fit predicts as a plain loop over its draws, on other sequences too."""

import math

import pytest
import torch
from torch import nn
from torch.func import functional_call

from posterity.data import Standardization
from posterity.inference import HMC, SVI, Ensemble, Posterior, infer
from posterity.inference import arviz as boundary
from posterity.inference.diagnostics import pull_summary, pulls
from posterity.models import bayesian_mixture_density, mixture_density, mixture_head
from posterity.models.recurrence import Recurrence
from posterity.models.recurrent import MixtureRNN, last_layer_pair, sequence_pair

pytestmark = [
    pytest.mark.filterwarnings("ignore:There is a performance drop"),  # torch, of layers without a batching rule
    pytest.mark.filterwarnings("ignore::posterity.inference.convergence.ConvergenceWarning"),
]

SEQUENCES, STEPS, NEW, LONGER = 6, 4, 9, 7
FITS = {
    "SVI": (mixture_density, SVI(steps=3, progress=False)),
    "Bayesian SVI": (bayesian_mixture_density, SVI(guide="mean_field", steps=3, draws=4, progress=False)),
    "Ensemble": (mixture_density, Ensemble(members=3, steps=3, progress=False)),
    "HMC": (bayesian_mixture_density, HMC(chains=2, warmup=3, draws=2, progress=False)),
}
LAYERS = {
    "LSTM": lambda: nn.LSTM(1, 3, batch_first=True),
    "GRU": lambda: nn.GRU(1, 3, batch_first=True),
    "Recurrence lstm": lambda: Recurrence("lstm", 1, 3),
    "Recurrence gru": lambda: Recurrence("gru", 1, 3),
}


class Sequential(nn.Module):
    """(N, T, 1) -> (N, T, outputs), or (N, outputs) after the last step."""

    def __init__(self, layer: str, outputs: int, each_step: bool) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.memory, self.output = LAYERS[layer](), nn.Linear(3, outputs)
        self.each_step = each_step

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        hidden = self.memory(x)[0]
        return self.output(hidden if self.each_step else hidden[:, -1])


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def draws_of(posterior: Posterior, prefix: str) -> list[dict[str, torch.Tensor]]:
    """The weights of each draw, by the names of the module."""
    flat = {name.removeprefix(prefix): value.flatten(0, 1) for name, value in posterior.draws.items()}
    return [{name: value[number] for name, value in flat.items()} for number in range(len(next(iter(flat.values()))))]


@pytest.mark.parametrize("each_step", [True, False], ids=["one number per step", "one number per sequence"])
@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("fit", FITS)
def test_a_prediction_is_the_loop_over_the_draws(fit, layer, each_step, tmp_path):
    """On more and longer sequences than in the fit; the same after a file; exported; with its pulls."""
    (pair, method), head = FITS[fit], mixture_head(2)
    x, new = noise(SEQUENCES, STEPS, 1), noise(NEW, LONGER, 1, seed=1)
    y, later = (steps if each_step else steps[:, -1] for steps in (x[..., 0].cumsum(1), new[..., 0].cumsum(1)))
    net, scale = Sequential(layer, head.features, each_step), Standardization.whole(x, y)
    model = pair(scale, net=net, head=head)
    posterior = infer(model, x, y, method=method, seed=0)
    predictive = posterior.predictive(new)
    assert predictive.batch_shape == later.shape

    drawn = [scale.undo(head(functional_call(net, w, (scale.x(new),)))) for w in draws_of(posterior, "net.")]
    expected = torch.stack([one.log_prob(later) for one in drawn]).logsumexp(0) - math.log(len(drawn))
    torch.testing.assert_close(predictive.log_prob(later), expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(predictive.mean, torch.stack([one.mean for one in drawn]).mean(0), rtol=1e-5, atol=1e-5)

    again = Posterior.load(posterior.save(tmp_path / "posterior.pt"), model, x, y).predictive(new)
    torch.testing.assert_close(again.log_prob(later), predictive.log_prob(later))
    data, draws = posterior.to_arviz(x, y, predict=new), (posterior.num_chains, posterior.num_draws)
    assert boundary.group(data, "log_likelihood")["y"].shape == (*draws, *y.shape)
    assert boundary.group(data, "predictions")["y"].shape == (*draws, *later.shape)
    one_step = (predictive[:, 2], later[:, 2]) if each_step else (predictive, later)
    assert math.isfinite(float(pull_summary(pulls(*one_step)).width))


MIXTURE_FITS = {
    "SVI": SVI(steps=3, progress=False),
    "Ensemble": Ensemble(members=3, steps=3, progress=False),
    "HMC": HMC(chains=2, warmup=3, draws=2, progress=False),
}


@pytest.mark.parametrize("cell", ["lstm", "gru"])
@pytest.mark.parametrize("fit", MIXTURE_FITS)
def test_a_mixture_rnn_predicts_as_the_loop_over_its_draws(fit, cell, tmp_path):
    """`sequence_pair` and, with HMC, `last_layer_pair`; on more and longer sequences than in the fit."""
    net, last_layer = MixtureRNN(2, 1, hidden=3, components=2, cell=cell), fit == "HMC"
    pair = last_layer_pair(net) if last_layer else sequence_pair(net)
    z, context, mask = noise(SEQUENCES, STEPS + 1, 2), noise(SEQUENCES, STEPS, 1), torch.ones(SEQUENCES, STEPS) > 0
    mask[0, 2:] = False
    posterior = infer(pair, z[:, :-1], context, mask, z[:, 1:], method=MIXTURE_FITS[fit], seed=0)
    new, given, all_steps = noise(NEW, LONGER + 1, 2), noise(NEW, LONGER, 1), torch.ones(NEW, LONGER) > 0
    predictive = posterior.predictive(new[:, :-1], given, all_steps)

    def features(weights):
        if not last_layer:
            return functional_call(net, weights, (new[:, :-1], given))[0]
        return functional_call(net.output, weights, (net.hidden_states(new[:, :-1], given, None)[0],))

    prefix = "output." if last_layer else "net."
    drawn = [net.next_state(features(w)).log_prob(new[:, 1:]) for w in draws_of(posterior, prefix)]
    expected = torch.stack(drawn).logsumexp(0) - math.log(len(drawn))
    torch.testing.assert_close(predictive.log_prob(new[:, 1:]), expected, rtol=1e-5, atol=1e-5)
    path = posterior.save(tmp_path / "posterior.pt")
    again = Posterior.load(path, pair, z[:, :-1], context, mask, z[:, 1:])
    torch.testing.assert_close(
        again.predictive(new[:, :-1], given, all_steps).log_prob(new[:, 1:]), predictive.log_prob(new[:, 1:])
    )
    data = posterior.to_arviz(z[:, :-1], context, mask, z[:, 1:])
    assert boundary.group(data, "log_likelihood")["y"].shape[:2] == (posterior.num_chains, posterior.num_draws)
