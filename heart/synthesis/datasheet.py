"""What is said beside a file of synthetic patients: a data sheet, and Croissant metadata (version 1.0).

Croissant: https://docs.mlcommons.org/croissant/docs/croissant-spec.html
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from heart.schema import MEASUREMENTS, OUTCOME, Measurement

SOURCE = "source"
COLUMNS = (*MEASUREMENTS, OUTCOME)
CC_BY = "https://creativecommons.org/licenses/by/4.0/"
CITATION = (
    "Janosi, Steinbrunn, Pfisterer and Detrano (1988), Heart Disease, UCI, DOI 10.24432/C52P4X"
)
NOT_REAL = (
    "These are not real patients: every row is drawn by a program. No basis for a decision about anybody, nor for a "
    "medical finding."
)
CONTEXT: Mapping[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileObject": "cr:fileObject",
    "fileProperty": "cr:fileProperty",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "parentField": "cr:parentField",
    "path": "cr:path",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "samplingRate": "cr:samplingRate",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}


@dataclass(frozen=True)
class Description:
    """What is known of a file of synthetic patients."""

    model: str
    rows: int
    date: str  # of today, ISO 8601
    license: str = ""  # an address; empty if whoever owns the patients' table has to say
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
        "Not stated: whoever owns the patients' table that these rows were learnt from decides."
    )
    return "\n\n".join(
        [
            f"# {name}",
            f"**{NOT_REAL}**",
            f"{description.rows} rows of {description.date}, {_method(description)}.",
            _privacy(description),
            "## Columns\n" + _columns(),
            f"## License\n{license_}" + (f"\n\n{CITATION}." if description.license else ""),
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
    lines = ["| column | value |", "| --- | --- |", "| source | synthetic, in every row |"]
    lines += [f"| {m.name} | {expected(m)} |" for m in COLUMNS]
    return "\n".join(lines)


def expected(measurement: Measurement) -> str:
    """What a cell may hold."""
    return measurement.expected + ("" if measurement.required else ", or empty")


def croissant(path: Path, content: bytes, description: Description) -> str:
    """The Croissant metadata of a file, as JSON-LD."""
    columns = [_field(SOURCE, "sc:Text", "synthetic, in every row")]
    columns += [_field(m.name, _type(m), expected(m)) for m in COLUMNS]
    document = {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "name": "synthetic_heart_patients",
        "description": f"{description.rows} synthetic patients, {_method(description)}. {NOT_REAL}",
        "version": "1.0.0",
        "datePublished": description.date,
        "url": path.name,
        "distribution": [
            {
                "@type": "cr:FileObject",
                "@id": "patients-file",
                "name": path.name,
                "contentUrl": path.name,
                "contentSize": f"{len(content)} B",
                "encodingFormat": "text/csv",
                "sha256": hashlib.sha256(content).hexdigest(),
            }
        ],
        "recordSet": [
            {"@type": "cr:RecordSet", "@id": "patients", "name": "patients", "field": columns}
        ],
    }
    if description.license:
        document |= {"license": description.license, "citeAs": CITATION}
    return json.dumps(document, indent=2) + "\n"


def _type(measurement: Measurement) -> str:
    return "sc:Text" if measurement.choices else "sc:Float"


def _field(name: str, kind: str, text: str) -> dict[str, Any]:
    return {
        "@type": "cr:Field",
        "@id": f"patients/{name}",
        "name": name,
        "description": text,
        "dataType": kind,
        "source": {"fileObject": {"@id": "patients-file"}, "extract": {"column": name}},
    }
