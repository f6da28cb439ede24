"""The one interface to ArviZ: the same calls for ArviZ 0.23 (InferenceData) and 1.x (DataTree of xarray).

- *Containers*: `from_arrays` and `from_groups` make ArviZ data, `group` and `group_names` read them, `save` and `load`
  store them; either version reads the files of the other.
- *Statistics*: `rhat`, `ess`, `mcse`, `hdi`, `bfmi`, with the same arguments, defaults and results.
- *Sensitivity*: `psense`, of every variable to the power of the prior or of the likelihood.
- *Model comparison*: `psislw`, `relative_efficiency`; `waic` in ArviZ 0.23, `moment_match` in 1.x. `elpd_data` and
  `read_elpd` make and read ArviZ's ``ELPDData``, `compare` ranks them. Leave-one-out itself is in
  `posterity.inference.diagnostics`.

All functions take `xarray.Dataset`s, arrays and files; there are no tensors and no torch.
"""

from posterity.inference.arviz.containers import (
    INDEPENDENT,
    SAMPLE_DIMS,
    from_arrays,
    from_groups,
    group,
    group_names,
    load,
    save,
)
from posterity.inference.arviz.elpd import compare, elpd_data, read_elpd, relative_efficiency, waic
from posterity.inference.arviz.installed import HAS_INFERENCE_DATA
from posterity.inference.arviz.moment_matching import moment_match
from posterity.inference.arviz.psis import psislw
from posterity.inference.arviz.sensitivity import psense
from posterity.inference.arviz.statistics import bfmi, ess, hdi, mcse, rhat

__all__ = [
    "HAS_INFERENCE_DATA",
    "INDEPENDENT",
    "SAMPLE_DIMS",
    "bfmi",
    "compare",
    "elpd_data",
    "ess",
    "from_arrays",
    "from_groups",
    "group",
    "group_names",
    "hdi",
    "load",
    "mcse",
    "moment_match",
    "psense",
    "psislw",
    "read_elpd",
    "relative_efficiency",
    "rhat",
    "save",
    "waic",
]
