"""Parts of ``tracking.py``.

- `settings`: everything the numbers depend on. `networks`: training and loading of the networks.
- `single_track`: events of one track, compared with the exact posterior; and events unlike those of training.
- `several_tracks`: events of several tracks, compared with two classical finders.
- `pull_widths`: mean and width of the pulls of both intercepts.
- `normal_hits`: normal hits, compared with the Cramér-Rao bound.
- `timing`: seconds by the number of hits and of tracks.
- `figures`: all figures.
"""
