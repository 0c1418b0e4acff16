"""`make synthetic-data`: synthetic patients to hand on, with a data sheet and Croissant metadata beside them.

The rows come from one generator, that of all training patients: those of the pipeline (data/synthetic.csv), or with
MODEL=dp a new draw from noisy tables. The file has no patient ids and says `synthetic` in every row, so that stage
prepare refuses it.
"""

import argparse
import datetime as dt
import json
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
from pydantic import ConfigDict, Field

from heart import files
from heart.errors import UserError, run_main
from heart.governance.answers import table as tables
from heart.params import Section
from heart.synthesis import marginals
from heart.synthesis.datasheet import COLUMNS, SOURCE, Description, croissant, sheet

OUT = Path("reports/synthetic_patients.csv")
FIGURES = {
    "column_shapes": "similarity of single columns, 0 to 1",
    "pair_trends": "similarity of pairs of columns, 0 to 1",
}


class Synthesize(Section):
    """What is needed of the stage's section."""

    model_config = ConfigDict(extra="ignore")
    stage = "synthesize"
    model: str
    epsilon: float
    delta: Annotated[float, Field(strict=False)]  # to YAML, 1e-05 is a text


def beside(path: Path) -> tuple[Path, Path]:
    """The data sheet and the Croissant metadata of a file."""
    return path.with_suffix(".md"), path.with_suffix(".croissant.json")


def refuse_existing(path: Path, force: bool) -> None:
    """Raises UserError where a file would be overwritten, or would be both table and data sheet."""
    if path.suffix != ".csv":
        raise UserError(f"OUT is {str(path)!r}, expected a file whose name ends in .csv")
    if existing := [str(p) for p in (path, *beside(path)) if p.exists() and not force]:
        raise UserError(
            f"{', '.join(existing)} exists already: give another OUT, or FORCE=1 to overwrite"
        )


def of_the_pipeline(rows: int, model: str, today: str) -> tuple[pd.DataFrame, Description]:
    """Rows of the generator of all patients, and the figures of stage synthesize."""
    table = files.read_table(files.SYNTHETIC)
    table = table[table["fold"] == files.ALL]
    if rows > len(table):
        raise UserError(
            f"ROWS is {rows}, expected at most {len(table)}, as {files.SYNTHETIC} has: raise synthesize.rows and run "
            "`make repro`, or give MODEL=dp"
        )
    metrics = json.loads((files.METRICS / "synthesize.json").read_text())
    figures = {label: f"{metrics[key]:.3f}" for key, label in FIGURES.items() if key in metrics}
    if attack := metrics.get("membership_attack"):
        figures["ROC AUC of a membership attack (95 % interval)"] = (
            f"{attack['auc']:.3f} ({attack['low']:.3f} to {attack['high']:.3f})"
        )
    guarantee = {key: value for key, value in metrics.items() if key.startswith("dp_")}
    if (model == "dp") != bool(guarantee):
        raise UserError(
            f"{files.SYNTHETIC} is not from synthesize.model {model!r} of params.yaml: run `make repro` first"
        )
    return table.head(rows), Description(model, rows, today, *_origin(), figures, guarantee)


def new_private(
    rows: int, epsilon: float, delta: float, today: str
) -> tuple[pd.DataFrame, Description]:
    """A new draw from noisy tables of the training patients."""
    privacy = marginals.privacy_of(epsilon, delta)
    sampler = marginals.fit(files.read_table(files.TRAIN), privacy)
    guarantee = marginals.guarantee(privacy, 1)
    description = Description("dp", rows, today, *_origin(), {}, guarantee)
    return sampler.sample(rows, np.random.default_rng()), description


def _origin() -> tuple[str, str]:
    """License and citation of the patients' table, if all patients are from one that is known."""
    known = (
        tables("data_sets").get(files.md5(files.RAW), {})
        if files.input_files() == [files.RAW]
        else {}
    )
    return known.get("license_url", ""), known.get("citation", "")


def drawn(options: argparse.Namespace, today: str) -> tuple[pd.DataFrame, Description]:
    """The rows that are asked for. Raises UserError."""
    section = Synthesize.load()
    model = options.model or section.model
    if options.epsilon is not None and model != "dp":
        raise UserError(
            f"EPSILON is {options.epsilon:g} but the model is {model}: expected MODEL=dp"
        )
    if model == "dp" and (section.model != "dp" or options.epsilon is not None):
        epsilon = section.epsilon if options.epsilon is None else options.epsilon
        return new_private(options.rows, epsilon, section.delta, today)
    if model != section.model:
        raise UserError(
            f"MODEL is {model!r}, but {files.SYNTHETIC} is of {section.model}: expected {section.model} or dp, or set "
            "synthesize.model in params.yaml and run `make repro`"
        )
    return of_the_pipeline(options.rows, model, today)


def write(path: Path, table: pd.DataFrame, description: Description) -> None:
    """Write the table last: what describes it is there when it is."""
    names = [measurement.name for measurement in COLUMNS]
    marked = table[names]
    marked.insert(0, SOURCE, files.SYNTHETIC_SOURCE)
    content = marked.to_csv(index=False, lineterminator="\n").encode()
    text, metadata = beside(path)
    for target, data in (
        (text, sheet(path.name, description).encode()),
        (metadata, croissant(path, content, description)),
        (path, content),
    ):
        with files.replacing(target) as part:
            part.write_bytes(data)


def _positive(kind: Any) -> Any:
    def parse(text: str) -> Any:
        value = kind(text)
        if not 0 < value < float("inf"):
            raise ValueError
        return value

    parse.__name__ = "number above 0"
    return parse


def main() -> None:
    parser = argparse.ArgumentParser(description="Write synthetic patients to hand on.")
    parser.add_argument("--rows", type=_positive(int), required=True)
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--model", choices=("dp", "ctgan", "tvae"))
    parser.add_argument("--epsilon", type=_positive(float))
    parser.add_argument("--force", action="store_true")
    options = parser.parse_args()
    refuse_existing(options.out, options.force)
    table, description = drawn(options, dt.datetime.now(dt.UTC).date().isoformat())
    write(options.out, table, description)
    for path in (options.out, *beside(options.out)):
        print("->", path)


if __name__ == "__main__":
    run_main(main)
