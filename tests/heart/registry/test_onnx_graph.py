"""Only plain graphs of known operators are accepted, and no tensor in another file."""

import time
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from heart.ml.estimators import candidates
from heart.ml.onnx_export import export, export_error
from heart.registry.errors import VersionRejected
from heart.registry.onnx_graph import (
    DATA_LOCATION,
    DOMAIN,
    EXTERNAL_DATA,
    INPUT,
    OP_TYPE,
    OPERATORS,
    TENSOR_NAME,
    WIRE,
    check_graph,
    content_of,
)
from tests.heart.registry.registry_fixture import patients


def test_the_wire_table_has_every_path_to_a_tensor() -> None:
    def leads(message: Any, seen: frozenset[str] = frozenset()) -> bool:
        return message.name == "TensorProto" or any(
            leads(field.message_type, seen | {message.name})
            for field in message.fields
            if field.message_type is not None and field.message_type.name not in seen
        )

    table: dict[str, dict[int, str]] = {}
    todo = [onnx.ModelProto.DESCRIPTOR]
    while todo:
        message = todo.pop()
        if message.name not in table:
            inner = [f for f in message.fields if f.message_type and leads(f.message_type)]
            table[message.name] = {field.number: field.message_type.name for field in inner}
            todo += [field.message_type for field in inner]

    assert table == WIRE
    tensor = {field.name: field.number for field in onnx.TensorProto.DESCRIPTOR.fields}
    assert [tensor[name] for name in ("name", "external_data", "data_location")] == [
        TENSOR_NAME,
        EXTERNAL_DATA,
        DATA_LOCATION,
    ]
    node = {field.name: field.number for field in onnx.NodeProto.DESCRIPTOR.fields}
    assert [node[name] for name in ("input", "op_type", "domain")] == [INPUT, OP_TYPE, DOMAIN]


def tensor(external: str) -> TensorProto:
    proto = numpy_helper.from_array(np.zeros(3, dtype=np.float32), "t")
    if external == "location":
        proto.data_location = TensorProto.EXTERNAL
    if external == "data":
        proto.external_data.add(key="location", value="/etc/passwd")
    return proto


def models_with(inside: TensorProto) -> dict[str, onnx.ModelProto]:
    """Models with a tensor in every place that can hold one."""
    constant = helper.make_node("Constant", [], ["c"], value=inside)
    sparse = helper.make_sparse_tensor(inside, inside, [3])
    deep = helper.make_graph([constant], "deep", [], [])
    attributes = [
        helper.make_attribute("a", value)
        for value in ([inside], deep, [deep], sparse, [sparse])
    ]  # fmt: skip
    function = helper.make_function("d", "f", [], [], [constant], [])
    named = helper.make_function(
        "d", "f", [], [], [], [], attribute_protos=[helper.make_attribute("a", inside)]
    )
    models = {
        "initializer": helper.make_model(helper.make_graph([], "g", [], [], [inside])),
        "sparse": helper.make_model(
            helper.make_graph([], "g", [], [], sparse_initializer=[sparse])
        ),
        "constant": helper.make_model(deep),
        "function": helper.make_model(helper.make_graph([], "g", [], []), functions=[function]),
        "default": helper.make_model(helper.make_graph([], "g", [], []), functions=[named]),
        "training": helper.make_model(helper.make_graph([], "g", [], [])),
    }
    models["training"].training_info.add().algorithm.CopyFrom(deep)
    for attribute in attributes:
        node = onnx.NodeProto(op_type="If", attribute=[attribute])
        models[f"attribute {attribute.type}"] = helper.make_model(
            helper.make_graph([node], "g", [], [])
        )
    return models


def test_external_data_is_detected_in_every_place() -> None:
    for external, expected in (("", False), ("location", True), ("data", True)):
        results = {
            place: content_of(model.SerializeToString()).external_data
            for place, model in models_with(tensor(external)).items()
        }
        assert len(results) == 11
        assert set(results.values()) == {expected}, results


def test_the_check_ends_for_any_bytes() -> None:
    random = np.random.default_rng(0)
    whole = bytearray(models_with(tensor(""))["constant"].SerializeToString())
    cases = [bytes(whole[:end]) for end in range(len(whole))]
    cases += [random.bytes(200) for _ in range(500)]
    for _ in range(2000):
        changed = whole.copy()
        changed[random.integers(len(changed))] = random.integers(256)
        cases.append(bytes(changed))
    cases.append(b"\x3a\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01")

    def rejection(case: bytes) -> str:
        try:
            check_graph(case)
        except VersionRejected as error:
            return error.kind
        return ""

    rejections = [rejection(case) for case in cases]

    assert set(rejections) == {"", "external_data", "operators", "unreadable"}
    assert rejections.count("unreadable") > 500


def test_a_deeply_nested_model_is_rejected() -> None:
    data = b""
    for turn in range(3000):
        # From the inside: a graph in an attribute in a node in a graph.
        key = b"\x0a\x2a\x32"[2 - turn % 3 : 3 - turn % 3]
        size = bytes([len(data) & 127 | 128, len(data) >> 7 & 127 | 128, len(data) >> 14])
        data = key + size + data
    length = bytes([len(data) & 127 | 128, len(data) >> 7 & 127 | 128, len(data) >> 14])

    with pytest.raises(VersionRejected, match="recursion"):
        content_of(b"\x3a" + length + data)


def test_an_endless_number_is_rejected_at_once() -> None:
    with pytest.raises(VersionRejected, match="more than 10 bytes"):
        content_of(b"\x80" * 1_000_000 + b"\x01")


def kind_of(model: onnx.ModelProto | bytes) -> str:
    """The kind of rejection, empty for a graph that is accepted."""
    data = model if isinstance(model, bytes) else model.SerializeToString()
    try:
        check_graph(data)
    except VersionRejected as error:
        return error.kind
    return ""


def test_the_table_has_exactly_the_operators_of_every_kind_of_model() -> None:
    used: dict[str, set[str]] = {domain: set() for domain in OPERATORS}
    for settings in candidates([0.1], trees=2, min_samples_leaf=5, seed=0).values():
        estimator = settings[0].fit(*patients())
        for model in (export(estimator), export_error(estimator)):
            assert kind_of(model) == ""
            for node in model.graph.node:
                used[node.domain].add(node.op_type)

    assert used == OPERATORS


def test_a_large_forest_is_read_in_a_fraction_of_a_second() -> None:
    floats = helper.make_attribute("floats", [1.5] * 500_000)
    ints = helper.make_attribute("ints", [*range(500_000)])
    node = onnx.NodeProto(op_type="Add", attribute=[floats, ints])
    data = helper.make_model(helper.make_graph([node], "g", [], [])).SerializeToString()

    start = time.process_time()
    assert kind_of(data) == ""

    assert time.process_time() - start < 1


def node_with(**fields: Any) -> onnx.ModelProto:
    return helper.make_model(helper.make_graph([onnx.NodeProto(**fields)], "g", [], []))


def deep() -> onnx.GraphProto:
    return helper.make_graph([], "g", [], [])


NOT_PLAIN: dict[str, onnx.ModelProto] = {
    "a loop": node_with(op_type="Loop", attribute=[helper.make_attribute("body", deep())]),
    "a condition": node_with(op_type="If"),
    "a subgraph": node_with(op_type="Add", attribute=[helper.make_attribute("body", deep())]),
    "a size from data": node_with(op_type="ConstantOfShape"),
    "another domain": node_with(op_type="Add", domain="com.microsoft"),
    "no operator": node_with(),
    "the operator of another domain": node_with(op_type="TreeEnsembleClassifier"),
    "a constant of a sparse tensor": models_with(tensor(""))["attribute 11"],
    **{
        part: models_with(tensor(""))[part]
        for part in ("sparse", "function", "training", "constant")
    },
}


@pytest.mark.security
@pytest.mark.parametrize("model", NOT_PLAIN.values(), ids=NOT_PLAIN)
def test_anything_but_a_plain_graph_is_rejected(model: onnx.ModelProto) -> None:
    assert kind_of(model) == "operators"


@pytest.mark.security
def test_axes_that_depend_on_data_are_rejected() -> None:
    constant = numpy_helper.from_array(np.array([1]), "axes")
    chosen = helper.make_node("Where", ["flag", "axes", "axes"], ["chosen"])

    def reduced(axes: str) -> onnx.ModelProto:
        node = helper.make_node("ReduceSum", ["x", axes], ["y"])
        return helper.make_model(helper.make_graph([chosen, node], "g", [], [], [constant]))

    assert kind_of(reduced("axes")) == ""
    assert kind_of(reduced("chosen")) == "operators"


@pytest.mark.security
def test_a_loop_cannot_be_hidden_from_the_check() -> None:
    """In each case a lenient parser could see a Loop where this one sees an Add."""
    add = node_with(op_type="Add").SerializeToString()
    name = add.index(b"\x22\x03Add")

    def with_field(field: bytes) -> bytes:
        """The model with another field in its node, and the new lengths of graph and node."""
        longer = bytearray(add[: name + 5] + field + add[name + 5 :])
        for length in (add.index(b"\x3a") + 1, name - 1):
            longer[length] += len(field)
        return bytes(longer)

    loop = b"\x04Loop"
    assert kind_of(with_field(b"\x22\x03Sub")) == ""
    assert kind_of(with_field(b"\x22" + loop)) == "operators"
    # The key 0x22 with a bit beyond its 32, and in more bytes than it needs.
    assert kind_of(with_field(b"\xa2\x80\x80\x80\x10" + loop)) == "unreadable"
    assert kind_of(with_field(b"\xa2\x80\x80\x80\x00" + loop)) == "operators"
    # A group, which hides what is in it.
    assert kind_of(with_field(b"\x23\x24")) == "unreadable"
