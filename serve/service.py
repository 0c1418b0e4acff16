"""What the service does, whoever asks: the routes of the API and the handlers of the page."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from schema import NAMES, OUTCOME
from serve.champion import Champion
from serve.log import PredictionLog, Record, new_ids
from serve.metrics import Metrics
from serve.patients import missing, rows_of, shapley, unusual, warning
from serve.versions import Model

LABELS_NEEDED = 11  # fewer labelled answers could tell of one patient
Patient = Mapping[str, Any]


class NoChampion(RuntimeError):
    """There is no model yet; the message says why."""


class Service:
    """Scores patients with the champion and keeps every answer in the log before it is given."""

    def __init__(self, champion: Champion, log: PredictionLog, metrics: Metrics) -> None:
        self.champion = champion
        self.log = log
        self.metrics = metrics

    def model(self) -> Model:
        """The model that answers now. Raises NoChampion."""
        model = self.champion.current
        if model is None:
            raise NoChampion("; ".join(self.champion.state().reasons))
        return model

    async def predict(
        self, patients: Sequence[Patient], explain: bool = False
    ) -> list[dict[str, Any]]:
        """The answers for patients that are valid; all are in the log once this returns, or none.

        Raises NoChampion, LogUnavailable.
        """
        model = self.model()
        rows = rows_of(patients)
        risks = [float(risk) for risk in model.predict(rows)]
        answers = [
            self._answer(model, key, patient, risk)
            for key, patient, risk in zip(new_ids(len(risks)), patients, risks, strict=True)
        ]
        if explain:
            for answer, row in zip(answers, rows, strict=True):
                answer["contributions"] = shapley(row, model.predict)[0]
        await self.log.append(
            [
                Record(
                    answer["prediction_id"],
                    model.version,
                    answer["probability"],
                    [patient.get(name) for name in NAMES],
                )
                for answer, patient in zip(answers, patients, strict=True)
            ]
        )
        self._count(model, patients, answers)
        return answers

    def _answer(self, model: Model, key: str, patient: Patient, risk: float) -> dict[str, Any]:
        numbers = model.training.get("numbers", {})
        return {
            "prediction_id": key,
            "probability": risk,
            "prediction": OUTCOME.choices[risk >= model.threshold].name,
            "threshold": model.threshold,
            "model_version": model.version,
            "missing": missing(patient),
            "warnings": [warning(name, numbers) for name in unusual(patient, numbers)],
            "contributions": None,
        }

    def _count(
        self, model: Model, patients: Sequence[Patient], answers: Sequence[Mapping[str, Any]]
    ) -> None:
        positive = sum(answer["prediction"] == "presence" for answer in answers)
        numbers = model.training.get("numbers", {})
        self.metrics.predicted(
            model.version,
            [answer["probability"] for answer in answers],
            positive,
            len(answers) - positive,
            (name for answer in answers for name in answer["missing"]),
            (name for patient in patients for name in unusual(patient, numbers)),
        )

    def record_outcome(self, prediction_id: str, outcome: str, source: str, replace: bool) -> str:
        """Keep an outcome: `created`, `same` or `replaced`. Waits for the database."""
        done = self.log.record_outcome(prediction_id, outcome, source, replace=replace)
        if done != "same":
            self.metrics.feedback.labels(outcome, source).inc()
        return done

    def erase(self, prediction_id: str) -> None:
        """Forget a patient; the aggregate figures stay. Waits for the database."""
        self.log.erase(prediction_id)
        self.metrics.erasures.inc()

    def labelled(self, version: str) -> dict[str, float] | None:
        """Accuracy and ROC AUC of a version on answers whose outcome is known, None for too few."""
        found = self.log.labelled(version)
        sick = np.array([outcome == "presence" for outcome in found["outcome"]], dtype=bool)
        risk = np.array(found["probability"], dtype=float)
        if min(sick.sum(), (~sick).sum()) < 1 or len(sick) < LABELS_NEEDED:
            return None
        model = self.model()
        above = (risk[sick][:, None] > risk[~sick]) + 0.5 * (risk[sick][:, None] == risk[~sick])
        return {
            "labels": float(len(sick)),
            "accuracy": float(((risk >= model.threshold) == sick).mean()),
            "roc_auc": float(above.mean()),
        }
