"""A deadline for the parts of a request in which the server waits for its client.

A client that sends its body one byte a minute, or never reads its response, would keep a task and its
memory for ever. `asyncio.timeout` prevents that with a timer for each wait, which costs about as much as
scoring a patient. `ClientDeadline` has no timers: entering stores the task and the time in a dictionary,
leaving deletes the entry, and `enforce`, one task for the whole program, cancels overdue tasks once a
second. The dictionary is in the order of insertion, so the check stops at the first entry that is not
overdue. A wait can therefore last up to one second longer than its limit::

    deadline = ClientDeadline(seconds=10)
    asyncio.create_task(deadline.enforce())
    with deadline:                   # t = 0.0 s: stored
        await receive()              # t = 10.7 s: cancelled, and TimeoutError is raised here

Cancellation by someone else is not turned into TimeoutError. `Task.uncancel` tells them apart, as in
`asyncio.timeout` itself (https://docs.python.org/3/library/asyncio-task.html#asyncio.Task.uncancel).
"""

import asyncio
import time
from types import TracebackType


class ClientDeadline:
    """A context manager that raises TimeoutError if its block takes longer than `seconds`.

    One object serves all requests of an event loop, but a task may be in only one block at a time.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._start: dict[asyncio.Task[object], float] = {}
        self._cancelled: set[asyncio.Task[object]] = set()

    def __enter__(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._start[task] = time.monotonic()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        task = asyncio.current_task()
        assert task is not None
        del self._start[task]
        if task in self._cancelled:
            self._cancelled.discard(task)
            if task.uncancel() == 0 and kind is asyncio.CancelledError:
                raise TimeoutError from None

    async def enforce(self) -> None:
        """Cancel overdue tasks once a second, until cancelled."""
        while True:
            await asyncio.sleep(min(1.0, self.seconds))
            self._cancel_older(time.monotonic() - self.seconds)

    def _cancel_older(self, limit: float) -> None:
        for task, start in self._start.items():
            if start > limit:
                return
            if task not in self._cancelled:
                self._cancelled.add(task)
                task.cancel()
