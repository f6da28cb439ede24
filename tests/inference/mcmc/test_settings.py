"""Bad settings of the samplers, and the line that describes the settings of a run."""

from dataclasses import fields

import pytest
import torch

from tests.inference.mcmc.cases import FAMILIES, both


@both
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"draws": 0}, "expected draws to be a whole number of 1 or more, got 0"),
        ({"draws": 2.5}, r"expected draws to be a whole number of 1 or more, got 2.5"),
        ({"chains": True}, r"expected chains to be a whole number of 1 or more, got True"),
        ({"warmup": None}, r"expected warmup to be a whole number of 0 or more, got None"),
        ({"superchains": 1.5}, r"expected superchains to be a whole number of 1 or more, got 1.5"),
        ({"threads": 1.5}, r"expected threads to be a whole number of 1 or more, got 1.5"),
        ({"step_size": torch.inf}, r"expected step_size to be a finite number above 0, got inf"),
        ({"step_size": "0.1"}, r"expected step_size to be a finite number above 0, got '0.1'"),
        ({"target_accept": "0.8"}, r"expected target_accept to be a number in \(0, 1\), got '0.8'"),
        ({"max_seconds": "3"}, r"expected max_seconds to be a finite number above 0, got '3'"),
        ({"target_ess": torch.nan}, r"expected target_ess to be a finite number above 0, got nan"),
        (
            {"max_energy_error": None},
            r"expected max_energy_error to be a finite number above 0, got None",
        ),
        ({"checkpoint_seconds": -1}, "expected checkpoint_seconds to be a finite number of 0 or more, got -1"),
        ({"checkpoint": 5}, "expected checkpoint to be the path of a file, got 5"),
        ({"checkpoint": ""}, "expected checkpoint to be the path of a file, got ''"),
        ({"warmup": -1}, "expected warmup to be a whole number of 0 or more, got -1"),
        ({"chains": 0}, "expected chains to be a whole number of 1 or more, got 0"),
        ({"thin": 0}, "expected thin to be a whole number of 1 or more, got 0"),
        ({"target_accept": 1.0}, r"expected target_accept to be a number in \(0, 1\), got 1.0"),
        ({"step_size": 0.0}, "expected step_size to be a finite number above 0, got 0.0"),
        ({"max_seconds": -1.0}, "expected max_seconds to be a finite number above 0, got -1.0"),
        ({"pooling": "all"}, r"expected pooling to be one of 'within', 'across', got 'all'"),
        ({"dtype": "int8"}, "expected dtype to be one of .*, got 'int8'"),
        ({"target_ess": 1e9}, r"expected chains \* draws to be at least target_ess=1e\+09, got 8000"),
        ({"init": "zero"}, "expected init to be one of 'map', .*, values of the sites, or a Posterior, got 'zero'"),
        ({"init": 3}, "expected init to be one of 'map', .*, values of the sites, or a Posterior, got 3"),
    ],
)
def test_bad_settings_raise(name, settings, message):
    with pytest.raises(ValueError, match=message):
        FAMILIES[name](**settings)


@both
def test_superchains_divide_the_chains(name):
    with pytest.raises(ValueError, match="expected superchains to divide chains=8, got 3"):
        FAMILIES[name](chains=8, superchains=3)
    assert FAMILIES[name](chains=8, superchains=4).superchains == 4


@both
def test_a_config_of_reparametrisers_cannot_be_kept_in_a_checkpoint(name):
    with pytest.raises(ValueError, match=r"expected reparam to be None or 'auto' with a checkpoint, .*, got dict"):
        FAMILIES[name](checkpoint="run.pt", reparam={})


@both
def test_the_description_has_every_setting_and_of_starts_their_type(name):
    method = FAMILIES[name](draws=7, init={"w": torch.zeros(3)}, checkpoint="run.pt", reparam="auto")
    described = method.describe()
    assert described.startswith(f"{name}(draws=7, warmup=300, chains=16, ")
    assert "init='dict'" in described
    assert "checkpoint='run.pt'" in described
    assert "reparam='auto'" in described
    assert "reparam='dict'" in FAMILIES[name](reparam={}).describe()
    assert [part.partition("=")[0].rpartition(" ")[2] for part in described.split(", ")[1:]] == [
        field.name for field in fields(method)
    ][1:]
