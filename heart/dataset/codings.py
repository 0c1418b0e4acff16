"""The codings of the files in circulation: which number stands for which category; words are in `words`.

Files with one heading are in different codings. `heart.dataset.detection` recognizes which one a file is
in. To add a coding, add an entry to `_NUMBERS`, and its name to `Coding` in `stages/params.py`.
"""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

from heart.dataset import words
from heart.schema import BY_NAME, MEASUREMENTS, NUMBER, OUTCOME, SchemaError

ZERO_IS_MISSING = ("resting_bp", "cholesterol")  # nobody who is measured has that
BINARY = ("sex", "fasting_blood_sugar_over_120", "exercise_angina")

# For each coding and column, the codes of the categories in the order of the schema; behind "|" the
# code of a missing value, if there is one.
_NUMBERS: Mapping[str, Mapping[str, str]] = {
    # The files of the UCI repository.
    "uci": {
        "chest_pain_type": "1 2 3 4",
        "resting_ecg": "0 1 2",
        "st_slope": "1 2 3",
        "major_vessels": "0 1 2 3",
        "thallium": "3 6 7",
    },
    # UCI's order counted from 0, the thallium scan from 0 or from 1.
    "uci_from_0": {
        "chest_pain_type": "0 1 2 3",
        "resting_ecg": "0 1 2",
        "st_slope": "0 1 2",
        "major_vessels": "0 1 2 3",
        "thallium": "0 1 2",
    },
    "uci_from_0_thallium_from_1": {
        "chest_pain_type": "0 1 2 3",
        "resting_ecg": "0 1 2",
        "st_slope": "0 1 2",
        "major_vessels": "0 1 2 3",
        "thallium": "1 2 3",
    },
    # The permuted codes of the "heart.csv" that circulates, chest pain from 0 or from 1.
    "heart_csv": {
        "chest_pain_type": "3 1 2 0",
        "resting_ecg": "1 2 0",
        "st_slope": "2 1 0",
        "major_vessels": "0 1 2 3|4",
        "thallium": "2 1 3|0",
    },
    "heart_csv_from_1": {
        "chest_pain_type": "4 2 3 1",
        "resting_ecg": "1 2 0",
        "st_slope": "2 1 0",
        "major_vessels": "0 1 2 3|4",
        "thallium": "2 1 3|0",
    },
}

Codes = Mapping[str, str]  # category by code, "" for a missing value


def _codes(column: str, text: str) -> dict[str, str]:
    numbers, _, missing = text.partition("|")
    measurement = BY_NAME[column]
    categories = [choice.name for choice in measurement.choices] or numbers.split()
    codes = dict(zip(numbers.split(), categories, strict=True))
    return codes | ({missing: ""} if missing else {})


_BINARY_CODES = {column: _codes(column, "0 1") for column in BINARY}
# UCI's label counts the narrowed vessels, 0 to 4; the others write 0 and 1.
_LABEL = {"0": "absence", **dict.fromkeys("1234", "presence")}
STATLOG_LABEL = {"1": "absence", "2": "presence"}
_ALIKE = {**_BINARY_CODES, OUTCOME.name: _LABEL}  # in all codings
DECIDING = tuple(_NUMBERS["uci"])  # the columns in which codings differ

WORDS, AUTO = "words", "auto"
NUMBERED: Mapping[str, Mapping[str, Codes]] = {
    name: {column: _codes(column, text) for column, text in columns.items()}
    for name, columns in _NUMBERS.items()
}
NAMES = (WORDS, *NUMBERED)


@dataclass(frozen=True)
class Coding:
    """How one file writes categories.

    `columns` has the name of the coding of each column that has one, `codes` the categories of its
    numbers. Words are read in every column.
    """

    columns: Mapping[str, str]
    codes: Mapping[str, Codes]

    @property
    def name(self) -> str:
        """Such as "uci", or "uci, thallium heart_csv" for a column in another coding."""
        decided = {column: self.columns[column] for column in DECIDING if column in self.columns}
        names = [name for name in decided.values() if name != WORDS] or [WORDS]
        base = max(dict.fromkeys(names), key=names.count)
        others = [f"{c} {name}" for c, name in decided.items() if name not in (base, WORDS)]
        return ", ".join([base, *others, *filter(None, [self.columns.get(OUTCOME.name)])])

    def translate(self, column: str, cell: str) -> str:
        """The project's text for a cell, "" for a missing value. Raises SchemaError."""
        if words.is_missing(cell):
            return ""
        if column not in words.WORDS and column not in self.codes:
            return _number(column, cell)
        code, known = plain_code(cell), self.codes.get(column, {})
        if code in known:
            return known[code]
        category = words.WORDS.get(column, {}).get(words.plain(cell))
        if category is None:
            raise SchemaError(_unknown(column, cell, known, self.columns.get(column, "")))
        return category


def named(name: str, columns: Mapping[str, str] | None = None) -> Coding:
    """A coding by its name; `columns` has the names of the codings of single columns."""
    own = dict.fromkeys(DECIDING, name) | {**(columns or {})}
    codes = {
        column: NUMBERED[coding][column] for column, coding in own.items() if coding in NUMBERED
    }
    return Coding(own, {**_ALIKE, **codes})


def parse_setting(text: str) -> tuple[str, dict[str, str]]:
    """The coding of a table and those of single columns: "uci", or "auto,thallium=heart_csv".

    Raises SchemaError.
    """
    name, columns = AUTO, dict[str, str]()
    for part in text.split(","):
        column, equals, coding = part.partition("=")
        if equals and column in DECIDING and coding in NAMES:
            columns[column] = coding
        elif not equals and part in (AUTO, *NAMES):
            name = part
        else:
            raise SchemaError(
                f"coding is {part!r}, expected one of {', '.join((AUTO, *NAMES))}, or COLUMN=CODING "
                f"where COLUMN is one of {', '.join(DECIDING)}"
            )
    return name, columns


def with_label_of(coding: Coding, labels: Collection[str]) -> Coding:
    """The coding, with Statlog's label if the label's codes are 1 and 2 and no other.

    No other reading has both outcomes: in UCI's label, 1 and 2 are degrees of disease.
    """
    codes = {plain_code(label) for label in labels if not words.is_missing(label)}
    if OUTCOME.name not in coding.codes or codes != {*STATLOG_LABEL}:
        return coding
    return replace(
        coding,
        columns={**coding.columns, OUTCOME.name: "label 1 and 2"},
        codes={**coding.codes, OUTCOME.name: STATLOG_LABEL},
    )


def plain_code(cell: str) -> str:
    """A code as a number without sign, zeros or a decimal point: "1" for " 01.0"."""
    text = _decimal_point(cell.strip())
    return f"{float(text):g}" if NUMBER.fullmatch(text) else text


def _number(column: str, cell: str) -> str:
    """A number with a decimal point, "" for a zero that means missing."""
    text = _decimal_point(cell.strip())
    return "" if column in ZERO_IS_MISSING and plain_code(text) == "0" else text


def _decimal_point(text: str) -> str:
    """A number written with a decimal comma, as spreadsheets do in most of Europe, with a point.

    No measurement reaches a thousand, so the comma cannot separate thousands.
    """
    return text.replace(",", ".") if re.fullmatch(r"[+-]?\d+,\d+", text) else text


def _unknown(column: str, cell: str, codes: Codes, coding: str) -> str:
    measurement = next(m for m in (*MEASUREMENTS, OUTCOME) if m.name == column)
    expected = [f"{code} ({category or 'missing'})" for code, category in codes.items()]
    if measurement.choices:
        expected += [choice.name for choice in measurement.choices]
    of = f" of coding {coding}" if codes and coding in NUMBERED else ""
    return f"{column} is {cell.strip()!r}, expected one of {', '.join(expected)}{of}"
