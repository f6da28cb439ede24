"""The page on the statistics of samplers names everything that a `Posterior` exports."""

from pathlib import Path

import pyro
import pyro.distributions as dist
import pytest
import torch

from posterity.inference import HMC, MCLMC, NUTS, SVI, Blocks, Ensemble, infer

PAGE = (Path(__file__).parents[2] / "docs" / "sampler-statistics.md").read_text()
X = torch.linspace(-1.0, 1.0, 20)
Y = 2 * X + 0.1 * torch.sin(40 * X)
CHAINS = {"chains": 2, "warmup": 10, "draws": 5, "engine": "eager", "progress": False}
STEPS = {"steps": 20, "holdout": 0.2, "check_every": 10, "progress": False}
METHODS = {
    "HMC": HMC(**CHAINS),
    "NUTS": NUTS(**CHAINS),
    "MCLMC": MCLMC(**CHAINS),
    "adjusted": MCLMC(adjusted=True, **CHAINS),
    "Blocks": Blocks(HMC(**CHAINS), blocks=2, jobs=1),
    "SVI": SVI(**STEPS),
    "Ensemble": Ensemble(members=2, engine="eager", **STEPS),
}


def line(x, y=None):
    slope, level = (pyro.sample(name, dist.Normal(0.0, 1.0)) for name in ("slope", "level"))
    with pyro.plate("obs", len(x)):
        return pyro.sample("y", dist.Normal(level + slope * x, 0.3), obs=y)


@pytest.fixture(scope="module", params=METHODS)
def posterior(request):
    return infer(line, X, Y, method=METHODS[request.param], seed=0)


def test_every_statistic_has_a_section_and_a_row(posterior):
    for name in posterior.sample_stats:
        assert f"\n### `{name}`\n" in PAGE, f"docs/sampler-statistics.md has no section on {name}"
        assert f"\n| `{name}` |" in PAGE


def test_every_learning_curve_has_a_row(posterior):
    for name in posterior.history:
        assert f"\n| `{name}` |" in PAGE, f"docs/sampler-statistics.md has no row for {name}"


def test_every_attribute_is_in_the_table(posterior):
    table = PAGE.partition("\n## Attributes\n")[2]
    assert [name for name in posterior.attrs if f"`{name}`" not in table] == []


def test_no_section_describes_a_statistic_that_does_not_exist(posterior):
    if posterior.attrs["method"] == "NUTS":
        sections = [line.strip("# `") for line in PAGE.splitlines() if line.startswith("### ")]
        assert sorted(sections) == sorted([*posterior.sample_stats, "energy_error"])  # of MCLMC
