"""The limits of the drift check, by simulation of the policy on streams without drift.

What counts is how large the evidence gets anywhere in a whole stream. Its error has two parts: the
window's, drawn anew all the time, and the reference's, drawn once. Tests of single windows take
both for new each time; so at long windows their limits are far too wide for a given rate of false
alarms over streams, and at short ones too narrow.
"""

from functools import lru_cache

import numpy as np
import numpy.typing as npt

from heart.drift.baseline import Policy

Array = npt.NDArray[np.float64]

BATCH = 1000

# The limit of the last n patients is c (longest / n)^exponent: the long windows, which alone notice
# small changes, get most of the false alarms; large changes are noticed in the short ones anyhow.
EXPONENT = 0.15

# The limit of all patients so far is c times this. There are few such looks in a stream, and a
# drift that begins with a version's first patient, as at another hospital, deserves them.
START = 0.93

# Quantiles of rarer events are extrapolated.
ANCHOR = 0.002


@lru_cache(maxsize=64)
def limits(rows: int, policy: Policy, rate: float, exponent: float) -> tuple[float, ...]:
    """Limits that a share `rate` of streams without drift exceeds in any look, one a view of `maxima`.

    `rows` is the number of patients of the reference. Beyond the quantile ANCHOR the tail is that
    of the maximum of a normal process, proportional to c exp(-c^2 / 2) (Rice's formula).
    """
    # The service reads limits and never makes them: it has no scipy.
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
    """The largest evidence for drift in each stream and view [simulations, windows + 1].

    Of a standard normal measurement, whose reference mean is that of `rows` patients. The views are
    the windows and, as long as the longest is not full, all patients so far. The evidence is the
    difference of the means in units of its standard deviation.
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
            looks = patients // policy.step
            change = (sums[looks:] - sums[:-looks]) / np.float32(patients) - mean
            batch[:, view] = np.abs(change).max(axis=0) / np.sqrt(1 / patients + 1 / rows)
        change = sums[first:full] / so_far - mean
        batch[:, -1] = np.abs(change / np.sqrt(1 / so_far + np.float32(1 / rows))).max(axis=0)
    return maxima


def _walks(random: np.random.Generator, streams: int, policy: Policy) -> npt.NDArray[np.float32]:
    """The sums of all patients before each look [looks + 1, streams]."""
    walks = random.standard_normal((policy.stream // policy.step + 1, streams), dtype=np.float32)
    walks *= np.float32(policy.step**0.5)
    walks[0] = 0
    return np.cumsum(walks, axis=0)
