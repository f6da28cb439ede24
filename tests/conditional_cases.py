"""Conditionals of Bishop's inverse problem for the tests of `posterity.data`."""

import math

import torch

from posterity.data import NormalNoiseConditional, UniformNoiseConditional

TURN = math.acos(-1 / (0.6 * math.pi)) / (2 * math.pi)


def curve(t):
    return t + 0.3 * torch.sin(2 * math.pi * t)


def normal(x, scale=0.05):
    return NormalNoiseConditional(x, curve, 0.0, 1.0, scale)


def uniform(x, scale=0.1):
    return UniformNoiseConditional(x, curve, 0.0, 1.0, scale, (TURN, 1 - TURN))


def double(*values):
    return torch.tensor(values, dtype=torch.float64)


X = double(-0.08, 0.0, 0.2, 0.4, 0.5, 0.63, 0.97, 1.06)
