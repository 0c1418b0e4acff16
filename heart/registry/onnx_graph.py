"""What an ONNX file may contain: a plain graph as `heart/ml/onnx_export.py` writes it, and nothing else.

Native code runs the graph in the service's process, in the event loop. So that no patient's values can make it hang,
crash or allocate, every value of the graph is described before it is loaded, as the exporter makes it:

- a constant: numbers or column numbers among the graph's initializers, at most two-dimensional;
- rows [n, columns]: numbers, flags, or the numbers of rows of a table, with a known largest value.

Each operator (`heart/registry/onnx_operators.py`) takes and gives such values only, row by row, with the attributes
that the exporter writes. Numbers are float32: integers are never divided or computed with. Columns are chosen by
constants within bounds, rows of a table by a number whose largest value is known::

    IsNaN(measurements)         flags [n, 13]
    Cast to float               numbers [n, 13], whole, at most 1
    MatMul(_, 1, 2, 4, ...)     numbers [n, 1], whole, at most 8191
    Cast to int64               row numbers [n, 1], at most 8191
    GatherND(table [8192, 19])  numbers [n, 19]

Nothing loops or branches but the trees (`heart/registry/onnx_trees.py`). So the time and the memory of a row are
limited by the graph alone: MAX_OPERATIONS and MAX_VISITS.
"""

from typing import Any

import numpy as np

from heart.registry.errors import VersionRejected
from heart.registry.onnx_operators import (
    FLOAT,
    INT64,
    OPERATORS,
    TREES,
    Constant,
    Rows,
    Value,
)
from heart.registry.onnx_trees import OtherUse
from heart.registry.onnx_wire import Message, read_model
from heart.schema import NAMES

# Those of the exporter: another version of an operator may mean something else.
IR_VERSION, OPSETS = 10, {"": 18, "ai.onnx.ml": 3}
ATTRIBUTE_FIELDS = {2: "i", 3: "s", 6: "floats", 7: "ints", 8: "strings"}  # by AttributeType

# Numbers that are computed for a row; that of the standard error has some 1,100.
MAX_OPERATIONS = 10_000


def check_graph(data: bytes) -> None:
    """Raises VersionRejected for an ONNX file that the exporter cannot have written."""
    model = read_model(data)
    opsets = model.get("opset_import", [])
    versions = {opset.get("domain", ""): opset.get("version") for opset in opsets}
    if "graph" not in model:
        raise VersionRejected("unreadable", "this is not an ONNX model: it has no graph")
    graph = model["graph"]
    measurements = _port(graph, "input", len(NAMES))
    result = _port(graph, "output", 1)
    _require(
        model.get("ir_version") == IR_VERSION
        and len(versions) == len(opsets)
        and "" in versions
        and versions.items() <= OPSETS.items(),
        f"its versions of ONNX are not {IR_VERSION} and {OPSETS}",
    )
    values: dict[str, Value] = {}
    _add(values, measurements, Rows("numbers", len(NAMES)))
    for tensor in graph.get("initializer", []):
        _add(values, tensor.get("name", ""), _constant(tensor))
    operations = 0
    for node in graph.get("node", []):
        operations += _run(node, values)
        _require(operations <= MAX_OPERATIONS, f"a row takes more than {MAX_OPERATIONS} operations")
    answer = values.get(result)
    if (
        answer is None
        or isinstance(answer, Constant)
        or answer.kind != "numbers"
        or answer.columns != 1
    ):
        raise VersionRejected("shape", f"its output {result} is not one number for each row")


def _port(graph: Message, side: str, columns: int) -> str:
    """The name of the only input or output, float32 [n, columns]."""
    ports = graph.get(side, [])
    described = [_described(port) for port in ports]
    if described != [(FLOAT, ["n", columns])]:
        raise VersionRejected(
            "shape",
            f"its {side} is {described or 'missing'} (type, shape), expected one of type {FLOAT}, [n, {columns}]",
        )
    name: str = ports[0].get("name", "")
    return name


def _described(port: Message) -> tuple[int, list[int | str]]:
    """Type and shape of an input or output; a dimension of any size is `n`."""
    tensor = port.get("type", {}).get("tensor_type", {})
    dimensions = tensor.get("shape", {}).get("dim", [])
    return tensor.get("elem_type", 0), [
        d["dim_value"] if d.keys() == {"dim_value"} else "n" if d.keys() == {"dim_param"} else "?"
        for d in dimensions
    ]


def _constant(tensor: Message) -> Constant:
    kind, dims = tensor.get("data_type"), tensor.get("dims", [])
    raw = tensor.get("raw_data", b"")
    _require(kind == FLOAT or (kind == INT64 and len(dims) == 1), "a constant has another type")
    dtype = np.dtype("<f4" if kind == FLOAT else "<i8")
    _require(
        len(dims) <= 2 and all(0 < d <= len(raw) for d in dims), "a constant has another shape"
    )
    size = int(np.prod(dims, dtype=object))
    _require(size * dtype.itemsize == len(raw), "a constant has more or less bytes than its shape")
    return Constant(np.frombuffer(raw, dtype).reshape(dims))


def _add(values: dict[str, Value], name: str, value: Value) -> None:
    _require(name and name not in values, f"the name {name!r} is not unique")
    values[name] = value


def _run(node: Message, values: dict[str, Value]) -> int:
    """Describe the result of a node. Returns how many numbers it computes for a row."""
    domain, kind = node.get("domain", ""), node.get("op_type", "")
    operator = OPERATORS.get((domain, kind))
    if operator is None:
        name = f"{domain}:{kind}".removeprefix(":")
        raise VersionRejected(
            "operators", f"operator {name!r} is not among those of heart/registry/onnx_operators.py"
        )
    names, outputs = node.get("input", []), node.get("output", [])
    _require(
        all(name in values for name in names), f"{kind} reads a value that is not computed yet"
    )
    _require(operator.inputs in (None, len(names)), f"{kind} has {len(names)} inputs")
    attributes = _attributes(node)
    _require(operator.attributes in (None, attributes), f"{kind} has other attributes")
    inputs = [values[name] for name in names]
    try:
        result = operator.result(inputs, attributes)
    except OtherUse as error:
        raise VersionRejected("operators", f"{kind}: {error}") from None
    if kind == TREES:  # the first output, the label, is used by no exporter
        label, *outputs = outputs or [""]
        _require(label and label not in values and label not in outputs, f"{kind} has no label")
        values[label] = Rows("row numbers", 1)
    _require(len(outputs) == 1, f"{kind} has {len(outputs)} outputs")
    _add(values, outputs[0], result)
    first = inputs[0]
    factor = first.columns if kind == "MatMul" and isinstance(first, Rows) else 1
    return result.columns * factor


def _attributes(node: Message) -> dict[str, Any]:
    attributes: dict[str, Any] = {}
    for attribute in node.get("attribute", []):
        name, field = attribute.get("name", ""), ATTRIBUTE_FIELDS.get(attribute.get("type"), "")
        written = attribute.keys() == {"name", "type", field} and name not in attributes
        _require(written, f"attribute {name!r} has another type or is repeated")
        value = attribute[field]
        attributes[name] = np.concatenate(value) if field in ("floats", "ints") else value
    return attributes


def _require(holds: object, otherwise: str) -> None:
    if not holds:
        raise VersionRejected("operators", otherwise)
