"""Export of a fitted candidate to ONNX: encoded rows [n, 13] float32 in, probabilities [n, 1] out.

Graphs use standard operators only, so that any ONNX runtime computes the same without this project:

- Logistic regression (`_export_chained`): a table with the weights of all 2^13 patterns of missing values.
  `IsNaN` gives the missing flags, their product with powers of two is the row of the table, `GatherND`
  takes its weights, and the sum of terms times weights goes through `Sigmoid`.
- Trees (`_export_trees`): the ensemble as converted by skl2onnx, -1 for missing values, then Platt scaling.
- Recalibration: the logit times the slope, plus the intercept, before `Sigmoid`.
- Standard error (`_chain`): sqrt(x' S x) by the delta method, with x the standardized terms, missing ones at
  their conditional means, and S the covariance of the coefficients. S = L L' makes it the norm of x' L.

Example: if only measurements 11 and 12 (vessels, thallium) are missing, the row is 2^11 + 2^12 = 6144.
Stage train compares both forms of a model on all rows (`stages.train.parity`).
Source: https://onnx.ai/onnx/operators.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from heart.ml.estimators import (
    CLIP,
    FEATURES,
    LOWEST,
    MISSING,
    TERMS,
    CalibratedTrees,
    ChainedLogisticRegression,
)
from heart.ml.updating import Recalibrated
from heart.runtime import onnx_runtime
from heart.schema import NAMES

INPUT, OUTPUT, ERROR = "measurements", "probability", "standard_error"
OPSET, ML_OPSET, IR_VERSION = 18, 3, 10


class Graph:
    """Nodes and constants in the order in which they are added; every result has a name."""

    def __init__(self) -> None:
        self.nodes: list[NodeProto] = []
        self.constants: list[TensorProto] = []

    def constant(self, name: str, value: Any, dtype: Any = np.float32) -> str:
        """Add a constant and return its name."""
        self.constants.append(numpy_helper.from_array(np.asarray(value, dtype=dtype), name))
        return name

    def add(self, op: str, inputs: Sequence[str], name: str, **attributes: Any) -> str:
        """Add a node with one output and return the output's name."""
        self.nodes.append(helper.make_node(op, list(inputs), [name], name=name, **attributes))
        return name

    def model(self, output: str = OUTPUT) -> ModelProto:
        """The checked model of all nodes; `output` is its only result, [n, 1]."""
        graph = helper.make_graph(
            self.nodes,
            "heart_disease",
            [helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, ["n", len(NAMES)])],
            [helper.make_tensor_value_info(output, TensorProto.FLOAT, ["n", 1])],
            self.constants,
        )
        opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid("ai.onnx.ml", ML_OPSET)]
        model = helper.make_model(
            graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name="stages.train"
        )
        onnx.checker.check_model(model, full_check=True)
        return model


def export(estimator: Any) -> ModelProto:
    """The ONNX model of a fitted candidate, or of a recalibrated one."""
    graph = Graph()
    inner = estimator.model if isinstance(estimator, Recalibrated) else estimator
    if isinstance(inner, ChainedLogisticRegression):
        logit = _export_chained(graph, inner)
    elif isinstance(inner, CalibratedTrees):
        logit = _export_trees(graph, inner)
    else:
        raise TypeError(f"{type(inner).__name__} is not a candidate of heart.ml.estimators")
    if isinstance(estimator, Recalibrated):
        slope = graph.constant("recalibration_slope", estimator.slope)
        intercept = graph.constant("recalibration_intercept", estimator.intercept)
        logit = graph.add("Mul", [logit, slope], "recalibration_scaled")
        logit = graph.add("Add", [logit, intercept], "recalibrated")
    graph.add("Sigmoid", [logit], OUTPUT)
    return graph.model()


def export_error(estimator: Any) -> ModelProto:
    """The ONNX model of the standard error of the logit [n, 1]; NaN where the candidate has none.

    It is the uncertainty of the coefficients, not of missing values. The interval of a probability p is
    expit(logit(p) -+ 1.96 standard errors).
    """
    graph, slope = Graph(), 1.0
    if isinstance(estimator, Recalibrated):
        # The recalibration's own uncertainty is small beside it, and left out.
        estimator, slope = estimator.model, abs(estimator.slope)
    if isinstance(estimator, ChainedLogisticRegression):
        filled = _chain(graph, estimator)
        root = slope * np.linalg.cholesky(estimator.covariance_)
        scaled = graph.add("MatMul", [filled, graph.constant("root", root[:-1])], "scaled")
        shifted = graph.add("Add", [scaled, graph.constant("root_intercept", root[-1:])], "shifted")
        squared = graph.add("Mul", [shifted, shifted], "squared")
        axis = graph.constant("axis", [1], np.int64)
        variance = graph.add("ReduceSum", [squared, axis], "variance", keepdims=1)
        graph.add("Sqrt", [variance], ERROR)
    else:
        first = graph.add("Gather", [INPUT, graph.constant("first", [0], np.int64)], "age", axis=1)
        graph.add("Mul", [first, graph.constant("unknown", np.nan)], ERROR)
    return graph.model(ERROR)


def _bounded(graph: Graph) -> str:
    """The node of the measurements [n, 13] that are at least LOWEST; missing ones stay NaN."""
    lowest = graph.constant("lowest", LOWEST)
    below = graph.add("Less", [INPUT, lowest], "below")
    return graph.add("Where", [below, lowest, INPUT], "bounded")


def _terms(graph: Graph) -> tuple[str, str, list[int]]:
    """The nodes of the missing flags [n, 13] and of the raw terms [n, k], and the order of the terms."""
    kinds = {
        kind: [i for i, feature in enumerate(FEATURES) if feature.kind == kind]
        for kind in ("value", "equals", "at_least")
    }
    missing = graph.add("IsNaN", [INPUT], "missing")
    filled = graph.add("Where", [missing, graph.constant("zero", 0.0), _bounded(graph)], "filled")
    blocks = []
    for kind, indices in kinds.items():
        # A product with zeros and ones is exact, and ten times as fast as Gather along the rows.
        columns = np.eye(len(NAMES))[:, [FEATURES[i].column for i in indices]]
        block = graph.add("MatMul", [filled, graph.constant(f"{kind}_columns", columns)], kind)
        if kind != "value":
            reference = graph.constant(f"{kind}_reference", [FEATURES[i].value for i in indices])
            op = "Equal" if kind == "equals" else "GreaterOrEqual"
            block = graph.add(op, [block, reference], f"{kind}_holds")
            block = graph.add("Cast", [block], f"{kind}_terms", to=TensorProto.FLOAT)
        blocks.append(block)
    order = [i for indices in kinds.values() for i in indices]
    return missing, graph.add("Concat", blocks, "terms", axis=1), order


def _chain(graph: Graph, estimator: ChainedLogisticRegression) -> str:
    """The node of the standardized terms [n, k], those of missing measurements at their conditional means."""
    missing, terms, order = _terms(graph)
    centered = graph.add("Sub", [terms, graph.constant("mean", estimator.mean_[order])], "centred")
    scaled = graph.add(
        "Div", [centered, graph.constant("scale", estimator.scale_[order])], "scaled_terms"
    )
    before = ""
    for column, own in enumerate(TERMS):
        at = graph.constant(f"own_{column}", [order.index(int(i)) for i in own], np.int64)
        z = graph.add("Gather", [scaled, at], f"z_{column}", axis=1)
        flag = graph.add(
            "Gather",
            [missing, graph.constant(f"column_{column}", [column], np.int64)],
            f"flag_{column}",
            axis=1,
        )
        if before:
            slope = graph.constant(f"slope_{column}", estimator.chain_[column])
            expected = graph.add("MatMul", [before, slope], f"expected_{column}")
        else:
            expected = graph.constant("average", 0.0)
        chosen = graph.add("Where", [flag, expected, z], f"chosen_{column}")
        before = (
            graph.add("Concat", [before, chosen], f"upto_{column}", axis=1) if before else chosen
        )
    return before


def _export_chained(graph: Graph, estimator: ChainedLogisticRegression) -> str:
    """The node of the logit: a table of one logistic regression for each pattern of missing measurements.

    The number of a pattern is exact in float32.
    """
    weights, intercepts = estimator.models(np.arange(2 ** len(NAMES)))
    missing, terms, order = _terms(graph)
    bits = graph.constant("bits", (1 << np.arange(len(NAMES)))[:, None])
    flags = graph.add("Cast", [missing], "flags", to=TensorProto.FLOAT)
    number = graph.add("MatMul", [flags, bits], "pattern_number")
    number = graph.add("Cast", [number], "pattern", to=TensorProto.INT64)
    own = graph.add(
        "GatherND", [graph.constant("weights", weights[:, order]), number], "own_weights"
    )
    products = graph.add("Mul", [terms, own], "products")
    axis = graph.constant("axis", [1], np.int64)
    total = graph.add("ReduceSum", [products, axis], "total", keepdims=1)
    base = graph.add(
        "GatherND", [graph.constant("intercepts", intercepts[:, None]), number], "intercept"
    )
    return graph.add("Add", [total, base], "logit")


def _export_trees(graph: Graph, estimator: CalibratedTrees) -> str:
    """The node of the logit: scikit-learn's ensemble, converted by skl2onnx, between imputation and Platt scaling."""
    from skl2onnx import convert_sklearn
    from skl2onnx.common.data_types import FloatTensorType

    inner = convert_sklearn(
        estimator.trees_,
        initial_types=[("filled", FloatTensorType([None, len(NAMES)]))],
        options={id(estimator.trees_): {"zipmap": False}},
        target_opset={"": OPSET, "ai.onnx.ml": ML_OPSET},
    ).graph
    missing = graph.add("IsNaN", [INPUT], "missing")
    graph.add("Where", [missing, graph.constant("sentinel", MISSING), _bounded(graph)], "filled")
    graph.nodes.extend(inner.node)
    graph.constants.extend(inner.initializer)
    presence = graph.add(
        "Gather",
        [inner.output[1].name, graph.constant("presence", [1], np.int64)],
        "raw_probability",
        axis=1,
    )
    low, high = graph.constant("low", CLIP), graph.constant("high", 1 - CLIP)
    clipped = graph.add("Clip", [presence, low, high], "clipped")
    rest = graph.add("Sub", [graph.constant("one", 1.0), clipped], "rest")
    odds = graph.add("Div", [clipped, rest], "odds")
    score = graph.add("Log", [odds], "raw_logit")
    score = graph.add("Mul", [score, graph.constant("slope", estimator.slope_)], "scaled")
    return graph.add("Add", [score, graph.constant("shift", estimator.intercept_)], "logit")


def session(model: bytes) -> Any:
    """A single-threaded ONNX Runtime session."""
    onnxruntime = onnx_runtime()

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def predict(model: bytes, rows: Any) -> Any:
    """The result [n] of a model of this module for encoded rows [n, 13]."""
    return session(model).run(None, {INPUT: np.asarray(rows, dtype=np.float32)})[0][:, 0]
