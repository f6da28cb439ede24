"""`train_bayesian`: its draws have the moments of the data, are reproducible, and survive an interrupt."""

import math

import pytest
import torch
from torch import nn

from posterity.inference.adversarial.bayesian import train_bayesian
from posterity.inference.adversarial.bayesian.run import SamplingLoop
from tests import bayesian_gan_cases
from tests.bayesian_gan_cases import (
    DATA,
    Line,
    Quadratic,
    bayesian_settings,
    make_discriminator,
    make_generator,
    train_short,
)


def test_generators_of_a_normal_distribution_have_its_mean_and_sd():
    """Mean 2, sd 0.5, both within 0.1 (8 seeds differ by 0.02): linear generators, quadratic discriminators, all draws.

    The draws are taken together, as the discriminators see them: a single generator may be narrower than the data.
    """
    data = 2 + 0.5 * torch.randn(1000, 1, generator=torch.Generator().manual_seed(0))
    chosen = bayesian_settings(
        steps=1200, warmup=400, draws=40, generators=16, discriminators=4, batch_size=100, learning_rate=(0.01, 0.03),
        friction=0.5, prior_sd=(1.0, 0.5),
    )  # fmt: skip
    run = train_bayesian(Line, Quadratic, data, latent=1, settings=chosen, seed=0)
    samples = run.samples(20_000, seed=1)
    assert samples.shape == (20_000, 1)
    assert float(samples.mean()) == pytest.approx(float(data.mean()), abs=0.1)
    assert float(samples.std()) == pytest.approx(float(data.std()), abs=0.1)


def test_the_same_seed_has_the_same_draws_and_global_state_is_left_alone():
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = train_short()
    assert torch.equal(before, torch.get_rng_state())
    torch.manual_seed(2)
    again, other = train_short(), train_short(seed=5)
    for name, value in first.posterior.draws.items():
        assert value.shape[:2] == (3, 5)
        assert torch.equal(value, again.posterior.draws[name])
        assert not torch.equal(value, other.posterior.draws[name])
    assert torch.equal(first.samples(7, seed=1), again.samples(7, seed=1))
    assert not torch.equal(first.samples(7, seed=1), first.samples(7, seed=2))
    assert {name: tuple(value.shape) for name, value in first.history.items()} == {
        "generator_log_likelihood": (3, 3), "discriminator_log_likelihood": (3, 2)
    }  # fmt: skip


def test_an_interrupt_keeps_the_draws_so_far(monkeypatch):
    step, calls = SamplingLoop.step, []

    def stopping(self, number):
        calls.append(number)
        if number == stop:
            raise KeyboardInterrupt
        return step(self, number)

    monkeypatch.setattr(SamplingLoop, "step", stopping)
    stop = 20  # draws after steps 14 and 18
    with pytest.warns(RuntimeWarning, match="interrupted: 2 of 5 draws of each generator are kept") as caught:
        run = train_short()
    assert caught[0].filename == bayesian_gan_cases.__file__  # the caller of `train_bayesian`
    assert run.interrupted
    assert calls == list(range(1, 21))
    assert run.posterior.num_draws == 2
    assert run.samples(5, seed=0).shape == (5, 2)
    calls.clear()
    stop = 5
    with pytest.raises(KeyboardInterrupt, match="interrupted before the first draw"):
        train_short()


@pytest.mark.parametrize(("which", "kind"), [(0, "generator"), (1, "discriminator")])
def test_weights_of_nan_stop_the_run(which, kind):
    rates = [1e-3, 1e-3]
    rates[which] = 1e38
    with pytest.raises(
        ValueError, match=rf"expected finite weights, got NaN or infinity in {kind} \d in step \d+: try"
    ):
        train_short(learning_rate=tuple(rates), preconditioned=False, prior_sd=(0.1, 0.1))


def test_data_and_networks_that_do_not_fit_are_refused_by_bayesian_training():
    def start(make=make_generator, judge=make_discriminator, data=DATA):
        train_bayesian(make, judge, data, latent=3, settings=bayesian_settings())

    for data in (DATA[:10], DATA[:, 0]):
        with pytest.raises(ValueError, match=r"expected data of shape \(N, ...\), N at least the batch_size of 20"):
            start(data=data)
    with pytest.raises(ValueError, match="expected finite data, got values that are NaN or infinite"):
        start(data=torch.full((50, 2), math.nan))
    with pytest.raises(ValueError, match=r"expected data to be a floating tensor, got torch\.uint8"):
        start(data=torch.zeros(50, 2, dtype=torch.uint8))
    with pytest.raises(ValueError, match=r"expected a generator of samples of shape \(N, 3\), got \(2, 2\)"):
        start(data=torch.zeros(50, 3))
    with pytest.raises(
        ValueError, match=r"expected a discriminator with one logit for each sample, got shape \(2, 4\)"
    ):
        start(judge=lambda: nn.Linear(2, 4))
    with pytest.raises(ValueError, match=r"expected a generator with trainable weights and no other state, got \['1\."):
        start(make=lambda: nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2)))
    with pytest.raises(ValueError, match=r"expected a discriminator with trainable .*, got \['weight', 'bias'\]"):
        start(judge=lambda: nn.Linear(2, 1).requires_grad_(False))
    with pytest.raises(ValueError, match="expected n to be a whole number of 1 or more"):
        train_short().samples(0, seed=0)
