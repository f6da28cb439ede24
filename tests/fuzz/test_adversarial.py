"""Wrong arguments of adversarial training and tracking: a result, or a ``ValueError`` that names the argument.

The networks are in `test_models`. One table of named cases: a function of one argument, the values that it gets,
and a word of the message.
"""

import dataclasses
import math
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import nn

from posterity.data import Detector, ring
from posterity.inference import adversarial as gan
from posterity.inference import tracking
from posterity.inference.adversarial import metrics, monitors
from posterity.inference.adversarial.bayesian import sghmc
from posterity.inference.adversarial.losses import least_squares, make_loss, minimax
from posterity.models import tracking as finders

X, Y = torch.randn(2, 30, 3, generator=torch.Generator().manual_seed(0))
SAMPLES = {
    "none": None, "text": "x", "list": [[1.0, 2.0], [3.0, 4.0]], "numpy": X.numpy(), "number": 3.0, "row": X[:, 0],
    "cube": X[None], "empty": X[:0], "single": X[:1], "no columns": X[:, :0], "fewer columns": X[:, :2],
    "nan": X * math.nan, "infinite": X + math.inf, "integers": torch.ones(30, 3, dtype=torch.long), "bools": X > 0,
    "complex": X.to(torch.complex64), "half": X.half(), "double": X.double(), "equal": torch.ones(30, 3),
    "huge": 1e30 * X, "tiny": 1e-30 * X,
}  # fmt: skip
NUMBERS = {
    "none": None, "text": "x", "nan": math.nan, "infinite": math.inf, "zero": 0, "negative": -1, "half": 0.5,
    "bool": True, "list": [1], "tensor": torch.tensor(2.0), "pair": (1, 1), "texts": ("a", "b"), "three": (1, 2, 3),
}  # fmt: skip
DETECTOR = Detector(size=8, layers=8)
EVENTS = DETECTOR.simulate(3, tracks=1, seed=0)
IMAGES, TRACKS = EVENTS.images, EVENTS.tracks
PICTURES = {
    "none": None, "text": "x", "numpy": IMAGES.numpy(), "flat": IMAGES[:, 0], "empty": IMAGES[:0],
    "single": IMAGES[:1], "fewer": IMAGES[..., :7], "nan": torch.full((3, 1, 8, 8), math.nan), "two": IMAGES + 1,
    "float": IMAGES.float(), "double": IMAGES.double(), "bools": IMAGES > 0, "integers": IMAGES.long(),
}  # fmt: skip
TABLES = {
    "none": None, "numpy": TRACKS.numpy(), "flat": TRACKS[0], "empty": TRACKS[:0], "nan": TRACKS * math.nan,
    "infinite": TRACKS + math.inf, "integers": TRACKS.long(), "three": torch.zeros(3, 1, 3), "no rows": TRACKS[:, :0],
    "half a row": torch.stack([TRACKS[..., 0], TRACKS[..., 1] * math.nan], -1), "bools": TRACKS > 0,
    "complex": TRACKS.to(torch.complex64), "double": TRACKS.double(),
}  # fmt: skip
HITS = torch.rand(4, 5, generator=torch.Generator().manual_seed(0))
FITS = {
    "none": None, "text": "x", "numpy": HITS.numpy(), "list": [[1.0, 2.0]], "row": HITS[0], "cube": HITS[None],
    "empty": HITS[:0], "one layer": HITS[:, :1], "fewer": HITS[:, :4], "nan": HITS * math.nan,
    "infinite": HITS + math.inf, "integers": torch.ones(4, 5, dtype=torch.long), "bools": HITS > 0,
    "complex": HITS.to(torch.complex64), "half": HITS.half(), "single": HITS[:1],
}  # fmt: skip


@dataclass(frozen=True)
class Case:
    """A function of one argument, the values that it gets, and words of which the message has at least one."""

    call: Callable[[Any], Any]
    values: Mapping[str, Any]
    says: tuple[str, ...]


def of(call: Callable[..., Any], name: str, values: Mapping[str, Any], *says: str, **others: Any) -> Case:
    """The keyword argument ``name`` of a function, beside others that are right."""
    return Case(lambda value: call(**{**others, name: value}), values, says or (name,))


def fields(kind: type, **right: Any) -> dict[str, Case]:
    """Every field of a dataclass, each beside others that are right."""
    return {
        f"{kind.__name__}.{one.name}": of(
            kind, one.name, NUMBERS, one.name, one.name.rstrip("s"), one.name.replace("_", " "), **right
        )
        for one in dataclasses.fields(kind)
    }


def train(**given: Any) -> Any:
    chosen = gan.Adversarial(steps=2, batch_size=5, progress=False, monitor_every=1)
    named = {"generator": nn.Linear(2, 3), "discriminator": nn.Linear(3, 1), "data": X, "latent": 2, "settings": chosen}
    return gan.train(**(named | given))


def train_many(**given: Any) -> Any:
    chosen = gan.Adversarial(steps=1, batch_size=5, progress=False)
    named = {"generators": [nn.Linear(2, 3)], "discriminators": [nn.Linear(3, 1)], "data": X, "latent": 2}
    return gan.train_many(**(named | {"seeds": [0], "settings": chosen} | given))


def train_bayesian(**given: Any) -> Any:
    chosen = gan.BayesianAdversarial(
        steps=4, warmup=2, draws=2, generators=2, discriminators=1, batch_size=5, progress=False
    )
    named = {"make_generator": lambda: nn.Linear(2, 3), "make_discriminator": lambda: nn.Linear(3, 1), "data": X}
    return gan.train_bayesian(**(named | {"latent": 2, "settings": chosen} | given))


def cases_of_metrics() -> dict[str, Case]:
    cases = {}
    for name, call in {
        "frechet_distance": metrics.frechet_distance, "kernel_distance": metrics.kernel_distance,
        "kernel_test": lambda x, y: metrics.kernel_test(x, y, permutations=5, seed=0),
    }.items():  # fmt: skip
        cases[f"{name}.x"] = Case(lambda v, f=call: f(v, Y), SAMPLES, ("x", "features", "rows"))
        cases[f"{name}.y"] = Case(lambda v, f=call: f(X, v), SAMPLES, ("y", "features"))
    cases |= {
        "precision_recall.real": of(metrics.precision_recall, "real", SAMPLES, "real", "features", "k", fake=Y),
        "precision_recall.fake": of(metrics.precision_recall, "fake", SAMPLES, "fake", "features", "k", real=X),
        "precision_recall.k": of(metrics.precision_recall, "k", NUMBERS, real=X, fake=Y),
        "kernel_distance.kernel": of(metrics.kernel_distance, "kernel", NUMBERS, x=X, y=Y),
        "kernel_distance.bandwidths": of(metrics.kernel_distance, "bandwidths", NUMBERS, "width", x=X, y=Y),
        "kernel_test.permutations": of(metrics.kernel_test, "permutations", NUMBERS, x=X, y=Y, seed=0),
        "kernel_test.seed": of(metrics.kernel_test, "seed", NUMBERS, x=X, y=Y, permutations=3),
        "median_bandwidths": Case(metrics.median_bandwidths, SAMPLES, ("sample", "rows")),
        "cluster_quality.samples": of(
            metrics.cluster_quality, "samples", SAMPLES | {"right": X[:, :2]}, "samples", "points", clusters=ring()
        ),
        "cluster_quality.clusters": of(metrics.cluster_quality, "clusters", SAMPLES, samples=X[:, :2]),
        "class_histogram": Case(
            lambda v: metrics.class_histogram(v, 3),
            SAMPLES | {"labels": torch.tensor([0, 1, 2]), "below": torch.tensor([-1]), "shares": X.softmax(1)},
            ("labels", "probabilities"),
        ),
        "class_histogram.classes": Case(
            lambda v: metrics.class_histogram(torch.tensor([0, 1]), v), NUMBERS, ("classes", "labels")
        ),
        "class_histogram.reference": Case(
            lambda v: metrics.class_histogram(torch.tensor([0, 1, 2]), 3, reference=v), SAMPLES, ("reference",)
        ),
    }  # fmt: skip
    for name in ("real", "fake", "k"):
        right = {"real": 50, "fake": 50, "k": 5}
        cases[f"expected_coverage.{name}"] = of(metrics.expected_coverage, name, NUMBERS, name, "k", **right)
    three = {"samples": X, "held_out": Y, "calibration": X, "expected_pairs": 4.0}
    for name in three:
        values = SAMPLES if isinstance(three[name], torch.Tensor) else NUMBERS
        says = (name, "features", "expected_pairs", "calibration")
        cases[f"support_size.{name}"] = of(metrics.support_size, name, values, *says, **three)
    cases["support_size.level"] = of(metrics.support_size, "level", NUMBERS, **three)
    three = {"samples": X, "training": Y, "held_out": X}
    for name in three:
        cases[f"nearest_training.{name}"] = Case(
            lambda v, n=name: (lambda near: (near.ratio, near.copied_share))(
                metrics.nearest_training(**(three | {n: v}))
            ),
            SAMPLES,
            (name, "features"),
        )
    return cases


def cases_of_training() -> dict[str, Case]:
    run = train()
    cases = {
        **fields(gan.Adversarial), **fields(gan.BayesianAdversarial),
        "make_loss": Case(make_loss, NUMBERS, ("loss",)),
        "minimax": Case(minimax, NUMBERS, ("smoothing",)),
        "least_squares": Case(least_squares, NUMBERS, ("smoothing",)),
        "train.condition": of(train, "condition", SAMPLES | {"right": torch.ones(30, 1)}, "condition", "generator"),
        "save": Case(run.save, {"none": None, "number": 3, "nowhere": "/no/such/folder/x"}, ("path",)),
        "resume": of(train, "resume", {key: NUMBERS[key] for key in ("nan", "zero", "bool", "list")}, "resume"),
        "density_spread.points": Case(lambda v: train_bayesian().density_spread(v, 0.3, samples=5), {
            key: SAMPLES[key] for key in ("none", "row", "fewer columns", "nan", "complex", "double", "empty")
        }, ("points",)),
        "sghmc": Case(lambda v: sghmc(X, X, v, X, rate=0.1, friction=0.1), {"row": X[:, 0], "right": X}, ("gradient",)),
    }  # fmt: skip
    for make in (gan.gradient_penalty, gan.r1, gan.r2):
        cases[f"{make.__name__}.weight"] = of(make, "weight", NUMBERS)
        cases[f"{make.__name__}.every"] = of(make, "every", NUMBERS)
    for name in ("accuracy", "loss", "readings"):
        cases[f"saturation.{name}"] = of(gan.saturation, name, NUMBERS)
    for name in ("spread", "largest_class", "readings", "warmup"):
        cases[f"mode_collapse.{name}"] = of(gan.mode_collapse, name, NUMBERS)
    for name in ("latent", "seed", "settings", "monitors", "alarms", "generator", "discriminator"):
        cases[f"train.{name}"] = of(train, name, NUMBERS, name, "batch")
    cases["train.data"] = of(train, "data", SAMPLES, "data", "discriminator", "generator")
    for name in ("generators", "discriminators", "seeds", "data"):
        cases[f"train_many.{name}"] = of(train_many, name, NUMBERS | {"empty": []}, name, "seed")
    for name in ("make_generator", "make_discriminator", "latent", "seed", "settings"):
        cases[f"train_bayesian.{name}"] = of(train_bayesian, name, NUMBERS | {"maker": lambda: 3}, name, "batch")
    cases["train_bayesian.data"] = of(train_bayesian, "data", SAMPLES, "data", "discriminator", "generator")
    for name in ("n", "seed", "batch", "condition"):
        cases[f"samples.{name}"] = of(run.samples, name, NUMBERS, name, **{"n": 4, "seed": 0, name: 1})
    return cases


def cases_of_monitors(folder: str) -> dict[str, Case]:
    cases = {}
    for kind in (monitors.DiscriminatorAccuracy, monitors.SampleQuality, monitors.SampleOriginality):
        cases[f"{kind.__name__}.held_out"] = of(kind, "held_out", SAMPLES, "held-out", n=12)
        cases[f"{kind.__name__}.n"] = of(kind, "n", NUMBERS, held_out=X)
    right = {"predict": len, "count": 3, "n": 4}
    for name in right:
        cases[f"ClassCoverage.{name}"] = of(monitors.ClassCoverage, name, NUMBERS, **right)
    right = {"clusters": ring(), "n": 4, "scale": 1.0}
    for name in right:
        cases[f"ClusterQuality.{name}"] = of(monitors.ClusterQuality, name, NUMBERS, **right)
    for name in ("permutations", "features"):
        cases[f"SampleQuality.{name}"] = of(monitors.SampleQuality, name, NUMBERS, held_out=X, n=12)
    for name in ("n", "columns"):
        cases[f"SampleGrid.{name}"] = of(monitors.SampleGrid, name, NUMBERS, folder=folder)
    cases["SampleGrid.folder"] = of(monitors.SampleGrid, "folder", {"none": None, "number": 3})
    return cases


def cases_of_tracking() -> dict[str, Case]:
    cases, fired, start = {}, IMAGES[:, 0] > 0, TRACKS[:, 0]
    for classical in (tracking.hough_kalman, tracking.combinatorial_annealed):
        right = {"detector": DETECTOR, "images": IMAGES}
        for name, values in {
            "detector": NUMBERS,
            "images": PICTURES,
            "threshold": NUMBERS,
            "max_tracks": NUMBERS,
        }.items():
            cases[f"{classical.__name__}.{name}"] = of(classical, name, values, name, "pixels", **right)
    right = {"finder": tracking.hough_kalman, "detector": DETECTOR, "events": EVENTS, "thresholds": (0.7,)}
    for name in right:
        cases[f"tune_threshold.{name}"] = of(tracking.tune_threshold, name, NUMBERS, name, "threshold", **right)
    for name in ("positions", "variances"):
        right = {"positions": HITS, "variances": torch.ones(4, 5)}
        cases[f"kalman_fit.{name}"] = of(tracking.kalman_fit, name, FITS, name, "positions", **right)
    layers = {
        "none": None, "numpy": fired.numpy(), "float": fired.float(), "flat": fired[0], "empty": fired[:0],
        "no layers": fired[:, :, :0], "one layer": fired[:, :, :1], "no pixels": fired[:, :0],
    }  # fmt: skip
    starts = {
        "none": None, "numpy": start.numpy(), "row": start[0], "nan": start * math.nan, "integers": start.long(),
        "complex": start.to(torch.complex64), "empty": start[:0], "half": start.half(),
    }  # fmt: skip
    cases |= {
        "annealed_fit.fired": of(tracking.annealed_fit, "fired", layers, start=start),
        "annealed_fit.start": of(tracking.annealed_fit, "start", starts, fired=fired),
        "match.found": of(tracking.match, "found", TABLES, true=TRACKS),
        "match.true": of(tracking.match, "true", TABLES, found=TRACKS),
        "match.max_distance": of(tracking.match, "max_distance", NUMBERS, found=TRACKS, true=TRACKS),
    }
    for name in ("resolution", "cutoff", "temperatures"):
        cases[f"annealed_fit.{name}"] = of(tracking.annealed_fit, name, NUMBERS, fired=fired, start=start)
    finder = finders.TrackFinder(8, 8, candidates=2, components=5)
    intensity, road = finder(IMAGES), finders.RoadMap(8, 8, points=4)
    sizes = {"size": 8, "layers": 8, "candidates": 2, "components": 5, "finer": 2, "channels": 2, "hidden": 2}
    for name in sizes:
        cases[f"TrackFinder.{name}"] = of(finders.TrackFinder, name, NUMBERS, **sizes)
    model = finders.track_set_pair(finder).model
    return cases | {
        "set_pulls.intensity": of(tracking.set_pulls, "intensity", NUMBERS, "Intensity", tracks=TRACKS, seed=0),
        "set_pulls.tracks": of(tracking.set_pulls, "tracks", TABLES, "tracks", "rows", intensity=intensity, seed=0),
        "set_pulls.seed": of(tracking.set_pulls, "seed", NUMBERS, intensity=intensity, tracks=TRACKS),
        "TrackFinder()": Case(finder, PICTURES, ("images", "pixels")),
        "IndependentFinder()": Case(
            finders.IndependentFinder(8), PICTURES | {"right": torch.zeros(2, 1, 8, 28)}, ("images", "pixels")
        ),
        "found.least": of(intensity.found, "least", NUMBERS),
        "found.same": of(intensity.found, "same", NUMBERS, "distance"),
        "log_intensity": Case(intensity.log_intensity, TABLES, ("tracks",)),
        "single_log_prob": Case(intensity.single_log_prob, TABLES, ("tracks",)),
        "TrackSet.intensity": Case(finders.TrackSet, NUMBERS, ("Intensity",)),
        "TrackSet.most": of(finders.TrackSet, "most", NUMBERS, intensity=intensity),
        "TrackSet.log_prob": Case(finders.TrackSet(intensity).log_prob, TABLES, ("tracks", "rows")),
        "HoughMap.size": of(finders.HoughMap, "size", NUMBERS, layers=8),
        "HoughMap.layers": of(finders.HoughMap, "layers", NUMBERS, size=8),
        "HoughMap()": Case(finders.HoughMap(8, 8), PICTURES, ("images", "pixels")),
        "RoadMap.size": of(finders.RoadMap, "size", NUMBERS, layers=8, points=4),
        "RoadMap.step": of(finders.RoadMap, "step", NUMBERS, size=8, layers=8, points=4),
        "RoadMap().images": Case(lambda v: road(v, TRACKS), PICTURES, ("images", "tracks")),
        "RoadMap().tracks": Case(lambda v: road(IMAGES.float(), v), TABLES, ("tracks",)),
        "track_set_pair": Case(finders.track_set_pair, NUMBERS, ("finder",)),
        "track_set_pair.images": Case(model, PICTURES, ("images", "pixels")),
        "track_set_pair.tracks": Case(lambda v: model(IMAGES, v), TABLES, ("tracks", "rows")),
    }  # fmt: skip


GROUPS = ("metrics", "training", "monitors", "tracking")


@pytest.mark.parametrize("group", GROUPS)
def test_every_wrong_argument_has_a_result_or_an_error_with_its_name(group, tmp_path, record_property):
    """The number of calls and the share with a right outcome are recorded as ``calls`` and ``share``."""
    makers = {
        "metrics": cases_of_metrics, "training": cases_of_training, "tracking": cases_of_tracking,
        "monitors": lambda: cases_of_monitors(str(tmp_path)),
    }  # fmt: skip
    wrong, calls = [], 0
    for name, case in makers[group]().items():
        for kind, value in case.values.items():
            calls += 1
            outcome = _outcome(case, value)
            if outcome is not None:
                wrong.append(f"{name}, {kind}: {outcome}")
    record_property("calls", calls)
    record_property("share", 1 - len(wrong) / calls)
    assert not wrong, f"{len(wrong)} of {calls}:\n" + "\n".join(wrong)


def _outcome(case: Case, value: Any) -> str | None:
    """None for a result or a ValueError that says what it is about."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            case.call(value)
        except ValueError as error:
            text = str(error)
            right = text.startswith("expected") and any(word.lower() in text.lower() for word in case.says)
            return None if right else f"ValueError that does not say {case.says}: {text[:200]}"
        except Exception as error:  # noqa: BLE001, whatever it is, it is wrong
            return f"{type(error).__name__}: {str(error)[:200]}"
    return None
