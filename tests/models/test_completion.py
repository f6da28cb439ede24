"""Completions keep what is visible, use their latent numbers, and do not see what is hidden."""

import pytest
import torch

from posterity.data.masked import masked_inputs
from posterity.models.completion import CompletionCritic, CompletionGenerator, other_latents

MASK = (torch.arange(16)[:, None] >= 8).expand(16, 8)


@pytest.fixture(scope="module")
def generator() -> CompletionGenerator:
    torch.manual_seed(0)
    return CompletionGenerator(torch.rand(16, 8) - 0.5, latent=3, width=4)


def inputs(seed: int = 0, n: int = 4) -> torch.Tensor:
    random = torch.Generator().manual_seed(seed)
    images = 2 * torch.rand(n, 1, 16, 8, generator=random) - 1
    return masked_inputs(images, MASK.expand(n, 1, 16, 8), torch.randn(n, 3, generator=random))


def test_visible_pixels_are_copied_and_the_mask_is_kept(generator: CompletionGenerator) -> None:
    given = inputs()
    made = generator(given)
    assert torch.equal(made[:, 0][:, ~MASK], given[:, 0][:, ~MASK])
    assert torch.equal(made[:, 1], given[:, 1])
    assert float((made[:, 0][:, MASK] - generator.mean[MASK]).detach().abs().max()) > 1e-3


def test_latent_numbers_and_visible_pixels_change_the_completion(generator: CompletionGenerator) -> None:
    given = inputs()
    first = generator(given)[:, 0][:, MASK]
    assert float((generator(other_latents(given))[:, 0][:, MASK] - first).detach().abs().max()) > 1e-4
    darker = torch.cat([given[:, :1] * 0.5, given[:, 1:]], 1)
    assert float((generator(darker)[:, 0][:, MASK] - first).detach().abs().max()) > 1e-4


def test_other_latents_exchange_neighbours_alone() -> None:
    given = inputs()
    other = other_latents(given)
    assert torch.equal(other[:, :2], given[:, :2])
    assert torch.equal(other[1:, 2:], given[:-1, 2:])
    stacked = other_latents(torch.stack([given, inputs(1)]))
    assert torch.equal(stacked[0], other)


def test_the_critic_judges_the_whole_and_the_part() -> None:
    torch.manual_seed(0)
    critic = CompletionCritic(16, 8, width=4)
    samples = inputs()[:, :2].clone().requires_grad_()
    logits = critic(samples)
    assert logits.shape == (4,)
    (slope,) = torch.autograd.grad(logits.sum(), samples)
    assert bool((slope[:, 0] != 0).any(0).any())
    local = critic.part(samples)
    (near,) = torch.autograd.grad(local.sum(), samples)
    assert bool((near[:, 0] != 0).any())


def test_bad_arguments_are_named(generator: CompletionGenerator) -> None:
    with pytest.raises(ValueError, match="multiples of 8"):
        CompletionGenerator(torch.zeros(12, 8))
    with pytest.raises(ValueError, match="multiple of 4, got 6"):
        CompletionGenerator(torch.zeros(16, 8), width=6)
    with pytest.raises(ValueError, match=r"expected inputs of shape \(N, 5, 16, 8\)"):
        generator(torch.zeros(2, 5, 8, 8))
    with pytest.raises(ValueError, match="height to be a multiple of 8"):
        CompletionCritic(12, 8)
    with pytest.raises(ValueError, match=r"expected samples of shape \(N, 2, 16, 8\)"):
        CompletionCritic(16, 8)(torch.zeros(2, 1, 16, 8))
