"""Terms that count once per data set, by exact log joints: inside plates, with minibatches, under a scale."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn

from posterity.data import Observations, Standardization
from posterity.inference import SVI, Ensemble, infer
from posterity.inference.program.minibatch import ScaleObservations, row_terms
from posterity.inference.program.sites import inspect
from posterity.inference.program.trace import trace
from posterity.models import bayesian, gaussian, mixture_head, mixture_priors, mlp, point

N = 40
X = torch.linspace(-1, 1, N)[:, None]
Y = torch.sin(3 * X[:, 0])
NET, DECAY = mlp(1, 3, 6, seed=0), 0.7
HEAD = mixture_head(2)
PRIOR = mixture_priors.WideScales(strength=2.0)


def outside(x, y=None, size=None):
    mixture = HEAD(point("net", NET, decay=DECAY)(x))
    PRIOR("prior", mixture)
    with pyro.plate("obs", len(x) if size is None else size, subsample_size=len(x)):
        return pyro.sample("y", mixture, obs=y)


def inside(x, y=None, size=None):
    with pyro.plate("obs", len(x) if size is None else size, subsample_size=len(x)):
        mixture = HEAD(point("net", NET, decay=DECAY)(x))
        PRIOR("prior", mixture)
        return pyro.sample("y", mixture, obs=y)


def nested(x, y=None, size=None):
    with pyro.plate("outer", 1, dim=-2), pyro.plate("inner", len(x), dim=-1):
        mixture = HEAD(point("net", NET, decay=DECAY)(x))
        PRIOR("prior", mixture)
    with pyro.plate("obs", len(x)):
        return pyro.sample("y", mixture, obs=y)


def terms(model, *args, **kwargs):
    """Log densities of the sites, summed and scaled as an ELBO would."""
    trace = pyro.poutine.trace(model).get_trace(*args, **kwargs)
    trace.compute_log_prob()
    return {n: node["log_prob_sum"].item() for n, node in trace.nodes.items() if node["type"] == "sample"}


@torch.no_grad()
def expected_terms():
    mixture = HEAD(NET(X))
    ratio = mixture.component_distribution.scale.square().log() - 2 * torch.tensor(0.3).log()
    return {
        "net.decay": float(-0.5 * DECAY * sum((p**2).sum() for p in NET.parameters())),
        "prior": float(2.0 * (-2 * (ratio + torch.exp(-ratio) - 1)).sum(-1).mean()),
        "y": float(mixture.log_prob(Y).sum()),
    }


@pytest.mark.parametrize("model", [outside, inside, nested])
def test_decay_and_mixture_priors_count_once(model):
    found = terms(model, X, Y)
    for name, value in expected_terms().items():
        assert found[name] == pytest.approx(value, rel=1e-5), name


@pytest.mark.parametrize("model", [outside, inside])
def test_a_plate_that_takes_some_rows_scales_the_rows_alone(model):
    """A plate of 400 rows with 40 of them: the observations count ten times, other terms once."""
    found, whole = terms(model, X, Y, size=400), expected_terms()
    assert found["y"] == pytest.approx(10 * whole["y"], rel=1e-5)
    assert found["net.decay"] == pytest.approx(whole["net.decay"], rel=1e-5)
    assert found["prior"] == pytest.approx(whole["prior"], rel=1e-5)


@pytest.mark.parametrize("model", [outside, inside])
def test_batches_of_rows_scale_the_rows_alone(model):
    program = inspect(model, (X, Y))
    plates, _ = row_terms(model, (X, Y), program)
    with ScaleObservations(program, plates, 10, N):
        batch = terms(model, X[:10], Y[:10])
    alone = terms(model, X[:10], Y[:10])
    assert batch["y"] == pytest.approx(4 * alone["y"], rel=1e-5)
    assert batch["net.decay"] == pytest.approx(alone["net.decay"])
    assert batch["prior"] == pytest.approx(alone["prior"])


def test_a_scale_around_the_whole_model_scales_all_of_it():
    """``pyro.poutine.scale`` is meant to scale all terms, unlike a plate."""
    found = terms(pyro.poutine.scale(inside, 0.1), X, Y)
    for name, value in expected_terms().items():
        assert found[name] == pytest.approx(0.1 * value, rel=1e-5), name


def test_vectorised_particles_of_pyros_leave_the_loss_as_it_is():
    """The plate of the particles divides by their number: its terms count once for each particle."""
    losses = []
    for particles in (1, 4):
        elbo = pyro.infer.Trace_ELBO(num_particles=particles, vectorize_particles=particles > 1, max_plate_nesting=1)
        losses.append(elbo.loss(inside, lambda *args: None, X, Y))
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)


def test_members_with_decay_inside_a_plate_do_not_collapse():
    """As outside the plate. Multiplied by N, a decay of one would make every member a constant."""
    scale, net = Standardization.fit(Observations(X, Y)), mlp(1, 8, 1, seed=0)

    def model(x, y=None):
        with pyro.plate("obs", len(x)):
            mean = point("net", net, decay=0.1)(scale.x(x))
            return pyro.sample("y", gaussian(mean, 0.1), obs=y)

    method = Ensemble(members=2, steps=300, learning_rate=0.03, progress=False)
    found = infer(model, X, Y, method=method).predictive(X).mean
    assert float((found - Y).square().mean()) < 0.1 * float(Y.var())


def test_weights_inside_a_plate_are_refused_by_its_name():
    def model(x):
        with pyro.plate("rows", len(x)):
            return bayesian("net", nn.Linear(1, 1))(x)

    with pytest.raises(ValueError, match=r"expected bayesian\('net'\) outside plates, got it inside plate 'rows'"):
        model(X)


def test_a_plate_that_is_iterated_over_is_no_plate_of_rows():
    def model():
        for group in pyro.plate("groups", 3):
            bayesian(f"net{group}", nn.Linear(1, 1), dist.Normal(0.0, 1.0))

    assert "net2.bias" in pyro.poutine.trace(model).get_trace().stochastic_nodes


def two_plates(x, y=None, z=None):
    a = pyro.sample("a", dist.Normal(0.0, 10.0))
    with pyro.plate("first", len(x)):
        pyro.sample("y", dist.Normal(a + 0 * x[:, 0], 0.5), obs=y)
    with pyro.plate("second", len(x)):
        pyro.sample("z", dist.Normal(a - x[:, 0], 2.0), obs=z)


def two_events(x, y=None, z=None):
    a = pyro.sample("a", dist.Normal(0.0, 10.0))
    pyro.sample("y", dist.Normal(a + 0 * x[:, 0], 0.5).to_event(1), obs=y)
    pyro.sample("z", dist.Normal(a - x[:, 0], 2.0).to_event(1), obs=z)


def a_plate_as_long_as_the_data(x, y=None):
    """With as many targets as rows: the plate of the targets does not shrink with a minibatch."""
    targets = pyro.plate("targets", N, dim=-1)
    with targets:
        a = pyro.sample("a", dist.Normal(0.0, 1.0))
    with pyro.plate("rows", len(x), dim=-2), targets:
        pyro.sample("y", dist.Normal(a, 1.0), obs=y)


@pytest.mark.parametrize(
    ("model", "data"),
    [(two_plates, (Y, Y + 1)), (two_events, (Y, Y + 1)), (a_plate_as_long_as_the_data, (Y[:, None] + torch.zeros(N),))],
)
def test_batches_average_to_the_log_joint_of_all_rows(model, data):
    args = (X, *data)
    program = inspect(model, args, "y")
    plates, sites = row_terms(model, args, program)
    latents = {name: node["value"] for name, node in trace(model, args, seed=3).items() if name in program.latents}
    given = pyro.condition(model, latents)
    whole = pyro.poutine.trace(given).get_trace(*args).log_prob_sum()
    batches = []
    for rows in torch.arange(N).split(10):
        with ScaleObservations(program, plates, 10, N, sites):
            batches.append(pyro.poutine.trace(given).get_trace(*(value[rows] for value in args)).log_prob_sum())
    torch.testing.assert_close(torch.stack(batches).mean(), whole)


def test_rows_that_are_not_independent_have_no_batches():
    def model(x, y=None):
        a = pyro.sample("a", dist.Normal(0.0, 1.0))
        covariance = torch.eye(len(x)) + 0.5
        return pyro.sample("y", dist.MultivariateNormal(a + 0 * x[:, 0], covariance), obs=y)

    said = "expected no batch_size for rows that are not independent, got MultivariateNormal at 'y'"
    for method in (SVI(steps=2, batch_size=10, progress=False), Ensemble(steps=2, batch_size=10, progress=False)):
        with pytest.raises(ValueError, match=said):
            infer(model, X, Y, method=method)
    infer(model, X, Y, method=SVI(steps=2, progress=False))
