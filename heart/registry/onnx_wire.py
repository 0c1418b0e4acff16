"""A strict reader of ONNX files: only the fields that `heart/ml/onnx_export.py` writes, each in one way.

The service has no `onnx` package, so the protobuf wire format is parsed here. Any other reader must see the same,
ONNX Runtime's above all. So a field that is unknown, has another wire type, or has a number in more bytes than it
needs is rejected, and so is a field that may occur once and is repeated (of a number or text protobuf takes the
last, and it merges messages). Subgraphs, functions, sparse tensors and tensors in other files are such unknown fields.

Example: `0a 03 41 64 64` in a node is field 1 (0a >> 3), wire type 2 (0a & 7), 3 bytes: the input "Add".
Sources: https://protobuf.dev/programming-guides/encoding and onnx.proto.
"""

import re
import struct
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from heart.registry.errors import VersionRejected

Message = dict[str, Any]  # the fields of a message by name; those that may be repeated are lists
Kind = Literal["int", "text", "bytes", "ints", "floats", "message"]


class Field(NamedTuple):
    """A field of a message. `ints` and `floats` are repeated numbers, of which a forest has millions."""

    name: str
    kind: Kind
    repeated: bool = False
    message: str = ""


FIELDS: dict[str, dict[int, Field]] = {
    "ModelProto": {
        1: Field("ir_version", "int"),
        2: Field("producer_name", "text"),
        7: Field("graph", "message", message="GraphProto"),
        8: Field("opset_import", "message", repeated=True, message="OperatorSetIdProto"),
    },
    "OperatorSetIdProto": {1: Field("domain", "text"), 2: Field("version", "int")},
    "GraphProto": {
        1: Field("node", "message", repeated=True, message="NodeProto"),
        2: Field("name", "text"),
        5: Field("initializer", "message", repeated=True, message="TensorProto"),
        11: Field("input", "message", repeated=True, message="ValueInfoProto"),
        12: Field("output", "message", repeated=True, message="ValueInfoProto"),
    },
    "ValueInfoProto": {
        1: Field("name", "text"),
        2: Field("type", "message", message="TypeProto"),
    },
    "TypeProto": {1: Field("tensor_type", "message", message="Tensor")},
    "Tensor": {
        1: Field("elem_type", "int"),
        2: Field("shape", "message", message="TensorShapeProto"),
    },
    "TensorShapeProto": {1: Field("dim", "message", repeated=True, message="Dimension")},
    "Dimension": {1: Field("dim_value", "int"), 2: Field("dim_param", "text")},
    "NodeProto": {
        1: Field("input", "text", repeated=True),
        2: Field("output", "text", repeated=True),
        3: Field("name", "text"),
        4: Field("op_type", "text"),
        5: Field("attribute", "message", repeated=True, message="AttributeProto"),
        7: Field("domain", "text"),
    },
    "AttributeProto": {
        1: Field("name", "text"),
        3: Field("i", "int"),
        4: Field("s", "bytes"),
        7: Field("floats", "floats", repeated=True),
        8: Field("ints", "ints", repeated=True),
        9: Field("strings", "bytes", repeated=True),
        20: Field("type", "int"),
    },
    "TensorProto": {
        1: Field("dims", "int", repeated=True),
        2: Field("data_type", "int"),
        8: Field("name", "text"),
        9: Field("raw_data", "bytes"),
    },
}
EXTERNAL = {13, 14}  # external_data and data_location in TensorProto

WIRE_TYPES = (0, 1, 2, 5)  # groups have other types, and hide what is in them
_VARINT, _LENGTH_DELIMITED, _FIXED32 = 0, 2, 5
_WIRE_TYPES = {"int": _VARINT, "ints": _VARINT, "floats": _FIXED32}
_MAX_VARINT = 10  # bytes
# Runs of `floats` and `ints`, with the key before each number.
_FLOATS = re.compile(rb"(?:\x3d[\x00-\xff]{4})+")
_INTS = re.compile(rb"(?:\x40[\x80-\xff]{0,9}[\x00-\x7f])+")


def read_model(data: bytes) -> Message:
    """The fields of an ONNX file. Raises VersionRejected for one that the exporter cannot have written."""
    try:
        return _read(data, "ModelProto", 0, len(data))
    except (ValueError, IndexError, struct.error) as error:
        raise VersionRejected("unreadable", f"this is not an ONNX model: {error}") from error


def _read(data: bytes, message: str, at: int, end: int) -> Message:
    fields, content = FIELDS[message], Message()
    while at < end:
        start = at
        key, at = _varint(data, at)
        number, wire_type = key >> 3, key & 7
        if wire_type not in WIRE_TYPES or not 0 < number < 1 << 29:
            raise ValueError(f"unknown wire type {wire_type} or field {number}")
        field = fields.get(number)
        if field is None:
            raise _unknown(message, number)
        if wire_type != _WIRE_TYPES.get(field.kind, _LENGTH_DELIMITED):
            raise ValueError(f"{message}.{field.name} has the wire type {wire_type}")
        value, at = _value(data, field, start, at, end)
        if at > end:
            raise ValueError(f"{message}.{field.name} is longer than its message")
        if field.repeated:
            content.setdefault(field.name, []).append(value)
        elif field.name in content:
            raise ValueError(f"{message}.{field.name} is repeated")
        else:
            content[field.name] = value
    return content


def _value(data: bytes, field: Field, start: int, at: int, end: int) -> tuple[Any, int]:
    """The value of a field, whose key is at `start`, and the position after it; of numbers, the whole run."""
    if field.kind == "int":
        number, at = _varint(data, at)
        return _signed(number), at
    if field.kind in ("ints", "floats"):
        run = (_INTS if field.kind == "ints" else _FLOATS).match(data, start, end)
        if run is None:
            raise ValueError(f"{field.name} ends within a number")
        decode = _ints if field.kind == "ints" else _floats
        return decode(run.group()), run.end()
    length, at = _varint(data, at)
    after = at + length
    if after > end:
        raise ValueError(f"{field.name} is longer than its message")
    if field.kind == "message":
        return _read(data, field.message, at, after), after
    value = data[at:after]
    return value.decode() if field.kind == "text" else value, after


def _unknown(message: str, number: int) -> VersionRejected:
    if message == "TensorProto" and number in EXTERNAL:
        return VersionRejected("external_data", "the model keeps tensors in other files")
    return VersionRejected(
        "operators", f"its {message} has field {number}, which heart/ml/onnx_export.py never writes"
    )


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """A variable-length number of at most 64 bits and the position after it."""
    value = shift = 0
    for _ in range(_MAX_VARINT):
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            if (byte == 0 and shift) or value >> 64:
                raise ValueError("a number has more bytes than it needs, or more than 64 bits")
            return value, at
        shift += 7
    raise ValueError("a number has more than 10 bytes")


def _signed(value: int) -> int:
    return value - (1 << 64) if value >> 63 else value


def _floats(run: bytes) -> npt.NDArray[np.float32]:
    pairs = np.frombuffer(run, dtype=[("key", "u1"), ("value", "<f4")])
    return np.array(pairs["value"], dtype=np.float32)


def _ints(run: bytes) -> npt.NDArray[np.int64]:
    """The numbers of a run. Keys and values take turns; the last byte of each is below 128."""
    content = np.frombuffer(run, dtype=np.uint8)
    last = np.flatnonzero(content < 128)
    key_ends, ends = last[::2], last[1::2]
    if len(key_ends) != len(ends):
        raise ValueError("ints end within a number")
    lengths = ends - key_ends
    if np.any((content[ends] == 0) & (lengths > 1)) or np.any(
        (lengths == _MAX_VARINT) & (content[ends] > 1)
    ):
        raise ValueError("a number has more bytes than it needs, or more than 64 bits")
    values = np.zeros(len(ends), dtype=np.uint64)
    for place in range(int(lengths.max())):
        longer = np.flatnonzero(lengths > place)
        part = content[key_ends[longer] + 1 + place].astype(np.uint64) & np.uint64(127)
        values[longer] |= part << np.uint64(7 * place)
    return values.view(np.int64)
