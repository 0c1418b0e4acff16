"""Which outcomes are quarantined, on simulated risks whose outcomes are honest or not."""

from collections.abc import Callable

import numpy as np
import pytest
from scipy.special import expit

from heart.ml.outcome_check import (
    CONTRADICTED,
    INVERTED,
    UNINFORMATIVE,
    OutcomeCheck,
    check_outcomes,
    expected_auc,
)

Change = Callable[[np.ndarray, np.random.Generator], np.ndarray]
DRAWS = 60


def shuffle(outcome: np.ndarray, random: np.random.Generator) -> np.ndarray:
    return random.permutation(outcome)


def invert(outcome: np.ndarray, _: np.random.Generator) -> np.ndarray:
    return 1 - outcome


def shuffle_half(outcome: np.ndarray, random: np.random.Generator) -> np.ndarray:
    half = len(outcome) // 2
    return np.append(outcome[:half], random.permutation(outcome[half:]))


def honest(outcome: np.ndarray, _: np.random.Generator) -> np.ndarray:
    return outcome


def check(
    count: int, seed: int, change: Change = honest, shift: float = 0.0, spread: float = 2.5
) -> OutcomeCheck:
    """The check of outcomes of a hospital at which the log odds are higher by `shift`."""
    random = np.random.default_rng(seed)
    z = random.normal(0, spread, count)
    outcome = (random.random(count) < expit(z + shift)).astype(float)
    return check_outcomes(expit(z), change(outcome, random), {})


def reasons(*arguments: object, **options: object) -> list[str]:
    """The reason of each draw, "" where the outcomes pass."""
    checks = [check(arguments[0], seed, *arguments[1:], **options) for seed in range(DRAWS)]  # type: ignore[arg-type]
    return [result.findings[0].reason if result.findings else "" for result in checks]


@pytest.mark.parametrize("count", [20, 60, 240])
@pytest.mark.parametrize("shift", [0.0, 2.0])
@pytest.mark.parametrize("spread", [1.0, 2.5])
def test_honest_outcomes_pass_also_at_hospitals_with_other_shares_and_missing_measurements(
    count: int, shift: float, spread: float
) -> None:
    assert reasons(count, shift=shift, spread=spread).count("") >= DRAWS - 3


@pytest.mark.parametrize("count", [60, 240])
def test_shuffled_outcomes_are_uninformative(count: int) -> None:
    verdicts = reasons(count, shuffle)

    assert verdicts.count("") <= 1
    assert verdicts.count(UNINFORMATIVE) >= DRAWS - 5


@pytest.mark.parametrize("count", [60, 240])
def test_inverted_outcomes_are_found(count: int) -> None:
    assert reasons(count, invert) == [INVERTED] * DRAWS


def test_outcomes_of_which_half_are_shuffled_contradict_the_expected_ranks() -> None:
    assert reasons(240, shuffle_half).count(CONTRADICTED) >= 0.8 * DRAWS


def test_shuffled_outcomes_that_pass_by_chance_teach_only_their_share() -> None:
    results = [check(30, seed, shuffle, spread=1.0) for seed in range(DRAWS)]
    passed = [result for result in results if not result.findings]

    assert passed  # so few outcomes, and risks so close together, leave it open
    assert sum(not result.intercept_only for result in passed) <= 3


def test_a_few_healthy_patients_are_no_reason_for_a_quarantine() -> None:
    """At a hospital where 93 % are ill the AUC of 60 patients says little."""
    random = np.random.default_rng(0)
    z = random.normal(0, 1.5, 60)
    outcome = np.ones(60)
    outcome[[3, 17]] = 0

    result = check_outcomes(expit(z), outcome, {})

    assert result.findings == ()
    assert result.intercept_only


def two_senders(seed: int = 0, count: int = 120) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    z = random.normal(0, 2.5, count)
    return z, (random.random(count) < expit(z)).astype(float), np.arange(count) < count // 3


def test_only_the_wrong_sender_is_quarantined() -> None:
    z, outcome, wrong = two_senders()
    outcome[wrong] = 1 - outcome[wrong]

    result = check_outcomes(expit(z), outcome, {"sender a": wrong, "sender b": ~wrong})

    [finding] = result.findings
    assert (finding.subset, finding.reason) == ("sender a", INVERTED)
    assert (result.quarantined == wrong).all()
    assert not result.intercept_only


def test_outcomes_that_are_wrong_everywhere_are_quarantined_as_a_whole() -> None:
    random = np.random.default_rng(3)
    z, outcome, young = two_senders(3)

    result = check_outcomes(expit(z), random.permutation(outcome), {"young": young, "old": ~young})

    assert [finding.subset for finding in result.findings] == ["all"]
    assert result.quarantined.all()


def test_a_sender_who_reports_ill_patients_as_healthy_is_out_of_line_with_the_others() -> None:
    z, outcome, wrong = two_senders()
    outcome[wrong] = 0

    result = check_outcomes(expit(z), outcome, {"sender a": wrong})

    [finding] = result.findings
    assert (finding.reason, finding.with_disease, finding.auc) == (CONTRADICTED, 0, None)
    assert finding.expected_with_disease > 10
    assert (result.quarantined == wrong).all()


def test_two_clinics_may_differ_in_the_share_of_ill_patients() -> None:
    random = np.random.default_rng(1)
    z = random.normal(0, 2.5, 120)
    clinic = np.arange(120) < 60
    outcome = (random.random(120) < expit(z + np.where(clinic, 1.2, 0.0))).astype(float)

    assert (
        check_outcomes(expit(z), outcome, {"clinic a": clinic, "clinic b": ~clinic}).findings == ()
    )


def test_the_expected_auc_is_that_of_outcomes_drawn_from_the_risks() -> None:
    assert expected_auc(np.full(100, 0.5)) == pytest.approx(0.5, abs=0.01)
    assert expected_auc(np.repeat([0.001, 0.999], 50)) > 0.99
    assert expected_auc(np.zeros(50)) == 0.5


@pytest.mark.parametrize("outcome", [np.zeros(30), np.ones(30), np.zeros(0)])
def test_outcomes_of_one_kind_pass_but_say_nothing_about_single_patients(
    outcome: np.ndarray,
) -> None:
    result = check_outcomes(np.linspace(0.1, 0.9, len(outcome)), outcome, {})

    assert (result.findings, result.intercept_only) == ((), True)
