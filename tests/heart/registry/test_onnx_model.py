"""References of an ONNX file to tensors in other files are detected."""

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from heart.registry.errors import VersionRejected
from heart.registry.onnx_model import DATA_LOCATION, EXTERNAL_DATA, WIRE, has_external_data


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
    assert (tensor["external_data"], tensor["data_location"]) == (
        EXTERNAL_DATA,
        DATA_LOCATION,
    )


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
            place: has_external_data(model.SerializeToString())
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
            has_external_data(case)
        except VersionRejected as error:
            return error.kind
        return ""

    rejections = [rejection(case) for case in cases]

    assert set(rejections) == {"", "unreadable"}
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
        has_external_data(b"\x3a" + length + data)


def test_an_endless_number_is_rejected_at_once() -> None:
    with pytest.raises(VersionRejected, match="more than 10 bytes"):
        has_external_data(b"\x80" * 1_000_000 + b"\x01")
