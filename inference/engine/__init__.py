"""The engine: a Pyro model is traced once, for all chains, and compiled.

- `density`: the log joint of a model as a function of one unconstrained vector.
- `tiers`: the log joint and its gradient for all chains at once: eager, replayed or compiled, with the same values.
- `lanes`: the compiler, which assigns one chain to each lane of the vector unit.
"""

from posterity.inference.engine.chains import INTEGRATORS, Engine
from posterity.inference.engine.density import Density
from posterity.inference.engine.tiers import TIERS, prepare

__all__ = ["INTEGRATORS", "TIERS", "Density", "Engine", "prepare"]
