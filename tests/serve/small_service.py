"""A service without a registry: a real log and a real model, which is simply there."""

from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from heart.ml.estimators import ChainedLogisticRegression
from heart.ml.onnx_export import export, export_error
from heart.predictions.log import PredictionLog
from heart.registry.model_version import Model
from heart.registry.onnx_model import OnnxModel
from heart.schema import fingerprint
from serve.metrics import Metrics
from serve.model_manager import ModelManager, State
from serve.settings import Settings
from tests.heart.registry.registry_fixture import patients

NUMBERS = {"cholesterol": {"low": 126.0, "quantiles": [175.0, 240.0, 330.0], "high": 564.0}}


@cache
def model(version: str = "1", strength: float = 0.1) -> Model:
    """A model of the real patients."""
    estimator = ChainedLogisticRegression(C=strength).fit(*patients())
    return Model(
        name="heart-disease",
        version=version,
        run_id="run",
        sha256="abc",
        schema_fingerprint=fingerprint(),
        tags={"train_md5": "123", "threshold": "0.5"},
        figures={"roc_auc": 0.93, "threshold": 0.5},
        train_figures={},
        calibration=[],
        training={"rows": 230, "presence": 0.46, "numbers": NUMBERS},
        network=OnnxModel(export(estimator).SerializeToString()),
        error_network=OnnxModel(export_error(estimator).SerializeToString()),
        loaded_at=datetime(2026, 1, 1, tzinfo=UTC),
        from_cache=False,
    )


class Present(ModelManager):
    """A champion that follows no registry."""

    def start(self) -> None:
        pass

    def stop(self) -> None:
        pass

    def state(self) -> State:
        return State(() if self.current else ("no model is loaded yet",), ())


def parts(folder: Path, **changes: Any) -> tuple[Settings, Present, PredictionLog, Metrics]:
    """What `create_app` takes."""
    given = {
        "log_url": f"sqlite:///{folder}/log.db",
        "cache_dir": folder / "cache",
        "allowed_hosts": ["testserver"],  # as FastAPI's test client calls it
        "_env_file": None,
    }
    settings = Settings(**{**given, **changes})
    champion = Present(settings)
    champion.current = model()
    metrics = Metrics()
    log = PredictionLog(
        settings.log_url, queue_limit=settings.log_queue_max_rows, on_commit=metrics.observe_commit
    )
    return settings, champion, log, metrics
