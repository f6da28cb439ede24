"""Completions of one network: their spread, what is refused, and files."""

from pathlib import Path

import pytest
import torch

from posterity.inference.completion import Completer
from posterity.models.completion import CompletionGenerator
from posterity.models.probabilistic_pca import ProbabilisticPCA

HIDDEN = (torch.arange(16)[:, None] >= 8).expand(16, 8)


def pictures(n: int = 200, seed: int = 0) -> torch.Tensor:
    """Smooth pictures: two ramps with random weights, and a little noise."""
    random = torch.Generator().manual_seed(seed)
    ramps = torch.stack(
        [torch.linspace(-0.3, 0.3, 16)[:, None].expand(16, 8), torch.linspace(-0.3, 0.3, 8).expand(16, 8)]
    )
    weights = torch.randn(n, 2, generator=random).clamp(-2, 2)
    return (weights @ ramps.flatten(1)).reshape(n, 1, 16, 8) + 0.05 * torch.randn(n, 1, 16, 8, generator=random)


@pytest.fixture(scope="module")
def completer() -> Completer:
    torch.manual_seed(0)
    generator = CompletionGenerator(torch.zeros(16, 8), latent=3, width=4)
    known = ProbabilisticPCA.fit(pictures().flatten(1), 2)
    return Completer([generator], spread=1.0, known=known, limit=2.0)


def test_visible_pixels_stay_and_hidden_ones_are_not_used(completer: Completer) -> None:
    images = pictures(5, seed=1)
    found = completer.complete(images, HIDDEN, draws=6, seed=2)
    assert found.shape == (6, 5, 1, 16, 8)
    assert torch.equal(found[..., ~HIDDEN], images[..., ~HIDDEN].expand(6, 5, 1, -1))
    secret = images.clone()
    secret[..., HIDDEN] = torch.nan
    assert torch.equal(completer.complete(secret, HIDDEN, draws=6, seed=2), found)
    assert not torch.equal(completer.complete(images, HIDDEN, draws=6, seed=3), found)


def test_the_spread_is_scaled_around_the_mean(completer: Completer) -> None:
    images = pictures(5, seed=1)
    twice = Completer(completer.generators, spread=2.0, known=completer.known, limit=completer.limit)
    one, two = (each.complete(images, HIDDEN, draws=8, seed=4)[..., HIDDEN] for each in (completer, twice))
    torch.testing.assert_close(two.mean(0), one.mean(0), atol=1e-5, rtol=0)
    torch.testing.assert_close(two.std(0), 2 * one.std(0), atol=1e-5, rtol=1e-4)


def test_completions_come_from_all_generators_in_turn(completer: Completer) -> None:
    torch.manual_seed(1)
    other = CompletionGenerator(torch.zeros(16, 8), latent=3, width=4)
    images, settings = pictures(2, seed=1), {"known": completer.known, "limit": 2.0}
    alone = [Completer([one], **settings) for one in (completer.generators[0], other)]  # type: ignore[arg-type]
    both = Completer([completer.generators[0], other], **settings)  # type: ignore[arg-type]
    drawn = [each.complete(images, HIDDEN, draws=4, seed=7) for each in (both, *alone)]
    for index in range(4):
        torch.testing.assert_close(drawn[0][index], drawn[1 + index % 2][index], atol=1e-6, rtol=0)


def test_pictures_of_another_kind_are_refused(completer: Completer) -> None:
    noise = 2 * torch.rand(3, 1, 16, 8, generator=torch.Generator().manual_seed(5)) - 1
    mixed = torch.cat([pictures(2, seed=1), noise])
    assert bool((completer.unlikeness(mixed, HIDDEN) > 2).tolist() == [False, False, True, True, True])
    with pytest.raises(ValueError, match="expected images like those of training, got image"):
        completer.complete(mixed, HIDDEN)
    assert completer.complete(mixed, HIDDEN, draws=2, check=False).shape == (2, 5, 1, 16, 8)


def test_a_stored_completer_gives_the_same(completer: Completer, tmp_path: Path) -> None:
    loaded = Completer.load(completer.save(tmp_path / "faces.completer"))
    images = pictures(3, seed=1)
    assert torch.equal(loaded.complete(images, HIDDEN, draws=3), completer.complete(images, HIDDEN, draws=3))
    assert repr(loaded) == repr(completer)
    other = tmp_path / "other"
    torch.save({"format": 1}, other)
    with pytest.raises(ValueError, match="expected a completer in"):
        Completer.load(other)


def test_bad_arguments_are_named(completer: Completer) -> None:
    images = pictures(2)
    with pytest.raises(ValueError, match=r"images of shape \(N, 1, 16, 8\), got \(2, 1, 8, 8\)"):
        completer.complete(images[:, :, :8], HIDDEN)
    with pytest.raises(ValueError, match="from -1 to 1, got"):
        completer.complete(images * 255, HIDDEN)
    bad = images.clone()
    bad[0, 0, 0, 0] = torch.nan
    with pytest.raises(ValueError, match="images"):
        completer.complete(bad, HIDDEN)
    with pytest.raises(ValueError, match="hide some pixels"):
        completer.complete(images, torch.zeros(16, 8, dtype=torch.bool))
    with pytest.raises(ValueError, match="boolean tensor"):
        completer.complete(images, HIDDEN.float())
    with pytest.raises(ValueError, match="draws"):
        completer.complete(images, HIDDEN, draws=1)
    with pytest.raises(ValueError, match="limit"):
        Completer(completer.generators, known=completer.known, limit=0.0)
    with pytest.raises(ValueError, match="at least one member"):
        Completer([], known=completer.known, limit=1.0)
    with pytest.raises(ValueError, match="list of CompletionGenerator"):
        Completer(None, known=completer.known, limit=1.0)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="known of 128 pixels, got 3"):
        Completer(completer.generators, known=ProbabilisticPCA(torch.zeros(3), torch.ones(3, 1), 1.0), limit=1.0)
