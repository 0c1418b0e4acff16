"""ONNX and scikit-learn give the same risks, from the JSON of a patient on."""

import json
from typing import Any

import numpy as np
import pytest

from heart.ml.estimators import candidates
from heart.ml.onnx_export import export, predict
from heart.registry.publishing import fictional_rows
from heart.schema import MEASUREMENTS, decode
from serve.api.models import Patient
from serve.encoding import encode_rows, values_of
from tests.heart.registry.registry_fixture import patients as real_patients

CHUNK = 20_000


def as_json(rows: Any) -> list[str]:
    """Patients as programs send them."""
    table = decode(rows)
    columns = [
        [
            json.dumps(text if m.choices else float(text)) if text else "null"
            for text in table[m.name]
        ]
        for m in MEASUREMENTS
    ]
    template = ", ".join(f'"{m.name}": {{}}' for m in MEASUREMENTS)
    return ["{" + template.format(*cells) + "}" for cells in zip(*columns, strict=True)]


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("logistic_regression", CHUNK),
        ("gradient_boosting", CHUNK),
        pytest.param("logistic_regression", 1_000_000, marks=pytest.mark.heavy),
    ],
)
def test_the_api_encodes_so_that_onnx_and_scikit_learn_agree(name: str, count: int) -> None:
    models = candidates([0.1], trees=20, min_samples_leaf=5, seed=0)
    rows, outcome = real_patients()
    estimator = models[name][0].fit(rows.astype(np.float64), outcome)
    model = export(estimator).SerializeToString()

    for chunk in range(count // CHUNK):
        fictional = fictional_rows(CHUNK, seed=chunk)
        texts = as_json(fictional)
        given = encode_rows([values_of(Patient.model_validate_json(t).__dict__) for t in texts])
        np.testing.assert_allclose(given, fictional, rtol=1e-6)
        difference = (
            predict(model, given) - estimator.predict_proba(fictional.astype(np.float64))[:, 1]
        )
        assert np.abs(difference).max() < 1e-5
