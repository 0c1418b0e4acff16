"""The limits of the drift check, by simulation of the policy on streams without drift.

A test that is repeated every 10 patients raises a false alarm sooner or later. The limits therefore
control the maximum of a statistic over all checks and windows of a whole stream (of 10,000 patients):

1. Simulate streams of a standard normal variable and a reference mean (`maxima`). Each stream has one
   reference, whose error is the same in all its checks; only the error of the window is new each time.
   Limits for single windows ignore this: they would be too wide for long windows, too narrow for short ones.
2. Divide the maximum of each window by the shape (longest / n)^EXPONENT, which gives long windows more of
   the false alarms, and take the largest quotient of each stream.
3. The limit is its quantile 1 - rate, times the shape. Beyond the quantile that the simulation can give
   (ANCHOR), the tail of a normal process is used: P(maximum > c) is proportional to c exp(-c^2 / 2), which
   Lambert's W inverts (Rice's formula; Leadbetter, Lindgren and Rootzen 1983, "Extremes").

Example: for a shift of age (230 training patients, its part of a rate of 1 in 100 streams) the limits are 7.6
standard deviations in a window of 20 patients and 4.8 in one of 400. A single test at 1 in 100 has 2.6.
"""

from functools import lru_cache

import numpy as np
import numpy.typing as npt

from heart.drift.baseline import Policy

Array = npt.NDArray[np.float64]

BATCH = 1000

# The limit of the last n patients is c (longest / n)^exponent: long windows, which alone detect small
# changes, get most of the false alarms; short ones detect large changes in any case.
EXPONENT = 0.15

# The limit of all patients so far is c times this, lower than in the windows: there are only a few such
# checks in a stream, and they detect a drift from a version's first patient, as at another hospital.
START = 0.93

# The quantile of rarer events is extrapolated.
ANCHOR = 0.002


@lru_cache(maxsize=64)
def limits(rows: int, policy: Policy, rate: float, exponent: float) -> tuple[float, ...]:
    """Limits that the share `rate` of streams without drift exceeds, one for each view of `maxima`.

    `rows` is the number of patients of the reference.
    """
    # Imported here: the service only reads limits, and has no scipy.
    from scipy.special import lambertw

    windows = np.array(policy.windows, dtype=np.float64)
    shape = np.append((windows[-1] / windows) ** exponent, START)
    largest = (maxima(rows, policy) / shape).max(axis=1)
    anchor = max(rate, ANCHOR)
    c = float(np.quantile(largest, 1 - anchor))
    density = c * np.exp(-(c**2) / 2) * rate / anchor
    c = float(np.sqrt(-lambertw(-(density**2), k=-1).real))
    return tuple(round(float(limit), 4) for limit in c * shape)


@lru_cache(maxsize=4)
def maxima(rows: int, policy: Policy) -> Array:
    """The largest statistic in each stream and view [simulations, windows + 1].

    The variable is standard normal, its reference mean that of `rows` patients. The views are the windows
    and, while the longest is not full, all patients so far. The statistic is the difference of the means
    in units of its standard deviation.
    """
    random = np.random.default_rng(policy.seed)
    maxima = np.empty((policy.simulations, len(policy.windows) + 1))
    first, full = policy.windows[0] // policy.step, policy.windows[-1] // policy.step
    so_far = policy.step * np.arange(first, full, dtype=np.float32)[:, None]
    for start in range(0, policy.simulations, BATCH):
        batch = maxima[start : start + BATCH]
        sums = _walks(random, len(batch), policy)
        mean = random.standard_normal(len(batch), dtype=np.float32) / np.float32(rows**0.5)
        for view, patients in enumerate(policy.windows):
            steps = patients // policy.step
            change = (sums[steps:] - sums[:-steps]) / np.float32(patients) - mean
            batch[:, view] = np.abs(change).max(axis=0) / np.sqrt(1 / patients + 1 / rows)
        change = sums[first:full] / so_far - mean
        batch[:, -1] = np.abs(change / np.sqrt(1 / so_far + np.float32(1 / rows))).max(axis=0)
    return maxima


def _walks(random: np.random.Generator, streams: int, policy: Policy) -> npt.NDArray[np.float32]:
    """The sums over all patients before each check [checks + 1, streams]."""
    walks = random.standard_normal((policy.stream // policy.step + 1, streams), dtype=np.float32)
    walks *= np.float32(policy.step**0.5)
    walks[0] = 0
    return np.cumsum(walks, axis=0)
