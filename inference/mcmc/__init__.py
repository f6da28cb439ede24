"""Markov chain Monte Carlo. `reference` holds Pyro's own kernels, one chain at a time."""

from posterity.inference.mcmc.reference import HMC, NUTS

__all__ = ["HMC", "NUTS"]
