"""The game: who learns when, that it goes on where it was, and that nothing is lost."""

import copy
import math

import pytest
import torch
from torch import nn

from posterity.data import ring
from posterity.inference.adversarial import Adversarial, play, play_many
from posterity.inference.adversarial.alarms import Alarm, TrainingAlarm
from posterity.inference.adversarial.losses import Loss, non_saturating
from posterity.inference.adversarial.regularisers import gradient_penalty, r1
from posterity.models.discriminators import dense_discriminator
from posterity.models.generators import dense_generator

DATA = ring().sample(500, seed=0)


def networks(dropout=0.0):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        generator = dense_generator(3, (2,), hidden=(16,), squash=False)
        discriminator = dense_discriminator((2,), hidden=(16,))
    if dropout:
        discriminator.net.insert(2, nn.Dropout(dropout))
    return generator, discriminator


def settings(**changes):
    return Adversarial(**({"steps": 30, "batch_size": 20, "progress": False, "monitor_every": 10} | changes))


def weights(game):
    return torch.cat([p.detach().flatten() for net in (game.generator, game.discriminator) for p in net.parameters()])


def test_a_generator_learns_a_normal_distribution():
    """Mean 2, sd 0.5, within 0.1: from z by a line, judged by a quadratic, which is the best there is for normals."""

    class Quadratic(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(2))

        def forward(self, x):
            return torch.cat([x, x**2], 1) @ self.weight

    torch.manual_seed(0)
    data = 2 + 0.5 * torch.randn(5000, 1)
    chosen = settings(
        steps=3000, batch_size=256, learning_rate=(0.01, 0.03), regularisers=(r1(0.1),), ema=0.99, monitor_every=3000
    )
    game = play(nn.Linear(1, 1), Quadratic(), data, latent=1, settings=chosen, seed=0)
    made = game.samples(20_000, seed=1)
    assert float(made.mean()) == pytest.approx(2, abs=0.1)
    assert float(made.std()) == pytest.approx(0.5, abs=0.1)


@pytest.mark.parametrize("stop", [1, 10, 17])
def test_a_run_that_was_stopped_goes_on_bit_for_bit(stop, tmp_path):
    """With dropout, noise, averages, schedules and a regulariser: all that has a state. Monitors do not disturb it."""
    changes = {
        "ema": 0.9,
        "noise": 0.1,
        "regularisers": (r1(every=3),),
        "schedule": ("cosine", "linear"),
        "updates": (1, 2),
    }
    whole = play(*networks(0.2), DATA, latent=3, settings=settings(**changes), seed=4)

    path, calls = tmp_path / "run.pt", []

    class Interrupt:
        def read(self, game):
            raise KeyboardInterrupt

    class Look:
        def read(self, game):
            calls.append(game.step)
            return {"spread": float(game.samples(50, seed=1).std())}

    with pytest.warns(RuntimeWarning, match=rf"interrupted: step {stop} of 30 is kept, .* resume='.*run.pt'"):
        stopped = play(
            *networks(0.2), DATA, latent=3, settings=settings(**changes, monitor_every=stop, checkpoint=path), seed=4,
            monitors=(Interrupt(),),
        )  # fmt: skip
    assert stopped.interrupted
    assert stopped.step == stop
    before = torch.get_rng_state()
    other = [net.requires_grad_(True) for net in networks(0.2)]
    with torch.no_grad():
        for net in other:
            for parameter in net.parameters():
                parameter.add_(1.0)  # whatever they were
    went_on = play(
        *other, DATA, latent=3, settings=settings(**changes, checkpoint=path), seed=4, resume=path,
        monitors=(Look(),),
    )  # fmt: skip
    assert went_on.step == 30
    assert torch.equal(weights(whole), weights(went_on))
    assert all(
        torch.equal(a, b) for a, b in zip(whole.averaged.parameters(), went_on.averaged.parameters(), strict=True)
    )
    assert went_on.history["generator_loss"] == whole.history["generator_loss"]
    assert torch.equal(before, torch.get_rng_state())
    assert calls == [step for step in (10, 20, 30) if step >= stop]  # the one it was stopped in is made up for
    assert not (tmp_path / "run.pt.part").exists()


def test_the_discriminator_stands_still_while_the_generator_learns():
    """Its weights and gradients after a generator's step are those before: of the public code they were not."""
    seen = []

    class Watching(nn.Module):
        def __init__(self, net):
            super().__init__()
            self.net = net

        def forward(self, x):
            seen.append((self.training and all(p.requires_grad for p in self.parameters()), weights_of(self.net)))
            return self.net(x)

    def weights_of(net):
        return torch.cat([p.detach().clone().flatten() for p in net.parameters()])

    generator, discriminator = networks()
    watched = Watching(discriminator)
    game = play(generator, watched, DATA, latent=3, settings=settings(steps=2), seed=0)
    # A look at the shapes; then a step: real, fake with weights that learn, and fake again with some that do not.
    assert [learns for learns, _ in seen[1:]] == [True, True, False] * 2
    torch.testing.assert_close(seen[3][1], seen[4][1])  # nothing between the generator's step and the next
    assert not torch.equal(seen[2][1], seen[3][1])
    assert all(p.requires_grad for p in game.discriminator.parameters())


def test_updates_and_rates_are_those_of_each_network():
    """One that does not learn: a rate of next to nothing; the other does."""
    still = settings(learning_rate=(1e-30, 1e-2))
    generator, discriminator = networks()
    before = copy.deepcopy(generator.state_dict()), copy.deepcopy(discriminator.state_dict())
    play(generator, discriminator, DATA, latent=3, settings=still, seed=0)
    assert all(
        torch.allclose(a, b, rtol=0, atol=1e-20)
        for a, b in zip(before[0].values(), generator.state_dict().values(), strict=True)
    )
    assert not any(
        torch.equal(a, b) for a, b in zip(before[1].values(), discriminator.state_dict().values(), strict=True)
    )


def test_averaged_weights_follow_with_their_memory():
    """After one step from w0 to w1 with memory m: m w0 + (1 - m) w1."""
    generator, discriminator = networks()
    start = copy.deepcopy(generator)
    game = play(generator, discriminator, DATA, latent=3, settings=settings(steps=1, ema=0.75), seed=0)
    for own, first, last in zip(game.averaged.parameters(), start.parameters(), generator.parameters(), strict=True):
        torch.testing.assert_close(own, 0.75 * first + 0.25 * last)
    torch.testing.assert_close(game.samples(5, seed=2), game.samples(5, seed=2))


@pytest.mark.parametrize("which", ["discriminator", "generator"])
def test_a_loss_that_is_no_number_ends_the_run_and_keeps_the_last_good_state(which, tmp_path):
    calls = [0]

    def spoilt(real, fake):
        calls[0] += 1
        return non_saturating().generator(real, fake) * (math.nan if calls[0] > 15 else 1)

    parts = {"discriminator": non_saturating().discriminator, "generator": non_saturating().generator} | {which: spoilt}
    loss = Loss("spoilt", **parts)
    path = tmp_path / "run.pt"
    good = play(*networks(), DATA, latent=3, settings=settings(steps=10, loss=Loss("same", **{
        "discriminator": non_saturating().generator if which == "discriminator" else non_saturating().discriminator,
        "generator": non_saturating().generator})), seed=0)  # fmt: skip
    generator, discriminator = networks()
    with pytest.raises(ValueError, match=f"expected a finite {which}_loss, got nan in step 16: step 10 is kept"):
        play(generator, discriminator, DATA, latent=3, settings=settings(loss=loss, checkpoint=path), seed=0)
    assert torch.load(path, weights_only=True)["step"] == 10
    for kept, expected in zip(generator.parameters(), good.generator.parameters(), strict=True):
        assert torch.equal(kept, expected)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps": 0}, "expected steps to be a whole number of 1 or more"),
        ({"batch_size": 2.5}, "expected batch_size to be a whole number of 1 or more"),
        ({"learning_rate": 1e-3}, "expected a pair of learning_rate"),
        ({"learning_rate": (1e-3, -1)}, "expected every learning_rate to be a finite number above 0"),
        ({"updates": (1, 0)}, "expected every number of updates to be a whole number of 1 or more"),
        ({"betas": (0.5, 1.0)}, r"expected every beta to be a number in \[0, 1\)"),
        ({"schedule": ("step", "linear")}, "expected schedules from"),
        ({"ema": 1.0}, r"expected ema to be a number in \(0, 1\)"),
        ({"noise": -0.1}, "expected noise to be a finite number of 0 or more"),
        ({"loss": "gan"}, "expected a loss from"),
    ],
)
def test_settings_that_cannot_be_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        settings(**change)


def test_data_and_networks_that_do_not_fit_are_refused():
    generator, discriminator = networks()
    for data in (DATA[:10], DATA[:, 0], torch.full((50, 2), math.nan)):
        with pytest.raises(ValueError, match="expected finite data of shape"):
            play(generator, discriminator, data, latent=3, settings=settings())
    with pytest.raises(ValueError, match=r"expected a generator of samples of shape \(N, 3\), got \(20, 2\)"):
        play(generator, discriminator, torch.zeros(50, 3), latent=3, settings=settings())
    with pytest.raises(ValueError, match=r"expected a discriminator with one logit a sample, got shape \(20, 4\)"):
        play(generator, nn.Linear(2, 4), DATA, latent=3, settings=settings())
    game = play(generator, discriminator, DATA, latent=3, settings=settings(steps=1))
    with pytest.raises(ValueError, match="expected at least 1 sample, got 0"):
        game.samples(0, seed=0)


def test_what_a_failing_monitor_interrupts_is_kept(tmp_path):
    path = tmp_path / "run.pt"

    class Fails:
        def read(self, game):
            if game.step == 20:
                raise ZeroDivisionError("no luck")
            return {}

    whole = play(*networks(), DATA, latent=3, settings=settings(), seed=0)
    with pytest.raises(ZeroDivisionError):
        play(*networks(), DATA, latent=3, settings=settings(checkpoint=path), seed=0, monitors=(Fails(),))
    went_on = play(*networks(), DATA, latent=3, settings=settings(), seed=0, resume=path)
    assert torch.equal(weights(whole), weights(went_on))


def test_an_interrupt_within_a_step_leaves_no_half_step(tmp_path):
    """The discriminator has learned and the generator not: back to the last reading, and on from there bit for bit."""
    path, calls = tmp_path / "run.pt", [0]

    def interrupted(real, fake):
        calls[0] += 1
        if calls[0] == 16:
            raise KeyboardInterrupt
        return non_saturating().generator(real, fake)

    loss = Loss("non_saturating", non_saturating().discriminator, interrupted)
    whole = play(*networks(), DATA, latent=3, settings=settings(), seed=0)
    with pytest.warns(RuntimeWarning, match="interrupted: step 10 of 30 is kept"):
        stopped = play(*networks(), DATA, latent=3, settings=settings(loss=loss, checkpoint=path), seed=0)
    assert (stopped.interrupted, stopped.step) == (True, 10)
    went_on = play(*networks(), DATA, latent=3, settings=settings(), seed=0, resume=path)
    torch.testing.assert_close(weights(whole), weights(went_on))


# Many games side by side


def pairs(seeds, dropout=0.0):
    """Networks that start elsewhere for each seed."""
    made = [networks(dropout) for _ in seeds]
    for seed, nets in zip(seeds, made, strict=True):
        random = torch.Generator().manual_seed(seed)
        for net in nets:
            for parameter in net.parameters():
                parameter.data = 0.3 * torch.randn(parameter.shape, generator=random)
    return [one for one, _ in made], [two for _, two in made]


@pytest.mark.parametrize("loss", ["non_saturating", "least_squares"])
def test_games_side_by_side_are_those_played_alone(loss):
    """After 20 steps with penalties of both kinds, clipping, noise and averages: equal but for rounding."""
    seeds = (5, 6, 11)
    changes = {
        "steps": 20, "loss": loss, "regularisers": (gradient_penalty(0.1), r1(0.1)), "clip": 0.05, "ema": 0.8,
        "noise": 0.1, "updates": (1, 2), "schedule": ("linear", "cosine"), "learning_rate": (1e-2, 1e-2),
    }  # fmt: skip
    together = play_many(*pairs(seeds), DATA, latent=3, seeds=seeds, settings=settings(**changes))
    for game, seed, generator, discriminator in zip(together, seeds, *pairs(seeds), strict=True):
        start = copy.deepcopy(generator)
        alone = play(generator, discriminator, DATA, latent=3, settings=settings(**changes), seed=seed)
        torch.testing.assert_close(weights(game), weights(alone), atol=2e-5, rtol=1e-4)
        torch.testing.assert_close(game.samples(50, seed=1), alone.samples(50, seed=1), atol=2e-5, rtol=1e-4)
        assert game.history["generator_loss"] == pytest.approx(alone.history["generator_loss"], rel=1e-4, abs=1e-5)
        assert game.history["generator_gradient"] == pytest.approx(alone.history["generator_gradient"], rel=1e-3)
        norms = zip(*(game.history[f"{name}_gradient"] for name in ("generator", "discriminator")), strict=True)
        assert game.history["gradient_ratio"] == pytest.approx([mine / other for mine, other in norms])
        assert float((weights_of(start) - weights_of(generator)).abs().max()) > 0.02  # it went somewhere


def weights_of(net):
    return torch.cat([p.detach().flatten() for p in net.parameters()])


def test_many_games_that_were_stopped_go_on_bit_for_bit(tmp_path):
    seeds, path = (1, 2), tmp_path / "run.pt"
    changes = {"ema": 0.9, "noise": 0.1, "monitor_every": 7}

    class Interrupt:
        def read(self, game):
            raise KeyboardInterrupt

    whole = play_many(*pairs(seeds, 0.2), DATA, latent=3, seeds=seeds, settings=settings(**changes))
    chosen = settings(**changes, checkpoint=path)
    with pytest.warns(RuntimeWarning, match="interrupted: step 7 of 30 is kept"):
        stopped = play_many(
            *pairs(seeds, 0.2), DATA, latent=3, seeds=seeds, settings=chosen, monitors=(Interrupt(),)
        )  # fmt: skip
    assert [game.step for game in stopped] == [7, 7]
    again = play_many(*pairs((8, 9), 0.2), DATA, latent=3, seeds=seeds, settings=chosen, resume=path)
    for one, two in zip(whole, again, strict=True):
        assert torch.equal(weights(one), weights(two))
        assert one.history["discriminator_loss"] == two.history["discriminator_loss"]
    with pytest.raises(ValueError, match=r"expected a checkpoint of 1 game\(s\) with an average in .*, got 2 with"):
        play(*networks(0.2), DATA, latent=3, settings=chosen, resume=path)


def test_a_game_that_breaks_is_named():
    calls = [0]

    def spoilt(real, fake):
        calls[0] += 1
        values = non_saturating().generator(real, fake)
        return values * torch.tensor([1.0, math.nan if calls[0] == 13 else 1.0, 1.0])

    loss = Loss("spoilt", non_saturating().discriminator, spoilt)
    with pytest.raises(
        ValueError, match="expected a finite generator_loss of game 1, got nan in step 13: step 10 is kept"
    ):
        play_many(*pairs((1, 2, 3)), DATA, latent=3, seeds=(1, 2, 3), settings=settings(loss=loss))


# Conditions, precision, what is best, alarms


def test_a_conditional_game_learns_what_belongs_to_each_condition():
    """x = 3 c + noise of 0.1, c = -1 or 1: made values have the mean of their own condition, within 0.3."""

    class Line(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.tensor([0.1, 0.0]))

        def forward(self, z, c):
            return z * self.weight[0] + c * self.weight[1]

    class Judge(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(3))

        def forward(self, x, c):
            return torch.cat([x, x**2, x * c], 1) @ self.weight

    random = torch.Generator().manual_seed(0)
    condition = 2.0 * torch.randint(2, (1000, 1), generator=random) - 1
    data = 3 * condition + 0.1 * torch.randn(1000, 1, generator=random)
    chosen = settings(steps=1500, batch_size=128, learning_rate=(0.01, 0.02), regularisers=(r1(0.1),), ema=0.99)
    game = play(Line(), Judge(), data, latent=1, condition=condition, settings=chosen, seed=0)
    for side in (-1.0, 1.0):
        made = game.samples(500, seed=1, condition=torch.full((500, 1), side))
        assert float(made.mean()) == pytest.approx(3 * side, abs=0.3)
    assert game.samples(7, seed=1).shape == (7, 1)
    with pytest.raises(ValueError, match="expected a condition with the 5 rows"):
        game.samples(5, seed=1, condition=torch.zeros(4, 1))


def test_half_precision_keeps_weights_whole_and_learns_almost_the_same():
    changes = {"steps": 30, "regularisers": (r1(0.1),)}
    exact = play(*networks(), DATA, latent=3, settings=settings(**changes), seed=1)
    half = play(*networks(), DATA, latent=3, settings=settings(**changes, precision="bfloat16"), seed=1)
    assert weights(half).dtype == torch.float32
    difference = float((weights(half) - weights(exact)).abs().mean())
    assert 0 < difference < 2e-3  # 30 steps of 2e-4 go 6e-3 at most; bfloat16 has three digits


class Falling:
    """Reads a number that is least in the second reading."""

    def read(self, game):
        return {"kernel_distance": (game.step - 20) ** 2}


def test_the_best_generator_is_that_of_the_smallest_reading(tmp_path):
    path = tmp_path / "run.pt"
    short = play(*networks(), DATA, latent=3, settings=settings(steps=20, ema=0.9), seed=0)
    long = play(*networks(), DATA, latent=3, settings=settings(ema=0.9, checkpoint=path), seed=0, monitors=(Falling(),))
    assert long.records[0].best_step == 20
    for best, then in zip(long.best().parameters(), short.averaged.parameters(), strict=True):
        assert torch.equal(best, then)
    kept = play(*networks(), DATA, latent=3, settings=settings(ema=0.9), seed=0, resume=path)
    for best, then in zip(kept.best().parameters(), short.averaged.parameters(), strict=True):
        assert torch.equal(best, then)
    with pytest.raises(ValueError, match="expected a monitor that reads 'kernel_distance'"):
        short.best()


def test_an_alarm_rings_once_is_warned_of_and_may_end_the_run():
    alarm = Alarm("low", lambda history: len(history["read_at"]) >= 2, "something is low")
    with pytest.warns(TrainingAlarm, match="low in step 20: something is low"):
        game = play(*networks(), DATA, latent=3, settings=settings(stop_on=("low",)), seed=0, alarms=(alarm,))
    assert (game.step, game.alarms) == (20, {"low": 20})


def test_checkpoints_that_are_none_and_data_that_cannot_be_made_are_refused(tmp_path):
    path = tmp_path / "run.pt"
    play(*networks(), DATA, latent=3, settings=settings(steps=2, checkpoint=path))
    whole = path.read_bytes()
    for broken in (whole[: len(whole) // 2], b"", b"no checkpoint"):
        path.write_bytes(broken)
        with pytest.raises(ValueError, match=r"expected a checkpoint in .*, got a file that cannot be read as one"):
            play(*networks(), DATA, latent=3, settings=settings(), resume=path)
    torch.save({"step": 1}, path)
    with pytest.raises(ValueError, match="expected a checkpoint of format 2"):
        play(*networks(), DATA, latent=3, settings=settings(), resume=path)
    path.write_bytes(whole)
    generator, discriminator = networks()
    with pytest.raises(ValueError, match="expected a checkpoint of these networks"):
        play(generator, dense_discriminator((2,), hidden=(8,)), DATA, latent=3, settings=settings(), resume=path)
    with pytest.raises(ValueError, match=r"expected floating data, got torch\.uint8"):
        play(generator, discriminator, torch.zeros(50, 2, dtype=torch.uint8), latent=3, settings=settings())
    squashed = dense_generator(3, (2,), hidden=(8,))
    with pytest.raises(ValueError, match="expected data from -1 to 1, as the generator's tanh makes, got"):
        play(squashed, discriminator, 2 * DATA, latent=3, settings=settings())
    with pytest.raises(ValueError, match=r"expected a condition of shape \(500, C\), got \(3, 1\)"):
        play(generator, discriminator, DATA, latent=3, condition=torch.zeros(3, 1), settings=settings())
    with pytest.raises(ValueError, match="expected as many generators and discriminators as seeds, got 1, 1 and 2"):
        play_many([generator], [discriminator], DATA, latent=3, seeds=(1, 2))
