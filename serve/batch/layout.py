"""Which column of a table is which measurement, and in which coding its cells are."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from heart.dataset import headings, reader
from heart.dataset import layout as text_layout
from heart.dataset.codings import AUTO, WORDS, Coding, named, parse_setting
from heart.dataset.detection import Detected, Settings, detect
from heart.dataset.headings import PATIENT_ID, Columns
from heart.dataset.likelihood import Columns as Cells
from heart.schema import NAMES, SchemaError
from serve.batch.errors import ScoreError


@dataclass(frozen=True)
class Choice:
    """What a user says of tables: extra columns to keep or to ignore, and the coding."""

    keep: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    coding: str = AUTO

    @property
    def settings(self) -> Settings:
        """What detection is given. Raises ScoreError."""
        try:
            name, columns = parse_setting(self.coding)
        except SchemaError as error:
            raise ScoreError(f"--coding: {error}") from None
        return Settings(name, columns, "--coding", "--coding {}", "{}={}")


@dataclass(frozen=True)
class Layout:
    """A table's columns, how its text is laid out (None for Parquet), and its coding.

    Of the columns, measurements, the patient's id and those to keep have a name.
    """

    matched: Columns
    text: text_layout.Layout | None
    detected: Detected

    @property
    def columns(self) -> tuple[str, ...]:
        """The name of each column by position, "" for one that is not read."""
        return self.matched.names

    @property
    def used(self) -> dict[str, str]:
        """The headings of those columns that are read, by name."""
        return self.matched.used

    @property
    def coding(self) -> Coding:
        """How its categories are written."""
        return self.detected.coding


def match(
    cells: Sequence[str], choice: Choice, place: str, text: text_layout.Layout | None = None
) -> Layout:
    """The columns of a heading, before the coding is known. Raises ScoreError."""
    try:
        matched = headings.match(
            cells,
            required=reader.TO_SCORE.required,
            keep=choice.keep,
            ignore=choice.ignore,
            settings=("--keep", "--ignore"),
        )
    except SchemaError as error:
        problems = "; ".join(str(error).split("\n"))
        raise ScoreError(
            f"{place}: {problems}; expected {', '.join(NAMES)}, or other names of them"
        ) from None
    read = {*NAMES, PATIENT_ID, *choice.keep}
    names = tuple(name if name in read else "" for name in matched.names)
    return Layout(replace(matched, names=names), text, Detected(named(WORDS), {}))


def with_coding(layout: Layout, columns: Cells, choice: Choice, place: str) -> Layout:
    """The layout with the coding that is chosen, or that the first rows of the table show.

    Raises ScoreError.
    """
    settings = choice.settings
    if settings.format != AUTO:
        return replace(layout, detected=Detected(named(settings.format, settings.columns), {}))
    headings_of_file = [headings.plain(cell) for cell in layout.matched.headings]
    try:
        return replace(layout, detected=detect(columns, settings, headings_of_file))
    except SchemaError as error:
        raise ScoreError(f"{place}: {error}") from None


def description(layout: Layout) -> str:
    """How a table is read, such as "semicolons; coding uci"."""
    kind = layout.text.description if layout.text else "Parquet"
    return f"{kind}; coding {layout.coding.name}"
