"""Every method against the simulation, inside the energies of training and in the gap."""

import time
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import torch
from _report import save_arrays
from threadpoolctl import threadpool_limits
from torch import Tensor

from _showers.features import draw_features, draw_library
from _showers.flow import draw_flow, draw_flow_library
from _showers.networks import draw_member, draw_surrogate, load_surrogate
from _showers.settings import GAP, HIGH, LOW, NAMES, REGIONS, SHOWERS, Settings, features, showers
from posterity.inference.adversarial import metrics
from posterity.inference.showers import fit_profile, fit_resolution

Draw = Callable[[Settings, Path, Tensor, int], Tensor]
DRAW: dict[str, Draw] = {
    "surrogate": draw_surrogate, "member": draw_member, "library": draw_library, "flow": draw_flow,
    "flow_library": draw_flow_library,
}  # fmt: skip
COMPARED = 5000  # showers for distances that need all pairs
RANGES = {"inside": ((1.0, 5.0), (5.0, 20.0), (40.0, 100.0)), "gap": ((20.0, 40.0),)}  # GeV, for pulls
PROFILE_FROM = 20.0  # GeV: below, the layers say too little about T and alpha


def scores(method: str, settings: Settings, work: Path) -> dict[str, float]:
    """All distances of a method from the simulation; "null" is other showers of the simulation."""
    found: dict[str, float] = {}
    for region in REGIONS:
        cells, energy = showers(settings, "tested", region)
        made_cells, made = _drawn(method, settings, work, region, energy)
        real = features(cells, energy)
        save_arrays(work / f"features-{method}-{region}.npz", made=made.float(), real=real.float())
        numbers = _distances(made, real, energy, settings)
        if made_cells is not None:
            numbers |= _low_level(made_cells, cells, energy, settings)
        found |= {f"{region}.{key}": value for key, value in numbers.items()}
        if region == "inside":
            found |= _physics(made_cells, made, energy, settings)
    return found


def _drawn(method: str, settings: Settings, work: Path, region: str, energy: Tensor) -> tuple[Tensor | None, Tensor]:
    """Cells, if a method has any, and features of its showers, at the energies of the test."""
    seed = 50_000 + 10 * settings.seed + list(REGIONS).index(region)
    if method == "mixture":
        return None, draw_features(settings, work, energy, seed)
    cells = (draw_simulation if method == "null" else DRAW[method])(settings, work, energy, seed)
    return cells, features(cells, energy)


def draw_simulation(settings: Settings, work: Path, energy: Tensor, seed: int) -> Tensor:
    return SHOWERS.simulate(energy, seed=seed).cells


def _distances(made: Tensor, real: Tensor, energy: Tensor, settings: Settings) -> dict[str, float]:
    separations = {
        name: metrics.separation_power(one, other) for name, one, other in zip(NAMES, made.T, real.T, strict=True)
    }
    found = {f"separation.{name}": value.power for name, value in separations.items()}
    found["separation_largest"] = max(value.power for value in separations.values())
    found["separation_floor"] = max(value.floor for value in separations.values())
    test = metrics.classifier_test(*(_with_energy(rows, energy) for rows in (real, made)), seed=settings.seed)
    found |= {"auc_high": test.auc, "auc_high_se": test.auc_se, "jsd_high": test.jsd}
    scale = real.std(0).clamp_min(1e-9)
    few = [(rows[:COMPARED] / scale).float() for rows in (real, made)]
    found["frechet"] = metrics.frechet_distance(*few)
    found["kernel"] = metrics.kernel_distance(*few)
    return found | metrics.precision_recall(*few)


def _low_level(made: Tensor, cells: Tensor, energy: Tensor, settings: Settings) -> dict[str, float]:
    """A classifier of all cells, as shares of the energy of the particle."""
    shares = [_with_energy(part / energy.float()[:, None], energy) for part in (cells, made)]
    test = metrics.classifier_test(*shares, seed=settings.seed)
    return {"auc_low": test.auc, "auc_low_se": test.auc_se, "jsd_low": test.jsd}


def _with_energy(rows: Tensor, energy: Tensor) -> Tensor:
    return torch.cat([rows, energy.to(rows).log()[:, None]], 1)


def _physics(cells: Tensor | None, made: Tensor, energy: Tensor, settings: Settings) -> dict[str, float]:
    """Resolution, and the correlation of depth and shape of the showers."""
    fit = fit_resolution(energy, made[:, NAMES.index("response")].clamp_min(0), seed=settings.seed)
    found = {"resolution.a": fit.a, "resolution.a_se": fit.a_se, "resolution.b": fit.b, "resolution.b_se": fit.b_se}
    if cells is not None:
        high = energy > PROFILE_FROM
        profile = fit_profile(cells[high], SHOWERS.calorimeter).log()
        rho = float(torch.corrcoef(profile[~profile.isnan().any(1)].T)[0, 1])
        found |= {"profile_correlation": rho, "profile_correlation_se": (1 - rho**2) / int(high.sum()) ** 0.5}
    return found


def pulls(settings: Settings, work: Path) -> dict[str, float]:
    """Pulls of all histogram bins, with the spread between the members as it is, and scaled.

    Members share errors that their spread does not have. A factor for it is found on held-out showers and the even
    observables, and tested on other showers and the odd ones, and the other way round.
    """
    found, stored = {}, {}
    halves = [list(range(len(NAMES)))[start::2] for start in (0, 1)]
    factors = [_factor(settings, work, fitted) for fitted in halves]
    found |= {"factor_even": factors[0], "factor_odd": factors[1]}
    for region in REGIONS:
        scaled = [
            _all_pulls(settings, work, "tested", region, factor, tested)
            for factor, tested in zip(factors, halves[::-1], strict=True)
        ]
        for name, values in (
            ("width", np.concatenate(scaled)),
            ("width_unscaled", _all_pulls(settings, work, "tested", region, 1.0)),
        ):
            found[f"{region}.{name}"] = float(values.std())
            stored[f"{region}_{name}"] = values
    null = _all_pulls(settings, work, "tested", "inside", 1.0, simulated=True)
    found["width_simulation"] = float(null.std())
    save_arrays(work / "pulls.npz", **stored)
    return found


def _factor(settings: Settings, work: Path, columns: list[int]) -> float:
    """The factor of the spread with which the pulls of these observables of held-out showers are 1 wide."""
    low, high = 0.0, 100.0
    for _ in range(30):
        factor = (low + high) / 2
        wide = _all_pulls(settings, work, "held_out", "inside", factor, columns).std() > 1
        low, high = (factor, high) if wide else (low, factor)
    return factor


def _all_pulls(
    settings: Settings,
    work: Path,
    purpose: str,
    region: str,
    factor: float,
    columns: list[int] | None = None,
    *,
    simulated: bool = False,
) -> np.ndarray:
    """Pulls of the bins of these observables, or of all, in all ranges of energy."""
    reference, reference_energy = _reference(settings, purpose, region)
    members = _simulated(settings, region) if simulated else _members(settings, work, region)
    found = []
    for low, high in RANGES[region]:
        of_reference = reference[(reference_energy >= low) & (reference_energy < high)]
        inside = [rows[(energy >= low) & (energy < high)] for rows, energy in members]
        shortest = min(map(len, inside))
        of_members = torch.stack([rows[:shortest] for rows in inside])
        for column in range(len(NAMES)) if columns is None else columns:
            one = metrics.histogram_pulls(
                of_members[..., column], of_reference[:, column], bins=settings.bins, factor=factor
            )
            found.append(one.pulls.numpy())
    return np.concatenate(found)


@cache
def _reference(settings: Settings, purpose: str, region: str) -> tuple[Tensor, Tensor]:
    cells, energy = showers(settings, purpose, region)
    return features(cells, energy), energy


Rows = list[tuple[Tensor, Tensor]]  # features (n, 22) and energies (n,) of each member


@cache
def _members(settings: Settings, work: Path, region: str) -> Rows:
    """Features of showers of every member; each has other energies."""
    surrogate, found = load_surrogate(settings, work), []
    for member in range(settings.members):
        energy = _energies(settings, region, member)
        cells = surrogate.simulate(energy, seed=60_000 + 100 * settings.seed + member, member=member)
        found.append((features(cells, energy), energy))
    return found


@cache
def _simulated(settings: Settings, region: str) -> Rows:
    """The simulation in place of every member."""
    found = []
    for member in range(settings.members):
        energy = _energies(settings, region, member)
        cells = SHOWERS.simulate(energy, seed=70_000 + 100 * settings.seed + member).cells
        found.append((features(cells, energy), energy))
    return found


def _energies(settings: Settings, region: str, member: int) -> Tensor:
    seed = 80_000 + 100 * settings.seed + member
    if region == "gap":
        return SHOWERS.draw_energies(settings.draws, low=GAP[0], high=GAP[1], seed=seed)
    energy = SHOWERS.draw_energies(2 * settings.draws, low=LOW, high=HIGH, seed=seed)
    return energy[(energy < GAP[0]) | (energy > GAP[1])][: settings.draws]


def refusal(settings: Settings, work: Path) -> dict[str, float]:
    """What the members' disagreement says about energies inside, in the gap and outside of the range of training."""
    surrogate = load_surrogate(settings, work)
    energy = torch.cat([torch.logspace(-0.3, 0, 8)[:-1], torch.logspace(0, 2, 25), torch.logspace(2, 3, 12)[1:]])
    values = surrogate.disagreement(energy, draws=settings.draws // 20, seed=settings.seed)
    inside = surrogate.accepts(energy)
    gap = (energy > GAP[0]) & (energy < GAP[1])
    limit = float(values[inside & ~gap].max())
    save_arrays(work / "disagreement.npz", energy=energy, disagreement=values, limit=limit)
    outside = energy[(energy < LOW) | (energy > HIGH)]
    return {
        "by_range": float((~surrogate.accepts(outside)).double().mean()),
        "by_disagreement": float((values[~inside] > limit).double().mean()),
        "by_disagreement_below": float((values[energy < LOW] > limit).double().mean()),
        "by_disagreement_above": float((values[energy > HIGH] > limit).double().mean()),
        "by_disagreement_gap": float((values[gap] > limit).double().mean()),
        "disagreement_inside": float(values[inside & ~gap].median()),
        "disagreement_gap": float(values[gap].median()),
        "disagreement_outside": float(values[~inside].median()),
    }


def timing(settings: Settings, work: Path) -> dict[str, float]:
    """Microseconds for each shower on one thread, median of five batches of equal energies."""
    energy = SHOWERS.draw_energies(settings.timed, low=LOW, high=HIGH, seed=90_000 + settings.seed)

    every = {**DRAW, "simulation": draw_simulation}
    with threadpool_limits(1):
        return {name: _microseconds(draw, settings, work, energy) for name, draw in every.items()}


def _microseconds(draw: Draw, settings: Settings, work: Path, energy: Tensor) -> float:
    draw(settings, work, energy, 0)  # loads what it needs
    seconds = []
    for repeat in range(5):
        begun = time.perf_counter()
        draw(settings, work, energy, repeat)
        seconds.append(time.perf_counter() - begun)
    return 1e6 * float(np.median(seconds)) / len(energy)
