"""Networks that find tracks in a detector, and what they say.

- `TrackFinder`: images to a `TrackIntensity`, how many tracks are to be expected where.
- `IndependentFinder`: images to a mixture for each intercept by itself, which does not say what belongs together.
- `FoundTracks`: what `TrackIntensity.found` makes of one.
- `TrackSet`: the distribution of any number of tracks; `TrackIntensity.single`: of one.
- `track_set_pair`, `single_track_pair`: Pyro models of them.
- `HoughMap`, `RoadMap`: hits on lines, coarse over all of the plane and fine near given tracks.
"""

from posterity.models.tracking.finder import TrackFinder, single_track_pair, track_set_pair
from posterity.models.tracking.independent import IndependentFinder
from posterity.models.tracking.intensity import FoundTracks, TrackIntensity, TrackSet
from posterity.models.tracking.roads import HoughMap, RoadMap

__all__ = [
    "FoundTracks",
    "HoughMap",
    "IndependentFinder",
    "RoadMap",
    "TrackFinder",
    "TrackIntensity",
    "TrackSet",
    "single_track_pair",
    "track_set_pair",
]
