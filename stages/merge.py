"""Stage merge: real and synthetic training rows in one table, with their source.

Its figures measure the utility of the synthetic rows for a model.
"""

import pandas as pd

from heart import files
from heart.errors import UserError, run_main
from heart.ml.tstr import utility
from heart.schema import NAMES, OUTCOME
from heart.subsample import subsample
from stages import params

MAX_ROWS = 5000  # real patients for the figures; of more, a stratified subsample
COLUMNS = ["patient_id", "source", "fold", *NAMES, OUTCOME.name]


def merge(train: pd.DataFrame, synthetic: pd.DataFrame, rows: int) -> pd.DataFrame:
    """All real rows and the first `rows` synthetic ones of each generator.

    The `fold` of a real row is its own; that of a synthetic row is the one that its generator was fitted
    without, or `all`.
    """
    smallest = int(synthetic["fold"].value_counts().min())
    if rows > smallest:
        raise UserError(f"merge.rows is {rows}, expected at most {smallest} (synthesize.rows)")
    drawn = synthetic.groupby("fold", sort=False).head(rows)
    drawn = drawn.assign(patient_id="", source=files.SYNTHETIC_SOURCE)
    return pd.concat([train[COLUMNS], drawn[COLUMNS]], ignore_index=True)


def main() -> None:
    options = params.Merge.load()
    train, synthetic = files.read_table(files.TRAIN), files.read_table(files.SYNTHETIC)
    merged = merge(train, synthetic, options.rows)
    sample = train[subsample(train, MAX_ROWS, seed=0)]
    files.write_table(files.MERGED, merged)
    files.write_metrics(
        "merge",
        {
            "rows": len(merged),
            "by_source": merged["source"].value_counts().to_dict(),
            "presence_by_source": merged.groupby("source")[OUTCOME.name]
            .apply(lambda outcome: float((outcome == "presence").mean()))
            .to_dict(),
            **utility(sample, synthetic),
        },
    )


if __name__ == "__main__":
    run_main(main)
