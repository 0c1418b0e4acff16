"""All cores of this machine."""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from functools import partial
from typing import TypeVar

from serve.batch.tables import Part
from serve.batch.work import Job, score

T = TypeVar("T")


def cores() -> int:
    """The cores that this process may use; all, where the system does not tell."""
    if hasattr(os, "sched_getaffinity"):  # not in macOS
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def run(job: Job, parts: Sequence[Part], threads: int) -> Iterator[int]:
    """Score parts in threads."""
    for _ in each(partial(score, job), parts, threads):
        yield 1


def each(work: Callable[[Part], T], parts: Sequence[Part], threads: int) -> Iterator[T]:
    """What a function makes of each part, in threads and as they come.

    Reading, scoring and writing all leave Python's lock to other threads.
    """
    with ThreadPoolExecutor(threads) as pool:
        futures = [pool.submit(work, part) for part in parts]
        try:
            for future in as_completed(futures):
                yield future.result()
        finally:
            pool.shutdown(cancel_futures=True)
