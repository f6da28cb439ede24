"""Convergence of chains on functions, divergences, and a report in words."""
