"""Train on synthetic, test on real (TSTR): what synthetic patients are worth to a model.

Esteban, Hyland and Raetsch (2017), "Real-valued (medical) time series generation with recurrent
conditional GANs". TRTR trains on real patients instead, and is what TSTR is compared with.
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
        fake, y_fake = files.encoded(synthetic[synthetic["fold"] == fold])
        # All synthetic rows together weigh as much as all real ones: the ridge means the same.
        each = np.full(len(fake), len(real) / len(fake))
        for name, rows, y, weight in (
            ("trtr_auc", real, y_real, np.ones(len(real))),
            ("tstr_auc", fake, y_fake, each),
            (
                "merged_auc",
                np.vstack([real, fake]),
                np.append(y_real, y_fake),
                np.append(np.ones(len(real)), each),
            ),
        ):
            model = ChainedLogisticRegression().fit(rows, y, weight)
            scores[name].append(roc_auc(outcome, model.predict_proba(held_out)[:, 1]))
    means = {name: float(np.mean(values)) for name, values in scores.items()}
    return means | {f"{name}_std": float(np.std(values)) for name, values in scores.items()}
