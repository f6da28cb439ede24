"""`RelativeClip` against a running median in NumPy."""

import numpy as np
import torch

from posterity.inference.training.clipping import FEWEST, WINDOW, RelativeClip

LIMIT = 1.5
STEPS = 2 * WINDOW
GRADIENTS = torch.randn(STEPS, 3, 4, generator=torch.Generator().manual_seed(0)).double()
GRADIENTS *= torch.logspace(0, 2, STEPS)[:, None, None]  # norms that grow
GRADIENTS[:, 1] *= 1e-30  # another unit for one of the fits


def by_hand(norms, step):
    """The largest norm that stays at ``step``: none is clipped before there are enough to take a median of."""
    window = np.sort(norms[max(0, step + 1 - WINDOW) : step + 1], axis=0)
    if len(window) < FEWEST:
        return np.full(norms.shape[1:], np.inf)
    return LIMIT * window[(len(window) - 1) // 2]  # torch's median is the lower of the two in the middle


def test_each_fit_is_clipped_at_a_multiple_of_its_own_running_median():
    clip, norms = RelativeClip(LIMIT), np.linalg.norm(GRADIENTS.numpy(), axis=-1)
    clipped = 0
    for step, gradient in enumerate(GRADIENTS):
        found = clip(gradient)
        largest = by_hand(norms, step)
        np.testing.assert_allclose(found.norm(dim=-1), np.minimum(norms[step], largest), rtol=1e-12)
        torch.testing.assert_close(
            found / found.norm(dim=-1, keepdim=True), gradient / gradient.norm(dim=-1, keepdim=True)
        )
        clipped += int((norms[step] > largest).sum())
    assert 0.05 * 3 * STEPS < clipped < 0.95 * 3 * STEPS


def test_one_fit_alone_is_clipped_as_beside_others():
    together, alone = RelativeClip(LIMIT), RelativeClip(LIMIT)
    for gradient in GRADIENTS[: 2 * FEWEST]:
        torch.testing.assert_close(alone(gradient[0]), together(gradient)[0])


def test_a_gradient_of_zero_stays_zero():
    clip = RelativeClip(LIMIT)
    for _ in range(FEWEST + 1):
        assert torch.equal(clip(torch.zeros(4)), torch.zeros(4))
