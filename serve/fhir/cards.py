"""The card of a CDS service: a risk with its interval, what it is based on, and what it is for."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid5

from heart.locale.catalog import DEFAULT
from heart.locale.language import category_label, label, percent
from heart.ml.transfer import BETWEEN_HOSPITALS
from heart.registry.model_version import Model
from heart.schema import MEASUREMENTS
from serve.encoding import rows_of
from serve.explain import interval
from serve.fhir.measurements import Reading
from serve.fhir.risk_assessment import risk_assessment

SERVICE_ID = "heart-disease-risk"
PATH = "/cds-services"
SERVICE_PATH = f"{PATH}/{SERVICE_ID}"
USE = (
    "**Not a medical device: for research and teaching only.** Do not base a decision about a patient on "
    "it. The model was fitted to patients who had been referred for coronary angiography; nothing is known "
    "of others."
)
OVERRIDE_REASONS = {
    "known": "The diagnosis is known",
    "not-applicable": "The model does not apply to this patient",
    "wrong-values": "The values are wrong or out of date",
    "disagree": "I judge the risk differently",
}
REASON_SYSTEM = "/fhir/CodeSystem/override-reasons"  # below the URL of the service


def risk_card(
    reading: Reading, prediction: Mapping[str, Any], model: Model | None, url: str, patient_id: str
) -> dict[str, Any]:
    """The card of a logged prediction. Without its model, which may have been replaced, there is no interval."""
    key = str(UUID(prediction["prediction_id"]))
    ranges = _intervals(reading, prediction["probability"], model)
    risk, missing = percent(prediction["probability"]), prediction["missing"]
    first = f" ({ranges[0]})" if ranges else ""
    summary = f"Risk of coronary artery disease {risk}{first}; {len(missing)} of {len(MEASUREMENTS)} measurements missing"
    return {
        "uuid": key,
        "summary": summary,
        "indicator": "info",  # an alarm would be a use that the model has not
        "detail": _detail(reading, prediction, risk, ranges),
        "source": _source(prediction["model_version"], url),
        "suggestions": [_suggestion(key, reading, prediction, patient_id)],
        "selectionBehavior": "at-most-one",
        "overrideReasons": [
            {"code": code, "system": url + REASON_SYSTEM, "display": text}
            for code, text in OVERRIDE_REASONS.items()
        ],
        "links": _links(url),
    }


def no_risk_card(reading: Reading, url: str) -> dict[str, Any]:
    """The card for a patient whose age or sex is not known. No prediction is made, so none is logged."""
    return {
        "summary": "No risk of coronary artery disease was computed: age and sex are required",
        "indicator": "info",
        "detail": "\n\n".join([USE, _problems(reading)]),
        "source": _source(None, url),
        "links": _links(url),
    }


def _intervals(reading: Reading, risk: float, model: Model | None) -> list[str]:
    """The 95 % intervals at a hospital like that of the training, and at any; none without standard errors."""
    if model is None:
        return []
    error = model.standard_error(rows_of([reading.values]))
    bounds = (interval(risk, error), interval(risk, error, BETWEEN_HOSPITALS))
    return [
        f"{percent(low)} to {percent(high)}"
        for low, high in bounds
        if low is not None and high is not None
    ]


def _detail(reading: Reading, prediction: Mapping[str, Any], risk: str, ranges: list[str]) -> str:
    text = f"Probability of coronary artery disease: {risk}."
    if ranges:
        text += (
            f" 95 % interval: {ranges[0]} at a hospital like that of the model's patients, {ranges[1]} at "
            "a hospital of which nothing is known."
        )
    missing = [label(m, DEFAULT) for m in MEASUREMENTS if m.name in prediction["missing"]]
    parts = [USE, text, "Used: " + "; ".join(_used(reading)) + "."]
    if missing:
        parts.append("Missing: " + ", ".join(missing) + ".")
    if reading.problems:
        parts.append(_problems(reading))
    if prediction["warnings"]:
        parts.append(
            "Outside the range of the model's patients: " + "; ".join(prediction["warnings"])
        )
    return "\n\n".join(parts)


def _used(reading: Reading) -> list[str]:
    texts = []
    for measurement in MEASUREMENTS:
        value = reading.values.get(measurement.name)
        if value is None:
            continue
        if measurement.choices:
            text = category_label(measurement, value, DEFAULT)
        else:
            text = f"{value:g} {measurement.unit}".strip()
        time = reading.times.get(measurement.name)
        texts.append(f"{label(measurement, DEFAULT)} {text}" + (f" ({time})" if time else ""))
    return texts


def _problems(reading: Reading) -> str:
    return "\n".join(["Not used:", "", *(f"- {problem}" for problem in reading.problems)])


def _source(version: str | None, url: str) -> dict[str, Any]:
    name = "Heart disease model" + (f", version {version}" if version else "")
    return {"label": f"{name}; research and teaching only", "url": f"{url}/"}


def _links(url: str) -> list[dict[str, str]]:
    return [{"label": "Open the page of the model", "url": f"{url}/", "type": "absolute"}]


def _suggestion(
    key: str, reading: Reading, prediction: Mapping[str, Any], patient_id: str
) -> dict[str, Any]:
    """What the clinician may accept: the risk as a resource in the patient's record."""
    kept = {
        **{measurement.name: reading.values.get(measurement.name) for measurement in MEASUREMENTS},
        "created_at": datetime.now(UTC),
        "model_version": prediction["model_version"],
        "probability": prediction["probability"],
    }
    resource = risk_assessment(kept, patient_id)
    action = {
        "type": "create",
        "description": "Store the risk as a RiskAssessment",
        "resource": json.loads(resource.model_dump_json()),
    }
    return {
        "label": "Store the risk in the record",
        "uuid": str(uuid5(UUID(key), "store")),
        "isRecommended": False,
        "actions": [action],
    }
