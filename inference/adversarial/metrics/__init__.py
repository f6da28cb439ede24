"""Metrics of generated samples against real ones. Each has a blind spot, so use several.

All but the last two take features (N, D), such as the last hidden layer of a classifier, and see only what the features
represent. No value has a meaning by itself: compare it with the value of real samples against other real samples, at
the same N.

- *Overall distance.* `kernel_distance` is unbiased, and `kernel_test` gives its p-value. `frechet_distance` is the one
  that most papers report; it compares means and covariances only.
- *A critic.* `classifier_test`: how often a classifier tells generated from real samples.
- *Kind of error.* `precision_recall`: unrealistic samples lower precision and density, missing ones lower recall and
  coverage (`expected_coverage` is the coverage of a perfect generator). `class_histogram`: missing classes.
- *Few or copied samples.* `support_size` counts pairs of near-equal samples; `nearest_training` detects copies of
  training samples, which all metrics above would reward.
- *Clusters with known centres.* `cluster_quality`.
- *One number of each sample.* `separation_power` compares histograms; `histogram_pulls` judges the uncertainty of an
  ensemble of generators.
- *Counting.* `count_pieces`, `count_holes`, `count_runs` and `asymmetry` of each image: wrong numbers of parts.
- *Single images.* `spectrum_distance` and `gradient_distance` compare the fine structure of two images, not pixel with
  pixel; `power_spectrum` is what the former compares.
"""

from posterity.inference.adversarial.metrics.classes import ClassHistogram, class_histogram
from posterity.inference.adversarial.metrics.classifier_test import ClassifierTest, classifier_test
from posterity.inference.adversarial.metrics.clusters import cluster_quality
from posterity.inference.adversarial.metrics.frechet import frechet_distance
from posterity.inference.adversarial.metrics.histograms import (
    HistogramPulls,
    Separation,
    histogram_pulls,
    separation_power,
)
from posterity.inference.adversarial.metrics.manifold import expected_coverage, precision_recall
from posterity.inference.adversarial.metrics.neighbours import NearestTraining, nearest_training
from posterity.inference.adversarial.metrics.shapes import asymmetry, count_holes, count_pieces, count_runs
from posterity.inference.adversarial.metrics.support import SupportSize, support_size
from posterity.inference.adversarial.metrics.textures import gradient_distance, power_spectrum, spectrum_distance
from posterity.inference.adversarial.metrics.two_sample import (
    KernelTest,
    kernel_distance,
    kernel_test,
    median_bandwidths,
)

__all__ = [
    "ClassHistogram",
    "ClassifierTest",
    "HistogramPulls",
    "KernelTest",
    "NearestTraining",
    "Separation",
    "SupportSize",
    "asymmetry",
    "class_histogram",
    "classifier_test",
    "cluster_quality",
    "count_holes",
    "count_pieces",
    "count_runs",
    "expected_coverage",
    "frechet_distance",
    "gradient_distance",
    "histogram_pulls",
    "kernel_distance",
    "kernel_test",
    "median_bandwidths",
    "nearest_training",
    "power_spectrum",
    "precision_recall",
    "separation_power",
    "spectrum_distance",
    "support_size",
]
