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
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import Any, Generic, TypeVar

from heart.drift.baseline import MIN_CELL_COUNT

Counts = Mapping[Hashable, float]
T = TypeVar("T")


class Blocks(Generic[T]):
    """Counts by key; `published` is replaced as a whole, and any thread may read it.

    With `seconds`, patients that have waited longer than that for their block to be complete are left out:
    otherwise rare events of several days would be published as many events of one moment.
    """

    def __init__(
        self,
        tally: Callable[[Sequence[T]], Counts],
        seconds: float = math.inf,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`tally` counts what was added: once for a block, which takes a fraction of the time."""
        self.published: Counts = {}
        self._tally = tally
        self._seconds = seconds
        self._clock = clock
        self._waiting: deque[tuple[float, int, T]] = deque()
        self._patients = 0  # that wait
        self._more: Counts = {}  # of patients who were counted before
        self._lock = threading.Lock()

    @property
    def waiting(self) -> int:
        """Entries that wait for a complete block."""
        return len(self._waiting)

    def add(self, patients: int, item: T) -> None:
        """Count some patients. With 0, the item is about patients who were counted before."""
        with self._lock:
            if not patients:
                self._more = total([self._more, self._tally([item])])
                return
            now = self._clock()
            while self._waiting and now - self._waiting[0][0] > self._seconds:
                self._patients -= self._waiting.popleft()[1]
            self._waiting.append((now, patients, item))
            self._patients += patients
            if self._patients >= MIN_CELL_COUNT:
                block = self._tally([item for _, _, item in self._waiting])
                self.published = total([self.published, self._more, block])
                self._waiting.clear()
                self._patients, self._more = 0, {}


def total(parts: Iterable[Counts]) -> defaultdict[Hashable, float]:
    """The sum of counts by key; 0 for other keys."""
    counts: defaultdict[Hashable, float] = defaultdict(float)
    for part in parts:
        for key, count in part.items():
            counts[key] += count
    return counts


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
