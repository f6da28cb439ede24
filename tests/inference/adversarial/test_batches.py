"""Sources: a run on inputs of the user's own learns, is resumed bit for bit, and wrong batches are refused."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from posterity.inference.adversarial import r1, train, train_many
from posterity.inference.adversarial.batches import Drawn, Rows, is_source
from posterity.inference.adversarial.monitors import SampleOriginality, SampleQuality
from posterity.inference.adversarial.terms import cycle, identity, paired
from posterity.models.translation import PairedDiscriminator, Translator
from tests.adversarial_cases import quick, weights_of


class Doubles:
    """Inputs u (n, 2), uniform on [-1, 1], and real samples 2 u + 1."""

    recipe = "doubles"

    def draw(self, n, random):
        inputs = 2 * torch.rand(n, 2, generator=random) - 1
        return inputs, 2 * inputs + 1


def networks(seed=0):
    torch.manual_seed(seed)
    return nn.Linear(2, 2), nn.Sequential(nn.Linear(2, 8), nn.LeakyReLU(0.2), nn.Linear(8, 1))


def test_a_paired_term_finds_the_map():
    """The real samples are 2 u + 1 without noise: weights and biases within 0.05."""
    settings = quick(steps=1500, batch_size=32, learning_rate=(0.01, 0.001), terms=(paired(20.0),))
    generator, discriminator = networks()
    run = train(generator, discriminator, Doubles(), settings=settings, seed=0)
    assert torch.allclose(generator.weight, 2 * torch.eye(2), atol=0.05)
    assert torch.allclose(generator.bias, torch.ones(2), atol=0.05)
    assert len(run.history["paired_absolute"]) == 1500
    assert run.history["paired_absolute"][-1] < 0.1 < run.history["paired_absolute"][0]


def test_the_loss_of_the_generator_is_the_sum_of_its_terms():
    """One step of plain weights: with a discriminator of zeros, only the term has a gradient."""
    generator, discriminator = networks()
    for parameter in discriminator.parameters():
        nn.init.zeros_(parameter)
    before = [parameter.detach().clone() for parameter in generator.parameters()]
    settings = quick(steps=1, batch_size=8, learning_rate=(1e-3, 1e-9))
    train(generator, discriminator, Doubles(), settings=settings, seed=0)
    assert all(torch.allclose(a, b, atol=1e-7) for a, b in zip(before, generator.parameters(), strict=True))
    train(generator, discriminator, Doubles(), settings=replace(settings, terms=(paired(),)), seed=0)
    assert float((generator.bias.detach() - before[1]).min()) == pytest.approx(
        1e-3, rel=1e-3
    )  # towards 1: one step of Adam


def test_a_run_on_a_source_is_resumed_bit_for_bit(tmp_path):
    settings = quick(
        steps=20, batch_size=8, terms=(paired(),), replay=5, monitor_every=5, schedule=("late_linear",) * 2
    )
    whole = train(*networks(), Doubles(), settings=settings, seed=3)
    path = tmp_path / "run.pt"

    class Stop:
        def read(self, run):
            if run.step == 10:
                raise KeyboardInterrupt
            return {}

    with pytest.warns(RuntimeWarning, match="interrupted"):
        train(*networks(), Doubles(), settings=replace(settings, checkpoint=path), seed=3, monitors=[Stop()])
    resumed = train(*networks(5), Doubles(), settings=settings, seed=3, resume=path)
    assert torch.equal(weights_of(resumed.generator), weights_of(whole.generator))
    assert torch.equal(weights_of(resumed.discriminator), weights_of(whole.discriminator))
    assert resumed.history == whole.history
    other = Doubles()
    other.recipe = "triples"
    with pytest.raises(ValueError, match=r"expected a checkpoint of these settings and seeds .*triples"):
        train(*networks(), other, settings=settings, seed=3, resume=path)


def test_runs_side_by_side_equal_runs_alone():
    settings = quick(steps=5, batch_size=8, terms=(paired(),), replay=6, regularisers=(r1(),), monitor_every=5)
    together = train_many(
        *zip(*(networks(seed) for seed in (1, 2)), strict=True), Doubles(), settings=settings, seeds=(1, 2)
    )
    for seed, run in zip((1, 2), together, strict=True):
        alone = train(*networks(seed), Doubles(), settings=settings, seed=seed)
        assert torch.allclose(weights_of(run.generator), weights_of(alone.generator), atol=1e-6)
        assert run.history["paired_absolute"] == pytest.approx(alone.history["paired_absolute"], abs=1e-5)
        assert torch.allclose(run.samples(4, seed=0), alone.samples(4, seed=0), atol=1e-6)


def test_monitors_read_runs_on_sources():
    held_out = Doubles().draw(100, torch.Generator().manual_seed(9))[1]
    settings = quick(steps=4, monitor_every=2, batch_size=8)
    run = train(*networks(), Doubles(), settings=settings, monitors=[SampleQuality(held_out, n=50)], seed=0)
    assert len(run.history["kernel_distance"]) == 2
    assert run.draw_real(3, seed=0)[0].shape == (3, 2)
    assert run.condition is None
    with pytest.raises(ValueError, match="expected a run on a tensor of real samples, got one on a source"):
        train(*networks(), Doubles(), settings=settings, monitors=[SampleOriginality(held_out, n=50)], seed=0)


def test_what_a_source_may_not_return_is_refused():
    def source(result):
        class Other:
            def draw(self, n, random):
                return result

        return Other()

    for wrong, complaint in (
        (torch.zeros(8, 2), "expected data.draw to return two tensors"),
        ((torch.zeros(8, 2), None), "expected data.draw to return two tensors"),
        ((torch.zeros(7, 2), torch.zeros(8, 2)), r"return floating-point inputs of shape \(8, ...\), got .* \(7, 2\)"),
        ((torch.zeros(8, 2), torch.zeros(8, 2, dtype=torch.long)), r"floating-point real samples of shape \(8, ...\)"),
        ((torch.zeros(8, 2), torch.full((8, 2), torch.nan)), "expected finite data"),
        ((torch.zeros(8, 2), torch.zeros(8, 3)), r"expected a generator of samples of shape \(N, 3\), got \(8, 2\)"),
    ):
        with pytest.raises(ValueError, match=complaint):
            train(*networks(), source(wrong), settings=quick(batch_size=8), seed=0)
    with pytest.raises(ValueError, match="expected latent to be None for data that draw the inputs, got 2"):
        train(*networks(), Doubles(), latent=2, settings=quick(), seed=0)
    with pytest.raises(ValueError, match="expected condition to be None for data that draw the inputs"):
        train(*networks(), Doubles(), condition=torch.zeros(8, 1), settings=quick(), seed=0)
    with pytest.raises(ValueError, match="latent"):
        train(*networks(), torch.zeros(100, 2), settings=quick(), seed=0)
    with pytest.raises(ValueError, match="expected replay to be 0 for a conditional run, got 5"):
        train(*networks(), torch.zeros(100, 2), latent=2, condition=torch.zeros(100, 1), settings=quick(replay=5))


def test_two_networks_against_two_exchange_two_domains():
    """Domains a = 3 + noise and b = -3 + noise, one number each: both translations are the shift by 6, within 0.5."""

    class Shift(nn.Module):
        def __init__(self):
            super().__init__()
            self.by = nn.Parameter(torch.zeros(1))

        def forward(self, x):
            return x + self.by

    class Judge(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = nn.Linear(2, 1)
            nn.init.zeros_(self.net.weight)

        def forward(self, x):
            x = x.flatten(1)
            return self.net(torch.cat([x, x**2], 1))

    class Numbers:
        def draw(self, n, random):
            noise = 0.5 * torch.randn(n, 2, 1, 1, 1, generator=random)
            pairs = noise + torch.tensor([3.0, -3.0])[:, None, None, None]
            return pairs, pairs

    settings = quick(
        steps=1500, batch_size=32, loss="least_squares", learning_rate=(0.02, 0.01), terms=(cycle(0.1), identity(1e-3)),
        replay=20, regularisers=(r1(0.1),), schedule=("late_linear", "late_linear"),
    )  # fmt: skip
    net = Translator(Shift(), Shift())
    run = train(net, PairedDiscriminator(Judge(), Judge()), Numbers(), settings=settings, seed=0)
    assert net.to_second.by.item() == pytest.approx(-6, abs=0.5)
    assert net.to_first.by.item() == pytest.approx(6, abs=0.5)
    assert run.history["cycle"][-1] < 0.5


def test_rows_and_sources_are_told_apart():
    assert is_source(Doubles())
    assert not is_source(torch.zeros(3, 2))
    assert Rows(torch.zeros(9, 2), 3).recipe == "latent 3"
    assert Drawn(Doubles()).recipe == "source doubles"
