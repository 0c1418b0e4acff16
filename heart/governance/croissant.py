"""Croissant metadata (version 1.0) of tables of patients: what their files and columns are, never a row.

https://docs.mlcommons.org/croissant/docs/croissant-spec.html
"""

import csv
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from heart.files import RAW_SOURCE
from heart.governance.answers import Documents, answer
from heart.schema import BY_NAME, OUTCOME, Measurement

COLUMNS = {**BY_NAME, OUTCOME.name: OUTCOME}
OTHERS = {
    "patient_id": "a hash that identifies the patient",
    "source": "the file that the row is from: raw, or outcomes of the service (production)",
    "fold": "the fold of cross-validation",
}
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
class Table:
    """A CSV file: where it lies, its size and hashes, and what its columns hold, by name."""

    name: str
    address: str
    size: int
    hashes: Mapping[str, str]
    columns: Mapping[str, Measurement | str]


def table_of(name: str, path: Path, address: str, others: Mapping[str, str] = OTHERS) -> Table:
    """The description of a CSV file with a heading; `others` says what further columns hold."""
    with path.open("rb") as file:
        (heading,) = csv.reader([file.readline().decode()])
        file.seek(0)
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        file.seek(0)
        md5 = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
        size = file.tell()
    columns = {c: COLUMNS.get(c, others.get(c, "a column that was kept")) for c in heading}
    return Table(name, address, size, {"sha256": sha256, "md5": md5}, columns)


def document(properties: Mapping[str, str], tables: Sequence[Table]) -> bytes:
    """The metadata of some tables as JSON-LD; `properties` are those of the data set, an empty one is left out."""
    content = {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        **{name: text for name, text in properties.items() if text},
        "version": "1.0.0",
        "distribution": [_file(table) for table in tables],
        "recordSet": [_records(table) for table in tables],
    }
    return (json.dumps(content, indent=2) + "\n").encode()


def _file(table: Table) -> dict[str, Any]:
    return {
        "@type": "cr:FileObject",
        "@id": f"{table.name}-file",
        "name": Path(table.address).name,
        "contentUrl": table.address,
        "contentSize": f"{table.size} B",
        "encodingFormat": "text/csv",
        **table.hashes,
    }


def _records(table: Table) -> dict[str, Any]:
    fields = [_field(table, name, column) for name, column in table.columns.items()]
    return {"@type": "cr:RecordSet", "@id": table.name, "name": table.name, "field": fields}


def _field(table: Table, name: str, column: Measurement | str) -> dict[str, Any]:
    number = isinstance(column, Measurement) and not column.choices
    identifier = re.sub(r"[^\w.-]", "_", name)  # without spaces, as mlcroissant wants
    return {
        "@type": "cr:Field",
        "@id": f"{table.name}/{identifier}",
        "name": name,
        "description": expected(column) if isinstance(column, Measurement) else column,
        "dataType": "sc:Float" if number else "sc:Text",
        "source": {"fileObject": {"@id": f"{table.name}-file"}, "extract": {"column": name}},
    }


def expected(measurement: Measurement) -> str:
    """What a cell may hold."""
    return measurement.expected + ("" if measurement.required else ", or empty")


def patients(documents: Documents, paths: Mapping[str, Path]) -> bytes:
    """The metadata of the training and held-out patients of a version, whose tables have these paths.

    Whoever owns the patients of a service decides on their license, so none is stated once there are some.
    """
    sources = [key for part in ("train", "test") for key in documents["split"][part]["by_source"]]
    known = documents["data"] if set(sources) <= {RAW_SOURCE} else {}
    text = "Patients of {version.name} {version.number}. {data.name}. {facts.counts} {facts.sources} {facts.warning}"
    properties = {
        "name": "heart_patients",
        "description": answer(text, documents).text,
        "datePublished": answer("{version.created}", documents).text,
        "url": known.get("url", ""),
        "license": known.get("license_url", ""),
        "citeAs": known.get("citation", ""),
    }
    return document(properties, [table_of(name, path, str(path)) for name, path in paths.items()])
