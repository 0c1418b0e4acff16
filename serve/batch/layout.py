"""Which column of a table is which measurement, and in which coding its cells are."""

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from heart.dataset import detection as coding_detection
from heart.dataset import formats
from heart.schema import MEASUREMENTS, NAMES, SchemaError
from serve.batch.errors import ScoreError

AUTO = "auto"
CODINGS = (AUTO, *formats.CODINGS)
PATIENT_ID = "patient_id"


@dataclass(frozen=True)
class Layout:
    """A table's columns by position: a measurement's name, the name of one to keep, or "".

    `heading` are the names in the file; a CSV file of UCI's has none.
    """

    heading: tuple[str, ...]
    columns: tuple[str, ...]
    headless: bool
    coding: str

    @property
    def used(self) -> dict[str, str]:
        """The names in the file of those columns that are read, by the project's name."""
        pairs = zip(self.columns, self.heading, strict=True)
        return {ours: theirs for ours, theirs in pairs if ours}


def layout(heading: Sequence[str], keep: Collection[str], place: str) -> Layout:
    """The columns of a heading, before the coding is known. Raises ScoreError."""
    if headless(heading):
        heading = formats.COLUMNS[: len(heading)]
        found = layout(heading, keep, place)
        return Layout(found.heading, found.columns, True, AUTO)
    names = [_name(cell, keep) for cell in heading]
    problems = _problems(heading, names, keep)
    if problems:
        raise ScoreError(
            f"{place}: {'; '.join(problems)}; expected {', '.join(NAMES)}, or the names that UCI or "
            "the circulating files have for them; name other columns with --keep"
        )
    measured = {*NAMES, PATIENT_ID, *keep}
    columns = tuple(name if name in measured else "" for name in names)
    return Layout(tuple(heading), columns, False, AUTO)


def headless(cells: Sequence[str]) -> bool:
    """UCI's own files start with a patient: numbers and question marks only."""
    return len(cells) in (len(NAMES), len(formats.COLUMNS)) and all(
        cell in ("", "?") or cell.replace(".", "").lstrip("-").isdigit() for cell in cells
    )


def _name(cell: str, keep: Collection[str]) -> str:
    return cell if cell in keep else formats.ALIASES.get(cell.strip().lower(), "")


def _problems(heading: Sequence[str], names: Sequence[str], keep: Collection[str]) -> list[str]:
    required = [m.name for m in MEASUREMENTS if m.required]
    times = Counter(name for name in names if name)
    return [
        *(f"column {c!r} is unknown" for c, name in zip(heading, names, strict=True) if not name),
        *(f"column {name} is missing" for name in (*required, *keep) if name not in times),
        *(f"column {name} occurs more than once" for name, n in times.items() if n > 1),
    ]


def coding(wanted: str, columns: coding_detection.Columns, place: str) -> str:
    """The name of the coding: the wanted one, or what the first rows of a table tell.

    Raises ScoreError if they do not.
    """
    if wanted != AUTO:
        return wanted
    try:
        return coding_detection.detect(columns, "--coding").name
    except SchemaError as error:
        raise ScoreError(f"{place}: {error}") from None
