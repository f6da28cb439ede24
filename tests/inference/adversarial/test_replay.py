"""The replay pool: stored samples come back, half of the new ones are exchanged, and its state is restored."""

import torch

from posterity.inference.adversarial.replay import ReplayPool


def test_no_pool_returns_the_samples_themselves():
    samples = torch.ones(3, 2)
    assert ReplayPool(0).exchange(samples, torch.Generator()) is samples


def test_the_pool_is_filled_first():
    pool, random = ReplayPool(5), torch.Generator().manual_seed(0)
    for start in (0.0, 2.0):
        new = torch.tensor([[start], [start + 1]])
        assert torch.equal(pool.exchange(new, random), new)
    returned = pool.exchange(torch.tensor([[4.0], [5.0]]), random)  # one place is left
    assert float(returned[0]) == 4.0
    assert len(pool.samples) == 5


def test_half_of_the_new_samples_are_exchanged_and_none_is_lost():
    """20,000 samples one by one: the share of stored ones among those returned is 1/2 within five standard errors."""
    pool, random = ReplayPool(50), torch.Generator().manual_seed(0)
    values = torch.arange(20_050.0)[:, None]
    returned = torch.cat([pool.exchange(one, random) for one in values.split(1)])
    stored = float((returned[50:] != values[50:]).double().mean())
    assert abs(stored - 0.5) < 5 * (0.25 / 20_000) ** 0.5
    assert len(set(returned[50:].flatten().tolist())) == 20_000  # each comes back at most once after it was stored
    ages = (values - returned)[50:][returned[50:] != values[50:]]
    assert 80 < float(ages.mean()) < 120  # one of 50 leaves in every second step


def test_batches_are_exchanged_as_samples_one_by_one_would_be():
    """A pool of 4 and batches of 64: half of the samples are stored ones, most of them from the same batch."""
    pool, random = ReplayPool(4), torch.Generator().manual_seed(1)
    values = torch.arange(20 * 64.0)[:, None]
    returned = torch.cat([pool.exchange(batch, random) for batch in values.split(64)])
    late = returned[4:] != values[4:]
    assert abs(float(late.double().mean()) - 0.5) < 5 * (0.25 / len(late)) ** 0.5
    assert len(set(returned[4:].flatten().tolist())) == len(late)


def test_returned_samples_are_not_changed_later():
    pool, random = ReplayPool(4), torch.Generator().manual_seed(1)
    first = torch.zeros(4, 1)
    pool.exchange(first, random)
    pool.exchange(torch.ones(64, 1), random)
    assert float(first.max()) == 0.0


def test_a_restored_pool_goes_on_equally():
    pool, random = ReplayPool(4), torch.Generator().manual_seed(1)
    pool.exchange(torch.rand(9, 2, generator=random), random)
    state, numbers = pool.state_dict(), random.get_state()
    again, new = ReplayPool(4), torch.rand(9, 2)
    one = pool.exchange(new, random)
    again.load_state_dict(state)
    assert torch.equal(again.exchange(new, torch.Generator().set_state(numbers)), one)
