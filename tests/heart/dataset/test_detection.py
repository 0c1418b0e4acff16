"""A coding is recognized correctly or not at all: the 303 patients in each coding, and samples of them."""

import csv
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest

from heart import files
from heart.dataset.codings import NAMES as CODINGS
from heart.dataset.codings import NUMBERED
from heart.dataset.detection import Settings, detect
from heart.dataset.likelihood import Cells, Columns
from heart.schema import NAMES, SchemaError

Patient = Mapping[str, str]
with (Path(__file__).parents[3] / files.RAW).open() as raw:
    PATIENTS: list[Patient] = list(csv.DictReader(raw))
SHORT = [
    "age",
    "sex",
    "cp",
    "trestbps",
    "chol",
    "fbs",
    "restecg",
    "thalach",
    "exang",
    "oldpeak",
    "slope",
    "ca",
    "thal",
]


def columns(rows: Iterable[Patient]) -> dict[str, Cells]:
    cells = {name: [row[name] for row in rows] for name in NAMES}
    return {name: column(texts) for name, texts in cells.items()}


def column(texts: Sequence[str]) -> Cells:
    distinct, positions = np.unique(np.array(texts, dtype=object), return_inverse=True)
    return Cells(distinct.tolist(), positions)


BINARY = {
    "sex": {"female": "0", "male": "1"},
    "fasting_blood_sugar_over_120": {"no": "0", "yes": "1"},
    "exercise_angina": {"no": "0", "yes": "1"},
}


def written(patients: Iterable[Patient], coding: str, **others: str) -> list[Patient]:
    """Patients in a coding; single columns may be in another one."""
    code = BINARY | {
        name: {text: code for code, text in NUMBERED[others.get(name, coding)][name].items()}
        for name in NUMBERED[coding]
    }
    return [
        {name: code.get(name, {}).get(patient[name], patient[name]) for name in NAMES}
        for patient in patients
    ]


def outcome(table: Columns) -> str:
    """The name of the coding, or nothing if it is not recognized."""
    try:
        return detect(table).coding.name
    except SchemaError:
        return ""


def refusal(table: Columns) -> str:
    with pytest.raises(SchemaError) as error:
        detect(table)
    return str(error.value)


def rows(*lines: str) -> Columns:
    cells = [dict(zip(SHORT, line.split(","), strict=True)) for line in lines]
    return columns([dict(zip(NAMES, row.values(), strict=True)) for row in cells])


CODINGS_OF_CODES = pytest.mark.parametrize("coding", NUMBERED)


@CODINGS_OF_CODES
def test_the_whole_data_set_is_recognized_in_each_coding(coding: str) -> None:
    patients = written(PATIENTS, coding)

    assert outcome(columns(patients)) == coding
    assert outcome(columns((patients * 4)[:1025])) == coding
    assert outcome(columns(patients[::-1])) == coding


def verdicts_of(coding: str, rows: int, draws: int) -> Counter[str]:
    """How often the coding of a random sample is right, refused or wrong."""
    random = np.random.default_rng([rows, *coding.encode()])
    patients = written(PATIENTS, coding)
    verdicts = {coding: "right", "": "refused"}
    return Counter(
        verdicts.get(outcome(columns([patients[i] for i in sample])), "wrong")
        for sample in (random.choice(len(patients), rows, replace=False) for _ in range(draws))
    )


@CODINGS_OF_CODES
@pytest.mark.parametrize(("rows", "right"), [(3, 0), (10, 8), (50, 20)])
def test_no_sample_is_read_in_a_wrong_coding(coding: str, rows: int, right: int) -> None:
    verdicts = verdicts_of(coding, rows, draws=20)

    assert verdicts["wrong"] == 0
    assert verdicts["right"] >= right


@pytest.mark.heavy
@pytest.mark.parametrize("rows", [3, 5, 10, 20, 30, 50, 100, 200, 303])
def test_none_of_two_thousand_samples_is_read_in_a_wrong_coding(
    rows: int, capsys: pytest.CaptureFixture[str]
) -> None:
    verdicts = sum((verdicts_of(coding, rows, draws=400) for coding in NUMBERED), Counter[str]())

    with capsys.disabled():
        print(f"\n{rows} rows: {dict(verdicts)}")
    assert verdicts["wrong"] == 0
    assert verdicts["right"] >= (2000 if rows >= 50 else 0)


@CODINGS_OF_CODES
def test_a_few_bad_cells_change_nothing(coding: str) -> None:
    patients = written(PATIENTS, coding)
    bad = [{**patient, "thallium": "9", "st_slope": "x"} for patient in patients[:40]]
    foreign = [{**patients[40], "thallium": "7"}, {**patients[41], "resting_ecg": "normal"}]

    assert outcome(columns([*bad, *foreign, *patients[42:]])) == coding


@CODINGS_OF_CODES
def test_measurements_that_are_missing_everywhere_are_no_obstacle(coding: str) -> None:
    table = columns(written(PATIENTS, coding))
    table["major_vessels"] = column(["?"] * len(PATIENTS))
    del table["st_depression"], table["resting_ecg"]

    assert outcome(table) == coding


def test_codes_are_numbers_however_they_are_written() -> None:
    table = columns(written(PATIENTS, "uci"))
    decimal = {
        name: Cells(
            [f" {text}.0" if text.isdigit() else text for text in cells.texts], cells.positions
        )
        for name, cells in table.items()
    }

    assert outcome(decimal) == "uci"


def test_words_need_no_coding() -> None:
    assert outcome(columns(PATIENTS)) == "words"
    assert outcome(columns([{**PATIENTS[0], "thallium": ""}])) == "words"


@pytest.mark.parametrize("name", ["chest_pain_type", "resting_ecg", "st_slope", "thallium"])
def test_a_column_of_words_among_codes_leaves_the_coding_of_the_others(name: str) -> None:
    patients = written(PATIENTS, "heart_csv")
    mixed = [{**row, name: own[name]} for row, own in zip(patients, PATIENTS, strict=True)]

    detected = detect(columns(mixed))

    assert detected.coding.name == "heart_csv"
    assert detected.coding.columns[name] == "words"
    assert name not in detected.evidence


def test_codes_in_a_column_of_words_are_no_evidence() -> None:
    patients = written(PATIENTS, "uci")
    words = [
        {**row, "thallium": own["thallium"]} for row, own in zip(patients, PATIENTS, strict=True)
    ]
    mixed = [{**words[0], "thallium": "1"}, {**words[1], "thallium": "2"}, *words[2:]]

    coding = detect(columns(mixed)).coding

    assert coding.columns["thallium"] == "words"
    with pytest.raises(SchemaError):
        coding.translate("thallium", "1")


# Small tables


FROM_0_THALLIUM_FROM_0 = (
    "61,1,3,141,251,0,2,121,1,2.1,1,2,2",
    "58,0,3,133,277,0,2,131,1,1.7,1,1,2",
    "49,1,0,127,219,0,0,171,0,0.3,0,0,0",
    "44,0,2,119,203,0,0,168,0,0.2,0,0,1",
)
FROM_0_THALLIUM_FROM_1 = tuple(f"{line[:-1]}{int(line[-1]) + 1}" for line in FROM_0_THALLIUM_FROM_0)


def test_four_rows_that_two_codings_fit_are_refused_with_both_the_columns_and_the_setting() -> None:
    message = refusal(rows(*FROM_0_THALLIUM_FROM_1))

    assert "uci_from_0_thallium_from_1, heart_csv fit" in message
    assert "they differ in chest_pain_type, resting_ecg, st_slope, thallium" in message
    assert "4 different" in message
    assert "set prepare.format to one of uci_from_0_thallium_from_1, heart_csv" in message


def test_thallium_alone_tells_the_two_codings_from_0_apart() -> None:
    message = refusal(rows(*FROM_0_THALLIUM_FROM_0))

    assert "uci_from_0, uci_from_0_thallium_from_1 fit; they differ in thallium, and" in message
    assert "prepare.codings: {thallium: uci_from_0}" in message


def test_copies_of_rows_are_no_further_evidence() -> None:
    assert outcome(rows(*FROM_0_THALLIUM_FROM_1 * 50)) == ""


def test_one_row_with_a_code_of_one_coding_alone_decides() -> None:
    assert outcome(rows("63,1,1,145,233,1,2,150,0,2.3,3,0,6")) == "uci"


def test_columns_that_all_codings_write_alike_need_no_coding() -> None:
    table = {name: column(["50", "60"] if name == "age" else ["0", "1"]) for name in ("age", "sex")}

    assert detect(table).coding.translate("sex", "1") == "male"
    assert detect(table).evidence == {}


@pytest.mark.parametrize("cell", ["", "?", "x", "9"])
def test_a_table_without_any_known_code_is_refused_with_all_codings(cell: str) -> None:
    message = refusal({"age": column(["50"]), "sex": column([cell]), "thallium": column([cell])})

    assert f"set prepare.format to one of {', '.join(CODINGS)}" in message


def test_a_heading_of_one_coding_is_evidence() -> None:
    table = columns(written(PATIENTS[:30], "uci_from_0"))

    without, with_heading = detect(table), detect(table, headings=["condition"])

    assert without.coding.name == with_heading.coding.name == "uci_from_0"
    assert with_heading.evidence["thallium"] > without.evidence["thallium"]


def test_the_coding_of_a_column_that_is_set_is_not_doubted() -> None:
    table = rows(*FROM_0_THALLIUM_FROM_0)

    detected = detect(table, Settings(columns={"thallium": "uci_from_0"}))

    assert detected.coding.columns["thallium"] == "uci_from_0"
    assert detected.coding.columns["chest_pain_type"] == "uci_from_0"


def test_the_remedy_is_in_the_terms_of_the_user() -> None:
    settings = Settings(name="--coding", column="--coding {}", pair="{}={}")

    with pytest.raises(SchemaError) as error:
        detect(rows(*FROM_0_THALLIUM_FROM_0), settings)

    assert "set --coding to one of uci_from_0, uci_from_0_thallium_from_1" in str(error.value)
    assert "--coding thallium=uci_from_0" in str(error.value)


# One column in another coding than the rest

# Not the resting ECG: its frequencies vary so much between hospitals that they tell nothing alone.
COLUMNS = ("chest_pain_type", "st_slope", "thallium")


@pytest.mark.parametrize("name", COLUMNS)
@pytest.mark.parametrize("other", NUMBERED)
@pytest.mark.parametrize("coding", NUMBERED)
def test_a_column_in_another_coding_than_the_rest_is_read_right_or_refused(
    coding: str, other: str, name: str
) -> None:
    patients = written(PATIENTS, coding, **{name: other})
    try:
        result = detect(columns(patients)).coding
    except SchemaError:
        return

    texts = [result.translate(name, row[name]) for row in patients]
    assert texts == [own[name] for own in PATIENTS]


def test_a_column_whose_codes_the_rest_excludes_is_read_by_its_own_coding() -> None:
    result = detect(columns(written(PATIENTS, "uci", chest_pain_type="uci_from_0"))).coding

    assert result.columns["chest_pain_type"] == "uci_from_0"
    assert result.columns["st_slope"] == "uci"
    assert result.name == "uci, chest_pain_type uci_from_0"


def test_codes_that_no_coding_has_together_are_refused() -> None:
    patients = [{**p, "thallium": p["thallium"] or "0"} for p in written(PATIENTS, "uci")]
    unknown = [{**p, "thallium": "0"} if i % 2 else p for i, p in enumerate(patients)]

    assert "thallium" in refusal(columns(unknown))


def mixtures(rows: int, draws: int, seed: int) -> Counter[str]:
    """How often a sample with one column in another coding is read right, refused or wrong."""
    random = np.random.default_rng([rows, seed])
    verdicts = Counter[str]()
    for _ in range(draws):
        coding, other = random.choice(list(NUMBERED), 2)
        name = random.choice(COLUMNS)
        sample = [PATIENTS[i] for i in random.choice(len(PATIENTS), rows, replace=False)]
        patients = written(sample, coding, **{name: other})
        try:
            result = detect(columns(patients)).coding
            right = all(
                result.translate(c, row[c]) == own[c]
                for row, own in zip(patients, sample, strict=True)
                for c in COLUMNS
            )
            verdicts["right" if right else "wrong"] += 1
        except SchemaError:
            verdicts["refused"] += 1
    return verdicts


@pytest.mark.parametrize("rows", [100, 303])
def test_no_mixture_of_codings_is_misread(rows: int) -> None:
    assert mixtures(rows, draws=20, seed=0)["wrong"] == 0


@pytest.mark.heavy
@pytest.mark.parametrize("rows", [100, 200, 303])
def test_at_most_a_fixed_share_of_mixed_codings_is_misread(
    rows: int, capsys: pytest.CaptureFixture[str]
) -> None:
    verdicts = mixtures(rows, draws=500, seed=1)

    with capsys.disabled():
        print(f"\n{rows} rows, one column in another coding: {dict(verdicts)}")
    assert verdicts["wrong"] <= (10 if rows < 200 else 2)
