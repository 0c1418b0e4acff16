"""What is said beside a file of synthetic patients: a data sheet, and Croissant metadata."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from heart.governance.croissant import Table, document, expected
from heart.schema import MEASUREMENTS, OUTCOME, Measurement

SOURCE = "source"
COLUMNS = (*MEASUREMENTS, OUTCOME)
MARK = "synthetic, in every row"
NOT_REAL = (
    "These are not real patients: every row is drawn by a program. No basis for a decision about anybody, nor for a "
    "medical finding."
)


@dataclass(frozen=True)
class Description:
    """What is known of a file of synthetic patients."""

    model: str
    rows: int
    date: str  # of today, ISO 8601
    license: str = ""  # an address; empty if whoever owns the patients' table has to say
    citation: str = ""
    figures: dict[str, str] = field(default_factory=dict)
    guarantee: Mapping[str, Any] = field(default_factory=dict)  # of marginals.guarantee


def _method(description: Description) -> str:
    if not description.guarantee:
        return (
            f"drawn by {description.model.upper()} (package ctgan), without a guarantee of privacy"
        )
    given = description.guarantee
    return (
        f"drawn from noisy tables of each measurement by outcome, differentially private with epsilon "
        f"{given['dp_epsilon']:g} and delta {given['dp_delta']:g}"
    )


def sheet(name: str, description: Description) -> str:
    """The data sheet, as Markdown."""
    license_ = description.license or (
        "Not stated: whoever owns the patients' table that these rows were learned from decides."
    )
    return "\n\n".join(
        [
            f"# {name}",
            f"**{NOT_REAL}**",
            f"{description.rows} rows of {description.date}, {_method(description)}.",
            _privacy(description),
            "## Columns\n" + _columns(),
            f"## License\n{license_}" + (f"\n\n{description.citation}." if description.citation else ""),
        ]
    ) + "\n"  # fmt: skip


def _privacy(description: Description) -> str:
    given = description.guarantee
    if given:
        return (
            f"## Privacy\n(epsilon, delta) = ({given['dp_epsilon']:g}, {given['dp_delta']:g}) for neighboring tables "
            f"with {given['dp_neighbors']}. Accounting: {given['dp_accounting']}, standard deviation "
            f"{given['dp_noise_scale']:.3g} of a count. Which patients became training patients (duplicates, bad rows, "
            "held-out patients) is decided before and is not covered. Every further file that was drawn from the same "
            "patients adds its own epsilon. Figures that compare these rows with the patients would be outside of the "
            "guarantee, so none are given."
        )
    lines = ["| figure | value |", "| --- | --- |"]
    lines += [f"| {label} | {value} |" for label, value in description.figures.items()]
    return (
        "## Privacy and quality\nNo guarantee: the rows may tell who was among the patients. Hand them on as you would "
        "the patients' table.\n\n" + "\n".join(lines)
    )


def _columns() -> str:
    lines = ["| column | value |", "| --- | --- |", f"| {SOURCE} | {MARK} |"]
    lines += [f"| {m.name} | {expected(m)} |" for m in COLUMNS]
    return "\n".join(lines)


def croissant(path: Path, content: bytes, description: Description) -> bytes:
    """The Croissant metadata of a file with this content."""
    hashes = {"sha256": hashlib.sha256(content).hexdigest()}
    columns: dict[str, Measurement | str] = {
        SOURCE: MARK,
        **{measurement.name: measurement for measurement in COLUMNS},
    }
    properties = {
        "name": "synthetic_heart_patients",
        "description": f"{description.rows} synthetic patients, {_method(description)}. {NOT_REAL}",
        "datePublished": description.date,
        "url": path.name,
        "license": description.license,
        "citeAs": description.citation,
    }
    return document(properties, [Table("patients", path.name, len(content), hashes, columns)])
