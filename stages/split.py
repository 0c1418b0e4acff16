"""Stage split: test rows and training folds, by a hash of the patient.

The side depends only on the patient's id: later rows never move a patient, and rows of one patient (or of
two with the same measurements) are never on both sides.
"""

import hashlib

import pandas as pd

from heart import files
from heart.errors import UserError, run_main
from heart.schema import OUTCOME
from stages import params


def draw(patient_id: str, seed: int) -> float:
    """A number in [0, 1) that depends only on patient and seed."""
    digest = hashlib.sha256(f"{seed}:{patient_id}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def split(
    prepared: pd.DataFrame, test_fraction: float, folds: int, seed: int
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Training rows, with a column `fold` (0 to folds - 1, stratified by outcome), and test rows."""
    draws = prepared["patient_id"].map(lambda patient: draw(patient, seed))
    test = prepared[draws < test_fraction].copy()
    train = prepared[draws >= test_fraction].copy()
    for side, rows in (("training", train), ("test", test)):
        smallest = rows[OUTCOME.name].value_counts().reindex(["absence", "presence"], fill_value=0)
        if smallest.min() < folds:
            raise UserError(
                f"{files.PREPARED}: {len(rows)} {side} rows with {smallest['presence']} presence and "
                f"{smallest['absence']} absence, expected at least {folds} (split.folds) of each"
            )
    train.insert(2, "fold", _folds(train, draws[train.index], folds))
    return train, test


def _folds(train: pd.DataFrame, draws: pd.Series, folds: int) -> pd.Series:
    """Assign the patients of each outcome to the folds in turn, in the order of their draws."""
    first = train.assign(draw=draws).drop_duplicates("patient_id").sort_values("draw")
    folds_of_first = first.groupby(OUTCOME.name).cumcount() % folds
    return train["patient_id"].map(dict(zip(first["patient_id"], folds_of_first, strict=True)))


def main() -> None:
    options = params.Split.load()
    prepared = files.read_table(files.PREPARED)
    train, test = split(prepared, options.test_fraction, options.folds, options.seed)
    files.write_table(files.TRAIN, train)
    files.write_table(files.TEST, test)
    files.write_metrics(
        "split",
        {
            side: {
                "rows": len(rows),
                "presence": int((rows[OUTCOME.name] == "presence").sum()),
                "by_source": rows["source"].value_counts().to_dict(),
            }
            for side, rows in (("train", train), ("test", test))
        },
    )


if __name__ == "__main__":
    run_main(main)
