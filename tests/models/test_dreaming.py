"""Dreams against closed forms: a network whose prediction is the same mixture in every step."""

import math

import pytest
import torch
from scipy.stats import kstest, norm

from posterity.models.dreaming import branches, dream
from posterity.models.recurrent import MixtureRNN

WEIGHTS = torch.tensor([0.5, 0.3, 0.2])
CENTRES = torch.tensor([[-8.0, 0.0], [0.0, 5.0], [8.0, -3.0]])
SPREAD = 0.5


def constant(**settings: bool) -> MixtureRNN:
    """A network that predicts the mixture of `WEIGHTS`, `CENTRES` and `SPREAD` whatever has happened."""
    net = MixtureRNN(2, components=3, **settings)
    torch.nn.init.zeros_(net.output.weight)
    wanted = torch.cat([WEIGHTS.log()[:, None], CENTRES, torch.full((3, 2), math.log(SPREAD))], -1)
    bias = (wanted - net.head._offsets.float()).flatten()
    with torch.no_grad():
        net.output.bias[: len(bias)] = bias
    return net


def test_the_constant_network_is_what_it_should_be():
    net = constant()
    mixture = net.next_state(net(torch.zeros(1, 1, 2))[0])
    assert torch.allclose(mixture.log_weights.exp()[0, 0], WEIGHTS, atol=1e-5)
    parts = mixture.component_distribution.base_dist
    assert torch.allclose(parts.loc[0, 0], CENTRES, atol=1e-4)
    assert torch.allclose(parts.scale[0, 0], torch.full((3, 2), SPREAD), atol=2e-3)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_dreams_follow_the_law_of_temperature(temperature):
    """Component k with probability p^(1/t) / sum, scales times sqrt(t): binomial within 4 errors, KS p > 1e-3."""
    dreams = dream(constant(), torch.zeros(4000, 1, 2), steps=3, temperature=temperature, seed=0)
    expected = WEIGHTS ** (1 / temperature)
    expected = expected / expected.sum()
    for k in range(3):
        found = float((dreams.components == k).double().mean())
        assert abs(found - expected[k]) < 4 * math.sqrt(expected[k] * (1 - expected[k]) / 12_000)
    off = (dreams.states - CENTRES[dreams.components]) / (SPREAD * math.sqrt(temperature))
    assert kstest(off.flatten().double().numpy(), norm.cdf).pvalue > 1e-3
    assert not bool(dreams.ended.any())


def test_dreams_of_full_covariances_are_correlated():
    """Two targets with a correlation of about .7: dreams are standard normal once its factor is undone, seed 0."""
    net = MixtureRNN(2, components=1, covariance="full")
    torch.nn.init.zeros_(net.output.weight)
    with torch.no_grad():
        net.output.bias[-1] = -1.0  # the coupling of the second target to the first
        normal = net.next_state(net(torch.zeros(1, 1, 2))[0]).component_distribution
        factor = normal.scale_tril[0, 0, 0]
        assert abs(float(factor[1, 0])) > 0.5 * float(factor[1, 1])
        drawn = dream(net, torch.zeros(6000, 1, 2), steps=1, temperature=0.25, seed=0).states[:, 0]
        z = torch.linalg.solve_triangular(factor / 2, (drawn - normal.mean[0, 0, 0]).T, upper=False)
    assert kstest(z.flatten().double().numpy(), norm.cdf).pvalue > 1e-3
    assert abs(float(torch.corrcoef(z)[0, 1])) < 4 / math.sqrt(6000)


def test_branches_have_the_products_of_the_weights():
    """27 futures of three steps; dropped ones are missing from the sum."""
    tree = branches(constant(), torch.zeros(1, 1, 2), steps=3, min_probability=0.0)
    expected = (WEIGHTS[:, None, None] * WEIGHTS[:, None] * WEIGHTS).flatten().sort(descending=True).values
    assert torch.allclose(tree.probabilities, expected, atol=1e-5)
    assert torch.allclose(tree.states[0], CENTRES[:1].expand(3, -1), atol=1e-4)
    few = branches(constant(), torch.zeros(1, 1, 2), steps=3, min_probability=0.04)
    assert float(few.probabilities.sum()) == pytest.approx(float(expected[expected >= 0.04].sum()), abs=1e-4)
    one = branches(constant(), torch.zeros(1, 1, 2), steps=2, merge=100.0)
    assert len(one.probabilities) == 1
    assert torch.allclose(one.states[0, 0], WEIGHTS @ CENTRES, atol=1e-4)


def test_branches_have_the_frequencies_of_dreams():
    """The first two components of 8,000 dreams against the tree, binomial within 4 errors."""
    net = MixtureRNN(1, components=3, seed=3)
    with torch.no_grad():
        net.output.weight.mul_(3.0)
        net.output.bias.view(3, 3)[:, 1] += torch.tensor([-12.0, 0.0, 12.0])
        net.output.bias.view(3, 3)[:, 2] -= 3.0
    start = torch.full((1, 1, 1), 0.3)
    tree = branches(net, start, steps=2, min_probability=0.0)
    dreams = dream(net, start.expand(8000, -1, -1), steps=2, seed=1)
    for path, p in zip(tree.states[:4, :, 0], tree.probabilities[:4].tolist(), strict=True):
        share = float(((dreams.states[..., 0] - path).abs() < 4).all(1).double().mean())
        assert abs(share - p) < 4 * math.sqrt(p * (1 - p) / 8000) + 0.01  # the noise that the tree neglects


def test_an_end_is_never_taken_back_and_a_policy_sees_each_state():
    net = constant(ends=True)
    with torch.no_grad():
        net.output.bias[-1] = math.log(0.25 / 0.75)
    dreams = dream(net, torch.zeros(4000, 1, 2), steps=4, seed=0)
    share = dreams.ended.double().mean(0)
    for step in range(4):
        p = 1 - 0.75 ** (step + 1)
        assert abs(float(share[step]) - p) < 4 * math.sqrt(p * (1 - p) / 4000)
    assert bool((dreams.ended[:, 1:] >= dreams.ended[:, :-1]).all())
    seen = []
    moved = MixtureRNN(2, 1)

    def policy(state, memory):
        seen.append(state)
        return state[:, :1].sign()

    dreams = dream(moved, torch.zeros(5, 1, 2), torch.zeros(5, 1, 1), steps=3, future=policy, seed=0)
    assert torch.equal(torch.stack(seen, 1), dreams.states[:, :-1])  # after the last state no step follows


def test_a_light_component_connects_no_branches():
    """A broad component of weight 1e-4 between two branches: each keeps its place, and no probability is lost."""
    net = MixtureRNN(1, components=3)
    torch.nn.init.zeros_(net.output.weight)
    wanted = torch.tensor([[0.5, -2.0, 0.2], [0.5, 2.0, 0.2], [1e-4, 0.1, 1.5]])
    with torch.no_grad():
        raw = torch.stack([wanted[:, 0].log(), wanted[:, 1], wanted[:, 2].log()], 1) - net.head._offsets.float()
        net.output.bias[:] = raw.flatten()
    tree = branches(net, torch.zeros(1, 1, 1), steps=1)
    assert torch.allclose(tree.states[:, 0, 0].sort().values, torch.tensor([-2.0, 2.0]), atol=2e-3)
    assert float(tree.probabilities.sum()) == pytest.approx(1.0, abs=1e-5)


def test_branches_end_with_the_episode():
    """An end with probability .25 in each step: .75 of all go on after each of the first two steps of three."""
    net = constant(ends=True)
    with torch.no_grad():
        net.output.bias[-1] = math.log(0.25 / 0.75)
    tree = branches(net, torch.zeros(1, 1, 2), steps=3, min_probability=0.0)
    assert float(tree.probabilities.sum()) == pytest.approx(0.75**2, rel=1e-4)


def test_rewards_are_dreamed_with_the_temperature():
    """A reward of mean 2: 4,000 dreams at temperature .25 are normal with half of the scale, seed 0."""
    net = constant(rewarded=True)
    with torch.no_grad():
        net.output.bias[-2:] = torch.tensor([2.0, 0.5])
    dreams = dream(net, torch.zeros(2000, 1, 2), steps=2, temperature=0.25, seed=0)
    scale = math.log1p(math.exp(0.5)) + 1e-2
    assert kstest(dreams.rewards.flatten().double().numpy(), norm(2, scale / 2).cdf).pvalue > 1e-3
    assert dream(constant(), torch.zeros(2, 1, 2), steps=1, seed=0).rewards is None


def test_bad_input_is_named():
    net, start = MixtureRNN(2, 1), (torch.zeros(2, 3, 2), torch.zeros(2, 3, 1))
    with pytest.raises(ValueError, match=r"expected temperature to be .*got 0"):
        dream(net, *start, steps=2, temperature=0.0, future=torch.zeros(2, 2, 1), seed=0)
    with pytest.raises(ValueError, match="expected steps to be"):
        dream(net, *start, steps=0, seed=0)
    with pytest.raises(ValueError, match=r"expected future of shape \(2, 4, 1\)"):
        dream(net, *start, steps=4, future=torch.zeros(2, 3, 1), seed=0)
    with pytest.raises(
        ValueError, match=r"expected future, the context of the dreamed steps, of shape \(2, 4, 1\), got None"
    ):
        dream(net, *start, steps=4, seed=0)
    with pytest.raises(ValueError, match="expected future to be a tensor or a function, got 'left'"):
        dream(net, *start, steps=4, future="left", seed=0)
    with pytest.raises(ValueError, match="expected future to be None for a network without context"):
        dream(MixtureRNN(2), start[0], steps=4, future=lambda state, memory: state, seed=0)
    for value in (math.nan, math.inf):
        with pytest.raises(ValueError, match="states"):
            dream(net, torch.full((2, 3, 2), value), start[1], steps=4, future=torch.zeros(2, 4, 1), seed=0)
        with pytest.raises(ValueError, match="context"):
            branches(net, start[0][:1], start[1][:1] + value, steps=2, future=torch.zeros(2, 1))
    with pytest.raises(ValueError, match="expected one sequence"):
        branches(net, *start, steps=2)
    with pytest.raises(ValueError, match="expected a network with shared weights"):
        branches(MixtureRNN(2, weights="per_dimension"), torch.zeros(1, 1, 2), steps=2)
