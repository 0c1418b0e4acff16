"""Counts and scores of patients for publication, so that two scrapes never differ by only a few patients.

Otherwise someone who reads the metrics before and after a request could compute that patient's risk from
two sums, and the missing measurements from two counts. So published counts change in blocks: they stay as
they are until at least MIN_CELL_COUNT more patients have been counted, and then change at once.

    patients counted     1    2   ...   10   11   12   ...   21   22
    published count      0    0   ...    0   11   11   ...   11   22
"""

import math
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import Any

from heart.drift.baseline import MIN_CELL_COUNT

Counts = Mapping[Hashable, float]


class Blocks:
    """Counts by key; `published` is replaced as a whole, and any thread may read it.

    With `seconds`, patients that have waited longer than that for their block to be complete are left out:
    otherwise rare events of several days would be published as many events of one moment.
    """

    def __init__(
        self, seconds: float = math.inf, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.published: Counts = {}
        self._seconds = seconds
        self._clock = clock
        self._waiting: deque[tuple[float, int, defaultdict[Hashable, float]]] = deque()
        self._lock = threading.Lock()

    @property
    def waiting(self) -> int:
        """Entries that wait for a complete block."""
        return len(self._waiting)

    def add(self, patients: int, counts: Counts) -> None:
        """Count some patients. With 0, the counts belong to patients who were counted before."""
        with self._lock:
            now = self._clock()
            while self._waiting and now - self._waiting[0][0] > self._seconds:
                self._waiting.popleft()
            if patients or not self._waiting:
                self._waiting.append((now, patients, defaultdict(float)))
            _add(self._waiting[-1][2], counts)
            if sum(count for _, count, _ in self._waiting) >= MIN_CELL_COUNT:
                self.published = total([self.published, *(block for _, _, block in self._waiting)])
                self._waiting.clear()


def total(parts: Iterable[Counts]) -> defaultdict[Hashable, float]:
    """The sum of counts by key; 0 for other keys."""
    counts: defaultdict[Hashable, float] = defaultdict(float)
    for part in parts:
        _add(counts, part)
    return counts


def _add(counts: defaultdict[Hashable, float], more: Counts) -> None:
    for key, count in more.items():
        counts[key] += count


class SteppedScores:
    """Scores of many patients; each stays until it covers at least MIN_CELL_COUNT more or fewer."""

    def __init__(self) -> None:
        self._published: dict[Hashable, tuple[int, Any]] = {}
        self._lock = threading.Lock()

    def publish(self, key: Hashable, patients: int, score: Any) -> Any:
        """The score to publish, given the current one and the number of patients that it covers."""
        with self._lock:
            published = self._published.get(key)
            if published is None or abs(patients - published[0]) >= MIN_CELL_COUNT:
                published = self._published[key] = (patients, score)
            return published[1]
