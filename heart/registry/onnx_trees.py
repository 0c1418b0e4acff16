r"""What a TreeEnsembleClassifier may contain: trees as skl2onnx writes those of scikit-learn.

ONNX Runtime follows the children of a node until it reaches a leaf, so a cycle would never end, and a long chain
would take long for the patients that reach it. Here every child has a greater number than its parent, each node but
the root has one parent, and the depths of all trees together limit what a row can cost::

    0 --- 1 --- 2 leaf       tree 0: truenodeids 1 2 0 0 0, falsenodeids 4 3 0 0 0
     \     \--- 3 leaf                modes LEQ LEQ LEAF LEAF LEAF
      4 leaf                 a row visits at most 3 nodes
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]

NODE_INTS = (
    "nodes_treeids", "nodes_nodeids", "nodes_featureids", "nodes_truenodeids", "nodes_falsenodeids",
    "nodes_missing_value_tracks_true",
)  # fmt: skip
NODE_FLOATS = ("nodes_values", "nodes_hitrates")
LEAF_INTS, LEAF_FLOATS = ("class_treeids", "class_nodeids", "class_ids"), ("class_weights",)
MODES, LABELS, TRANSFORM = "nodes_modes", "classlabels_int64s", "post_transform"
BASE = "base_values"  # of gradient boosting only
TYPES = {
    **dict.fromkeys((*NODE_INTS, *LEAF_INTS, LABELS), "int64"),
    **dict.fromkeys((*NODE_FLOATS, *LEAF_FLOATS, BASE), "float32"),
    MODES: "list",
    TRANSFORM: "bytes",
}
NEEDED = TYPES.keys() - {BASE}

BRANCH, LEAF = b"BRANCH_LEQ", b"LEAF"
# Nodes that a row visits, in one tree and in all; 300 unpruned trees have some 15 and 4,500. ONNX Runtime reads a
# tree by recursion: one of 40,000 levels overflows its stack.
MAX_DEPTH, MAX_VISITS = 1_000, 30_000


class OtherUse(ValueError):
    """An operator is used as the exporter does not."""


def most_visits(attributes: Mapping[str, Any], columns: int) -> int:
    """How many nodes a row of some columns visits at most. Raises OtherUse for other trees."""
    _require(set(attributes) - {BASE} == NEEDED, "it has other attributes")
    types = {name: _type(value) for name, value in attributes.items()}
    _require(types == {name: TYPES[name] for name in attributes}, "an attribute has another type")
    nodes, leaves = len(attributes[MODES]), attributes[MODES].count(LEAF)
    lengths = dict.fromkeys((*NODE_INTS, *NODE_FLOATS), nodes)
    lengths |= dict.fromkeys((*LEAF_INTS, *LEAF_FLOATS), leaves)
    for name, length in lengths.items():
        _require(len(attributes[name]) == length, f"{name} does not have {length} values")
    _require(set(attributes[MODES]) <= {BRANCH, LEAF}, "it has other modes")
    _require(attributes[TRANSFORM] in (b"NONE", b"LOGISTIC"), f"{TRANSFORM} is another")
    _require(list(attributes[LABELS]) == [0, 1], "its classes are not 0 and 1")
    _require(len(attributes.get(BASE, ())) <= 1, f"{BASE} has several values")
    for name in ("nodes_values", "class_weights", BASE):
        _require(np.isfinite(attributes.get(name, 0)).all(), f"{name} has a value that is infinite")
    features = attributes["nodes_featureids"]
    _require(((features >= 0) & (features < columns)).all(), "it reads a column that is not there")
    _require(not attributes["nodes_missing_value_tracks_true"].any(), "it tracks missing values")
    leaf = np.array([mode == LEAF for mode in attributes[MODES]], dtype=bool)
    depths = _depths(attributes, leaf)
    deepest, visits = int(depths.max()), int(depths.sum())
    _require(deepest <= MAX_DEPTH, f"a tree has {deepest} levels, at most {MAX_DEPTH} are allowed")
    _require(
        visits <= MAX_VISITS, f"a row visits up to {visits} nodes, at most {MAX_VISITS} are allowed"
    )
    return visits


def _type(value: Any) -> str:
    return value.dtype.name if isinstance(value, np.ndarray) else type(value).__name__


def _depths(attributes: Mapping[str, Any], leaf: npt.NDArray[np.bool_]) -> Ints:
    """The number of levels of each tree."""
    tree: Ints = attributes["nodes_treeids"]
    own: Ints = attributes["nodes_nodeids"]
    true: Ints = attributes["nodes_truenodeids"]
    false: Ints = attributes["nodes_falsenodeids"]
    steps = np.diff(tree, prepend=-1)
    _require(
        len(tree) > 0 and tree[0] == 0 and np.isin(steps, (0, 1)).all(), "trees are not in order"
    )
    first = np.flatnonzero(steps)
    start = first[tree]
    _require((own == np.arange(len(tree)) - start).all(), "nodes are not in order")
    size = np.diff(first, append=len(tree))[tree]
    for child in (true, false):
        _require(not child[leaf].any(), "a leaf has children")
        later = (child > own) & (child < size)
        _require(later[~leaf].all(), "a child does not come after its parent, within the tree")
    branches = np.flatnonzero(~leaf)
    pairs = np.stack([start[branches] + true[branches], start[branches] + false[branches]])
    parents = np.bincount(pairs.ravel(), minlength=len(tree))
    _require((parents == (own > 0)).all(), "a node has not one parent")
    _require((attributes["class_treeids"] == tree[leaf]).all(), "weights are of other trees")
    _require((attributes["class_nodeids"] == own[leaf]).all(), "weights are of other nodes")
    _require(not attributes["class_ids"].any(), "weights are of another class")
    depth = [1] * len(tree)
    for branch, yes, no in zip(branches.tolist(), *pairs.tolist(), strict=True):
        depth[yes] = depth[no] = depth[branch] + 1
    return np.maximum.reduceat(np.array(depth, dtype=np.int64), first)


def _require(holds: object, otherwise: str) -> None:
    if not holds:
        raise OtherUse(otherwise)
