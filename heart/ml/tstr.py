"""Train on synthetic, test on real (TSTR): the utility of synthetic patients for a model.

Esteban, Hyland and Raetsch (2017), "Real-valued (medical) time series generation with recurrent
conditional GANs". TRTR, train on real and test on real, is the comparison.
"""

import numpy as np
import pandas as pd

from heart import files
from heart.ml.estimators import ChainedLogisticRegression
from heart.ml.scores import roc_auc


def utility(train: pd.DataFrame, synthetic: pd.DataFrame) -> dict[str, float]:
    """ROC AUC on the real rows of each fold, of models trained on real, synthetic and both rows.

    The mean over the folds, and its standard deviation. The model is the pipeline's own.
    """
    scores: dict[str, list[float]] = {"trtr_auc": [], "tstr_auc": [], "merged_auc": []}
    for fold in sorted(train["fold"].unique()):
        held_out, outcome = files.encoded(train[train["fold"] == fold])
        real, y_real = files.encoded(train[train["fold"] != fold])
        drawn, y_drawn = files.encoded(synthetic[synthetic["fold"] == fold])
        # All synthetic rows together weigh as much as all real ones, so that the ridge has the same strength.
        weight_drawn = np.full(len(drawn), len(real) / len(drawn))
        for name, rows, y, weight in (
            ("trtr_auc", real, y_real, np.ones(len(real))),
            ("tstr_auc", drawn, y_drawn, weight_drawn),
            (
                "merged_auc",
                np.vstack([real, drawn]),
                np.append(y_real, y_drawn),
                np.append(np.ones(len(real)), weight_drawn),
            ),
        ):
            model = ChainedLogisticRegression().fit(rows, y, weight)
            scores[name].append(roc_auc(outcome, model.predict_proba(held_out)[:, 1]))
    means = {name: float(np.mean(values)) for name, values in scores.items()}
    return means | {f"{name}_std": float(np.std(values)) for name, values in scores.items()}
