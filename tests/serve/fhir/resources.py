"""FHIR resources as CDS clients send them."""

from typing import Any

from serve.fhir.codes import ENTRIES, EXERCISE_TEST, UCUM, Code

PATIENT_ID = "p1"


def patient(**changes: Any) -> dict[str, Any]:
    content = {
        "resourceType": "Patient",
        "id": PATIENT_ID,
        "gender": "male",
        "birthDate": "1969-03-01",
    }
    return {name: value for name, value in (content | changes).items() if value is not None}


def concept(*codes: Code) -> dict[str, Any]:
    return {"coding": [code._asdict() for code in codes]}


def quantity(value: float, unit: str) -> dict[str, Any]:
    return {"valueQuantity": {"value": value, "unit": unit, "system": UCUM, "code": unit}}


def observation(
    name: str, value: dict[str, Any], time: str | None = "2026-05-02", **changes: Any
) -> dict[str, Any]:
    """An Observation of a measurement, made in an exercise test if it has to be."""
    entry = ENTRIES[name]
    content = {
        "resourceType": "Observation",
        "status": "final",
        "code": concept(entry.codes[0]),
        "subject": {"reference": f"Patient/{PATIENT_ID}"},
        "effectiveDateTime": time,
        "method": None if entry.alone else concept(EXERCISE_TEST[0]),
    }
    content = content | value | changes
    return {name: value for name, value in content.items() if value is not None}


def answer(name: str, category: str) -> dict[str, Any]:
    """The value of an Observation that means a category."""
    codes = [code for code, meaning in ENTRIES[name].answers if meaning == category]
    return {"valueCodeableConcept": concept(codes[0])}


def complete() -> list[dict[str, Any]]:
    """Observations of all 11 measurements, in units that differ from the schema's where there are any."""
    return [
        observation("chest_pain_type", answer("chest_pain_type", "asymptomatic")),
        observation("resting_bp", quantity(18.7, "kPa")),
        observation("cholesterol", quantity(6.2, "mmol/L")),
        observation("fasting_blood_sugar_over_120", quantity(5.1, "mmol/L")),
        observation("resting_ecg", answer("resting_ecg", "left_ventricular_hypertrophy")),
        observation("max_heart_rate", quantity(125, "/min")),
        observation("exercise_angina", {"valueBoolean": True}),
        observation("st_depression", quantity(0.15, "mV")),
        observation("st_slope", answer("st_slope", "flat")),
        observation("major_vessels", {"valueInteger": 2}),
        observation("thallium", answer("thallium", "reversible_defect")),
    ]


def bundle(*resources: dict[str, Any], **changes: Any) -> dict[str, Any]:
    entries = [{"resource": resource} for resource in resources]
    return {"resourceType": "Bundle", "type": "searchset", "entry": entries} | changes


def request(*resources: dict[str, Any], **prefetch: Any) -> dict[str, Any]:
    """The body of a call of the hook patient-view."""
    return {
        "hook": "patient-view",
        "hookInstance": "d1577c69-dfbe-44ad-ba6d-3e05e953b2ea",
        "context": {"userId": "Practitioner/example", "patientId": PATIENT_ID},
        "prefetch": {"patient": patient(), "observations": bundle(*resources)} | prefetch,
    }
