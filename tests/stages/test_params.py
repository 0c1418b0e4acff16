from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from heart.errors import ParamsError
from heart.params import Section
from monitoring.retraining.run import Retrain
from stages import params
from stages.params import SECTIONS

FILE = Path(__file__).parents[2] / "params.yaml"
DOCUMENT: dict[str, dict[str, Any]] = yaml.safe_load(FILE.read_text())


def _with(folder: Path, section: str, **changes: Any) -> Path:
    path = folder / "params.yaml"
    path.write_text(yaml.safe_dump(DOCUMENT | {section: DOCUMENT[section] | changes}))
    return path


def _refusal(section: str, path: Path) -> str:
    with pytest.raises(ParamsError) as refusal:
        SECTIONS[section].load(path)
    return str(refusal.value)


def test_each_section_of_the_file_has_a_class_and_the_other_way_round() -> None:
    assert DOCUMENT.keys() == {*SECTIONS, Retrain.stage}


@pytest.mark.parametrize("section", SECTIONS.values(), ids=SECTIONS.keys())
def test_each_section_loads_as_it_is_written(section: type[Section]) -> None:
    loaded = section.load(FILE)

    assert loaded.model_dump() == DOCUMENT[section.stage]


def test_the_file_beside_the_stage_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _with(tmp_path, "split", seed=41)
    monkeypatch.chdir(tmp_path)

    assert params.Split.load().seed == 41


def test_a_section_cannot_be_changed() -> None:
    split = params.Split.load(FILE)

    for key in DOCUMENT["split"]:
        with pytest.raises(ValidationError, match="frozen"):
            setattr(split, key, 1)


@pytest.mark.parametrize("section", SECTIONS)
def test_an_unknown_key_is_refused_with_the_known_ones(section: str, tmp_path: Path) -> None:
    path = _with(tmp_path, section, sede=0)

    message = _refusal(section, path)

    start, known = message.split(" is unknown, known are ")
    assert start == f"{path}: {section}.sede"
    assert set(known.split(", ")) == DOCUMENT[section].keys()


def test_an_unknown_key_within_a_key_is_refused_with_those_known_there(tmp_path: Path) -> None:
    floors = DOCUMENT["register"]["floors"]
    path = _with(tmp_path, "register", floors=floors | {"auc": 0.8})

    message = _refusal("register", path)

    assert f"register.floors.auc is unknown, known are {', '.join(floors)}" in message


def test_all_faults_are_named_at_once(tmp_path: Path) -> None:
    path = _with(tmp_path, "split", folds="five", test_fraction=1.5, sede=0)

    message = _refusal("split", path)

    assert "split.folds is 'five'" in message
    assert "split.test_fraction is 1.5" in message
    assert "split.sede is unknown" in message


@pytest.mark.parametrize("codings", [{"thallium": "excel"}, {"thalium": "uci"}])
def test_a_wrong_coding_of_a_column_is_named(codings: dict[str, str]) -> None:
    with pytest.raises(ValidationError, match=r"excel|thalium"):
        params.Prepare.model_validate(
            {
                "format": "auto",
                "codings": codings,
                "invert_label": False,
                "keep": [],
                "ignore": [],
                "bad_rows": "drop",
            }
        )


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        ("prepare", "format", "excel"),
        ("prepare", "bad_rows", "ignore"),
        ("prepare", "keep", "dataset"),
        ("prepare", "invert_label", "maybe"),
        ("prepare", "invert_label", 2),
        ("split", "test_fraction", 0.0),
        ("split", "test_fraction", 1),
        ("split", "test_fraction", float("nan")),
        ("split", "folds", 1),
        ("split", "folds", 21),
        ("split", "folds", 2.5),
        ("split", "folds", [5]),
        ("split", "seed", -1),
        ("split", "seed", 2**32),
        ("split", "seed", None),
        ("synthesize", "model", "gan"),
        ("synthesize", "epochs", "many"),
        ("synthesize", "batch_size", 21),
        ("synthesize", "layers", []),
        ("synthesize", "layers", 64),
        ("synthesize", "learning_rate", 0),
        ("synthesize", "device", "tpu"),
        ("merge", "rows", 0),
        ("train", "model", "svm"),
        ("train", "logistic_c", []),
        ("train", "synthetic_weights", "none"),
        ("evaluate", "threshold", 1.0),
        ("evaluate", "bins", 1),
        ("register", "model_name", "Heart Disease"),
        ("register", "margins", 0.03),
        ("register", "recent_outcomes", 0),
        ("register", "floors", 0.8),
    ],
)
def test_a_wrong_value_is_named_with_its_key(
    section: str, key: str, value: Any, tmp_path: Path
) -> None:
    path = _with(tmp_path, section, **{key: value})

    message = _refusal(section, path)

    assert f"{path}: {section}.{key} is {value!r}: " in message


@pytest.mark.parametrize(
    ("section", "key", "bad", "place"),
    [
        ("synthesize", "layers", [64, 0], "layers.1 is 0"),
        ("train", "synthetic_weights", [0, 11], "synthetic_weights.1 is 11"),
        (
            "register",
            "floors",
            DOCUMENT["register"]["floors"] | {"recall": 60},
            "floors.recall is 60",
        ),
    ],
)
def test_a_wrong_value_in_a_list_or_a_group_is_named_with_its_place(
    section: str, key: str, bad: Any, place: str, tmp_path: Path
) -> None:
    path = _with(tmp_path, section, **{key: bad})

    assert f"{section}.{place}: " in _refusal(section, path)


def test_a_missing_key_is_named_alone(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text("split: {test_fraction: 0.25, seed: 7}\n")

    message = _refusal("split", path)

    assert "split.folds" in message
    assert "required" in message
    assert "0.25" not in message


@pytest.mark.parametrize(
    "content",
    [b"", b"split:\n", b"split: 3\n", b"- split\n", b"train: {seed: 0}\n"],
    ids=["empty", "no content", "a number", "a list", "another section"],
)
def test_a_file_without_the_section_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_bytes(content)

    assert _refusal("split", path) == f"{path} has no section 'split'"


@pytest.mark.parametrize(
    "content",
    [None, b"split: {a: [}\n", b"split: 3\0\n", b"split: caf\xe9\n"],
    ids=["absent", "not YAML", "binary", "not UTF-8"],
)
def test_a_file_that_cannot_be_read_is_refused(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    if content is not None:
        path.write_bytes(content)

    assert _refusal("split", path).startswith(f"{path} cannot be read: ")
