"""What is published of patients, so that two scrapes never differ by one patient alone.

Whoever reads the metrics before and after a request would otherwise read that patient's risk off the
difference of two sums, and the missing measurements off the counts. So the published counts stay as they
are until at least MIN_CELL_COUNT more patients have been counted, and then change at once.
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

    With `seconds`, patients who have waited longer than that for a block of their own time are left out:
    otherwise rare events of days would become visible as many at one moment.
    """

    def __init__(
        self, seconds: float = math.inf, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.published: Counts = {}
        self._seconds = seconds
        self._clock = clock
        self._waiting: deque[tuple[float, int, defaultdict[Hashable, float]]] = deque()
        self._lock = threading.Lock()

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
                self.published = total([self.published, *(waiting[2] for waiting in self._waiting)])
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


class Figures:
    """Figures over many patients; each stays until it is over at least MIN_CELL_COUNT more or fewer."""

    def __init__(self) -> None:
        self._published: dict[Hashable, tuple[int, Any]] = {}
        self._lock = threading.Lock()

    def published(self, key: Hashable, patients: int, figure: Any) -> Any:
        """The figure to publish, given the present one and a count of the patients that it is over."""
        with self._lock:
            published = self._published.get(key)
            if published is None or abs(patients - published[0]) >= MIN_CELL_COUNT:
                published = self._published[key] = (patients, figure)
            return published[1]
