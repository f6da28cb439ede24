import numpy as np
import pyro.distributions as dist
import pytest
import torch
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from posterity.inference.diagnostics import split_shares, uncertainty_split
from posterity.inference.predictive import PredictiveMixture
from posterity.models.mixtures import Mixture


def random_parameters(seed: int, draws: int, components: int, n: int = 6) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(seed)
    logits, loc, log_scale = (torch.randn(draws, n, components, generator=generator).double() for _ in range(3))
    return logits, 10 * loc, log_scale.exp()


def predictive_of(logits: torch.Tensor, loc: torch.Tensor, scale: torch.Tensor) -> PredictiveMixture:
    return PredictiveMixture.from_draws(Mixture.normal(logits, loc, scale))


shapes = {"seed": st.integers(0, 10_000), "draws": st.integers(1, 5), "components": st.integers(1, 4)}


@settings(max_examples=15, deadline=None)
@given(**shapes)
def test_terms_sum_to_the_total(seed, draws, components):
    split = uncertainty_split(predictive_of(*random_parameters(seed, draws, components)))
    np.testing.assert_allclose(split.noise + split.ambiguity + split.epistemic, split.total, rtol=1e-6)
    shares = split_shares(split)
    assert float(shares.noise + shares.ambiguity + shares.epistemic) == pytest.approx(1.0, rel=1e-9)


@settings(max_examples=15, deadline=None)
@given(**shapes)
def test_splitting_a_component_in_two_equal_ones_changes_nothing(seed, draws, components):
    logits, loc, scale = random_parameters(seed, draws, components)
    halves = torch.cat([logits[..., :1] - np.log(2), logits[..., :1] - np.log(2), logits[..., 1:]], -1)
    doubled = (torch.cat([values[..., :1], values], -1) for values in (loc, scale))
    before, after = (
        uncertainty_split(predictive_of(logits, loc, scale)),
        uncertainty_split(predictive_of(halves, *doubled)),
    )
    for name in ("noise", "ambiguity", "epistemic", "total"):
        np.testing.assert_allclose(after[name], before[name], rtol=1e-9, atol=1e-9)


def test_terms_equal_sums_over_draws_and_components():
    logits, loc, scale = random_parameters(0, 3, 2)
    split = uncertainty_split(predictive_of(logits, loc, scale))
    weight, means = torch.softmax(logits, -1), (torch.softmax(logits, -1) * loc).sum(-1)
    between = (weight * (loc - means[..., None]) ** 2).sum(-1)
    np.testing.assert_allclose(split.noise, (weight * scale**2).sum(-1).mean(0), rtol=1e-10)
    np.testing.assert_allclose(split.ambiguity, between.mean(0), rtol=1e-10)
    np.testing.assert_allclose(split.epistemic, means.var(0, correction=0), rtol=1e-10)


def test_bare_mixture_is_split_by_component():
    mixture = Mixture.normal(torch.zeros(1, 2), torch.tensor([-1.0, 1.0]), torch.full((1, 2), 0.5))
    split = uncertainty_split(mixture)
    assert set(split.data_vars) == {"within_component", "between_component", "total"}
    assert [float(split[name][0]) for name in ("within_component", "between_component", "total")] == [0.25, 1.0, 1.25]
    assert float(split_shares(split).between_component) == pytest.approx(0.8)


def test_each_target_has_its_own_split():
    loc = torch.tensor([[[0.0, 0.0]], [[2.0, 0.0]]])  # two draws that differ in the first of two targets
    split = uncertainty_split(PredictiveMixture.from_draws(dist.Normal(loc, 1.0).to_event(1)))
    assert split.epistemic.dims == ("obs", "target")
    assert split.epistemic.values.tolist() == [[1.0, 0.0]]
    np.testing.assert_allclose(split_shares(split).epistemic, [0.5, 0.0])


def test_blocks_of_rows_do_not_change_the_result(monkeypatch, tmp_path):
    predictive = predictive_of(*random_parameters(1, 3, 2, n=29))
    whole = uncertainty_split(predictive)
    monkeypatch.setattr("posterity.models.mixtures.row_chunks.CHUNK", 40)
    xr.testing.assert_identical(uncertainty_split(predictive), whole)
    whole.to_netcdf(tmp_path / "split.nc", engine="h5netcdf")


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match="expected a Mixture, got Normal"):
        uncertainty_split(dist.Normal(torch.zeros(3), 1.0))
    with pytest.raises(ValueError, match=r"expected a mixture of batch shape \(N,\), got \(2, 3\)"):
        uncertainty_split(Mixture.normal(torch.zeros(2, 3, 1), torch.zeros(2, 3, 1), torch.ones(2, 3, 1)))
    heavy = Mixture(dist.Categorical(logits=torch.zeros(3, 1)), dist.StudentT(torch.full((3, 1), 2.0)))
    with pytest.raises(ValueError, match="expected finite variances of the components"):
        uncertainty_split(heavy)
    with pytest.raises(ValueError, match=r"expected a result of uncertainty_split\(\), with noise"):
        split_shares(xr.Dataset({"noise": ("obs", [1.0])}))
    nothing = xr.Dataset({name: ("obs", [0.0]) for name in ("noise", "ambiguity", "epistemic", "total")})
    with pytest.raises(ValueError, match="expected totals above 0"):
        split_shares(nothing)


def test_angles_are_split_by_circular_variance():
    """1 - |E exp(iy)|, by 400,000 draws: four standard errors (seed 5); the terms sum to it."""
    torch.manual_seed(5)
    of_draws = torch.distributions.VonMises(
        torch.tensor([[0.0], [1.5], [3.0]]).double(), torch.tensor([[1.0], [4.0], [2.0]]).double()
    )
    predictive = PredictiveMixture.from_draws(of_draws)
    split = uncertainty_split(predictive)
    y = predictive.sample((400_000,))
    assert abs(float(split.total[0]) - float(1 - torch.exp(1j * y).mean().abs())) < 4 / np.sqrt(400_000)
    np.testing.assert_allclose(split.noise + split.ambiguity + split.epistemic, split.total, rtol=1e-9)
    assert float(split.epistemic[0]) > 0.1
