"""Evidence that a mean is above 0, which may be evaluated after every new observation.

It is a bet. It starts with a wealth of 1 and bets a share s of it on each difference d in [-1, 1], so that
the wealth is multiplied by 1 + s * d. If the mean of the differences is at most 0, the wealth does not grow in
the mean: the probability that it ever reaches 1 / a is at most a (Ville's inequality), however often it is
evaluated. The wealth is the mean over 19 shares, since the best one is not known. Sources: J. Ville, "Etude
critique de la notion de collectif", 1939; I. Waudby-Smith and A. Ramdas, "Estimating means of bounded random
variables by betting", JRSS B 86 (2024).
"""

import math

import numpy as np
import numpy.typing as npt

SHARES = np.arange(1, 20) / 20  # of the wealth, that are bet on the next difference
BLOCK = 1 << 16  # differences at a time, which bounds the memory


def evidence(differences: npt.ArrayLike) -> float:
    """Evidence that the mean of differences in [-1, 1] is above 0: the logarithm of the mean wealth."""
    values = np.asarray(differences, dtype=float)
    wealth = np.zeros(len(SHARES))
    for start in range(0, len(values), BLOCK):
        wealth += np.log1p(np.outer(SHARES, values[start : start + BLOCK])).sum(axis=1)
    return float(np.logaddexp.reduce(wealth) - math.log(len(SHARES)))
