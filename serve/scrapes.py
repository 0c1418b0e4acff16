"""Scrapes of the metrics: one at a time, and those that arrive meanwhile share the next one.

A scrape takes milliseconds of Python, so many scrapers at once would hold up the event loop, and occupy the
threads in which readiness is checked. A text is always computed after the request for it has arrived::

    scrape 1    computed at once
    scrape 2    arrives meanwhile: the next text
    scrape 3    arrives meanwhile: the same text as scrape 2
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

REST = 4  # times the duration of a scrape: at most a fifth of the time is spent on scrapes


class SharedScrape:
    """The text of the metrics, computed in one thread."""

    def __init__(self, generate: Callable[[], bytes]) -> None:
        self._generate = generate
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="scrape")
        self._next: asyncio.Task[bytes] | None = None
        self._lock = asyncio.Lock()
        self._free_at = 0.0

    async def text(self) -> bytes:
        """The current metrics."""
        if self._next is None:
            self._next = asyncio.create_task(self._compute())
        return await asyncio.shield(self._next)

    async def _compute(self) -> bytes:
        loop = asyncio.get_running_loop()
        async with self._lock:
            await asyncio.sleep(max(0.0, self._free_at - loop.time()))
            self._next = None
            started = loop.time()
            try:
                return await loop.run_in_executor(self._executor, self._generate)
            finally:
                ended = loop.time()
                self._free_at = ended + REST * (ended - started)
