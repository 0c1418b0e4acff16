"""The unit in which cholesterol is entered. The model, the API and the log have mg/dl."""

from dataclasses import replace
from typing import Any

from heart.locale.language import Language, bounds, label
from heart.locale.language import unit as unit_text
from heart.schema import BY_NAME, Measurement

UNIT = "cholesterol_unit"  # id of the switch
MG_DL, MMOL_L = "mg/dl", "mmol/l"
MG_DL_PER_MMOL_L = 38.67  # a mole of cholesterol has 386.7 g

_IN_MG_DL = BY_NAME["cholesterol"]
_IN_MMOL_L = replace(
    _IN_MG_DL,
    unit=MMOL_L,
    low=round(_IN_MG_DL.low / MG_DL_PER_MMOL_L, 2),
    high=round(_IN_MG_DL.high / MG_DL_PER_MMOL_L, 2),
    step=0.01,
)
# In the order of the switch.
CHOLESTEROL = {MG_DL: _IN_MG_DL, MMOL_L: _IN_MMOL_L}


def entered(measurement: Measurement, unit: Any) -> Measurement:
    """The measurement as it is entered: cholesterol in the chosen unit, mg/dl for any other text."""
    is_mmol = measurement.name == _IN_MG_DL.name and unit == MMOL_L
    return _IN_MMOL_L if is_mmol else measurement


def in_schema_unit(measurement: Measurement, value: Any) -> Any:
    """The value of a measurement of `entered` in the schema's unit. Call it once."""
    if measurement.unit != MMOL_L or value is None:
        return value
    return float(round(value * MG_DL_PER_MMOL_L))


def cholesterol_label(language: Language) -> str:
    """The label of the field, with the range in each unit."""
    ranges = [f"{bounds(m, language)} {unit_text(m, language)}" for m in CHOLESTEROL.values()]
    return f"{label(_IN_MG_DL, language)} ({', '.join(ranges)})"
