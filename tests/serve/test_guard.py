"""A champion that is worse than the version before it is found out, and taken back if that is allowed."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient

from heart.ml.betting import evidence
from heart.predictions.log import PredictionLog, Record, new_ids
from heart.registry.aliases import AliasError, aliases
from heart.schema import MEASUREMENTS
from serve.app import create_app
from serve.guard import ChampionGuard
from serve.model_manager import ModelManager
from tests.heart.predictions.logs import opened
from tests.heart.registry.registry_fixture import NAME, Shelf, patients, serving, version_of
from tests.serve.small_service import Present, model, parts

pytestmark = pytest.mark.filterwarnings("ignore:::mlflow")

FALSE_ALARMS = 0.05
Draws = Callable[[np.random.Generator, int], Any]


# The evidence


def test_evidence_is_the_wealth_of_the_bets() -> None:
    assert evidence([]) == pytest.approx(0)
    # One difference of 1: bets of 5 % to 95 % win their stake, half of the wealth in the mean.
    assert evidence([1.0]) == pytest.approx(math.log(1.5))
    assert evidence([1.0, -1.0]) < 0
    assert evidence([0.2, -0.1, 0.4]) == pytest.approx(evidence([0.4, 0.2, -0.1]))
    assert math.isfinite(evidence([-1.0] * 5000))
    assert evidence([1.0] * 5000) > 1000


@pytest.mark.parametrize(
    "draws",
    [
        lambda random, n: random.choice([-1.0, 1.0], n),
        lambda random, n: random.normal(0, 0.2, n).clip(-1, 1),
        lambda random, n: random.choice([-0.05, 0.95], n, p=[0.95, 0.05]),
    ],
    ids=["coin", "normal", "skewed"],
)
def test_repeated_evaluation_keeps_the_false_alarm_rate(draws: Draws) -> None:
    random = np.random.default_rng(0)
    limit, alarms, streams = -math.log(FALSE_ALARMS), 0, 400
    for _ in range(streams):
        stream = draws(random, 300)
        alarms += any(evidence(stream[:n]) >= limit for n in range(20, 301, 10))

    error = math.sqrt(FALSE_ALARMS * (1 - FALSE_ALARMS) / streams)
    assert alarms / streams <= FALSE_ALARMS + 2 * error


def test_worse_model_is_detected() -> None:
    random = np.random.default_rng(0)
    limit = -math.log(0.01)

    result = [evidence(random.normal(0.1, 0.2, 150).clip(-1, 1)) >= limit for _ in range(100)]

    assert sum(result) >= 95


# The guard


def turned(risks: Any) -> Any:
    """The risks of a model that has learned the opposite."""
    return 1 - risks


def labelled(log: PredictionLog, count: int, risks_of: Callable[[Any], Any], version: str,
             senders: Sequence[str] = ("ward", "lab")) -> None:  # fmt: skip
    """Real patients that a version answered, with the outcomes that they had."""
    rows, positive = patients()
    chosen = np.random.default_rng(0).permutation(len(rows))[:count]
    records = [
        Record(key, version, float(risk), decoded(row))
        for key, risk, row in zip(
            new_ids(count), risks_of(model().predict(rows[chosen])), rows[chosen], strict=True
        )
    ]
    log.append_sync(records)
    for number, (record, one) in enumerate(zip(records, positive[chosen], strict=True)):
        sender = senders[number % len(senders)]
        log.record_outcome(record.id, "presence" if one else "absence", "registry", sender)


def decoded(row: Any) -> list[Any]:
    """A row as a client would give it."""
    return [
        None if np.isnan(value) else m.choices[int(value)].name if m.choices else float(value)
        for m, value in zip(MEASUREMENTS, row, strict=True)
    ]


def guard_of(folder: Path, log: PredictionLog, **changes: Any) -> tuple[ChampionGuard, Present]:
    """A guard over version 2, before which there was version 1, the model of the real patients."""
    settings, champion, _, _ = parts(folder, **changes)
    champion.current, champion.fallback.current = model("2", 0.3), model()
    return ChampionGuard(champion, log, settings), champion


def test_worse_champion_raises_the_alarm(tmp_path: Path) -> None:
    with opened(f"sqlite:///{tmp_path}/log.db") as log:
        guard, _ = guard_of(tmp_path, log)
        labelled(log, 60, turned, "2")

        guard.evaluate()

    result = guard.result
    assert result is not None
    assert result.alarm
    assert (result.champion, result.fallback, result.labels) == ("2", "1", 60)
    assert result.champion_brier > 0.3 > result.fallback_brier
    assert guard.rollbacks == 0


def test_equal_champion_raises_no_alarm(tmp_path: Path) -> None:
    with opened(f"sqlite:///{tmp_path}/log.db") as log:
        guard, _ = guard_of(tmp_path, log)
        labelled(log, 200, lambda risks: risks, "2")

        guard.evaluate()

    result = guard.result
    assert result is not None
    assert not result.alarm
    assert result.evidence_ratio == pytest.approx(0, abs=1e-9)
    assert result.champion_brier == pytest.approx(result.fallback_brier, abs=1e-6)


def test_the_fallback_scores_the_logged_patients(tmp_path: Path) -> None:
    with opened(f"sqlite:///{tmp_path}/log.db") as log:
        guard, _ = guard_of(tmp_path, log, guard_labels=303)
        labelled(log, 303, turned, "2")

        guard.evaluate()

    rows, positive = patients()
    risks = model().predict(rows)
    assert guard.result is not None
    assert guard.result.fallback_brier == pytest.approx(((risks - positive) ** 2).mean(), abs=1e-6)
    expected = ((1 - risks - positive) ** 2).mean()
    assert guard.result.champion_brier == pytest.approx(expected, abs=1e-6)


def test_too_few_outcomes_or_another_versions_give_no_result(tmp_path: Path) -> None:
    with opened(f"sqlite:///{tmp_path}/log.db") as log:
        guard, champion = guard_of(tmp_path, log, guard_rollback=True)
        labelled(log, 49, turned, "2")
        labelled(log, 60, turned, "3")
        guard.evaluate()
        assert guard.result is None

        labelled(log, 1, turned, "2")
        guard.evaluate()
        assert guard.result is not None

        champion.fallback.current = None
        guard.evaluate()
        assert guard.result is None


def test_result_stays_until_the_next_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with opened(f"sqlite:///{tmp_path}/log.db") as log:
        guard, _ = guard_of(tmp_path, log)
        labelled(log, 60, turned, "2")
        guard.evaluate()
        first = guard.result
        message, read = [], log.labelled

        def asked_meanwhile(*arguments: Any) -> Any:
            message.append(guard.result)
            return read(*arguments)

        monkeypatch.setattr(log, "labelled", asked_meanwhile)
        guard.evaluate()

    assert first is not None
    assert message == [first]
    assert guard.result == first
    assert guard.result is not first


def test_result_is_in_the_model_route_and_the_metrics(tmp_path: Path) -> None:
    settings, champion, log, metrics = parts(tmp_path)
    champion.current, champion.fallback.current = model("2", 0.3), model()
    app = create_app(settings, champion, log, metrics, with_page=False)
    with TestClient(app) as client:
        assert client.get("/model").json()["guard"] is None
        assert "heart_guard_alarm" not in client.get("/metrics").text
        assert "heart_guard_rollbacks_total 0.0" in client.get("/metrics").text
        labelled(log, 60, turned, "2")

        app.state.guard.evaluate()

        shown = client.get("/model").json()["guard"]
        text = client.get("/metrics").text
    assert (shown["fallback"], shown["labels"], shown["alarm"]) == ("1", 60, True)
    assert 'heart_guard_alarm{model_version="2"} 1.0' in text
    assert 'heart_guard_labels{model_version="2"} 60.0' in text
    assert f'heart_guard_evidence_ratio{{model_version="2"}} {shown["evidence_ratio"]}' in text


# With a registry


@pytest.fixture
def registered(shelf: Shelf) -> Shelf:
    """Version 2 is the champion, version 1 the previous one."""
    shelf.client.set_registered_model_alias(NAME, "previous", "1")
    shelf.promote("2")
    return shelf


def watched(shelf: Shelf, log: PredictionLog, **changes: Any) -> tuple[ChampionGuard, ModelManager]:
    settings = shelf.settings(**changes)
    champion = ModelManager(settings)
    champion.refresh()
    return ChampionGuard(champion, log, settings), champion


@pytest.mark.parametrize("allowed", [False, True])
@pytest.mark.parametrize("worse", [False, True])
def test_only_a_worse_champion_is_rolled_back_and_only_if_allowed(
    registered: Shelf, tmp_path: Path, allowed: bool, worse: bool
) -> None:
    with opened(f"sqlite:///{tmp_path}/log.db") as log:
        guard, champion = watched(registered, log, guard_rollback=allowed)
        labelled(log, 60, turned if worse else lambda risks: risks, "2")

        guard.evaluate()

        number = "1" if allowed and worse else "2"
        assert version_of(champion) == number
        assert aliases(registered.client, NAME) == {"champion": number, "previous": "1"}
        assert guard.rollbacks == (allowed and worse)
        guard.evaluate()
        assert version_of(champion) == number
        assert guard.rollbacks == (allowed and worse)


def test_failed_rollback_is_logged_and_retried(
    registered: Shelf, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with opened(f"sqlite:///{tmp_path}/log.db") as log:
        guard, champion = watched(registered, log, guard_rollback=True)
        labelled(log, 60, turned, "2")
        verdict = registered.client.get_model_version(NAME, "1").tags["verdict"]
        registered.client.delete_model_version_tag(NAME, "1", "verdict")
        with pytest.raises(AliasError):
            champion.roll_back(serving(champion))
        guard.evaluate()
        assert (version_of(champion), guard.rollbacks) == ("2", 0)
        assert "version 2 is not rolled back: heart-disease version 1 has no verdict" in caplog.text

        registered.database.rename(registered.away)
        guard.evaluate()
        registered.away.rename(registered.database)
        assert (version_of(champion), guard.rollbacks) == ("2", 0)

        registered.client.set_model_version_tag(NAME, "1", "verdict", verdict)
        guard.evaluate()
        assert (version_of(champion), guard.rollbacks) == ("1", 1)


@pytest.mark.security
@pytest.mark.parametrize("senders", [("lab",), ("lab",) * 19 + ("ward",)])
def test_outcomes_of_one_sender_do_not_roll_back_by_themselves(
    registered: Shelf, tmp_path: Path, senders: Sequence[str], security_figure: Any
) -> None:
    with opened(f"sqlite:///{tmp_path}/log.db") as log:
        guard, champion = watched(registered, log, guard_rollback=True)
        labelled(log, 60, turned, "2", senders)

        guard.evaluate()

        assert guard.result is not None
        assert guard.result.alarm
        assert guard.withheld
        assert len(guard.notes()) == 1
        assert (version_of(champion), guard.rollbacks) == ("2", 0)
        security_figure(
            "rollbacks caused by the outcomes of a single token", f"{guard.rollbacks}", "0"
        )

        alone, _ = watched(registered, log, guard_rollback=True, guard_senders=1)
        alone.evaluate()
        assert alone.rollbacks == 1
