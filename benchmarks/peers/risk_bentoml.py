"""A BentoML service of one worker: the probabilities of an ONNX model, checked by BentoML's own types.

`bentoml serve risk_bentoml:Risk` in this folder: in the project's, `heart/schema.py` would be taken for a library of
that name which BentoML needs.
"""

import os

import bentoml
import numpy as np
import onnxruntime


@bentoml.service(workers=1)
class Risk:
    """The model of the file that MODEL names."""

    def __init__(self) -> None:
        options = onnxruntime.SessionOptions()
        # As in the project's service: more threads only add overhead for a single row.
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(os.environ["MODEL"], options)

    @bentoml.api  # type: ignore[untyped-decorator]
    def predict(self, rows: list[list[float]]) -> list[float]:
        """The probability of presence of each encoded row."""
        inputs = {"measurements": np.asarray(rows, dtype=np.float32)}
        risks: list[float] = self._session.run(None, inputs)[0][:, 0].tolist()
        return risks
