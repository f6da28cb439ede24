"""Tables, sets of images, and simulators whose conditional distribution is known exactly.

Containers and tools
    `Observations`: x, y, the names of their columns and, for simulated data, the exact p(y | x) as `oracle`;
    `Observations.from_frame` reads frames of pandas and polars.
    `Standardization`: to mean 0 and standard deviation 1 and back, also for distributions.
    `kfold`, `holdout`, `cross_validation`: training and test parts.

Real tables
    `mcycle`: noise that depends on x. `geyser`: bimodal y. `read_csv`: any CSV file.

Images
    `mnist`, `fashion_mnist`, `usps`, `digits`; `image_folder` for any images; all return `Images`. `read_idx`: arrays.

    `UnpairedImages`: batches of images of two domains. `edges`: outlines of images.
    `StackedImages`: batches of three images as colours. `MaskedImages`: batches with a hidden part; `jittered`: moved.
    `orl_faces`: pictures of 40 people; `by_person`: parts without a common person; `hidden_pixels`: parts of a face.
    `Picture`: a picture of a user. `Photographs`, `set5`, `cbsd68`, `photographs`: pictures of different sizes;
    `PhotographCrops`: batches of crops with their reduced versions.

Simulators, with an oracle
    `gp_curve`, `sinc_curve`, `sine_parabola`, `wavy`, `simulate_curve`: regression, y = f(x) + noise.
    `inverse_sine`, `bishop`: inverse problems with multimodal p(y | x). `two_dimensional`: two correlated targets.
    `quadrants`: no data, strong noise or two modes in one quadrant of the plane.
    `Detector`: tracks through layers of noisy pixels; `track_posterior`: the exact posterior of one track.
    `ring`, `grid`: clusters in the plane, for the detection of dropped modes of generators (`Clusters`).
    `Showers`: showers of particles in a `Calorimeter` with `Layer`s of a `Material` (`ShowerSample`).
    `Corridor`: a ball in a corridor that forks, as frames, with the exact distribution of the next step (`Episodes`).
    `BoundedConditional`, `NormalNoiseConditional`, `UniformNoiseConditional`: the oracles of inverse problems.
"""

from posterity.data.calorimeter import Calorimeter, Layer, Material
from posterity.data.clusters import Clusters, grid, ring
from posterity.data.conditional import BoundedConditional
from posterity.data.corridor import Corridor, Episodes
from posterity.data.curves import gp_curve, simulate_curve, sinc_curve, sine_parabola, wavy
from posterity.data.faces import by_person, hidden_pixels, orl_faces
from posterity.data.idx import read_idx
from posterity.data.images import Images, digits, fashion_mnist, image_folder, mnist, usps
from posterity.data.inverse import bishop, inverse_sine, two_dimensional
from posterity.data.masked import MaskedImages, jittered
from posterity.data.normal_noise import NormalNoiseConditional
from posterity.data.observations import Observations
from posterity.data.photographs import PhotographCrops, Photographs, cbsd68, photographs, set5
from posterity.data.picture_file import Picture
from posterity.data.quadrants import quadrants
from posterity.data.showers import Showers, ShowerSample
from posterity.data.splits import cross_validation, holdout, kfold
from posterity.data.stacked import StackedImages
from posterity.data.standardization import Standardization
from posterity.data.tables import geyser, mcycle, read_csv
from posterity.data.track_posterior import TrackPosterior, track_posterior
from posterity.data.tracks import Detector, Events
from posterity.data.uniform_noise import UniformNoiseConditional
from posterity.data.unpaired import UnpairedImages, edges

__all__ = [
    "BoundedConditional",
    "Calorimeter",
    "Clusters",
    "Corridor",
    "Detector",
    "Episodes",
    "Events",
    "Images",
    "Layer",
    "MaskedImages",
    "Material",
    "NormalNoiseConditional",
    "Observations",
    "PhotographCrops",
    "Photographs",
    "Picture",
    "ShowerSample",
    "Showers",
    "StackedImages",
    "Standardization",
    "TrackPosterior",
    "UniformNoiseConditional",
    "UnpairedImages",
    "bishop",
    "by_person",
    "cbsd68",
    "cross_validation",
    "digits",
    "edges",
    "fashion_mnist",
    "geyser",
    "gp_curve",
    "grid",
    "hidden_pixels",
    "holdout",
    "image_folder",
    "inverse_sine",
    "jittered",
    "kfold",
    "mcycle",
    "mnist",
    "orl_faces",
    "photographs",
    "quadrants",
    "read_csv",
    "read_idx",
    "ring",
    "set5",
    "simulate_curve",
    "sinc_curve",
    "sine_parabola",
    "track_posterior",
    "two_dimensional",
    "usps",
    "wavy",
]
