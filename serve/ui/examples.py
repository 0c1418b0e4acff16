"""Patients to fill into the form."""

from typing import Any

from serve.api.models import EXAMPLE

EXAMPLES: dict[str, dict[str, Any]] = {
    "example_low": {
        "age": 45,
        "sex": "female",
        "chest_pain_type": "non_anginal_pain",
        "resting_bp": 118,
        "cholesterol": 205,
        "fasting_blood_sugar_over_120": "no",
        "resting_ecg": "normal",
        "max_heart_rate": 172,
        "exercise_angina": "no",
        "st_depression": 0.0,
        "st_slope": "upsloping",
        "major_vessels": 0,
        "thallium": "normal",
    },
    "example_middle": EXAMPLE,
    "example_high": {
        "age": 67,
        "sex": "male",
        "chest_pain_type": "asymptomatic",
        "resting_bp": 160,
        "cholesterol": 286,
        "fasting_blood_sugar_over_120": "no",
        "resting_ecg": "left_ventricular_hypertrophy",
        "max_heart_rate": 108,
        "exercise_angina": "yes",
        "st_depression": 1.5,
        "st_slope": "flat",
        "major_vessels": 3,
        "thallium": "reversible_defect",
    },
    "example_little": {
        "age": 62,
        "sex": "female",
        "chest_pain_type": "atypical_angina",
        "resting_bp": 138,
    },
}
