"""The first decision about a request, when its head is complete: whether it may start, or is rejected for overload.

A rejection must cost much less than an answer. Otherwise an overloaded service spends its time on
rejections: if an answer takes 100 us and a rejection 50 us, 20,000 rejections a second take all of it. So
the gate is in the server's protocol, before there is a task, and of its response only the request id is
not encoded in advance.

Requests of one turn of the event loop start together in the next one, and only then take their slots. So
the gate also counts the requests that it has admitted in the same turn::

    turn 1   limit 128, 120 in progress   8 heads are admitted, all others rejected
    turn 2   128 in progress              the count of the turn starts at 0 again
"""

import asyncio
from collections.abc import Callable

from starlette.types import Scope

from heart.http.concurrency import ConcurrencyLimiter


class Gate:
    """Admits requests as long as there are slots for them; those that take no slot always."""

    def __init__(
        self,
        limiter: ConcurrencyLimiter,
        takes_slot: Callable[[Scope], bool],
        on_shed: Callable[[str], None],
        response: Callable[[Scope], bytes],
    ) -> None:
        """`on_shed` takes the method of a rejected request; `response` makes what follows the status line."""
        self.response = response
        self._limiter = limiter
        self._takes_slot = takes_slot
        self._on_shed = on_shed
        self._admitted = 0  # in this turn of the event loop

    def admits(self, scope: Scope) -> bool:
        """Whether a request may start."""
        if not self._takes_slot(scope):
            return True
        if self._limiter.active + self._admitted >= self._limiter.limit:
            self._on_shed(scope["method"])
            return False
        if not self._admitted:
            asyncio.get_running_loop().call_soon(self._next_turn)
        self._admitted += 1
        return True

    def _next_turn(self) -> None:
        self._admitted = 0
