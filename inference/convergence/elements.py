"""Draws of the named sites of a model, element by element, without the weights of networks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import product
from typing import Any

import numpy as np

ELEMENTS = 64
"""Largest number of elements judged per site; of a larger site, evenly spaced elements are judged."""


def site_columns(draws: Mapping[str, Any], names: Iterable[str]) -> tuple[np.ndarray, list[str]]:
    """Values (chain, draw, elements) of the sites ``names`` in ``draws`` (chain, draw, ...), and labels (``mu[0]``)."""
    shape = next(iter(draws.values())).shape[:2]
    columns, labels = [np.empty((*shape, 0))], []
    for name in names:
        value = _array(draws[name])
        places = list(product(*map(range, value.shape[2:])))
        count = len(places)
        chosen = np.arange(count) if count <= ELEMENTS else np.linspace(0, count - 1, ELEMENTS).round().astype(int)
        columns.append(value.reshape(*shape, count)[..., chosen].astype(float))
        labels += [f"{name}[{', '.join(map(str, places[i]))}]" if places[i] else name for i in chosen]
    return np.concatenate(columns, -1), labels


def _array(value: Any) -> np.ndarray:
    return value.detach().cpu().numpy() if hasattr(value, "detach") else np.asarray(value)
