"""The same bytes are not tried again and again."""

import json
from collections.abc import Callable, Mapping
from itertools import pairwise
from pathlib import Path

import pytest

from heart.registry.errors import Kind, RegistryUnavailable, VersionRejected
from heart.registry.verdicts import MAX_SECONDS, MAX_VERDICTS, Verdicts


class Clock:
    """Seconds since the epoch, as the test sets them."""

    def __init__(self) -> None:
        self.seconds = 1e9

    def __call__(self) -> float:
        return self.seconds


class FakeTrial:
    """Trials that are counted, and end with the error that the test sets."""

    def __init__(self, error: Exception | None = None) -> None:
        self.count = 0
        self.error = error

    def __call__(self, _: Mapping[str, bytes]) -> None:
        self.count += 1
        if self.error is not None:
            raise self.error


@pytest.fixture
def clock() -> Clock:
    return Clock()


def kind_of(verdicts: Verdicts, sha256: str = "a") -> str:
    try:
        verdicts.require({}, sha256)
    except VersionRejected as error:
        return error.kind
    return ""


def test_a_version_that_passed_is_not_tried_again(tmp_path: Path) -> None:
    trial = FakeTrial()

    for _ in range(3):
        assert kind_of(Verdicts(tmp_path / "v.json", trial)) == ""

    assert trial.count == 1
    assert not [*tmp_path.iterdir()]


@pytest.mark.security
@pytest.mark.parametrize("kind", ["timeout", "memory", "crash"])
def test_restarts_do_not_try_the_same_bytes_again(tmp_path: Path, clock: Clock, kind: Kind) -> None:
    trial = FakeTrial(VersionRejected(kind, "a reason"))

    for _ in range(5):
        assert kind_of(Verdicts(tmp_path / "cache" / "v.json", trial, clock)) == kind
    assert trial.count == 1
    assert kind_of(Verdicts(tmp_path / "cache" / "v.json", trial, clock), "b") == kind
    assert trial.count == 2


@pytest.mark.security
def test_a_verdict_expires_later_each_time(tmp_path: Path, clock: Clock) -> None:
    trial = FakeTrial(VersionRejected("timeout", "a reason"))
    starts = []
    for _ in range(3 * 24 * 60):
        before = trial.count
        assert kind_of(Verdicts(tmp_path / "v.json", trial, clock)) == "timeout"
        starts += [clock.seconds] * (trial.count - before)
        clock.seconds += 60

    pauses = [second - first for first, second in pairwise(starts)]
    assert pauses[:4] == [60, 120, 240, 480]
    assert max(pauses) == MAX_SECONDS
    assert len(starts) < 25


def test_a_machine_that_was_overloaded_is_given_another_chance(
    tmp_path: Path, clock: Clock
) -> None:
    trial = FakeTrial(VersionRejected("timeout", "a reason"))
    verdicts = Verdicts(tmp_path / "v.json", trial, clock)
    with pytest.raises(VersionRejected) as rejection:
        verdicts.require({}, "a")
    trial.error = None

    clock.seconds = rejection.value.retry_at

    assert kind_of(verdicts) == ""


def test_other_rejections_cost_little_and_are_not_kept(tmp_path: Path) -> None:
    trial = FakeTrial(VersionRejected("operators", "a reason"))

    for _ in range(2):
        assert kind_of(Verdicts(tmp_path / "v.json", trial)) == "operators"

    assert trial.count == 2
    assert not [*tmp_path.iterdir()]


def test_a_trial_that_could_not_start_is_no_verdict(tmp_path: Path) -> None:
    trial = FakeTrial(RegistryUnavailable("no process"))

    for _ in range(2):
        with pytest.raises(RegistryUnavailable):
            Verdicts(tmp_path / "v.json", trial).require({}, "a")

    assert trial.count == 2


def test_the_operator_can_ask_for_another_trial(tmp_path: Path) -> None:
    trial = FakeTrial(VersionRejected("crash", "a reason"))
    verdicts = Verdicts(tmp_path / "v.json", trial)
    kind_of(verdicts)

    verdicts.clear()
    verdicts.clear()

    kind_of(verdicts)
    assert trial.count == 2


@pytest.mark.security
def test_the_number_of_verdicts_is_limited(tmp_path: Path, clock: Clock) -> None:
    trial = FakeTrial(VersionRejected("crash", "x" * 10_000))
    verdicts = Verdicts(tmp_path / "v.json", trial, clock)

    for number in range(3 * MAX_VERDICTS):
        clock.seconds += 1
        kind_of(verdicts, f"{number:064}")

    content = json.loads((tmp_path / "v.json").read_text())
    assert len(content) == MAX_VERDICTS
    assert f"{3 * MAX_VERDICTS - 1:064}" in content
    assert (tmp_path / "v.json").stat().st_size < 20_000


def text(**changes: object) -> str:
    entry = {"kind": "crash", "reason": "a reason", "trials": 1, "retry_at": 2e9}
    return json.dumps({"a": entry | changes})


@pytest.mark.parametrize(
    "content",
    ["", "[]", "{", '{"a": 1}', text(kind="other"), text(trials=0), text(retry_at="soon"), "[" * 9999],
)  # fmt: skip
def test_an_invalid_file_is_ignored(tmp_path: Path, content: str) -> None:
    (tmp_path / "v.json").write_text(content)

    assert kind_of(Verdicts(tmp_path / "v.json", FakeTrial())) == ""


@pytest.mark.parametrize("retry_at", [9e9, float("nan"), float("inf")])
def test_a_clock_that_was_ahead_does_not_block_a_version(
    tmp_path: Path, clock: Clock, retry_at: float
) -> None:
    (tmp_path / "v.json").write_text(text(retry_at=retry_at))

    assert kind_of(Verdicts(tmp_path / "v.json", FakeTrial(), clock)) == ""


@pytest.mark.parametrize("blocked", [True, False])
def test_without_a_writable_folder_versions_are_tried_each_time(
    tmp_path: Path, blocked: bool
) -> None:
    (tmp_path / "cache").touch()
    error = VersionRejected("crash", "a reason") if blocked else None
    make: Callable[[], Verdicts] = lambda: Verdicts(tmp_path / "cache" / "v.json", trial)  # noqa: E731
    trial = FakeTrial(error)

    assert [kind_of(make()) for _ in range(2)] == ["crash" if blocked else ""] * 2
    assert trial.count == (2 if blocked else 1)
