"""Fixtures of the tests of models."""

import pytest
import torch


@pytest.fixture
def two_threads():
    """Two torch threads during the test."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)
