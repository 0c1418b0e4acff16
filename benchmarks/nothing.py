"""The baseline: an endpoint with the request and response models of /predict that does nothing else."""

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


@app.post("/predict")
async def predict(patient: Patient, explain: bool = False) -> Prediction:  # noqa: ARG001
    """Validate the request; the response is always the same."""
    return ANSWER


if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), access_log=False, log_level="warning")
