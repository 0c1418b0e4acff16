"""A version of the model: its files, its card, and the checks before it is served."""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from heart.drift.baseline import Reference
from heart.registry import aliases
from heart.registry.aliases import BESIDE_FOLDER, THRESHOLD, hash_tag, is_threshold
from heart.registry.errors import ScoringFailed, VersionRejected
from heart.registry.onnx_model import OnnxModel
from heart.schema import MEASUREMENTS, NAMES, Floats, fingerprint

# Files of a version: the model, and beside it files whose hashes may be tags.
ONNX = "model.onnx"
SELF_TEST = f"{BESIDE_FOLDER}/{aliases.SELF_TEST}"
ERROR = f"{BESIDE_FOLDER}/{aliases.STANDARD_ERROR}"
TRAINING, REFERENCE = (f"{BESIDE_FOLDER}/{f}" for f in (aliases.TRAINING, aliases.REFERENCE))
BESIDE = {file: hash_tag(file) for file in (ERROR, TRAINING, REFERENCE)}
# Files of its run.
EVALUATE, TRAIN = "metrics/evaluate.json", "metrics/train.json"
CALIBRATION, ROC, DECISION = (f"plots/{name}.csv" for name in ("calibration", "roc", "decision"))
FIGURES = (EVALUATE, TRAIN, CALIBRATION, ROC, DECISION)
# The card, in the cache.
CARD = "model.json"

MAX_BYTES = 64 * 1024 * 1024  # of a file; a random forest of 300 unpruned trees has 5 MiB
# Of a JSON or CSV file, which have some kilobytes. Parsing this much blocks the service for 0.1 s at most.
MAX_TEXT_BYTES = 2 * 1024 * 1024
MAX_DEPTH = 20  # of its lists and objects; copying a deeper one would fail
MAX_QUANTILES = 100  # of a measurement: the page scores a patient with each
MAX_TOLERANCE = 1e-3  # the largest tolerance that a self-test may have


Files = Mapping[str, bytes]  # the files of a version, each read once


@dataclass(frozen=True)
class Card:
    """The description of a version; model.json in the cache.

    `tags` are those of the version, among them hashes of data and the commit. `figures` are from stage
    evaluate, `train_figures` from stage train, `calibration`, `roc` and `decision` have the points of the
    plots of these names, `training` ranges and quantiles of the training patients; each may be empty.
    """

    name: str
    version: str
    run_id: str
    sha256: str
    schema_fingerprint: str
    tags: Mapping[str, str]
    figures: Mapping[str, Any]
    train_figures: Mapping[str, Any]
    calibration: Sequence[Mapping[str, float]]
    training: Mapping[str, Any]
    roc: Sequence[Mapping[str, float]] = field(default=(), kw_only=True)
    decision: Sequence[Mapping[str, float]] = field(default=(), kw_only=True)

    @property
    def threshold(self) -> float:
        """The probability from which the prediction is presence."""
        return float(self.tags[THRESHOLD])


@dataclass(frozen=True)
class Model(Card):
    """A version that passed every check and can predict.

    `from_cache` is true until the registry has confirmed it after a start. Without a `reference` there
    is no drift check.
    """

    network: OnnxModel
    error_network: OnnxModel | None
    loaded_at: datetime
    from_cache: bool
    reference: Reference | None = None

    def predict(self, rows: Floats) -> Floats:
        """The probabilities of presence [n] of encoded rows [n, 13]. Raises ScoringFailed."""
        return self._run(self.network, rows)

    def standard_error(self, rows: Floats) -> Floats | None:
        """The standard errors of the logits [n] of encoded rows; None or NaN where there is none.

        Raises ScoringFailed.
        """
        return self._run(self.error_network, rows) if self.error_network else None

    def _run(self, network: OnnxModel, rows: Floats) -> Floats:
        try:
            return network(rows)
        except Exception as error:  # noqa: BLE001
            # ONNX Runtime's exceptions have no base class of their own, and may quote values.
            raise ScoringFailed(self.version, f"ONNX Runtime: {type(error).__name__}") from None


def load(files: Files, *, from_cache: bool = False) -> Model:
    """The model of a version, after all checks. Raises VersionRejected.

    Only files that have passed their trial may be loaded into a process that answers.
    """
    card = describe(files)
    network = OnnxModel(files[ONNX])
    run_self_test(network, read_json(files, SELF_TEST))
    error_network = None
    if BESIDE[ERROR] in card.tags:
        error_network = OnnxModel(files[ERROR])
        if not np.all(np.nan_to_num(error_network.try_out(extreme_rows())) >= 0):
            raise VersionRejected("self_test", "a standard error is negative")
    return Model(
        **{part.name: getattr(card, part.name) for part in fields(Card)},
        network=network,
        error_network=error_network,
        loaded_at=datetime.now(UTC),
        from_cache=from_cache,
        reference=_reference(files) if BESIDE[REFERENCE] in card.tags else None,
    )


def describe(files: Files) -> Card:
    """The card of a version whose files have the hashes in its tags. Raises VersionRejected.

    The models are not touched.
    """
    try:
        card = Card(**read_json(files, CARD))
        threshold = card.tags.get(THRESHOLD, "")
        hashes = {ONNX: card.sha256}
        hashes |= {file: card.tags[tag] for file, tag in BESIDE.items() if tag in card.tags}
    except (TypeError, AttributeError) as error:
        raise VersionRejected("unreadable", f"{CARD}: {error}") from error
    if not is_threshold(threshold):
        raise VersionRejected(
            "unreadable", f"its tag {THRESHOLD} is {threshold!r}, expected a number in (0, 1)"
        )
    if card.schema_fingerprint != fingerprint():
        raise VersionRejected("schema", "its measurements are not those of this service")
    for file, sha256 in hashes.items():
        check_hash(files, file, sha256)
    if TRAINING in hashes and card.training != read_json(files, TRAINING):
        raise VersionRejected("hash", f"{CARD} differs from {TRAINING}")
    check_ranges(card.training)
    return card


def check_ranges(training: Mapping[str, Any]) -> None:
    """Raises VersionRejected unless the ranges of the training patients can be compared with a patient."""
    numeric = {measurement.name for measurement in MEASUREMENTS if not measurement.choices}
    try:
        for name, limits in training.get("numbers", {}).items():
            values = [limits["low"], *limits.get("quantiles", ()), limits["high"]]
            finite = all(isinstance(v, (int, float)) and math.isfinite(v) for v in values)
            valid = name in numeric and finite and len(values) <= MAX_QUANTILES
            if not valid:
                break
        else:
            return
    except (AttributeError, KeyError, TypeError, OverflowError):
        pass
    raise VersionRejected(
        "unreadable",
        f"{TRAINING}: `numbers` is expected to have finite low, quantiles and high of measurements",
    )


def _reference(files: Files) -> Reference:
    """The drift baseline of a version. Raises VersionRejected."""
    read_json(files, REFERENCE)  # its size and depth are limited
    try:
        return Reference.from_json(files[REFERENCE])
    except (ValueError, AttributeError) as error:
        raise VersionRejected("unreadable", f"{REFERENCE}: {error}") from error


def check_hash(files: Files, file: str, sha256: str) -> None:
    """Raises VersionRejected unless a file is there and has this hash."""
    actual = hashlib.sha256(_content(files, file)).hexdigest()
    if actual != sha256:
        raise VersionRejected("hash", f"{file} has the hash {actual}, its tag says {sha256}")


def _content(files: Files, file: str) -> bytes:
    if file not in files:
        raise VersionRejected("unreadable", f"{file} is missing")
    return files[file]


def read_files(folder: Path) -> dict[str, bytes]:
    """The files of a folder by their relative path, each read once. Raises VersionRejected."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): _read(path) for path in paths}


def _read(path: Path) -> bytes:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise VersionRejected("size", f"{path.name} is larger than {MAX_BYTES} bytes")
        return path.read_bytes()
    except OSError as error:
        raise VersionRejected("unreadable", f"{path.name}: {error.strerror}") from error


def read_json(files: Files, file: str) -> dict[str, Any]:
    """The JSON object in a file; NaN becomes None, since a response cannot hold NaN. Raises VersionRejected."""
    try:
        content = json.loads(text_of(files, file), parse_constant=lambda _: None)
    except (ValueError, RecursionError) as error:
        raise VersionRejected("unreadable", f"{file}: {error}") from error
    if not isinstance(content, dict):
        raise VersionRejected("unreadable", f"{file} is not a JSON object")
    if _depth(content) > MAX_DEPTH:
        raise VersionRejected("unreadable", f"{file} is nested more than {MAX_DEPTH} times")
    return content


def _depth(content: Any) -> int:
    """How deep lists and objects are nested, at most MAX_DEPTH + 1."""
    depth, level = 0, [content]
    while depth <= MAX_DEPTH and (level := [v for v in level if isinstance(v, dict | list)]):
        depth += 1
        level = [inner for v in level for inner in (v.values() if isinstance(v, dict) else v)]
    return depth


def text_of(files: Files, file: str) -> bytes:
    """The content of a text file of at most MAX_TEXT_BYTES. Raises VersionRejected."""
    content = _content(files, file)
    if len(content) > MAX_TEXT_BYTES:
        raise VersionRejected("size", f"{file} is larger than {MAX_TEXT_BYTES} bytes")
    return content


def run_self_test(network: OnnxModel, test: Mapping[str, Any]) -> None:
    """Compare predictions with those that were stored with the version. Raises VersionRejected."""
    try:
        rows = np.array(test["rows"], dtype=np.float32)  # None becomes NaN
        expected = np.array(test["probabilities"], dtype=np.float64)
        tolerance = float(test["tolerance"])
    except (KeyError, TypeError, ValueError) as error:
        raise VersionRejected("unreadable", f"{SELF_TEST}: {error}") from error
    if not (rows.ndim == 2 and rows.shape[1] == len(NAMES) and expected.shape == (len(rows),)):
        raise VersionRejected(
            "unreadable",
            f"{SELF_TEST}: expected one probability for each row of {len(NAMES)} values",
        )
    if not (len(rows) and 0 <= tolerance <= MAX_TOLERANCE):
        raise VersionRejected(
            "self_test",
            f"{SELF_TEST}: {len(rows)} rows with a tolerance of {tolerance:g}, "
            f"expected at least one and a tolerance from 0 to {MAX_TOLERANCE:g}",
        )
    for inputs in (rows, extreme_rows()):
        actual = network.try_out(inputs)
        if not np.all((actual >= 0) & (actual <= 1)):
            raise VersionRejected("self_test", "a prediction is not a probability")
        if inputs is rows and not np.all(np.abs(actual - expected) <= tolerance):
            raise VersionRejected("self_test", f"its predictions differ from those in {SELF_TEST}")


def extreme_rows() -> Floats:
    """Encoded rows at the bounds of the schema, and one with only the required measurements."""
    low = [0.0 if m.choices else m.low for m in MEASUREMENTS]
    high = [len(m.choices) - 1.0 if m.choices else m.high for m in MEASUREMENTS]
    required = [
        value if m.required else math.nan for m, value in zip(MEASUREMENTS, low, strict=True)
    ]
    return np.array([low, high, required], dtype=np.float32)
