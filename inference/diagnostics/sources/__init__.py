"""Predictives and observations in one form: a mixture and y, draws and y, or ArviZ data, checked when they are read.

`reading.read` returns a `source.Source`, on which every diagnostic is written. Modules whose name begins with
``mixture`` import torch, and are imported only if the predictive is a mixture.
"""
