"""The layouts in which the Cleveland patients circulate, and how to tell them apart.

A layout is a heading and a coding. The headings are recognised wherever they stand; the codings
are told apart by the codes themselves, because files with the same heading carry different ones.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

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
        key = _plain(token)
        if key not in codes:
            raise SchemaError(f"{column} is {token!r}, expected one of {', '.join(codes)}")
        return codes[key]


def _not_measured(column: str, token: str) -> str:
    """A blood pressure or a cholesterol of zero is a measurement that was not made."""
    if column in ("resting_bp", "cholesterol") and _plain(token) == "0":
        return ""
    return token


def _plain(token: str) -> str:
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


_LABELS = {"0": "absence", "absence": "absence", "presence": "presence"}
_BINARY = {
    "sex": _choices("sex", "01"),
    "fasting_blood_sugar_over_120": _choices("fasting_blood_sugar_over_120", "01"),
    "exercise_angina": _choices("exercise_angina", "01"),
}
_PERMUTED = {
    **_BINARY,
    "resting_ecg": _choices("resting_ecg", "120"),
    "st_slope": _choices("st_slope", "210"),
    "major_vessels": {"0": "0", "1": "1", "2": "2", "3": "3", "4": ""},
    "thallium": {"0": "", "1": "fixed_defect", "2": "normal", "3": "reversible_defect"},
    OUTCOME.name: {**_LABELS, "1": "presence"},
}

PROJECT = Coding("project", {})
UCI = Coding(
    "uci",
    {
        **_BINARY,
        "chest_pain_type": _choices("chest_pain_type", "1234"),
        "resting_ecg": _choices("resting_ecg", "012"),
        "st_slope": _choices("st_slope", "123"),
        "major_vessels": {code: code for code in "0123"},
        "thallium": _choices("thallium", "367"),
        OUTCOME.name: {**_LABELS, **dict.fromkeys("1234", "presence")},
    },
)
HEART_CSV = Coding(
    "heart_csv", {**_PERMUTED, "chest_pain_type": _choices("chest_pain_type", "3120")}
)
HEART_CSV_FROM_1 = Coding(
    "heart_csv_from_1", {**_PERMUTED, "chest_pain_type": _choices("chest_pain_type", "4231")}
)

CODINGS = {coding.name: coding for coding in (PROJECT, UCI, HEART_CSV, HEART_CSV_FROM_1)}


def detect(tokens: Mapping[str, Collection[str]]) -> Coding:
    """The coding of a file, told from the distinct cells of its columns.

    The thallium codes decide between UCI's (3, 6, 7) and the permuted ones (0 to 3), the chest pain
    codes between the two permuted variants. Raises SchemaError when the codes fit more than one.
    """
    known = {
        column: {_plain(t.strip()) for t in cells} - {"", "?"} for column, cells in tokens.items()
    }
    if any(
        not _is_number(token) for token in known.get("thallium", set()) | known.get("sex", set())
    ):
        return PROJECT
    thallium = known.get("thallium", set())
    if thallium & {"6", "7"}:
        return UCI
    if thallium & {"0", "1", "2"}:
        return _permuted(known.get("chest_pain_type", set()))
    raise SchemaError(
        f"cannot tell the coding from the thallium codes ({', '.join(sorted(thallium)) or 'none'}): "
        f"set prepare.format to one of {', '.join(CODINGS)}"
    )


def _permuted(chest_pain: Collection[str]) -> Coding:
    if "0" in chest_pain:
        return HEART_CSV
    if "4" in chest_pain:
        return HEART_CSV_FROM_1
    raise SchemaError(
        f"cannot tell the coding from the chest pain codes ({', '.join(sorted(chest_pain))}): "
        f"set prepare.format to one of {HEART_CSV.name}, {HEART_CSV_FROM_1.name}"
    )


def _is_number(token: str) -> bool:
    try:
        float(token)
    except ValueError:
        return False
    return True
