"""The model that is served: found in the registry, checked, kept on disk, swapped as a whole.

A version is data, never code: its files are downloaded, compared with the hashes in its tags and
handed to ONNX Runtime as bytes. Nothing is unpickled, and MLflow is no part of a prediction.

MLflow takes a second to import and another to open its store. So a restart serves at once what
the cache holds, checked like a download, and looks into the registry shortly after.
"""

import contextlib
import csv
import hashlib
import json
import logging
import math
import os
import re
import shutil
import sqlite3
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

import numpy as np

from schema import MEASUREMENTS, NAMES, Floats, fingerprint
from serve.settings import MODEL, SQLITE, Settings

Kind = Literal["hash", "schema", "shape", "self_test", "external_data", "size", "unreadable"]
Event = Literal["loaded", "refused", "registry_failed"]

SHA256, SCHEMA, VERDICT = "model_sha256", "schema_fingerprint", "verdict"
# Of a version: the model, and beside it, where MLflow puts them, files that may have a tag each.
ONNX, BESIDE_FOLDER = "model.onnx", "extra_files"
SELF_TEST = f"{BESIDE_FOLDER}/self_test.json"
ERROR, TRAINING = f"{BESIDE_FOLDER}/standard_error.onnx", f"{BESIDE_FOLDER}/training.json"
BESIDE = {ERROR: "standard_error_sha256", TRAINING: "training_sha256"}
# Of its run.
EVALUATE, TRAIN = "metrics/evaluate.json", "metrics/train.json"
CALIBRATION = "plots/calibration.csv"
# Of the cache.
CARD, POINTER, PART = "model.json", "current.json", ".part-"

MAX_BYTES = 64 * 1024 * 1024  # of a file; a forest of 300 full-grown trees has 5 MiB
MAX_TOLERANCE = 1e-3  # that a self-test may ask for
# Without a model, look this often: it will come any moment.
SECONDS_WITHOUT_MODEL = 2.0
# With one from the cache, leave the first seconds to the start of the service.
SECONDS_TO_FIRST_LOOK = 2.0
SECONDS_KEPT = 3600.0  # a replica may be reading a folder that this one no longer needs

logger = logging.getLogger(__name__)


class Refused(Exception):
    """A version that must not be served. `kind` is for machines, the text for people."""

    def __init__(self, kind: Kind, reason: str) -> None:
        super().__init__(reason)
        self.kind = kind


class Unavailable(Exception):
    """Nothing can be had now from the registry, or kept in the cache: worth another try."""


# --- the ONNX file -------------------------------------------------------------------------------

# The fields of onnx.proto by which a message leads to a tensor. `external_data` is 13 and
# `data_location` 14 in TensorProto.
WIRE: dict[str, dict[int, str]] = {
    "ModelProto": {7: "GraphProto", 20: "TrainingInfoProto", 25: "FunctionProto"},
    "TrainingInfoProto": {1: "GraphProto", 2: "GraphProto"},
    "FunctionProto": {7: "NodeProto", 11: "AttributeProto"},
    "GraphProto": {1: "NodeProto", 5: "TensorProto", 15: "SparseTensorProto"},
    "NodeProto": {5: "AttributeProto"},
    "AttributeProto": {
        5: "TensorProto",
        6: "GraphProto",
        10: "TensorProto",
        11: "GraphProto",
        22: "SparseTensorProto",
        23: "SparseTensorProto",
    },
    "SparseTensorProto": {1: "TensorProto", 2: "TensorProto"},
    "TensorProto": {},
}
EXTERNAL_DATA, DATA_LOCATION = 13, 14


def has_external_data(data: bytes) -> bool:
    """Whether any tensor of an ONNX model lies outside of it. Raises Refused if it is not readable.

    ONNX Runtime would read such a file, from the working directory if the model came as bytes: it
    would be served unchecked. Read from the wire format, since the service has no `onnx` package.
    """
    try:
        return _external(data, "ModelProto", 0, len(data))
    except (ValueError, IndexError, RecursionError) as error:
        raise Refused("unreadable", f"this is no ONNX model: {error}") from error


def _external(data: bytes, message: str, at: int, end: int) -> bool:
    inner = WIRE[message]
    while at < end:
        key, at = _varint(data, at)
        field, wire_type = key >> 3, key & 7
        start, at = _skip(data, at, wire_type)
        if at > end:
            raise ValueError("a field goes beyond its message")
        if message == "TensorProto" and field == EXTERNAL_DATA:
            return True
        if message == "TensorProto" and field == DATA_LOCATION and data[start] != 0:
            return True
        if field in inner and _external(data, inner[field], start, at):
            return True
    return False


def _skip(data: bytes, at: int, wire_type: int) -> tuple[int, int]:
    """Where the value of a field starts and ends."""
    if wire_type == 0:
        return at, _varint(data, at)[1]
    if wire_type == 1:
        return at, at + 8
    if wire_type == 2:
        length, at = _varint(data, at)
        return at, at + length
    if wire_type == 5:
        return at, at + 4
    raise ValueError(f"wire type {wire_type}")


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """A variable-length number and the place after it."""
    value = shift = 0
    while shift < 70:
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
        shift += 7
    raise ValueError("a number of more than 10 bytes")


class Network:
    """One ONNX model from encoded rows [n, 13] to one number each; for any number of threads."""

    def __init__(self, data: bytes) -> None:
        """Raises Refused for a model of another shape, or one that is not whole."""
        if has_external_data(data):
            raise Refused("external_data", "the model keeps tensors in other files")
        self._session = _session(data)
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        if [_signature(port) for port in inputs] != [("tensor(float)", len(NAMES))]:
            raise Refused("shape", f"its input is {_described(inputs)}")
        if [_signature(port) for port in outputs] != [("tensor(float)", 1)]:
            raise Refused("shape", f"its output is {_described(outputs)}")
        self._input, self._outputs = inputs[0].name, [outputs[0].name]

    def __call__(self, rows: Floats) -> Floats:
        """One number for each of the encoded rows [n, 13], as [n]."""
        result: Floats = self._session.run(self._outputs, {self._input: rows})[0]
        return result[:, 0]

    def tried(self, rows: Floats) -> Floats:
        """As a call, for the first one: a model may fail, or give another shape than it says."""
        try:
            result = self._session.run(self._outputs, {self._input: rows})[0]
        except Exception as error:
            # ONNX Runtime's exceptions have no base class of their own.
            raise Refused("self_test", f"it fails: {_first_line(error)}") from error
        if result.shape != (len(rows), 1):
            raise Refused("shape", f"{len(rows)} rows in, {list(result.shape)} out")
        return np.asarray(result[:, 0], dtype=np.float32)


def _session(data: bytes) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    # One row takes 6 us: more threads would cost more than they bring.
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    # A memory plan would be kept for each number of rows that ever came.
    options.enable_mem_pattern = False
    options.log_severity_level = 4
    # Not its own format, which it would recognise and which is not looked through above.
    options.add_session_config_entry("session.load_model_format", "ONNX")
    try:
        return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        # ONNX Runtime's exceptions have no base class of their own.
        raise Refused("unreadable", f"ONNX Runtime: {_first_line(error)}") from error


def _signature(port: Any) -> tuple[str, int] | None:
    """Type and columns of an input or output; None if it takes a fixed number of rows."""
    if len(port.shape) != 2 or isinstance(port.shape[0], int):
        return None
    return port.type, port.shape[1]


def _described(ports: Sequence[Any]) -> str:
    return ", ".join(f"{port.type} {port.shape}" for port in ports) or "missing"


# --- a version and its files ---------------------------------------------------------------------


@dataclass(frozen=True)
class Card:
    """All that is known of a version; model.json in the cache.

    `tags` are those of the version, hashes of data and commit among them. `figures` is what stage
    evaluate measured, `train_figures` what stage train did, `calibration` the points of the
    calibration plot, `training` ranges and quantiles of the training patients; each may be empty.
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

    @property
    def threshold(self) -> float:
        """The probability from which the prediction is presence."""
        return float(self.figures.get("threshold", 0.5))


@dataclass(frozen=True)
class Model(Card):
    """A version that passed every check, ready to answer.

    `from_cache` says that the registry has not confirmed it since the start.
    """

    network: Network
    error_network: Network | None
    loaded_at: datetime
    from_cache: bool

    def predict(self, rows: Floats) -> Floats:
        """The probabilities of presence [n] of encoded rows [n, 13]."""
        return self.network(rows)

    def standard_error(self, rows: Floats) -> Floats | None:
        """The standard errors of the logits [n] of encoded rows; None or NaN if there are none."""
        return self.error_network(rows) if self.error_network else None


def load(folder: Path, *, from_cache: bool = False) -> Model:
    """The model whose files lie in a folder, checked. Raises Refused."""
    card = _read_card(folder)
    if card.schema_fingerprint != fingerprint():
        raise Refused("schema", "its measurements are not those of this service")
    network = Network(checked(folder / ONNX, card.sha256))
    run_self_test(network, read_json(folder / SELF_TEST))
    error_network = None
    if expected := card.tags.get(BESIDE[ERROR]):
        error_network = Network(checked(folder / ERROR, expected))
        if not np.all(np.nan_to_num(error_network.tried(extreme_rows())) >= 0):
            raise Refused("self_test", "a standard error is negative")
    return Model(
        **{field.name: getattr(card, field.name) for field in fields(Card)},
        network=network,
        error_network=error_network,
        loaded_at=datetime.now(UTC),
        from_cache=from_cache,
    )


def _read_card(folder: Path) -> Card:
    try:
        card = Card(**read_json(folder / CARD))
        sensible = 0 < card.threshold < 1
    except (TypeError, ValueError) as error:
        raise Refused("unreadable", f"{CARD}: {error}") from error
    if not sensible:
        raise Refused("unreadable", f"its threshold is {card.threshold}")
    return card


def checked(path: Path, sha256: str) -> bytes:
    """The content of a file that has this hash. Raises Refused."""
    data = read(path)
    found = hashlib.sha256(data).hexdigest()
    if found != sha256:
        raise Refused("hash", f"{path.name} has the hash {found}, its tag says {sha256}")
    return data


def read(path: Path) -> bytes:
    """The content of a file, if it is not too large. Raises Refused."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise Refused("size", f"{path.name} is larger than {MAX_BYTES} bytes")
        return path.read_bytes()
    except OSError as error:
        raise Refused("unreadable", f"{path.name}: {error.strerror}") from error


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in a file; NaN, which no answer may contain, is None. Raises Refused."""
    try:
        content = json.loads(read(path), parse_constant=lambda _: None)
    except (ValueError, RecursionError) as error:
        raise Refused("unreadable", f"{path.name}: {error}") from error
    if not isinstance(content, dict):
        raise Refused("unreadable", f"{path.name} is no JSON object")
    return content


def run_self_test(network: Network, test: Mapping[str, Any]) -> None:
    """Compare with the predictions that were stored with the version. Raises Refused."""
    try:
        rows = np.array(test["rows"], dtype=np.float32)  # None becomes NaN
        expected = np.array(test["probabilities"], dtype=np.float64)
        tolerance = float(test["tolerance"])
    except (KeyError, TypeError, ValueError) as error:
        raise Refused("unreadable", f"{SELF_TEST}: {error}") from error
    if not (rows.ndim == 2 and rows.shape[1] == len(NAMES) and expected.shape == (len(rows),)):
        raise Refused("unreadable", f"{SELF_TEST}: not one probability for each row of 13 values")
    if not (len(rows) and 0 <= tolerance <= MAX_TOLERANCE):
        raise Refused("self_test", f"{SELF_TEST} tests nothing")
    for tried in (rows, extreme_rows()):
        given = network.tried(tried)
        if not np.all((given >= 0) & (given <= 1)):
            raise Refused("self_test", "it gives something that is no probability")
        if tried is rows and not np.all(np.abs(given - expected) <= tolerance):
            raise Refused("self_test", "its predictions are not those that were stored with it")


def extreme_rows() -> Floats:
    """Encoded rows at the bounds of the schema, and one in which only age and sex are given."""
    low = [0.0 if m.choices else m.low for m in MEASUREMENTS]
    high = [len(m.choices) - 1.0 if m.choices else m.high for m in MEASUREMENTS]
    bare = [value if m.required else math.nan for m, value in zip(MEASUREMENTS, low, strict=True)]
    return np.array([low, high, bare], dtype=np.float32)


# --- the registry --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Version:
    """A registered version, as the registry describes it."""

    name: str
    number: str
    run_id: str
    tags: Mapping[str, str]

    @property
    def sha256(self) -> str:
        """The hash of its model, empty if its tag is none."""
        tag = self.tags.get(SHA256, "")
        return tag if re.fullmatch(r"[0-9a-f]{64}", tag) else ""


class Registry:
    """The registry, to read from. Every method raises Unavailable within seconds if it is down."""

    def __init__(self, uri: str, reference: str) -> None:
        self._uri = uri
        parts = MODEL.fullmatch(reference)
        if not parts:
            raise ValueError(f"{reference!r} is no model")
        self.name: str = parts["name"]
        self._alias, self._number = parts["alias"], parts["number"]
        self._client: Any = None

    def resolve(self) -> Version:
        """The version that the alias, the number or `newest` means now."""
        with self._asking() as client:
            found = self._find(client)
            return Version(
                self.name,
                str(found.version),
                str(found.run_id or ""),
                # The verdict is set after the alias: it would be there for one replica only.
                {name: value for name, value in found.tags.items() if name != VERDICT},
            )

    def _find(self, client: Any) -> Any:
        if self._alias:
            return client.get_model_version_by_alias(self.name, self._alias)
        if self._number != "newest":
            return client.get_model_version(self.name, self._number)
        found = client.search_model_versions(
            f"name = '{self.name}'", max_results=1, order_by=["version_number DESC"]
        )
        if not found:
            raise Unavailable(f"the registry holds no version of {self.name}")
        return found[0]

    def download(self, version: Version, folder: Path) -> None:
        """Bring the model and the files beside it into a folder."""
        wanted = (ONNX, SELF_TEST, *(file for file, tag in BESIDE.items() if tag in version.tags))
        with self._asking() as client:
            uri = client.get_model_version_download_uri(version.name, version.number)
            brought = self._bring(uri, ("", BESIDE_FOLDER), wanted, folder)
        for file in set(wanted) - brought:
            # Not the version's fault: a folder that was not restored, a share not mounted.
            raise Unavailable(f"version {version.number}: {file} is not where it should be")

    def download_figures(self, version: Version, folder: Path) -> None:
        """Bring the run's figures into a folder, as far as there are any."""
        if version.run_id:
            with self._asking() as client:
                uri = client.get_run(version.run_id).info.artifact_uri
                self._bring(uri, ("metrics", "plots"), (EVALUATE, TRAIN, CALIBRATION), folder)

    def _bring(self, uri: str, folders: Sequence[str], wanted: Sequence[str], to: Path) -> set[str]:
        """Download those of the wanted files that there are. Returns their names."""
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

        store = get_artifact_repository(uri, tracking_uri=self._uri, registry_uri=self._uri)
        listed = [file for name in folders for file in store.list_artifacts(name or None)]
        sizes = {file.path: file.file_size for file in listed}
        there = set(wanted) & sizes.keys()
        for file in there:
            if (sizes[file] or 0) > MAX_BYTES:
                raise Refused("size", f"{file} is larger than {MAX_BYTES} bytes")
            store.download_artifacts(file, str(to))
        return there

    @contextlib.contextmanager
    def _asking(self) -> Iterator[Any]:
        try:
            self._probe()
            self._client = self._client or _mlflow_client(self._uri)
            yield self._client
        except (Unavailable, Refused):
            raise
        except Exception as error:
            # Whatever store it is, its client has exceptions of its own: one for all.
            raise Unavailable(_first_line(error)) from error

    def _probe(self) -> None:
        """Leave a SQLite file alone that is absent or empty: MLflow would make it, and its tables."""
        if not self._uri.startswith(SQLITE):
            return
        path = self._uri.removeprefix(SQLITE)
        with contextlib.closing(sqlite3.connect(f"file:{quote(path)}?mode=ro", uri=True)) as file:
            if not file.execute("SELECT 1 FROM registered_models LIMIT 1").fetchone():
                raise Unavailable("the registry holds no model")


def _mlflow_client(uri: str) -> Any:
    defaults = {
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
        # A server that does not answer is an error within seconds, not after MLflow's ten minutes.
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
        "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
        # A pooled connection would go on reading a SQLite file that was replaced by another.
        "MLFLOW_SQLALCHEMYSTORE_POOLCLASS": "NullPool",
    }
    for name, value in defaults.items():
        os.environ.setdefault(name, value)
    from mlflow import MlflowClient

    # What goes wrong is said here, once, without a stack trace.
    for noisy in ("alembic", "mlflow", "urllib3"):
        logging.getLogger(noisy).setLevel(logging.CRITICAL)
    return MlflowClient(tracking_uri=uri, registry_uri=uri)


def _first_line(error: Exception) -> str:
    line = (str(error).splitlines() or [""])[0] or type(error).__name__
    return re.sub(r"://[^/@\s]*@", "://", line)  # MLflow repeats the URI with its password


# --- the cache -----------------------------------------------------------------------------------


class Cache:
    """Versions that passed every check, a folder each, and a pointer to the one that was served.

    Folders and pointer appear whole or not at all, so that a start after a crash, or a replica
    beside this one, never reads half of one. What is read is checked again.
    """

    def __init__(self, root: Path, reference: str) -> None:
        self._root = root
        self._reference = reference

    def folder(self, name: str, number: str, sha256: str) -> Path:
        """Where a version lies, or would."""
        return self._root / name / f"{number}-{sha256[:12]}"

    def last(self) -> Model | None:
        """The model that was served last for the same setting. Raises Refused."""
        try:
            pointer = json.loads((self._root / POINTER).read_bytes())
            if pointer["model"] != self._reference:
                return None
            folder = self.folder(pointer["name"], pointer["version"], pointer["sha256"])
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return load(folder, from_cache=True)

    def load(self, version: Version) -> Model | None:
        """A version that was kept before; None if it is not there, or no longer what it was."""
        folder = self.folder(version.name, version.number, version.sha256)
        if not folder.exists():
            return None
        try:
            model = load(folder)
        except Refused as refusal:
            logger.warning("%s in the cache is no good, downloading again: %s", folder, refusal)
        else:
            if model.sha256 == version.sha256:
                return model
        shutil.rmtree(folder)
        return None

    def keep(self, version: Version, registry: Registry) -> Model:
        """Download a version and check it; only then it is kept. Raises Refused, Unavailable."""
        folder = self.folder(version.name, version.number, version.sha256)
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=PART, dir=folder.parent) as work:
            part, figures = Path(work) / "model", Path(work) / "figures"
            part.mkdir()
            figures.mkdir()
            registry.download(version, part)
            registry.download_figures(version, figures)
            _write(part / CARD, asdict(_card(version, part, figures)))
            model = load(part)
            try:
                part.rename(folder)
            except OSError:
                if not folder.exists():  # else a replica was faster, and it has the same
                    raise
        return model

    def point_at(self, model: Model, previous: Model | None) -> None:
        """Make a model the one of the next start, and forget folders of no further use."""
        folder = self._root / model.name
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=PART, dir=folder) as work:
            part = Path(work) / POINTER
            _write(part, {"model": self._reference, "name": model.name,
                          "version": model.version, "sha256": model.sha256})  # fmt: skip
            part.replace(self._root / POINTER)
        kept = {self.folder(m.name, m.version, m.sha256) for m in (model, previous) if m}
        for other in set(folder.iterdir()) - kept:
            with contextlib.suppress(FileNotFoundError):  # a replica forgets them too
                if time.time() - other.stat().st_mtime > SECONDS_KEPT:
                    shutil.rmtree(other)


def _card(version: Version, folder: Path, figures: Path) -> Card:
    """What is known of a version whose files were downloaded. Raises Refused."""
    training: dict[str, Any] = {}
    if expected := version.tags.get(BESIDE[TRAINING]):
        checked(folder / TRAINING, expected)
        training = read_json(folder / TRAINING)
    return Card(
        version.name,
        version.number,
        version.run_id,
        version.sha256,
        version.tags.get(SCHEMA, ""),
        version.tags,
        _optional_json(figures / EVALUATE),
        _optional_json(figures / TRAIN),
        _calibration(figures / CALIBRATION),
        training,
    )


def _optional_json(path: Path) -> dict[str, Any]:
    return read_json(path) if path.exists() else {}


def _calibration(path: Path) -> list[dict[str, float]]:
    if not path.exists():
        return []
    try:
        rows = csv.DictReader(read(path).decode().splitlines(), strict=True)
        points = [{name: float(value) for name, value in row.items()} for row in rows]
    except (ValueError, TypeError, csv.Error) as error:
        raise Refused("unreadable", f"{CALIBRATION}: {error}") from error
    return [point for point in points if all(map(math.isfinite, point.values()))]


def _write(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n")


# --- the champion --------------------------------------------------------------------------------


@dataclass(frozen=True)
class State:
    """`reasons` why there is no model to answer with, none if there is; `notes` on the one there is."""

    reasons: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def ready(self) -> bool:
        """Whether predictions can be made."""
        return not self.reasons


@dataclass(frozen=True)
class Refusal:
    """The version that was refused last. It is not downloaded again until the alias moves."""

    version: str
    sha256: str
    kind: Kind
    reason: str


class Champion:
    """The model in service. One thread follows the registry; requests only read `current`.

    A request takes `current` once and uses it to its end: a swap is the assignment of one
    reference, so that every answer comes from the version that it names. Counts are of this
    process: `reloads` (models put into service), `refusals` by kind, `registry_failures`.
    `on_event(event, detail)` is called with each count, by the thread that counts; the detail is a
    version, a kind or empty.
    """

    def __init__(
        self, settings: Settings, on_event: Callable[[Event, str], None] = lambda *_: None
    ) -> None:
        self.current: Model | None = None
        self.previous: Model | None = None
        self.reloads = 0
        self.refusals: Counter[str] = Counter()
        self.registry_failures = 0
        self.registry_down_since: datetime | None = None
        self.refused: Refusal | None = None
        self._registry = Registry(settings.tracking_uri, settings.model)
        self._cache = Cache(settings.cache_dir, settings.model)
        self._poll_seconds = settings.poll_seconds
        self._on_event = on_event
        self._polling = threading.Lock()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="champion", daemon=True)

    def start(self) -> None:
        """Serve what the cache holds, if anything, and follow the registry from now on.

        Returns within a fraction of a second; without a cached model `current` comes later.
        """
        try:
            model = self._cache.last()
        except Refused as refusal:
            self._refuse("in the cache", "", refusal)
        else:
            if model is not None:
                self._swap(model)
        self._thread.start()

    def stop(self) -> None:
        """Stop following the registry; `current` goes on to answer."""
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join(timeout=1)

    def state(self) -> State:
        """Why no prediction can be made, or what is unusual about those that are."""
        current, since, refused = self.current, self.registry_down_since, self.refused
        notes = []
        if since is not None:
            notes.append(f"the registry has given no model since {since:%Y-%m-%dT%H:%M:%SZ}")
        if refused is not None:
            notes.append(f"version {refused.version} was refused ({refused.kind})")
        if current is None:
            return State(("no model is loaded yet", *notes), ())
        if current.from_cache:
            notes.insert(0, f"version {current.version} is served from the local cache")
        return State((), tuple(notes))

    def refresh(self, *, retry_refused: bool = False) -> bool:
        """Look into the registry once, and swap if it names another version that passes the checks.

        Returns whether it swapped. A version that was refused is tried again only if the registry
        named another one meanwhile, or if asked to.
        """
        with self._polling:
            try:
                return self._take(self._registry.resolve(), retry_refused)
            except (Unavailable, OSError) as error:
                self._fail(str(error))
                return False

    def _follow(self) -> None:
        pause = min(SECONDS_TO_FIRST_LOOK, self._poll_seconds) if self.current else 0.0
        while not self._stopped.wait(pause):
            try:
                self.refresh()
            except Exception:
                # Were it to end, no champion would be served any more, and nobody would know.
                logger.exception("looking for the champion failed")
            pause = self._poll_seconds
            if self.current is None:
                pause = min(SECONDS_WITHOUT_MODEL, pause)

    def _take(self, version: Version, retry_refused: bool) -> bool:
        swapped = False
        if self.current is not None and _is(self.current, version):
            if self.current.from_cache:
                self.current = replace(self.current, from_cache=False)
            self.refused = None
        elif retry_refused or not (self.refused and _is(self.refused, version)):
            try:
                self._swap(self._load(version))
                swapped = True
            except Refused as refusal:
                self._refuse(version.number, version.sha256, refusal)
        self._recover()
        return swapped

    def _load(self, version: Version) -> Model:
        if self.previous is not None and _is(self.previous, version):
            return replace(self.previous, from_cache=False)
        if not version.sha256:
            raise Refused("hash", f"its tag {SHA256} is no SHA-256")
        return self._cache.load(version) or self._cache.keep(version, self._registry)

    def _swap(self, model: Model) -> None:
        self.previous, self.current = self.current, model
        self.refused = None
        self.reloads += 1
        logger.info("serving %s version %s", model.name, model.version)
        self._on_event("loaded", model.version)
        if not model.from_cache:
            try:
                self._cache.point_at(model, self.previous)
            except OSError as error:
                logger.warning("the cache does not take version %s: %s", model.version, error)

    def _refuse(self, version: str, sha256: str, refusal: Refused) -> None:
        self.refused = Refusal(version, sha256, refusal.kind, str(refusal))
        self.refusals[refusal.kind] += 1
        logger.error("version %s is refused (%s): %s", version, refusal.kind, refusal)
        self._on_event("refused", refusal.kind)

    def _fail(self, reason: str) -> None:
        self.registry_failures += 1
        if self.registry_down_since is None:
            self.registry_down_since = datetime.now(UTC)
            logger.error("the registry gives no model: %s", reason)
        self._on_event("registry_failed", "")

    def _recover(self) -> None:
        if self.registry_down_since is not None:
            logger.info("the registry answers again")
            self.registry_down_since = None


def _is(known: Card | Refusal, version: Version) -> bool:
    return (known.version, known.sha256) == (version.number, version.sha256)
