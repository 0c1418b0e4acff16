"""The page in a real browser: one browser and one server for all of it."""

import csv
import io
import re
from pathlib import Path
from typing import Any

import pytest

from heart.locale.language import form_texts, translate
from heart.schema import NAMES, encode
from monitoring.monitor import DriftMonitor
from serve.ui.uploads import MAX_FILE_BYTES
from tests.heart.drift.snapshots import champion_of, log_patients, settings, watched_model
from tests.serve.ui.page_fixture import PATIENT, Running, tiny_model

# All in one process: the browser and the server are shared.


def risk_of(patient: dict[str, Any]) -> float:
    return float(tiny_model().predict(encode({n: [patient.get(n)] for n in NAMES}))[0])


def test_a_patient_is_filled_in_and_assessed(visit: Any, server: Running) -> None:
    before = server.count()
    visitor = visit()
    visitor.fill(**PATIENT)

    risk = visitor.assess()

    assert risk == pytest.approx(risk_of(PATIENT), abs=1e-5)
    assert translate("answer.frequency", "en", count=round(100 * risk)) in visitor.text("#answer")
    assert translate("answer.entered", "en", entered=7, all=13) in visitor.text("#answer")
    assert visitor.background("#answer p.predicted") == "rgba(0, 0, 0, 0)"
    assert server.count() == before + 1
    # What was entered is in no address.
    assert not [url for url in visitor.requests if "asymptomatic" in url or "240" in url]


def test_age_and_sex_are_enough_and_nothing_else_is_assumed(visit: Any) -> None:
    visitor = visit()
    visitor.fill(age=61, sex="female")

    assert visitor.assess() == pytest.approx(risk_of({"age": 61, "sex": "female"}), abs=1e-5)
    assert translate("answer.entered", "en", entered=2, all=13) in visitor.text("#answer")


def test_a_number_that_is_filled_in_and_emptied_is_not_measured(visit: Any) -> None:
    visitor = visit()
    visitor.fill(age=61, sex="female", st_depression=3)
    visitor.fill(st_depression="")

    assert visitor.assess() == pytest.approx(risk_of({"age": 61, "sex": "female"}), abs=1e-5)


def test_a_value_out_of_bounds_is_explained(visit: Any, server: Running) -> None:
    before = server.count()
    visitor = visit()
    visitor.fill(age=300, sex="male")
    visitor.page.click("#predict")
    visitor.page.wait_for_selector("#answer [role=alert]")

    expected = "Age is 300; expected a whole number from 18 to 110 years."
    assert expected in visitor.text("#answer")
    assert server.count() == before


def test_an_example_fills_the_form(visit: Any) -> None:
    visitor = visit()
    visitor.page.get_by_role("button", name=form_texts("en")["example_little"]).click()
    visitor.page.wait_for_function("document.querySelector('#age input').value === '62'")

    patient = {"age": 62, "sex": "female", "chest_pain_type": "atypical_angina", "resting_bp": 138}
    assert visitor.assess() == pytest.approx(risk_of(patient), abs=1e-5)


def test_the_switch_changes_the_language_of_form_and_answer(visit: Any, server: Running) -> None:
    visitor = visit()
    visitor.fill(**PATIENT)
    risk = visitor.assess()
    logged = server.count()
    visitor.page.check("#language input[value=id]")
    visitor.page.wait_for_selector("#answer [lang=id]")

    assert "Usia (tahun, 18–110)" in visitor.text("#age")  # noqa: RUF001 - as it is shown
    assert "Tidak diukur" in visitor.text("#thallium")
    assert translate("answer.title", "id") in visitor.text("#answer")
    assert form_texts("id")["predict"] in visitor.text("#predict")
    assert "Bukan alat medis" in visitor.text("#note")
    assert visitor.page.get_attribute("html", "lang") == "id"
    assert visitor.risk() == risk
    assert float(visitor.page.input_value("#cholesterol input")) == 240
    assert visitor.page.is_checked("#sex input[value=male]")
    assert server.count() == logged


def test_an_indonesian_browser_gets_indonesian(visit: Any) -> None:
    visitor = visit(locale="id-ID")
    visitor.fill(age=61, sex="female")
    visitor.assess()

    assert "Risiko penyakit arteri koroner" in visitor.text("#title")
    assert "Jenis kelamin" in visitor.text("#sex")
    assert translate("answer.entered", "id", entered=2, all=13) in visitor.text("#answer")
    assert visitor.page.is_checked("#language input[value=id]")
    visitor.tab("Tabel pasien")
    assert "Satu baris untuk tiap pasien" in visitor.text("[role=tabpanel]:visible")
    assert "Tabel pasien" in visitor.text("#upload")


def test_a_good_table_is_scored_and_downloaded(visit: Any, server: Running, tmp_path: Path) -> None:
    before = server.count()
    table = tmp_path / "good.csv"
    table.write_text("patient_id,age,sex,cholesterol\nA-1,57,male,240\nA-2,61,female,\n")
    visitor = visit()
    visitor.tab("Table of patients")
    visitor.page.set_input_files("#upload input[type=file]", table)
    visitor.page.wait_for_selector("#scored a.download")

    with visitor.page.expect_download() as download:
        visitor.page.click("#scored a.download")
    rows = list(csv.DictReader(io.StringIO(Path(download.value.path()).read_text())))
    expected = [
        risk_of({"age": 57, "sex": "male", "cholesterol": 240}),
        risk_of({"age": 61, "sex": "female"}),
    ]
    assert [row["patient_id"] for row in rows] == ["A-1", "A-2"]
    assert [float(row["probability"]) for row in rows] == pytest.approx(expected, abs=1e-5)
    assert "Patients scored: 2" in visitor.text("#scored")
    assert server.count() == before + 2
    # The file went with the call of its event, and to no folder of the server.
    assert not [url for url in visitor.requests if "upload" in url or "queue" in url]


def test_a_bad_table_is_explained_by_line(visit: Any, server: Running, tmp_path: Path) -> None:
    before = server.count()
    table = tmp_path / "bad.csv"
    table.write_text("age,sex\n57,male\n12,male\n57,unknown\n")
    visitor = visit()
    visitor.tab("Table of patients")
    visitor.page.set_input_files("#upload input[type=file]", table)
    visitor.page.wait_for_selector("#scored [role=alert]")

    shown = visitor.text("#scored")
    assert translate("table.rejected", "en", errors=2) in shown
    assert re.search(r"3\s+age\s+age is 12; expected a whole number from 18 to 110 years", shown)
    assert re.search(r"4\s+sex\s+sex is unknown; expected one of female, male", shown)
    assert server.count() == before


def test_a_doubtful_table_is_scored_once_its_coding_is_chosen(visit: Any, tmp_path: Path) -> None:
    table = tmp_path / "from_0.csv"
    table.write_text(
        "age;sex;cp;trestbps;chol;fbs;restecg;thalach;exang;oldpeak;slope;ca;thal\n"
        "61;1;3;141;251;0;2;121;1;2,1;1;2;2\n49;0;0;127;219;1;0;171;0;0,3;0;0;0\n"
    )
    visitor = visit()
    visitor.tab("Table of patients")
    visitor.page.set_input_files("#upload input[type=file]", table)
    visitor.page.wait_for_selector("#scored pre.reason")
    assert "uci_from_0" in visitor.text("#scored")

    visitor.page.click("#coding input")
    visitor.page.get_by_role("option", name="uci_from_0", exact=True).click()
    visitor.page.set_input_files("#upload input[type=file]", table)
    visitor.page.wait_for_selector("#scored a.download")

    assert "semicolons; coding uci_from_0" in visitor.text("#scored")


def test_a_table_that_was_mended_can_be_chosen_again(visit: Any, tmp_path: Path) -> None:
    table = tmp_path / "table.csv"
    table.write_text("age,sex\n" + "57,male\n" * (MAX_FILE_BYTES // 8))
    visitor = visit()
    visitor.tab("Table of patients")
    visitor.page.set_input_files("#upload input[type=file]", table)
    visitor.page.wait_for_selector("#scored [role=alert]")
    assert "larger than 2 MiB" in visitor.text("#scored")

    table.write_text("age,sex\n57,male\n")
    visitor.page.set_input_files("#upload input[type=file]", table)
    visitor.page.wait_for_selector("#scored a.download")
    assert "Patients scored: 1" in visitor.text("#scored")


def test_an_outcome_is_recorded(visit: Any, server: Running) -> None:
    visitor = visit()
    visitor.fill(age=61, sex="female")
    visitor.assess()
    prediction_id = visitor.text(".prediction-id")
    visitor.tab("Record an outcome")
    visitor.page.fill("#prediction_id input, #prediction_id textarea", prediction_id)
    visitor.page.check("#outcome input[value=presence]")
    visitor.page.check("#source input[value=angiography]")
    visitor.page.click("#record")
    visitor.page.wait_for_selector("#recorded .message.good")

    assert translate("outcome.created", "en") in visitor.text("#recorded")
    row = server.service.log.get(prediction_id)
    assert row is not None
    assert (row["outcome"], row["source"]) == ("presence", "angiography")


def test_the_keyboard_is_enough(visit: Any) -> None:
    visitor = visit()
    keyboard = visitor.page.keyboard
    focused = "document.activeElement.closest('[id]')?.id"
    for _ in range(40):
        keyboard.press("Tab")
        if visitor.page.evaluate(focused) == "age":
            break
    keyboard.type("61")
    keyboard.press("Tab")
    assert visitor.page.evaluate(focused) == "sex"
    keyboard.press("Space")
    keyboard.press("ArrowRight")
    assert visitor.page.is_checked("#sex input[value=male]")
    keyboard.press("Shift+Tab")
    keyboard.press("Enter")

    assert visitor.risk() == pytest.approx(risk_of({"age": 61, "sex": "male"}), abs=1e-5)


def test_a_phone_scrolls_in_one_direction_only(visit: Any) -> None:
    visitor = visit(viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    visitor.fill(**PATIENT)
    visitor.assess()
    visitor.page.wait_for_function(
        "document.querySelector('#answer').getBoundingClientRect().top < innerHeight / 2"
    )
    width = "document.documentElement.scrollWidth"

    assert visitor.page.evaluate(width) <= 390
    for tab in ("Table of patients", "Record an outcome", "Drift", "About the model"):
        visitor.tab(tab)
        assert visitor.page.evaluate(width) <= 390


def test_drift_is_shown_and_a_measurement_compared_by_keyboard(visit: Any, server: Running) -> None:
    log_patients(server.service.log, 60, version="1", thallium=None)
    monitor = DriftMonitor(champion_of(watched_model()), server.service.log, settings())
    server.service.monitor = monitor
    monitor.refresh()
    visitor = visit()
    visitor.tab("Drift")
    visitor.page.wait_for_selector("#comparison h2:visible")

    assert re.search(r"Thallium scan\s+drift", visitor.text("#drift"))
    assert visitor.background("#drift .lane .over") == "rgb(180, 83, 9)"
    assert "Thallium scan" in visitor.text("#comparison h2")

    visitor.page.focus("#drift_feature input")
    for key in ("ArrowDown", "ArrowDown", "Enter"):
        visitor.page.keyboard.press(key)
    visitor.page.wait_for_function(
        "document.querySelector('#comparison h2').innerText !== 'Thallium scan'"
    )
    chosen = visitor.text("#comparison h2")
    visitor.page.check("#language input[value=id]")
    visitor.page.wait_for_selector("#drift [lang=id]")

    assert re.search(r"Pergeseran pada \d+ pasien terakhir", visitor.text("#drift"))
    assert visitor.text("#comparison h2") not in (chosen, "Pemindaian talium")


def test_the_tab_about_the_model_shows_how_good_it_is(visit: Any) -> None:
    visitor = visit()
    visitor.tab("About the model")
    visitor.page.wait_for_selector("svg.plot:visible")

    shown = visitor.text("[role=tabpanel]:visible")
    assert "heart-disease 7" in shown
    assert re.search(r"ROC AUC.*0\.93 \(0\.86.0\.98\)", shown)
    assert re.search(r"Women\s+7\s+17", shown)  # ill and healthy
    assert "Model version 7" in visitor.text("#note")
