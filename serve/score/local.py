"""All cores of this machine."""

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed

from serve.score.tables import Part
from serve.score.work import Job, score


def cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0))


def run(job: Job, parts: Sequence[Part], threads: int) -> Iterator[int]:
    """Score parts in threads: reading, scoring and writing leave Python's lock to the others."""
    with ThreadPoolExecutor(threads) as pool:
        futures = [pool.submit(score, job, part) for part in parts]
        try:
            for future in as_completed(futures):
                future.result()
                yield 1
        finally:
            pool.shutdown(cancel_futures=True)
