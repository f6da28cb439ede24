"""The one place where ArviZ is reached: the same calls for ArviZ 0.23 (InferenceData) and 1.x (xarray's DataTree).

- *Containers*: `from_arrays` and `from_groups` make ArviZ data, `group` and `group_names` look into them, `save` and
  `load` keep them; a file that one version wrote is read by the other.
- *Statistics*: `rhat`, `ess`, `mcse`, `hdi`, `bfmi`, with the same arguments, defaults and results.
- *Model comparison*: `psislw`, `relative_efficiency`, `waic` where ArviZ has it; `elpd_data` and `read_elpd` make and
  read ArviZ's ``ELPDData``, `compare` ranks them. Leave-one-out itself is in `posterity.inference.diagnostics`.

Everything here works on `xarray.Dataset`s, arrays and files; there are no tensors and no torch.
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
from posterity.inference.arviz.psis import psislw
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
    "psislw",
    "read_elpd",
    "relative_efficiency",
    "rhat",
    "save",
    "waic",
]
