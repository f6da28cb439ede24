"""The corridor: its exact distribution against simulated episodes, and against Bayes' rule by hand."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from posterity.data import Corridor


@pytest.mark.parametrize("corridor", [Corridor(), Corridor(jitter=1.5), Corridor(second=0.3, junction=4)])
def test_the_mean_log_density_of_episodes_is_minus_the_entropy(corridor):
    """Within 4 standard errors, seed 1; probabilities of branches that are wrong by 0.2 are beyond them."""
    wrong = Corridor(up=(0.4, 0.7, 0.6), jitter=corridor.jitter, second=corridor.second, junction=corridor.junction)
    for cue in range(3):
        episodes = corridor.simulate(8000, cue=cue, seed=1)
        surprise = -corridor.log_prob(episodes.positions, episodes.cue).sum(1)
        error = float(surprise.std()) / math.sqrt(8000)
        information = math.sqrt(2 * 16) / math.sqrt(4096)  # of the draws that `entropy` uses, below that of the jitter
        assert abs(float(surprise.mean()) - corridor.entropy(cue)) < 4 * math.hypot(error, information / 10)
        excess = -wrong.log_prob(episodes.positions, episodes.cue).sum(1) - surprise
        assert float(excess.mean()) > 4 * float(excess.std()) / math.sqrt(8000)


def test_the_entropy_of_separate_paths_is_that_of_jitter_and_branch():
    """Closed form; the paths are 40 widths apart."""
    jitter = 16 * (1 + math.log(2 * math.pi * 0.2**2))
    for cue, p in enumerate((0.2, 0.5, 0.8)):
        branch = -p * math.log(p) - (1 - p) * math.log(1 - p)
        assert Corridor().entropy(cue) == pytest.approx(jitter + branch, abs=1e-6)
    assert Corridor(up=(1.0,)).entropy(0) == pytest.approx(jitter, abs=1e-9)


@given(st.integers(0, 15), st.integers(0, 2), st.floats(0.3, 3.0), st.integers(0, 1000))
@settings(max_examples=20, deadline=None)
def test_the_next_step_follows_bayes_rule(steps, cue, jitter, seed):
    """The joint densities of all steps up to the next and up to this one, each a sum over the paths."""
    corridor = Corridor(jitter=jitter, second=0.4, junction=3)
    episode = corridor.simulate(1, cue=cue, seed=seed)

    def log_joint(count):
        rows = corridor.rows[:, :count]
        columns = torch.arange(count, dtype=torch.float64).expand_as(rows)
        mean = torch.stack([columns, rows], -1)
        density = torch.distributions.Normal(mean, jitter).log_prob(episode.positions[0, :count].double()).sum((-1, -2))
        return (density + corridor.path_probabilities(episode.cue)[0].log()).logsumexp(0)

    exact = corridor.next_position(episode.positions[:, :steps], episode.cue)
    found = exact.log_prob(episode.positions[:, steps].double())[0]
    assert found == pytest.approx(float(log_joint(steps + 1) - log_joint(steps)), abs=1e-9)
    assert float(corridor.log_prob(episode.positions, episode.cue)[0, steps]) == pytest.approx(float(found), abs=1e-9)


def test_branches_are_taken_as_often_as_the_cue_says():
    """Binomial, 4 standard errors, seed 0; the second junction does not depend on the cue."""
    corridor = Corridor(second=0.3, junction=4)
    for cue, p in enumerate(corridor.up):
        path = corridor.simulate(10_000, cue=cue, seed=0).path
        assert abs(float((path < 2).double().mean()) - p) < 4 * math.sqrt(p * (1 - p) / 10_000)
        assert abs(float((path % 2 == 0).double().mean()) - 0.3) < 4 * math.sqrt(0.21 / 10_000)


def test_pictures_show_the_ball_where_it_is():
    """To a tenth of a pixel away from the edges, where the blob is cut off; the cue is a pixel of the first frame."""
    corridor = Corridor()
    episodes = corridor.simulate(200, seed=3)
    frames = corridor.frames(episodes)
    inner = slice(3, 13)
    assert (corridor.locate(frames[:, inner]) - episodes.positions[:, inner]).abs().max() < 1e-4
    assert torch.equal(frames[:, 0, 0, 0, :3].argmax(-1), episodes.cue)
    assert frames[:, 1:, 0, 0].max() < 0.1
    assert 0 <= float(frames.min()) <= float(frames.max()) <= 1


def test_the_player_avoids_the_obstacle_by_moving_away_from_it():
    """Moving always away from the block arrives; towards it does not; the exact density knows the moves."""
    corridor = Corridor(obstacle=True)
    still = corridor.simulate(2000, actions=torch.ones(2000, 16, dtype=torch.long), seed=0)
    away = torch.where(still.obstacle > 0, 0, 2)[:, None].expand(-1, 16)
    escaped = corridor.simulate(2000, actions=away, seed=0)
    assert torch.equal(still.obstacle, escaped.obstacle)
    assert bool((escaped.rewards[:, -1] == 1).all())
    assert float(still.rewards[:, -1].mean()) == pytest.approx(0.5, abs=4 * math.sqrt(0.25 / 2000))
    assert not bool(corridor.simulate(2000, actions=2 - away, seed=0).mask[still.obstacle.abs() > 1, -1].any())
    moved = corridor.moved(away, 2000)
    surprise = -corridor.log_prob(escaped.positions, escaped.cue, moved).sum(1).mean()
    plain = -corridor.log_prob(still.positions, still.cue).sum(1).mean()
    assert float(surprise - plain) == pytest.approx(0.0, abs=0.25)


def test_a_player_who_sees_the_frames_avoids_the_obstacle():
    """A player who reads the block from the first frame always arrives, and sees the ball where it has moved it."""
    corridor = Corridor(obstacle=True)
    blocks = corridor.rows[:, -2].mean()
    seen = []

    def away(frames):
        seen.append(corridor.locate(torch.where(frames > 0.6, frames, 0.0)))
        row = torch.arange(16.0)
        light = frames[:, 0, :, -2].where(frames[:, 0, :, -2] == 0.5, torch.tensor(0.0))
        if len(seen) == 1:
            seen.append((light @ row) / light.sum(1) - blocks)  # both blocks are as far from their paths
        return torch.where(seen[1] > 0, 0, 2)

    played = corridor.play(away, 500, seed=0)
    assert bool((played.rewards[:, -1] == 1).all())
    again = corridor.simulate(500, actions=played.actions, seed=0)
    assert torch.equal(played.positions, again.positions)
    assert float((seen[4] - played.positions[:, 3]).abs().mean()) < 0.4
    assert torch.equal(played.obstacle, corridor.play(lambda frames: torch.ones(500).long(), 500, seed=0).obstacle)
    with pytest.raises(ValueError, match=r"expected policy to return whole numbers of shape \(3,\), got torch.float32"):
        corridor.play(lambda frames: torch.ones(3), 3, seed=0)
    with pytest.raises(ValueError, match="expected actions from 0 to 2, got 1 to 7"):
        corridor.play(lambda frames: torch.full((3,), 7), 3, seed=0)
    with pytest.raises(ValueError, match="expected policy to be a function"):
        corridor.play(torch.ones(3), 3, seed=0)


def test_steps_after_the_end_are_masked():
    episodes = Corridor(obstacle=True).simulate(500, seed=2)
    assert torch.equal(episodes.done.sum(1), torch.ones(500, dtype=torch.long))
    assert torch.equal(episodes.mask.sum(1), 1 + episodes.done.int().argmax(1))
    assert torch.equal(episodes.rewards.sum(1) > 0, episodes.mask.all(1))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"up": (0.2, 1.2)}, r"expected up to be .*\[0, 1\], got 1.2"),
        ({"up": 0.5}, "expected up to be a tuple of probabilities"),
        ({"junction": 14}, "expected junction to be"),
        ({"jitter": 0.0}, "expected jitter to be"),
        ({"spread": 9.0}, "expected spread to keep all paths in a frame of 16 rows, got 9.0"),
        ({"second": 0.5, "junction": 11}, "expected junction to be"),
        ({"second": 2.0}, "expected second to be"),
    ],
)
def test_settings_that_are_no_corridor_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        Corridor(**settings)


def test_arguments_of_other_shapes_are_refused():
    corridor = Corridor()
    with pytest.raises(ValueError, match="expected cue to be"):
        corridor.simulate(3, cue=3, seed=0)
    with pytest.raises(ValueError, match="expected cue to be whole numbers from 0 to 2"):
        corridor.path_probabilities(torch.tensor([3]))
    with pytest.raises(ValueError, match=r"expected actions of shape \(3, 16\)"):
        corridor.simulate(3, actions=torch.zeros(3, 15, dtype=torch.long), seed=0)
    with pytest.raises(ValueError, match="expected actions from 0 to 2, got 0 to 3"):
        corridor.simulate(1, actions=torch.arange(16)[None] % 4, seed=0)
    with pytest.raises(ValueError, match=r"expected positions of shape \(2, steps, 2\) with at most 16 steps"):
        corridor.log_prob(torch.zeros(2, 17, 2), torch.tensor([0, 1]))
    with pytest.raises(ValueError, match="expected positions of fewer than 16 steps, got 16"):
        corridor.next_position(torch.zeros(1, 16, 2), torch.tensor([0]))
    with pytest.raises(ValueError, match=r"expected moved of shape \(1, 16\)"):
        corridor.next_position(torch.zeros(1, 2, 2), torch.tensor([0]), torch.zeros(1, 3))
