"""Micro-batching: requests that arrive in the same turn of the event loop are processed as one batch.

Under load, many requests are waiting whenever the event loop gets to read its sockets. Calling the model
and waking the writer of the prediction log once for each would take longer than everything else. The first
request of a turn schedules `_flush` with `call_soon`, which runs after all requests that the loop has
already read have been submitted:

    turn 1   A submits 1 patient, schedules the flush    batch [A]
             B submits 2 patients                        batch [A, B]
             C submits 1 patient                         batch [A, B, C]
    turn 2   flush: 4 patients, one call of the model, one commit; A, B and C get their parts

There is no timer: a request that is alone is processed at once, and the batch grows with the load. A batch
has at most `max_rows` patients, since they are scored in the event loop. If the patients of one request cannot be
scored, each request is processed alone. After another error, each gets a copy of it. A request whose client has
disconnected is skipped. No lock is needed. Source of the method:
"Clipper: A Low-Latency Online Prediction Serving System" (Crankshaw et al. 2017), adaptive batching.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from functools import partial
from typing import Any

from heart.registry.errors import ScoringFailed

Patient = Mapping[str, Any]
Predictions = list[dict[str, Any]]
Process = Callable[
    [Sequence[Patient]], tuple[Predictions, asyncio.Future[None], Callable[[], None]]
]


@dataclass(slots=True)
class PendingRequest:
    """The patients of a request, and the future of their predictions."""

    patients: Sequence[Patient]
    predictions: asyncio.Future[Predictions]


class MicroBatcher:
    """Collects the requests of a turn of the event loop and processes them together."""

    def __init__(self, process: Process, max_rows: int) -> None:
        """`process` returns a prediction for each patient, in their order, a future and a function.

        The predictions may be returned once the future has a result. The function is called after that, in a
        later turn than the requests: they do not wait for it. No task is needed for a batch.
        """
        self._process = process
        self._max_rows = max_rows
        self._batch: list[PendingRequest] = []
        self._rows = 0

    async def submit(self, patients: Sequence[Patient]) -> Predictions:
        """The predictions for the patients of a request. Raises what `process` or its future raises."""
        loop = asyncio.get_running_loop()
        request = PendingRequest(patients, loop.create_future())
        if self._rows + len(patients) > self._max_rows:
            self._flush()
        self._batch.append(request)
        self._rows += len(patients)
        if len(self._batch) == 1:
            loop.call_soon(self._flush)
        return await request.predictions

    def _flush(self) -> None:
        batch, self._batch, self._rows = self._batch, [], 0
        if not batch:
            return  # it was full and is flushed already
        self._run(batch)

    def _run(self, batch: Sequence[PendingRequest]) -> None:
        try:
            patients = [patient for request in batch for patient in request.patients]
            predictions, done, after = self._process(patients)
        except ScoringFailed as error:  # nothing is logged
            if len(batch) == 1:
                _fail(batch, error)
                return
            for request in batch:
                self._run([request])
        except Exception as error:  # noqa: BLE001  # it is raised again in `submit`
            _fail(batch, error)
        else:
            done.add_done_callback(partial(_settle, batch, predictions, after))


def _settle(
    batch: Sequence[PendingRequest],
    predictions: Predictions,
    after: Callable[[], None],
    done: asyncio.Future[None],
) -> None:
    error = done.exception()
    if error is not None:
        _fail(batch, error)
        return
    end = 0
    for request in batch:
        start, end = end, end + len(request.patients)
        if not request.predictions.done():
            request.predictions.set_result(predictions[start:end])
    done.get_loop().call_soon(after)


def _fail(batch: Sequence[PendingRequest], error: BaseException) -> None:
    for request in batch:
        if not request.predictions.done():
            # A copy, since each raise adds to the traceback.
            request.predictions.set_exception(copy(error))
