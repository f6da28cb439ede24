"""The engine: a Pyro model is traced once, for all chains, and compiled.

- `density`: the log joint of any model as a function of one unconstrained vector.
- `tiers`: that function and its gradient for all chains at once: eager, replayed or compiled, same numbers.
- `lanes`: the compiler, one chain for each lane of the vector unit.
"""

from posterity.inference.engine.chains import INTEGRATORS, Engine
from posterity.inference.engine.density import Density
from posterity.inference.engine.tiers import TIERS, prepare

__all__ = ["INTEGRATORS", "TIERS", "Density", "Engine", "prepare"]
