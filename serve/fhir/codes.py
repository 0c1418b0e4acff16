"""The codes of the measurements in FHIR: a table, of which docs/fhir.md has the sources.

A measurement without a code here is named by the schema's name only: no code is guessed.
"""

from typing import NamedTuple

from heart.schema import MEASUREMENTS

LOINC = "http://loinc.org"
SNOMED = "http://snomed.info/sct"
UCUM = "http://unitsofmeasure.org"


class Code(NamedTuple):
    """A code of a system, with its text."""

    system: str
    code: str
    display: str


OBSERVATIONS = {
    "age": Code(LOINC, "30525-0", "Age"),
    "resting_bp": Code(LOINC, "8480-6", "Systolic blood pressure"),
    "cholesterol": Code(LOINC, "2093-3", "Cholesterol [Mass/volume] in Serum or Plasma"),
}
# The schema's units in UCUM.
UNITS = {
    "years": "a",
    "mm Hg": "mm[Hg]",
    "mg/dl": "mg/dL",
    "beats/min": "/min",
    "mm": "mm",
    "vessels": "{vessels}",
}
DISEASE = Code(SNOMED, "53741008", "Coronary arteriosclerosis")

NAMES = tuple(m.name for m in MEASUREMENTS if m.name != "sex")  # the sex is the patient's gender
