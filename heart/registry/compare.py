"""Compare two models on the same patients: `make compare A=rev B=rev`.

A model is named by a git revision or a DVC experiment, by `workspace` (the working tree), or as a registered
version: `version:3`, `version:champion`. Both are evaluated on the patients that both hold out, and by their
out-of-fold predictions for the patients that both trained on. Exit code: 0, or 3 if B is worse or mixed.
"""

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from heart import files
from heart.errors import UserError, run_main
from heart.ml import difference
from heart.ml.difference import MIXED, WORSE, Difference, Predictions
from heart.ml.onnx_export import predict
from heart.params import Registered
from heart.registry import publishing as registry
from heart.registry.aliases import THRESHOLD, aliases
from heart.schema import NAMES, OUTCOME

WORKSPACE, VERSION = "workspace", "version:"
BOOTSTRAP, SEED = 2000, 0
CLASS_ROWS = 5  # of each outcome: with fewer patients an interval says nothing
EXIT_WORSE = 3
# The tag of a version with the hash of a file by which DVC's cache knows it.
TAGS = {
    files.TEST: "test_md5",
    files.TRAIN: "train_md5",
    files.OUT_OF_FOLD: "out_of_fold_md5",
}


@dataclass(frozen=True)
class Candidate:
    """A model and the patients that it holds out and was trained on, by patient_id."""

    name: str
    model: bytes
    threshold: float
    test: pd.DataFrame
    train: pd.DataFrame
    out_of_fold: pd.DataFrame | None


@dataclass(frozen=True)
class Part:
    """The differences on one set of patients; `left_out` are those whose data differ between A and B."""

    patients: int
    with_disease: int
    left_out: int
    figures: dict[str, Difference]


@dataclass(frozen=True)
class Comparison:
    """B compared with A. `cross_validation` is None where a model has no out-of-fold predictions."""

    a: str
    b: str
    held_out: Part
    cross_validation: Part | None

    @property
    def verdict(self) -> str:
        """Whether B is better or worse, from ROC AUC and Brier score."""
        parts = [part.figures for part in (self.held_out, self.cross_validation) if part]
        return difference.overall(*parts)


def load(name: str) -> Candidate:
    """The model with this name. Raises UserError."""
    if name == WORKSPACE:
        return _candidate(name, _file, _threshold(Path("params.yaml").read_text()))
    if name.startswith(VERSION):
        return _version(name)
    read = partial(_revision, name)
    return _candidate(name, read, _threshold(read(Path("params.yaml")).decode()))


def _candidate(
    name: str, read: Callable[[Path], bytes], threshold: float, model: bytes | None = None
) -> Candidate:
    test, train = (_table(read(path)) for path in (files.TEST, files.TRAIN))
    try:
        out_of_fold = _table(read(files.OUT_OF_FOLD))
    except UserError:
        out_of_fold = None
    return Candidate(name, model or read(files.ONNX), threshold, test, train, out_of_fold)


def _file(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise UserError(f"{WORKSPACE}: {path} is not here: run `make repro`") from None


def _revision(revision: str, path: Path) -> bytes:
    """A file as of a git revision or an experiment, from DVC's cache or its remote."""
    import dvc.api
    from dvc.exceptions import DvcException

    try:
        content: bytes = dvc.api.read(str(path), rev=revision, mode="rb")
    except (DvcException, OSError) as error:
        raise UserError(
            f"{revision}: {path} cannot be read: {error}; expected a git revision, an experiment, "
            f"{WORKSPACE} or {VERSION}NUMBER whose data are in DVC's cache (`dvc pull`)"
        ) from error
    return content


def _version(name: str) -> Candidate:
    """A registered version, with the data from DVC's cache by the hashes in its tags."""
    client, model_name = registry.connect(), Registered.load().model_name
    wanted = name.removeprefix(VERSION)
    number = aliases(client, model_name).get(wanted, wanted)
    versions = {str(v.version): v for v in client.search_model_versions(f"name = '{model_name}'")}
    if number not in versions:
        known = ", ".join(sorted(versions, key=int)) or "none"
        raise UserError(f"{name}: {model_name} has no such version or alias; known: {known}")
    version = versions[number]

    def cached(path: Path) -> bytes:
        place, md5 = _cached(version, path), version.tags.get(TAGS[path], "")
        if place is None:
            commit = version.tags.get("git_commit", "")
            raise UserError(
                f"{name}: {path} with the hash {md5 or '(no tag)'} is not in DVC's cache: fetch the data "
                f"of its commit with `dvc fetch --all-commits`{f' ({commit})' if commit else ''}"
            )
        return place.read_bytes()

    return _candidate(name, cached, float(version.tags[THRESHOLD]), registry.load(version))


def _cached(version: Any, path: Path) -> Path | None:
    """A file of a version in DVC's cache, None if it is not there."""
    md5 = str(version.tags.get(TAGS[path], ""))
    place = files.CACHE / "files" / "md5" / md5[:2] / md5[2:]
    return place if md5 and place.is_file() else None


def trained_on(version: Any) -> dict[str, float] | None:
    """The patients that a version was trained on, each with its out-of-fold risk; None if that is not known here."""
    place = _cached(version, files.OUT_OF_FOLD)
    if place is None:
        return None
    table = _table(place.read_bytes())
    return dict(zip(table["patient_id"], table["probability"].astype(float), strict=True))


def _threshold(text: str) -> float:
    return float(yaml.safe_load(text)["evaluate"]["threshold"])


def _table(content: bytes) -> pd.DataFrame:
    table = pd.read_csv(BytesIO(content), dtype=str, keep_default_na=False)
    return table.drop_duplicates("patient_id").set_index("patient_id", drop=False)


def compare(a: Candidate, b: Candidate) -> Comparison:
    """B compared with A. Raises UserError if they have too few patients in common."""
    rows, left_out = _common(a.test, b.test)
    trained = rows.index.isin(a.train.index) | rows.index.isin(b.train.index)
    rows = rows[~trained]
    held_out = evaluate(rows, (a.model, a.threshold), (b.model, b.threshold), left_out)
    if held_out is None:
        ill = int((rows[OUTCOME.name] == OUTCOME.choices[1].name).sum())
        raise UserError(
            f"{a.name} and {b.name} hold out {len(rows)} patients in common, {ill} with disease; "
            f"expected at least {CLASS_ROWS} with and {CLASS_ROWS} without"
        )
    return Comparison(a.name, b.name, held_out, _cross_validation(a, b))


def evaluate(
    rows: pd.DataFrame, a: tuple[bytes, float], b: tuple[bytes, float], left_out: int = 0
) -> Part | None:
    """Two models, each with its threshold, on patients; None for too few of one outcome."""
    x, y = files.encoded(rows)
    if _too_few(y):
        return None
    first, second = (
        Predictions(predict(model, x).astype(float), threshold) for model, threshold in (a, b)
    )
    figures = difference.differences(y.astype(float), first, second, BOOTSTRAP, SEED)
    return Part(len(y), int(y.sum()), left_out, figures)


def _too_few(outcome: Any) -> bool:
    return bool(min(outcome.sum(), len(outcome) - outcome.sum()) < CLASS_ROWS)


def _common(a: pd.DataFrame, b: pd.DataFrame) -> tuple[pd.DataFrame, int]:
    """The rows of patients in both tables with equal data, and the number of those with other data."""
    columns = [*NAMES, OUTCOME.name]
    ids = a.index.intersection(b.index)
    equal = (a.loc[ids, columns] == b.loc[ids, columns]).all(axis=1)
    return b.loc[ids][equal], int((~equal).sum())


def _cross_validation(a: Candidate, b: Candidate) -> Part | None:
    if a.out_of_fold is None or b.out_of_fold is None:
        return None
    rows, left_out = _common(a.train, b.train)
    ids = rows.index.intersection(a.out_of_fold.index).intersection(b.out_of_fold.index)
    _, y = files.encoded(rows.loc[ids])
    if _too_few(y):
        return None
    first, second = (
        Predictions(table.loc[ids, "probability"].astype(float).to_numpy(), threshold)
        for table, threshold in ((a.out_of_fold, a.threshold), (b.out_of_fold, b.threshold))
    )
    figures = difference.differences(y.astype(float), first, second, BOOTSTRAP, SEED)
    return Part(len(y), int(y.sum()), left_out, figures)


def parts(comparison: Comparison) -> list[tuple[str, Part]]:
    """The sets of patients with their titles."""
    named = [
        ("Held-out patients", comparison.held_out),
        ("Cross-validation (out-of-fold predictions)", comparison.cross_validation),
    ]
    return [(title, part) for title, part in named if part is not None]


def as_text(comparison: Comparison) -> str:
    """For a terminal."""
    blocks = [f"A: {comparison.a}\nB: {comparison.b}"]
    for title, part in parts(comparison):
        rows = [HEADING, *difference.cells(part.figures)]
        widths = [max(len(row[column]) for row in rows) for column in range(len(HEADING))]
        lines = [
            "  "
            + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in rows
        ]
        blocks.append("\n".join([_title(title, part), *lines]))
    return "\n\n".join([*blocks, _conclusion(comparison)])


def as_markdown(comparison: Comparison) -> str:
    """For a pull request and the registry."""
    blocks = [f"A: `{comparison.a}`, B: `{comparison.b}`"]
    for title, part in parts(comparison):
        rows = [HEADING, ["---"] * len(HEADING), *difference.cells(part.figures)]
        table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
        blocks.append(f"**{_title(title, part)}**\n\n{table}")
    return "\n\n".join([*blocks, _conclusion(comparison)])


HEADING = ["figure", "A", "B", "B - A (95 % interval)", "B is"]


def _title(title: str, part: Part) -> str:
    left_out = f"; {part.left_out} left out, whose data differ" if part.left_out else ""
    return f"{title}: {part.patients}, {part.with_disease} with disease{left_out}"


def _conclusion(comparison: Comparison) -> str:
    return f"B against A, by ROC AUC and Brier score: {comparison.verdict}."


def as_json(comparison: Comparison) -> str:
    """For programs."""

    def document(part: Part | None) -> dict[str, Any] | None:
        if part is None:
            return None
        figures = difference.as_document(part.figures)
        counts = {"patients": part.patients, "with_disease": part.with_disease}
        return counts | {"left_out": part.left_out, "figures": figures}

    return json.dumps(
        {
            "a": comparison.a,
            "b": comparison.b,
            "verdict": comparison.verdict,
            "held_out": document(comparison.held_out),
            "cross_validation": document(comparison.cross_validation),
        },
        indent=2,
    )


FORMATS = {"text": as_text, "markdown": as_markdown, "json": as_json}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m heart.registry.compare", description=__doc__)
    parser.add_argument("a", help="the model to compare with")
    parser.add_argument("b", help="the model that is judged")
    parser.add_argument("--format", choices=FORMATS, default="text")
    options = parser.parse_args()
    comparison = compare(load(options.a), load(options.b))
    print(FORMATS[options.format](comparison))
    sys.exit(EXIT_WORSE if comparison.verdict in (WORSE, MIXED) else 0)


if __name__ == "__main__":
    run_main(main)
