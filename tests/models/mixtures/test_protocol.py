"""The modules for mixtures of one target use nothing but `MixtureLike`."""

from typing import Any

import pytest
import torch

from posterity.models.mixtures import density, modes, nodes, quantiles
from posterity.models.mixtures.protocol import MixtureLike
from tests.mixture_cases import poisson_mixture, random_mixture, von_mises_mixture

MEMBERS = {name for name in vars(MixtureLike) if not name.startswith("_")} | set(MixtureLike.__annotations__)


class Restricted:
    """A mixture of which only the members of `MixtureLike` can be reached."""

    def __init__(self, mixture: Any) -> None:
        self._mixture = mixture

    def __getattr__(self, name: str) -> Any:
        if name not in MEMBERS:
            raise AttributeError(f"{name} is not a member of MixtureLike")
        return getattr(self._mixture, name)

    def __getitem__(self, index: Any) -> "Restricted":
        return Restricted(self._mixture[index])


@pytest.mark.parametrize(
    "mixture",
    [random_mixture(3), random_mixture(2, components=40), poisson_mixture(), von_mises_mixture().expand((2,))],
    ids=["normals", "many normals", "counts", "angles"],
)
def test_quantiles_nodes_densities_and_extrema_need_no_more_than_the_protocol(mixture):
    restricted, count = Restricted(mixture), len(mixture.mean)
    probability = torch.tensor([[0.1], [0.7]], dtype=torch.double).expand(2, count)
    assert torch.equal(
        quantiles.mixture_quantiles(restricted, probability), quantiles.mixture_quantiles(mixture, probability)
    )
    x = nodes.sorted_nodes(mixture)
    assert torch.equal(nodes.sorted_nodes(restricted), x)
    assert torch.equal(nodes.log_mass_or_density(restricted, x), nodes.log_mass_or_density(mixture, x))
    ends = x[:1], x[-2:-1]
    assert torch.equal(density.interval_probability(restricted, *ends), density.interval_probability(mixture, *ends))
    found, expected = modes.extrema(restricted), modes.extrema(mixture)
    assert torch.equal(found.there, expected.there)
    assert torch.equal(found.modes[found.there], expected.modes[expected.there])
