"""What `tracking.py` puts together.

- `settings`: what the numbers depend on. `finders`: training and loading of the networks.
- `one`: events of one track, against the exact posterior; and events unlike those of training.
- `many`: several tracks, against two classical chains.
- `widths`: pulls of both intercepts in a few numbers.
- `line`: normal hits, against the Cramér-Rao bound.
- `clock`: seconds against the number of hits and of tracks.
- `figures`: pictures of all of it.
"""
