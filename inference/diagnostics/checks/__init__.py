"""Predictive checks: does the model generate data like the observations, before and after the fit?"""
