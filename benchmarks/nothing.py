"""The baselines: an endpoint with the request and response models of /predict that does nothing else, or only
what any service must do whose predictions are durable: one fdatasync before the response.
"""

import os
import sys

import uvicorn
from fastapi import FastAPI

from serve.api.models import Patient, Prediction

app = FastAPI()
ANSWER = Prediction(
    prediction_id="0" * 32,
    probability=0.5,
    prediction="presence",
    threshold=0.5,
    model_version="1",
    missing=["thallium"],
    warnings=[],
)
PAGE, PAGES = 4096, 1000  # of the file, which is overwritten in a circle as a write-ahead log is
written: list[int] = []  # the file, if there is one


@app.post("/predict")
async def predict(patient: Patient, explain: bool = False) -> Prediction:  # noqa: ARG001
    """Validate the request; the response is always the same."""
    return ANSWER


@app.post("/durable")
async def durable(patient: Patient, explain: bool = False) -> Prediction:  # noqa: ARG001
    """The same after one page was written and synced, in this thread: for one connection, the fastest way."""
    file, place = written
    os.pwrite(file, b"x" * PAGE, place * PAGE)
    os.fdatasync(file)
    written[1] = (place + 1) % PAGES
    return ANSWER


def open_file(path: str) -> None:
    """Create the file at its full size, so that a sync writes no metadata."""
    file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    os.pwrite(file, bytes(PAGE * PAGES), 0)
    os.fsync(file)
    written[:] = [file, 0]


if __name__ == "__main__":
    if sys.argv[2:]:
        open_file(sys.argv[2])
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), access_log=False, log_level="warning")
