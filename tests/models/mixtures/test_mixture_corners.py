"""What a sceptical reader found in the mixtures, each kept as a test."""

import math
import threading
import time

import pyro
import pyro.distributions as dist
import pytest
import torch

from posterity.data import Standardization
from posterity.inference import Ensemble, sweep
from posterity.inference.engine.lanes.machine import cores
from posterity.inference.engine.threads import fastest_threads
from posterity.models import Mixture, blocks, mixture_density, mixture_head, mixture_priors
from posterity.models.likelihoods import floored_scale
from posterity.models.mixtures import multivariate_mixture_head


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


# Inputs of whole numbers


@pytest.mark.parametrize("dtype", [torch.uint8, torch.long, torch.bool])
def test_one_location_and_scale_of_whole_numbers_are_not_whole_numbers(dtype):
    x = torch.tensor([[0, 1], [1, 1], [0, 1]]).to(dtype)
    scale = Standardization.whole(x, torch.tensor([0, 1, 3]))
    assert float(scale.x_loc) == pytest.approx(4 / 6)
    assert float(scale.y_scale) == pytest.approx(math.sqrt(14 / 9))
    torch.testing.assert_close(scale.x(x).double().mean(), torch.tensor(0.0).double(), atol=1e-6, rtol=0)


@pytest.mark.parametrize("bad", [torch.zeros(0), torch.tensor([1.0, math.nan]), torch.tensor([1.0, math.inf])])
def test_what_has_no_location_is_refused(bad):
    with pytest.raises(ValueError, match="expected finite values of x, at least one, got shape"):
        Standardization.whole(bad, torch.randn(3))
    with pytest.raises(ValueError, match="expected finite values of y"):
        Standardization.whole(torch.randn(3), bad)


# Threads


def test_inference_mode_reaches_the_threads_of_blocks(two_threads):
    logits, loc, log_scale = torch.randn(3, 30_000, 10)
    with torch.inference_mode():
        mixture = Mixture.normal(logits, loc, floored_scale(log_scale, 0.1))
        found = mixture.log_prob(torch.zeros(30_000))
        assert mixture.sample().shape == (30_000,)
        assert mixture_head(10)(torch.zeros(30_000, 30)).log_prob(torch.zeros(30_000)).isfinite().all()
    small = Mixture.normal(logits[:9], loc[:9], floored_scale(log_scale[:9], 0.1))
    torch.testing.assert_close(found[:9], small.log_prob(torch.zeros(9)))


def test_threads_are_as_before_where_many_of_pythons_work_at_once(two_threads):
    seen = []

    def work():
        for _ in range(5):
            blocks.over_blocks(lambda part: None, torch.zeros(70_000, 10))
        seen.append(torch.get_num_threads())

    for _ in range(3):
        running = [threading.Thread(target=work) for _ in range(4)]
        for thread in running:
            thread.start()
        for thread in running:
            thread.join()
    assert seen == [2] * 12
    assert torch.get_num_threads() == 2


class SlowEngine:
    torch_threads = 1

    def __init__(self):
        self.calls = 0

    def use_threads(self, count):
        self.threads = count

    def gradient(self, q):
        self.calls += 1
        time.sleep(0.3 if self.threads == 1 else 0.1)
        return q[:, 0], q


@pytest.mark.skipif(cores() == 1, reason="there is nothing to choose")
def test_slow_gradients_are_tried_twice_alone():
    engine = SlowEngine()
    assert fastest_threads(engine, torch.zeros(3, 2)) == cores()
    assert engine.calls == 2


# Indices


def test_an_index_is_one_into_the_batch_and_never_into_components():
    mixture = Mixture.normal(torch.zeros(3, 4, 2), torch.arange(24.0).reshape(3, 4, 2), torch.tensor(1.0))
    for index in (1, (1, 2), (..., 1), (slice(None), -1), (slice(1, 3), ...), torch.tensor([2, 0]), (None, 1)):
        found = mixture[index]
        assert found.num_components == 2
        torch.testing.assert_close(found.mean, mixture.mean[index])
    torch.testing.assert_close(mixture[mixture.mean > 7].mean, mixture.mean[mixture.mean > 7])
    with pytest.raises(IndexError, match=r"expected an index into a batch of shape \(3, 4\)"):
        mixture[:, 0, 0]


# Angles


def test_a_narrow_direction_beside_the_seam_keeps_its_probability():
    """Equal weights, concentrations 10^6 and 50, either side of pi: between the minima by a grid of 10^6 points."""
    mixture = Mixture(
        dist.Categorical(logits=torch.zeros(2).double()),
        dist.VonMises(torch.tensor([3.1, -3.1]).double(), torch.tensor([1e6, 50.0]).double()),
    )
    modes = mixture.modes()
    x = torch.linspace(-math.pi, math.pi, 1_000_001).double()
    # Away from the peaks: the least point between -3.1 and 3.1, and the one across the seam.
    across = torch.cat([torch.linspace(3.1, math.pi, 200_001), torch.linspace(-math.pi, -3.1, 200_001)]).double()
    least = across[mixture.log_prob(across).argmin()]
    inner = x[(x > -3.0) & (x < 3.0)]
    other = inner[mixture.log_prob(inner).argmin()]
    narrow = (
        float(mixture.cdf(least) - mixture.cdf(other)) % 1
        if least > 0
        else 1 - float(mixture.cdf(other) - mixture.cdf(least))
    )
    found = modes.probability[(modes.location - 3.1).abs().argmin()]
    assert float(found) == pytest.approx(narrow, abs=1e-4)
    assert float(modes.probability.sum()) == pytest.approx(1, abs=1e-9)


# Gradients of samples


def test_a_second_derivative_of_samples_is_refused():
    scale = torch.tensor([1.0], requires_grad=True)
    mixture = Mixture.normal(torch.zeros(50, 1), torch.zeros(50, 1), scale.expand(50, 1))
    (first,) = torch.autograd.grad((mixture.rsample() ** 2).mean(), scale, create_graph=True)
    with pytest.raises(RuntimeError, match="expected one derivative of a sample of a mixture"):
        torch.autograd.grad(first.sum(), scale)


# Sweeps


def rows(n=60):
    torch.manual_seed(0)
    x = torch.randn(n, 1)
    return x, x[:, 0] + 0.1 * torch.randn(n)


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("components", [0, 2], "expected numbers of components from 1 to 4, got 0"),
        ("components", [2, 9], "from 1 to 4, got 9"),
        ("components", [2.5], "from 1 to 4, got 2.5"),
        ("components", [math.nan], "expected numbers of components|cannot convert"),
        ("decay", [-1.0, 0.0], "expected finite decays of 0 or more, got -1"),
        ("decay", [math.nan], "expected finite decays of 0 or more, got nan"),
    ],
)
def test_values_that_a_setting_cannot_have_are_refused(name, values, message):
    x, y = rows()
    scale = Standardization(torch.zeros(1), torch.ones(1), torch.tensor(0.0), torch.tensor(1.0))
    pair = mixture_density(scale, components=4, hidden=(4,), swept=(name,))
    method = Ensemble(steps=2, progress=False)
    with pytest.raises(ValueError, match=message):
        sweep(pair, x, y, name=name, values=values, method=method)
    for settings, wrong in (({"repeats": 1.5}, "repeats"), ({"holdout": math.nan}, "holdout")):
        with pytest.raises(ValueError, match=f"expected {wrong}"):
            sweep(pair, x, y, name=name, values=[1.0], method=method, **settings)


def test_errors_of_sequences_count_sequences():
    """40 sequences of 25 equal steps are 40 rows: the error is that of 20 held-out ones, not of 500."""

    def model(x, y=None):
        spread = pyro.param("spread", torch.tensor(1.0)).detach()
        loc = pyro.param("loc", torch.zeros(()))
        with pyro.plate("obs", len(x), dim=-2), pyro.plate("step", 25, dim=-1):
            return pyro.sample("y", dist.Normal(loc, spread.expand(len(x), 25)), obs=y)

    torch.manual_seed(0)
    y = torch.randn(40, 1).expand(40, 25).contiguous()
    method = Ensemble(steps=5, progress=False)
    found = sweep(model, torch.zeros(40, 25), y, name="spread", values=[1.0], repeats=1, holdout=0.5, method=method)
    assert found.attrs["rows_held_out"] == 20
    assert float(found.best_score_se[0]) > 0.05  # sd of -y²/2, about 0.7, over sqrt(20); over sqrt(500) 0.03


# Nothing, and far too much


@pytest.mark.parametrize("batch", [(0,), (2, 0)])
def test_no_rows_have_no_regions_and_no_modes(batch):
    normal = Mixture.normal(torch.zeros(*batch, 2), torch.zeros(*batch, 2), torch.ones(*batch, 2))
    several = Mixture.multivariate_normal(torch.zeros(*batch, 2), torch.zeros(*batch, 2, 3), torch.ones(*batch, 2, 3))
    counts = mixture_head(2, family="poisson")(torch.zeros(*batch, 4))
    for mixture in (normal, counts):
        region = mixture.hdr(0.5)
        assert region.lower.shape == (*batch, 1)
        assert region.probability.shape == region.count.shape == batch
        assert mixture.modes().location.shape == (*batch, 1)
        assert mixture.hdr_level(torch.zeros(batch)).shape == batch
    assert several.modes().location.shape == (*batch, 1, 3)


def test_a_value_whose_square_is_no_number_has_no_density_however_many_rows(monkeypatch):
    loc = torch.zeros(40, 10, requires_grad=True)
    value = torch.zeros(40)
    value[0] = 3e19
    monkeypatch.setattr(blocks, "FEWEST", 0)
    found = Mixture.normal(torch.zeros(40, 10), loc, torch.ones(40, 10)).log_prob(value)
    assert float(found[0].detach()) == -math.inf
    assert bool(found[1:].isfinite().all())
    (slope,) = torch.autograd.grad(found[1:].sum(), loc)
    assert bool(slope.isfinite().all())


def test_levels_of_what_a_mixture_cannot_say_are_refused():
    normal = Mixture.normal(torch.zeros(2, 1), torch.zeros(2, 1), torch.ones(2, 1))
    with pytest.raises(ValueError, match="Expected value argument"):
        normal.hdr_level(torch.tensor([0.0, math.nan]))
    counts = Mixture(dist.Categorical(logits=torch.zeros(1)), dist.Poisson(torch.tensor([0.1])))
    for bad in (-1.0, 2.5):
        with pytest.raises(ValueError, match="Expected value argument"):
            counts.hdr_level(torch.tensor(bad))
    assert float(counts.hdr_level(torch.tensor(0.0))) == pytest.approx(math.exp(-0.1))


def test_parts_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"expected logits of shape \(..., K\), K of 1 or more, got \(3, 0\)"):
        Mixture.normal(torch.zeros(3, 0), torch.zeros(3, 0), torch.ones(3, 0))
    with pytest.raises(ValueError, match=r"expected logits that broadcast to \(5, 3\), got \(7, 3\)"):
        Mixture.multivariate_normal(torch.zeros(7, 3), torch.zeros(5, 3, 2), torch.ones(5, 3, 2))
    many = mixture_head(10)(torch.zeros(30_000, 30))
    for scale in (-1.0, 0.0, math.nan):
        with pytest.raises(ValueError, match="expected scale to be a finite number above 0"):
            many.affine(0.0, scale)
    with pytest.raises(ValueError, match="expected a finite loc, got nan"):
        many.affine(math.nan, 1.0)
    for count in (2.5, True, 0):
        with pytest.raises(ValueError, match="expected components to be a whole number of 1 or more"):
            mixture_head(count)
        with pytest.raises(ValueError, match="expected components to be a whole number of 1 or more"):
            multivariate_mixture_head(count, 2)
    with pytest.raises(ValueError, match=r"expected targets to be a whole number of 1 or more, got 2\.0"):
        multivariate_mixture_head(2, 2.0)


def test_a_prior_of_weights_takes_a_single_mixture():
    mixture = Mixture.normal(torch.zeros(3), torch.zeros(3), torch.ones(3))
    trace = pyro.poutine.trace(mixture_priors.SparseWeights()).get_trace("prior", mixture)
    assert math.isfinite(float(trace.log_prob_sum()))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"restarts": 0.5}, "expected restarts to be a whole number of 0 or more"),
        ({"restarts": True}, "expected restarts to be a whole number of 0 or more"),
        ({"keep": 1.5}, "expected keep to be a whole number of 1 or more"),
        ({"threads": -3}, "expected threads to be a whole number of 1 or more"),
        ({"threads": 1.5}, "expected threads to be a whole number of 1 or more"),
    ],
)
def test_settings_of_ensembles_are_whole_numbers(settings, message):
    with pytest.raises(ValueError, match=message):
        Ensemble(**settings)


def test_varied_values_have_the_parameters_shape():
    x, y = rows()
    scale = Standardization(torch.zeros(1), torch.ones(1), torch.tensor(0.0), torch.tensor(1.0))
    pair = mixture_density(scale, components=2, hidden=(4,), swept=("decay",))
    with pytest.raises(ValueError, match=r"expected 1 numbers of 'decay' .* of shape \(2, 3\)"):
        Ensemble(members=2, steps=1, vary={"decay": torch.ones(2, 3)}, progress=False).run(pair.model, x, y, seed=0)


@pytest.mark.parametrize("ceiling", [None, 1.0])
def test_the_smallest_floor_has_a_gradient(ceiling):
    x = torch.tensor([-60.0], requires_grad=True)
    found = floored_scale(x, 1e-23, ceiling)
    (slope,) = torch.autograd.grad(found.sum(), x)
    assert float(found.detach()) > 0
    assert bool(slope.isfinite().all())
    for floor in (-1.0, 0.0, math.nan, math.inf):
        with pytest.raises(ValueError, match="expected floor to be a finite number above 0"):
            floored_scale(x, floor, ceiling)


def test_pyros_batch_shapes_of_plain_tuples():
    """A family without a quantile function is named, and not an AttributeError of its shape."""
    counts = dist.ZeroInflatedPoisson(torch.ones(3, 2), gate=torch.full((3, 2), 0.3))
    mixture = Mixture(dist.Categorical(torch.ones(3, 2)), counts)
    assert isinstance(mixture.batch_shape, torch.Size)
    torch.testing.assert_close(mixture.log_prob(torch.zeros(3)), counts.log_prob(torch.zeros(3, 2))[:, 0])
    for ask in (mixture.modes, lambda: mixture.hdr(0.9), lambda: mixture.icdf(0.5)):
        with pytest.raises(ValueError, match="expected a family with a quantile function, got ZeroInflatedPoisson"):
            ask()
