"""How categories are written as words in the files in circulation, and how a missing value is.

Each line holds the words for one category. They are compared without regard to case, quotation marks,
spaces, "-" and "_".
"""

import re
from collections.abc import Mapping

from heart.schema import MEASUREMENTS, OUTCOME

# What pandas, R, spreadsheets, and UCI's own and reprocessed files write; and -9, see `is_missing`.
MISSING = ("", "?", "na", "n/a", "nan", "null", "#n/a", "<na>")

_NO_YES = {"no": "n, false, f", "yes": "y, true, t"}
SYNONYMS: Mapping[str, Mapping[str, str]] = {
    "sex": {"female": "f, fem, woman", "male": "m, man"},
    "chest_pain_type": {
        "typical_angina": "typical, typ angina, ta, angina",
        "atypical_angina": "atypical, atyp angina, ata, nontypical, non typical, abnang",
        "non_anginal_pain": "non anginal, nonanginal, nap, notang",
        "asymptomatic": "asympt, asy",
    },
    "fasting_blood_sugar_over_120": _NO_YES,
    "resting_ecg": {
        "normal": "norm",
        "st_t_abnormality": "st, st t wave abnormality, having st t wave abnormality, abn",
        "left_ventricular_hypertrophy": "lvh, lv hypertrophy, left vent hyper, hyp",
    },
    "exercise_angina": _NO_YES,
    "st_slope": {"upsloping": "up", "flat": "", "downsloping": "down"},
    "thallium": {
        "normal": "norm",
        "fixed_defect": "fixed, fix",
        "reversible_defect": "reversible, reversable, reversable defect, rev",
    },
    OUTCOME.name: {
        "absence": "absent, no, n, false, f, healthy, buff, <50, no disease, no heart disease",
        "presence": "present, yes, y, true, t, sick, >50, >50 1, >50 2, >50 3, >50 4, disease",
    },
}


def plain(word: str) -> str:
    """A word in lower case, without quotation marks, parts separated by one space."""
    return re.sub(r"[\s_-]+", " ", word.lower().replace("'", "").replace('"', "")).strip()


WORDS: Mapping[str, Mapping[str, str]] = {
    m.name: {
        plain(word): choice.name
        for choice in m.choices
        for word in [choice.name, *filter(None, SYNONYMS[m.name][choice.name].split(","))]
    }
    for m in (*MEASUREMENTS, OUTCOME)
    if m.choices
}


def is_missing(cell: str) -> bool:
    """Whether a cell says that a value is missing: UCI's reprocessed files write -9."""
    text = cell.strip().lower()
    return text in MISSING or bool(re.fullmatch(r"-9([.,]0*)?", text))
