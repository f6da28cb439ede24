"""Monitors against generators whose faults are known, and that looking changes nothing."""

import io
import math
import sys

import pytest
import torch
from PIL import Image
from torch import nn

from posterity.data import ring
from posterity.data.pictures import animate
from posterity.inference.adversarial import Adversarial, play
from posterity.inference.adversarial.alarms import mode_collapse, saturation
from posterity.inference.adversarial.monitors import (
    Answers,
    Classes,
    ClusterQuality,
    Originality,
    Pictures,
    Quality,
    TensorBoard,
)

CLUSTERS = ring(sd=0.05)
DATA, HELD_OUT = CLUSTERS.sample(4000, seed=0), CLUSTERS.sample(4000, seed=1)


class Fixed(nn.Module):
    """A generator that is a function of z, with one weight that does nothing."""

    def __init__(self, make):
        super().__init__()
        self.make, self.weight = make, nn.Parameter(torch.zeros(()))

    def forward(self, z):
        return self.make(z) + 0 * self.weight


class Judge(nn.Module):
    """Answers that are a function of the sample."""

    def __init__(self, answer):
        super().__init__()
        self.answer, self.weight = answer, nn.Parameter(torch.zeros(()))

    def forward(self, x):
        return self.answer(x) + 0 * self.weight


def perfect(z):
    """Exact samples of the ring from normal z: the angle's share of a turn chooses the cluster."""
    share = torch.special.ndtr(z[:, 0])
    which = (share * 8).floor().clamp(max=7).long()
    return CLUSTERS.centres[which] + CLUSTERS.sd * z[:, 1:3]


def half(z):
    """Four of the eight clusters."""
    which = (torch.special.ndtr(z[:, 0]) * 4).floor().clamp(max=3).long()
    return CLUSTERS.centres[which] + CLUSTERS.sd * z[:, 1:3]


def single(z):
    return CLUSTERS.centres[0] + CLUSTERS.sd * z[:, 1:3]


def read(make, *monitors, answer=lambda x: x[:, 0] * 0, loss="non_saturating", data=DATA):
    """One step that changes nothing, and a reading."""
    settings = Adversarial(steps=1, batch_size=50, progress=False, loss=loss, learning_rate=(1e-30, 1e-30))
    return play(Fixed(make), Judge(answer), data, latent=3, settings=settings, monitors=monitors).history


def test_a_perfect_generator_passes_and_others_fail_where_they_should():
    """n = 1000 of each: p above 0.01 or at its least of 1/201; coverage 0.968 expected of a perfect one (+- 0.02)."""
    quality = Quality(HELD_OUT, n=1000)
    good, lacking, alone = (read(make, quality) for make in (perfect, half, single))
    assert good["kernel_p"][0] > 0.01
    assert good["coverage"][0] == pytest.approx(0.968, abs=0.02)
    assert good["spread"][0] == pytest.approx(1.0, abs=0.05)
    assert lacking["kernel_p"][0] == pytest.approx(1 / 201)
    assert lacking["precision"][0] > 0.9
    assert lacking["recall"][0] < 0.6
    assert alone["kernel_distance"][0] > lacking["kernel_distance"][0] > 10 * abs(good["kernel_distance"][0])
    # One cluster: two samples of sd s in the plane are s sqrt(pi) apart on average; the ring's 4/pi r, nearly.
    expected = CLUSTERS.sd * math.sqrt(math.pi) / float(torch.pdist(HELD_OUT[:1000]).mean())
    assert alone["spread"][0] == pytest.approx(expected, rel=0.05)
    clusters = [read(make, ClusterQuality(CLUSTERS))["modes"][0] for make in (perfect, half, single)]
    assert clusters == [8, 4, 1]
    scaled = read(lambda z: perfect(z) / 3, ClusterQuality(CLUSTERS, scale=3.0), data=DATA / 3)
    assert scaled["high_quality"][0] == pytest.approx(0.989, abs=0.01)


def test_copies_and_few_samples_are_seen():
    """A generator with 100 values, all from the training set: about 100 are counted; the distance to it is none."""

    def copies(z):
        return DATA[(torch.special.ndtr(z[:, 0]) * 100).floor().long().clamp(max=99)]

    watch = Originality(HELD_OUT, n=500)
    found, good = read(copies, watch), read(perfect, watch)
    assert found["memorised"][0] == 0
    # 1,248 pairs are expected of 100 values; the estimate is within 4 standard errors, 1/sqrt(1248) of it each.
    assert found["support"][0] == pytest.approx(100, abs=4 * 100 / math.sqrt(1248) + 3)
    assert found["pair_ratio"][0] > 20
    assert good["memorised"][0] == pytest.approx(1.0, abs=0.25)
    assert good["support"][0] > 10 * found["support"][0]


def test_answers_are_counted_on_each_side():
    """x > 0 is called real: half of the ring is; samples at 1 + noise all are."""
    history = read(single, Answers(HELD_OUT, n=2000), answer=lambda x: x[:, 0])
    right = float((HELD_OUT[:2000, 0] > 0).double().mean())
    assert history["accuracy_held_out"][0] == pytest.approx(right)
    assert history["accuracy_train"][0] == pytest.approx(0.5, abs=0.06)  # 4.5 standard errors
    assert history["accuracy_fake"][0] == 0
    assert history["sign_real"][0] == pytest.approx(2 * history["accuracy_train"][0] - 1, abs=1e-6)
    assert abs(history["overfitting"][0]) < 0.15


def test_a_discriminator_that_knows_its_training_data_by_heart_is_seen():
    """Answers 1 to training samples and -1 to all others: no held-out sample is known, overfitting is 1."""

    def by_heart(x):
        return (
            2.0 * (torch.cdist(x, DATA, compute_mode="donot_use_mm_for_euclid_dist").min(1).values == 0)
            - 1
            + 0 * x[:, 0]
        )

    history = read(perfect, Answers(HELD_OUT), answer=by_heart)
    assert history["accuracy_train"] == [1]
    assert history["accuracy_held_out"] == [0]
    assert history["overfitting"][0] == pytest.approx(1)


def test_relative_answers_have_no_zero():
    """The same number added to all answers changes no accuracy of a relativistic game."""
    one, two = (
        read(single, Answers(HELD_OUT), answer=lambda x, a=a: a - x[:, 0], loss="relativistic") for a in (0.0, 7.0)
    )
    for name in ("accuracy_train", "accuracy_held_out", "accuracy_fake", "sign_real"):
        assert one[name] == pytest.approx(two[name])
    assert one["accuracy_fake"] == [1]


def test_classes_are_those_a_classifier_sees():
    def predict(samples):
        return torch.nn.functional.one_hot(CLUSTERS.nearest(samples)[0], 8).double()

    history = read(half, Classes(predict, count=8, n=2000))
    assert history["classes"] == [4]
    assert history["class_kl"][0] == pytest.approx(math.log(2), abs=0.01)
    assert history["largest_class"][0] == pytest.approx(0.25, abs=0.04)
    shares = torch.tensor([1.0, 1, 1, 1, 0, 0, 0, 0]) / 4
    assert read(half, Classes(predict, count=8, n=2000, reference=shares))["class_kl"][0] < 0.01


def test_monitors_do_not_disturb_training(tmp_path):
    """All of them at every second step: the same weights, bit for bit."""

    def predict(samples):
        return torch.nn.functional.one_hot(CLUSTERS.nearest(samples.flatten(1))[0], 8).double()

    def run(*monitors):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            generator = nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 2))
            discriminator = nn.Sequential(nn.Linear(2, 8), nn.BatchNorm1d(8), nn.Dropout(0.3), nn.Linear(8, 1))
        settings = Adversarial(steps=6, batch_size=20, progress=False, monitor_every=2, ema=0.9)
        game = play(generator, discriminator, DATA, latent=3, settings=settings, monitors=monitors)
        return [value for net in (generator, discriminator, game.averaged) for value in net.state_dict().values()]

    looking = (
        Answers(HELD_OUT), Quality(HELD_OUT, n=50, permutations=5), Originality(HELD_OUT, n=50),
        Classes(predict, count=8, n=50), ClusterQuality(CLUSTERS, n=50),
    )  # fmt: skip
    assert all(torch.equal(one, two) for one, two in zip(run(), run(*looking), strict=True))


def test_pictures_of_the_same_points_and_a_moving_one(tmp_path):
    images = torch.zeros(40, 1, 6, 5)
    settings = Adversarial(steps=3, batch_size=4, progress=False, monitor_every=1)
    generator = nn.Sequential(nn.Linear(2, 30), nn.Tanh(), nn.Unflatten(1, (1, 6, 5)))
    discriminator = nn.Sequential(nn.Flatten(), nn.Linear(30, 1))
    play(generator, discriminator, images, latent=2, settings=settings, monitors=(Pictures(tmp_path, n=6, columns=3),))
    files = sorted(tmp_path.glob("*"))
    assert [file.name for file in files] == ["00000001.png", "00000002.png", "00000003.png"]
    with Image.open(files[0]) as picture:
        assert picture.size == (2 * (3 * 5 + 2), 2 * (2 * 6 + 1))
    moving = animate(tmp_path, tmp_path / "training.gif")
    with Image.open(io.BytesIO(moving.read_bytes())) as picture:
        assert picture.n_frames == 3


def test_event_files_need_their_package(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)  # as if it were not installed
    with pytest.raises(ValueError, match="expected the package tensorboard to be installed"):
        TensorBoard(tmp_path)


def test_event_files_hold_the_curves(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = read(perfect, ClusterQuality(CLUSTERS), TensorBoard(tmp_path))
    events = EventAccumulator(str(tmp_path)).Reload()
    assert "modes" in events.Tags()["scalars"]
    assert events.Scalars("modes")[-1].value == pytest.approx(found["modes"][-1])


# Alarms, on curves made up for them


def curves(readings, every=100, **values):
    steps = readings * every
    losses = values.pop("discriminator_loss", 1.0)
    return {
        "discriminator_loss": [1.4] * 10 + [losses] * (steps - 10),
        "read_at": [float(every * (k + 1)) for k in range(readings)],
        **values,
    }


def test_saturation_needs_all_its_signs_for_long_enough():
    alarm, won = saturation(), {"accuracy_held_out": [1.0] * 4, "accuracy_fake": [1.0] * 4}
    assert alarm.rings(curves(4, discriminator_loss=0.01, **won))
    assert not alarm.rings(curves(4, discriminator_loss=0.08, **won))  # 0.05 of 1.4 is 0.07
    assert not alarm.rings(curves(4, discriminator_loss=0.01, **(won | {"accuracy_fake": [1, 1, 0.98, 1]})))
    assert not alarm.rings(curves(4, discriminator_loss=0.01, **(won | {"accuracy_held_out": [1, 1, 1, 0.9]})))
    two = {name: values[:2] for name, values in won.items()}
    assert not alarm.rings(curves(2, discriminator_loss=0.01, **two))
    assert saturation(readings=2).rings(curves(2, discriminator_loss=0.01, **two))


def test_mode_collapse_by_spread_or_by_classes():
    alarm = mode_collapse(warmup=200)
    assert alarm.rings(curves(6, spread=[0.9, 0.9, 0.4, 0.4, 0.4, 0.4]))
    assert not alarm.rings(curves(6, spread=[0.9, 0.4, 0.4, 0.4, 0.6, 0.4]))
    assert not alarm.rings(curves(5, spread=[0.1] * 5))  # three after the warm-up
    assert alarm.rings(curves(6, spread=[1.0] * 6, largest_class=[0.1, 0.1, 0.9, 0.8, 1.0, 0.95]))
    assert not alarm.rings(curves(6, largest_class=[0.7] * 6))


def test_a_collapsed_and_a_dead_game_ring_and_a_healthy_one_does_not():
    """With the real monitors: a generator of one cluster, and one whose samples are known at a glance."""
    alarms = (saturation(readings=2), mode_collapse(readings=2, warmup=0))
    watch = (Answers(HELD_OUT), Quality(HELD_OUT, n=200, permutations=5))

    def rung(make, answer):
        settings = Adversarial(
            steps=45, batch_size=50, progress=False, monitor_every=15, learning_rate=(1e-30, 1e-30)
        )  # fmt: skip
        judge = Judge(answer)
        calls = [0]

        def learning(x):  # no idea in the first ten steps, of three calls each
            calls[0] += 1
            return answer(x) if calls[0] > 31 else 0 * x[:, 0]

        judge.answer = learning
        game = play(
            Fixed(make), judge, DATA, latent=3, settings=settings, monitors=watch, alarms=alarms
        )  # fmt: skip
        return game.alarms

    def radius(x):  # real ones are at 1
        return 40 * (0.5 - (x.norm(dim=1) - 1).abs())

    assert rung(perfect, radius) == {}
    with pytest.warns(UserWarning, match="mode_collapse in step 30: generated samples are nearly identical"):
        assert rung(single, radius) == {"mode_collapse": 30}
    with pytest.warns(UserWarning, match="saturation in step 45"):
        assert rung(lambda z: 3 * perfect(z), radius) == {"saturation": 45}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Answers(HELD_OUT, n=1), "expected n to be a whole number of 2 or more"),
        (lambda: Answers(HELD_OUT[:1]), r"expected held-out samples \(N, ...\), at least 2, got shape \(1, 2\)"),
        (lambda: Quality(HELD_OUT[:100]), "expected at least n = 500 held-out samples"),
        (lambda: Quality(HELD_OUT, n=5), "expected n to be a whole number of 12 or more"),
        (lambda: Originality(HELD_OUT[:100], n=80), "expected at least 2 n = 160 held-out samples"),
        (lambda: Pictures("x", n=0), "expected n to be a whole number of 1 or more"),
        (lambda: saturation(accuracy=1.2), r"expected accuracy to be a number in \(0, 1\), got 1\.2"),
        (lambda: saturation(readings=0), "expected readings to be a whole number of 1 or more"),
        (lambda: mode_collapse(spread=0.0), r"expected spread to be a number in \(0, 1\), got 0\.0"),
        (lambda: mode_collapse(warmup=-1), "expected warmup to be a whole number of 0 or more"),
    ],
)
def test_bad_input(make, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=message):
        make()


def test_alarms_say_which_monitor_they_need():
    with pytest.raises(ValueError, match="expected a monitor that reads 'accuracy_held_out', for this alarm"):
        saturation().rings(curves(3))
    with pytest.raises(ValueError, match="expected a monitor that reads 'spread', for this alarm"):
        mode_collapse().rings(curves(3))
