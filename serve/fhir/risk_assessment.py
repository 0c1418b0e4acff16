"""A prediction of the log as a FHIR resource RiskAssessment.

Measurements, model version and provenance are contained in it, since they have no identity outside it: an
erased prediction must leave nothing behind. So is the patient, whom the log does not know, unless a CDS
client names the one it asked for.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from fhir.resources.R4B.riskassessment import RiskAssessment

from heart.schema import MEASUREMENTS, Measurement
from serve.fhir.codes import (
    DISEASE,
    ENTRIES,
    EXERCISE_TEST,
    UCUM,
    UNITS,
    Code,
    written_answer,
    written_code,
)

MODEL, PATIENT, PROVENANCE = "model", "patient", "provenance"
NOT_A_DEVICE = "Not a medical device: for research and teaching only."


def risk_assessment(kept: Mapping[str, Any], patient_id: str | None = None) -> RiskAssessment:
    """The resource of a prediction as `PredictionLog.get` returns it.

    With the id of a client's Patient it is about that one, and has no id of its own yet.
    """
    moment: datetime = kept["created_at"]
    subject = {"reference": f"Patient/{patient_id}" if patient_id else f"#{PATIENT}"}
    patient = {"resourceType": "Patient", "id": PATIENT, "gender": kept["sex"]}
    measured = [m for m in MEASUREMENTS if m.name != "sex" and kept[m.name] is not None]
    missing = [m.name for m in MEASUREMENTS if kept[m.name] is None]
    notes = [NOT_A_DEVICE, *([f"Not measured: {', '.join(missing)}."] if missing else [])]
    content = {
        "resourceType": "RiskAssessment",
        **({} if patient_id else {"id": kept["id"]}),
        "contained": [
            *([] if patient_id else [patient]),
            _device(kept["model_version"]),
            *(_observation(m, kept[m.name], subject) for m in measured),
            _provenance(moment),
        ],
        "status": "final",
        "method": {
            "text": "Statistical model of 13 measurements, fitted to patients with a diagnosis"
        },
        "subject": subject,
        "occurrenceDateTime": moment.isoformat(),
        "performer": _reference(MODEL),
        "basis": [_reference(_id(m.name)) for m in measured],
        "prediction": [{"outcome": _concept(DISEASE), "probabilityDecimal": kept["probability"]}],
        "note": [{"text": note} for note in notes],
    }
    return RiskAssessment.model_validate(content)


def _observation(
    measurement: Measurement, value: str | float, subject: dict[str, str]
) -> dict[str, Any]:
    name = measurement.name
    code = written_code(name)
    content: dict[str, Any] = {
        "resourceType": "Observation",
        "id": _id(name),
        "status": "final",
        "code": _concept(code) | {"text": name} if code else {"text": name},
        "subject": subject,
    }
    if name in ENTRIES and not ENTRIES[name].alone:
        content["method"] = _concept(EXERCISE_TEST[0])
    if isinstance(value, str):
        answer = written_answer(name, value)
        concept = _concept(answer) | {"text": value} if answer else {"text": value}
        return content | {"valueCodeableConcept": concept}
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
