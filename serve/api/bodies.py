"""Validation of JSON bodies in small pieces, so that an invalid body costs little, whatever it contains.

pydantic parses a whole body and then reports every error in it. A body of legal length can hold a million
errors, or millions of empty lists, which takes half a minute and gigabytes. Here a batch is cut between
two patients every few kilobytes, each piece is validated as a batch of its own, and validation stops after
the piece with the 20th error:

    {"patients":[{"age": 50}, {"age": 60}, {"age": 70}]}      cut after every second patient
    {"patients":[{"age": 50}, {"age": 60} + ]}                first piece
    {"patients":[ + {"age": 70}]}                             second piece

The cuts do not change the result. If every piece is a valid batch, each cut is directly between two
patients; only a second key `patients` could then hide rows, so a second one is an error. If the characters
of a cut (`},{`) are within a patient, its pieces are not valid, and neither is the body: a valid patient
contains no object and no string with braces.
"""

import json
import re
from itertools import count
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import from_json

from heart.errors import UserError
from serve.api.models import Batch, Patient
from serve.patient_table import InvalidTable, PatientTable, TableProblem, read_table
from serve.settings import MAX_BATCH

CSV = "text/csv"
LINE = "line"
UNKNOWN = "extra_forbidden"  # pydantic's type of the error of an unknown field
Error = dict[str, Any]  # as pydantic's ErrorDetails; `loc` starts with "body"
Model = TypeVar("Model", bound=BaseModel)

MAX_ERRORS = 20
MAX_KEPT = 1000  # errors that the last piece may add: a piece can hold 12,000
PIECE_BYTES = 8 * 1024
MAX_PATIENT_BYTES = 16 * 1024  # of a patient in a batch; indented JSON takes 520
BYTE_ORDER_MARK = b"\xef\xbb\xbf"  # some editors write it; a parser may ignore it (RFC 8259)
SPACE = b" \t\r\n"
BETWEEN_PATIENTS = re.compile(rb"\}[ \t\r\n]*,[ \t\r\n]*(?=\{)")
OPENING, CLOSING = b'{"patients":[', b"]}"
POSITION = re.compile(r" at line (\d+) column (\d+)$")  # in a message about invalid JSON


class InvalidBody(Exception):
    """An invalid body. `complete` is whether `errors` has all its errors, or validation stopped early."""

    def __init__(self, errors: list[Error], *, complete: bool) -> None:
        super().__init__(f"{len(errors)} errors")
        self.errors = errors[:MAX_KEPT]
        self.complete = complete and len(errors) <= MAX_KEPT


def validate_body(model: type[Model], body: bytes) -> Model:
    """A short body as its model. Raises InvalidBody."""
    text = body.removeprefix(BYTE_ORDER_MARK)
    value, errors = _validate(model, text)
    if value is not None and text.count(b":") != len(value.model_fields_set):
        errors = _repeated(text)
    if value is None or errors:
        raise InvalidBody([_located(error, text, text) for error in errors], complete=True)
    return value


def validate_table(body: bytes, coding: str) -> PatientTable:
    """A body of limited length as a table of patients. Raises InvalidBody."""
    try:
        return read_table(body, coding, ("coding", "coding={}", "{}={}"))
    except UserError as error:
        item = {"type": "invalid_table", "msg": str(error), "loc": ("body",)}
        raise InvalidBody([item], complete=True) from None
    except InvalidTable as error:
        items = [_table_error(problem) for problem in error.problems]
        raise InvalidBody(items, complete=error.complete) from None


def _table_error(problem: TableProblem) -> Error:
    """A problem of a table in pydantic's form; `loc` has the line, from 1."""
    if problem.cell is None:
        text = f"{problem.width} columns, expected {problem.expected_width}"
        return {"type": "invalid_line", "msg": text, "loc": ("body", LINE, problem.line)}
    loc = ("body", LINE, problem.line, problem.column)
    return {
        "type": "missing" if problem.missing else "invalid_value",
        "msg": problem.text,
        "loc": loc,
        "input": problem.cell,
    }


def validate_batch(body: bytes) -> Batch:
    """A body of any length as a batch. Raises InvalidBody."""
    reader = _BatchReader(body.removeprefix(BYTE_ORDER_MARK))
    while reader.read_piece() and reader.rows <= MAX_BATCH and len(reader.errors) < MAX_ERRORS:
        pass
    complete = reader.start == len(reader.body)
    if reader.rows > MAX_BATCH:
        reader.add("too_long", f"A batch has at most {MAX_BATCH:,} patients")
    elif not reader.errors and reader.body.count(b"[") > 1:
        reader.add("duplicate_key", "patients is given more than once")
    if reader.errors:
        raise InvalidBody(reader.errors, complete=complete)
    return Batch.model_construct(patients=reader.patients)


class _BatchReader:
    """Reads a batch piece by piece: `patients` and `errors` are those before the offset `start`."""

    def __init__(self, text: bytes) -> None:
        self.text = text
        self.body = text.strip(SPACE)
        self.start = 0
        self.rows = 0
        self.patients: list[Any] = []
        self.errors: list[Error] = []

    def add(self, kind: str, message: str, *row: int) -> None:
        """Add an error of the list of patients, or of one patient."""
        self.errors.append({"type": kind, "msg": message, "loc": ("body", "patients", *row)})

    def read_piece(self) -> bool:
        """Read up to the next cut or to the end. Returns whether there is another piece."""
        reach = self.start + PIECE_BYTES + MAX_PATIENT_BYTES
        cut = BETWEEN_PATIENTS.search(self.body, self.start + PIECE_BYTES, reach)
        if cut is None and len(self.body) > reach:
            self._read_part(reach)
            return False
        piece = self._piece(cut.start() + 1) + CLOSING if cut else self._piece(len(self.body))
        batch, errors = _validate(Batch, piece)
        if batch is not None:
            keys = 1 + sum(len(patient.model_fields_set) for patient in batch.patients)
            if piece.count(b":") != keys:
                self._add_all(_repeated(piece, batch=True), piece)
            self.patients += batch.patients
            self.rows += len(batch.patients)
        elif errors[0]["type"] != "json_invalid":
            self._add_all(errors, piece)
            self.rows += _rows(json.loads(piece))
        elif cut:
            # Invalid JSON, or a cut within a patient: a longer part shows which.
            self._read_part(reach)
            return False
        else:
            self._add_all(errors, piece)
        self.start = cut.end() if cut else len(self.body)
        return cut is not None

    def _piece(self, end: int) -> bytes:
        return (OPENING if self.start else b"") + self.body[self.start : end]

    def _read_part(self, end: int) -> None:
        """Add the errors, at least one, of a part that may end within a patient."""
        before, part = len(self.errors), self._piece(end)
        if end < len(self.body):
            # Up to a comma: half of a number could be an error.
            part = part[: part.rfind(b",")]
            self._add_all(_errors_of_part(part), part)
        else:
            self._add_all(_validate(Batch, part)[1], part)
        if len(self.errors) == before:
            row = self.rows + max(0, _rows(from_json(part, allow_partial=True)) - 1)
            self.add("too_long", f"A patient takes at most {MAX_PATIENT_BYTES:,} bytes", row)

    def _add_all(self, errors: list[Error], piece: bytes) -> None:
        """Add the errors of a piece, with their rows and positions in the body."""
        before = len(self.text) - len(self.text.lstrip(SPACE)) + self.start
        before -= len(OPENING) if self.start else 0
        for error in errors:
            body, *path = error["loc"]
            if path[:1] == ["patients"] and path[1:]:
                path[1] += self.rows
            item = _located(error, piece, self.text, before)
            if error["type"] == "json_invalid" and self.rows:
                item["msg"] += f", after patient {self.rows - 1}"
            self.errors.append({**item, "loc": (body, *path)})


def _located(error: Error, part: bytes, text: bytes, before: int = 0) -> Error:
    """An error, for invalid JSON with its line and column in a text; `part` begins at byte `before` of it."""
    match = POSITION.search(error["msg"]) if error["type"] == "json_invalid" else None
    if match is None:
        return dict(error)
    offset = 0
    for _ in range(int(match[1]) - 1):
        offset = part.index(b"\n", offset) + 1
    offset = before + min(len(part), offset + max(0, int(match[2]) - 1))
    start = text.rfind(b"\n", 0, offset) + 1
    line = text.count(b"\n", 0, offset) + 1
    column = len(text[start:offset].decode("utf-8", "replace")) + 1
    message = f"{error['msg'][: match.start()]} at line {line} column {column}"
    return {**error, "msg": message, LINE: line, "column": column}


def _validate(model: type[Model], document: bytes) -> tuple[Model | None, list[Error]]:
    """The document as its model, or the errors."""
    try:
        return model.model_validate_json(document), []
    except ValidationError as error:
        errors = _errors(error, model)
    if errors[0]["type"] == "json_invalid":
        try:
            # `json` accepts half of a surrogate pair, so the error can name the field.
            model.model_validate(json.loads(document))
        except ValidationError as error:
            return None, _errors(error, model)
        except (ValueError, RecursionError):
            pass
    return None, errors


def _errors_of_part(document: bytes) -> list[Error]:
    """The errors of a batch that ends anywhere, without those that are due to its end."""
    try:
        Batch.model_validate(from_json(document, allow_partial=True))
    except ValidationError as error:
        return [e for e in _errors(error, Batch) if e["type"] not in ("missing", "too_short")]
    except ValueError as error:
        return [{"type": "json_invalid", "msg": f"Invalid JSON: {error}", "loc": ("body",)}]
    return []


def _errors(error: ValidationError, model: type[BaseModel]) -> list[Error]:
    """The errors; of those that may be shown, unknown fields have the known ones."""
    items = error.errors(include_url=False, include_context=False)
    errors: list[Error] = [{**item, "loc": ("body", *item["loc"])} for item in items]
    for item in errors[:MAX_ERRORS]:
        if item["type"] == UNKNOWN:
            owner = Patient if model is Batch and item["loc"][2:] else model
            item["choices"] = list(owner.model_fields)
    return errors


def _repeated(document: bytes, *, batch: bool = False) -> list[Error]:
    """Errors for keys that a valid document repeats.

    A parser takes the last of them; what the sender meant is in doubt. Each key has a colon, and so may a
    few values, such as times: only if there are more colons than different keys is the document read again.
    The objects of a batch are read in the order of its rows.
    """
    errors: list[Error] = []
    rows = count()

    def read(pairs: list[tuple[str, Any]]) -> Any:
        names, row = [name for name, _ in pairs], next(rows)
        place = ("patients", row) if batch and "patients" not in names else ()
        for name in {name for name in names if names.count(name) > 1}:
            text = f"{name} is given more than once"
            errors.append({"type": "duplicate_key", "msg": text, "loc": ("body", *place, name)})
        return dict(pairs)

    json.loads(document, object_pairs_hook=read)
    return errors


def _rows(batch: Any) -> int:
    """The patients of a parsed batch, valid or not."""
    patients = batch.get("patients") if isinstance(batch, dict) else None
    return len(patients) if isinstance(patients, list) else 0
