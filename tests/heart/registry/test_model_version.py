"""A broken version is never served."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest

from heart.registry import cache as cache_module
from heart.registry import download
from heart.registry import publishing as registry
from serve.model_manager import ModelManager
from tests.heart.drift.snapshots import reference
from tests.heart.registry.registry_fixture import NAME, Events, Shelf, onnx_model, serving

pytestmark = pytest.mark.filterwarnings("ignore:::mlflow")

IN = "(float[n,13] measurements)"
MEAN = "s = ReduceSum <keepdims = 1> (measurements, columns) m = Div (s, width)"
# A missing measurement makes the prediction NaN.
NAN = onnx_model(f"{IN} => (float[n,1] y)", f"{MEAN} y = Sigmoid (m)")
FILLED = "z = IsNaN (measurements) f = Where (z, zero, measurements)"
RISK = "s = ReduceSum <keepdims = 1> (f, columns) m = Div (s, width)"


def other(signature: str, body: str) -> Callable[[Path], None]:
    """Replace the model, but not the self-test."""

    def change(folder: Path) -> None:
        (folder / "model.onnx").write_bytes(onnx_model(signature, body))

    return change


def nan(folder: Path) -> None:
    """A model that gives NaN, with a self-test that expects NaN."""
    (folder / "model.onnx").write_bytes(NAN)
    test = json.dumps(registry.self_test(NAN))
    assert "NaN" in test
    (folder / "extra_files" / "self_test.json").write_text(test)


def nan_at_the_bounds(folder: Path) -> None:
    """A model that gives NaN for missing values, with a self-test that has no missing value."""
    (folder / "model.onnx").write_bytes(NAN)
    test = registry.self_test(NAN)
    for part in ("rows", "probabilities"):
        test[part] = test[part][::2]
    (folder / "extra_files" / "self_test.json").write_text(json.dumps(test))


def truncated(folder: Path) -> None:
    path = folder / "model.onnx"
    path.write_bytes(path.read_bytes()[:-1000])


def external(folder: Path) -> None:
    model = onnx.load(folder / "model.onnx")
    onnx.save(model, folder / "model.onnx", save_as_external_data=True, location="weights.bin")


def self_test(**changes: Any) -> Callable[[Path], None]:
    """Replace parts of the stored predictions."""

    def change(folder: Path) -> None:
        path = folder / "extra_files" / "self_test.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return change


def text_of(file: str, text: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        (folder / file).write_text(text)

    return change


def error_model(body: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        model = onnx_model(f"{IN} => (float[n,1] y)", f"{FILLED} {RISK} {body}")
        (folder / "extra_files" / "standard_error.onnx").write_bytes(model)

    return change


BROKEN: dict[str, tuple[str, Callable[[Path], None] | None, dict[str, str | None]]] = {
    "truncated": ("hash", truncated, {"model_sha256": "0" * 64}),
    "truncated, hash right": ("unreadable", truncated, {}),
    "empty": ("unreadable", text_of("model.onnx", ""), {}),
    "text": ("unreadable", text_of("model.onnx", "<html>not found</html>"), {}),
    "wrong hash": ("hash", None, {"model_sha256": "0" * 64}),
    "no hash": ("hash", None, {"model_sha256": None}),
    "hash that leads elsewhere": ("hash", None, {"model_sha256": "../../../etc"}),
    "other schema": ("schema", None, {"schema_fingerprint": "0" * 64}),
    "no schema": ("schema", None, {"schema_fingerprint": None}),
    "external data": ("external_data", external, {}),
    "12 measurements": (
        "shape",
        other("(float[n,12] measurements) => (float[n,1] y)", f"{MEAN} y = Sigmoid (m)"),
        {},
    ),
    "fixed number of rows": (
        "shape",
        other("(float[16,13] measurements) => (float[16,1] y)", f"{MEAN} y = Sigmoid (m)"),
        {},
    ),
    "doubles": (
        "shape",
        other(
            "(double[n,13] measurements) => (double[n,1] y)",
            "y = ReduceSum <keepdims = 1> (measurements, columns)",
        ),
        {},
    ),
    "two inputs": (
        "shape",
        other("(float[n,13] measurements, float[n,13] w) => (float[n,1] y)", f"{MEAN} y = Sigmoid (m)"),
        {},
    ),
    "two outputs": ("shape", other(f"{IN} => (float[n,1] m, float[n,1] y)", f"{MEAN} y = Sigmoid (m)"), {}),
    "two columns": (
        "shape",
        other(f"{IN} => (float[n,2] y)", f"{MEAN} p = Sigmoid (m) y = Concat <axis = 1> (p, p)"),
        {},
    ),
    "one number for all rows": (
        "operators",
        other(
            f"{IN} => (float[n,1] y)",
            f"{FILLED} m = ReduceSum (f, all) y = Sigmoid (m)",
        ),
        {},
    ),
    "fewer answers than rows": (
        "operators",
        other(
            f"{IN} => (float[n,1] y)",
            f"{FILLED} {RISK} p = Sigmoid (m) y = Gather <axis = 0> (p, first)",
        ),
        {},
    ),
    "fails when it is used": (
        "operators",
        other(
            f"{IN} => (float[n,1] y)",
            f"{FILLED} {RISK} i = Cast <to = 7> (m) y = Gather <axis = 0> (table, i)",
        ),
        {},
    ),
    "other predictions": (
        "self_test",
        other(f"{IN} => (float[n,1] y)", f"{FILLED} {RISK} y = Sigmoid (m)"),
        {},
    ),
    "no probability": ("self_test", other(f"{IN} => (float[n,1] y)", f"{FILLED} {RISK} y = Identity (m)"), {}),
    "NaN": ("self_test", nan, {}),
    "NaN at the bounds": ("self_test", nan_at_the_bounds, {}),
    "empty self-test": ("unreadable", self_test(rows=[], probabilities=[]), {}),
    "self-test that allows all": ("self_test", self_test(tolerance=1), {}),
    "self-test without numbers": ("unreadable", self_test(rows="none"), {}),
    "self-test of other shape": ("unreadable", self_test(probabilities=[0.5]), {}),
    "self-test is no JSON": ("unreadable", text_of("extra_files/self_test.json", "{"), {}),
    "self-test is a list": ("unreadable", text_of("extra_files/self_test.json", "[]"), {}),
    "training data with another hash": ("hash", None, {"training_sha256": "0" * 64}),
    "interval with another hash": ("hash", None, {"standard_error_sha256": "0" * 64}),
    "negative interval": ("self_test", error_model("y = Mul (m, minus)"), {}),
}  # fmt: skip


@pytest.mark.parametrize(("kind", "change", "tags"), BROKEN.values(), ids=BROKEN)
def test_a_broken_challenger_is_never_served(
    shelf: Shelf,
    kind: str,
    change: Callable[[Path], None] | None,
    tags: dict[str, str | None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    events = Events()
    champion = ModelManager(shelf.settings(), events)
    champion.refresh()
    good = champion.current

    version = shelf.set_challenger(change, **tags)

    assert not champion.refresh()
    assert champion.current is good
    assert champion.rejections == {kind: 1}
    assert events[1:] == [("rejected", kind)]
    assert not champion.state().reasons
    assert champion.state().notes == (f"version {version} was rejected ({kind})",)
    assert champion.rejection is not None
    assert champion.rejection.reason in caplog.text
    assert len(list((shelf.folder / "cache" / NAME).iterdir())) == 1


def test_a_version_without_a_hash_is_not_even_downloaded(shelf: Shelf) -> None:
    def remove(folder: Path) -> None:
        (folder / "model.onnx").unlink()

    shelf.set_challenger(remove, model_sha256=None)
    champion = ModelManager(shelf.settings())

    assert not champion.refresh()

    assert champion.rejections == {"hash": 1}
    assert champion.registry_failures == 0


@pytest.mark.parametrize("threshold", [None, "", "0", "1", "nan", "high"])
def test_a_version_without_a_valid_threshold_is_rejected(
    shelf: Shelf, threshold: str | None
) -> None:
    shelf.set_challenger(threshold=threshold)
    champion = ModelManager(shelf.settings())

    assert not champion.refresh()

    assert champion.rejection is not None
    assert champion.rejection.kind == "unreadable"
    assert "threshold" in champion.rejection.reason


DAMAGED = {
    "no JSON": ("metrics/evaluate.json", "{"),
    "a list": ("metrics/evaluate.json", "[1,2]"),
    "nested lists": ("metrics/evaluate.json", "[" * 100_000),
    "nested objects": ("metrics/evaluate.json", '{"a":' * 400 + "1" + "}" * 400),
    "text for a number": ("metrics/evaluate.json", '{"roc_auc": "high"}'),
    "a number without end": ("metrics/evaluate.json", '{"roc_auc": 1e999}'),
    "a number of 400 digits": ("metrics/evaluate.json", f'{{"rows": 1{"0" * 400}}}'),
    "groups that are none": ("metrics/evaluate.json", '{"roc_auc": 0.9, "groups": [1]}'),
    "a group that is none": ("metrics/evaluate.json", '{"roc_auc": 0.9, "groups": {"a": 1}}'),
    "much too long": ("metrics/evaluate.json", " " * 3_000_000 + "{}"),
    "nested objects of train.json": ("metrics/train.json", '{"a":' * 700 + "1" + "}" * 700),
    "train.json": ("metrics/train.json", "[]"),
    "a plot without numbers": ("plots/roc.csv", "false_positive_rate,true_positive_rate\na,b\n"),
    "a plot of other columns": ("plots/roc.csv", "x,y\n1,2\n"),
    "a plot that is no text": ("plots/roc.csv", "\udcff"),
}


@pytest.mark.security
@pytest.mark.parametrize("damage", DAMAGED)
def test_damaged_figures_are_a_note_as_those_of_a_purged_run(
    shelf: Shelf, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    file, text = DAMAGED[damage]
    run = shelf.run_with(evaluate='{"roc_auc": 0.9, "groups": {"sex_male": {"rows": 5}}}')
    damaged = shelf.folder / Path(file).name
    damaged.write_bytes(text.encode(errors="surrogateescape"))
    shelf.client.log_artifact(run, str(damaged), Path(file).parent.name)
    version = shelf.set_challenger(run_id=run)
    champion = ModelManager(shelf.settings(), trial=lambda _: None)

    assert champion.refresh()

    assert serving(champion).version == version
    assert not serving(champion).figures
    assert champion.state().notes == (f"the figures of version {version} are missing: see the log",)
    assert sum(file in record.getMessage() for record in caplog.records) == 1


def test_good_figures_are_kept(shelf: Shelf) -> None:
    text = '{"roc_auc": 0.9, "unknown": null, "groups": {"sex_male": {"rows": 5}}}'
    shelf.set_challenger(run_id=shelf.run_with(evaluate=text))
    champion = ModelManager(shelf.settings(), trial=lambda _: None)
    champion.refresh()

    assert serving(champion).figures == json.loads(text)
    assert not champion.state().notes


@pytest.mark.parametrize("file", ["model.onnx", "extra_files/self_test.json"])
def test_a_file_that_is_too_large_is_not_even_downloaded(
    shelf: Shelf, file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def grow(folder: Path) -> None:
        with (folder / file).open("ab") as content:
            content.truncate(10_000_000)

    monkeypatch.setattr(download, "MAX_BYTES", 5_000_000)
    monkeypatch.setattr(cache_module, "read_files", None)
    shelf.set_challenger(grow)
    champion = ModelManager(shelf.settings())

    assert not champion.refresh()

    assert champion.rejections == {"size": 1}


def test_a_rejected_version_is_tried_again_only_after_a_move_of_the_alias_or_on_request(
    shelf: Shelf,
) -> None:
    champion = ModelManager(shelf.settings())
    champion.refresh()
    broken = shelf.set_challenger(model_sha256="0" * 64)

    for _ in range(3):
        champion.refresh()
    assert champion.rejections == {"hash": 1}

    champion.refresh(retry_rejected=True)
    assert champion.rejections == {"hash": 2}

    shelf.promote("1")
    champion.refresh()
    assert champion.rejection is None
    shelf.promote(broken)
    champion.refresh()
    assert champion.rejections == {"hash": 3}

    shelf.promote("2")
    assert champion.refresh()
    assert not champion.state().notes


# The drift baseline


def with_reference(text: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        (folder / "extra_files" / "reference.json").write_text(text)

    return change


def test_the_drift_baseline_is_loaded_with_its_version_and_from_the_cache(shelf: Shelf) -> None:
    champion = ModelManager(shelf.settings())
    champion.refresh()
    assert serving(champion).reference is None

    version = shelf.set_challenger(with_reference(reference().to_json()))
    assert champion.refresh()

    assert serving(champion).reference == reference()
    shelf.database.rename(shelf.away)
    restarted = ModelManager(shelf.settings())
    restarted.start()
    restarted.stop()
    assert serving(restarted).version == version
    assert serving(restarted).reference == reference()


@pytest.mark.parametrize(
    ("kind", "text", "tags"),
    [
        ("hash", None, {"reference_sha256": "0" * 64}),
        ("unreadable", "{", {}),
        ("unreadable", "[]", {}),
        ("unreadable", '{"format": 0}', {}),
        ("unreadable", '{"format": 1, "rows": 9, "policy": [], "columns": []}', {}),
    ],
)
def test_a_version_with_a_broken_drift_baseline_is_rejected(
    shelf: Shelf, kind: str, text: str | None, tags: dict[str, str | None]
) -> None:
    champion = ModelManager(shelf.settings())
    champion.refresh()
    good = champion.current

    shelf.set_challenger(with_reference(reference().to_json() if text is None else text), **tags)

    assert not champion.refresh()
    assert champion.current is good
    assert champion.rejections == {kind: 1}
