"""Fixtures of the sampler tests: a fast engine, and a clock that does not depend on the machine."""

from types import SimpleNamespace

import pytest

from posterity.inference.mcmc import monitor, run
from tests.inference.mcmc.cases import line_engine


@pytest.fixture
def fast_engine(monkeypatch):
    """Runs of `line` use its closed form instead of Pyro's model: for tests of bookkeeping."""
    monkeypatch.setattr(run, "prepare", line_engine)


@pytest.fixture
def ticks(monkeypatch):
    """The monitor's clock goes on by one second at every reading, so that stopping does not depend on the machine."""
    now = SimpleNamespace(value=0.0)

    def perf_counter():
        now.value += 1.0
        return now.value

    monkeypatch.setattr(monitor, "time", SimpleNamespace(perf_counter=perf_counter))
    return now
