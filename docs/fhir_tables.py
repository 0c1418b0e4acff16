"""The table of codes in FHIR, taken from the code."""

from collections.abc import Callable, Iterable

from docs.markdown import code, table
from heart.schema import MEASUREMENTS
from serve.fhir.codes import AGE, DISEASE, ENTRIES, Code

SYSTEMS = {
    "http://loinc.org": "LOINC",
    "http://snomed.info/sct": "SNOMED CT",
    "http://dicom.nema.org/resources/ontology/DCM": "DICOM",
    "https://doi.org/10.24432/C52P4X": "UCI",
}


def codes() -> str:
    """The codes of each measurement, its units or categories, and the Observations that may contain it."""
    rows = [["`age`", _links([AGE]), "only written; read from the date of birth", ""]]
    for measurement in MEASUREMENTS:
        entry = ENTRIES.get(measurement.name)
        if entry is None:
            continue
        answers = [f"{code(category)}: {_link(key)}" for key, category in entry.answers]
        values = [code(unit) for unit in entry.units]
        within = _links(entry.within) + (
            "" if entry.alone else ("; required" if entry.within else "")
        )
        rows.append(
            [code(measurement.name), _links(entry.codes), "; ".join(answers or values), within]
        )
    rows.append(["the disease", _links([DISEASE]), "only written", ""])
    return table(["measurement", "code", "units of UCUM, or categories", "within"], rows)


def _links(listed: Iterable[Code]) -> str:
    return "; ".join(map(_link, listed))


def _link(key: Code) -> str:
    """A code with its text, linked to its source."""
    text = key.display.replace("[", r"\[").replace("]", r"\]")
    return f"[{SYSTEMS[key.system]} {key.code}]({key.source}) {text}"


BLOCKS: dict[str, Callable[..., str]] = {"fhir-codes": codes}
