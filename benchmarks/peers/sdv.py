"""A Gaussian copula of sdv with its defaults: TRAIN.csv OUT.csv ROWS SEED CONTINUOUS,COLUMNS."""

import json
import sys
import time
import warnings

import pandas as pd
from sdv.metadata import Metadata
from sdv.single_table import GaussianCopulaSynthesizer


def main(source: str, out: str, rows: str, seed: str, continuous: str) -> None:
    """Write drawn rows, and print the processor seconds of the fit."""
    warnings.simplefilter("ignore")
    numbers = continuous.split(",")
    table = pd.read_csv(source, dtype=str).astype(dict.fromkeys(numbers, float))
    kinds = {c: "numerical" if c in numbers else "categorical" for c in table.columns}
    metadata = Metadata.load_from_dict(
        {"tables": {"patients": {"columns": {c: {"sdtype": kind} for c, kind in kinds.items()}}}}
    )
    synthesizer = GaussianCopulaSynthesizer(metadata)
    start = time.process_time()
    synthesizer.fit({"patients": table})
    seconds = time.process_time() - start
    # A fitted synthesizer always draws the same sequence of rows: each seed takes another part of it.
    count = int(rows)
    synthetic = synthesizer.sample((int(seed) + 1) * count)["patients"].tail(count)
    synthetic.to_csv(out, index=False)
    print(json.dumps({"seconds": seconds}))


if __name__ == "__main__":
    main(*sys.argv[1:])
