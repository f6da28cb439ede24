"""The Bayesian GAN: its kernel has the right law, its chains keep to themselves, its draws make the right samples."""

import math

import pytest
import torch
from torch import nn
from torch.nn.functional import logsigmoid

from posterity.inference.adversarial.bayesian import BayesianAdversarial, play_bayesian, sghmc
from posterity.inference.adversarial.bayesian.chains import Chains
from posterity.inference.adversarial.bayesian.likelihood import (
    discriminator_log_likelihood,
    generator_log_likelihood,
    judged,
)
from posterity.inference.adversarial.bayesian.run import Run
from posterity.inference.posterior import Posterior
from posterity.models.discriminators import dense_discriminator
from posterity.models.generators import dense_generator
from posterity.models.stacked import Stacked

DATA = 0.5 * torch.randn(200, 2, generator=torch.Generator().manual_seed(0))


def make_generator():
    return dense_generator(3, (2,), hidden=(8,), squash=False)


def make_discriminator():
    return dense_discriminator((2,), hidden=(8,))


def settings(**changes):
    base = {
        "steps": 30, "warmup": 10, "draws": 5, "generators": 3, "discriminators": 2, "batch_size": 20,
        "monitor_every": 10, "progress": False,
    }  # fmt: skip
    return BayesianAdversarial(**(base | changes))


def short(**changes):
    seed = changes.pop("seed", 4)
    return play_bayesian(
        make_generator, make_discriminator, DATA, latent=3, settings=settings(**changes), seed=seed
    )  # fmt: skip


# The kernel


@pytest.mark.parametrize(("friction", "temperature", "step"), [(0.1, 1.0, 0.05), (0.5, 0.25, 0.2), (1.0, 1.0, 0.1)])
def test_the_kernel_has_the_moments_of_a_normal_target(friction, temperature, step):
    """10,000 chains on N(mean, sd²) after 50 relaxation times: mean and variance within 5 standard errors.

    The chains are independent and normal: standard errors sd/sqrt(n) and var sqrt(2/n), 7 % in all. Noise of a wrong
    scale, such as sqrt(friction η) for sqrt(2 friction η), is far beyond. Each target has a step of its own.
    """
    random, count = torch.Generator().manual_seed(1), 10_000
    mean, sd = torch.tensor([1.0, -3.0]).double(), torch.tensor([0.5, 2.0]).double()
    rate = step * sd**2
    position = torch.zeros(count, 2).double()
    velocity = torch.zeros_like(position)
    for _ in range(int(100 * max(friction / step, 1 / friction))):
        noise = torch.randn(count, 2, generator=random).double()
        position, velocity = sghmc(
            position, velocity, (mean - position) / sd**2, noise, rate=rate, friction=friction, temperature=temperature
        )  # fmt: skip
    variance = temperature * sd**2 / (1 - step / (4 - 2 * friction))
    assert bool(((position.mean(0) - mean).abs() < 5 * (variance / count).sqrt()).all())
    assert bool(((position.var(0) / variance - 1).abs() < 5 * math.sqrt(2 / count)).all())
    speed = variance * step / (1 - friction / 2)  # that of the velocity, about η T
    assert bool(((velocity.var(0) / speed - 1).abs() < 5 * math.sqrt(2 / count)).all())


def test_a_step_of_the_kernel_is_the_formula():
    """v = 0.9 * 2 + 0.01 * 3 + sqrt(2 * 0.1 * 0.01 * 4) * 0.5, θ = 1 + v."""
    one, two, three, half = (torch.tensor(value).double() for value in (1.0, 2.0, 3.0, 0.5))
    position, velocity = sghmc(one, two, three, half, rate=0.01, friction=0.1, temperature=4.0)
    expected = 1.8 + 0.03 + math.sqrt(0.008) * 0.5
    assert float(velocity) == pytest.approx(expected)
    assert float(position) == pytest.approx(1 + expected)


# The target


def test_likelihoods_are_those_of_a_loop_over_all_pairs():
    random = torch.Generator().manual_seed(0)
    generators, judges = [make_generator() for _ in range(3)], [make_discriminator() for _ in range(2)]
    z, real = torch.randn(3, 7, 3, generator=random), torch.randn(2, 7, 2, generator=random)
    fake = [net(own) for net, own in zip(generators, z, strict=True)]
    first = [sum(logsigmoid(judge(made)).mean() for judge in judges) / 2 for made in fake]
    second = [
        logsigmoid(judge(own)).mean() + sum((1 - judge(made).sigmoid()).log().mean() for made in fake) / 3
        for judge, own in zip(judges, real, strict=True)
    ]
    many, all_judges = Stacked(generators), Stacked(judges)
    torch.testing.assert_close(generator_log_likelihood(many, all_judges, z), torch.stack(first))
    torch.testing.assert_close(discriminator_log_likelihood(all_judges, real, many(z)), torch.stack(second))


@pytest.mark.parametrize(("opponents", "times"), [("mean", (1, 1)), ("sum", (2, 3))])
def test_the_gradient_is_the_likelihood_of_all_data_and_one_prior(opponents, times):
    """Plain and cold, from rest: θ moves by η (w N grad L - θ/sd²), with w times the opponents if they add up."""
    chosen = settings(
        preconditioned=False, temperature=0.0, learning_rate=(1e-4, 1e-4), opponents=opponents, prior_sd=(0.5, 2.0),
        data_weight=(0.3, 0.7),
    )  # fmt: skip
    nets = [[make_generator() for _ in range(3)], [make_discriminator() for _ in range(2)]]
    kinds = ("generator", "discriminator")
    chains = [Chains(kind, nets[which], list(range(len(nets[which]))), which) for which, kind in enumerate(kinds)]
    z = torch.randn(3, 20, 3)
    value = generator_log_likelihood(chains[0].net, chains[1].net, z)
    before = [chains[0].position.clone(), chains[1].position.clone()]
    chains[0].move(value, len(DATA), chosen, warm=True)
    other = discriminator_log_likelihood(chains[1].net, DATA[:20].expand(2, -1, -1), chains[0].net(z).detach())
    chains[1].move(other, len(DATA), chosen, warm=True)

    def moved(which, seat, likelihood):
        net, sd, weight = nets[which][seat], chosen.prior_sd[which], chosen.data_weight[which] * times[which]
        prior = sum((weight**2).sum() for weight in net.parameters()) / (2 * sd**2)
        parts = torch.autograd.grad(weight * len(DATA) * likelihood - prior, list(net.parameters()))
        return before[which][seat] + 1e-4 * torch.cat([part.flatten() for part in parts])

    for seat, net in enumerate(nets[0]):
        likelihood = sum(logsigmoid(judge(net(z[seat]))).mean() for judge in nets[1]) / 2
        torch.testing.assert_close(chains[0].position[seat], moved(0, seat, likelihood), atol=1e-6, rtol=1e-5)
    fake = chains[0].net(z).detach()
    for seat, judge in enumerate(nets[1]):
        likelihood = logsigmoid(judge(DATA[:20])).mean() + sum(logsigmoid(-judge(made)).mean() for made in fake) / 3
        torch.testing.assert_close(chains[1].position[seat], moved(1, seat, likelihood), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("preconditioned", [False, True])
def test_without_data_the_draws_are_the_priors(preconditioned):
    """The sd of 40 chains * 10 draws * 50 weights is 0.3 within 5 standard errors of 40 * 50 independent ones."""
    rate = (0.3, 0.3) if preconditioned else (0.005, 0.005)
    game = short(
        steps=700, warmup=200, draws=10, generators=40, data_weight=(0.0, 0.0), prior_sd=(0.3, 1.0), learning_rate=rate,
        preconditioned=preconditioned,
    )  # fmt: skip
    draws = torch.cat([value.flatten(2) for value in game.posterior.draws.values()], 2)
    assert draws.shape == (40, 10, 50)
    assert float(draws.std()) == pytest.approx(0.3, rel=5 / math.sqrt(2 * 40 * 50))
    assert float(draws.mean()) == pytest.approx(0, abs=5 * 0.3 / math.sqrt(40 * 50))
    apart = draws.flatten(1).corrcoef() - torch.eye(40)  # 780 pairs of chains, whose weights have nothing in common
    assert float(apart.abs().max()) < 5 * 2.5 / math.sqrt(50)


class Line(nn.Module):
    """x = a + b z."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([0.0, 1.0]))

    def forward(self, z):
        return self.weight[0] + self.weight[1] * z


class Quadratic(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(3))

    def forward(self, x):
        return torch.cat([torch.ones_like(x), x, x**2], 1) @ self.weight


def test_generators_of_a_normal_distribution_have_its_mean_and_sd():
    """Mean 2, sd 0.5, both within 0.1 (runs of 8 seeds are 0.02 apart): lines from z, quadratics, all draws together.

    Together, because that is what the discriminators see: a single generator may be narrower, where others fill what
    it leaves.
    """
    data = 2 + 0.5 * torch.randn(1000, 1, generator=torch.Generator().manual_seed(0))
    chosen = settings(
        steps=1200, warmup=400, draws=40, generators=16, discriminators=4, batch_size=100, learning_rate=(0.01, 0.03),
        friction=0.5, prior_sd=(1.0, 0.5),
    )  # fmt: skip
    game = play_bayesian(Line, Quadratic, data, latent=1, settings=chosen, seed=0)
    made = game.samples(20_000, seed=1)
    assert made.shape == (20_000, 1)
    assert float(made.mean()) == pytest.approx(float(data.mean()), abs=0.1)
    assert float(made.std()) == pytest.approx(float(data.std()), abs=0.1)


# The chains


def explored(order, judges_order):
    """The networks of a run whose chains sit in another order, each with its own seed."""
    chosen = settings(learning_rate=(1e-2, 1e-2))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        nets = [make_generator() for _ in range(3)]
        judges = [make_discriminator() for _ in range(2)]
    generators = Chains("generator", [nets[i] for i in order], [10 + i for i in order], 0)
    discriminators = Chains("discriminator", [judges[i] for i in judges_order], [20 + i for i in judges_order], 1)
    run = Run(chosen, generators, discriminators, DATA, 3)
    for step in range(1, 21):
        run.step(step)
    return generators.position, discriminators.position


def test_chains_do_not_know_their_seats():
    """In another order every network has the same course, up to rounding: each has its own random numbers."""
    first, first_judges = explored([0, 1, 2], [0, 1])
    other, other_judges = explored([2, 0, 1], [1, 0])
    torch.testing.assert_close(other, first[[2, 0, 1]], atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(other_judges, first_judges[[1, 0]], atol=1e-4, rtol=1e-3)
    assert float((first[0] - first[1]).abs().max()) > 0.1


def test_generators_meet_only_in_what_the_discriminators_have_seen():
    """With discriminators that do not learn from them, a generator is the same beside others as alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        nets, judges = [make_generator() for _ in range(3)], [make_discriminator() for _ in range(2)]
    chosen = settings(learning_rate=(1e-2, 1e-30))

    def course(seats):
        generators = Chains("generator", [nets[i] for i in seats], [10 + i for i in seats], 0)
        run = Run(chosen, generators, Chains("discriminator", judges, [20, 21], 1), DATA, 3)
        for step in range(1, 21):
            run.step(step)
        return generators.position

    torch.testing.assert_close(course([1])[0], course([0, 1, 2])[1], atol=1e-4, rtol=1e-3)


def test_the_same_seed_has_the_same_draws_and_global_state_is_left_alone():
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = short()
    assert torch.equal(before, torch.get_rng_state())
    torch.manual_seed(2)
    again, other = short(), short(seed=5)
    for name, value in first.posterior.draws.items():
        assert value.shape[:2] == (3, 5)
        assert torch.equal(value, again.posterior.draws[name])
        assert not torch.equal(value, other.posterior.draws[name])
    assert torch.equal(first.samples(7, seed=1), again.samples(7, seed=1))
    assert not torch.equal(first.samples(7, seed=1), first.samples(7, seed=2))
    assert {name: tuple(value.shape) for name, value in first.history.items()} == {
        "generator_log_likelihood": (3, 3), "discriminator_log_likelihood": (3, 2)
    }  # fmt: skip


# What comes back


def test_samples_are_those_of_the_networks_with_the_weights_of_each_draw():
    game = short()
    each = game.samples(6, seed=3, each=True)
    assert each.shape == (15, 6, 2)
    z = torch.randn(6, 3, generator=torch.Generator().manual_seed(3))
    for seat in (0, 7, 14):
        net = make_generator()
        net.load_state_dict(
            {name.removeprefix("generator."): v.flatten(0, 1)[seat] for name, v in game.posterior.draws.items()}
        )
        torch.testing.assert_close(each[seat], net(z))


@pytest.mark.parametrize("n", [1, 4, 15, 40])
def test_samples_are_of_all_draws_as_evenly_as_can_be(n):
    """Generators that make their own number whatever z: none is more than one sample ahead of another."""

    class Number(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(1))

        def forward(self, z):
            return self.weight.expand(len(z), 1)

    data, chosen = torch.randn(50, 1), settings(preconditioned=False)
    made = play_bayesian(Number, Quadratic, data, latent=3, settings=chosen).samples(n, seed=0)
    assert made.shape == (n, 1)
    counts = made.unique(return_counts=True)[1]
    assert len(counts) == min(n, 15)
    assert int(counts.max()) - int(counts.min()) <= 1


def test_the_density_is_that_of_the_kernels_and_its_spread_that_of_the_draws():
    """Of lines a + b z: normals of sd sqrt(b² + bandwidth²); each known to 2 % by 20,000 samples."""
    data = torch.randn(100, 1, generator=torch.Generator().manual_seed(0))
    game = play_bayesian(Line, Quadratic, data, latent=1, settings=settings(learning_rate=(0.05, 0.05)))
    points = torch.linspace(-1, 1, 5)[:, None]
    mean, spread = game.density_spread(points, 0.3, samples=20_000)
    lines = game.posterior.draws["generator.weight"].flatten(0, 1)
    exact = torch.distributions.Normal(lines[:, 0], (lines[:, 1] ** 2 + 0.3**2).sqrt()).log_prob(points).exp()
    torch.testing.assert_close(mean, exact.mean(1), atol=0.01, rtol=0)
    torch.testing.assert_close(spread, exact.std(1, correction=0), atol=0.01, rtol=0)
    assert float(spread.max()) > 0.02
    for bad in (points[:, 0], torch.zeros(3, 2)):
        with pytest.raises(ValueError, match=r"expected points of shape \(P, 1\)"):
            game.density_spread(bad, 0.3)
    with pytest.raises(ValueError, match="expected bandwidth to be a finite number above 0"):
        game.density_spread(points, 0.0)


def test_the_posterior_is_one_like_all_others(tmp_path):
    """Its likelihood is the discriminators' verdict; files and ArviZ are those of every posterior."""
    game = short()
    posterior, z, ones = game.posterior, torch.randn(7, 3), torch.ones(7)
    assert set(posterior.program.latents) == set(posterior.draws)
    assert posterior.program.deterministics == ("x",)
    made = game._made(game._weights(), z.expand(15, -1, -1))
    expected = torch.stack([logsigmoid(judge(made.flatten(0, 1))) for judge in game.discriminators.split()], -1)
    found = posterior.log_likelihood(z, ones)
    torch.testing.assert_close(found.flatten(0, 1), expected.unflatten(0, (15, 7)))
    tree = posterior.to_arviz(z, ones)
    assert tree["posterior"]["x"].shape == (3, 5, 7, 2)
    assert tree["posterior"]["generator.0.weight"].shape == (3, 5, 8, 3)
    again = Posterior.load(posterior.save(tmp_path / "draws.pt"), posterior.model, z, ones)
    assert all(torch.equal(value, again.draws[name]) for name, value in posterior.draws.items())
    model = judged(make_generator(), game.discriminators, 0.5)
    torch.testing.assert_close(
        Posterior.load(tmp_path / "draws.pt", model, z, ones).log_likelihood(z, ones), found
    )  # fmt: skip
    assert posterior.attrs["method"] == "BayesianAdversarial"


def test_an_interrupt_keeps_the_draws_so_far(monkeypatch):
    step, calls = Run.step, []

    def stopping(self, at):
        calls.append(at)
        if at == stop:
            raise KeyboardInterrupt
        return step(self, at)

    monkeypatch.setattr(Run, "step", stopping)
    stop = 20  # draws after steps 14 and 18
    with pytest.warns(RuntimeWarning, match="interrupted: 2 of 5 draws of each generator are kept") as told:
        game = short()
    assert told[0].filename == __file__
    assert game.interrupted
    assert calls == list(range(1, 21))
    assert game.posterior.num_draws == 2
    assert game.samples(5, seed=0).shape == (5, 2)
    calls.clear()
    stop = 5
    with pytest.raises(KeyboardInterrupt, match="interrupted before the first draw"):
        short()


# What is refused


@pytest.mark.parametrize(("which", "kind"), [(0, "generator"), (1, "discriminator")])
def test_weights_that_are_no_numbers_stop_the_run(which, kind):
    rates = [1e-3, 1e-3]
    rates[which] = 1e38
    with pytest.raises(ValueError, match=rf"expected finite weights, got others of {kind} \d in step \d+: try a learn"):
        short(learning_rate=tuple(rates), preconditioned=False, prior_sd=(0.1, 0.1))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps": 0}, "expected steps to be a whole number of 1 or more"),
        ({"steps": 14}, "expected steps for the warmup of 10 and 5 draws, got steps=14"),
        ({"draws": 2.5}, "expected draws to be a whole number of 1 or more"),
        ({"generators": 0}, "expected generators to be a whole number of 1 or more"),
        ({"discriminators": True}, "expected discriminators to be a whole number of 1 or more"),
        ({"learning_rate": 1e-3}, "expected a pair of learning_rate"),
        ({"learning_rate": (1e-3, 0.0)}, "expected every learning_rate to be a finite number above 0"),
        ({"prior_sd": (math.nan, 1.0)}, "expected every prior_sd to be a finite number above 0"),
        ({"data_weight": (-1.0, 1.0)}, "expected every data_weight to be a finite number of 0 or more"),
        ({"friction": 0.0}, r"expected friction to be a number in \(0, 1\], got 0\.0"),
        ({"temperature": -1.0}, "expected temperature to be a finite number of 0 or more"),
        ({"opponents": "all"}, r"expected opponents from \['mean', 'sum'\], got 'all'"),
        ({"warmup": 0}, "expected a warmup to learn the preconditioner in"),
    ],
)
def test_settings_that_cannot_be_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        settings(**change)


def test_data_and_networks_that_do_not_fit_are_refused():
    def play(make=make_generator, judge=make_discriminator, data=DATA):
        play_bayesian(make, judge, data, latent=3, settings=settings())

    for data in (DATA[:10], DATA[:, 0], torch.full((50, 2), math.nan)):
        with pytest.raises(ValueError, match="expected finite data of shape"):
            play(data=data)
    with pytest.raises(ValueError, match=r"expected floating data, got torch\.uint8"):
        play(data=torch.zeros(50, 2, dtype=torch.uint8))
    with pytest.raises(ValueError, match=r"expected a generator of samples of shape \(N, 3\), got \(2, 2\)"):
        play(data=torch.zeros(50, 3))
    with pytest.raises(ValueError, match=r"expected a discriminator with one logit a sample, got shape \(2, 4\)"):
        play(judge=lambda: nn.Linear(2, 4))
    with pytest.raises(ValueError, match=r"expected a generator of weights with a prior and nothing else, got \['1\."):
        play(make=lambda: nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2)))
    with pytest.raises(ValueError, match=r"expected a discriminator of weights .*, got \['weight', 'bias'\]"):
        play(judge=lambda: nn.Linear(2, 1).requires_grad_(False))
    with pytest.raises(ValueError, match="expected n to be a whole number of 1 or more"):
        short().samples(0, seed=0)
