"""No two scrapes differ by fewer than eleven patients, so that none can be told from the others."""

import math
import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from prometheus_client.parser import text_string_to_metric_families

from heart.drift.baseline import MIN_CELL_COUNT
from heart.schema import NAMES
from serve.api.models import EXAMPLE
from serve.app import create_app
from serve.blocks import Blocks, SteppedScores, total
from serve.patient_metrics import REJECTED_SECONDS, PatientMetrics
from tests.serve.small_service import Present, model, parts

FEW = MIN_CELL_COUNT - 1
OF_PATIENTS = (
    "heart_predictions", "heart_predicted_probability_ratio", "heart_missing_measurements",
    "heart_out_of_training_range", "heart_data_out_of_range", "heart_feedback",
)  # fmt: skip
Series = dict[tuple[str, frozenset[Any]], float]


@pytest.fixture
def client(tmp_path: Path) -> Iterator[TestClient]:
    with TestClient(create_app(*parts(tmp_path), with_page=False)) as client:
        yield client


def scraped(client: TestClient, *families: str) -> Series:
    """The series of these families, or of all that are of patients."""
    parsed = text_string_to_metric_families(client.get("/metrics").text)
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in parsed
        if family.name in (families or OF_PATIENTS)
        for sample in family.samples
    }


def added(before: Series, after: Series) -> Series:
    """What has grown, and by how much."""
    return {
        key: value - before.get(key, 0)
        for key, value in after.items()
        if value != before.get(key, 0)
    }


def predicted(before: Series, after: Series) -> dict[str, float]:
    """How many more patients were predicted by each version, of those that changed in any series."""
    return {
        dict(labels)["model_version"]: count
        for (name, labels), count in added(before, after).items()
        if name == "heart_predicted_probability_ratio_count"
    }


def a_patient(chance: random.Random) -> dict[str, Any]:
    kept = [name for name in NAMES if name in ("age", "sex") or chance.random() < 0.5]
    patient = {name: EXAMPLE[name] for name in kept}
    return {**patient, "age": chance.randint(20, 90), "cholesterol": chance.choice((240, 690))}


def test_scrapes_differ_by_no_or_by_at_least_eleven_patients(
    client: TestClient,
) -> None:
    chance = random.Random(1)
    champion = client.app.state.service.champion  # type: ignore[attr-defined]
    assert isinstance(champion, Present)
    before = first = scraped(client)
    request: Counter[str] = Counter()
    changes = 0
    for _ in range(60):
        champion.current = model(chance.choice("12"))
        batch = [a_patient(chance) for _ in range(chance.choice((1, 1, 1, 2, 5, 30)))]
        if len(batch) == 1:
            client.post("/predict", json=batch[0]).raise_for_status()
        else:
            client.post("/predict/batch", json={"patients": batch}).raise_for_status()
        request[champion.current.version] += len(batch)

        after = scraped(client)

        counts = predicted(before, after)
        assert all(count >= MIN_CELL_COUNT for count in counts.values())
        assert bool(counts) == bool(added(before, after))
        changes += bool(counts)
        before = after
    assert changes > 10
    for version, count in predicted(first, before).items():
        assert request[version] - MIN_CELL_COUNT < count <= request[version]


def test_eleventh_patient_publishes_all_eleven(client: TestClient) -> None:
    before = scraped(client)
    patient = {**EXAMPLE, "cholesterol": 690}
    answers = [client.post("/predict", json=patient).json() for _ in range(FEW)]
    assert added(before, scraped(client)) == {}

    answers.append(client.post("/predict", json=patient).json())

    result = {
        (name, *sorted(labels)): count
        for (name, labels), count in added(before, scraped(client)).items()
    }
    risk = sum(answer["probability"] for answer in answers)
    version = ("model_version", "1")
    assert result["heart_predicted_probability_ratio_sum", version] == pytest.approx(risk)
    for key in (
        ("heart_predictions_total", version, ("prediction", "presence")),
        ("heart_predicted_probability_ratio_bucket", ("le", "+Inf"), version),
        ("heart_missing_measurements_total", ("feature", "thallium")),
        ("heart_out_of_training_range_total", ("feature", "cholesterol")),
    ):
        assert result[key] == MIN_CELL_COUNT


def test_patients_of_two_versions_are_not_added_up(client: TestClient) -> None:
    before = scraped(client)
    champion = client.app.state.service.champion  # type: ignore[attr-defined]
    for version in ("1", "2"):
        champion.current = model(version)
        client.post("/predict/batch", json={"patients": [EXAMPLE] * FEW}).raise_for_status()

    assert added(before, scraped(client)) == {}


def feedback(client: TestClient, key: str, outcome: str, **more: Any) -> None:
    body = {"prediction_id": key, "outcome": outcome, "source": "registry", **more}
    client.post("/feedback", json=body).raise_for_status()


def test_outcomes_are_shown_from_the_eleventh_patient_on(client: TestClient) -> None:
    before = scraped(client, "heart_feedback")
    answer = client.post("/predict/batch", json={"patients": [EXAMPLE] * MIN_CELL_COUNT}).json()
    keys = [prediction["prediction_id"] for prediction in answer["predictions"]]
    for key in keys[:FEW]:
        feedback(client, key, "presence")
    for number in range(2 * MIN_CELL_COUNT):  # of a patient who was counted
        feedback(client, keys[0], ("absence", "presence")[number % 2], replace=True)
    assert added(before, scraped(client, "heart_feedback")) == {}

    feedback(client, keys[FEW], "presence")

    result = added(before, scraped(client, "heart_feedback"))
    assert sum(result.values()) == 3 * MIN_CELL_COUNT


def test_labeled_scores_change_by_at_least_eleven_patients(client: TestClient) -> None:
    names = ("heart_labeled_accuracy_ratio", "heart_labeled_roc_auc_ratio")
    seen: list[Series] = []
    ages = [30 + 2 * number for number in range(2 * MIN_CELL_COUNT)]
    answers = client.post(
        "/predict/batch", json={"patients": [{**EXAMPLE, "age": age} for age in ages]}
    ).json()["predictions"]
    for number, answer in enumerate(answers):
        feedback(client, answer["prediction_id"], ("presence", "absence")[number % 3 == 0])
        seen.append(scraped(client, *names))

    assert not any(seen[:FEW])
    assert all(series == seen[FEW] for series in seen[FEW : 2 * MIN_CELL_COUNT - 1])
    assert len(seen[FEW]) == len(names)
    assert seen[-1] != seen[FEW]


# The parts


def refused(metrics: PatientMetrics) -> float:
    families = {family.name: family for family in metrics.collect()}
    return sum(sample.value for sample in families["heart_data_out_of_range"].samples)


def test_rare_rejected_values_are_not_published_as_many_of_one_moment() -> None:
    now = 0.0
    metrics = PatientMetrics(lambda: now)
    for _ in range(50):
        metrics.count_rejected_values([["age"]])
        now += REJECTED_SECONDS / 5
    assert refused(metrics) == 0

    for _ in range(MIN_CELL_COUNT):
        metrics.count_rejected_values([["age", "cholesterol"]])

    assert refused(metrics) >= MIN_CELL_COUNT


def test_incomplete_block_stays_small() -> None:
    blocks = Blocks(total)

    for _ in range(1000):
        blocks.add(0, {"replaced": 1})
    assert blocks.waiting == 0
    blocks.add(MIN_CELL_COUNT, {"new": MIN_CELL_COUNT})

    assert blocks.published == {"replaced": 1000, "new": MIN_CELL_COUNT}


def test_score_stays_until_eleven_more_or_fewer_patients() -> None:
    figures = SteppedScores()
    counts = (20, 21, 30, 31, 25, 20, 19)

    published = [figures.publish("auc", count, math.sqrt(count)) for count in counts]

    assert [round(figure**2) for figure in published] == [20, 20, 20, 31, 31, 20, 20]
    assert figures.publish("accuracy", 19, 0.5) == 0.5
