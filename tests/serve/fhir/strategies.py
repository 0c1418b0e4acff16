"""Predictions as the log keeps them, made by Hypothesis."""

from typing import Any

from hypothesis import strategies as st

from heart.schema import MEASUREMENTS, Measurement


def _values(measurement: Measurement) -> st.SearchStrategy[Any]:
    if measurement.choices:
        values: st.SearchStrategy[Any] = st.sampled_from([c.name for c in measurement.choices])
    elif measurement.step == 1:
        values = st.integers(int(measurement.low), int(measurement.high)).map(float)
    else:
        values = st.floats(measurement.low, measurement.high)
    return values if measurement.required else st.none() | values


PREDICTIONS = st.fixed_dictionaries(
    {
        **{measurement.name: _values(measurement) for measurement in MEASUREMENTS},
        "probability": st.floats(0, 1),
        "model_version": st.integers(1, 10**6).map(str),
    }
)
