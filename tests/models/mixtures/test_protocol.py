"""The protocol names what a mixture has."""

import typing

import pytest
import torch

from posterity.inference.predictive import PredictiveMixture
from posterity.models.mixtures import Mixture
from posterity.models.mixtures.protocol import MixtureLike

NAMES = {name for name in vars(MixtureLike) if not name.startswith("_") or name == "__getitem__"}


def test_the_protocol_is_not_empty():
    assert typing.is_protocol(MixtureLike) if hasattr(typing, "is_protocol") else MixtureLike._is_protocol
    assert {"log_prob", "cdf", "sf", "icdf", "log_weights", "__getitem__"} <= NAMES


@pytest.mark.parametrize("name", sorted(NAMES | {"_validate_args"}))
def test_mixtures_and_predictives_have_every_attribute_of_the_protocol(name):
    mixture = Mixture.normal(torch.zeros(3, 2), torch.zeros(3, 2), torch.ones(3, 2))
    predictive = PredictiveMixture.from_draws(Mixture.normal(*torch.ones(3, 4, 3, 2)))
    for one in (mixture, predictive):
        assert hasattr(one, name)
