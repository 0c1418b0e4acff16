"""Tables of patients, and a model to score them with."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from heart.registry.publishing import fictional_rows
from heart.schema import MEASUREMENTS, decode
from serve.batch import local
from serve.batch.layout import Choice
from serve.batch.outcome import Report
from serve.batch.run import Engine, Options, run
from serve.batch.storage import Place
from tests.serve.small_service import model

ROWS = fictional_rows(500, seed=3)
Score = Callable[..., Report]
TWO_THREADS = partial(local.run, threads=2)


def table(rows: Any = ROWS) -> pa.Table:
    """Patients as a table of text and numbers, in the schema's words."""
    texts = decode(rows)
    return pa.table(
        {
            m.name: [t or None for t in texts[m.name]]
            if m.choices
            else [float(t) if t else None for t in texts[m.name]]
            for m in MEASUREMENTS
        }
    )


@pytest.fixture(scope="session")
def onnx(model_of: Callable[..., bytes]) -> bytes:
    """A model."""
    return model_of()


@pytest.fixture
def score(onnx: bytes) -> Score:
    """Score one place to another with the model."""

    def scored(
        source: Path | str,
        target: Path | str,
        keep: Sequence[str] = (),
        ignore: Sequence[str] = (),
        coding: str = "auto",
        drift: bool = False,
        raw_text: bool = False,
        engine: Engine = TWO_THREADS,
        **known: Any,
    ) -> Report:
        places = Place.of(str(source)), Place.of(str(target))
        choice = Choice(tuple(keep), tuple(ignore), coding)
        options = Options(*places, choice, drift, raw_text)
        return run(options, replace(model(), **known), onnx, engine)

    return scored
