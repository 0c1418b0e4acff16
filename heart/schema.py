"""The 13 measurements and the outcome, defined once.

Everything that names a column, a unit, a bound or a category reads it from here: the stages, the
service, the page and the monitoring. Labels for people are in `heart/locale`. The model's input is
one float32 row of 13 values in the order of `MEASUREMENTS`; a category is the position of its name,
a missing value is NaN.
"""

import hashlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]


# What people mean by a number; Python's float takes "6_3", "nan" and more.
NUMBER = re.compile(r"\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*", re.ASCII)


class SchemaError(ValueError):
    """A value that the schema does not allow; the message names it, its place and what was expected."""


@dataclass(frozen=True)
class Choice:
    """A category. `risk` is +1 where medicine is sure that it raises the risk over the first choice."""

    name: str
    risk: int = 0


@dataclass(frozen=True)
class Measurement:
    """One measurement of a patient: a number within bounds, or one of a few categories.

    `low` and `high` are the values that are accepted, both included; `step` is the precision with
    which the value is recorded. `risk` is +1 or -1 where medicine is sure that a higher number means
    a higher or lower risk, 0 where it is not. `required` measurements are known for every patient;
    `second_exam` marks those that need a further, expensive examination and are often missing.
    """

    name: str
    group: str
    unit: str = ""
    low: float = 0.0
    high: float = 0.0
    step: float = 1.0
    risk: int = 0
    choices: tuple[Choice, ...] = ()
    required: bool = False
    second_exam: bool = False

    @property
    def expected(self) -> str:
        """What a valid value is, in words."""
        if self.choices:
            return "one of " + ", ".join(choice.name for choice in self.choices)
        kind = "a whole number" if self.step == 1 else "a number"
        return f"{kind} from {self.low:g} to {self.high:g}{' ' + self.unit if self.unit else ''}"

    def parse(self, text: str) -> float:
        """The encoded value of a cell's text; NaN for an empty one. Raises SchemaError."""
        if not text:
            return math.nan
        if self.choices:
            return self._code(text)
        if not NUMBER.fullmatch(text):
            raise SchemaError(f"{self.name} is {text!r}, expected {self.expected}")
        return self.check(float(text))

    def check(self, value: float) -> float:
        """The value itself if it is within the bounds. Raises SchemaError."""
        whole = self.step != 1 or float(value).is_integer()
        if not (self.low <= value <= self.high and whole):
            raise SchemaError(f"{self.name} is {value:.12g}, expected {self.expected}")
        return float(value) + 0.0  # no minus zero

    def text(self, code: float) -> str:
        """The canonical text of an encoded value: the inverse of `parse`."""
        if math.isnan(code):
            return ""
        return self.choices[int(code)].name if self.choices else f"{code:.10g}"

    def encode(self, value: Any) -> float:
        """The encoded value of a number, a category's name or None. Raises SchemaError."""
        if value is None or value != value:
            return math.nan
        if isinstance(value, str):
            return self.parse(value)
        if self.choices:
            raise SchemaError(f"{self.name} is {value!r}, expected {self.expected}")
        return self.check(float(value))

    def _code(self, name: str) -> float:
        for code, choice in enumerate(self.choices):
            if choice.name == name:
                return float(code)
        raise SchemaError(f"{self.name} is {name!r}, expected {self.expected}")


NO_YES = (Choice("no"), Choice("yes", risk=1))

MEASUREMENTS = (
    Measurement("age", "patient", unit="years", low=18, high=110, risk=1, required=True),
    Measurement(
        "sex", "patient", choices=(Choice("female"), Choice("male", risk=1)), required=True
    ),
    Measurement(
        "chest_pain_type",
        "patient",
        choices=(
            Choice("typical_angina"),
            Choice("atypical_angina"),
            Choice("non_anginal_pain"),
            Choice("asymptomatic", risk=1),
        ),
    ),
    Measurement("resting_bp", "patient", unit="mm Hg", low=60, high=260, risk=1),
    Measurement("cholesterol", "blood", unit="mg/dl", low=80, high=700, risk=1),
    Measurement("fasting_blood_sugar_over_120", "blood", choices=NO_YES),
    Measurement(
        "resting_ecg",
        "ecg",
        choices=(
            Choice("normal"),
            Choice("st_t_abnormality", risk=1),
            Choice("left_ventricular_hypertrophy", risk=1),
        ),
    ),
    Measurement("max_heart_rate", "ecg", unit="beats/min", low=50, high=230, risk=-1),
    Measurement("exercise_angina", "ecg", choices=NO_YES),
    Measurement("st_depression", "ecg", unit="mm", low=-3, high=10, step=0.1, risk=1),
    Measurement(
        "st_slope",
        "second_exam",
        choices=(Choice("upsloping"), Choice("flat", risk=1), Choice("downsloping", risk=1)),
        second_exam=True,
    ),
    Measurement(
        "major_vessels", "second_exam", unit="vessels", low=0, high=3, risk=1, second_exam=True
    ),
    Measurement(
        "thallium",
        "second_exam",
        choices=(
            Choice("normal"),
            Choice("fixed_defect", risk=1),
            Choice("reversible_defect", risk=1),
        ),
        second_exam=True,
    ),
)

OUTCOME = Measurement(
    "heart_disease",
    "outcome",
    choices=(Choice("absence"), Choice("presence", risk=1)),
    required=True,
)

BY_NAME = {measurement.name: measurement for measurement in MEASUREMENTS}
NAMES = tuple(BY_NAME)
SECOND_EXAM = tuple(measurement.name for measurement in MEASUREMENTS if measurement.second_exam)


def encode(columns: Mapping[str, Sequence[Any]]) -> Floats:
    """Encode a table (column name to values) into float32 rows [n, 13].

    Column order is irrelevant; a measurement that is left out is missing in every row. Raises
    SchemaError, naming the row, for a value that the schema does not allow.
    """
    given = [name for name in NAMES if name in columns]
    if not given:
        raise SchemaError(f"no measurement among the columns, expected some of {', '.join(NAMES)}")
    rows = np.full((len(columns[given[0]]), len(NAMES)), np.nan, dtype=np.float32)
    for position, measurement in enumerate(MEASUREMENTS):
        if measurement.name in columns:
            cells = columns[measurement.name]
            if len(cells) != len(rows):
                raise SchemaError(
                    f"{measurement.name} has {len(cells)} values, expected {len(rows)}"
                )
            rows[:, position] = _encode_column(measurement, cells)
    return rows


def _encode_column(measurement: Measurement, values: Sequence[Any]) -> list[float]:
    known: dict[Any, float] = {}
    encoded = []
    for row, value in enumerate(values):
        if value not in known:
            try:
                known[value] = measurement.encode(value)
            except SchemaError as error:
                raise SchemaError(f"row {row}: {error}") from None
        encoded.append(known[value])
    return encoded


def decode(rows: npt.NDArray[np.floating[Any]]) -> dict[str, list[str]]:
    """The canonical text of encoded rows [n, 13], by column: the inverse of `encode`.

    Of a number it has the shortest text that is the same float32: 79.9, not 79.90000152587890625.
    """
    return {
        measurement.name: [
            measurement.text(float(str(np.float32(code)))) for code in rows[:, position]
        ]
        for position, measurement in enumerate(MEASUREMENTS)
    }


def fingerprint() -> str:
    """SHA-256 over all that gives an encoded row its meaning."""
    meaning = [
        [m.name, m.unit, m.low, m.high, [choice.name for choice in m.choices]]
        for m in (*MEASUREMENTS, OUTCOME)
    ]
    return hashlib.sha256(json.dumps(meaning).encode()).hexdigest()
