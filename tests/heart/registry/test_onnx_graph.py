"""Only graphs that the exporter can have written are accepted."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

from heart.ml import onnx_export
from heart.ml.estimators import candidates
from heart.ml.onnx_export import export, export_error
from heart.ml.updating import Recalibrated
from heart.registry.errors import VersionRejected
from heart.registry.onnx_graph import ATTRIBUTE_FIELDS, IR_VERSION, OPSETS, check_graph
from heart.registry.onnx_operators import FLOAT, INT64, OPERATORS
from heart.registry.onnx_wire import EXTERNAL, FIELDS, read_model
from tests.fixtures.security import SecurityFigure
from tests.heart.registry import hostile
from tests.heart.registry.registry_fixture import patients

MESSAGES = {
    "Tensor": onnx.TypeProto.Tensor.DESCRIPTOR,
    "Dimension": onnx.TensorShapeProto.Dimension.DESCRIPTOR,
}


def kind_of(model: ModelProto | bytes) -> str:
    """The kind of rejection, empty for a graph that is accepted."""
    data = model if isinstance(model, bytes) else model.SerializeToString()
    try:
        check_graph(data)
    except VersionRejected as error:
        return error.kind
    return ""


def exported() -> Iterator[ModelProto]:
    """The models of every kind of candidate, as fitted and recalibrated."""
    for settings in candidates([0.1], trees=2, min_samples_leaf=5, seed=0).values():
        estimator = settings[0].fit(*patients())
        for model in (estimator, Recalibrated(estimator, intercept=0.3, slope=1.2)):
            yield export(model)
            yield export_error(model)


def simple() -> ModelProto:
    """A small model that is accepted."""
    return onnx.load_from_string(hostile.half([hostile.sums("x")], "sum", columns=hostile.COLUMNS))


def test_the_fields_are_those_of_onnx() -> None:
    types = {
        "int": {"int32", "int64", "enum"}, "text": {"string"}, "bytes": {"bytes"}, "ints": {"int64"},
        "floats": {"float"}, "message": {"message"},
    }  # fmt: skip
    names = {
        value: name.removeprefix("TYPE_").lower()
        for name, value in vars(onnx.ModelProto.DESCRIPTOR.fields[0].__class__).items()
        if name.startswith("TYPE_")
    }
    for message, fields in FIELDS.items():
        descriptor = MESSAGES.get(message) or getattr(onnx, message).DESCRIPTOR
        for number, field in fields.items():
            original = descriptor.fields_by_number[number]
            assert original.name == field.name
            assert names[original.type] in types[field.kind], field
            assert original.is_repeated == field.repeated, field
            if field.message:
                assert original.message_type.name == field.message
    tensor = onnx.TensorProto.DESCRIPTOR.fields_by_name
    assert {tensor[name].number for name in ("external_data", "data_location")} == EXTERNAL
    assert (TensorProto.FLOAT, TensorProto.INT64) == (FLOAT, INT64)
    attribute_types = {
        onnx.AttributeProto.AttributeType.Name(n): f for n, f in ATTRIBUTE_FIELDS.items()
    }
    assert attribute_types == {
        "INT": "i", "STRING": "s", "FLOATS": "floats", "INTS": "ints", "STRINGS": "strings"
    }  # fmt: skip


def test_every_kind_of_model_is_accepted_and_uses_exactly_the_known_operators() -> None:
    used: set[tuple[str, str]] = set()
    for model in exported():
        check_graph(model.SerializeToString())
        used |= {(node.domain, node.op_type) for node in model.graph.node}

    assert used == OPERATORS.keys()
    assert (onnx_export.IR_VERSION, OPSETS) == (
        IR_VERSION, {"": onnx_export.OPSET, "ai.onnx.ml": onnx_export.ML_OPSET},
    )  # fmt: skip


@pytest.mark.security
@pytest.mark.parametrize("name", hostile.FOR_ONE_AGE)
def test_a_graph_that_is_hostile_for_some_patients_only_is_rejected(
    name: str, security_figure: SecurityFigure
) -> None:
    kind = kind_of(hostile.FOR_ONE_AGE[name]())

    assert kind in ("operators", "unreadable")
    security_figure(f"for one age only: {name}", "rejected", "rejected before it is loaded")


TREE: dict[str, dict[str, Any]] = {
    "a child before its parent": {"nodes_truenodeids": [1, 0, 0, 0, 0]},
    "a node as its own child": {"nodes_truenodeids": [1, 1, 0, 0, 0]},
    "a node of two parents": {"nodes_falsenodeids": [3, 3, 0, 0, 0]},
    "a cycle beside the root": {
        "nodes_modes": ["LEAF", "BRANCH_LEQ", "BRANCH_LEQ", "LEAF", "LEAF"],
        "nodes_truenodeids": [0, 2, 1, 0, 0],
        "nodes_falsenodeids": [0, 3, 4, 0, 0],
        "class_nodeids": [0, 3, 4],
    },
    "a child outside of the tree": {"nodes_falsenodeids": [5, 3, 0, 0, 0]},
    "a child of a negative number": {"nodes_falsenodeids": [-1, 3, 0, 0, 0]},
    "children of a leaf": {"nodes_truenodeids": [1, 2, 3, 0, 0]},
    "nodes in another order": {"nodes_nodeids": [0, 2, 1, 3, 4]},
    "a node twice": {"nodes_nodeids": [0, 1, 1, 3, 4]},
    "a tree without a root": {"nodes_treeids": [1] * 5},
    "trees in another order": {"nodes_treeids": [0, 0, 0, 1, 0]},
    "too few children": {"nodes_truenodeids": [1, 2, 0, 0]},
    "too few columns": {"nodes_featureids": [0] * 4},
    "a column outside": {"nodes_featureids": [0, 13, 0, 0, 0]},
    "a negative column": {"nodes_featureids": [0, -1, 0, 0, 0]},
    "another mode": {"nodes_modes": ["BRANCH_EQ", "BRANCH_LEQ", "LEAF", "LEAF", "LEAF"]},
    "missing values": {"nodes_missing_value_tracks_true": [1, 0, 0, 0, 0]},
    "no number": {"nodes_values": [float("nan")] * 5},
    "a weight for another node": {"class_nodeids": [2, 3, 1]},
    "a weight for no node": {"class_nodeids": [2, 3, 400]},
    "a weight of another tree": {"class_treeids": [0, 0, 1]},
    "a weight of another class": {"class_ids": [0, 0, 7]},
    "a weight too few": {"class_weights": [0.5, 0.5]},
    "an infinite weight": {"class_weights": [0.5, 0.5, float("inf")]},
    "three classes": {"classlabels_int64s": [0, 1, 2]},
    "another transform": {"post_transform": "SOFTMAX"},
    "text for numbers": {"nodes_truenodeids": ["1", "2", "0", "0", "0"]},
    "a number for text": {"nodes_modes": 5},
    "an attribute less": {"nodes_hitrates": None},
    "another attribute": {"aggregate_function": "SUM"},
}


def tree(**changes: Any) -> bytes:
    modes = ["BRANCH_LEQ", "BRANCH_LEQ", "LEAF", "LEAF", "LEAF"]
    return hostile.trees(modes, [1, 2, 0, 0, 0], [4, 3, 0, 0, 0], **changes)


@pytest.mark.security
def test_only_trees_that_end_are_accepted() -> None:
    assert kind_of(tree()) == ""
    for name, changes in TREE.items():
        assert kind_of(tree(**changes)) == "operators", name


@pytest.mark.security
def test_many_trees_together_are_limited() -> None:
    modes, true, false = ["BRANCH_LEQ", "LEAF"] * 900 + ["LEAF"], [], []
    for place, mode in enumerate(modes):
        true.append(0 if mode == "LEAF" else place + 1)
        false.append(0 if mode == "LEAF" else place + 2)
    size, leaves = len(modes), [place for place, mode in enumerate(modes) if mode == "LEAF"]

    def forest(count: int) -> bytes:
        tree_of = np.repeat(range(count), size).tolist()
        numbers = {"nodes_featureids", "nodes_missing_value_tracks_true"}
        return hostile.trees(
            modes * count, true * count, false * count, nodes_treeids=tree_of,
            nodes_nodeids=[*range(size)] * count, class_nodeids=leaves * count,
            class_treeids=np.repeat(range(count), len(leaves)).tolist(),
            **{name: [0] * size * count for name in numbers},
        )  # fmt: skip

    assert kind_of(forest(2)) == ""
    assert kind_of(forest(40)) == "operators"


def node(op: str, inputs: list[str], output: str = "made", **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(op, inputs, [output], **attributes)


CONSTANTS: dict[str, Any] = {
    "number": np.float32(2), "whole": np.array([1]), "far": np.array([13]), "behind": np.array([-1]),
    "table": np.ones((8, 2), np.float32), "square": np.ones((13, 13), np.float32),
    "bits": np.ones((13, 1), np.float32), "halves": np.full((13, 1), 0.5, np.float32),
    "column": np.ones((5, 1), np.float32),
}  # fmt: skip
FLAGS = [node("IsNaN", ["x"], "flags"), node("Cast", ["flags"], "ones", to=FLOAT)]
ROWS = [
    *FLAGS,
    node("MatMul", ["ones", "bits"], "sum13"),
    node("Cast", ["sum13"], "row13", to=INT64),
]
OTHER_USES: dict[str, list[onnx.NodeProto]] = {
    "a loop": [node("Loop", ["x"])],
    "an unknown operator": [node("ConstantOfShape", ["whole"])],
    "another domain": [node("Add", ["x", "x"], domain="com.microsoft")],
    "the operator of another domain": [node("TreeEnsembleClassifier", ["x"])],
    "no operator": [onnx.NodeProto(input=["x"], output=["made"])],
    "integers": [node("Add", ["whole", "whole"])],
    "row numbers are computed with": [*ROWS, node("Add", ["row13", "row13"])],
    "only constants": [node("Add", ["number", "number"])],
    "other columns": [*ROWS, node("Concat", ["x", "x"], "wide", axis=1), node("Add", ["wide", "x"])],
    "a constant of many rows": [node("Add", ["x", "column"])],
    "a cast to whole numbers": [node("Cast", ["x"], to=INT64)],
    "a cast to double": [*FLAGS, node("Cast", ["flags"], to=TensorProto.DOUBLE)],
    "a cast of broken numbers": [*FLAGS, node("MatMul", ["ones", "halves"], "half"), node("Cast", ["half"], to=INT64)],
    "a row beyond the table": [*ROWS, node("GatherND", ["table", "row13"])],
    "a constant row": [node("GatherND", ["table", "whole"])],
    "rows of data": [*ROWS, node("GatherND", ["x", "row13"])],
    "computed columns": [*ROWS, node("Gather", ["x", "row13"], axis=1)],
    "a column outside": [node("Gather", ["x", "far"], axis=1)],
    "a negative column": [node("Gather", ["x", "behind"], axis=1)],
    "chosen rows": [node("Gather", ["x", "whole"], axis=0)],
    "a sum over patients": [node("ReduceSum", ["x", "first"], keepdims=1)],
    "a sum over computed axes": [*ROWS, node("ReduceSum", ["x", "row13"], keepdims=1)],
    "a sum without axes": [node("ReduceSum", ["x"], keepdims=1)],
    "a product of patients": [node("MatMul", ["x", "x"])],
    "a product with other columns": [node("MatMul", ["x", "table"])],
    "another axis": [node("Concat", ["x", "x"], axis=0)],
    "an attribute that decides the size": [node("ReduceSum", ["x", "whole"], keepdims=0)],
    "limits that are computed": [node("Clip", ["x", "x", "x"])],
    "a condition of numbers": [node("Where", ["x", "x", "x"])],
    "an input that comes later": [node("Add", ["made", "number"])],
    "no input": [node("Identity", [""])],
    "a missing input": [node("Add", ["x"])],
    "the name of a constant": [node("Identity", ["x"], "number")],
    "the name of the input": [node("Identity", ["x"], "measurements")],
    "a name twice": [node("Identity", ["x"], "again"), node("Identity", ["x"], "again")],
    "two outputs": [helper.make_node("Identity", ["x"], ["one", "two"])],
    "more operations than a row may take": [
        node("MatMul", ["x" if i == 0 else f"p{i - 1}", "square"], f"p{i}") for i in range(60)
    ],
}  # fmt: skip


def used(nodes: list[onnx.NodeProto]) -> bytes:
    """A model of more nodes that does not need them for its answer."""
    return hostile.half(
        [*nodes, hostile.sums("x")],
        "sum",
        columns=hostile.COLUMNS,
        first=np.array([0]),
        **CONSTANTS,
    )


@pytest.mark.security
def test_operators_are_used_as_by_the_exporter_or_rejected() -> None:
    assert kind_of(used(ROWS)) == ""
    for name, nodes in OTHER_USES.items():
        assert kind_of(used(nodes)) == "operators", name


@pytest.mark.security
def test_a_constant_is_what_it_seems() -> None:
    def with_tensor(change: Callable[[TensorProto], object]) -> str:
        tensor = numpy_helper.from_array(np.ones((2, 3), np.float32), "more")
        change(tensor)
        model = simple()
        model.graph.initializer.append(tensor)
        return kind_of(model)

    changes: dict[str, Callable[[TensorProto], object]] = {
        "too few bytes": lambda t: setattr(t, "raw_data", t.raw_data[:-1]),
        "too many bytes": lambda t: setattr(t, "raw_data", t.raw_data + b"1234"),
        "other sizes": lambda t: t.dims.__setitem__(0, 2**61),
        "a negative size": lambda t: t.dims.__setitem__(0, -2),
        "three dimensions": lambda t: t.dims.append(1),
        "no size": lambda t: t.dims.__setitem__(0, 0),
        "another type": lambda t: setattr(t, "data_type", TensorProto.STRING),
        "no name": lambda t: t.ClearField("name"),
        "the name of another": lambda t: setattr(t, "name", "columns"),
        "numbers elsewhere": lambda t: t.float_data.append(1.0),
    }
    assert with_tensor(lambda _: None) == ""
    for name, change in changes.items():
        assert with_tensor(change) == "operators", name


def tensor(external: str) -> TensorProto:
    proto = numpy_helper.from_array(np.zeros(3, dtype=np.float32), "t")
    if external == "location":
        proto.data_location = TensorProto.EXTERNAL
    if external == "data":
        proto.external_data.add(key="location", value="/etc/passwd")
    return proto


def models_with(inside: TensorProto) -> dict[str, ModelProto]:
    """Models with a tensor in every place that can hold one."""
    constant = helper.make_node("Constant", [], ["c"], value=inside)
    sparse = helper.make_sparse_tensor(inside, inside, [3])
    deep = helper.make_graph([constant], "deep", [], [])
    places = ("initializer", "sparse", "constant", "function", "default", "training")
    models = {place: simple() for place in places}
    models["initializer"].graph.initializer.append(inside)
    models["sparse"].graph.sparse_initializer.append(sparse)
    models["constant"].graph.node.append(constant)
    models["function"].functions.append(helper.make_function("d", "f", [], [], [constant], []))
    models["default"].functions.append(
        helper.make_function(
            "d", "f", [], [], [], [], attribute_protos=[helper.make_attribute("a", inside)]
        )
    )
    models["training"].training_info.add().algorithm.CopyFrom(deep)
    for value in ([inside], deep, [deep], sparse, [sparse]):
        attribute = helper.make_attribute("a", value)
        model = models[f"attribute {attribute.type}"] = simple()
        model.graph.node[1].attribute.append(attribute)
    return models


@pytest.mark.security
def test_a_tensor_in_another_file_is_rejected_in_every_place() -> None:
    for external in ("location", "data"):
        kinds = {place: kind_of(model) for place, model in models_with(tensor(external)).items()}
        assert kinds == dict.fromkeys(kinds, "operators") | {"initializer": "external_data"}
    kinds = {place: kind_of(model) for place, model in models_with(tensor("")).items()}
    assert kinds == dict.fromkeys(kinds, "operators") | {"initializer": ""}
    assert len(kinds) == 11


def varint(number: int) -> bytes:
    size = b""
    while number > 127:
        size += bytes([number & 127 | 128])
        number >>= 7
    return size + bytes([number])


def part(number: int, content: bytes) -> bytes:
    """A length-delimited field."""
    return varint(number << 3 | 2) + varint(len(content)) + content


def with_field(message: str, more: bytes) -> bytes:
    """A valid model with more bytes in one message of this kind, which other parsers may read otherwise."""
    model = onnx.load_from_string(tree())
    parts = {
        "NodeProto": model.graph.node[0], "TensorProto": model.graph.initializer[0],
        "ValueInfoProto": model.graph.input[0], "AttributeProto": model.graph.node[1].attribute[0],
        "OperatorSetIdProto": model.opset_import[0], "TypeProto": model.graph.input[0].type,
        "Tensor": model.graph.input[0].type.tensor_type,
        "TensorShapeProto": model.graph.input[0].type.tensor_type.shape,
        "Dimension": model.graph.input[0].type.tensor_type.shape.dim[1],
        "GraphProto": model.graph, "ModelProto": model,
    }  # fmt: skip
    return _written(model, parts[message], more)


def _written(message: Any, target: Any, more: bytes) -> bytes:
    """A message as protobuf writes it, with more bytes at the end of `target`."""
    written = b""
    for field, value in message.ListFields():
        values = value if field.is_repeated else [value]
        if field.message_type is not None:
            written += b"".join(part(field.number, _written(v, target, more)) for v in values)
        else:
            single = type(message)()
            if field.is_repeated:
                getattr(single, field.name).extend(values)
            else:
                setattr(single, field.name, value)
            written += single.SerializePartialToString()
    return written + (more if message is target else b"")


@pytest.mark.security
def test_a_field_that_may_occur_once_is_not_repeated() -> None:
    """Protobuf takes the last of a number or text, and merges messages."""
    written = {"int": lambda number: varint(number << 3) + b"\x01"}
    for message, fields in FIELDS.items():
        assert kind_of(with_field(message, b"")) == "", message
        for number, field in fields.items():
            if not field.repeated:
                more = written.get(field.kind, lambda number: part(number, b""))(number)
                # The first one is present already, or another one of the same choice is.
                assert kind_of(with_field(message, more * 2)) in ("unreadable", "shape"), field


@pytest.mark.security
def test_a_field_is_written_in_one_way_only() -> None:
    name = part(4, b"Loop")
    for message in FIELDS:
        unknown = varint(900 << 3) + b"\x01"
        assert kind_of(with_field(message, unknown)) == "operators"
    for more in (
        b"\x21" + b"12345678",  # op_type as a number of 64 bits
        b"\x20\x01",  # as a number
        b"\x23\x24",  # as a group, which hides what is in it
        b"\xa2\x80\x80\x80\x10" + name[1:],  # its key with a bit beyond 32, which a parser may drop
        b"\xa2\x80\x80\x80\x00" + name[1:],  # its key in more bytes than it needs
        b"\x0a\x81\x00x",  # the length of an input in more bytes than it needs
        b"\x0a\x05x",  # longer than the message
        b"\x0a\x01\xff",  # no text
    ):
        assert kind_of(with_field("NodeProto", more)) == "unreadable", more
    for more in (b"\x40\x81\x00", b"\x40" + b"\xff" * 9 + b"\x02", b"\x40\x80", b"\x3d123"):
        assert kind_of(with_field("AttributeProto", more)) == "unreadable", more


def test_numbers_of_any_size_are_read() -> None:
    numbers = [0, 1, 63, 64, 127, 128, 2**14, 2**31, 2**62, 2**63 - 1, -1, -(2**63)]
    model = onnx.load_from_string(tree())
    for attribute in model.graph.node[1].attribute:
        if attribute.name == "nodes_truenodeids":
            attribute.ints[:] = numbers
    attributes = read_model(model.SerializeToString())["graph"]["node"][1]["attribute"]

    (ints,) = (a["ints"] for a in attributes if a["name"] == "nodes_truenodeids")
    assert np.concatenate(ints).tolist() == numbers


def test_the_check_ends_for_any_bytes() -> None:
    random = np.random.default_rng(0)
    whole = bytearray(simple().SerializeToString())
    cases = [bytes(whole[:end]) for end in range(len(whole))]
    cases += [random.bytes(200) for _ in range(500)]
    for _ in range(2000):
        changed = whole.copy()
        changed[random.integers(len(changed))] = random.integers(256)
        cases.append(bytes(changed))
    cases.append(b"\x3a\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01")

    kinds = [kind_of(case) for case in cases]

    assert set(kinds) == {"", "external_data", "operators", "shape", "unreadable"}
    assert kinds.count("unreadable") > 500


def test_an_endless_number_is_rejected_at_once() -> None:
    with pytest.raises(VersionRejected, match="more than 10 bytes"):
        check_graph(b"\x80" * 1_000_000 + b"\x01")


def test_a_large_forest_is_read_in_a_fraction_of_a_second() -> None:
    size, count = 401, 300
    modes = ["BRANCH_LEQ", "LEAF"] * (size // 2) + ["LEAF"]
    true = [0 if mode == "LEAF" else place + 1 for place, mode in enumerate(modes)]
    false = [0 if mode == "LEAF" else place + 2 for place, mode in enumerate(modes)]
    leaves = [place for place, mode in enumerate(modes) if mode == "LEAF"]
    data = hostile.trees(
        modes * count, true * count, false * count,
        nodes_treeids=np.repeat(range(count), size).tolist(), nodes_nodeids=[*range(size)] * count,
        class_nodeids=leaves * count, class_treeids=np.repeat(range(count), len(leaves)).tolist(),
    )  # fmt: skip

    start = time.process_time()
    kind_of(data)

    assert time.process_time() - start < 1
