"""The performance that nannyml's CBPE estimates without outcomes, with its defaults.

Its arguments are a file and the threshold. The file has for each n `reference`n [2, rows] and `windows`n [windows, 2,
patients]: risks, then outcomes, which are used of the reference only. It prints for each figure the
estimate and its sampling error [n, windows, 2].
"""

import json
import sys
from itertools import count
from typing import Any

import numpy as np
import pandas as pd
from nannyml import CBPE, disable_usage_logging

from benchmarks.peers.windows import ignore_warnings

FIGURES = ("accuracy", "roc_auc")


def frame(patients: Any, threshold: float) -> pd.DataFrame:
    """Risks and outcomes [2, patients] as a table, with predictions."""
    risks, outcomes = patients
    predictions = (risks >= threshold).astype(int)
    return pd.DataFrame({"risk": risks, "prediction": predictions, "y": outcomes})


def estimates(reference: Any, windows: Any, threshold: float) -> Any:
    """Estimate and sampling error by figure [figures, windows, 2]; each window is a chunk."""
    cbpe = CBPE(
        metrics=list(FIGURES), y_true="y", y_pred="prediction", y_pred_proba="risk",
        problem_type="classification_binary", chunk_size=windows.shape[2],
    )  # fmt: skip
    cbpe.fit(frame(reference, threshold))
    patients = frame(np.concatenate(windows, axis=1), threshold).drop(columns="y")
    results = cbpe.estimate(patients).filter(period="analysis").to_df()
    return [results[name][["value", "sampling_error"]].to_numpy().tolist() for name in FIGURES]


if __name__ == "__main__":
    ignore_warnings()
    disable_usage_logging()
    source, threshold = sys.argv[1], float(sys.argv[2])
    with np.load(source) as file:
        tables = dict(file)
    runs = []
    for n in count():
        if f"windows{n}" not in tables:
            break
        runs.append(estimates(tables[f"reference{n}"], tables[f"windows{n}"], threshold))
    print(json.dumps({name: [run[i] for run in runs] for i, name in enumerate(FIGURES)}))
