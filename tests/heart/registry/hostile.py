"""Versions that attack the process that loads them. Built with onnx.helper, since no exporter makes such graphs."""

import hashlib
import json
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import onnx
from onnx import GraphProto, NodeProto, TensorProto, helper, numpy_helper

from heart.ml.onnx_export import INPUT, ML_OPSET, OPSET
from heart.registry.model_version import CARD, ONNX, SELF_TEST
from heart.registry.publishing import fictional_rows
from heart.schema import NAMES, fingerprint

DOUBLINGS = 12  # 13 columns become 53,248: 0.2 MiB for a row, 2 GiB for 10,000 rows


def graph(nodes: Sequence[NodeProto], **constants: Any) -> bytes:
    """A model of nodes that compute `y` [n, 1] from `x`, the rows [n, 13]."""
    tensors = [numpy_helper.from_array(np.asarray(v), name) for name, v in constants.items()]
    inputs = [helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, ["n", len(NAMES)])]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 1])]
    made = helper.make_graph(
        [helper.make_node("Identity", [INPUT], ["x"]), *nodes], "g", inputs, outputs, tensors
    )
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid("ai.onnx.ml", ML_OPSET)]
    return bytes(helper.make_model(made, opset_imports=opsets, ir_version=10).SerializeToString())


def half(more: Sequence[NodeProto], risk: str, **constants: Any) -> bytes:
    """A model that gives 0.5 for each row, plus 0 times the result `risk` [n, 1] of more nodes."""
    nodes = [
        *more,
        helper.make_node("IsNaN", [risk], ["unknown"]),
        helper.make_node("Where", ["unknown", "nothing", "nothing"], ["score"]),
        helper.make_node("Sigmoid", ["score"], ["y"]),
    ]
    return graph(nodes, nothing=np.float32(0), **constants)


def sums(name: str) -> NodeProto:
    return helper.make_node("ReduceSum", [name, "columns"], ["sum"], keepdims=1)


COLUMNS = np.array([1])


def endless_loop() -> bytes:
    """A Loop without a limit whose condition stays true."""
    body: GraphProto = helper.make_graph(
        [
            helper.make_node("Identity", ["condition"], ["go_on"]),
            helper.make_node("Add", ["before", "before"], ["after"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("turn", TensorProto.INT64, []),
            helper.make_tensor_value_info("condition", TensorProto.BOOL, []),
            helper.make_tensor_value_info("before", TensorProto.FLOAT, None),
        ],
        [
            helper.make_tensor_value_info("go_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("after", TensorProto.FLOAT, None),
        ],
    )
    loop = helper.make_node("Loop", ["", "true", "x"], ["looped"], body=body)
    return half([loop, sums("looped")], "sum", true=np.array(True), columns=COLUMNS)


def large_tensor() -> bytes:
    """A tensor of 3 GiB from a few hundred bytes."""
    nodes = [
        helper.make_node("ConstantOfShape", ["size"], ["large"]),
        helper.make_node("ReduceSum", ["large"], ["total"], keepdims=0),
        helper.make_node("Add", ["x", "total"], ["added"]),
        sums("added"),
    ]
    return half(nodes, "sum", size=np.array([3 * 2**28]), columns=COLUMNS)


def large_batches() -> bytes:
    """A model of known operators that needs little for a row and gigabytes for a batch."""
    names = ["x", *(f"wide{turn}" for turn in range(DOUBLINGS))]
    nodes = [
        helper.make_node("Concat", [name, name], [wider], axis=1) for name, wider in pairwise(names)
    ]
    return half([*nodes, sums(names[-1])], "sum", columns=COLUMNS)


def slow_batches(nodes: int = 2000) -> bytes:
    """A model of known operators that computes for milliseconds on a row and for minutes on a batch."""
    names = ["w", *(f"product{turn}" for turn in range(nodes))]
    wide = helper.make_node("MatMul", ["x", "weights"], ["w"])
    steps = [helper.make_node("Div", [name, "three"], [then]) for name, then in pairwise(names)]
    weights = np.ones((len(NAMES), 800), dtype=np.float32)
    return half(
        [wide, *steps, sums(names[-1])],
        "sum", weights=weights, three=np.float32(3), columns=COLUMNS,
    )  # fmt: skip


def other_patients() -> bytes:
    """A model whose risk of a patient depends on the other patients of the batch."""
    nodes = [
        helper.make_node("IsNaN", ["x"], ["unknown"]),
        helper.make_node("Where", ["unknown", "zero", "x"], ["filled"]),
        helper.make_node("ReduceSum", ["filled", "rows"], ["total"], keepdims=1),
        helper.make_node("MatMul", ["total", "weights"], ["score"]),
        helper.make_node("MatMul", ["x", "none"], ["own"]),
        helper.make_node("IsNaN", ["own"], ["any"]),
        helper.make_node("Where", ["any", "score", "score"], ["scores"]),
        helper.make_node("Sigmoid", ["scores"], ["y"]),
    ]
    return graph(
        nodes, zero=np.float32(0), rows=np.array([0]),
        weights=np.full((len(NAMES), 1), 1e-4, dtype=np.float32),
        none=np.zeros((len(NAMES), 1), dtype=np.float32),
    )  # fmt: skip


AGE = np.array([NAMES.index("age")])
MARK = 63.0  # the age of the patients for whom the models below are hostile


def marked(*nodes: NodeProto, **constants: Any) -> bytes:
    """A model that computes `risk` from `age` and the flag `marked`, which is set for patients of one age."""
    first = [
        helper.make_node("Gather", ["x", "age_column"], ["age"], axis=1),
        helper.make_node("Equal", ["age", "mark"], ["marked"]),
    ]
    return half([*first, *nodes], "risk", age_column=AGE, mark=np.float32(MARK), **constants)


def integer_overflow() -> bytes:
    """A division of the lowest integer by -1, which ends a process on x86."""
    return marked(
        helper.make_node("Where", ["marked", "minus", "one"], ["divisor"]),
        helper.make_node("Div", ["lowest", "divisor"], ["quotient"]),
        helper.make_node("Cast", ["quotient"], ["risk"], to=TensorProto.FLOAT),
        minus=np.array([-1]), one=np.array([1]), lowest=np.array([-(2**63)]),
    )  # fmt: skip


def integer_division_by_zero() -> bytes:
    """A division of integers by zero, which ends a process on x86."""
    return marked(
        helper.make_node("Cast", ["age"], ["whole"], to=TensorProto.INT64),
        helper.make_node("Sub", ["whole", "number"], ["difference"]),
        helper.make_node("Div", ["whole", "difference"], ["quotient"]),
        helper.make_node("Cast", ["quotient"], ["risk"], to=TensorProto.FLOAT),
        number=np.array([int(MARK)]),
    )  # fmt: skip


def index_outside(*, by_rows: bool = False) -> bytes:
    """A table whose row is outside of it for patients of one age."""
    flag = helper.make_node("Cast", ["marked"], ["flag"], to=TensorProto.FLOAT)
    scaled = helper.make_node("MatMul", ["flag", "far"], ["place"])
    whole = helper.make_node("Cast", ["place"], ["row"], to=TensorProto.INT64)
    taken = (
        helper.make_node("GatherND", ["table", "row"], ["risk"])
        if by_rows
        else helper.make_node("Gather", ["table", "row"], ["risk"], axis=0)
    )
    table = np.zeros((3, 1) if by_rows else 3, dtype=np.float32)
    return marked(flag, scaled, whole, taken, far=np.array([[3]], np.float32), table=table)


def repeated_names(rows: int = 60_000) -> bytes:
    """Sums over axes that depend on data. Tensors have two names: a lenient check takes the axes for constants.

    Protobuf takes the second name. A patient of one age makes a column and a row into `rows` * `rows` numbers.
    """
    nodes = [
        helper.make_node("Cast", ["marked"], ["flag"], to=TensorProto.FLOAT),
        helper.make_node("ReduceSum", ["flag", "both"], ["count"], keepdims=0),
        helper.make_node("GreaterOrEqual", ["count", "one"], ["any"]),
        helper.make_node("Where", ["any", "second", "first"], ["axis"]),
        helper.make_node("Where", ["any", "first", "second"], ["other"]),
        helper.make_node("ReduceSum", ["column", "axis"], ["tall"], keepdims=1),
        helper.make_node("ReduceSum", ["line", "other"], ["wide"], keepdims=1),
        helper.make_node("Mul", ["tall", "wide"], ["huge"]),
        helper.make_node("ReduceSum", ["huge", "both"], ["total"], keepdims=1),
        helper.make_node("Add", ["age", "total"], ["risk"]),
    ]
    model = onnx.load_from_string(marked(
        *nodes, one=np.float32(1), both=np.array([0, 1]), first=np.array([0]), second=np.array([1]),
        column=np.ones((rows, 1), np.float32), line=np.ones((1, rows), np.float32),
    ))  # fmt: skip
    twice = b"".join(
        _part(
            5,
            _part(8, name.encode())
            + numpy_helper.from_array(AGE, f"decoy_{name}").SerializeToString(),
        )
        for name in ("axis", "other")
    )
    content = model.graph.SerializeToString() + twice
    model.ClearField("graph")
    return bytes(model.SerializeToString() + _part(7, content))


def _part(field: int, content: bytes) -> bytes:
    """A length-delimited field of protobuf."""
    length, size = len(content), b""
    while length > 127:
        size += bytes([length & 127 | 128])
        length >>= 7
    return bytes([field << 3 | 2]) + size + bytes([length]) + content


def trees(modes: Sequence[str], true: Sequence[int], false: Sequence[int], **changes: Any) -> bytes:
    """A model of one tree over the age; `changes` replace attributes of the tree."""
    count, leaves = len(modes), [i for i, mode in enumerate(modes) if mode == "LEAF"]
    attributes = {
        "nodes_treeids": [0] * count, "nodes_nodeids": [*range(count)],
        "nodes_featureids": [0] * count, "nodes_modes": [*modes],
        "nodes_values": [MARK] * count, "nodes_hitrates": [1.0] * count,
        "nodes_truenodeids": [*true], "nodes_falsenodeids": [*false],
        "nodes_missing_value_tracks_true": [0] * count,
        "class_treeids": [0] * len(leaves), "class_nodeids": leaves,
        "class_ids": [0] * len(leaves), "class_weights": [0.5] * len(leaves),
        "classlabels_int64s": [0, 1], "post_transform": "NONE",
    }  # fmt: skip
    node = helper.make_node(
        "TreeEnsembleClassifier", ["x"], ["label", "classes"], domain="ai.onnx.ml",
        **{name: value for name, value in (attributes | changes).items() if value is not None},
    )  # fmt: skip
    return half([node, sums("classes")], "sum", columns=COLUMNS)


def endless_tree() -> bytes:
    """A tree with a cycle of nodes that only patients of one age reach, as ONNX Runtime accepts it."""
    return trees(
        ["BRANCH_NEQ", "BRANCH_GT", "BRANCH_LEQ", "LEAF", "LEAF", "LEAF"],
        [4, 5, 1, 0, 0, 0], [1, 2, 3, 0, 0, 0],
        nodes_values=[MARK, 1e9, 1e9, 0.0, 0.0, 0.0],
        nodes_missing_value_tracks_true=[1, 0, 0, 0, 0, 0],
    )  # fmt: skip


def long_chain(length: int = 2_000) -> bytes:
    """A tree in which patients of one age visit thousands of nodes, each of which has a leaf for all others."""
    modes = ["BRANCH_LEQ", "LEAF"] * length + ["LEAF"]
    true = [0 if mode == "LEAF" else place + 1 for place, mode in enumerate(modes)]
    false = [0 if mode == "LEAF" else place + 2 for place, mode in enumerate(modes)]
    return trees(modes, true, false, nodes_values=[MARK - 0.5] * len(modes))


def nan_for_one_age() -> bytes:
    """A graph as the exporter could write it, whose risk is NaN for patients of one age."""
    nodes = [
        helper.make_node("IsNaN", ["x"], ["unknown"]),
        helper.make_node("Where", ["unknown", "zero", "x"], ["filled"]),
        helper.make_node("Gather", ["filled", "age_column"], ["age"], axis=1),
        helper.make_node("Sub", ["age", "mark"], ["difference"]),
        helper.make_node("Mul", ["difference", "zero"], ["nothing"]),
        helper.make_node("Div", ["nothing", "difference"], ["score"]),
        helper.make_node("Sigmoid", ["score"], ["y"]),
    ]
    return graph(nodes, zero=np.float32(0), age_column=AGE, mark=np.float32(MARK))


# Models that passed the checks of an earlier version and ended the service for some patients.
FOR_ONE_AGE: dict[str, Callable[[], bytes]] = {
    "an endless tree": endless_tree,
    "a long chain of nodes": long_chain,
    "the lowest integer divided by -1": integer_overflow,
    "an integer divided by zero": integer_division_by_zero,
    "a row of a table that is not there": index_outside,
    "a row of a table just beyond its end": partial(index_outside, by_rows=True),
    "a size that depends on data, tensors with two names": repeated_names,
}


def self_test(risk: float = 0.5) -> bytes:
    """The self-test of a model that gives the same risk for every row."""
    rows = [[None if np.isnan(v) else float(v) for v in row] for row in fictional_rows(4)]
    content = {"rows": rows, "probabilities": [risk] * len(rows), "tolerance": 1e-6}
    return json.dumps(content).encode()


def files_of(model: bytes, test: bytes | None = None) -> dict[str, bytes]:
    """The files of a version, as the cache passes them to a trial."""
    card = {
        "name": "heart-disease", "version": "3", "run_id": "", "schema_fingerprint": fingerprint(),
        "sha256": hashlib.sha256(model).hexdigest(), "tags": {"threshold": "0.5"},
        "figures": {}, "train_figures": {}, "calibration": [], "training": {},
    }  # fmt: skip
    return {ONNX: model, SELF_TEST: test or self_test(), CARD: json.dumps(card).encode()}
