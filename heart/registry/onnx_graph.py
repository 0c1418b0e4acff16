"""What an ONNX file may contain: a plain graph of the operators that `heart/ml/onnx_export.py` emits.

The shape of the results of these operators depends on the number of rows only. None of them repeats, branches,
or creates a tensor of a size that is computed from data, so no values of a patient can make a version that has
passed its trial run without end or allocate more than in the trial. ReduceSum is the one exception, so its axes
must be constants. Subgraphs, functions, sparse tensors (some bytes that stand for gigabytes) and tensors in
other files are rejected too.

The service has no `onnx` package, so the protobuf wire format is parsed here. Sources:
https://protobuf.dev/programming-guides/encoding and onnx.proto.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from dataclasses import field as dataclass_field

from heart.registry.errors import VersionRejected

# By domain of operators. A new kind of model may need more: tests/heart/registry/test_onnx_graph.py lists them.
OPERATORS: dict[str, frozenset[str]] = {
    "": frozenset(
        ["Add", "Cast", "Clip", "Concat", "Div", "Equal", "Gather", "GatherND", "GreaterOrEqual", "Identity",
         "IsNaN", "Less", "Log", "MatMul", "Mul", "ReduceSum", "Sigmoid", "Sqrt", "Sub", "Where"]
    ),
    "ai.onnx.ml": frozenset(["TreeEnsembleClassifier"]),
}  # fmt: skip

# The fields of onnx.proto through which a message contains a tensor.
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
# Those of a plain graph.
PLAIN = {("ModelProto", 7), ("GraphProto", 1), ("GraphProto", 5), ("NodeProto", 5)}
TENSOR_NAME, EXTERNAL_DATA, DATA_LOCATION = 8, 13, 14  # in TensorProto
INPUT, OP_TYPE, DOMAIN = 1, 4, 7  # in NodeProto
AXES_BY_INPUT = "ReduceSum"

# A run of `floats` and `ints` of an attribute, of which a large forest has millions.
_NUMBERS = re.compile(rb"(?:\x3d[\x00-\xff]{4}|\x40[\x80-\xff]{0,9}[\x00-\x7f])+")
_LENGTH_DELIMITED = 2


@dataclass
class Content:
    """What a file contains: operators as (domain, type), and parts that no plain graph has.

    `axes` are the names of tensors that decide along which axes a node reduces.
    """

    operators: set[tuple[str, str]] = dataclass_field(default_factory=set)
    constants: set[str] = dataclass_field(default_factory=set)
    axes: set[str] = dataclass_field(default_factory=set)
    other_parts: set[str] = dataclass_field(default_factory=set)
    external_data: bool = False

    def add_tensor(self, field: int, value: bytes) -> None:
        """Add a field of a tensor."""
        if field == EXTERNAL_DATA or (field == DATA_LOCATION and value[:1] != b"\0"):
            self.external_data = True
        if field == TENSOR_NAME:
            self.constants.add(value.decode())

    def add_node(self, values: Mapping[int, Sequence[str]]) -> None:
        """Add a node by the values of its fields. If a field is repeated, every reading counts."""
        domains, types = values[DOMAIN] or [""], values[OP_TYPE] or [""]
        self.operators |= {(domain, name) for domain in domains for name in types}
        if AXES_BY_INPUT in types:
            self.axes.update(values[INPUT][1:])


def check_graph(data: bytes) -> None:
    """Raises VersionRejected for an ONNX file with anything but a plain graph of known operators."""
    content = content_of(data)
    if content.external_data:
        raise VersionRejected("external_data", "the model keeps tensors in other files")
    if content.other_parts:
        parts = ", ".join(sorted(content.other_parts))
        raise VersionRejected(
            "operators", f"the model contains {parts} where a plain graph has none"
        )
    unknown = {
        f"{domain}:{name}".removeprefix(":")
        for domain, name in content.operators
        if name not in OPERATORS.get(domain, ())
    }
    if unknown:
        names = ", ".join(sorted(unknown))
        raise VersionRejected(
            "operators", f"operators {names} are not among those of heart/registry/onnx_graph.py"
        )
    if content.axes - content.constants:
        raise VersionRejected("operators", f"axes of {AXES_BY_INPUT} are computed, not constant")


def content_of(data: bytes) -> Content:
    """What an ONNX file contains. Raises VersionRejected for an unreadable file."""
    content = Content()
    try:
        _walk(data, "ModelProto", 0, len(data), content)
    except (ValueError, IndexError, RecursionError) as error:
        raise VersionRejected("unreadable", f"this is not an ONNX model: {error}") from error
    return content


def _walk(data: bytes, message: str, at: int, end: int, content: Content) -> None:
    inner = WIRE[message]
    node: dict[int, list[str]] = {INPUT: [], OP_TYPE: [], DOMAIN: []}
    while at < end:
        if message == "AttributeProto" and (numbers := _NUMBERS.match(data, at, end)):
            at = numbers.end()
            continue
        key, at = _varint(data, at)
        field, wire_type = key >> 3, key & 7
        start, at = _skip(data, at, wire_type)
        if key >> 32 or at > end:
            # A parser that drops the upper bits of a key would read another field.
            raise ValueError("a field is longer than its message, or its number than 29 bits")
        if field in inner:
            if (message, field) not in PLAIN:
                content.other_parts.add(inner[field])
            _walk(data, inner[field], start, at, content)
        elif message == "TensorProto":
            content.add_tensor(field, data[start:at])
        elif message == "NodeProto" and field in node and wire_type == _LENGTH_DELIMITED:
            node[field].append(data[start:at].decode())
    if message == "NodeProto":
        content.add_node(node)


def _skip(data: bytes, at: int, wire_type: int) -> tuple[int, int]:
    """The start and the end of the value of a field."""
    if wire_type == 0:
        return at, _varint(data, at)[1]
    if wire_type == 1:
        return at, at + 8
    if wire_type == _LENGTH_DELIMITED:
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
