"""An MD-RNN in plain PyTorch, with the structure of a public one, for `benchmarks/world_model.py`.

Rewritten from the sources of ctallec/world-models: ``models/mdrnn.py`` at 5d4261e (``nn.LSTM`` for sequences and
``nn.LSTMCell`` for single steps, one linear layer with the parameters of the mixture, the reward and the end, and the
loss of the mixture) and ``trainmdrnn.py`` at 0905346 (the sum of that loss, the squared error of the reward and the
cross-entropy of the end). Sequences are (T, N, ...) there. Two changes: a step normalises the weights over the
components, where the source has another dimension, and a sample has noise, where its simulated environment takes the
mean of the component.
"""

import torch
from torch import Tensor, nn
from torch.distributions import Categorical, Normal
from torch.nn import functional

Parameters = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]  # means, scales, log weights, rewards, logits of the end


class PlainMDRNN(nn.Module):
    """Actions (T, N, A) and latents (T, N, L) -> parameters of the next latents, rewards and ends."""

    def __init__(self, latents: int, actions: int, hidden: int, components: int, cell: bool = False) -> None:
        super().__init__()
        self.latents, self.components = latents, components
        self.rnn = (nn.LSTMCell if cell else nn.LSTM)(latents + actions, hidden)
        self.gmm_linear = nn.Linear(hidden, (2 * latents + 1) * components + 2)

    def forward(self, actions: Tensor, latents: Tensor) -> Parameters:
        return self.parts(self.rnn(torch.cat([actions, latents], -1))[0])

    def step(self, action: Tensor, latent: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Parameters, tuple]:
        """One step (N, ...) of the cell, and its state."""
        state = self.rnn(torch.cat([action, latent], 1), state)
        return self.parts(state[0]), state

    def parts(self, hidden: Tensor) -> Parameters:
        raw, width = self.gmm_linear(hidden), self.components * self.latents
        shape = (*raw.shape[:-1], self.components, self.latents)
        means, scales = raw[..., :width].view(shape), raw[..., width : 2 * width].view(shape).exp()
        log_weights = functional.log_softmax(raw[..., 2 * width : 2 * width + self.components], -1)
        return means, scales, log_weights, raw[..., -2], raw[..., -1]


def gmm_loss(latents: Tensor, means: Tensor, scales: Tensor, log_weights: Tensor) -> Tensor:
    """The mean negative log density of latents (..., L) under mixtures of K normals (..., K, L)."""
    terms = log_weights + Normal(means, scales).log_prob(latents.unsqueeze(-2)).sum(-1)
    largest = terms.max(-1, keepdim=True)[0]
    return -(largest.squeeze(-1) + (terms - largest).exp().sum(-1).log()).mean()


def plain_loss(
    net: PlainMDRNN, latents: Tensor, actions: Tensor, rewards: Tensor | None, ends: Tensor | None
) -> Tensor:
    """The loss of sequences (T + 1, N, L), with those of reward and end (T, N) if they are given."""
    means, scales, log_weights, reward, end = net(actions, latents[:-1])
    loss = gmm_loss(latents[1:], means, scales, log_weights)
    if rewards is not None:
        loss = loss + functional.mse_loss(reward, rewards)
    if ends is not None:
        loss = loss + functional.binary_cross_entropy_with_logits(end, ends)
    return loss


@torch.no_grad()
def plain_dream(net: PlainMDRNN, latent: Tensor, action: Tensor, steps: int, ends: bool) -> tuple[Tensor, Tensor]:
    """Futures (N, steps, L) after one latent (N, L) by a network with a cell, and whether they have ended."""
    state = (latent.new_zeros(len(latent), net.rnn.hidden_size),) * 2
    over, found, over_at = torch.zeros(len(latent), dtype=torch.bool), [], []
    for _ in range(steps):
        (means, scales, log_weights, _, end), state = net.step(action, latent, state)
        place = Categorical(logits=log_weights).sample()[:, None, None].expand(-1, 1, net.latents)
        mean, scale = means.gather(1, place).squeeze(1), scales.gather(1, place).squeeze(1)
        latent = mean + scale * torch.randn_like(mean)
        if ends:
            over = over | (torch.rand(len(latent)) < end.sigmoid())
        found.append(latent)
        over_at.append(over)
        action = torch.zeros_like(action)
    return torch.stack(found, 1), torch.stack(over_at, 1)
