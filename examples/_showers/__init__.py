"""Parts of ``showers.py``.

- `settings`: everything the numbers depend on, and the samples. `networks`: training and loading of the generators.
- `features`, `flow`, `library`: the rivals. `evaluation`: every method against the simulation.
- `figures`: what is drawn.
"""
