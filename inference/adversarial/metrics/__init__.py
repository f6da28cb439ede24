"""Are generated samples as the real ones? Numbers for what a generator gets wrong, each blind to something else.

All take features (N, D), such as a classifier's last layer but one, and say nothing of what the features do not see.
None has a meaning alone: put beside it the value of real samples against other real ones, in the same numbers.

- *All at once.* `kernel_distance` is unbiased, and `kernel_test` says whether it is more than chance;
  `frechet_distance` is the one that everybody reports, and looks at means and covariances only.
- *What is wrong.* `precision_recall`: samples that look wrong lower precision and density, those that are missing
  lower recall and coverage (`expected_coverage` is what a perfect generator has). `class_histogram`: which classes are
  missing.
- *Too few, or old ones.* `support_size` counts samples that come twice; `nearest_training` looks for copies of the
  training samples, which all above would praise.
- *Clusters whose centres are known.* `cluster_quality`.
"""

from posterity.inference.adversarial.metrics.classes import ClassHistogram, class_histogram
from posterity.inference.adversarial.metrics.clusters import cluster_quality
from posterity.inference.adversarial.metrics.frechet import frechet_distance
from posterity.inference.adversarial.metrics.manifold import expected_coverage, precision_recall
from posterity.inference.adversarial.metrics.neighbours import Nearest, nearest_training
from posterity.inference.adversarial.metrics.support import Support, support_size
from posterity.inference.adversarial.metrics.two_sample import (
    KernelTest,
    kernel_distance,
    kernel_test,
    median_widths,
)

__all__ = [
    "ClassHistogram",
    "KernelTest",
    "Nearest",
    "Support",
    "class_histogram",
    "cluster_quality",
    "expected_coverage",
    "frechet_distance",
    "kernel_distance",
    "kernel_test",
    "median_widths",
    "nearest_training",
    "precision_recall",
    "support_size",
]
