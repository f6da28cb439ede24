"""The record of a training: its losses are means over epochs, or over 50 steps of a stream."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from posterity.inference.training.classifier import fit_classifier
from posterity.inference.training.record import FitRecord
from posterity.inference.training.streaming import fit_stream


def test_records_do_not_share_their_losses():
    one, other = FitRecord(), FitRecord()
    one.loss.append(1.0)
    assert other == FitRecord([], 0, 0.0, False)


def test_a_stream_records_the_mean_of_50_losses():
    net, losses = nn.Linear(1, 1), []

    def loss(x):
        value = (net(x) - 1).square().mean()
        losses.append(float(value.detach()))
        return value

    def draw(random):
        return torch.randn(8, 1, generator=random)

    record = fit_stream(net, draw, loss, steps=120, seed=0, progress=False)
    assert record.steps == len(losses) == 120
    assert record.loss == pytest.approx([sum(losses[:50]) / 50, sum(losses[50:100]) / 50])


def test_a_classifier_records_the_mean_of_an_epoch():
    class Watched(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear, self.logits = nn.Linear(4, 2), []

        def forward(self, x):
            logits = self.linear(x.flatten(1))
            if self.training:
                self.logits.append(logits.detach())
            return logits

    net, labels = Watched(), torch.ones(12, dtype=torch.int64)  # one label: the order of rows does not matter
    images = torch.rand(12, 1, 2, 2, generator=torch.Generator().manual_seed(0))
    record = fit_classifier(net, images, labels, epochs=2, batch_size=4, seed=0, progress=False)
    losses = [float(functional.cross_entropy(logits, labels[:4])) for logits in net.logits]
    assert record.loss == pytest.approx([sum(losses[:3]) / 3, sum(losses[3:]) / 3])
    assert (record.steps, record.interrupted) == (6, False)
