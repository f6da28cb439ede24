"""Classical track finding, track fits, and metrics for any track finder.

- `hough_kalman`, `combinatorial_annealed`: two classical finders; `tune_threshold` chooses their one setting.
- `kalman_fit`, `annealed_fit`: fits of straight lines to hits, the last step of the two finders.
- `match`: efficiency, fake rate and duplicate rate of any finder, for example of
  `posterity.models.tracking.TrackFinder`.
- `set_pulls`: pulls of all tracks of an event under a `posterity.models.tracking.TrackIntensity`.
"""

from posterity.inference.tracking.classical import combinatorial_annealed, hough_kalman, tune_threshold
from posterity.inference.tracking.kalman import TrackFit, annealed_fit, kalman_fit
from posterity.inference.tracking.matching import Matches, match
from posterity.inference.tracking.pulls import SetPulls, set_pulls

__all__ = [
    "Matches",
    "SetPulls",
    "TrackFit",
    "annealed_fit",
    "combinatorial_annealed",
    "hough_kalman",
    "kalman_fit",
    "match",
    "set_pulls",
    "tune_threshold",
]
