"""Thresholds are the published values, and both the warnings of a run and the convergence report read them here."""

import ast
from pathlib import Path

import pytest

from posterity.inference.convergence import thresholds

ROOT = Path(__file__).parents[3]


def test_thresholds_are_the_published_values():
    """R-hat and ESS: Vehtari et al. 2021, sections 4.1 and 4.3; E-BFMI: Stan's threshold."""
    assert thresholds.RHAT == 1.01
    assert thresholds.ESS_PER_CHAIN == 100
    assert thresholds.ESS_TOTAL == 4 * thresholds.ESS_PER_CHAIN  # of the four chains that they recommend
    assert thresholds.LOW_EBFMI == 0.3
    assert thresholds.RHAT < thresholds.RHAT_BAD < thresholds.RHAT_BY_CHANCE


@pytest.mark.parametrize("folder", ["inference/mcmc", "inference/diagnostics"])
def test_samplers_and_diagnostics_import_them(folder):
    module = thresholds.__name__
    trees = [ast.parse(path.read_text()) for path in (ROOT / folder).rglob("*.py")]
    imports = [node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    assert {"RHAT_BAD", "DIVERGENT_SHARE"} <= {
        alias.name for node in imports if node.module == module for alias in node.names
    }
