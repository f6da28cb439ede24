"""Each field of each method's settings, in turn, replaced by what does not belong there.

Every outcome is an object or a ``ValueError`` that names the field: the share is 100 %. None is only for fields that
are None by default.
"""

import dataclasses
import math

import numpy as np
import pytest
import torch

from posterity.inference import HMC, MCLMC, NUTS, SVI, Blocks, Ensemble, sweep
from posterity.inference.mcmc import reference

METHODS = {
    "SVI": SVI, "Ensemble": Ensemble, "HMC": HMC, "NUTS": NUTS, "MCLMC": MCLMC,
    "reference.HMC": reference.HMC, "reference.NUTS": reference.NUTS, "Blocks": lambda **s: Blocks(HMC(), **s),
}  # fmt: skip
KINDS = {**METHODS, "Blocks": Blocks}
WRONG = {
    "none": None, "text": "compild", "empty text": "", "list": [1], "dict": {"a": 1}, "nan": math.nan, "inf": math.inf,
    "negative": -1, "zero": 0, "fraction": 2.5, "object": object(), "class": dict, "tensor": torch.ones(2),
    "array": np.ones(2), "complex": 1j, "bytes": b"prior",
}  # fmt: skip
FLAGS = ("progress", "dense_mass", "capture")  # anything that is true or false
FIELDS = [
    (kind, field.name)
    for kind, made in KINDS.items()
    for field in dataclasses.fields(made)
    if field.name not in FLAGS
]  # fmt: skip


@pytest.mark.parametrize(("kind", "name"), FIELDS, ids=lambda value: value)
def test_a_field_takes_its_values_or_names_itself(kind, name):
    default = {field.name: field.default for field in dataclasses.fields(KINDS[kind])}[name]
    make = Blocks if kind == "Blocks" and name == "method" else METHODS[kind]
    faults = []
    for wrong, value in WRONG.items():
        try:
            make(**{name: value})
        except ValueError as error:
            fault = "" if name in str(error) else f"an error without the name: {error}"
        else:
            unfit = (value is None and default is not None) or (isinstance(value, float) and math.isnan(value))
            fault = "taken" if unfit else ""
        faults += [(wrong, fault)] if fault else []
    assert not faults


@pytest.mark.parametrize("kind", ["SVI", "Ensemble", "HMC", "NUTS", "MCLMC"])
def test_a_mistyped_name_is_refused_before_the_run(kind):
    for name in {"guide", "init", "engine", "pooling", "dtype", "integrator", "behind"} & {
        n for k, n in FIELDS if k == kind
    }:
        with pytest.raises(ValueError, match=f"expected {name} to be one of"):
            METHODS[kind](**{name: "compild"})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"values": 3}, "expected values to be a sequence of numbers, got 3"),
        ({"values": ["a"]}, r"expected values to be a sequence of numbers, got \['a'\]"),
        ({"values": [True]}, "expected values to be a sequence of numbers"),
        ({"values": [[1.0], [2.0, 3.0]]}, "expected values to be a sequence of numbers"),
        ({"values": torch.ones(2, 2)}, "expected values to be a sequence of numbers"),
        ({"values": torch.ones(0)}, "expected values of the setting to compare, got none"),
        ({"method": SVI()}, r"expected method to be an Ensemble\(\), all fits at once, got SVI"),
        ({"method": Ensemble}, r"expected method to be an Ensemble\(\)"),
        ({"name": 3}, "expected name to be the name of a parameter, got 3"),
    ],
    ids=lambda value: "" if isinstance(value, str) else next(iter(value)),
)
def test_a_sweep_names_what_does_not_belong_there(settings, message):
    with pytest.raises(ValueError, match=message):
        sweep(lambda x, y=None: None, torch.zeros(9), torch.zeros(9), **{"name": "decay", "values": [1.0], **settings})
