"""The codes of the measurements in FHIR, as one table: how each is read from Observations, and written.

docs/fhir.md shows it with the sources. A measurement or a category without a code here is never guessed.
The sex is the patient's gender and the age follows from the date of birth, so neither has an entry.
"""

from collections.abc import Mapping
from typing import NamedTuple

LOINC = "http://loinc.org"
SNOMED = "http://snomed.info/sct"
DICOM = "http://dicom.nema.org/resources/ontology/DCM"
UCI = "https://doi.org/10.24432/C52P4X"  # the data set, whose attributes have names
UCUM = "http://unitsofmeasure.org"
SOURCES = {
    LOINC: "https://loinc.org/{}",
    SNOMED: "https://browser.ihtsdotools.org/?perspective=full&conceptId1={}",
    DICOM: "https://dicom.nema.org/medical/dicom/current/output/chtml/part16/chapter_D.html",
    UCI: "https://doi.org/10.24432/C52P4X",
}


class Code(NamedTuple):
    """A code of a system, with its text."""

    system: str
    code: str
    display: str

    @property
    def key(self) -> tuple[str, str]:
        """What identifies the code."""
        return self.system, self.code

    @property
    def source(self) -> str:
        """The address at which the code is defined."""
        return SOURCES[self.system].format(self.code)


class Entry(NamedTuple):
    """How a measurement is in FHIR.

    `codes` are those of an Observation or a component; the first is also written. A component counts if
    its Observation has one of the codes `within`. `alone` says whether an Observation without one counts
    too. `units` are those of UCUM, each with the number of the schema's units in it; `answers` are the
    coded values of categories. A number with `yes_above` is no if it is at most that, and is not written.
    """

    codes: tuple[Code, ...]
    units: Mapping[str, float] = {}
    answers: tuple[tuple[Code, str], ...] = ()
    within: tuple[Code, ...] = ()
    alone: bool = True
    yes_above: float | None = None


AGE = Code(LOINC, "30525-0", "Age")
DISEASE = Code(SNOMED, "53741008", "Coronary arteriosclerosis")
EXERCISE_TEST = (
    Code(SNOMED, "46136006", "Exercise stress ECG test"),
    Code(SNOMED, "165079009", "Exercise tolerance test"),
    Code(LOINC, "18752-6", "Exercise stress test study"),
)
YES_NO = (
    (Code(SNOMED, "373066001", "Yes"), "yes"),
    (Code(SNOMED, "373067005", "No"), "no"),
    (Code(SNOMED, "52101004", "Present"), "yes"),
    (Code(SNOMED, "2667000", "Absent"), "no"),
    (Code(LOINC, "LA33-6", "Yes"), "yes"),
    (Code(LOINC, "LA32-8", "No"), "no"),
)

ENTRIES: Mapping[str, Entry] = {
    "chest_pain_type": Entry(
        codes=(Code(SNOMED, "29857009", "Chest pain"),),
        answers=(  # DICOM PS3.16, context group 3202
            (Code(SNOMED, "429559004", "Typical angina"), "typical_angina"),
            (Code(SNOMED, "371807002", "Atypical angina"), "atypical_angina"),
            (Code(SNOMED, "274668005", "Non-cardiac chest pain"), "non_anginal_pain"),
            (Code(SNOMED, "161971004", "Chest pain not present"), "asymptomatic"),
        ),
    ),
    "resting_bp": Entry(
        codes=(Code(LOINC, "8480-6", "Systolic blood pressure"),),
        units={"mm[Hg]": 1, "kPa": 7.500617},
        within=(
            Code(LOINC, "85354-9", "Blood pressure panel with all children optional"),
            Code(LOINC, "55284-4", "Blood pressure systolic and diastolic"),
        ),
    ),
    "cholesterol": Entry(
        codes=(
            Code(LOINC, "2093-3", "Cholesterol [Mass/volume] in Serum or Plasma"),
            Code(LOINC, "14647-2", "Cholesterol [Moles/volume] in Serum or Plasma"),
        ),
        units={"mg/dL": 1, "mmol/L": 38.67, "g/L": 100},
    ),
    "fasting_blood_sugar_over_120": Entry(
        codes=(
            Code(LOINC, "1558-6", "Fasting glucose [Mass/volume] in Serum or Plasma"),
            Code(LOINC, "14771-0", "Fasting glucose [Moles/volume] in Serum or Plasma"),
        ),
        units={"mg/dL": 1, "mmol/L": 18.016, "g/L": 100},
        yes_above=120,
    ),
    "resting_ecg": Entry(
        codes=(Code(SNOMED, "271921002", "Electrocardiogram finding"),),
        answers=(
            (Code(SNOMED, "164854000", "Electrocardiogram normal"), "normal"),
            (Code(SNOMED, "428750005", "Nonspecific ST-T abnormality on ECG"), "st_t_abnormality"),
            (Code(SNOMED, "428549008", "Secondary ST-T abnormality on ECG"), "st_t_abnormality"),
            (
                Code(SNOMED, "164873001", "ECG: left ventricular hypertrophy"),
                "left_ventricular_hypertrophy",
            ),
        ),
    ),
    "max_heart_rate": Entry(
        codes=(
            Code(SNOMED, "428630002", "Maximum heart rate achieved during course of procedure"),
        ),
        units={"/min": 1, "1/min": 1, "{beats}/min": 1, "{Beats}/min": 1},
        within=EXERCISE_TEST,
        alone=False,
    ),
    "exercise_angina": Entry(
        codes=(Code(SNOMED, "300995000", "Exercise-induced angina"),),
        answers=YES_NO,
        within=EXERCISE_TEST,
    ),
    "st_depression": Entry(
        codes=(Code(SNOMED, "429622005", "ST depression"),),
        units={"mm": 1, "mV": 10, "uV": 0.01},  # an electrocardiogram has 10 mm for a millivolt
        within=EXERCISE_TEST,
        alone=False,
    ),
    "st_slope": Entry(
        codes=(Code(SNOMED, "365416000", "Finding of electrocardiogram ST segment"),),
        answers=(  # DICOM PS3.16, context group 3233
            (Code(DICOM, "122758", "ST Depression - Upsloping"), "upsloping"),
            (Code(DICOM, "122757", "ST Depression - Horizontal"), "flat"),
            (Code(DICOM, "122759", "ST Depression - Downsloping"), "downsloping"),
        ),
        within=EXERCISE_TEST,
        alone=False,
    ),
    "major_vessels": Entry(
        codes=(Code(UCI, "ca", "Number of major vessels colored by fluoroscopy"),),
        units={"1": 1, "{vessels}": 1, "{#}": 1},
    ),
    "thallium": Entry(
        codes=(Code(SNOMED, "251053005", "Myocardial perfusion"),),
        answers=(  # DICOM PS3.16, context groups 3113 and 3120
            (Code(SNOMED, "301121007", "Myocardial perfusion normal"), "normal"),
            (Code(SNOMED, "251057006", "Fixed myocardial perfusion defect"), "fixed_defect"),
            (
                Code(SNOMED, "251055003", "Reversible myocardial perfusion defect"),
                "reversible_defect",
            ),
        ),
        within=(
            Code(SNOMED, "252432008", "Radionuclide myocardial perfusion study"),
            Code(SNOMED, "431511008", "Stress thallium procedure"),
        ),
    ),
}
# The units in which quantities are written, in UCUM.
UNITS = {
    "": "1",
    "years": "a",
    "mm Hg": "mm[Hg]",
    "mg/dl": "mg/dL",
    "beats/min": "/min",
    "mm": "mm",
    "vessels": "{vessels}",
}


def written_code(name: str) -> Code | None:
    """The code of a measurement in a resource of this service."""
    if name == "age":
        return AGE
    entry = ENTRIES.get(name)
    return None if entry is None or entry.yes_above is not None else entry.codes[0]


def written_answer(name: str, category: str) -> Code | None:
    """The code of a category in a resource of this service."""
    answers = ENTRIES[name].answers if name in ENTRIES else ()
    return next((code for code, answer in answers if answer == category), None)
