"""Networks that find tracks in a detector, and the distributions of tracks that they return.

- `TrackFinder`: images to a `TrackIntensity`, the expected number of tracks at each point of the (b1, b2) plane.
- `IndependentFinder`: images to one mixture for each intercept, which do not tell which b1 belongs to which b2.
- `TrackSet`: the distribution of any number of tracks; `TrackIntensity.single`: of exactly one.
- `FoundTracks`: the result of `TrackIntensity.detect`.
- `track_set_pair`, `single_track_pair`: Pyro models of them.
- `HoughMap`, `RoadMap`: counts of hits on lines, coarse over the whole plane and fine near given tracks.
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
