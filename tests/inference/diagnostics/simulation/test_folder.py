"""Refits on disk: continued bit for bit, refused if they are others'."""

import pyro
import pyro.distributions as dist
import pytest

from posterity.inference.diagnostics.simulation.refits import refit
from tests.inference.diagnostics.simulation.cases import Prior, X, assert_same, interrupting, line_model, refits


def test_an_interrupted_run_goes_on_and_is_bit_equal_to_one_that_was_not(tmp_path):
    hook = interrupting(4)
    with pytest.warns(RuntimeWarning, match=r"refits was interrupted and returns 4 of 6 refits\. The same call"):
        partial = refits(Prior(hook=hook), folder=tmp_path)
    assert (partial.sizes["simulation"], partial.attrs["interrupted"]) == (4, 1)
    assert len(list(tmp_path.glob("refit-*.pt"))) == 4
    seen = []
    whole = refits(Prior(hook=hook), folder=tmp_path)
    assert (whole.sizes["simulation"], whole.attrs["interrupted"]) == (6, 0)
    assert_same(whole, refits())
    assert_same(partial, whole.isel(simulation=slice(4)))
    more = refits(Prior(hook=hook), folder=tmp_path, count=8)
    assert_same(more.isel(simulation=slice(6)), whole)
    assert_same(more, refits(count=8))
    assert not seen


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"method": Prior(draws=41)}, "expected another folder, or the settings .*: method Prior.*draws=40.* got .*41"),
        ({"seed": 4}, "seed 3, got 4"),
        ({"draws": 10}, "draws 20, got 10"),
        ({"log_likelihood": False}, "quantities .*log_likelihood"),
        ({"sites": ["w"]}, r"quantities \['w\[0\]', 'w\[1\]', 's', 'log_likelihood'\], got \['w\[0\]', 'w\[1\]', 'log"),
    ],
)
def test_another_s_folder_is_refused(tmp_path, changes, message):
    refits(folder=tmp_path, count=2)
    with pytest.raises(ValueError, match=message):
        refits(**({"folder": tmp_path, "count": 2} | changes))


def test_other_models_and_damaged_files_are_refused(tmp_path):
    def other(x, y=None):
        w = pyro.sample("w", dist.Normal(x.new_zeros(2), 1.0).to_event(1))
        s = pyro.sample("s", dist.LogNormal(x.new_zeros(()), 0.1))
        with pyro.plate("obs", len(x)):
            return pyro.sample("y", dist.Normal(w[0] + w[1] * x, s), obs=y)

    refits(folder=tmp_path, count=2)
    with pytest.raises(ValueError, match=r"expected a refit of this model's simulation 0 in .*, got one of other data"):
        refits(folder=tmp_path, count=2, model=other)
    with pytest.raises(ValueError, match="arguments"):
        refit(line_model(), X + 1, method=Prior(), count=2, draws=20, seed=3, folder=tmp_path, progress=False)
    (tmp_path / "refit-000001.pt").write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"expected a refit in .*refit-000001\.pt"):
        refits(folder=tmp_path, count=2)
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="expected folder to be a folder, got the file"):
        refits(folder=tmp_path / "file")
