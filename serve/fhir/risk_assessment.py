"""A prediction of the log as a FHIR resource RiskAssessment.

Patient, measurements, model version and provenance are contained in it, since they have no identity
outside it: the log knows no patient, and an erased prediction must leave nothing behind.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from fhir.resources.R4B.riskassessment import RiskAssessment

from heart.schema import MEASUREMENTS, Measurement
from serve.fhir.codes import DISEASE, NAMES, OBSERVATIONS, UCUM, UNITS, Code

MODEL, PATIENT, PROVENANCE = "model", "patient", "provenance"
NOT_A_DEVICE = "Not a medical device: for research and teaching only."


def risk_assessment(kept: Mapping[str, Any]) -> RiskAssessment:
    """The resource of a prediction as `PredictionLog.get` returns it."""
    moment: datetime = kept["created_at"]
    measured = [m for m in MEASUREMENTS if m.name in NAMES and kept[m.name] is not None]
    missing = [m.name for m in MEASUREMENTS if kept[m.name] is None]
    notes = [NOT_A_DEVICE, *([f"Not measured: {', '.join(missing)}."] if missing else [])]
    content = {
        "resourceType": "RiskAssessment",
        "id": kept["id"],
        "contained": [
            {"resourceType": "Patient", "id": PATIENT, "gender": kept["sex"]},
            _device(kept["model_version"]),
            *(_observation(m, kept[m.name]) for m in measured),
            _provenance(moment),
        ],
        "status": "final",
        "method": {
            "text": "Statistical model of 13 measurements, fitted to patients with a diagnosis"
        },
        "subject": _reference(PATIENT),
        "occurrenceDateTime": moment.isoformat(),
        "performer": _reference(MODEL),
        "basis": [_reference(_id(m.name)) for m in measured],
        "prediction": [{"outcome": _concept(DISEASE), "probabilityDecimal": kept["probability"]}],
        "note": [{"text": note} for note in notes],
    }
    return RiskAssessment.model_validate(content)


def _observation(measurement: Measurement, value: str | float) -> dict[str, Any]:
    name = measurement.name
    code = OBSERVATIONS.get(name)
    content: dict[str, Any] = {
        "resourceType": "Observation",
        "id": _id(name),
        "status": "final",
        "code": _concept(code) | {"text": name} if code else {"text": name},
        "subject": _reference(PATIENT),
    }
    if isinstance(value, str):
        return content | {"valueCodeableConcept": {"text": value}}
    unit = UNITS[measurement.unit]
    quantity = {"value": value, "unit": measurement.unit, "system": UCUM, "code": unit}
    return content | {"valueQuantity": quantity}


def _device(version: str) -> dict[str, Any]:
    return {
        "resourceType": "Device",
        "id": MODEL,
        "deviceName": [{"name": "heart-disease", "type": "model-name"}],
        "version": [{"value": version}],
    }


def _provenance(moment: datetime) -> dict[str, Any]:
    return {
        "resourceType": "Provenance",
        "id": PROVENANCE,
        "target": [{"reference": "#"}],  # the resource that contains this one
        "recorded": moment.isoformat(),
        "agent": [{"who": _reference(MODEL)}],
    }


def _id(name: str) -> str:
    return name.replace("_", "-")  # FHIR allows no underscore in an id


def _reference(identifier: str) -> dict[str, str]:
    return {"reference": f"#{identifier}"}


def _concept(code: Code) -> dict[str, Any]:
    return {"coding": [code._asdict()]}
