import pyro.distributions as dist
import pytest
import torch
import torch.distributions as td

from posterity.data.affine import affine

LOC, SCALE = torch.tensor(10.0), torch.tensor(3.0)
LOCS, SCALES = torch.tensor([10.0, -4.0]), torch.tensor([3.0, 0.5])
TRIL = torch.tensor([[1.0, 0.0], [0.6, 0.8]])


def scalar_families(lib):
    """One of each family with a scalar event, batch shape (4,)."""
    loc, scale = torch.linspace(-1, 1, 4), torch.linspace(0.5, 2, 4)
    weights = lib.Categorical(logits=torch.linspace(-1, 1, 12).reshape(4, 3))
    parts = torch.linspace(-2, 2, 12).reshape(4, 3)
    return [
        lib.Normal(loc, scale),
        lib.Laplace(loc, scale),
        lib.Cauchy(loc, scale),
        lib.Gumbel(loc, scale),
        lib.StudentT(5.0, loc, scale),
        lib.Uniform(-scale, 4 * scale),
        lib.MixtureSameFamily(weights, lib.Normal(parts, torch.ones(4, 3))),
        lib.MixtureSameFamily(weights, lib.StudentT(torch.full((4, 3), 4.0), parts, torch.ones(4, 3))),
    ]


def vector_families(lib):
    """One of each family with an event of two targets, batch shape (4,)."""
    loc = torch.linspace(-1, 1, 8).reshape(4, 2)
    weights = lib.Categorical(logits=torch.linspace(-1, 1, 12).reshape(4, 3))
    parts = torch.linspace(-2, 2, 24).reshape(4, 3, 2)
    return [
        lib.Independent(lib.Normal(loc, 0.5 + loc**2), 1),
        lib.Independent(lib.StudentT(5.0, loc, 0.5 + loc**2), 1),
        lib.MultivariateNormal(loc, scale_tril=TRIL.expand(4, 2, 2)),
        lib.LowRankMultivariateNormal(loc, torch.ones(4, 2, 1), 0.5 + loc**2),
        lib.MixtureSameFamily(weights, lib.Independent(lib.Normal(parts, torch.ones(4, 3, 2)), 1)),
        lib.MixtureSameFamily(weights, lib.MultivariateNormal(parts, scale_tril=TRIL.expand(4, 3, 2, 2))),
    ]


def label(distribution):
    return f"{type(distribution).__module__.split('.')[0]}-{type(distribution).__name__}"


SCALARS = [*scalar_families(td), *scalar_families(dist)]
VECTORS = [*vector_families(td), *vector_families(dist)]


@pytest.mark.parametrize("distribution", SCALARS, ids=label)
def test_density_is_the_change_of_variables(distribution):
    y = torch.linspace(-0.4, 1.9, 4)  # within every support
    moved = affine(distribution, LOC, SCALE)
    assert type(moved) is type(distribution)
    torch.testing.assert_close(moved.log_prob(LOC + SCALE * y), distribution.log_prob(y) - SCALE.log())


@pytest.mark.parametrize("distribution", VECTORS, ids=label)
def test_density_of_several_targets_is_the_change_of_variables(distribution):
    y = torch.linspace(-1.4, 1.9, 8).reshape(4, 2)
    moved = affine(distribution, LOCS, SCALES)
    assert type(moved) is type(distribution)
    expected = distribution.log_prob(y) - SCALES.log().sum()
    torch.testing.assert_close(moved.log_prob(LOCS + SCALES * y), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("distribution", [d for d in SCALARS if "Cauchy" not in label(d)], ids=label)
def test_moments_move_with_the_distribution(distribution):
    moved = affine(distribution, LOC, SCALE)
    torch.testing.assert_close(moved.mean, LOC + SCALE * distribution.mean)
    torch.testing.assert_close(moved.variance, SCALE**2 * distribution.variance)


@pytest.mark.parametrize("distribution", VECTORS, ids=label)
def test_moments_of_several_targets_move_with_the_distribution(distribution):
    moved = affine(distribution, LOCS, SCALES)
    torch.testing.assert_close(moved.mean, LOCS + SCALES * distribution.mean)
    torch.testing.assert_close(moved.variance, SCALES**2 * distribution.variance)


def test_a_covariance_is_scaled_on_both_sides():
    moved = affine(td.MultivariateNormal(torch.zeros(2), scale_tril=TRIL), LOCS, SCALES)
    expected = SCALES.diag() @ TRIL @ TRIL.T @ SCALES.diag()
    torch.testing.assert_close(moved.covariance_matrix, expected)


@pytest.mark.parametrize("distribution", [d for d in SCALARS if type(d).__name__ in ("Normal", "Laplace")], ids=label)
def test_the_distribution_function_stays_analytic(distribution):
    y = torch.linspace(-1, 1, 4)
    torch.testing.assert_close(affine(distribution, LOC, SCALE).cdf(LOC + SCALE * y), distribution.cdf(y))


def test_a_distribution_may_answer_itself():
    class Mine(td.Normal):
        def affine(self, loc, scale):
            return ("mine", loc, scale)

    assert affine(Mine(0.0, 1.0), 1.0, 2.0) == ("mine", 1.0, 2.0)


def test_numbers_follow_the_distribution():
    assert affine(td.Normal(torch.zeros(2), torch.ones(2)), 10.0, 3.0).loc.tolist() == [10.0, 10.0]
    joint = td.MultivariateNormal(torch.zeros(2).double(), torch.eye(2).double())
    assert affine(joint, 0.1, 0.1).scale_tril.tolist() == [[0.1, 0.0], [0.0, 0.1]]  # not float32's 0.1


@pytest.mark.parametrize("distribution", [*SCALARS, *VECTORS], ids=label)
def test_a_place_in_float64_keeps_its_digits(distribution):
    """A time stamp has 11 digits, of which float32 keeps 7: a prediction half a second apart is another one."""
    moved = affine(distribution, torch.tensor(1_700_000_000.5, dtype=torch.float64), torch.tensor(0.25).double())
    if not isinstance(distribution, td.Cauchy):  # which has no mean
        torch.testing.assert_close(moved.mean, 1_700_000_000.5 + 0.25 * distribution.mean.double(), rtol=0, atol=1e-6)
    assert moved.log_prob(moved.sample()).dtype == torch.float64


def test_what_is_no_number_is_refused():
    with pytest.raises(ValueError, match="expected scale to be a finite number or a tensor, got None"):
        affine(td.Normal(0.0, 1.0), 0.0, None)


def test_validation_stays_as_it_was():
    on, off = (td.Normal(torch.zeros(2), torch.ones(2), validate_args=flag) for flag in (True, False))
    assert affine(on, LOC, SCALE)._validate_args
    assert not affine(off, LOC, SCALE)._validate_args


@pytest.mark.parametrize(
    "distribution",
    [
        td.LogNormal(0.0, 1.0),
        td.Gamma(2.0, 1.0),
        td.Poisson(3.0),
        td.Independent(td.Exponential(torch.ones(2)), 1),
    ],
    ids=label,
)
def test_families_that_are_not_closed_are_refused(distribution):
    with pytest.raises(ValueError, match=r"expected a location-scale family \(Normal, .*, got (L|G|P|E)\w+$"):
        affine(distribution, LOC, SCALE)
