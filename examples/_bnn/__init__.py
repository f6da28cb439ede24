"""Parts of ``bnn_regression.py``.

- `settings`: everything the numbers depend on. `curves`: the data, and the network that is fitted to them.
- `methods`: the posterior by HMC and its cheaper relatives. `exact`: the Gaussian process that drew a curve.
- `panels`: one method on one data set: its numbers, and the bands for the figures.
- `sinc`: five data sets on sin(x) / x.
- `wide`: networks whose posterior is known in closed form, or nearly so.
- `many`: many networks as one, their weights, and their distance from the posterior.
- `film`: the band closes as points arrive.
- `figures`: all figures.
"""
