import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn

from posterity.inference.program.likelihood import likelihood_over_draws
from posterity.inference.program.observation import observed_value
from posterity.inference.program.sites import inspect
from posterity.models import bayesian, gaussian, heteroscedastic_gaussian, mixture_head, mlp, point, priors, student_t
from posterity.random import child_seeds, seeded

N, S = 6, 5
X = torch.linspace(-1, 1, N)[:, None]
NET1, NET2, NET6, NET3 = mlp(1, 4, 1, seed=0), mlp(1, 4, 2, seed=1), mlp(1, 4, 6, seed=2), mlp(1, 4, 3, seed=3)
CONVOLUTION = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(8, 3))


def simple(likelihood, net=NET1, prior=None):
    """A model of one network whose features become the distribution of y, in the plate "obs"."""

    def model(x, y=None):
        features = bayesian("net", net, prior)(x)
        with pyro.plate("obs", len(x)):
            return pyro.sample("y", likelihood(features), obs=y)

    return model


def with_noise(x, y=None):
    features = bayesian("net", NET1)(x)
    noise = pyro.sample("noise", dist.HalfNormal(1.0))
    with pyro.plate("obs", len(x)):
        return pyro.sample("y", gaussian(features, noise), obs=y)


def masked(x, y=None):
    features = bayesian("net", NET1)(x)
    with pyro.plate("obs", len(x)), pyro.poutine.mask(mask=x[:, 0] > 0):
        return pyro.sample("y", gaussian(features, 0.3), obs=y)


def without_plate(x, y=None):
    return pyro.sample("y", gaussian(bayesian("net", NET1)(x), 0.3).to_event(1), obs=y)


def with_decay(x, y=None):
    features = point("net", NET1, decay=1.0)(x)
    with pyro.plate("obs", len(x)):
        return pyro.sample("y", gaussian(features, 0.3), obs=y)


def varying_slopes(x, y=None):
    """Groups in a plate of their own, and a deterministic site."""
    group = torch.arange(len(x)) % 3
    overall = pyro.sample("overall", dist.Normal(0.0, 1.0))
    with pyro.plate("groups", 3):
        own = pyro.sample("own", dist.Normal(0.0, 1.0))
    slope = pyro.deterministic("slope", overall + 0.5 * own, event_dim=1)
    with pyro.plate("obs", len(x)):
        return pyro.sample("y", dist.Normal(slope[group] * x[:, 0], 0.5), obs=y)


def covariance(x, y=None):
    scale = pyro.sample("scale", dist.HalfNormal(torch.ones(2)).to_event(1))
    tril = scale[:, None] * pyro.sample("corr", dist.LKJCholesky(2, 1.0))
    loc = bayesian("net", NET2)(x)
    with pyro.plate("obs", len(x)):
        return pyro.sample("y", dist.MultivariateNormal(loc, scale_tril=tril), obs=y)


MODELS = {
    "Gaussian": (with_noise, X),
    "heteroscedastic": (simple(heteroscedastic_gaussian, NET2), X),
    "mixture density": (simple(mixture_head(2), NET6), X),
    "Student-t": (simple(lambda f: student_t(f, 0.5, 4.0)), X),
    "to_event": (simple(lambda f: dist.Normal(f, 0.5).to_event(1), NET2), X),
    "no plate": (without_plate, X),
    "masked": (masked, X),
    "hierarchical prior": (simple(lambda f: gaussian(f, 0.3), prior=priors.HierarchicalNormal()), X),
    "horseshoe": (simple(lambda f: gaussian(f, 0.3), prior=priors.Horseshoe()), X),
    "classifier": (simple(lambda f: dist.Categorical(logits=f), CONVOLUTION), torch.randn(N, 1, 4, 4)),
    "one hot": (simple(lambda f: dist.OneHotCategorical(logits=f), NET3), X),
    "Bernoulli": (simple(lambda f: dist.Bernoulli(logits=f[:, 0])), X),
    "Poisson": (simple(lambda f: dist.Poisson(f[:, 0].exp())), X),
    "negative binomial": (simple(lambda f: dist.NegativeBinomial(4.0, logits=f[:, 0])), X),
    "multinomial": (simple(lambda f: dist.Multinomial(5, logits=f), NET3), X),
    "Beta": (simple(lambda f: dist.Beta(f[:, 0].exp(), f[:, 1].exp()), NET2), X),
    "LogNormal": (simple(lambda f: dist.LogNormal(f[:, 0], f[:, 1].exp()), NET2), X),
    "Gamma": (simple(lambda f: dist.Gamma(f[:, 0].exp(), f[:, 1].exp()), NET2), X),
    "groups and deterministic": (varying_slopes, X),
    "full covariance": (covariance, X),
    "mixture of events": (
        simple(
            lambda f: dist.MixtureSameFamily(
                dist.Categorical(logits=f[:, :2]),
                dist.Normal(f[:, 2:].unflatten(-1, (2, 2)), 0.4).to_event(1),
            ),
            NET6,
        ),
        X,
    ),
}


def prior_draws(model, x):
    """S independent draws of all latent sites, stacked."""
    traces = [pyro.poutine.trace(model).get_trace(x) for _ in range(S)]
    latents = [n for n in traces[0].stochastic_nodes if n not in ("y", "obs", "groups")]
    return {n: torch.stack([trace.nodes[n]["value"].detach() for trace in traces]) for n in latents}


@pytest.mark.parametrize("name", MODELS)
def test_all_draws_at_once_equal_a_loop_over_draws(name):
    """Against Pyro itself: `condition` on one draw at a time; density to 1e-5, each deterministic site exactly."""
    model, x = MODELS[name]
    draws = prior_draws(model, x)
    y = model(x).detach()
    likelihood, deterministics = likelihood_over_draws(model, (x,), draws, "y")
    for s in range(S):
        conditioned = pyro.poutine.condition(model, data={n: v[s] for n, v in draws.items()})
        nodes = pyro.poutine.trace(conditioned).get_trace(x).nodes
        fn = nodes["y"]["fn"]
        fn = fn.base_dist if hasattr(fn, "_mask") else fn
        torch.testing.assert_close(likelihood.log_prob(y)[s], fn.log_prob(y), atol=1e-5, rtol=1e-5)
        for site, values in deterministics.items():
            torch.testing.assert_close(values[s], nodes[site]["value"])
    assert likelihood.batch_shape[0] == S
    assert type(likelihood).__name__ == type(fn).__name__


def test_deterministic_sites_come_with_the_likelihood():
    draws = prior_draws(varying_slopes, X)
    _, deterministics = likelihood_over_draws(varying_slopes, (X,), draws, "y")
    torch.testing.assert_close(deterministics["slope"], draws["overall"][:, None] + 0.5 * draws["own"])


def test_chunks_change_nothing():
    draws = prior_draws(with_noise, X)
    whole, _ = likelihood_over_draws(with_noise, (X,), draws, "y")
    parts, _ = likelihood_over_draws(with_noise, (X,), draws, "y", chunk_size=2)
    torch.testing.assert_close(parts.mean, whole.mean)
    torch.testing.assert_close(parts.variance, whole.variance)


def test_draws_of_parameters_take_their_place():
    weights = {f"net.{n}": torch.randn(S, *p.shape) for n, p in NET1.named_parameters()}
    likelihood, _ = likelihood_over_draws(with_decay, (X,), weights, "y")
    for s in range(S):
        state = {n.removeprefix("net."): v[s] for n, v in weights.items()}
        expected = torch.func.functional_call(NET1, state, (X,))[:, 0]
        torch.testing.assert_close(likelihood.mean[s], expected.detach())


def test_other_inputs_than_those_of_training():
    draws = prior_draws(with_noise, X)
    assert likelihood_over_draws(with_noise, (torch.zeros(11, 1),), draws, "y")[0].batch_shape == (S, 11)


def test_a_site_that_belongs_to_each_row_cannot_move_to_other_rows():
    def local(x, y=None):
        with pyro.plate("obs", len(x)):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            return pyro.sample("y", dist.Normal(z, 1.0), obs=y)

    draws = {"z": torch.randn(S, N)}
    torch.testing.assert_close(likelihood_over_draws(local, (X,), draws, "y")[0].mean, draws["z"])
    with pytest.raises(ValueError, match=r"expected draws of 'z' of shape \(9,\) with these inputs, got \(6,\)"):
        likelihood_over_draws(local, (torch.zeros(9, 1),), draws, "y")


def test_random_numbers_of_the_models_own_raise():
    def model(x, y=None):
        w = pyro.sample("w", dist.Normal(0.0, 1.0))
        with pyro.plate("obs", len(x)):
            return pyro.sample("y", dist.Normal(w * x[:, 0] + torch.randn(len(x)), 1.0), obs=y)

    with pytest.raises(ValueError, match=r"expected all randomness in pyro.sample statements .* random numbers of"):
        likelihood_over_draws(model, (X,), {"w": torch.zeros(S)}, "y")


def test_dropout_in_training_mode_raises_and_in_evaluation_mode_works():
    net = nn.Sequential(nn.Linear(1, 8), nn.Dropout(0.5), nn.Linear(8, 1))
    model = simple(lambda f: gaussian(f, 0.3), net)
    draws = {f"net.{n}": torch.randn(S, *p.shape) for n, p in net.named_parameters()}
    with pytest.raises(ValueError, match=r"dropout off: module.eval\(\)"):
        likelihood_over_draws(model, (X,), draws, "y")
    net.eval()
    assert likelihood_over_draws(model, (X,), draws, "y")[0].batch_shape == (S, N)


def test_draws_that_do_not_fit_raise():
    draws = prior_draws(with_noise, X)
    with pytest.raises(ValueError, match=r"expected draws of one number for all sites, got \[4, 5\]"):
        likelihood_over_draws(with_noise, (X,), {**draws, "noise": torch.ones(4)}, "y")
    missing = {n: v for n, v in draws.items() if n != "noise"}
    with pytest.raises(ValueError, match="expected draws of every latent site, got none of 'noise'"):
        likelihood_over_draws(with_noise, (X,), missing, "y")
    with pytest.raises(ValueError, match="expected the model to reach site 'z'"):
        likelihood_over_draws(lambda x: pyro.sample("w", dist.Normal(0.0, 1.0)), (X,), {"w": torch.zeros(S)}, "z")


def test_validation_is_off_inside_and_as_before_after():
    seen = []

    def model(x, y=None):
        seen.append(torch.distributions.Distribution._validate_args)
        return with_noise(x, y)

    likelihood_over_draws(model, (X,), prior_draws(with_noise, X), "y")
    assert seen == [False]
    assert torch.distributions.Distribution._validate_args


# Reading a program


def test_what_is_in_a_model():
    program = inspect(varying_slopes, (X, torch.zeros(N)))
    assert program.site == "y"
    assert program.plates == ("obs",)
    assert program.latents == ("overall", "own")
    assert program.deterministics == ("slope",)
    assert program.parameters == ()


def test_parameters_and_a_factor_are_no_observations():
    program = inspect(with_decay, (X, torch.zeros(N)))
    assert (program.site, program.latents, program.deterministics) == ("y", (), ())
    assert set(program.parameters) == {f"net.{n}" for n, _ in NET1.named_parameters()}


def test_plates_go_from_outer_to_inner():
    def model(y=None):
        w = pyro.sample("w", dist.Normal(0.0, 1.0))
        with pyro.plate("rows", 4, dim=-2), pyro.plate("columns", 3, dim=-1):
            pyro.sample("y", dist.Normal(w, 1.0), obs=y)

    assert inspect(model, (torch.zeros(4, 3),)).plates == ("rows", "columns")


def test_several_observed_sites_need_a_name():
    def model(y=None):
        w = pyro.sample("w", dist.Normal(0.0, 1.0))
        pyro.sample("a", dist.Normal(w, 1.0), obs=y)
        pyro.sample("b", dist.Normal(w, 1.0), obs=y)

    with pytest.raises(ValueError, match=r"expected one observed site or the name of one .* got \['a', 'b'\]"):
        inspect(model, (torch.tensor(0.0),))
    assert inspect(model, (torch.tensor(0.0),), "b").site == "b"
    with pytest.raises(ValueError, match=r"expected a model with an observed site 'c' .* got observed sites"):
        inspect(model, (torch.tensor(0.0),), "c")


def test_no_observed_site_raises():
    with pytest.raises(ValueError, match=r"expected a model with an observed site \(obs=y\)"):
        inspect(with_noise, (X,))


def test_a_discrete_latent_site_raises():
    def model(y=None):
        k = pyro.sample("k", dist.Categorical(torch.ones(3) / 3))
        pyro.sample("y", dist.Normal(k.float(), 1.0), obs=y)

    with pytest.raises(ValueError, match=r"expected continuous latent sites .* got 'k'"):
        inspect(model, (torch.tensor(0.0),))


def test_the_callers_random_state_and_parameters_are_untouched():
    pyro.param("net.hidden1.weight", torch.tensor(7.0))
    state = torch.get_rng_state()
    inspect(with_decay, (X, torch.zeros(N)))
    assert torch.equal(torch.get_rng_state(), state)
    assert list(pyro.get_param_store()) == ["net.hidden1.weight"]
    assert pyro.param("net.hidden1.weight") == 7.0


def test_a_subsampled_plate_is_no_latent_site():
    def model(x, y=None):
        w = pyro.sample("w", dist.Normal(0.0, 1.0))
        with pyro.plate("obs", len(x), subsample_size=2) as index:
            return pyro.sample("y", dist.Normal(w * x[index, 0], 1.0), obs=None if y is None else y[index])

    assert inspect(model, (X, torch.zeros(N))).latents == ("w",)


def test_seeds_of_streams_do_not_depend_on_how_many_there_are():
    assert child_seeds(3, 2) == child_seeds(3, 5)[:2]
    assert len({*child_seeds(3, 50), *child_seeds(4, 50)}) == 100
    assert all(0 <= seed < 2**63 for seed in child_seeds(0, 100))


def test_seeded_gives_the_state_back_even_after_an_error():
    state = torch.get_rng_state()

    def fails():
        with seeded(1):
            torch.randn(3)
            raise RuntimeError("inside")

    with pytest.raises(RuntimeError, match="inside"):
        fails()
    assert torch.equal(torch.get_rng_state(), state)
    with seeded(1):
        first = torch.randn(3)
    with seeded(1):
        np.testing.assert_array_equal(first, torch.randn(3))


def test_seeds_of_another_purpose_are_others():
    assert not {*child_seeds(3, 50)} & {*child_seeds(3, 50, 1), *child_seeds(3, 50, 0), *child_seeds(3, 50, 2)}
    assert child_seeds(3, 2, 1) == child_seeds(3, 5, 1)[:2]


def test_a_flat_prior_can_be_read():
    def model(x, y=None):
        a = pyro.sample("a", dist.ImproperUniform(dist.constraints.real, (), ()))
        s = pyro.sample("s", dist.ImproperUniform(dist.constraints.positive, (), (2,)))
        with pyro.plate("obs", len(x)):
            return pyro.sample("y", dist.Normal(a * x[:, 0], s.sum()), obs=y)

    assert inspect(model, (X, torch.zeros(N))).latents == ("a", "s")
    assert torch.equal(observed_value(model, (X, torch.ones(N)), "y"), torch.ones(N))


@pytest.mark.parametrize("kind", ["matrix", "scale", "scale at no draw"])
def test_a_draw_of_the_prior_at_which_the_model_is_not_defined_is_not_the_end(kind):
    """The first draw of r is 0.77: the matrix then has no Cholesky factor, and the scale is negative."""

    def model(x, y=None):
        r = pyro.sample("r", dist.Normal(0.0, 0.5))
        if kind == "matrix":
            torch.linalg.cholesky(torch.eye(20) - (1 - torch.eye(20)) * r)
        scale = {"matrix": 1.0, "scale": 0.3 - r, "scale at no draw": r - 9.0}[kind]
        with pyro.plate("obs", len(x)):
            return pyro.sample("y", dist.Normal(x[:, 0], scale), obs=y)

    assert inspect(model, (X, torch.zeros(N))).latents == ("r",)


def test_an_error_of_the_model_s_own_is_raised_as_it_is():
    def model(x, y=None):
        pyro.sample("w", dist.Normal(0.0, 1.0))
        raise ValueError("no such table")

    with pytest.raises(ValueError, match=r"^no such table"):
        inspect(model, (X, torch.zeros(N)))
