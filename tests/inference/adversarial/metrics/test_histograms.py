"""Separation powers of known distributions, and their floor."""

import math

import pytest
import torch

from posterity.inference.adversarial.metrics import histogram_pulls, separation_power


def test_the_floor_is_the_mean_for_equal_distributions() -> None:
    """Mean of 200 pairs of samples, seed 0, within 4 standard errors of the floor."""
    random = torch.Generator().manual_seed(0)
    found = [
        separation_power(torch.rand(2000, generator=random), torch.rand(3000, generator=random), bins=20)
        for _ in range(200)
    ]
    power = torch.tensor([one.power for one in found])
    assert abs(float(power.mean()) - found[0].floor) < 4 * float(power.std()) / math.sqrt(200) + 0.02 * found[0].floor


def test_known_separations() -> None:
    """Uniform on (0, 1) against (0, 2): shares of 1 and 1/2 on one half, 0 and 1/2 on the other: 1/12 + 1/4 = 1/3."""
    random = torch.Generator().manual_seed(1)
    found = separation_power(torch.rand(100_000, generator=random), 2 * torch.rand(100_000, generator=random))
    assert found.power == pytest.approx(1 / 3, abs=0.005)
    apart = separation_power(torch.rand(1000, generator=random) - 5, torch.rand(1000, generator=random), bins=2)
    assert apart.power == pytest.approx(((1 - 0.5) ** 2 / 1.5 + 0.5) / 2, abs=0.02)


def test_units_do_not_matter() -> None:
    random = torch.Generator().manual_seed(2)
    x, y = torch.randn(500, generator=random), torch.randn(400, generator=random) + 0.3
    one, other = separation_power(x.double(), y.double()), separation_power(8 * x.double() + 32, 8 * y.double() + 32)
    assert one.power == pytest.approx(other.power, abs=0.02)


def test_zeros_have_a_bin_of_their_own() -> None:
    x = torch.cat([torch.zeros(700), 1 + torch.rand(300, generator=torch.Generator().manual_seed(3))])
    same = separation_power(x, x)
    assert same.power == 0
    assert same.bins < 20
    for sign in (1, -1):
        assert separation_power(sign * x.clamp_min(0.99), sign * x).power > 0.65
        assert separation_power(sign * torch.full((1000,), 5.0), torch.zeros(1000)).power == 1


def test_equal_values_of_another_dtype_are_equal() -> None:
    assert separation_power(torch.full((500,), 0.7), torch.full((500,), 0.7, dtype=torch.double)).power == 0


@pytest.mark.parametrize(
    ("sample", "reference", "bins", "complaint"),
    [
        (torch.ones(249), torch.ones(300), 50, r"sample of shape \(N,\), N of 250 or more"),
        (torch.ones(300), torch.ones(300, 1), 50, "reference of shape"),
        (torch.full((300,), math.nan), torch.ones(300), 50, "sample"),
        (torch.ones(100), torch.ones(100), 1, "bins"),
    ],
)
def test_bad_samples_are_refused(sample: torch.Tensor, reference: torch.Tensor, bins: int, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        separation_power(sample, reference, bins=bins)


def ensemble(bias: float, spread: float, random: torch.Generator, members: int = 8) -> torch.Tensor:
    """Members that are normal samples around centres of their own, (members, 4000)."""
    centres = bias + spread * torch.randn(members, 1, generator=random)
    return centres + torch.randn(members, 4000, generator=random)


@pytest.mark.parametrize("spread", [0.0, 0.1])
def test_pulls_are_one_wide_if_the_reference_is_one_more_member(spread: float) -> None:
    """Root mean square of the pulls of 150 ensembles, seed 0: 1 within 12%."""
    random = torch.Generator().manual_seed(0)
    pulls = torch.cat(
        [histogram_pulls(ensemble(0.0, spread, random), ensemble(0.0, spread, random, 1)[0]).pulls for _ in range(150)]
    )
    assert float(pulls.square().mean().sqrt()) == pytest.approx(1, abs=0.12)


def test_a_common_error_makes_pulls_wide_and_a_factor_narrow() -> None:
    random = torch.Generator().manual_seed(1)
    members, reference = ensemble(0.2, 0.03, random), torch.randn(4000, generator=random)
    found = histogram_pulls(members, reference)
    assert float(found.pulls.abs().max()) > 3
    larger = histogram_pulls(members, reference, factor=5.0)
    assert float(larger.pulls.std()) < 0.5 * float(found.pulls.std())
    torch.testing.assert_close(found.pulls * found.error, found.share - found.reference)


def test_the_spread_is_that_of_the_members_beyond_their_finite_samples() -> None:
    """Equal members have none. Shares that differ by 10% of sqrt(p (1 - p)) have 0.1."""
    random = torch.Generator().manual_seed(2)
    assert histogram_pulls(ensemble(0.0, 0.0, random), torch.randn(4000, generator=random)).spread < 0.01
    members = torch.stack([(torch.rand(50_000, generator=random) < 0.5 + shift).float() for shift in (-0.05, 0.05)])
    reference = (torch.rand(50_000, generator=random) < 0.5).float()
    assert histogram_pulls(members, reference, bins=2).spread == pytest.approx(0.05 * math.sqrt(2) / 0.5, rel=0.1)


def test_equal_values_of_another_dtype_have_no_pull() -> None:
    values = torch.arange(30).repeat(100).double() / 30
    found = histogram_pulls(values.float().expand(3, -1), values)
    assert float(found.pulls.abs().max()) < 1e-9


@pytest.mark.parametrize(
    ("samples", "reference", "settings", "complaint"),
    [
        (torch.ones(1, 100), torch.ones(100), {}, "at least 2 members"),
        (torch.ones(100), torch.ones(100), {}, r"samples of shape \(M, n\), n at least 50"),
        (torch.ones(2, 100), torch.ones(20), {}, r"reference of shape \(N,\), N at least 50"),
        (torch.ones(2, 100), torch.full((100,), math.nan), {}, "reference"),
        (torch.ones(2, 100), torch.ones(100), {"bins": 1}, "bins"),
        (torch.ones(2, 100), torch.ones(100), {"factor": 0.0}, "factor"),
    ],
)
def test_bad_ensembles_are_named(
    samples: torch.Tensor, reference: torch.Tensor, settings: dict[str, float], complaint: str
) -> None:
    with pytest.raises(ValueError, match=complaint):
        histogram_pulls(samples, reference, **settings)  # type: ignore[arg-type]
