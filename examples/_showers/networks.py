"""Training of the generators of ``showers.py``, each stored in a file, and the surrogate of all of them."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path

from _parts import finished
from _report import save_arrays
from torch import Tensor

from _showers.settings import HIGH, LOW, SHOWERS, Settings, features, showers
from posterity.inference.adversarial import TrainingRun, metrics
from posterity.inference.showers import ShowerSurrogate, shower_settings, train_showers

READ = 5000  # showers at a reading


class Separations:
    """A monitor: separation powers of the observables from held-out showers."""

    def __init__(self, settings: Settings) -> None:
        cells, self.energy = (part[:READ] for part in showers(settings, "held_out"))
        self.real = features(cells, self.energy)

    def read(self, run: TrainingRun) -> Mapping[str, float]:
        surrogate = ShowerSurrogate([run.sampling_generator.generator], (LOW, HIGH))
        made = features(surrogate.simulate(self.energy, seed=run.step), self.energy)
        found = [metrics.separation_power(*pair, bins=20).power for pair in zip(made.T, self.real.T, strict=True)]
        return {"separation": sum(found) / len(found), "largest_separation": max(found)}


def train_member(member: int, settings: Settings, work: Path) -> dict[str, float]:
    """Train one member on its own bootstrap sample; an interrupted training is resumed from its checkpoint."""
    cells, energy = showers(settings, "training")
    path = work / f"member-{member}.checkpoint"
    run = train_showers(
        cells, energy, SHOWERS.calorimeter, bootstrap=True, seed=100 * settings.seed + member,
        settings=shower_settings(
            steps=settings.steps, batch_size=settings.batch, monitor_every=max(1, settings.steps // 10),
            best_by="separation", checkpoint=path,
        ),
        monitors=(Separations(settings),), resume=path if path.exists() else None,
    )  # fmt: skip
    finished(run)
    generator = run.sampling_generator.generator
    ShowerSurrogate([generator], (LOW, HIGH)).save(work / f"member-{member}.surrogate")
    curves = {name: run.history[name] for name in ("read_at", "separation", "largest_separation")}
    save_arrays(work / f"curves-{member}.npz", **curves)
    return {"separation": run.history["separation"][-1], "resolution_a": float(generator.sampling)}


@cache
def load_surrogate(settings: Settings, work: Path) -> ShowerSurrogate:
    members = [ShowerSurrogate.load(work / f"member-{member}.surrogate") for member in range(settings.members)]
    return ShowerSurrogate([one.generators[0] for one in members], (LOW, HIGH))


def draw_surrogate(settings: Settings, work: Path, energy: Tensor, seed: int) -> Tensor:
    return load_surrogate(settings, work).simulate(energy, seed=seed)


def draw_member(settings: Settings, work: Path, energy: Tensor, seed: int) -> Tensor:
    return load_surrogate(settings, work).simulate(energy, seed=seed, member=0)
