"""Files of checkpoints: read back as written, and refused if they are no checkpoint or belong to another model."""

import contextlib

import pytest
import torch

from posterity.inference import HMC, infer, resume
from posterity.inference.mcmc import checkpoints
from posterity.inference.mcmc.hmc import HMCKernel
from tests.inference.mcmc.cases import X, Y, line, short

METHODS = {"HMC": HMC}


@pytest.fixture
def content():
    return dict.fromkeys(checkpoints.KEYS, 0) | {"method": "HMC", "q": torch.randn(3, 2)}


def test_a_checkpoint_is_read_back_as_it_was_written(content, tmp_path):
    path = checkpoints.write_checkpoint(content, tmp_path / "run")
    found = checkpoints.read_checkpoint(path, METHODS)
    assert torch.equal(found.pop("q"), content.pop("q"))
    assert found == content | {"format": checkpoints.FORMAT}
    assert [file.name for file in tmp_path.iterdir()] == ["run"]  # no temporary file is left


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"w": torch.ones(3)}, "expected a checkpoint of format 3 .*, got something else"),
        (torch.ones(3), "expected a checkpoint of format 3 .*, got something else"),
        (
            {"format": 1, "kernel": 0},
            "expected a checkpoint of format 3 .*, got format 1 of another version: run again",
        ),
        ({"format": 3, "kernel": 0}, r"expected a checkpoint of \['HMC'\] .*, got one without \['arguments'"),
        ("hello", "expected a checkpoint .*, got a file that cannot be read as one"),
        ("", "expected a checkpoint .*, got a file that cannot be read as one"),
    ],
)
def test_what_is_no_checkpoint_is_refused(content, message, tmp_path):
    if isinstance(content, str):
        (tmp_path / "file").write_text(content)
    else:
        torch.save(content, tmp_path / "file")
    with pytest.raises(ValueError, match=message):
        checkpoints.read_checkpoint(tmp_path / "file", METHODS)


def test_half_a_checkpoint_is_refused(content, tmp_path):
    path = checkpoints.write_checkpoint(content, tmp_path / "run")
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ValueError, match=r"expected a checkpoint .*, got a file that cannot be read as one"):
        checkpoints.read_checkpoint(path, METHODS)


def test_a_checkpoint_of_an_unknown_sampler_is_refused(content, tmp_path):
    path = checkpoints.write_checkpoint(content | {"method": "MALA"}, tmp_path / "run")
    with pytest.raises(ValueError, match=r"expected a checkpoint of \['HMC'\] .*, got one without either"):
        checkpoints.read_checkpoint(path, METHODS)


def test_a_checkpoint_that_is_not_there_is_not_found(tmp_path):
    with pytest.raises(FileNotFoundError):
        resume(tmp_path / "nothing", line, X, Y)


def test_a_checkpoint_that_could_not_be_written_is_refused_before_the_run(tmp_path, monkeypatch):
    monkeypatch.setattr(HMCKernel, "transition", lambda *_: pytest.fail("the run began"))
    for path in (tmp_path / "missing" / "run", tmp_path):
        with pytest.raises(ValueError, match="expected checkpoint to be a file in an existing folder, got"):
            infer(line, X, Y, method=short("HMC", checkpoint=path))


def test_a_fingerprint_tells_bits_shape_and_dtype():
    y = torch.tensor([1.0, 2.0])
    others = [y + torch.tensor([0.0, 2e-7]), y[:, None], y.double(), torch.tensor([2.0, 1.0])]
    (one,) = checkpoints.fingerprints((y,))
    assert checkpoints.fingerprints((y.clone(), 3.0)) == [one, ""]
    assert one not in checkpoints.fingerprints(tuple(others))


@pytest.mark.parametrize(
    ("value", "slope", "message"),
    [
        (-28_000.0, 1.0, None),
        (-28_000.1, 1.001, None),  # rounding, and another order of sums
        (-28_000.5, 1.0, "got a log density of -28000.5 instead of -28000"),
        (-28_000.0, 1.1, "got a gradient of the log density that differs by 0.1"),
        (torch.nan, 1.0, "got a log density of nan instead of -28000"),
        (-28_000.0, torch.nan, "got a gradient of the log density that differs by nan"),
    ],
)
def test_a_log_density_and_its_gradient_may_differ_by_rounding(value, slope, message):
    saved = {"value": torch.full((2,), -28_000.0), "grad": torch.eye(2)}
    found = torch.tensor([-28_000.0, value]), torch.diag(torch.tensor([1.0, slope]))
    with contextlib.nullcontext() if message is None else pytest.raises(ValueError, match=message):
        checkpoints.check_density(*found, saved, 2e-3)
