"""The drift baseline (class `Reference`): counts of the training patients, and limits of the drift check.

It is small, holds no row of a patient, and is part of a registered version: the pipeline writes its
JSON, the service reads it.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from heart.schema import BY_NAME, NAMES, Choice, Measurement

SCORE = "score"
COLUMNS = (*NAMES, SCORE)
FORMAT = 1

# A score over fewer patients could identify one of them.
MIN_CELL_COUNT = 11


class NotAReference(ValueError):
    """Not a reference of this format; the message names the place and the expected value."""


@dataclass(frozen=True)
class Policy:
    """When patients are checked, and the rate of false alarms.

    Every `step` patients the last n are checked, for each n in `windows`, and all patients so far while
    they are fewer than the longest window. Of streams of `stream` patients without drift, at most the
    share `false_alarms` raises any alarm. Numbers are divided into `bins`; the limits come from
    `simulations` streams, drawn with `seed`. Each window is compared with the training patients, and with
    these and up to `earlier` patients of the stream before it; 0 leaves the second comparison out.
    """

    windows: tuple[int, ...]
    step: int
    stream: int
    false_alarms: float
    bins: int
    simulations: int
    seed: int
    earlier: int = 0

    @property
    def patients(self) -> int:
        """The number of last patients that a check uses."""
        return self.windows[-1] + self.earlier

    @property
    def views(self) -> int:
        """The number of views, each of which has its own limits; see `Limits`."""
        return len(self.windows) * (2 if self.earlier else 1) + 1

    def __post_init__(self) -> None:
        if not self.windows or list(self.windows) != sorted(set(self.windows)):
            raise ValueError(f"windows are {self.windows}, expected increasing numbers of patients")
        if self.windows[0] < MIN_CELL_COUNT:
            raise ValueError(
                f"the smallest window is {self.windows[0]} patients, "
                f"expected at least {MIN_CELL_COUNT}: fewer could identify a patient"
            )
        if any(patients % self.step for patients in (*self.windows, self.stream, self.earlier)):
            raise ValueError(
                f"windows are {self.windows}, the stream is {self.stream} and earlier patients are "
                f"{self.earlier}, expected multiples of the step of {self.step} patients"
            )
        if self.earlier < 0:
            raise ValueError(f"earlier patients are {self.earlier}, expected at least 0")


@dataclass(frozen=True)
class Limits:
    """The limits of each kind of statistic, in its standard deviations without drift.

    One for each view: each window compared with the training patients; all patients so far, while the longest
    window is not full; then each window compared with the training patients and the earlier ones of the stream.
    """

    shift: tuple[float, ...]
    share: tuple[float, ...]
    rare: tuple[float, ...]


@dataclass(frozen=True)
class Column:
    """The counts of training patients by the value of a measurement, or of the model's score.

    Bucket i of a number holds the values above `edges[i - 1]` and up to `edges[i]`; the first is below
    all training patients, the last above. A category has a bucket for each choice and one for any
    other value.
    """

    name: str
    edges: tuple[float, ...]
    counts: tuple[int, ...]
    missing: int
    limits: Limits

    @property
    def measurement(self) -> Measurement | None:
        """The measurement; None for the model's score."""
        return BY_NAME.get(self.name)

    @property
    def choices(self) -> tuple[Choice, ...]:
        """The choices of a category; empty for a number."""
        return self.measurement.choices if self.measurement else ()

    @property
    def buckets(self) -> int:
        """The number of buckets, with that of missing values, which is the last."""
        return len(self.counts) + 1


@dataclass(frozen=True)
class Reference:
    """The training patients by column, in the order of COLUMNS, and the policy of the limits."""

    rows: int
    policy: Policy
    columns: tuple[Column, ...]

    def to_json(self) -> str:
        """The reference as JSON; equal references have equal bytes."""
        return json.dumps({"format": FORMAT, **asdict(self)}, indent=1, sort_keys=True) + "\n"

    @staticmethod
    def from_json(text: str | bytes) -> "Reference":
        """The inverse of `to_json`. Raises NotAReference."""
        try:
            document = json.loads(text)
            form = document["format"]
        except (KeyError, TypeError, ValueError) as error:
            raise NotAReference(f"not a drift baseline: {error!r}") from error
        if form != FORMAT:
            raise NotAReference(f"format is {form!r}, expected {FORMAT}")
        try:
            reference = Reference(
                int(document["rows"]),
                Policy(**_tuples(document["policy"])),
                tuple(_column(content) for content in document["columns"]),
            )
        except (KeyError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
            raise NotAReference(f"not a drift baseline: {error!r}") from error
        _check(reference)
        return reference


def _tuples(content: Mapping[str, Any]) -> dict[str, Any]:
    return {k: tuple(v) if isinstance(v, list) else v for k, v in content.items()}


def _column(content: Mapping[str, Any]) -> Column:
    return Column(**{**_tuples(content), "limits": Limits(**_tuples(content["limits"]))})


def _check(reference: Reference) -> None:
    """Raises NotAReference for columns that are not this schema's."""
    names = tuple(column.name for column in reference.columns)
    if names != COLUMNS:
        raise NotAReference(f"columns are {', '.join(names)}, expected {', '.join(COLUMNS)}")
    for column in reference.columns:
        expected = len(column.choices or column.edges) + 1
        if len(column.counts) != expected:
            raise NotAReference(
                f"{column.name} has {len(column.counts)} buckets, expected {expected}"
            )
        if sum(column.counts) + column.missing != reference.rows:
            raise NotAReference(
                f"{column.name} counts {sum(column.counts) + column.missing} patients, "
                f"expected {reference.rows}"
            )
        for kind, limits in asdict(column.limits).items():
            if len(limits) != reference.policy.views:
                raise NotAReference(
                    f"{column.name} has {len(limits)} limits of {kind}, "
                    f"expected {reference.policy.views}"
                )
