"""What a run says at its end about draws that should not be believed."""

import math
from collections.abc import Mapping

from torch import Tensor

DIVERGENT = 0.01  # of all transitions
STUCK = 0.5  # the least average acceptance of a chain that moves
RHAT = 1.05  # of what the model predicts; below 1.01 is what to aim for (Vehtari et al. 2021)
NAMED = 5


def trouble(statistics: Mapping[str, Tensor], rhat: float) -> list[str]:
    """One sentence for each reason to doubt, with its cure; none for a run that looks well.

    ``statistics`` are those of the draws, (chain, draw); ``rhat`` the largest of what the model predicts, not finite
    where it is not known.
    """
    found = []
    diverging = statistics["diverging"].double()
    if float(diverging.mean()) > DIVERGENT:
        worst = int(diverging.mean(1).argmax())
        found.append(
            f"{100 * float(diverging.mean()):.1f} % of the transitions diverged, "
            f"{100 * float(diverging[worst].mean()):.0f} % of those of chain {worst}: a higher target_accept, or a "
            "non-centred model"
        )
    acceptance = statistics["acceptance_rate"].double().mean(1)
    stuck = (acceptance < STUCK).nonzero().flatten().tolist()
    if stuck:
        named = ", ".join(str(chain) for chain in stuck[:NAMED]) + (", ..." if len(stuck) > NAMED else "")
        found.append(
            f"{len(stuck)} of {len(acceptance)} chains hardly move (chain {named}: acceptance down to "
            f"{float(acceptance.min()):.2f}): a longer warmup, or another init ('uniform', 'map')"
        )
    if math.isfinite(rhat) and rhat > RHAT:
        found.append(
            f"the chains do not agree on what the model predicts (R-hat {rhat:.2f}): a longer warmup, more draws"
        )
    return found
