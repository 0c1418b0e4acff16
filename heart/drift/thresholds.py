"""The limits of the drift check, by simulation of the policy on streams without drift.

A test that is repeated every 10 patients raises a false alarm sooner or later. The limits therefore
control the maximum of a statistic over all checks and windows of a whole stream (of 10,000 patients):

1. Simulate streams of a standard normal variable and a reference mean (`maxima`). Each stream has one
   reference, whose error is the same in all its checks; only the error of the window is new each time.
   Limits for single windows ignore this: they would be too wide for long windows, too narrow for short ones.
2. Divide the maximum of each view by its shape, (longest / n)^EXPONENT for a window, which gives long
   windows more of the false alarms, and take the largest quotient of each stream.
   Windows that are compared with the earlier patients of the stream too count as further windows, so that
   both comparisons share the rate; how far they overlap is part of the simulation.
3. The limit is its quantile 1 - rate, times the shape. Beyond the quantile that the simulation can give
   (ANCHOR), the tail of a normal process is used: P(maximum > c) is proportional to c exp(-c^2 / 2), which
   Lambert's W inverts (Rice's formula; Leadbetter, Lindgren and Rootzen 1983, "Extremes").

Example: for a shift of age (230 training patients, its part of a rate of 1 in 100 streams) the limits are 7.6
standard deviations in a window of 20 patients and 4.8 in one of 400. A single test at 1 in 100 has 2.6.
"""

import os
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache, partial

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
START = 0.86

# Windows that are compared with the earlier patients too have the exponent times EARLIER, which detects a small
# change somewhat sooner. Beside them, those that are compared with the training patients alone detect only slow
# changes; their limits are c times TRAINING, which leaves more of the false alarms to the others.
EARLIER, TRAINING = 0.4, 1.1

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
    lengths = windows[-1] / windows
    shape = np.append(lengths**exponent, START)
    if policy.earlier:
        shape[:-1] *= TRAINING
        shape = np.append(shape, lengths ** (exponent * EARLIER))
    largest = (maxima(rows, policy) / shape).max(axis=1)
    anchor = max(rate, ANCHOR)
    c = float(np.quantile(largest, 1 - anchor))
    density = c * np.exp(-(c**2) / 2) * rate / anchor
    c = float(np.sqrt(-lambertw(-(density**2), k=-1).real))
    return tuple(round(float(limit), 4) for limit in c * shape)


@lru_cache(maxsize=4)
def maxima(rows: int, policy: Policy) -> Array:
    """The largest statistic in each stream and view [simulations, views]; see `Limits` for the views.

    The variable is standard normal, its reference mean that of `rows` patients. The statistic is the
    difference of the means in units of its standard deviation.
    """
    sizes = [
        min(BATCH, policy.simulations - start) for start in range(0, policy.simulations, BATCH)
    ]
    # Threads, since numpy releases the interpreter's lock. Each batch has its own seed, so that the result
    # does not depend on their number.
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        batches = threads.map(partial(_maxima, rows, policy), sizes, range(len(sizes)))
        return np.concatenate(list(batches))


def _maxima(rows: int, policy: Policy, streams: int, number: int) -> Array:
    """A batch of `maxima`."""
    random = np.random.default_rng([policy.seed, number])
    largest = np.empty((streams, policy.views))
    sums = _walks(random, streams, policy)
    mean = random.standard_normal(streams, dtype=np.float32) / np.float32(rows**0.5)
    for view, patients in enumerate(policy.windows):
        steps = patients // policy.step
        change = sums[steps:] - sums[:-steps]
        change /= np.float32(patients)
        change -= mean
        largest[:, view] = np.abs(change).max(axis=0) / np.sqrt(1 / patients + 1 / rows)
        if policy.earlier:
            beside = _beside_earlier(sums, mean * np.float32(rows), rows, steps, policy)
            largest[:, len(policy.windows) + 1 + view] = beside
    first, full = policy.windows[0] // policy.step, policy.windows[-1] // policy.step
    so_far = policy.step * np.arange(first, full, dtype=np.float32)[:, None]
    change = sums[first:full] / so_far - mean
    change /= np.sqrt(1 / so_far + np.float32(1 / rows))
    largest[:, len(policy.windows)] = np.abs(change).max(axis=0)
    return largest


def _beside_earlier(
    sums: npt.NDArray[np.float32],
    training: npt.NDArray[np.float32],
    rows: int,
    steps: int,
    policy: Policy,
) -> npt.NDArray[np.float32]:
    """The largest statistic of a window of so many steps beside the sums of training and earlier patients."""
    starts = np.arange(1, len(sums) - steps)
    ends = np.maximum(starts - policy.earlier // policy.step, 0)
    before = np.float32(rows) + np.float32(policy.step) * (starts - ends)[:, None].astype(
        np.float32
    )
    change = sums[steps + 1 :] - sums[1:-steps]
    change /= np.float32(steps * policy.step)
    reference = sums[starts]
    reference -= sums[ends]
    reference += training
    reference /= before
    change -= reference
    change /= np.sqrt(1 / np.float32(steps * policy.step) + 1 / before)
    largest: npt.NDArray[np.float32] = np.abs(change, out=change).max(axis=0)
    return largest


def _walks(random: np.random.Generator, streams: int, policy: Policy) -> npt.NDArray[np.float32]:
    """The sums over all patients before each check [checks + 1, streams]."""
    walks = random.standard_normal((policy.stream // policy.step + 1, streams), dtype=np.float32)
    walks *= np.float32(policy.step**0.5)
    walks[0] = 0
    return np.cumsum(walks, axis=0)
