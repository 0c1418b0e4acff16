"""Which column of a file is which measurement, by its heading.

A heading is compared without regard to case, spaces and punctuation: "Chest pain type",
"chest_pain_type" and "ChestPainType" are one.
"""

import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from heart.schema import MEASUREMENTS, NAMES, OUTCOME, SchemaError

COLUMNS = (*NAMES, OUTCOME.name)
# Of the files of UCI, which have no heading.
HEADLESS = (
    "age", "sex", "chest_pain_type", "resting_bp", "cholesterol", "fasting_blood_sugar_over_120",
    "resting_ecg", "max_heart_rate", "exercise_angina", "st_depression", "st_slope", "major_vessels",
    "thallium", OUTCOME.name,
)  # fmt: skip
PATIENT_ID = "patient_id"

# Extra columns that the project's own files may carry.
PROVENANCE = (PATIENT_ID, "outcome_source", "outcome_date", "outcome_sender")

# The headings of the files in circulation, besides the project's own names.
OTHER_HEADINGS: Mapping[str, str] = {
    "age": "age in years",
    "sex": "gender",
    "chest_pain_type": "cp, chest, chest pain, chest pain type",
    "resting_bp": "trestbps, trtbps, trestbp, restbp, bp, resting bp s, resting blood pressure, "
    "rest blood pressure",
    "cholesterol": "chol, serum cholesterol, serum cholestoral",
    "fasting_blood_sugar_over_120": "fbs, fbs over 120, fasting bs, fasting blood sugar, blood sugar",
    "resting_ecg": "restecg, rest ecg, ekg results, resting electrocardiographic results, "
    "res electrocardiographic",
    "max_heart_rate": "thalach, thalachh, thalch, thalac, max hr, maximum hr, max heart rate achieved, "
    "maximum heart rate achieved",
    "exercise_angina": "exang, exng, ex ang, exercise induced angina, exercise induced",
    "st_depression": "oldpeak, old peak",
    "st_slope": "slope, slp, slope of st",
    "major_vessels": "ca, caa, number of vessels fluro, num major vessels, number of major vessels",
    "thallium": "thal, thall, thalium, thalassemia",
    OUTCOME.name: "num, target, condition, output, ahd, presence, class, diagnosis, disease",
}

# Columns that number the rows or tell where they are from: ignored unless they are kept. "" and
# "Unnamed: 0" head the index that R and pandas write.
KNOWN_EXTRA = ("", "unnamed: 0", "id", "index", "rownames", "dataset", "site", "source", "hospital")


def plain(heading: str) -> str:
    """A heading in lower case, letters and digits alone."""
    return re.sub(r"[\W_]+", "", heading.lower())


ALIASES: Mapping[str, str] = {
    **{plain(name): name for name in (*COLUMNS, *PROVENANCE)},
    **{
        plain(heading): name
        for name, headings in OTHER_HEADINGS.items()
        for heading in headings.split(",")
    },
}
_EXTRA = {plain(heading) for heading in KNOWN_EXTRA}


@dataclass(frozen=True)
class Columns:
    """The columns of a file by position.

    `names` has the project's name of a measurement, the heading of a column to keep, or "" for one
    that is ignored; `headings` are as in the file.
    """

    headings: tuple[str, ...]
    names: tuple[str, ...]

    @property
    def used(self) -> dict[str, str]:
        """The headings of the columns that are read, by their names."""
        return {name: h for name, h in zip(self.names, self.headings, strict=True) if name}

    @property
    def ignored(self) -> list[str]:
        """The headings of the columns that are not read."""
        return [h for name, h in zip(self.names, self.headings, strict=True) if not name]


def match(
    headings: Sequence[str],
    *,
    required: Collection[str],
    keep: Collection[str] = (),
    ignore: Collection[str] = (),
    settings: tuple[str, str] = ("prepare.keep", "prepare.ignore"),
) -> Columns:
    """The columns that the headings of a file name.

    `keep` and `ignore` are headings as in the file; `settings` are what a user sets them with, if there is
    anything.
    Raises SchemaError, with a line for each problem.
    """
    names = [_name(heading, keep, ignore) for heading in headings]
    counts = Counter(name for name in names if name)
    to_keep, to_ignore = settings
    remedy = "leave it out if it is no measurement"
    if to_ignore:
        remedy = f"name it in {to_ignore} if it is no measurement, or in {to_keep} to keep it"
    problems = [
        *(
            f"column {heading!r} is unknown: {remedy}"
            for heading, name in zip(headings, names, strict=True)
            if name is None
        ),
        *(
            f"column {heading!r}, named in {to_keep}, is the measurement {name}: leave it out there"
            for heading in keep
            if (name := ALIASES.get(plain(heading))) in COLUMNS and name != heading
        ),
        *(f"column {name} is missing" for name in required if name not in counts),
        *(
            f"column {heading!r}, named in {setting}, is missing"
            for setting, listed in ((to_keep, keep), (to_ignore, ignore))
            for heading in listed
            if heading not in headings
        ),
        *(_repeated(name, headings, names) for name, count in counts.items() if count > 1),
    ]
    if problems:
        raise SchemaError("\n".join(problems))
    return Columns(tuple(headings), tuple(name or "" for name in names))


def _name(heading: str, keep: Collection[str], ignore: Collection[str]) -> str | None:
    """The name of a column, "" if it is ignored, None if it is unknown."""
    if heading in keep:
        return heading
    if heading in ignore:
        return ""
    name = ALIASES.get(plain(heading))
    return "" if name is None and plain(heading) in _EXTRA else name


def _repeated(name: str, headings: Sequence[str], names: Sequence[str | None]) -> str:
    same = [h for h, n in zip(headings, names, strict=True) if n == name]
    return f"column {name} occurs more than once: {', '.join(map(repr, same))}"


def headless(cells: Sequence[str]) -> Columns | None:
    """The columns of a file whose first line is a patient, as in the files of UCI, or None.

    These have the columns HEADLESS, or all but the outcome.
    """
    width = len(cells)
    if width not in (len(HEADLESS) - 1, len(HEADLESS)) or not all(map(_is_number, cells)):
        return None
    return Columns(HEADLESS[:width], HEADLESS[:width])


def _is_number(cell: str) -> bool:
    return bool(re.fullmatch(r"\s*(\?|NA|NaN|[+-]?\d+([.,]\d*)?)?\s*", cell, re.IGNORECASE))


def missing_columns(columns: Collection[str]) -> list[str]:
    """The measurements for which a table has no column."""
    return [m.name for m in MEASUREMENTS if m.name not in columns]
