"""Finding tracks in a detector without learning, and how well anything finds them.

- `hough_kalman`, `combinatorial_annealed`: the classical chains; `tuned` gives them their one setting.
- `kalman_fit`, `annealed_fit`: what they end in.
- `set_pulls`: pulls of all tracks of an event under a `posterity.models.tracking.TrackIntensity`.
- `match`: efficiency, fakes and duplicates of any finder, such as `posterity.models.tracking.TrackFinder`.
"""

from posterity.inference.tracking.classical import combinatorial_annealed, hough_kalman, tuned
from posterity.inference.tracking.kalman import Fitted, annealed_fit, kalman_fit
from posterity.inference.tracking.matching import Matches, match
from posterity.inference.tracking.pulls import SetPulls, set_pulls

__all__ = [
    "Fitted",
    "Matches",
    "SetPulls",
    "annealed_fit",
    "combinatorial_annealed",
    "hough_kalman",
    "kalman_fit",
    "match",
    "set_pulls",
    "tuned",
]
