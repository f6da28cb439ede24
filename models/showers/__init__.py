"""A generator of calorimeter showers with built-in physics (sampling, spots, threshold), and its critic.

- `ShowerGenerator`: latent points and energies -> energies of all cells.
- `ShowerCritic`: a discriminator of showers that are described by observables and cells.
- `poisson_numbers`: whole numbers with a Poisson distribution, as a function of normal numbers.
"""

from posterity.models.showers.critic import ShowerCritic
from posterity.models.showers.generator import ShowerGenerator
from posterity.models.showers.poisson import poisson_numbers

__all__ = ["ShowerCritic", "ShowerGenerator", "poisson_numbers"]
