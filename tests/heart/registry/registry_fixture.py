"""A registry with two valid versions and functions that add broken ones."""

import hashlib
import json
import shutil
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx.parser
import pytest
from onnx import numpy_helper

from heart import files
from heart.ml.estimators import ChainedLogisticRegression
from heart.ml.onnx_export import export, export_error
from heart.registry import local_store
from heart.registry import publishing as registry
from heart.registry.aliases import VERDICT, set_champion
from heart.registry.model_version import Model
from heart.schema import Floats
from serve.model_manager import ModelManager
from serve.settings import Settings

NAME = "heart-disease"
ROOT = Path(__file__).parents[3]
ROWS = registry.fictional_rows(40, seed=1)
TRAINING = {"rows": 230, "presence": 0.46, "numbers": {"age": {"low": 29.0, "high": 77.0}}}
HASHED = {
    "model.onnx": "model_sha256",
    "extra_files/standard_error.onnx": "standard_error_sha256",
    "extra_files/training.json": "training_sha256",
    "extra_files/reference.json": "reference_sha256",
}


def patients() -> tuple[Floats, Any]:
    """Encoded rows and outcomes of the real patients."""
    return files.encoded(files.read_table(ROOT / files.RAW))


CONSTANTS = """int64[1] columns = {1}, int64[2] all = {0, 1}, int64[1] first = {0},
float zero = {0}, float minus = {-1}, float width = {13}, float[2] table = {0, 1}"""


def onnx_model(signature: str, body: str) -> bytes:
    """An ONNX model from the text of its graph, which may use CONSTANTS."""
    text = f'<ir_version: 10, opset_import: ["": 18]> g {signature} <{CONSTANTS}> {{ {body} }}'
    model = onnx.parser.parse_model(text)
    for tensor in model.graph.initializer:  # as the exporter writes them
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor), tensor.name))
    return bytes(model.SerializeToString())


@dataclass(frozen=True)
class Shelf:
    """A registry with two valid versions, whose files all tests share, and a folder for one test."""

    folder: Path
    database: Path
    client: Any

    @property
    def away(self) -> Path:
        """Where the database is while the registry is down."""
        return self.folder / "away.db"

    def settings(self, **changes: Any) -> Settings:
        values = {
            "tracking_uri": f"sqlite:///{self.database}",
            "cache_dir": self.folder / "cache",
            "poll_seconds": 0.05,
            "allowed_hosts": ["testserver"],
        }
        return Settings(**{"_env_file": None, **values, **changes})

    def promote(self, version: str) -> None:
        self.client.set_registered_model_alias(NAME, "champion", version)

    def files_of(self, version: str) -> Path:
        uri: str = self.client.get_model_version_download_uri(NAME, version)
        return Path(uri.removeprefix("file://"))

    def run_with(self, **figures: str) -> str:
        """A run with the text of metrics/NAME.json for each name."""
        experiment = self.client.get_experiment_by_name(NAME).experiment_id
        run_id: str = self.client.create_run(experiment).info.run_id
        for name, text in figures.items():
            self.client.log_text(run_id, text, f"metrics/{name}.json")
        return run_id

    def set_challenger(
        self,
        change: Callable[[Path], None] | None = None,
        run_id: str | None = None,
        **tags: str | None,
    ) -> str:
        """Make a changed copy of version 1 the champion; hashes are right unless tags say otherwise."""
        good = self.client.get_model_version(NAME, "1")
        folder = self.folder / f"files-{len(list(self.folder.iterdir()))}"
        shutil.copytree(self.files_of("1"), folder)
        if change:
            change(folder)
        hashes = {
            tag: hashlib.sha256((folder / file).read_bytes()).hexdigest()
            for file, tag in HASHED.items()
            if (folder / file).exists()
        }
        texts = {tag: text for tag, text in (good.tags | hashes | tags).items() if text is not None}
        version = self.client.create_model_version(NAME, folder.as_uri(), run_id, tags=texts)
        self.promote(str(version.version))
        return str(version.version)


def publish(client: Any, folder: Path, strength: float, **beside: bytes) -> None:
    """Publish a model of the real patients as stage register does, with more files NAME.json beside it."""
    estimator = ChainedLogisticRegression(C=strength).fit(*patients())
    artifacts = {
        "metrics/evaluate.json": json.dumps({"roc_auc": 0.93, "threshold": 0.4}),
        "metrics/train.json": json.dumps({"cv_roc_auc": 0.91, "unknown": float("nan")}),
        "plots/calibration.csv": "predicted,observed,patients\n0.1,0.0,10\n0.9,1.0,9\nnan,nan,0\n",
        "plots/roc.csv": "false_positive_rate,true_positive_rate\n0.0,0.5\n1.0,1.0\n",
        "plots/decision.csv": "threshold,model,treat_all,treat_none\n0.05,0.4,0.3,0.0\n",
    }
    for name, text in artifacts.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
    package = registry.Package(
        model=export(estimator).SerializeToString(deterministic=True),
        threshold=0.4,
        beside={
            "standard_error.onnx": export_error(estimator).SerializeToString(deterministic=True),
            "training.json": registry.as_json(TRAINING),
            **{f"{name}.json": content for name, content in beside.items()},
        },
        parameters={},
        metrics={},
        tags={"git_commit": "abc", "train_md5": "123"},
        artifacts=[folder / name for name in artifacts],
    )
    experiment = local_store.experiment(client, NAME)
    version = registry.publish(client, NAME, experiment, package, "a card")
    client.set_model_version_tag(NAME, version.version, VERDICT, '{"verdict": "passed"}')


def fill(empty_store: Path, strengths: Sequence[float], folder: Path, **beside: bytes) -> None:
    """Make a folder with a registry of such versions, the first of them the champion."""
    shutil.copytree(empty_store, folder, dirs_exist_ok=True)
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="mlflow")
        patch.chdir(folder)
        forget(patch, "MLFLOW_TRACKING_URI")
        client = registry.connect()
        for strength in strengths:
            publish(client, folder, strength, **beside)
        set_champion(client, NAME, "1")


def forget(patch: pytest.MonkeyPatch, variable: str) -> None:
    """Set the variable, then remove it, so that the patch also removes the value that MLflow sets."""
    patch.setenv(variable, "")
    patch.delenv(variable)


class Events(list[tuple[str, str]]):
    """The events of a model manager."""

    def __call__(self, event: str, detail: str) -> None:
        self.append((event, detail))


def until(condition: Callable[[], object], seconds: float = 10) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"not true within {seconds:g} s"
        time.sleep(0.01)


def serving(champion: ModelManager) -> Model:
    assert champion.current is not None
    return champion.current


def version_of(champion: ModelManager) -> str:
    return serving(champion).version
