"""The one place where ArviZ is reached: the same calls for ArviZ 0.23 (InferenceData) and 1.x (xarray's DataTree).

Everything here works on `xarray.Dataset`s and files; no tensors.
"""

from pathlib import Path
from typing import Any

import arviz
import numpy as np
import xarray as xr

HAS_INFERENCE_DATA = int(arviz.__version__.split(".")[0]) < 1


def from_groups(groups: dict[str, xr.Dataset], attrs: dict[str, Any] | None = None) -> Any:
    """ArviZ data of the given groups: an ``InferenceData`` in ArviZ 0.23, an ``xarray.DataTree`` in 1.x."""
    attrs = attrs or {}
    if HAS_INFERENCE_DATA:
        return arviz.InferenceData(attrs=attrs, **groups)
    return xr.DataTree.from_dict({"/": xr.Dataset(attrs=attrs), **groups})


def group(data: Any, name: str) -> xr.Dataset:
    """One group of ArviZ data as a ``Dataset``; ``ValueError`` naming the groups there are if it is missing."""
    names = group_names(data)
    if name not in names:
        raise ValueError(f"expected ArviZ data with a group {name!r}, got groups {names}")
    found = data[name]
    return found.to_dataset() if hasattr(found, "to_dataset") else found


def group_names(data: Any) -> list[str]:
    """The groups of ArviZ data; ``ValueError`` for anything else."""
    if HAS_INFERENCE_DATA and isinstance(data, arviz.InferenceData):
        return list(data.groups())
    if isinstance(data, xr.DataTree):
        return list(data.children)
    raise ValueError(f"expected ArviZ data (InferenceData or DataTree), got {type(data).__name__}")


def save(data: Any, path: str | Path) -> Path:
    """Write ArviZ data as netCDF (h5netcdf), to a temporary name first, so that a crash leaves no half a file."""
    path = Path(path)
    temporary = path.with_name(path.name + ".part")
    data.to_netcdf(str(temporary), engine="h5netcdf")
    temporary.replace(path)
    return path


def load(path: str | Path) -> Any:
    """Read ArviZ data that `save` wrote, all of it into memory."""
    if HAS_INFERENCE_DATA:
        data = arviz.from_netcdf(str(path), engine="h5netcdf").load()
        data.close()
        return data
    with xr.open_datatree(str(path), engine="h5netcdf") as tree:
        return tree.load()


def elpd_data(elpd_i: xr.DataArray, *, n_samples: int) -> Any:
    """ArviZ's ``ELPDData`` of held-out log scores, so that ``az.compare`` ranks models by them.

    ``elpd_i`` holds one score in nats for each observation. There is no effective number of parameters in a
    held-out score, so ``p`` is nan, and no Pareto k. The kind reads ``loo``: the only one ``az.compare`` takes.
    """
    n = int(elpd_i.size)
    total = float(elpd_i.sum())
    se = float(np.sqrt(n * np.var(elpd_i.values)))
    if HAS_INFERENCE_DATA:
        from arviz.stats.stats_utils import ELPDData

        names = ["elpd_loo", "se", "p_loo", "n_samples", "n_data_points", "warning", "loo_i", "scale"]
        return ELPDData([total, se, np.nan, n_samples, n, False, elpd_i, "log"], index=names)
    from arviz_stats import utils

    # 1.3 has a class for each estimator, and held-out scores are the K-fold one; earlier 1.x had one class for all.
    common = {
        "elpd": total, "se": se, "p": np.nan, "n_samples": n_samples, "n_data_points": n,
        "scale": "log", "warning": False, "good_k": np.nan, "elpd_i": elpd_i, "pareto_k": None,
    }  # fmt: skip
    if hasattr(utils, "ELPDDataLOOKFold"):
        return utils.ELPDDataLOOKFold(**common, n_folds=1)
    return utils.ELPDData(kind="loo", **common)
