"""The log density in chunks: the numbers and gradients of torch, and the cases in which it is used.

Small cases use a smaller chunk. Statistical tolerances are 5 standard errors, from the seed that
every test starts with.
"""

import itertools
import math
import subprocess
import sys

import pyro.distributions as dist
import pytest
import torch
from torch.fx.experimental.proxy_tensor import make_fx

from posterity.models import Mixture, chunks, mixture_head
from posterity.models.likelihoods import floored_scale
from posterity.models.mixtures import fused


def test_inference_mode_reaches_the_threads_of_blocks(two_threads):
    logits, loc, log_scale = torch.randn(3, 30_000, 10)
    with torch.inference_mode():
        mixture = Mixture.normal(logits, loc, floored_scale(log_scale, 0.1))
        found = mixture.log_prob(torch.zeros(30_000))
        assert mixture.sample().shape == (30_000,)
        assert mixture_head(10)(torch.zeros(30_000, 30)).log_prob(torch.zeros(30_000)).isfinite().all()
    small = Mixture.normal(logits[:9], loc[:9], floored_scale(log_scale[:9], 0.1))
    torch.testing.assert_close(found[:9], small.log_prob(torch.zeros(9)))


def test_a_value_whose_square_is_no_number_has_no_density_however_many_rows(monkeypatch):
    loc = torch.zeros(40, 10, requires_grad=True)
    value = torch.zeros(40)
    value[0] = 3e19
    monkeypatch.setattr(chunks, "LARGE", 0)
    found = Mixture.normal(torch.zeros(40, 10), loc, torch.ones(40, 10)).log_prob(value)
    assert float(found[0].detach()) == -math.inf
    assert bool(found[1:].isfinite().all())
    (slope,) = torch.autograd.grad(found[1:].sum(), loc)
    assert bool(slope.isfinite().all())


NAMES = ("logits", "loc", "scale", "value")


# torch's own, on the first use of forward derivatives.
records = pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")


MANY = 300  # rows of 1000 components: more numbers than `chunks.LARGE`


def tensors(*batch, components=5, dtype=torch.double, seed=0):
    generator = torch.Generator().manual_seed(seed)
    logits, loc, log_scale = torch.randn(3, *batch, components, generator=generator, dtype=dtype)
    value = 2 * torch.randn(batch, generator=generator, dtype=dtype)
    return [logits, 2 * loc, log_scale.exp(), value]


def plain(logits, loc, scale, value):
    mixing = torch.distributions.Categorical(logits=logits)
    return torch.distributions.MixtureSameFamily(mixing, torch.distributions.Normal(loc, scale)).log_prob(value)


def mixed(logits, loc, scale, value):
    return Mixture(dist.Categorical(logits=logits), dist.Normal(loc, scale)).log_prob(value)


def unchecked(logits, loc, scale, value):
    """As `mixed`, without validation, as a recording needs."""
    parts = dist.Categorical(logits=logits, validate_args=False), dist.Normal(loc, scale, validate_args=False)
    return Mixture(*parts, validate_args=False).log_prob(value)


def gradients(function, inputs, weights, wanted=NAMES):
    leaves = [t.clone().requires_grad_(name in wanted) for name, t in zip(NAMES, inputs, strict=True)]
    result = function(*leaves)
    return result.detach(), torch.autograd.grad(result, [t for t in leaves if t.requires_grad], weights)


@pytest.fixture
def calls(monkeypatch):
    """A list with the number of calls of the log density in chunks."""
    counted, original = [0], fused.log_prob

    def count(*inputs):
        counted[0] += 1
        return original(*inputs)

    monkeypatch.setattr(fused, "log_prob", count)
    return counted


@pytest.fixture
def few(monkeypatch):
    """Tensors of any size count as large."""
    monkeypatch.setattr(chunks, "LARGE", 0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("components", [1, 2, 5, 20])
@pytest.mark.parametrize("block", [1, 5, 12, 13, 10_000])
def test_value_and_all_gradients_are_torchs(block, components, dtype, monkeypatch):
    """Chunks of less than a row, one row, some rows with a remainder, or all rows; random weights of the output."""
    monkeypatch.setattr(chunks, "CHUNK", block)
    inputs = tensors(4, 3, components=components, dtype=dtype)
    weights = torch.randn(4, 3, dtype=dtype)
    found, found_gradients = gradients(fused.log_prob, inputs, weights)
    exact, exact_gradients = gradients(plain, [t.double() for t in inputs], weights.double())
    assert found.shape == (4, 3)
    assert found.dtype == dtype
    tolerance = 1e-12 if dtype == torch.float64 else 2e-5
    torch.testing.assert_close(found.double(), exact, rtol=tolerance, atol=tolerance)
    for one, other in zip(found_gradients, exact_gradients, strict=True):
        assert one.dtype == dtype
        torch.testing.assert_close(one.double(), other, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("rows", [1, 3, 4, 5, 8, 9])
def test_no_row_is_missed_at_the_boundary_of_blocks(rows, monkeypatch):
    """4 rows of 3 components in a chunk: just below, at and above multiples of it."""
    monkeypatch.setattr(chunks, "CHUNK", 14)
    inputs, weights = tensors(rows, components=3), torch.ones(rows, dtype=torch.double)
    found, exact = gradients(fused.log_prob, inputs, weights), gradients(plain, inputs, weights)
    torch.testing.assert_close(found[0], exact[0])
    torch.testing.assert_close(found[1], exact[1])


@pytest.mark.parametrize("wanted", [c for n in range(1, 5) for c in itertools.combinations(NAMES, n)], ids="-".join)
def test_gradients_are_of_the_inputs_that_want_one(wanted, monkeypatch):
    monkeypatch.setattr(chunks, "CHUNK", 10)
    inputs, weights = tensors(5, components=3), torch.randn(5, dtype=torch.double)
    found, exact = (gradients(f, inputs, weights, wanted)[1] for f in (fused.log_prob, plain))
    assert len(found) == len(wanted)
    torch.testing.assert_close(found, exact)


def test_an_output_that_is_not_used_and_one_that_is_summed():
    """Gradients that are zeros, or one expanded number."""
    inputs = tensors(6)
    exact = gradients(plain, inputs, torch.ones(6).double())[1]
    torch.testing.assert_close(gradients(fused.log_prob, inputs, torch.ones(()).double().expand(6))[1], exact)
    assert all(bool((g == 0).all()) for g in gradients(fused.log_prob, inputs, torch.zeros(6).double())[1])


def test_first_and_second_derivatives_are_those_of_differences(monkeypatch):
    monkeypatch.setattr(chunks, "CHUNK", 7)
    inputs = [t.requires_grad_() for t in tensors(2, 2, components=3)]
    assert torch.autograd.gradcheck(fused.log_prob, inputs)
    assert torch.autograd.gradgradcheck(fused.log_prob, inputs)


@pytest.mark.parametrize("wanted", [("loc",), ("logits", "value"), NAMES], ids="-".join)
def test_second_derivatives_are_torchs(wanted):
    """Of a sum of squared gradients, and the gradients themselves; also where some inputs want none."""

    def second(function):
        leaves = [t.requires_grad_(name in wanted) for name, t in zip(NAMES, tensors(4), strict=True)]
        chosen = [t for t in leaves if t.requires_grad]
        first = torch.autograd.grad(function(*leaves).sum(), chosen, create_graph=True)
        return *(g.detach() for g in first), *torch.autograd.grad(sum((g**2).sum() for g in first), chosen)

    torch.testing.assert_close(second(fused.log_prob), second(plain))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shift", [-1e6, 0.0, 1e6])
@pytest.mark.parametrize("spread", [1.0, 100.0, 1e4])
def test_large_logits_are_no_harm(spread, shift, dtype):
    """Spread over 10^4, or with 10^6 added to all; a rounded sum of that size is the given number."""
    logits, *rest = tensors(50, dtype=dtype)
    logits = spread * logits + shift
    found, found_gradients = gradients(fused.log_prob, [logits, *rest], torch.ones(50, dtype=dtype))
    exact, exact_gradients = gradients(plain, [t.double() for t in (logits, *rest)], torch.ones(50, dtype=torch.double))
    # Terms of the size of the logits cancel.
    tolerance = 20 * torch.finfo(dtype).eps
    size = float(logits.abs().max())
    torch.testing.assert_close(found.double(), exact, rtol=tolerance, atol=tolerance * max(1.0, size))
    assert all(bool(g.isfinite().all()) for g in found_gradients)
    if shift == 0:
        tolerance = tolerance * max(100.0, size)
        torch.testing.assert_close([g.double() for g in found_gradients], list(exact_gradients),
                                   rtol=tolerance, atol=tolerance)  # fmt: skip


def test_a_component_without_weight_has_gradients_of_zero():
    """A logit of minus infinity: no nan, for no input; the others' gradients are those without that component."""
    inputs, weights = tensors(6), torch.randn(6, dtype=torch.double)
    inputs[0][:, 2] = -math.inf
    inputs[0][3, :4] = -math.inf
    found, (of_logits, of_loc, of_scale, of_value) = gradients(fused.log_prob, inputs, weights)
    torch.testing.assert_close(found, plain(*inputs))
    absent = inputs[0] == -math.inf
    for gradient in (of_logits, of_loc, of_scale):
        assert bool((gradient[absent] == 0).all())
    keep = [0, 1, 3, 4]
    rows = [0, 1, 2, 4, 5]
    part = [t[rows][:, keep] if t.ndim == 2 else t[rows] for t in inputs]
    exact = gradients(plain, part, weights[rows])[1]
    torch.testing.assert_close(of_logits[rows][:, keep], exact[0])
    torch.testing.assert_close(of_scale[rows][:, keep], exact[2])
    torch.testing.assert_close(of_value[rows], exact[3])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_values_far_out_and_scales_of_any_size(dtype):
    """10^4 standard deviations out, and scales from 1e-6 to 1e6: relative error of a few units in the last place."""
    torch.manual_seed(0)
    scale = 10 ** (12 * torch.rand(200, 4, dtype=torch.double) - 6)
    loc, logits = 10 * torch.randn(2, 200, 4, dtype=torch.double)
    value = loc[:, 0] + scale[:, 0] * 10 ** (8 * torch.rand(200, dtype=torch.double) - 4)
    inputs = [t.to(dtype) for t in (logits, loc, scale, value)]
    found, found_gradients = gradients(fused.log_prob, inputs, torch.ones(200, dtype=dtype))
    exact = plain(*(t.double() for t in inputs))
    assert bool(found.isfinite().all())
    assert all(bool(g.isfinite().all()) for g in found_gradients)
    torch.testing.assert_close(found.double(), exact, rtol=1e-5 if dtype == torch.float32 else 1e-12, atol=1e-5)


def test_a_component_far_away_counts_where_its_weight_and_narrowness_make_up_for_it():
    """Its density of exp(-89) would vanish in single precision; times a weight over width of 10^12 it is the answer.

    What is left of a formula that multiplies before it looks is the other component's.
    """
    logits = torch.tensor([[30.0, -60.0]], dtype=torch.double)
    inputs = [logits, torch.tensor([[0.0, 0.0]]).double(), torch.tensor([[1e-6, 1.0]]).double(),
              torch.tensor([13.35e-6]).double()]  # fmt: skip
    found, slopes = gradients(fused.log_prob, [t.float() for t in inputs], torch.ones(1))
    exact, exact_slopes = gradients(plain, inputs, torch.ones(1).double())
    torch.testing.assert_close(found.double(), exact, rtol=1e-5, atol=0)
    for one, other in zip(slopes, exact_slopes, strict=True):
        torch.testing.assert_close(one.double(), other, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("number", [1, 2])
def test_threads_change_nothing(number, monkeypatch):
    monkeypatch.setattr(chunks, "CHUNK", 60)
    before = torch.get_num_threads()
    inputs, weights = tensors(500), torch.randn(500, dtype=torch.double)
    alone = gradients(fused.log_prob, inputs, weights)
    try:
        torch.set_num_threads(number)
        found = gradients(fused.log_prob, inputs, weights)
        assert torch.get_num_threads() == number
    finally:
        torch.set_num_threads(before)
    assert torch.equal(found[0], alone[0])
    assert all(torch.equal(a, b) for a, b in zip(found[1], alone[1], strict=True))


def test_very_many_normals_are_taken_in_blocks(calls):
    inputs = tensors(MANY, components=1000, dtype=torch.float32)
    found, expected = mixed(*inputs), plain(*inputs)
    assert calls == [1]
    torch.testing.assert_close(found, expected)
    few_rows = [t[:100].contiguous() for t in inputs]
    mixed(*few_rows)
    assert calls == [1]


@pytest.mark.parametrize("batch", [(), (1,), (3, 2, 4)])
def test_a_batch_of_any_rank(batch, few, calls):
    inputs = tensors(*batch)
    found = mixed(*inputs)
    assert found.shape == batch
    assert calls == [1]
    torch.testing.assert_close(found, plain(*inputs))


@pytest.mark.parametrize("batch", [(0,), (2, 0)])
def test_no_rows_have_no_density_and_no_gradients(batch):
    """Where the parts are not validated: torch's own check of the logits of an empty batch raises."""
    inputs = tensors(*batch)
    found, found_gradients = gradients(fused.log_prob, inputs, torch.ones(batch).double())
    assert found.shape == batch
    assert [g.shape for g in found_gradients] == [t.shape for t in inputs]
    with pytest.raises(RuntimeError, match="cannot reshape tensor of 0 elements"):
        torch.distributions.Categorical(logits=inputs[0])


@pytest.mark.parametrize("name", ["logits", "loc", "scale", "value"])
def test_expanded_parameters_go_the_plain_way(name, few, calls):
    """Expanded tensors have no chunks in memory."""
    inputs = dict(zip(NAMES, tensors(6, components=3), strict=True))
    if name == "value":
        inputs[name] = inputs[name][0]
    else:
        inputs[name] = inputs[name][:1].expand(6, 3)
    taken = calls[0]
    torch.testing.assert_close(mixed(*inputs.values()), plain(*inputs.values()))
    # But logits are normalised by their Categorical, which writes a row for each.
    assert calls == [taken + (name == "logits")]


@pytest.mark.parametrize(
    "make",
    [
        lambda a, b, c: Mixture(dist.Categorical(logits=a), dist.Laplace(b, c)),
        lambda a, b, c: Mixture(dist.Categorical(logits=a), dist.StudentT(3.0, b, c)),
        lambda a, b, c: Mixture(dist.Categorical(logits=a), dist.LogNormal(b, c)),
        lambda a, b, c: Mixture(dist.Categorical(logits=a.float()), dist.Normal(b, c)),
        lambda a, b, c: Mixture(dist.Categorical(logits=a), dist.Normal(b, c).mask(torch.ones(6, 3).bool())),
    ],
    ids=["laplace", "student_t", "log_normal", "two_dtypes", "masked"],
)
def test_other_components_go_the_plain_way(make, few, calls):
    logits, loc, scale, value = tensors(6, components=3)
    value, mixture = value.abs() + 0.1, make(logits, loc, scale)
    found = mixture.log_prob(value)
    assert calls == [0]
    weights, parts = mixture.log_weights, mixture.component_distribution
    torch.testing.assert_close(found, torch.logsumexp(weights + parts.log_prob(value[:, None]), -1))


@records
def test_what_batches_or_records_goes_the_plain_way(few, calls, monkeypatch):
    """vmap, jacrev, jvp, hessian, make_fx, torch.compile: the numbers of torch, without chunks."""
    logits, loc, scale, value = inputs = tensors(4, components=3)
    expected = plain(*inputs)
    batched = torch.vmap(mixed, in_dims=(None, 0, None, None))(logits, torch.stack([loc, loc + 1]), scale, value)
    torch.testing.assert_close(batched, torch.stack([expected, plain(logits, loc + 1, scale, value)]))
    by_row = torch.vmap(mixed)(*inputs)
    torch.testing.assert_close(by_row, expected)
    jacobian = torch.func.jacrev(mixed, argnums=1)(*inputs)
    torch.testing.assert_close(jacobian, torch.func.jacrev(plain, argnums=1)(*inputs))
    tangent = torch.func.jvp(lambda m: mixed(logits, m, scale, value), (loc,), (torch.ones_like(loc),))[1]
    torch.testing.assert_close(tangent, jacobian.sum((-1, -2)))
    hessian = torch.func.hessian(lambda m: mixed(logits, m, scale, value).sum())(loc)
    torch.testing.assert_close(hessian, torch.func.hessian(lambda m: plain(logits, m, scale, value).sum())(loc))
    recorded = make_fx(unchecked)(*inputs)
    torch.testing.assert_close(recorded(*tensors(4, components=3, seed=1)), plain(*tensors(4, components=3, seed=1)))
    # torch.compile turns the validation of all distributions off permanently.
    monkeypatch.setattr(torch.distributions.Distribution, "_validate_args", True)
    compiled = torch.compile(mixed, backend="eager")
    torch.testing.assert_close(compiled(*inputs), expected)
    assert calls == [0]


def test_values_outside_the_support_are_refused_as_elsewhere(few, calls):
    logits, loc, scale, value = tensors(4)
    value[2] = math.nan
    with pytest.raises(ValueError, match="Expected value argument"):
        mixed(logits, loc, scale, value)
    found = unchecked(logits, loc, scale, value)
    assert calls == [1]
    assert found.isnan().tolist() == [False, False, True, False]


@records
def test_forward_derivatives_go_the_plain_way(few):
    logits, loc, scale, value = tensors(4)
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(loc, torch.ones_like(loc))
        tangent = torch.autograd.forward_ad.unpack_dual(mixed(logits, dual, scale, value)).tangent
    expected = torch.func.jvp(lambda m: plain(logits, m, scale, value), (loc,), (torch.ones_like(loc),))[1]
    torch.testing.assert_close(tangent, expected)


def test_many_gradients_at_once(few):
    """`is_grads_batched`, and so `torch.autograd.functional.jacobian(vectorize=True)`."""
    logits, loc, scale, value = tensors(4)

    def jacobian(function):
        at = loc.clone().requires_grad_()
        rows = torch.eye(4, dtype=torch.double)
        return torch.autograd.grad(function(logits, at, scale, value), at, rows, is_grads_batched=True)[0]

    torch.testing.assert_close(jacobian(mixed), jacobian(plain))


def kept_bytes(function, inputs):
    """Bytes that are kept for the gradient, with shared memory counted once."""
    kept = {}

    def pack(tensor):
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    leaves = [t.clone().requires_grad_() for t in inputs]
    own = {t.untyped_storage().data_ptr() for t in leaves}
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        function(*leaves)
    return sum(size for pointer, size in kept.items() if pointer not in own)


def test_nothing_is_kept_for_the_gradient_but_the_inputs():
    inputs = tensors(1000, components=20, dtype=torch.float32)
    assert kept_bytes(fused.log_prob, inputs) == 0
    assert kept_bytes(plain, inputs) >= 3 * inputs[0].numel() * 4


PEAK = """
import re, sys, torch
from pathlib import Path
from posterity.models.mixtures import fused
torch.set_num_threads(1)
torch.distributions.Distribution.set_default_validate_args(False)

def peak():
    # Not that of getrusage, which begins at the peak of the process that started this one.
    return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text()).group(1))

def plain(logits, loc, scale, value):
    mixing = torch.distributions.Categorical(logits=logits)
    return torch.distributions.MixtureSameFamily(mixing, torch.distributions.Normal(loc, scale)).log_prob(value)

function = fused.log_prob if sys.argv[1] == "fused" else plain

def run(rows):
    inputs = [torch.rand(rows, 20).add_(0.1).requires_grad_() for _ in range(3)]
    value = torch.randn(rows)
    before = peak()
    result = function(*inputs, value)
    forward = peak() - before
    torch.autograd.grad(result.sum(), inputs)
    return forward, peak() - before

run(10_000)
print(*run(1_000_000))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the peak is in kilobytes on Linux alone")
def test_a_million_rows_need_little_beside_their_gradients():
    """20 components in float32, 80 MB an array: forward below a quarter of one array, torch above three of them.

    The gradients themselves are three arrays: with them, less than four beside torch's more than six.
    """
    array = 1_000_000 * 20 * 4 / 1024
    found = {}
    for which in ("fused", "torch"):
        command = [sys.executable, "-W", "ignore", "-c", PEAK, which]
        output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        found[which] = [float(number) / array for number in output.split()]
    assert found["fused"][0] < 0.25
    assert found["torch"][0] > 3
    assert found["fused"][1] < 4
    assert found["torch"][1] > 6


def test_the_parameters_of_a_head_are_taken():
    """They are columns of one tensor of features, so not contiguous."""
    features = torch.randn(chunks.LARGE // 4, 12, generator=torch.Generator().manual_seed(0)).requires_grad_()
    mixture = mixture_head(4)(features)
    y = torch.randn(len(features), generator=torch.Generator().manual_seed(1))
    parts = mixture.component_distribution
    assert fused.applies(mixture.mixture_distribution.logits, parts, y)
    (found,) = torch.autograd.grad(mixture.log_prob(y).sum(), features, retain_graph=True)
    plainly = torch.logsumexp(mixture.log_weights + parts.log_prob(y[:, None]), -1)
    torch.testing.assert_close(mixture.log_prob(y), plainly)
    torch.testing.assert_close(found, torch.autograd.grad(plainly.sum(), features)[0], rtol=1e-4, atol=1e-4)
