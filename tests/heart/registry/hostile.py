"""Versions that attack the process that loads them. Built with onnx.helper, since no exporter makes such graphs."""

import hashlib
import json
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from onnx import GraphProto, NodeProto, TensorProto, helper, numpy_helper

from heart.ml.onnx_export import INPUT
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
    opsets = [helper.make_opsetid("", 18)]
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
