"""Bad arguments of all public functions of `posterity.data` give a result, or an error that names the argument.

Each argument of each function meets each of the bad values below, the others being good. `FileNotFoundError` is the
right error for a file that is not there; anything but that and `ValueError` fails.
"""

import math
import re
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.distributions import Normal

import posterity.data as data
from posterity.data import (
    Clusters,
    Detector,
    Events,
    Images,
    NormalNoiseConditional,
    Observations,
    Picture,
    Standardization,
)
from posterity.data.affine import affine
from posterity.data.pictures import animate, save_grid, tiled
from posterity.data.tracks import intercept_covariance, normal_hits

BAD: dict[str, Any] = {
    "None": None,
    "text": "abc",
    "empty text": "",
    "bytes": b"abc",
    "True": True,
    "zero": 0,
    "minus one": -1,
    "half": 0.5,
    "nan": math.nan,
    "infinity": math.inf,
    "beyond 64 bits": 2**70,
    "complex number": 1j,
    "empty list": [],
    "list of text": ["a", "b"],
    "ragged list": [[1.0], [2.0, 3.0]],
    "pair of text": ("a", "b"),
    "dictionary": {"a": 1},
    "set": {1, 2},
    "object": object(),
    "type": int,
    "function of nothing": lambda: None,
    "function that returns text": lambda *a: "abc",
    "function that returns another shape": lambda *a: torch.zeros(7, 5),
    "dtype": torch.int64,
    "slice": slice(3, 1),
    "empty tensor": torch.empty(0),
    "no rows": torch.empty(0, 1),
    "tensor of no dimensions": torch.tensor(1.0),
    "single row": torch.ones(1, 1),
    "another shape": torch.ones(3, 4, 5),
    "integer tensor": torch.arange(6).reshape(3, 2),
    "boolean tensor": torch.tensor([True, False]),
    "NaN tensor": torch.full((4, 1), torch.nan),
    "infinite tensor": torch.full((4,), torch.inf),
    "complex tensor": torch.ones(4, 1, dtype=torch.complex64),
    "sparse tensor": torch.eye(4).to_sparse(),
    "bytes tensor": torch.ones(4, 1, dtype=torch.uint8),
    "half-precision tensor": torch.ones(4, 1, dtype=torch.float16),
    "quarter-precision tensor": torch.ones(4, 1).to(torch.float8_e5m2),
    "array": np.arange(4.0),
    "array of text": np.array(["a", "b"]),
    "array of objects": np.array([None, 1.0], dtype=object),
    "dates": np.array(["2020-01-01"], dtype="datetime64[D]"),
    "masked array": np.ma.masked_values([1.0, 2.0], 2.0),
    "distribution": Normal(0.0, 1.0),
    "generator of numbers": (value for value in ()),
}


@dataclass
class Case:
    """A function, good arguments, the fuzzed ones, and other words by which a message may name them."""

    function: Callable[..., Any]
    good: dict[str, Any]
    fuzzed: tuple[str, ...] = ()
    words: dict[str, str] = field(default_factory=dict)

    def names(self) -> tuple[str, ...]:
        return self.fuzzed or tuple(self.good)


X, Y = torch.arange(4.0)[:, None], torch.tensor([0.0, 1.0, 4.0, 9.0])
TABLE = Observations(X, Y, oracle=lambda x: Normal(x[:, 0], 1.0))
SCALE = Standardization.fit(TABLE)
IMAGES = Images(torch.arange(8, dtype=torch.uint8).reshape(2, 1, 2, 2), torch.tensor([0, 1]), ("a", "b"))
PICTURE = Picture.from_array(np.arange(64, dtype=np.uint8).reshape(8, 8))
DETECTOR = Detector(size=4, layers=4)
EVENTS = DETECTOR.simulate(3, tracks=1, seed=0)
CORRIDOR = data.Corridor()
LAYER = data.Layer(0.0, 4.0, 2, 3)
SHOWERS = data.Showers(data.Calorimeter((LAYER,)))
EPISODES = CORRIDOR.simulate(2, seed=0)
EXACT = data.track_posterior(DETECTOR, EVENTS.images, step=1 / 4)
UNIT = {"low": 0.0, "high": 1.0, "scale": 0.1, "x": torch.tensor([0.2, 0.5]), "curve": lambda y: y}
CURVE = {"n": 5, "noise": 0.1, "interval": (-1.0, 1.0), "gap": (0.1, 0.2), "seed": 0}
CONDITIONAL = NormalNoiseConditional(**UNIT)

CASES: dict[str, Case] = {
    # tables
    "Observations": Case(
        Observations,
        {"x": X, "y": Y, "x_names": ["a"], "y_names": ["b"], "oracle": None, "name": "n", "source": "s"},
        words={"x": "y", "x_names": "name", "y_names": "name"},  # of another length, or the same name
    ),
    "Observations.subset": Case(TABLE.subset, {"index": [0, 1]}, words={"index": "at least one row"}),
    "Observations.to": Case(TABLE.to, {"device": "cpu", "dtype": torch.float32}),
    "oracle_log_prob": Case(
        lambda oracle: Observations(X, Y, oracle=oracle).oracle_log_prob(), {"oracle": TABLE.oracle}
    ),
    "holdout": Case(data.holdout, {"n": 10, "fraction": 0.2, "seed": 0}),
    "kfold": Case(data.kfold, {"n": 10, "folds": 2, "seed": 0}),
    "cross_validation": Case(data.cross_validation, {"observations": TABLE, "folds": 2, "seed": 0}),
    "geyser": Case(data.geyser, {"night_codes": True}),
    # standardisation
    "Standardization": Case(
        Standardization,
        {"x_loc": torch.zeros(1), "x_scale": torch.ones(1), "y_loc": torch.zeros(()), "y_scale": torch.ones(())},
    ),
    "Standardization.fit": Case(Standardization.fit, {"observations": TABLE}),
    "Standardization.whole": Case(Standardization.whole, {"x": X, "y": Y}, words={"x": "vary", "y": "vary"}),
    "Standardization.identity": Case(Standardization.identity, {"features": 1, "targets": 1}),
    **{
        f"Standardization.{name}": Case(getattr(SCALE, name), {name[-1]: {"x": X, "y": Y}[name[-1]]})
        for name in ("x", "y", "inverse_x", "inverse_y")
    },
    "Standardization.undo": Case(
        SCALE.undo, {"distribution": Normal(Y, 1.0)}, words={"distribution": "location-scale family"}
    ),
    "affine": Case(affine, {"distribution": Normal(0.0, 1.0), "loc": 1.0, "scale": 2.0}),
    # curves and inverse problems
    "simulate_curve": Case(
        data.simulate_curve,
        {"f": torch.sin, "gap_density": 0.1, "name": "n", "source": "s", **CURVE},
        words={"f": r"f\(x\)|columns that|in y"},
    ),
    "gp_curve": Case(data.gp_curve, {"length_scale": 1.0, **CURVE}),
    "sinc_curve": Case(data.sinc_curve, CURVE),
    "sine_parabola": Case(data.sine_parabola, CURVE),
    "wavy": Case(data.wavy, CURVE),
    "inverse_sine": Case(data.inverse_sine, {"n": 5, "seed": 0}),
    "bishop": Case(data.bishop, {"n": 5, "noise": "normal", "scale": 0.1, "seed": 0}),
    "two_dimensional": Case(data.two_dimensional, {"n": 5, "correlation": 0.5, "seed": 0}),
    "quadrants": Case(data.quadrants, {"n": 5, "case": "noise", "everywhere": True, "seed": 0}),
    **{
        f"oracle of {name}": Case(make(5, seed=0).oracle, {"x": X / 4})
        for name, make in {
            "sinc_curve": data.sinc_curve,
            "inverse_sine": data.inverse_sine,
            "bishop": data.bishop,
            "two_dimensional": data.two_dimensional,
        }.items()
    },
    "oracle of quadrants": Case(data.quadrants(5, "noise", seed=0).oracle, {"x": torch.ones(3, 2)}),
    "NormalNoiseConditional": Case(NormalNoiseConditional, UNIT, words={"low": "range", "high": "range"}),
    "UniformNoiseConditional": Case(
        data.UniformNoiseConditional,
        {**UNIT, "turning_points": ()},
        words={"low": "range|x within", "high": "range|x within", "turning_points": "turning points"},
    ),
    "log_prob": Case(CONDITIONAL.log_prob, {"value": Y[:2]}, words={"value": "numbers"}),
    "cdf": Case(CONDITIONAL.cdf, {"value": Y[:2]}, words={"value": "numbers"}),
    "icdf": Case(CONDITIONAL.icdf, {"value": Y[:2]}, words={"value": "numbers|probabilities"}),
    # clusters
    "Clusters": Case(Clusters, {"centres": torch.eye(2), "sd": 0.1, "name": "n"}),
    "Clusters.sample": Case(data.ring().sample, {"n": 5, "seed": 0}),
    "Clusters.nearest": Case(data.ring().nearest, {"points": torch.ones(3, 2)}),
    "ring": Case(data.ring, {"modes": 8, "radius": 1.0, "sd": 0.01}),
    "grid": Case(data.grid, {"side": 3, "spacing": 2.0, "sd": 0.05}),
    # showers in a calorimeter
    "Layer": Case(data.Layer, {"start": 0.0, "end": 4.0, "rows": 2, "columns": 3, "height": 5.0, "width": 5.0}),
    "Layer.shares": Case(
        LAYER.shares, {"radius": torch.ones(3), "position": torch.zeros(3, 2)}, words={"radius": "position"}
    ),
    "Material": Case(
        data.Material, {"z": 82.0, "critical_energy": 7.4, "radiation_length": 5.6, "moliere_radius": 16.0}
    ),
    "Calorimeter": Case(
        data.Calorimeter,
        {"layers": (LAYER,), "material": "lead", "sampling": 0.1, "noise": 0.0, "threshold": 0.0},
    ),
    "Calorimeter.split": Case(SHOWERS.calorimeter.split, {"energies": torch.ones(2, 6)}),
    "Showers": Case(data.Showers, {"calorimeter": SHOWERS.calorimeter, "step": 2.0}),
    "Showers.draw_energies": Case(SHOWERS.draw_energies, {"n": 3, "low": 1.0, "high": 10.0, "seed": 0}),
    "Showers.profile_distribution": Case(SHOWERS.profile_distribution, {"energy": torch.tensor([5.0])}),
    "Showers.spots": Case(SHOWERS.spots, {"energy": torch.tensor([5.0])}),
    "Showers.layer_shares": Case(SHOWERS.layer_shares, {"profile": torch.tensor([[5.0, 3.0]])}),
    "Showers.mean_cells": Case(
        SHOWERS.mean_cells,
        {"energy": torch.tensor([5.0]), "profile": torch.tensor([[5.0, 3.0]]), "position": torch.zeros(1, 2)},
        words={"energy": "profile"},
    ),
    "Showers.simulate": Case(
        SHOWERS.simulate,
        {"energy": torch.tensor([5.0]), "seed": 0, "position": torch.zeros(1, 2)},
        words={"energy": "position"},
    ),
    # a corridor that forks
    "Corridor": Case(
        data.Corridor,
        {
            "up": (0.2, 0.5),
            "size": 16,
            "junction": 4,
            "spread": 3.0,
            "turn": 2,
            "jitter": 0.2,
            "second": 0.5,
            "second_junction": 10,
            "obstacle": False,
        },
        words={"turn": "junction", "second_junction": "junction"},
    ),
    "Corridor.simulate": Case(
        CORRIDOR.simulate, {"n": 2, "cue": 0, "actions": torch.ones(2, 16, dtype=torch.long), "seed": 0}
    ),
    "Corridor.play": Case(
        CORRIDOR.play,
        {"policy": lambda frames: torch.ones(2, dtype=torch.long), "n": 2, "cue": 0, "seed": 0},
        fuzzed=("n", "cue", "seed"),
    ),
    "Corridor.moved": Case(CORRIDOR.moved, {"actions": EPISODES.actions, "n": 2}, fuzzed=("actions",)),
    "Corridor.path_probabilities": Case(CORRIDOR.path_probabilities, {"cue": EPISODES.cue}),
    **{
        f"Corridor.{name}": Case(
            getattr(CORRIDOR, name),
            {"positions": EPISODES.positions[:, :5], "cue": EPISODES.cue, "moved": torch.zeros(2, 16)},
            words={"cue": "positions"},
        )
        for name in ("path_posterior", "next_position", "log_prob")
    },
    "Corridor.entropy": Case(CORRIDOR.entropy, {"cue": 0}),
    "Corridor.frames": Case(CORRIDOR.frames, {"episodes": EPISODES}),
    "Corridor.draw": Case(CORRIDOR.draw, {"positions": EPISODES.positions}),
    "Corridor.locate": Case(CORRIDOR.locate, {"pictures": CORRIDOR.frames(EPISODES)}),
    # images
    "Images": Case(
        Images,
        {"pixels": IMAGES.pixels, "labels": IMAGES.labels, "classes": ("a", "b"), "name": "n", "source": "s"},
        words={"classes": "class"},
    ),
    "Images.scaled": Case(IMAGES.scaled, {"low": -1.0, "high": 1.0}),
    "Images.subset": Case(IMAGES.subset, {"index": [0]}, words={"index": "all at least 1"}),
    "Images.only": Case(lambda a: IMAGES.only(a), {"a": 0}, words={"a": "classes"}),
    "Images.padded": Case(IMAGES.padded, {"height": 4, "width": 4}, words={"height": "size", "width": "size"}),
    **{
        name: Case(getattr(data, name), {"part": "test", "folder": "/nowhere"})
        for name in ("mnist", "fashion_mnist", "usps")
    },
    "Images.resized": Case(IMAGES.resized, {"height": 4, "width": 4}),
    "UnpairedImages": Case(
        data.UnpairedImages, {"first": IMAGES, "second": IMAGES}, words={"first": "domains", "second": "domains"}
    ),
    "StackedImages": Case(data.StackedImages, {"images": IMAGES, "latent": 3}),
    "edges": Case(data.edges, {"images": IMAGES}),
    # pictures of different sizes
    "Picture": Case(data.Picture, {"planes": torch.zeros(1, 4, 4), "mode": "L", "bits": 8}, words={"mode": "planes"}),
    "Picture.with_luminance": Case(PICTURE.with_luminance, {"luminance": torch.zeros(8, 8)}),
    "Picture.from_array": Case(Picture.from_array, {"array": np.zeros((4, 4), np.uint8)}),
    "Picture.resized": Case(PICTURE.resized, {"height": 4, "width": 4}),
    "Picture.cropped": Case(PICTURE.cropped, {"factor": 4}, words={"factor": "at least"}),
    "Picture.reduced": Case(PICTURE.reduced, {"factor": 4}, words={"factor": "at least"}),
    "Photographs": Case(
        data.Photographs, {"pictures": (PICTURE,), "names": ("a",), "source": "s"}, words={"pictures": "names"}
    ),
    "PhotographCrops": Case(
        data.PhotographCrops,
        {"data": data.Photographs((PICTURE,), ("a",)), "size": 2, "scale": 4},
        words={"size": "at least", "scale": "at least"},
    ),
    "Photographs.magnified": Case(data.Photographs((PICTURE,), ("a",)).magnified, {"factors": (1.0, 1.5)}),
    **{
        name: Case(getattr(data, name), {"folder": "/nowhere"})
        for name in ("set5", "cbsd68", "photographs", "orl_faces")
    },
    "by_person": Case(data.by_person, {"faces": data.digits(), "tested": 2, "seed": 0}),
    "hidden_pixels": Case(data.hidden_pixels, {"part": "eyes", "height": 8, "width": 8}),
    "MaskedImages": Case(
        data.MaskedImages,
        {
            "images": data.digits(),
            "masks": torch.eye(8, dtype=torch.bool)[None],
            "latent": 3,
            "jitter": 1.0,
            "mirror": True,
        },
    ),
    "jittered": Case(data.jittered, {"images": torch.zeros(2, 1, 8, 8), "seed": 0, "amount": 1.0, "mirror": True}),
    "tiled": Case(tiled, {"images": torch.zeros(2, 1, 4, 4), "columns": 2, "border": 1}),
    # tracks
    "Detector": Case(Detector, {"size": 4, "layers": 4, "efficiency": 0.9, "noise": 0.1}),
    "Detector.simulate": Case(DETECTOR.simulate, {"n": 3, "tracks": 1, "sagitta": 0.0, "seed": 0}),
    "Detector.simulate at random": Case(DETECTOR.simulate, {"n": 3, "mean_tracks": 1.0, "seed": 0}),
    "Detector.positions": Case(
        DETECTOR.positions, {"tracks": EVENTS.tracks, "sagittas": EVENTS.sagittas}, words={"tracks": "sagittas"}
    ),
    "Detector.log_prob": Case(
        DETECTOR.log_prob,
        {"images": EVENTS.images, "tracks": EVENTS.tracks},
        words={"tracks": "rows", "images": "pixels"},
    ),
    "Events": Case(
        Events,
        {"images": EVENTS.images, "tracks": EVENTS.tracks, "sagittas": EVENTS.sagittas, "hits": EVENTS.hits},
        words={"images": "tracks", "tracks": "sagittas"},  # of another number
    ),
    "track_posterior": Case(
        data.track_posterior,
        {"detector": DETECTOR, "images": EVENTS.images, "step": 0.25, "loss": 1e-6, "batch": 2},
        words={"images": "pixels"},
    ),
    "TrackPosterior.log_prob": Case(EXACT.log_prob, {"tracks": EVENTS.tracks[:, 0]}),
    "TrackPosterior.cdf": Case(EXACT.cdf, {"values": EVENTS.tracks[:, 0]}),
    "intercept_covariance": Case(intercept_covariance, {"layers": 4, "resolution": 1.0}),
    "normal_hits": Case(normal_hits, {"tracks": EVENTS.tracks, "layers": 4, "resolution": 1.0, "seed": 0}),
}


def outcomes(case: Case) -> Iterator[tuple[str, str]]:
    """For each argument and bad value: its name and an empty string, or a complaint about the outcome."""
    for argument in case.names():
        for kind, bad in BAD.items():
            if argument == "folder" and bad is None:
                continue  # no bad value: the files are looked for in the usual place, or downloaded
            where = f"{argument}={kind}"
            try:
                with warnings.catch_warnings(action="error"):
                    case.function(**{**case.good, argument: bad})
            except FileNotFoundError:
                yield where, ""
            except ValueError as error:
                words = rf"\b{argument}\b|{case.words.get(argument, argument)}"
                named = re.search(words, str(error)) is not None
                yield where, "" if named else f"{where}: ValueError without the name: {error}"
            except Exception as error:  # noqa: BLE001 - whatever else comes is what is looked for
                yield where, f"{where}: {type(error).__name__}: {error}"
            else:
                yield where, ""


@pytest.mark.parametrize("name", CASES)
def test_every_bad_argument_is_named(name: str) -> None:
    case = CASES[name]
    case.function(**case.good) if "folder" not in case.good else None  # good it is
    assert [complaint for _, complaint in outcomes(case) if complaint] == []


def test_every_bad_argument_of_what_reads_files_is_named(tmp_path) -> None:
    (tmp_path / "a.csv").write_text("a,b\n1,2\n3,5\n")
    (tmp_path / "idx").write_bytes(b"\0\0\x08\x01\0\0\0\x02ab")
    (tmp_path / "pictures").mkdir()
    Image.new("L", (4, 4)).save(tmp_path / "pictures" / "a.png")
    table = {"x": "a", "y": "b", "delimiter": ",", "decimal": ".", "encoding": None, "dtype": None}
    pictures = tmp_path / "pictures"
    grid = {"images": torch.zeros(2, 1, 4, 4), "path": tmp_path / "b.png", "columns": 2, "scale": 2}
    cases = {
        "read_csv": Case(data.read_csv, {"path": tmp_path / "a.csv", **table}),
        "read_idx": Case(data.read_idx, {"path": tmp_path / "idx"}),
        "image_folder": Case(
            data.image_folder, {"folder": pictures, "size": (4, 4), "grey": True}, words={"folder": "images"}
        ),
        "photographs": Case(data.photographs, {"folder": pictures}),
        "Picture.read": Case(Picture.read, {"path": pictures / "a.png", "largest": 100}),
        "Picture.save": Case(PICTURE.save, {"path": tmp_path / "c.png"}),
        "save_grid": Case(save_grid, grid, ("images", "columns", "scale")),
        "animate": Case(animate, {"pictures": pictures, "path": tmp_path / "b.gif", "seconds": 0.1}, ("seconds",)),
    }
    for name, case in cases.items():
        case.function(**case.good)
        assert [f"{name}: {complaint}" for _, complaint in outcomes(case) if complaint] == []


def test_every_public_function_is_tried() -> None:
    tried = {case.function for case in CASES.values()} | {data.read_csv, data.read_idx, data.image_folder}
    without_arguments, results = (
        {data.digits, data.mcycle},
        {data.BoundedConditional, data.Episodes, data.ShowerSample, data.TrackPosterior},
    )
    left_out = without_arguments | results
    assert {getattr(data, name) for name in data.__all__} - tried - left_out == set()
