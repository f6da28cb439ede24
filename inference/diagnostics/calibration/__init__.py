"""Calibration: pulls, the PIT, coverage, tests of components, and recalibration."""
