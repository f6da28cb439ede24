"""Each setting of a step does what it says: measured on networks whose gradients are known."""

import copy
import math

import pytest
import torch
from torch import nn

from posterity.inference.adversarial import Adversarial, Game, play, play_many
from posterity.inference.adversarial.alarms import saturation
from posterity.inference.adversarial.monitors import Pictures
from posterity.inference.adversarial.regularisers import gradient_penalty, r1, r2
from posterity.models.discriminators import dense_discriminator, packed
from posterity.models.generators import dense_generator

DATA = torch.randn(400, 2, generator=torch.Generator().manual_seed(0))


class Shift(nn.Module):
    """z + b; a loss's gradient by b is the mean of its gradient by the samples."""

    def __init__(self):
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(2))

    def forward(self, z):
        return z + self.bias


class Line(nn.Module):
    """x w, and what it was shown."""

    def __init__(self, weight=(3.0, 4.0)):
        super().__init__()
        self.weight, self.seen = nn.Parameter(torch.tensor(weight)), []

    def forward(self, x):
        if self.training:
            self.seen.append(x.detach().clone())
        return x @ self.weight


def settings(**changes):
    base = {"steps": 4, "batch_size": 50, "progress": False, "monitor_every": 2, "loss": "wasserstein"}
    return Adversarial(**(base | changes))


def run(generator=None, discriminator=None, **changes):
    return play(generator or Shift(), discriminator or Line(), DATA, latent=2, settings=settings(**changes), seed=0)


def test_each_network_learns_as_often_as_its_updates_say():
    game = run(updates=(2, 3))
    counts = [int(next(iter(one.state.values()))["step"]) for one in game.optimisers]
    assert counts == [4 * 2, 4 * 3]


def test_rates_fall_as_their_schedules_say():
    """Half of the steps: half of a linear one, cos² (pi/4) = 1/2 of a cosine one; a quarter: 3/4, cos² (pi/8)."""
    chosen = settings(steps=40, schedule=("linear", "cosine"), learning_rate=(0.1, 0.2))
    assert chosen.rates(20) == pytest.approx((0.05, 0.1))
    assert chosen.rates(10) == pytest.approx((0.075, 0.2 * math.cos(math.pi / 8) ** 2))
    assert settings(learning_rate=(0.1, 0.2)).rates(3) == (0.1, 0.2)
    game = run(schedule=("linear", "constant"), learning_rate=(0.1, 0.2))
    assert [one.param_groups[0]["lr"] for one in game.optimisers] == pytest.approx([0.1 / 4, 0.2])


@pytest.mark.parametrize("clip", [None, 0.5])
def test_the_norm_of_a_gradient_is_that_before_it_is_clipped(clip):
    """Of the generator: |w| of the discriminator, 5 where it hardly learns. Adam's first moment shows the clip."""
    game = run(clip=clip, learning_rate=(1e-3, 1e-12))
    assert game.history["generator_gradient"] == pytest.approx([5.0, 5.0], rel=1e-5)
    moment = game.optimisers[0].state[game.generator.bias]["exp_avg"].norm()  # (1 - 0.5^4) of a steady gradient
    assert float(moment) == pytest.approx((5.0 if clip is None else clip) * (1 - 0.5**4), rel=1e-5)


def test_noise_falls_to_zero_over_the_first_half():
    """What the discriminator sees of data that are all zero has sd 2 (1 - 2 step / steps), within 5 standard errors."""
    judge, data = Line((1e-30, 1e-30)), torch.zeros(100, 2)
    chosen = settings(noise=2.0, batch_size=100, learning_rate=(1e-30, 1e-30))
    play(Shift(), judge, data, latent=2, settings=chosen)
    shown = judge.seen[0::3]  # data, samples, samples again in the generator's update
    sds = [float(x.std()) for x in shown]
    error = 2 / math.sqrt(2 * 200)
    assert sds[0] == pytest.approx(2, abs=5 * error)
    assert sds[1] == pytest.approx(1, abs=5 * error / 2)
    assert sds[2:] == [0, 0]


def test_batch_normalisation_of_an_average_has_the_statistics_of_its_own_samples():
    """Of 20 batches of 50: means within 5 standard errors of those of many samples. The last generator's are far off.

    Training is the same however often it is looked at.
    """
    generator = nn.Sequential(nn.Linear(2, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    start = copy.deepcopy(generator)
    game = run(generator, ema=0.9, learning_rate=(0.3, 0.1))
    before = game.averaged[0](torch.randn(100_000, 2)).detach()
    error = before.std(0) / math.sqrt(20 * 50)
    assert bool(((game.averaged[1].running_mean - before.mean(0)).abs() < 5 * error).all())
    assert bool((game.averaged[1].running_var / before.var(0) - 1).abs().max() < 5 * math.sqrt(2 / (20 * 50)))
    assert not bool(((game.generator[1].running_mean - before.mean(0)).abs() < 5 * error).all())
    assert game.averaged[1].momentum == 0.1
    assert not torch.allclose(game.generator[0].weight, game.averaged[0].weight)
    other = run(start, ema=0.9, learning_rate=(0.3, 0.1), monitor_every=1)
    assert len(other.history["read_at"]) == 4
    for one, two in ((game.generator, other.generator), (game.averaged, other.averaged)):
        assert all(torch.equal(one.state_dict()[name], value) for name, value in two.state_dict().items())


def test_saturation_asks_the_losses_since_the_reading_before():
    """High losses early and low ones late ring; low ones early and high ones late do not."""
    readings = [100.0 * k for k in range(1, 7)]
    right = {"accuracy_held_out": [1.0] * 6, "accuracy_fake": [1.0] * 6, "read_at": readings}
    late = {"discriminator_loss": [1.4] * 300 + [0.001] * 300}
    early = {"discriminator_loss": [1.4] * 10 + [0.001] * 390 + [1.4] * 200}
    assert saturation().rings(right | late)
    assert not saturation().rings(right | early)


def test_a_penalty_of_packs_is_that_of_the_logit_of_a_pack():
    """Of D = w . (pack of p samples) the gradient has the squared norm |w|², whatever p; R1 of weight 2 is that."""
    net = packed(dense_discriminator, 4, (2,), hidden=())
    squares = float((net.net.net[1].weight.detach() ** 2).sum())
    x = torch.randn(20, 2)
    for penalty in (r1(2.0), r2(2.0)):
        assert float(penalty(net, x, x, lambda: torch.rand(20)).detach()) == pytest.approx(squares, rel=1e-5)
    found = gradient_penalty(1.0)(net, x, x, lambda: torch.rand(20)).detach()
    assert float(found) == pytest.approx((squares**0.5 - 1) ** 2, rel=1e-4)


class Place(nn.Module):
    """A generator of samples at one place."""

    def __init__(self, place):
        super().__init__()
        self.place = nn.Parameter(torch.tensor([place]))

    def forward(self, z):
        return self.place.expand(len(z), 1)


class Square(nn.Module):
    """w x² / 2, of slope w x."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(1.0))

    def forward(self, x):
        return 0.5 * self.weight * x[:, 0] ** 2


@pytest.mark.parametrize(
    ("penalties", "expected"),
    [
        ((), [-4.0, -4.0]),  # -3²/2 + 1²/2
        ((r1(2.0),), [5.0, 5.0]),  # 3² more: that of the data
        ((r2(2.0),), [-3.0, -3.0]),  # 1² more: that of the generated samples
        ((r1(2.0), r2(4.0)), [7.0, 7.0]),
        ((r1(2.0, every=2),), [14.0, -4.0]),  # twice in every second step
        ((gradient_penalty(1.0),), [-4 + 5 / 6, -4 + 5 / 6]),
    ],
)
def test_a_game_takes_each_penalty_at_its_own_samples(penalties, expected):
    """Data at 3, samples at -1, D = x²/2 and the Wasserstein loss; within 5 standard errors of 400 draws in between.

    E (|u| - 1)² of u ~ U(-1, 3) is 5/6, with an sd of 1.06.
    """
    chosen = settings(steps=2, batch_size=400, learning_rate=(1e-30, 1e-30), regularisers=penalties)
    for play_one in (play, lambda one, two, *rest, **named: play_many([one], [two], *rest, seeds=(0,), **named)[0]):
        game = play_one(Place(-1.0), Square(), torch.full((500, 1), 3.0), latent=1, settings=chosen)
        error = 5 * 1.06 / 20 if "gradient" in repr(penalties) else 1e-5
        assert game.history["discriminator_loss"] == pytest.approx(expected, abs=error)


@pytest.mark.parametrize("noise", [0.0, 2.0])
def test_a_penalty_sees_what_the_discriminator_sees(noise):
    """Real and generated rows, in that order, with their noise; and the discriminator with the data's conditions."""
    seen, shown = [], []

    def look(discriminate, real, fake, uniform):
        seen.append((real.clone(), fake.clone(), uniform().clone(), discriminate(real).detach().clone()))
        return torch.zeros(())

    class Told(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(()))

        def forward(self, x, condition):
            if self.training:
                shown.append(x.detach().clone())
            return self.weight * (x[:, 0] + 10 * condition[:, 0])

    class Copies(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(()))

        def forward(self, z, condition):
            return -condition + self.weight

    data = torch.arange(1.0, 101.0)[:, None]
    chosen = settings(steps=1, regularisers=(look,), batch_size=20, noise=noise)
    play(Copies(), Told(), data, latent=1, condition=data, settings=chosen)
    ((real, fake, share, answers),) = seen
    assert torch.equal(real, shown[0])
    assert torch.equal(fake, shown[1])
    if noise:
        return
    assert set(real.flatten().tolist()) <= set(data.flatten().tolist())
    assert torch.equal(fake, -real)  # made from the conditions of the real ones
    assert share.shape == (20,)
    torch.testing.assert_close(answers, 11 * real[:, 0])


# What would be lost


def test_an_interrupt_in_a_reading_loses_no_reading(tmp_path):
    class Look:
        def __init__(self, stop):
            self.stop = stop

        def read(self, game):
            if game.step == self.stop:
                raise KeyboardInterrupt
            return {"kernel_distance": abs(game.step - 4.0)}

    def go(stop, resume=None):
        chosen = settings(steps=6, checkpoint=tmp_path / "run.pt")
        return play(Shift(), Line(), DATA, latent=2, settings=chosen, monitors=(Look(stop),), resume=resume)

    whole = go(None)
    with pytest.warns(RuntimeWarning, match="interrupted: step 4 of 6 is kept"):
        stopped = go(4)
    assert stopped.interrupted
    went_on = go(None, tmp_path / "run.pt")
    assert went_on.history == whole.history
    assert went_on.records[0].best_step == whole.records[0].best_step == 4


def test_a_gradient_that_is_no_number_is_found_and_the_last_good_state_kept(tmp_path):
    """The loss is finite, the gradient of the 4th step is not: weights of step 2 are kept, in the game and the file."""

    class Breaks(Shift):
        calls = 0

        def forward(self, z):
            made = super().forward(z)
            if made.requires_grad:
                self.calls += 1
                if self.calls == 4:
                    made.register_hook(lambda gradient: gradient * float("nan"))
            return made

    generator, path = Breaks(), tmp_path / "run.pt"
    with pytest.raises(ValueError, match="expected finite weights of the generator in step 4, got others: step 2 is"):
        play(generator, Line(), DATA, latent=2, settings=settings(checkpoint=path), seed=0)
    assert bool(torch.isfinite(generator.bias).all())
    assert play(Shift(), Line(), DATA, latent=2, settings=settings(steps=2), seed=0, resume=path).step == 2


def test_a_checkpoint_of_other_settings_or_seeds_is_refused(tmp_path):
    path = tmp_path / "run.pt"
    first = play(Shift(), Line(), DATA, latent=2, settings=settings(checkpoint=path), seed=3)
    longer = play(Shift(), Line(), DATA, latent=2, settings=settings(steps=6), seed=3, resume=path)
    assert (first.step, longer.step) == (4, 6)  # of a constant rate there may be more steps
    for seed, changes in ((4, {}), (3, {"batch_size": 10}), (3, {"regularisers": (r1(),)}), (3, {"noise": 1.0})):
        with pytest.raises(ValueError, match="expected a checkpoint of these settings and seeds"):
            play(Shift(), Line(), DATA, latent=2, settings=settings(**changes), seed=seed, resume=path)


def test_the_best_generator_can_be_trained_further():
    """It comes in evaluation, and from an average that had no gradients: `play` trains it, and gives back its mode."""

    class Best:
        def read(self, game):
            return {"kernel_distance": 1.0}

    generator = nn.Sequential(nn.Linear(2, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    game = play(generator, Line(), DATA, latent=2, settings=settings(ema=0.9), seed=0, monitors=(Best(),))
    best = game.best()
    before = int(best[1].num_batches_tracked)
    play(best, Line(), DATA, latent=2, settings=settings(), seed=0)
    assert int(best[1].num_batches_tracked) == before + 4
    assert not best.training


def test_pictures_of_many_games_have_a_folder_each(tmp_path):
    generators = [dense_generator(2, (1, 5, 5), hidden=(4,)) for _ in range(3)]
    discriminators = [dense_discriminator((1, 5, 5), hidden=(4,)) for _ in range(3)]
    looking = (Pictures(tmp_path, n=4),)
    images, seeds = torch.zeros(100, 1, 5, 5), [0, 1, 2]
    play_many(generators, discriminators, images, latent=2, seeds=seeds, settings=settings(), monitors=looking)
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.png")) == [
        f"game-{seat}/{step:08d}.png" for seat in range(3) for step in (2, 4)
    ]


# Bad input


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"regularisers": r1()}, "expected a tuple of regularisers"),
        ({"regularisers": (3,)}, "expected a tuple of regularisers"),
        ({"stop_on": "saturation"}, "expected a tuple of alarms' names"),
        ({"loss": ["a"]}, "expected a loss from"),
        ({"schedule": (["a"], "linear")}, "expected schedules from"),
        ({"betas": ("a", 0.5)}, r"expected betas to be a number in \[0, 1\)"),
        ({"checkpoint": "/no/such/folder/run.pt"}, "expected a checkpoint in a folder that is there"),
    ],
)
def test_settings_that_cannot_be_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        settings(**changes)


def test_what_does_not_fit_is_refused_before_a_step():
    def go(generator=None, data=DATA, **changes):
        return play(generator or Shift(), Line(), data, **({"latent": 2, "settings": settings()} | changes))

    def dense():
        return dense_generator(2, (2,), hidden=(4,), squash=False)

    with pytest.raises(ValueError, match=r"expected a generator that can be called with .50, 3. of torch.float32"):
        go(dense(), latent=3)
    with pytest.raises(ValueError, match=r"expected a generator that can be called with .* of torch.float64"):
        go(dense(), DATA.double())
    with pytest.raises(ValueError, match="expected data as a tensor, got ndarray"):
        go(data=DATA.numpy())
    for seed in ("a", 1.5, True):
        with pytest.raises(ValueError, match="expected seed to be a whole number of 0 or more"):
            go(seed=seed)
    with pytest.raises(ValueError, match="expected a generator that can be called with"):
        go(condition=torch.zeros(400, 1))
    with pytest.raises(ValueError, match="expected a finite condition"):
        go(condition=torch.full((400, 1), float("nan")))
    with pytest.raises(ValueError, match=r"expected stop_on with names of alarms .*, got .'colapse'."):
        go(settings=settings(stop_on=("colapse",)))
    with pytest.raises(ValueError, match="expected a generator with weights to train"):
        go(Shift().requires_grad_(False))
    kinds = [nn.Sequential(nn.Linear(2, 2), last) for last in (nn.ReLU(), nn.Tanh())]
    with pytest.raises(ValueError, match="expected nets of one architecture"):
        play_many(kinds, [Line(), Line()], DATA, latent=2, seeds=[0, 1], settings=settings())


def test_a_game_knows_what_it_was_made_by():
    game = run()
    assert isinstance(game, Game)
    assert "'loss': 'wasserstein'" in game.made_by
    assert game.made_by == run().made_by
