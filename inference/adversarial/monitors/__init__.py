"""Monitors: objects with one method, ``read(run)``, that inspect a run at intervals without changing it.

- `DiscriminatorAccuracy`: right answers to training, held-out and generated samples, and overfitting.
- `SampleQuality`: distance from held-out samples, precision, recall, density, coverage, spread.
- `SampleOriginality`: number of distinct samples, and copies of the training data.
- `ClassCoverage`: classes among the samples, by a classifier. `ClusterQuality`: clusters with known centres.
- `SampleGrid`: a PNG of samples at each reading. `TensorBoard`: event files with all curves.

Your own monitor is any object that follows the protocol `Monitor`. The trainer itself records both losses, the norms of
both gradients, and their ratio (generator over discriminator), which goes to zero when the generator can learn nothing
more from the discriminator.
"""

from posterity.inference.adversarial.monitors.discriminator import DiscriminatorAccuracy
from posterity.inference.adversarial.monitors.protocol import Monitor
from posterity.inference.adversarial.monitors.records import SampleGrid, TensorBoard
from posterity.inference.adversarial.monitors.samples import (
    ClassCoverage,
    ClusterQuality,
    SampleOriginality,
    SampleQuality,
)

__all__ = [
    "ClassCoverage",
    "ClusterQuality",
    "DiscriminatorAccuracy",
    "Monitor",
    "SampleGrid",
    "SampleOriginality",
    "SampleQuality",
    "TensorBoard",
]
