"""Batches of rows: their scaled log joint is that of all rows on average, and each site counts as often as its rows."""

import pyro
import pyro.distributions as dist
import pytest
import torch

from posterity.inference import SVI, infer
from posterity.inference.program.minibatch import ScaleObservations, check_rows, count_rows, row_terms, take_rows
from posterity.inference.program.sites import inspect

ROWS, NOISE = 40, 0.5
GENERATOR = torch.Generator().manual_seed(0)
X = torch.randn(ROWS, 3, generator=GENERATOR)
Y = X @ torch.tensor([1.0, -2.0, 0.5]) + NOISE * torch.randn(ROWS, generator=GENERATOR)


def linear(x, y=None):
    w = pyro.sample("w", dist.Normal(torch.zeros(3), 2.0).to_event(1))
    with pyro.plate("obs", len(x)):
        return pyro.sample("y", dist.Normal(x @ w, NOISE), obs=y)


def linear_without_plate(x, y=None):
    w = pyro.sample("w", dist.Normal(torch.zeros(3), 2.0).to_event(1))
    return pyro.sample("y", dist.Normal(x @ w, NOISE).to_event(1), obs=y)


@pytest.mark.parametrize("model", [linear, linear_without_plate])
def test_the_bound_of_a_batch_is_that_of_all_rows_on_average(model):
    """Over all batches of a fixed draw, the scaled log joint averages to the full one exactly."""
    program = inspect(model, (X, Y))
    plates, sites = row_terms(model, (X, Y), program)
    assert plates == (("obs",) if model is linear else ())
    fixed = pyro.poutine.condition(model, data={"w": torch.tensor([0.9, -2.1, 0.4])})
    full = pyro.poutine.trace(fixed).get_trace(X, Y).log_prob_sum()
    scaled = []
    for rows in torch.arange(ROWS).reshape(5, 8):
        with ScaleObservations(program, plates, 8, ROWS, sites):
            scaled.append(pyro.poutine.trace(fixed).get_trace(X[rows], Y[rows]).log_prob_sum())
    torch.testing.assert_close(torch.stack(scaled).mean(), full)


def test_a_group_of_the_size_of_a_batch_is_not_taken_for_it():
    """Five groups and batches of five rows: the groups' prior counts once, and a local latent site as its rows do."""

    def model(x, y=None):
        groups = pyro.plate("groups", 5, dim=-1)
        with groups:
            group = pyro.sample("group", dist.Normal(0.0, 1.0))
        with pyro.plate("rows", len(x), dim=-2):
            own = pyro.sample("own", dist.Normal(0.0, 1.0))
            with groups:
                return pyro.sample("y", dist.Normal(group + own + x[:, None], 1.0), obs=y)

    x, y = torch.zeros(20), torch.zeros(20, 5)
    rows = torch.arange(5)
    program = inspect(model, (x, y))
    assert row_terms(model, (x, y), program)[0] == ("rows",)
    with ScaleObservations(program, ("rows",), 5, 20):
        nodes = pyro.poutine.trace(model).get_trace(x[rows], y[rows]).nodes
    assert {n: nodes[n]["scale"] for n in ("group", "own", "y")} == {"group": 1.0, "own": 4.0, "y": 4.0}


def test_batches_from_a_plate_and_from_the_settings_raise():
    def subsampled(x, y=None):
        w = pyro.sample("w", dist.Normal(torch.zeros(3), 1.0).to_event(1))
        with pyro.plate("obs", len(x), subsample_size=4) as rows:
            return pyro.sample("y", dist.Normal(x[rows] @ w, 1.0), obs=y[rows])

    with pytest.raises(ValueError, match="expected batches from the model's plate or from batch_size, got both"):
        infer(subsampled, X, Y, method=SVI(batch_size=10, steps=2, progress=False))


def test_rows_that_depend_on_each_other_cannot_be_scaled():
    def model(x, y=None):
        w = pyro.sample("w", dist.Normal(0.0, 1.0))
        covariance = torch.eye(len(x)) + 0.5
        return pyro.sample("y", dist.MultivariateNormal(w * x[:, 0], covariance), obs=y)

    with pytest.raises(ValueError, match="expected no batch_size for rows that are not independent, got Multivariate"):
        row_terms(model, (X, Y), inspect(model, (X, Y)))


def test_rows_are_taken_from_every_tensor_of_the_longest_length():
    args = (torch.arange(6).reshape(3, 2), "a", torch.tensor(7.0), torch.arange(3))
    first, text, scalar, last = take_rows(args, torch.tensor([2, 0]))
    assert first.tolist() == [[4, 5], [0, 1]]
    assert (text, float(scalar)) == ("a", 7.0)
    assert last.tolist() == [2, 0]
    assert count_rows(args) == 3
    assert count_rows((torch.zeros(5), torch.tensor(1.0))) == 5
    assert (count_rows(()), count_rows((torch.tensor(1.0), "a"))) == (1, 1)
    data = {"rows": torch.arange(3), "of": {"groups": torch.arange(2), "rows": 2 * torch.arange(3)}}
    (some,) = take_rows((data,), torch.tensor([2]))
    assert (some["rows"].tolist(), some["of"]["groups"].tolist(), some["of"]["rows"].tolist()) == ([2], [0, 1], [4])


def test_rows_that_cannot_be_left_out_raise():
    check_rows((X, "a"), ROWS)
    with pytest.raises(
        ValueError, match="expected arguments with a row for each of 40 observations, got 1 rows: data in"
    ):
        check_rows((), ROWS)


def test_batches_of_a_model_with_a_site_for_each_row_raise():
    def loop(x, y=None):
        w = pyro.sample("w", dist.Normal(0.0, 1.0))
        for i in pyro.plate("obs", len(x)):
            pyro.sample(f"y_{i}", dist.Normal(w * x[i, 0], 1.0), obs=None if y is None else y[i])

    with pytest.raises(ValueError, match="expected no batch_size for a model with a site for each row, such as 'y_39'"):
        infer(loop, X, Y, method=SVI(steps=2, batch_size=4, progress=False))
