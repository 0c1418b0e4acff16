"""How the exporter uses each operator: the values that it takes and gives, and its attributes.

See `heart/registry/onnx_graph.py`, which describes every value of a graph with these rules.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from heart.registry.onnx_trees import OtherUse, most_visits

FLOAT, INT64 = 1, 7  # in TensorProto.DataType
EXACT = 2**24  # whole numbers up to here are exact in float32, in sums too


class Constant(NamedTuple):
    """A constant tensor, of float32, or of int64 with one dimension."""

    values: npt.NDArray[Any]


class Rows(NamedTuple):
    """Values [n, columns]. With a `bound` they are whole numbers from 0 to that; row numbers have one."""

    kind: Literal["numbers", "flags", "row numbers"]
    columns: int
    bound: int | None = None


Value = Constant | Rows
Attributes = Mapping[str, Any]


@dataclass(frozen=True)
class Operator:
    """How an operator is used: its result from its inputs and attributes, and the number of its inputs."""

    result: Callable[[Sequence[Value], Attributes], Rows]
    inputs: int | None  # None for any number
    attributes: Mapping[str, Any] | None = None  # None if `result` checks them


def _numbers(value: Value) -> Rows:
    if isinstance(value, Constant) or value.kind != "numbers":
        raise OtherUse(
            "its input is expected to be numbers that are computed from the measurements"
        )
    return value


def _flags(value: Value) -> Rows:
    if isinstance(value, Constant) or value.kind != "flags":
        raise OtherUse("its condition is expected to be flags")
    return value


def _table(value: Value, dimensions: int = 2) -> npt.NDArray[np.float32]:
    if not (
        isinstance(value, Constant)
        and value.values.dtype == np.float32
        and value.values.ndim == dimensions
    ):
        raise OtherUse(f"it is expected to have a constant of {dimensions} dimensions")
    return value.values


def _column_numbers(value: Value, columns: int) -> npt.NDArray[np.int64]:
    if not (isinstance(value, Constant) and value.values.dtype == np.int64):
        raise OtherUse("columns are computed, not constant")
    if not ((value.values >= 0) & (value.values < columns)).all():
        raise OtherUse("a column is not there")
    return value.values


def _broadcast(values: Sequence[Value]) -> int:
    """The columns of numbers or flags that are combined; at least one of them is computed."""
    widths = set()
    for value in values:
        if isinstance(value, Rows):
            widths.add(value.columns)
            continue
        shape = value.values.shape
        if value.values.dtype != np.float32 or (len(shape) == 2 and shape[0] != 1):
            raise OtherUse("a constant is not a number or one row of numbers")
        widths.add(shape[-1] if shape else 1)
    if len(widths - {1}) > 1 or all(isinstance(value, Constant) for value in values):
        raise OtherUse("its inputs do not have the same columns")
    return max(widths)


def _elementwise(
    kind: Literal["numbers", "flags"],
) -> Callable[[Sequence[Value], Attributes], Rows]:
    def result(inputs: Sequence[Value], _: Attributes) -> Rows:
        for value in inputs:
            if isinstance(value, Rows):
                _numbers(value)
        return Rows(kind, _broadcast(inputs))

    return result


def _where(inputs: Sequence[Value], _: Attributes) -> Rows:
    condition, *choices = inputs
    for value in choices:
        if isinstance(value, Rows):
            _numbers(value)
    return Rows("numbers", _broadcast([_flags(condition), *choices]))


def _clip(inputs: Sequence[Value], _: Attributes) -> Rows:
    value, low, high = inputs
    _table(low, 0), _table(high, 0)
    return Rows("numbers", _numbers(value).columns)


def _cast(inputs: Sequence[Value], attributes: Attributes) -> Rows:
    (value,) = inputs
    if attributes == {"to": FLOAT}:
        return Rows("numbers", _flags(value).columns, bound=1)
    bound = _numbers(value).bound
    if attributes != {"to": INT64} or bound is None:
        raise OtherUse("it is expected to be from flags to float, or from row numbers with a bound")
    return Rows("row numbers", _numbers(value).columns, bound)


def _matmul(inputs: Sequence[Value], _: Attributes) -> Rows:
    value, factors = _numbers(inputs[0]), _table(inputs[1])
    if factors.shape[0] != value.columns:
        raise OtherUse("its inputs do not fit")
    bound = None
    if value.bound == 1 and np.all(
        (factors >= 0) & (factors < EXACT) & (factors == np.floor(factors))
    ):
        largest = int(factors.sum(axis=0, dtype=np.float64).max())
        bound = largest if largest < EXACT else None
    return Rows("numbers", factors.shape[1], bound)


def _concat(inputs: Sequence[Value], _: Attributes) -> Rows:
    if not inputs:
        raise OtherUse("it has no inputs")
    return Rows("numbers", sum(_numbers(value).columns for value in inputs))


def _gather(inputs: Sequence[Value], _: Attributes) -> Rows:
    value = inputs[0]
    if isinstance(value, Constant) or value.kind == "row numbers":
        raise OtherUse("its input is expected to be numbers or flags")
    return Rows(value.kind, len(_column_numbers(inputs[1], value.columns)))


def _gather_rows(inputs: Sequence[Value], _: Attributes) -> Rows:
    table, rows = _table(inputs[0]), inputs[1]
    known = isinstance(rows, Rows) and rows.kind == "row numbers" and rows.columns == 1
    if not (
        known and isinstance(rows, Rows) and rows.bound is not None and rows.bound < len(table)
    ):
        raise OtherUse("its rows are not known to be within its table")
    return Rows("numbers", table.shape[1])


def _sum(inputs: Sequence[Value], _: Attributes) -> Rows:
    _numbers(inputs[0])
    if _column_numbers(inputs[1], 2).tolist() != [1]:
        raise OtherUse("it is expected to add up the columns")
    return Rows("numbers", 1)


def _trees(inputs: Sequence[Value], attributes: Attributes) -> Rows:
    most_visits(attributes, _numbers(inputs[0]).columns)
    return Rows("numbers", 2)


TREES = "TreeEnsembleClassifier"
_AXIS = {"axis": 1}
# By domain and type. A new kind of model may need more: tests/heart/registry/test_onnx_graph.py lists them.
OPERATORS: dict[tuple[str, str], Operator] = {
    **{("", name): Operator(_elementwise("numbers"), 2, {}) for name in ("Add", "Sub", "Mul", "Div")},
    **{("", name): Operator(_elementwise("flags"), 2, {}) for name in ("Equal", "GreaterOrEqual", "Less")},
    **{("", name): Operator(_elementwise("numbers"), 1, {}) for name in ("Identity", "Log", "Sigmoid", "Sqrt")},
    ("", "IsNaN"): Operator(_elementwise("flags"), 1, {}),
    ("", "Where"): Operator(_where, 3, {}),
    ("", "Clip"): Operator(_clip, 3, {}),
    ("", "Cast"): Operator(_cast, 1),
    ("", "MatMul"): Operator(_matmul, 2, {}),
    ("", "Concat"): Operator(_concat, None, _AXIS),
    ("", "Gather"): Operator(_gather, 2, _AXIS),
    ("", "GatherND"): Operator(_gather_rows, 2, {}),
    ("", "ReduceSum"): Operator(_sum, 2, {"keepdims": 1}),
    ("ai.onnx.ml", TREES): Operator(_trees, 1),
}  # fmt: skip
