"""Monitors: objects with one method, ``read(game)``, that look at a game now and then without touching it.

- `Answers`: the discriminator's, to training, held-out and generated samples.
- `Quality`, `Originality`, `Classes`, `ClusterQuality`: fresh samples against held-out ones.
- `Pictures`, `TensorBoard`: what is kept to look at.

`Monitor` is what yours must be; the trainer itself reads both losses, the norms of both gradients and their ratio
(the generator's over the discriminator's: towards zero where the generator has nothing left to learn from).
"""

from posterity.inference.adversarial.monitors.discriminator import Answers
from posterity.inference.adversarial.monitors.protocol import Monitor
from posterity.inference.adversarial.monitors.records import Pictures, TensorBoard
from posterity.inference.adversarial.monitors.samples import Classes, ClusterQuality, Originality, Quality

__all__ = ["Answers", "Classes", "ClusterQuality", "Monitor", "Originality", "Pictures", "Quality", "TensorBoard"]
