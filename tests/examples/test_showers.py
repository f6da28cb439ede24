"""Fast simulation as a person runs it, with ``--quick``, and the rivals' transformations there and back."""

from pathlib import Path

import pytest
import torch

from tests.examples_run import run_twice, script

METHODS = ("surrogate", "member", "mixture", "library", "flow", "flow_library", "null")


def test_the_numbers_of_the_flows_lead_back_to_the_cells() -> None:
    with script("showers") as module:
        flow, settings = module.train_flow.__globals__, module.QUICK
        cells, energy = module.evaluation.showers(settings, "tested")
        numbers = flow["layer_numbers"](cells, energy)
        layers = flow["layer_energies"](numbers, energy)
        filled = flow["cell_numbers"](cells, torch.Generator().manual_seed(0))
        split = module.evaluation.SHOWERS.calorimeter.split
        seen = torch.stack([part.sum((1, 2)) for part in split(cells)], 1).double()
        some = seen.amin(1) > 1e-4 * energy  # smaller shares are cut off
        torch.testing.assert_close(layers[some], seen[some], rtol=1e-5, atol=1e-6)
        back = flow["cell_energies"](filled, seen)
        assert torch.equal(back > 0, cells > 0)
        torch.testing.assert_close(back, cells, rtol=1e-4, atol=1e-6)


def test_the_library_has_real_showers_of_the_wanted_energy() -> None:
    """With the features of training showers themselves, the library returns these showers."""
    with script("showers") as module:
        draw = module.evaluation.draw_library
        settings, inside = module.QUICK, draw.__globals__
        cells, energy = module.evaluation.showers(settings, "training")
        own = module.evaluation.features(cells, energy)
        keep = inside["draw_features"]
        inside["draw_features"] = lambda *_: own[:50]
        try:
            found = draw(settings, Path(), energy[:50], 0)
        finally:
            inside["draw_features"] = keep
        torch.testing.assert_close(found, cells[:50], rtol=1e-5, atol=1e-7)


@pytest.mark.slow
def test_the_report_has_what_it_says(tmp_path: Path) -> None:
    metrics = run_twice("showers", tmp_path)
    keys = ("auc_high", "jsd_high", "frechet", "kernel", "precision", "recall", "separation_largest")
    assert {f"{method}.{region}.{key}" for method in METHODS for region in ("inside", "gap") for key in keys} <= set(
        metrics
    )
    assert metrics["null.inside.auc_high"] == pytest.approx(0.5, abs=5 * metrics["null.inside.auc_high_se"])
    assert metrics["surrogate.inside.auc_high"] < 1
    assert metrics["pulls.width_simulation"] == pytest.approx(1, abs=0.2)
    assert metrics["refusal.by_range"] == 1
    assert metrics["microseconds.surrogate"] > 0
    names = {f"showers-{name}.png" for name in ("pictures", "histograms", "scores", "uncertainty")}
    assert {path.name for path in tmp_path.glob("*.png")} == names
