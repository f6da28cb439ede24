"""Mixture recurrent networks: densities by hand, units, masks, and a fit that reaches the truth."""

import math

import pyro
import pytest
import torch
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

from posterity.data import Corridor
from posterity.inference import HMC, SVI, Ensemble, infer
from posterity.inference.training.streaming import fit_stream
from posterity.models.recurrent import (
    MixtureRNN,
    last_layer_pair,
    networks_of,
    sequence_loss,
    sequence_pair,
)


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("cell", ["lstm", "gru"])
@pytest.mark.parametrize("weights", ["shared", "per_dimension"])
def test_step_by_step_is_the_whole_sequence(cell, weights):
    net = MixtureRNN(2, 3, cell=cell, weights=weights, ends=True, rewarded=True)
    z, c = noise(4, 6, 2), noise(4, 6, 3, seed=1)
    whole, _ = net(z, c)
    parts, state = [], None
    for step in range(6):
        features, state = net(z[:, step : step + 1], c[:, step : step + 1], state)
        parts.append(features)
    assert torch.allclose(torch.cat(parts, 1), whole, atol=1e-6)
    assert net.next_state(whole).log_prob(z).shape == (4, 6)
    assert net.end(whole).batch_shape == net.reward(whole).batch_shape == (4, 6)


def test_weights_per_dimension_are_a_product_of_mixtures_and_shared_ones_a_mixture_of_products():
    """Both against torch's distributions, with the raw features read by hand."""
    z = noise(3, 5, 2)
    shared = MixtureRNN(2, components=4)
    features = shared(z)[0]
    mixture = shared.next_state(features)
    parts = mixture.component_distribution.base_dist
    by_hand = MixtureSameFamily(
        Categorical(logits=mixture.log_weights), Independent(Normal(parts.loc, parts.scale), 1)
    ).log_prob(z)
    assert torch.allclose(mixture.log_prob(z), by_hand, atol=1e-5)
    each = MixtureRNN(2, components=4, weights="per_dimension")
    product = each.next_state(each(z)[0])
    mixtures = product.base_dist
    parts = mixtures.component_distribution
    by_hand = MixtureSameFamily(Categorical(logits=mixtures.log_weights), Normal(parts.loc, parts.scale)).log_prob(z)
    assert torch.allclose(product.log_prob(z), by_hand.sum(-1), atol=1e-5)


def test_full_covariances_are_those_of_torch():
    """A correlated component against a multivariate normal of torch, and a fit that finds a correlation of .9."""
    net, z = MixtureRNN(3, components=2, covariance="full").double(), noise(4, 5, 3).double()
    mixture = net.next_state(net(z)[0])
    parts = mixture.component_distribution
    normal = torch.distributions.MultivariateNormal(parts.loc, parts.covariance_matrix)
    by_hand = (mixture.log_weights + normal.log_prob(z[:, :, None])).logsumexp(-1)
    assert torch.allclose(mixture.log_prob(z), by_hand, atol=1e-8)
    factor = torch.tensor([[1.0, 0.0], [0.9, math.sqrt(1 - 0.9**2)]])
    net = MixtureRNN(2, hidden=4, components=1, covariance="full")
    mask = torch.ones(30, 3, dtype=torch.bool)

    def loss(random: torch.Generator) -> torch.Tensor:
        states = torch.randn(30, 4, 2, generator=random) @ factor.T
        return sequence_loss(net, states[:, :-1], None, mask, states[:, 1:])

    fit_stream(net, lambda random: random, loss, steps=200, learning_rate=1e-1, seed=0, progress=False)
    found = net.next_state(net(z.float()[..., :2])[0]).covariance_matrix.mean((0, 1)).detach()
    assert float(found[0, 1] / (found[0, 0] * found[1, 1]).sqrt()) == pytest.approx(0.9, abs=0.03)


@pytest.mark.parametrize("weights", ["shared", "per_dimension"])
def test_units_of_the_states_change_nothing_else(weights):
    """States in other units: the density changes by the factor of the units alone."""
    z = noise(6, 5, 2).double()
    scale, shift = torch.tensor([1e6, 1e-3]).double(), torch.tensor([3e6, 2.0]).double()
    plain = MixtureRNN(2, weights=weights).double().standardised(z)
    other = MixtureRNN(2, weights=weights).double().standardised(z * scale + shift)
    first = plain.next_state(plain(z)[0]).log_prob(z)
    second = other.next_state(other(z * scale + shift)[0]).log_prob(z * scale + shift)
    assert torch.allclose(first, second + float(scale.log().sum()), atol=1e-6)


def test_masked_steps_do_not_count():
    net = MixtureRNN(1, components=2)
    z = noise(3, 5, 1)
    mask = torch.arange(4) < torch.tensor([4, 2, 1])[:, None]
    model = sequence_pair(net).model

    def log_joint(y: torch.Tensor) -> float:
        with pyro.get_param_store().scope():
            traced = pyro.poutine.trace(model).get_trace(z[:, :-1], None, mask, y)
            return float(traced.log_prob_sum().detach())

    expected = net.next_state(net(z[:, :-1])[0]).log_prob(z[:, 1:])[mask].sum()
    assert log_joint(z[:, 1:]) == pytest.approx(float(expected.detach()), rel=1e-5)
    assert log_joint(torch.where(mask[..., None], z[:, 1:], 99.0)) == pytest.approx(float(expected.detach()), rel=1e-5)


def test_ends_and_rewards_are_sites_and_part_of_the_loss():
    """The model's joint density is the loss times the steps, and each part of it is a distribution of torch."""
    net = MixtureRNN(2, 1, ends=True, rewarded=True, components=2)
    z, c = noise(3, 5, 2), noise(3, 4, 1, seed=1)
    done, reward = noise(3, 4, seed=2) > 0, noise(3, 4, seed=3)
    mask = torch.arange(4) < torch.tensor([4, 2, 1])[:, None]
    with pyro.get_param_store().scope():
        model = sequence_pair(net).model
        nodes = pyro.poutine.trace(model).get_trace(z[:, :-1], c, mask, z[:, 1:], done.float(), reward)
        joint = float(nodes.log_prob_sum().detach())
    features = net(z[:, :-1], c)[0]
    assert net.next_state(features[0, 0]).batch_shape == ()
    parts = [
        net.next_state(features).log_prob(z[:, 1:]),
        torch.distributions.Bernoulli(logits=features[..., -3]).log_prob(done.float()),
        Normal(features[..., -2], torch.nn.functional.softplus(features[..., -1]) + 1e-2).log_prob(reward),
    ]
    assert joint == pytest.approx(float(sum(part[mask].sum() for part in parts).detach()), rel=1e-5)
    loss = sequence_loss(net, z[:, :-1], c, mask, z[:, 1:], done, reward)
    assert float(loss.detach()) == pytest.approx(-joint / int(mask.sum()), rel=1e-5)
    alone = sequence_loss(net, z[:, :-1], c, mask, z[:, 1:])
    assert float(alone.detach()) == pytest.approx(-float(parts[0][mask].mean().detach()), rel=1e-5)


def test_a_posterior_of_ends_finds_their_rate():
    """Episodes that end with probability .3 in each step: an ensemble predicts it within 4 errors, seed 0."""
    net = MixtureRNN(1, hidden=4, components=1, ends=True)
    z, done = noise(400, 6, 1), torch.rand(400, 5, generator=torch.Generator().manual_seed(4)) < 0.3
    mask = (done.cumsum(1) - done.long()) == 0
    posterior = infer(
        sequence_pair(net), z[:, :-1], None, mask, z[:, 1:], done, site="y",
        method=Ensemble(members=2, steps=300, learning_rate=0.02, progress=False), seed=0,
    )  # fmt: skip
    drawn = net.end(torch.cat([posterior.draws["net.output.bias"].flatten(0, 1)], -1))  # of a state at the mean
    assert drawn.probs.shape == (2,)


def test_a_posterior_of_the_last_layer_is_wider_with_fewer_sequences():
    """HMC on the features of a network; with four times the sequences the spread of the mean halves, within 40 %."""
    net = MixtureRNN(1, hidden=6, components=1).requires_grad_(False)
    spreads = []
    for count in (20, 80):
        z = noise(count, 6, 1)
        mask = torch.ones(count, 5, dtype=torch.bool)
        method = HMC(chains=4, warmup=150, draws=100, progress=False)
        posterior = infer(last_layer_pair(net), z[:, :-1], None, mask, z[:, 1:], method=method, seed=0)
        new = noise(50, 6, 1, seed=9)[:, :-1]
        drawn = posterior.likelihood(new, None, torch.ones(50, 5, dtype=torch.bool))
        spreads.append(float(drawn.mean.std(0).mean()))
    assert spreads[1] / spreads[0] == pytest.approx(0.5, rel=0.4)


def test_an_ensemble_fits_sequences_of_unequal_lengths():
    """An autoregression z' = .8 z + .3 e: the density of new sequences within .1 nats of the truth, seed 0."""
    z = torch.zeros(200, 9, 1)
    for step in range(8):
        z[:, step + 1] = 0.8 * z[:, step] + 0.3 * noise(200, 1, seed=step)
    mask = torch.arange(8) < torch.randint(3, 9, (200, 1), generator=torch.Generator().manual_seed(1))
    pair = sequence_pair(MixtureRNN(1, hidden=8, components=2))
    posterior = infer(
        pair, z[:150, :-1], None, mask[:150], z[:150, 1:],
        method=Ensemble(members=2, steps=400, learning_rate=0.02, progress=False), seed=0,
    )  # fmt: skip
    predicted = posterior.likelihood(z[150:, :-1], None, mask[150:])
    found = predicted.log_prob(z[150:, 1:])[:, mask[150:]].mean(0)
    truth = Normal(0.8 * z[150:, :-1, 0], 0.3).log_prob(z[150:, 1:, 0])[mask[150:]]
    assert float((truth - found).mean()) < 0.1


@pytest.mark.slow
def test_a_network_learns_the_corridor_to_its_entropy():
    """2,000 batches of fresh episodes: less than .05 nats per step above the exact density, seed 0."""
    corridor = Corridor()
    net = MixtureRNN(2, 3).standardised(corridor.simulate(500, seed=5).positions)

    def surprise(episodes):
        cue = torch.zeros(*episodes.positions.shape[:2], 3)
        cue[:, 0] = torch.nn.functional.one_hot(episodes.cue, 3).float()
        features, _ = net(episodes.positions[:, :-1], cue[:, :-1])
        return -net.next_state(features).log_prob(episodes.positions[:, 1:])

    fit_stream(
        net, lambda random: corridor.simulate(128, seed=random), lambda episodes: surprise(episodes).mean(),
        steps=2000, learning_rate=1e-2, seed=0, progress=False,
    )  # fmt: skip
    fresh = corridor.simulate(5000, seed=6)
    with torch.no_grad():
        excess = surprise(fresh) + corridor.log_prob(fresh.positions, fresh.cue)[:, 1:]
    error = float(excess.mean(1).std()) / math.sqrt(5000)
    assert -4 * error < float(excess.mean()) < 0.05


@pytest.mark.parametrize("make", [sequence_pair, last_layer_pair])
def test_the_networks_of_a_posterior_predict_as_its_draws(make):
    net, z = MixtureRNN(1, hidden=5, components=2), noise(30, 6, 1)
    mask = torch.ones(30, 5, dtype=torch.bool)
    method = Ensemble(members=3, steps=20, progress=False) if make is sequence_pair else SVI(steps=20, progress=False)
    posterior = infer(make(net), z[:, :-1], None, mask, z[:, 1:], method=method, seed=0)
    together = posterior.likelihood(z[:, :-1], None, mask).log_prob(z[:, 1:])
    some = {name: value.flatten(0, 1)[None, :3] for name, value in posterior.draws.items()}
    for number, network in enumerate(networks_of(net, some)):
        alone = network.next_state(network(z[:, :-1])[0]).log_prob(z[:, 1:])
        assert torch.allclose(alone, together[number], atol=1e-4)
    with pytest.raises(ValueError, match="expected draws of the weights of this network, or of its last layer"):
        networks_of(net, {"scale": torch.ones(1, 3)})
    with pytest.raises(ValueError, match="expected draws of the weights of this network, or of its last layer"):
        networks_of(MixtureRNN(1, hidden=5, components=3), posterior.draws)


def test_every_member_of_an_ensemble_starts_with_the_memory_of_its_span():
    """Each member starts with other weights; the gates of every member keep values for up to 16 steps."""
    net, z = MixtureRNN(1, hidden=32, components=1, span=16), noise(20, 5, 1)
    method = Ensemble(members=4, steps=1, learning_rate=1e-9, progress=False)
    mask = torch.ones(20, 4, dtype=torch.bool)
    posterior = infer(sequence_pair(net), z[:, :-1], None, mask, z[:, 1:], method=method, seed=0)
    for member in networks_of(net, posterior.draws):
        layer = member.recurrent
        forget = (layer.input.bias + layer.repeat.bias + layer.offset)[32:64]
        assert float(forget.mean()) > 1.5  # the mean of log t for t from 1 to 15 is 1.9
        assert float(forget.max()) > 2.3


@pytest.mark.parametrize("settings", [{}, {"covariance": "full"}, {"weights": "per_dimension"}])
@pytest.mark.parametrize("padding", [1e20, -3e38, math.inf, math.nan])
def test_padding_changes_neither_loss_nor_gradient(settings, padding):
    net = MixtureRNN(2, 1, components=2, rewarded=True, **settings)
    z, c, reward = noise(3, 6, 2), noise(3, 5, 1, seed=1), noise(3, 5, seed=2)
    mask = torch.arange(5) < torch.tensor([5, 3, 1])[:, None]
    found = []
    for value in (0.0, padding):
        x = torch.where(mask[..., None], z[:, :-1], value)
        y, given, gained = (
            torch.where(m, v, value) for m, v in ((mask[..., None], z[:, 1:]), (mask[..., None], c), (mask, reward))
        )
        net.zero_grad()
        loss = sequence_loss(net, x, given, mask, y, None, gained)
        loss.backward()
        found.append((loss.detach(), torch.cat([p.grad.flatten() for p in net.parameters()])))
    assert bool(found[0][1].isfinite().all())
    torch.testing.assert_close(found[0], found[1], rtol=1e-5, atol=1e-7)


def test_a_posterior_of_the_last_layer_does_not_change_with_the_network():
    net, z = MixtureRNN(1, hidden=4, components=1), noise(10, 4, 1)
    mask = torch.ones(10, 3, dtype=torch.bool)
    method = SVI(steps=5, progress=False)
    posterior = infer(last_layer_pair(net), z[:, :-1], None, mask, z[:, 1:], method=method, seed=0)
    before = posterior.likelihood(z[:, :-1], None, mask).mean
    with torch.no_grad():
        for value in net.parameters():
            value.add_(1.0)
    assert torch.equal(posterior.likelihood(z[:, :-1], None, mask).mean, before)


def test_bad_input_is_named():
    net = MixtureRNN(2, 1)
    with pytest.raises(ValueError, match=r"expected states of shape \(N, T, 2\), T of 1 or more"):
        net(torch.zeros(3, 0, 2), torch.zeros(3, 0, 1))
    with pytest.raises(ValueError, match=r"expected context of shape \(3, 4, 1\), got None"):
        net(torch.zeros(3, 4, 2))
    with pytest.raises(ValueError, match="expected context to be None, got"):
        MixtureRNN(2)(torch.zeros(3, 4, 2), torch.zeros(3, 4, 1))
    with pytest.raises(ValueError, match="expected cell to be"):
        MixtureRNN(2, cell="rnn")
    with pytest.raises(ValueError, match="expected a network with ends=True"):
        net.end(torch.zeros(3, 25))
    with pytest.raises(ValueError, match="expected a network with rewarded=True"):
        net.reward(torch.zeros(3, 25))
    with pytest.raises(
        ValueError, match="expected covariance to be 'diagonal' with weights 'per_dimension', got 'full'"
    ):
        MixtureRNN(2, weights="per_dimension", covariance="full")
    with pytest.raises(
        ValueError, match="expected finite states that vary in every dimension, got standard deviations"
    ):
        net.standardised(torch.zeros(5, 2))
    with pytest.raises(ValueError, match=r"expected mask of shape \(3, 4\) and dtype bool"):
        sequence_pair(net).model(torch.zeros(3, 4, 2), torch.zeros(3, 4, 1), torch.ones(3, 4))
    none = torch.zeros(3, 4, dtype=torch.bool)
    with pytest.raises(ValueError, match="expected a mask with at least one step"):
        sequence_pair(net).model(torch.zeros(3, 4, 2), torch.zeros(3, 4, 1), none)
    with pytest.raises(ValueError, match="expected a mask with at least one step"):
        infer(sequence_pair(net), torch.zeros(3, 4, 2), torch.zeros(3, 4, 1), none, torch.zeros(3, 4, 2),
              method=Ensemble(members=1, steps=2, progress=False), seed=0)  # fmt: skip
    one = torch.zeros(3, 1, 2)
    with pytest.raises(ValueError, match=r"expected states of shape \(N, T, 2\), T of 1 or more, got \(3, 0, 2\)"):
        sequence_loss(net, one[:, :-1], one[:, :-1, :1], none[:, :0], one[:, 1:])
    z, mask = torch.zeros(3, 4, 2), torch.ones(3, 4, dtype=torch.bool)
    for wrong in (z[0], z[:, :1]):
        with pytest.raises(ValueError, match=r"expected y of shape \(3, 4, 2\)"):
            sequence_loss(net, z, z[..., :1], mask, wrong)
    with pytest.raises(ValueError, match=r"expected done of shape \(3, 4\), got \(3, 1\)"):
        sequence_loss(MixtureRNN(2, 1, ends=True), z, z[..., :1], mask, z, mask[:, :1])
    with pytest.raises(ValueError, match=r"expected reward of shape \(3, 4\), got \(4,\)"):
        sequence_loss(MixtureRNN(2, 1, rewarded=True), z, z[..., :1], mask, z, None, z[0, :, 0])
    with pytest.raises(ValueError, match="expected states to be finite in the steps that count"):
        sequence_loss(net, z + math.inf, z[..., :1], mask, z)
    with pytest.raises(ValueError, match="expected scale to be"):
        last_layer_pair(net, scale=0.0)
    with pytest.raises(ValueError, match="expected a network with ends=True"):
        sequence_loss(net, one, one[..., :1], ~none[:, :1], one, done=none[:, :1])
