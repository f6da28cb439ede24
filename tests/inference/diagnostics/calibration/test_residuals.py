import numpy as np
import pytest
import torch
import xarray as xr
from scipy import stats
from torch.distributions import Categorical, StudentT

from posterity.inference.arviz import from_groups
from posterity.inference.diagnostics import pull_summary, pulls
from posterity.models.mixtures import Mixture

KINDS = ("gaussianised", "moment", "component")


def mixture_of(n: int, separation: float = 3.0, width: float = 1.0) -> Mixture:
    loc = torch.tensor([-0.5, 0.5]).double() * separation
    return Mixture.normal(torch.zeros(n, 2).double(), loc, width * torch.ones(n, 2).double())


def one_normal(y: float, sd: float = 1.0) -> tuple[Mixture, torch.Tensor]:
    return Mixture.normal(torch.zeros(1, 1), torch.zeros(1, 1), torch.full((1, 1), sd)), torch.tensor([y])


@pytest.mark.parametrize("kind", KINDS)
def test_correct_model_has_width_one(kind):
    torch.manual_seed(1)
    summary = pull_summary(pulls(mixture_of(20_000), mixture_of(20_000).sample(), kind=kind))
    assert abs(float(summary["mean"])) < 3 * float(summary["mean_se"])
    assert abs(float(summary.width) - 1) < 3 * float(summary.width_se)


@pytest.mark.parametrize("kind", KINDS)
def test_errors_a_fifth_too_small_give_width_five_quarters(kind):
    torch.manual_seed(2)
    y = mixture_of(20_000, separation=0.0).sample()
    summary = pull_summary(pulls(mixture_of(20_000, separation=0.0, width=0.8), y, kind=kind))
    assert abs(float(summary.width) - 1.25) < 3 * float(summary.width_se)
    assert abs(float(summary.robust_width) - 1.25) < 3 * float(summary.robust_width_se)


@pytest.mark.parametrize("kind", ["gaussianised", "component"])
def test_pulls_of_a_correct_bimodal_model_are_normal(kind):
    torch.manual_seed(3)
    values = pulls(mixture_of(5000), mixture_of(5000).sample(), kind=kind, seed=4).pull.values
    assert stats.kstest(values, "norm").pvalue > 1e-3


def test_most_probable_component_makes_a_correct_model_look_too_wide():
    """Why the component is drawn: taking the most probable one gives 0.91 where the truth is 1."""
    torch.manual_seed(4)
    mixture, y = mixture_of(20_000), mixture_of(20_000).sample()
    best = mixture.responsibilities(y).argmax(-1, keepdim=True)
    wrong = y - mixture.component_distribution.loc.gather(-1, best).squeeze(-1)
    drawn = pull_summary(pulls(mixture, y, kind="component"))
    # Exactly: the half normals N(1.5, 1), y > 0 belong to 1.5 and y < 0 to -1.5.
    reached, height = stats.norm.cdf(1.5), stats.norm.pdf(1.5)
    inside = reached - 1.5 * height
    outside = 10 * stats.norm.sf(1.5) - 4.5 * height
    exact = np.sqrt(inside + outside)
    assert float(wrong.std()) == pytest.approx(exact, abs=0.015)
    assert exact < 0.92
    assert abs(float(drawn.width) - 1) < 3 * float(drawn.width_se)


def test_drawn_components_have_their_responsibilities():
    mixture = mixture_of(1)[torch.zeros(20_000, dtype=torch.long)]
    y = torch.full((20_000,), 0.4).double()
    share = pulls(mixture, y, kind="component").component.values.mean()
    expected = float(mixture_of(1).responsibilities(y[:1])[0, 1])
    assert abs(share - expected) < 4 * np.sqrt(expected * (1 - expected) / 20_000)


@pytest.mark.parametrize("sign", [-1, 1])
def test_outliers_stay_finite(sign):
    assert float(pulls(*one_normal(sign * 24.0, sd=2.0)).pull[0]) == pytest.approx(sign * 12, abs=1e-6)
    assert float(pulls(*one_normal(sign * 1e6)).pull[0]) == pytest.approx(sign * 37.52, abs=0.01)


def test_moment_and_component_agree_for_one_normal():
    for kind in ("moment", "component"):
        assert float(pulls(*one_normal(3.0, sd=2.0), kind=kind).pull[0]) == pytest.approx(1.5)


def test_arviz_draws_agree_with_the_mixture():
    torch.manual_seed(5)
    mixture = mixture_of(40)
    y = mixture.sample().clamp(-3, 3)
    draws = mixture.sample(torch.Size([8000])).numpy()
    data = from_groups(
        {
            "posterior_predictive": xr.Dataset({"y": (("chain", "draw", "obs"), draws.reshape(4, 2000, 40))}),
            "observed_data": xr.Dataset({"y": ("obs", y.numpy())}),
        }
    )
    for kind, tolerance in (("gaussianised", 0.12), ("moment", 0.06)):
        difference = pulls(data, kind=kind).pull - pulls(mixture, y, kind=kind).pull
        assert float(np.abs(difference).max()) < tolerance
    with pytest.raises(ValueError, match="expected a Mixture for kind='component', got draws"):
        pulls(data, kind="component")


def test_same_seed_same_component_and_global_state_is_left_alone():
    mixture, y = mixture_of(100), torch.zeros(100)
    state = torch.get_rng_state()
    first, again = (pulls(mixture, y, kind="component", seed=7) for _ in range(2))
    xr.testing.assert_identical(first, again)
    assert not first.equals(pulls(mixture, y, kind="component", seed=8))
    assert torch.equal(torch.get_rng_state(), state)


def test_result_is_written_as_netcdf(tmp_path):
    result = pulls(mixture_of(5), torch.zeros(5), kind="component")
    result.to_netcdf(tmp_path / "pulls.nc", engine="h5netcdf")
    pull_summary(result).to_netcdf(tmp_path / "summary.nc", engine="h5netcdf")


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match=r"expected kind to be one of 'gaussianised', .* got 'sigma'"):
        pulls(*one_normal(0.0), kind="sigma")
    cauchy = Mixture(Categorical(logits=torch.zeros(3, 1)), StudentT(torch.full((3, 1), 1.5)))
    with pytest.raises(ValueError, match=r"expected predictives of finite, positive variance .* got 3 of 3"):
        pulls(cauchy, torch.zeros(3), kind="moment")
    with pytest.raises(ValueError, match="expected finite standard deviations of the components"):
        pulls(cauchy, torch.zeros(3), kind="component")
    with pytest.raises(ValueError, match="expected at least 2 pulls, got 1"):
        pull_summary(pulls(*one_normal(0.0)))
    with pytest.raises(ValueError, match="expected pulls that differ"):
        pull_summary(xr.Dataset({"pull": ("obs", [1.0, 1.0])}))
    with pytest.raises(ValueError, match=r"expected a result of pulls\(\), with pull, got"):
        pull_summary(xr.Dataset({"z": ("obs", [1.0, 2.0])}))
