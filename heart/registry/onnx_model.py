"""An ONNX file as a function of rows, after a check of its shape.

ONNX Runtime gets the bytes: nothing is unpickled, and no other file is read (`heart/registry/onnx_graph.py`).
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from heart.errors import first_line
from heart.registry.errors import Kind, VersionRejected
from heart.runtime import onnx_runtime
from heart.schema import NAMES, Floats


class OnnxModel:
    """An ONNX model from encoded rows [n, 13] to one number each; for any number of threads."""

    def __init__(self, data: bytes) -> None:
        """Raises VersionRejected for a model of another shape.

        The bytes of a registered version must have passed their trial (`heart/registry/trial.py`).
        """
        self._session = _session(data)
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        if [_signature(port) for port in inputs] != [("tensor(float)", len(NAMES))]:
            raise VersionRejected("shape", f"its input is {_described(inputs)}")
        if [_signature(port) for port in outputs] != [("tensor(float)", 1)]:
            raise VersionRejected("shape", f"its output is {_described(outputs)}")
        self._input, self._outputs = inputs[0].name, [outputs[0].name]

    def __call__(self, rows: Floats) -> Floats:
        """One number for each of the encoded rows [n, 13], as [n]."""
        result: Floats = self._session.run(self._outputs, {self._input: rows})[0]
        return result[:, 0]

    def try_out(self, rows: Floats) -> Floats:
        """The result of a first call, checked: a model may fail, or return another shape than declared."""
        try:
            result = self._session.run(self._outputs, {self._input: rows})[0]
        except Exception as error:
            # ONNX Runtime's exceptions have no base class of their own.
            kind = _kind(error, "self_test")
            raise VersionRejected(kind, f"it fails: {first_line(error)}") from error
        if result.shape != (len(rows), 1):
            raise VersionRejected(
                "shape", f"{len(rows)} rows give a result of shape {list(result.shape)}"
            )
        return np.asarray(result[:, 0], dtype=np.float32)


def _session(data: bytes) -> Any:
    onnxruntime = onnx_runtime()

    options = onnxruntime.SessionOptions()
    # A row takes less than 0.1 ms: more threads would only add overhead.
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    # ONNX Runtime would keep a memory plan for each number of rows.
    options.enable_mem_pattern = False
    options.log_severity_level = 4
    # Its own format, which it would otherwise recognize, is not checked.
    options.add_session_config_entry("session.load_model_format", "ONNX")
    try:
        return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        # ONNX Runtime's exceptions have no base class of their own.
        kind = _kind(error, "unreadable")
        raise VersionRejected(kind, f"ONNX Runtime: {first_line(error)}") from error


def _kind(error: Exception, otherwise: Kind) -> Kind:
    """The kind of an exception of ONNX Runtime, which reports a failed allocation in its text only."""
    text = str(error)
    failed = "bad_alloc" in text or "Failed to allocate memory" in text
    return "memory" if failed or isinstance(error, MemoryError) else otherwise


def _signature(port: Any) -> tuple[str, int] | None:
    """Type and columns of an input or output; None if it takes a fixed number of rows."""
    if len(port.shape) != 2 or isinstance(port.shape[0], int):
        return None
    return port.type, port.shape[1]


def _described(ports: Sequence[Any]) -> str:
    return ", ".join(f"{port.type} {port.shape}" for port in ports) or "missing"
