"""An ONNX file as a function of rows, after checks of its shape and of references to other files.

ONNX Runtime gets the bytes: nothing is unpickled, and no other file is read.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from heart.errors import first_line
from heart.registry.errors import VersionRejected
from heart.schema import NAMES, Floats

# The fields of onnx.proto through which a message contains a tensor. `external_data` is 13 and
# `data_location` 14 in TensorProto.
WIRE: dict[str, dict[int, str]] = {
    "ModelProto": {7: "GraphProto", 20: "TrainingInfoProto", 25: "FunctionProto"},
    "TrainingInfoProto": {1: "GraphProto", 2: "GraphProto"},
    "FunctionProto": {7: "NodeProto", 11: "AttributeProto"},
    "GraphProto": {1: "NodeProto", 5: "TensorProto", 15: "SparseTensorProto"},
    "NodeProto": {5: "AttributeProto"},
    "AttributeProto": {
        5: "TensorProto",
        6: "GraphProto",
        10: "TensorProto",
        11: "GraphProto",
        22: "SparseTensorProto",
        23: "SparseTensorProto",
    },
    "SparseTensorProto": {1: "TensorProto", 2: "TensorProto"},
    "TensorProto": {},
}
EXTERNAL_DATA, DATA_LOCATION = 13, 14


def has_external_data(data: bytes) -> bool:
    """Whether a tensor of an ONNX model is in another file. Raises VersionRejected for an unreadable model.

    ONNX Runtime would read that file from the working directory, and its content would be served without
    a check. The protobuf wire format is parsed here, since the service has no `onnx` package. Source:
    https://protobuf.dev/programming-guides/encoding and onnx.proto.
    """
    try:
        return _external(data, "ModelProto", 0, len(data))
    except (ValueError, IndexError, RecursionError) as error:
        raise VersionRejected("unreadable", f"this is not an ONNX model: {error}") from error


def _external(data: bytes, message: str, at: int, end: int) -> bool:
    inner = WIRE[message]
    while at < end:
        key, at = _varint(data, at)
        field, wire_type = key >> 3, key & 7
        start, at = _skip(data, at, wire_type)
        if at > end:
            raise ValueError("a field is longer than its message")
        if message == "TensorProto" and field == EXTERNAL_DATA:
            return True
        if message == "TensorProto" and field == DATA_LOCATION and data[start] != 0:
            return True
        if field in inner and _external(data, inner[field], start, at):
            return True
    return False


def _skip(data: bytes, at: int, wire_type: int) -> tuple[int, int]:
    """The start and the end of the value of a field."""
    if wire_type == 0:
        return at, _varint(data, at)[1]
    if wire_type == 1:
        return at, at + 8
    if wire_type == 2:
        length, at = _varint(data, at)
        return at, at + length
    if wire_type == 5:
        return at, at + 4
    raise ValueError(f"unknown wire type {wire_type}")


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """A variable-length number and the position after it."""
    value = shift = 0
    while shift < 70:
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
        shift += 7
    raise ValueError("a number has more than 10 bytes")


class OnnxModel:
    """An ONNX model from encoded rows [n, 13] to one number each; for any number of threads."""

    def __init__(self, data: bytes) -> None:
        """Raises VersionRejected for a model of another shape, or one with tensors in other files."""
        if has_external_data(data):
            raise VersionRejected("external_data", "the model keeps tensors in other files")
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
            raise VersionRejected("self_test", f"it fails: {first_line(error)}") from error
        if result.shape != (len(rows), 1):
            raise VersionRejected(
                "shape", f"{len(rows)} rows give a result of shape {list(result.shape)}"
            )
        return np.asarray(result[:, 0], dtype=np.float32)


def _session(data: bytes) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    # One row takes 6 us: more threads would only add overhead.
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    # ONNX Runtime would keep a memory plan for each number of rows.
    options.enable_mem_pattern = False
    options.log_severity_level = 4
    # Its own format, which it would otherwise recognize, is not checked above.
    options.add_session_config_entry("session.load_model_format", "ONNX")
    try:
        return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        # ONNX Runtime's exceptions have no base class of their own.
        raise VersionRejected("unreadable", f"ONNX Runtime: {first_line(error)}") from error


def _signature(port: Any) -> tuple[str, int] | None:
    """Type and columns of an input or output; None if it takes a fixed number of rows."""
    if len(port.shape) != 2 or isinstance(port.shape[0], int):
        return None
    return port.type, port.shape[1]


def _described(ports: Sequence[Any]) -> str:
    return ", ".join(f"{port.type} {port.shape}" for port in ports) or "missing"
