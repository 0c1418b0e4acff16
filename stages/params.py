"""The sections of params.yaml: one class a stage."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from heart.params import Section

Fraction = Annotated[float, Field(gt=0, lt=1)]
Count = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
Margin = Annotated[float, Field(ge=0, lt=0.5)]
Weight = Annotated[float, Field(ge=0, le=10)]
MaxRows = Annotated[int, Field(ge=100)]  # of a subsample (heart/subsample.py)


# The names of heart/dataset/codings.py, written out: only stage prepare depends on that module.
Coding = Literal[
    "words", "uci", "uci_from_0", "uci_from_0_thallium_from_1", "heart_csv", "heart_csv_from_1"
]
CodedColumn = Literal["chest_pain_type", "resting_ecg", "st_slope", "major_vessels", "thallium"]


class Prepare(Section):
    stage = "prepare"
    format: Literal["auto", Coding]
    codings: dict[CodedColumn, Coding]
    invert_label: bool
    keep: list[str]
    ignore: list[str]
    bad_rows: Literal["refuse", "drop"]


class Split(Section):
    stage = "split"
    test_fraction: Fraction
    folds: Annotated[int, Field(ge=3, le=20)]  # two are left for the choice inside each
    seed: Seed


class Synthesize(Section):
    stage = "synthesize"
    model: Literal["ctgan", "tvae", "dp"]
    epsilon: Annotated[float, Field(gt=0, le=100)]
    delta: Annotated[float, Field(gt=0, lt=0.01, strict=False)]  # to YAML, 1e-05 is a text
    epochs: Count
    batch_size: Annotated[int, Field(ge=2, multiple_of=2)]
    embedding_dim: Count
    layers: Annotated[list[Count], Field(min_length=1)]
    learning_rate: Annotated[float, Field(gt=0)]
    rows: Count
    max_rows: MaxRows
    seed: Seed
    device: Literal["cpu", "cuda", "auto"]


class Merge(Section):
    stage = "merge"
    rows: Count


class Train(Section):
    stage = "train"
    model: Literal[
        "auto", "logistic_regression", "random_forest", "extra_trees", "gradient_boosting"
    ]
    logistic_c: Annotated[list[Annotated[float, Field(gt=0)]], Field(min_length=1)]
    trees: Count
    min_samples_leaf: Count
    synthetic_weights: Annotated[list[Weight], Field(min_length=1)]
    max_rows: MaxRows
    seed: Seed


class Reference(Section):
    stage = "reference"
    windows: Annotated[list[Count], Field(min_length=1)]
    earlier: Annotated[int, Field(ge=0)]
    step: Count
    stream: Count
    false_alarms: Fraction
    bins: Annotated[int, Field(ge=2)]
    simulations: Annotated[int, Field(ge=1000)]
    check_streams: Count
    max_rows: MaxRows
    seed: Seed


class Evaluate(Section):
    stage = "evaluate"
    threshold: Fraction
    bootstrap: Count
    bins: Annotated[int, Field(ge=2)]
    seed: Seed


class Floors(BaseModel):
    """What a model must reach on the held-out rows, whatever the champion does."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)
    roc_auc: Fraction
    recall: Fraction
    brier: Fraction
    group_roc_auc: Fraction


class Margins(BaseModel):
    """By how much a challenger may be worse than the champion, on the same held-out patients."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)
    roc_auc: Margin
    brier: Margin
    recent_brier: Margin
    frozen_roc_auc: Margin
    frozen_brier: Margin
    group_brier: Margin


class Register(Section):
    stage = "register"
    model_name: Annotated[str, Field(pattern=r"^[a-z0-9-]+$")]
    margins: Margins
    confidence: Fraction
    recent_outcomes: Count
    floors: Floors
    bootstrap: Count
    seed: Seed


SECTIONS: dict[str, type[Section]] = {
    section.stage: section
    for section in (Prepare, Split, Synthesize, Merge, Train, Reference, Evaluate, Register)
}
