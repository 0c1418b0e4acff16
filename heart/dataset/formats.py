"""The layouts in which the Cleveland patients circulate: headings and codings, as tables.

Files with the same heading carry different codings. Which one a file has is told in
`heart/dataset/detection.py`.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace

from heart.schema import MEASUREMENTS, NAMES, OUTCOME, SchemaError

COLUMNS = (*NAMES, OUTCOME.name)

# Extra columns that the project's own files may carry.
PROVENANCE = ("patient_id", "outcome_source", "outcome_date")

_UCI_HEADING = [
    "age",
    "sex",
    "cp",
    "trestbps",
    "chol",
    "fbs",
    "restecg",
    "thalach",
    "exang",
    "oldpeak",
    "slope",
    "ca",
    "thal",
]
_LONG_HEADING = [
    "Age",
    "Sex",
    "Chest pain type",
    "BP",
    "Cholesterol",
    "FBS over 120",
    "EKG results",
    "Max HR",
    "Exercise angina",
    "ST depression",
    "Slope of ST",
    "Number of vessels fluro",
    "Thallium",
]

ALIASES: Mapping[str, str] = {
    **{name: name for name in (*COLUMNS, *PROVENANCE)},
    **dict(zip(_UCI_HEADING, NAMES, strict=True)),
    **{name.lower(): ours for name, ours in zip(_LONG_HEADING, NAMES, strict=True)},
    **dict.fromkeys(("num", "target", "heart disease"), OUTCOME.name),
}


@dataclass(frozen=True)
class Coding:
    """How one layout writes categories: for each column the category (or "" = missing) of a code."""

    name: str
    codes: Mapping[str, Mapping[str, str]]

    def translate(self, column: str, token: str) -> str:
        """The project's text for a cell of a file, "" for a missing one. Raises SchemaError."""
        token = token.strip()
        if token in ("", "?"):
            return ""
        codes = self.codes.get(column)
        if codes is None:
            return _not_measured(column, token)
        key = plain(token)
        if key not in codes:
            raise SchemaError(f"{column} is {token!r}, expected one of {', '.join(codes)}")
        return codes[key]


def _not_measured(column: str, token: str) -> str:
    """A blood pressure or a cholesterol of zero is a measurement that was not made."""
    if column in ("resting_bp", "cholesterol") and plain(token) == "0":
        return ""
    return token


def plain(token: str) -> str:
    """A code as a whole number without sign, zeros or a decimal point; text in lower case."""
    try:
        number = float(token)
    except ValueError:
        return token.lower()
    return f"{number:g}"


def _choices(column: str, codes: Iterable[str]) -> dict[str, str]:
    """Codes in the order of the schema's categories."""
    measurement = next(m for m in MEASUREMENTS if m.name == column)
    return dict(zip(codes, (choice.name for choice in measurement.choices), strict=True))


_WORDS = {"absence": "absence", "presence": "presence"}
_NUM = {**_WORDS, "0": "absence", **dict.fromkeys("1234", "presence")}
_BINARY = {
    "sex": _choices("sex", "01"),
    "fasting_blood_sugar_over_120": _choices("fasting_blood_sugar_over_120", "01"),
    "exercise_angina": _choices("exercise_angina", "01"),
}
_UCI_FROM_0 = {
    **_BINARY,
    "chest_pain_type": _choices("chest_pain_type", "0123"),
    "resting_ecg": _choices("resting_ecg", "012"),
    "st_slope": _choices("st_slope", "012"),
    "major_vessels": {code: code for code in "0123"},
    OUTCOME.name: _NUM,
}
_PERMUTED = {
    **_BINARY,
    "resting_ecg": _choices("resting_ecg", "120"),
    "st_slope": _choices("st_slope", "210"),
    "major_vessels": {"0": "0", "1": "1", "2": "2", "3": "3", "4": ""},
    "thallium": {"0": "", "1": "fixed_defect", "2": "normal", "3": "reversible_defect"},
    OUTCOME.name: {**_WORDS, "0": "absence", "1": "presence"},
}

PROJECT = Coding("project", {})
# As in the files of the UCI repository.
UCI = Coding(
    "uci",
    {
        **_UCI_FROM_0,
        "chest_pain_type": _choices("chest_pain_type", "1234"),
        "st_slope": _choices("st_slope", "123"),
        "thallium": _choices("thallium", "367"),
    },
)
# UCI's order, counted from 0, with the thallium scan from 0 or from 1.
UCI_FROM_0 = Coding("uci_from_0", {**_UCI_FROM_0, "thallium": _choices("thallium", "012")})
UCI_FROM_0_THALLIUM_FROM_1 = Coding(
    "uci_from_0_thallium_from_1", {**_UCI_FROM_0, "thallium": _choices("thallium", "123")}
)
# The permuted codes of the "heart.csv" that circulates, with chest pain from 0 or from 1.
HEART_CSV = Coding(
    "heart_csv", {**_PERMUTED, "chest_pain_type": _choices("chest_pain_type", "3120")}
)
HEART_CSV_FROM_1 = Coding(
    "heart_csv_from_1", {**_PERMUTED, "chest_pain_type": _choices("chest_pain_type", "4231")}
)

NUMBERED = (UCI, UCI_FROM_0, UCI_FROM_0_THALLIUM_FROM_1, HEART_CSV, HEART_CSV_FROM_1)
CODINGS = {coding.name: coding for coding in (PROJECT, *NUMBERED)}

STATLOG_LABEL = {"1": "absence", "2": "presence"}


def with_label_of(coding: Coding, labels: Collection[str]) -> Coding:
    """The coding, with Statlog's label if the label's codes are 1 and 2 and no other.

    No other reading has both outcomes: in UCI's label, 1 and 2 are degrees of disease.
    """
    if coding is PROJECT or {plain(label.strip()) for label in labels} != {*STATLOG_LABEL}:
        return coding
    codes = {**coding.codes, OUTCOME.name: STATLOG_LABEL}
    return replace(coding, name=f"{coding.name}, label 1 and 2", codes=codes)
