"""How late the event loop is: the time by which a sleeping task is woken too late.

While the loop computes, or waits for the interpreter's lock (GIL), no request is read and none answered.
Its latencies do not show that: a request that is not read yet is not timed.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable

INTERVAL_SECONDS = 0.25


async def measure(
    observe: Callable[[float], None],
    clock: Callable[[], float] = time.perf_counter,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> None:
    """Observe the lag of this event loop four times a second, until cancelled."""
    while True:
        due = clock() + INTERVAL_SECONDS
        await sleep(INTERVAL_SECONDS)
        observe(max(0.0, clock() - due))
