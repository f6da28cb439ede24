"""The world model as a person runs it, with ``--quick``, and its parts where the answer is known."""

from pathlib import Path

import pytest
import torch

from tests.examples_run import run_twice, script

FIGURES = ("frames", "branches", "activity", "tree", "horizon", "ghosts", "split", "controller")


@pytest.mark.slow
def test_the_report_has_what_it_says(tmp_path: Path) -> None:
    """After seconds of training: everything is measured, and what needs no training is right."""
    metrics = run_twice("world_model", tmp_path)
    cues, steps = (0, 1, 2), (1, 4, 8, 12)
    assert {f"branch.{cue}.{key}" for cue in cues for key in ("mass", "truth")} <= metrics.keys()
    assert {f"dream.{cue}.frequency" for cue in cues} <= metrics.keys()
    assert {f"horizon.{step}.{key}" for step in steps for key in ("pull_width", "coverage90")} <= metrics.keys()
    assert {f"split.{method}.unseen.epistemic" for method in ("ensemble", "last_layer")} <= metrics.keys()
    single = ("vae.branch_error_max", "k1.offset_px", "temperature.max_error", "tree.error_max", "dream.binomial_p")
    assert {*single, "controller.0.5.score", "ghosts.per_dimension"} <= metrics.keys()
    assert [metrics[f"branch.{cue}.truth"] for cue in cues] == [0.2, 0.5, 0.8]
    assert 0 < metrics["true.nll_excess"] < 1  # the exact density has the lowest expected NLL
    assert metrics["controller.oracle.score"] == 1
    assert abs(metrics["controller.still.score"] - 0.5) < 4 * (0.25 / 200) ** 0.5
    assert metrics["truth.between"] < 1e-3
    assert metrics["ghosts.real"] < 0.2
    assert metrics["information.control_p_value"] > 1e-3
    assert {path.name for path in tmp_path.glob("*.png")} == {f"world-{name}.png" for name in FIGURES}
    assert (tmp_path / "world-dreams.gif").stat().st_size > 10_000
    assert not list(tmp_path.glob("*.part"))


def test_a_ball_on_a_path_is_no_ghost() -> None:
    with script("world_model") as module:
        pictures, fork = module.pictures, module.pictures.FORK
        steps = torch.arange(9, 16)
        real = fork.simulate(500, seed=0).positions[:, 9:]
        assert not bool(pictures.is_ghost(real, steps).any())  # a pixel is five times the jitter
        middle = torch.stack([steps.float(), torch.full((7,), 7.5)], -1)
        assert bool(pictures.is_ghost(middle, steps).all())
        late = real.clone()
        late[..., 0] -= 1.6
        assert float(pictures.is_ghost(late, steps).double().mean()) > 0.99


def test_controllers_play_their_own_episodes() -> None:
    """Two controllers in one call: the first always moves up, the second never moves."""
    with script("world_model") as module:
        control = module.control
        net = module.control.MixtureRNN(2, 3, hidden=4, ends=True)
        parameters = torch.zeros(2, 3, 7)
        parameters[0, 0, -1] = parameters[1, 1, -1] = 1.0  # the bias of an action
        actions = control.Controllers(net, parameters.flatten(1))(torch.randn(6, 2), (torch.zeros(6, 4),))
        assert actions.tolist() == [0, 0, 0, 1, 1, 1]
        with torch.no_grad():
            net.output.weight.zero_()
            net.output.bias[-1] = -2.0  # ends with probability .12 in each of 14 steps
        alive = control.survival(
            control.Controllers(net, parameters.flatten(1)),
            torch.zeros(2000, 1, 2),
            1.0,
            torch.Generator().manual_seed(0),
        )
        expected = (1 - torch.tensor(-2.0).sigmoid().item()) ** 14
        assert ((alive - expected).abs() < 4 * (expected * (1 - expected) / 2000) ** 0.5).all()


@pytest.mark.slow
def test_two_components_find_both_branches(tmp_path: Path) -> None:
    """Each in the middle of a branch, with half of the weight, seed 0; without annealing one takes both branches."""
    with script("world_model") as module:
        settings = module.Settings(batch=128, position_steps=1000)
        module.train_positions("two", settings, tmp_path)
        found = module.positions.load("positions", "two", settings, tmp_path)
        fork, wall = module.positions.FORK, module.positions.WALL
        predicted = module.positions.predicted(found, fork.simulate(500, cue=1, seed=7))[:, wall - 1]
        rows = predicted.component_distribution.mean[..., 1].median(0).values.sort().values
        assert torch.allclose(rows.double(), fork.rows[:, wall], atol=0.1)
        assert torch.allclose(predicted.log_weights.exp().median(0).values, torch.tensor([0.5, 0.5]), atol=0.05)


def test_references_are_those_of_the_corridor() -> None:
    """Half of the blocks are within a row of a ball that stays; a random player does better, the oracle never fails."""
    with script("world_model") as module:
        settings = module.Settings(played_episodes=1000)
        scores = module.control.references(settings)
        assert scores["oracle.score"] == 1
        assert abs(scores["still.score"] - 0.5) < 4 * (0.25 / 1000) ** 0.5
        assert scores["still.score"] - 0.05 < scores["random.score"] < 0.8
        exact = module.split.exact_terms()
        assert exact["exact.noise"] == pytest.approx(0.04)
        assert exact["exact.ambiguity"] == pytest.approx(16 * (0.16 + 0.25 + 0.16) / 3)
