from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from heart.drift import detector as drift
from heart.drift.baseline import COLUMNS, SCORE, Reference
from heart.drift.detector import check, count, fit
from heart.drift.simulation import Sample
from heart.schema import MEASUREMENTS, NAMES
from tests.fixtures.drift import SMALL

Draw = Callable[..., tuple[Any, Any]]

AGE, SEX, CHEST_PAIN, CHOLESTEROL, THALLIUM = (
    NAMES.index(name) for name in ("age", "sex", "chest_pain_type", "cholesterol", "thallium")
)


def drifted(report: drift.Report) -> list[str]:
    return [name for name, finding in report.features.items() if finding.drifted]


# The verdict


def test_patients_like_the_training_patients_are_no_drift(
    reference: Reference, draw_patients: Draw
) -> None:
    report = check(*draw_patients(400), reference)

    assert report.drifted is False
    assert (report.window_rows, report.minimum_rows) == (400, 20)
    assert tuple(report.features) == COLUMNS
    assert report.summary == "no drift in the last 400 patients"
    for finding in report.features.values():
        assert 0 <= finding.ratio < 1
        assert finding.ratio == pytest.approx(finding.score / finding.limit)


@pytest.mark.parametrize("number", [0, 1, 19])
def test_fewer_rows_than_the_minimum_give_no_verdict(
    number: int, reference: Reference, draw_patients: Draw
) -> None:
    rows, scores = draw_patients(number)
    rows[:, THALLIUM] = np.nan

    report = check(rows, scores, reference)

    assert (report.drifted, report.features, report.window_rows) == (None, {}, number)
    assert report.summary == f"{number} patients, 20 are needed: no verdict"


def test_rows_older_than_the_earlier_patients_are_ignored(
    reference: Reference, draw_patients: Draw
) -> None:
    rows, scores = draw_patients(SMALL.windows[-1] + SMALL.earlier)
    other, others = draw_patients(1000, seed=1)
    other[:] = np.nan

    assert check(np.vstack([other, rows]), np.append(others, scores), reference) == check(
        rows, scores, reference
    )


def test_all_patients_so_far_are_checked_until_the_longest_window_is_full(
    reference: Reference, draw_patients: Draw
) -> None:
    rows, scores = draw_patients(390)
    rows[:, SEX] = np.arange(390) % 25 < 11  # 44 % men instead of 68 %

    report = check(rows, scores, reference)

    assert drifted(report) == ["sex"]
    assert (
        report.features["sex"].summary
        == "sex male in 45 % of the last 390 patients, 68 % in training"
    )


def test_a_finding_is_of_the_window_with_the_largest_ratio(
    reference: Reference, draw_patients: Draw
) -> None:
    rows, scores = draw_patients(400)
    rows[-40:, THALLIUM] = np.nan

    finding = check(rows, scores, reference).features["thallium"]

    assert finding.drifted
    assert (
        finding.summary
        == "thallium missing in 100 % of the last 40 patients, under 1 % in training and the 360 patients before"
    )


# Earlier patients of the stream


def later_women(draw_patients: Draw, quiet: int = 500) -> tuple[Any, Any]:
    """Quiet patients, and then 200 of whom 48 % instead of 68 % are men."""
    rows, scores = draw_patients(quiet + 200)
    rows[quiet:, SEX] = np.arange(200) % 25 < 12
    return rows, scores


def test_a_change_that_training_patients_alone_do_not_show_is_found_beside_earlier_ones(
    sample: Sample, reference: Reference, draw_patients: Draw
) -> None:
    without = fit(sample.rows, sample.scores, replace(SMALL, earlier=0))

    alone = check(*later_women(draw_patients), without)
    finding = check(*later_women(draw_patients), reference).features["sex"]

    assert drifted(alone) == []
    assert finding.drifted
    assert (finding.window_rows, finding.earlier_rows) == (160, 500)
    assert "in training and the 500 patients before" in finding.summary


def test_a_stream_that_returns_to_the_training_patients_is_no_drift(
    reference: Reference, draw_patients: Draw
) -> None:
    rows, scores = draw_patients(900)
    rows[:500, THALLIUM] = np.nan

    assert not check(rows, scores, reference).drifted


def test_a_slow_drift_is_found_although_the_earlier_patients_drift_too(
    reference: Reference, draw_patients: Draw
) -> None:
    rows, scores = draw_patients(900)
    rows[:, AGE] += np.linspace(0, 8, 900).round()

    finding = check(rows, scores, reference).features["age"]

    assert finding.drifted
    assert finding.earlier_rows == 0


# Summaries


@pytest.mark.parametrize(("years", "direction"), [(8, "higher"), (-8, "lower")])
def test_a_shift_has_a_direction(
    years: int, direction: str, reference: Reference, draw_patients: Draw
) -> None:
    rows, scores = draw_patients(400)
    rows[:, AGE] += years

    report = check(rows, scores, reference)

    assert drifted(report) == ["age"]
    assert report.features["age"].summary.startswith(f"age {direction}: above 56 years in ")


def test_a_wider_spread_is_detected_in_the_shares(
    reference: Reference, draw_patients: Draw
) -> None:
    rows, scores = draw_patients(400)
    middle = np.median(rows[:, AGE])
    rows[:, AGE] = np.clip(middle + 2.5 * (rows[:, AGE] - middle), 29, 77)

    finding = check(rows, scores, reference).features["age"]

    assert finding.drifted
    assert "higher" not in finding.summary
    assert "lower" not in finding.summary


def test_the_summary_names_missing_values(reference: Reference, draw_patients: Draw) -> None:
    rows, scores = draw_patients(200)
    rows[:68, THALLIUM] = np.nan
    rows = rows[np.random.default_rng(0).permutation(200)]

    finding = check(rows, scores, reference).features["thallium"]

    assert finding.drifted
    assert (
        finding.summary
        == "thallium missing in 34 % of the last 200 patients, under 1 % in training"
    )


def test_shares_of_values_are_of_the_patients_in_whom_they_are_known(
    reference: Reference, draw_patients: Draw
) -> None:
    rows, scores = draw_patients(400)
    rows[:, CHEST_PAIN] = 3
    rows[::8, CHEST_PAIN] = np.nan

    summary = check(rows, scores, reference).features["chest_pain_type"].summary

    assert summary == (
        "chest pain type asymptomatic in 100 % of the 350 of the last 400 patients "
        "in whom it is known, 48 % in training"
    )


def test_the_score_is_a_feature(reference: Reference, draw_patients: Draw) -> None:
    rows, scores = draw_patients(400)

    report = check(rows, np.minimum(scores + np.float32(0.1), 1), reference)

    assert drifted(report) == [SCORE]
    assert report.features[SCORE].summary.startswith("predicted risk ")
    assert report.summary == "drift of score in the last 400 patients"


# Values of any kind


def test_one_patient_of_a_new_category_is_no_alarm_and_several_are(
    reference: Reference, draw_patients: Draw
) -> None:
    rows, scores = draw_patients(40)

    findings = []
    for number in (1, 10):
        rows[-number:, CHEST_PAIN] = 9
        findings.append(check(rows, scores, reference).features["chest_pain_type"])

    assert [finding.drifted for finding in findings] == [False, True]
    assert "chest pain type in no known category in 50 % of the last 20" in findings[1].summary


def test_values_that_no_training_patient_had_are_drift(
    reference: Reference, draw_patients: Draw
) -> None:
    rows, scores = draw_patients(40)
    rows[-10:, CHOLESTEROL] = 5.2  # mmol/l

    finding = check(rows, scores, reference).features["cholesterol"]

    assert finding.drifted
    assert finding.summary.startswith("cholesterol up to 125 mg/dl in 50 % of the last 20 patients")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e30, -1.0, 0.5])
@pytest.mark.parametrize("column", [AGE, SEX, THALLIUM])
def test_a_column_of_any_invalid_value_is_drift(
    value: float, column: int, reference: Reference, draw_patients: Draw
) -> None:
    rows, scores = draw_patients(20)
    rows[:, column] = value

    report = check(rows, scores, reference)

    assert drifted(report) == [NAMES[column]]
    assert np.isfinite(report.features[NAMES[column]].ratio)


def test_scores_that_are_missing_are_drift(reference: Reference, draw_patients: Draw) -> None:
    rows, scores = draw_patients(20)

    report = check(rows, np.full_like(scores, np.nan), reference)

    assert drifted(report) == [SCORE]
    assert "predicted risk missing in 100 %" in report.features[SCORE].summary


def test_a_column_that_was_constant_in_training(sample: Sample, draw_patients: Draw) -> None:
    constant = sample.rows.copy()
    constant[:, [AGE, SEX]] = 50, 1
    reference = fit(constant, sample.scores, SMALL)
    rows, scores = draw_patients(40)

    changed = check(rows, scores, reference)
    rows[:, [AGE, SEX]] = 50, 1
    same = check(rows, scores, reference)

    assert drifted(changed) == ["age", "sex"]
    assert not same.drifted


def test_a_column_that_was_all_missing_in_training(sample: Sample, draw_patients: Draw) -> None:
    rows_without = sample.rows.copy()
    rows_without[:, [AGE, THALLIUM]] = np.nan
    reference = fit(rows_without, sample.scores, SMALL)
    rows, scores = draw_patients(40)

    known = check(rows, scores, reference)
    rows[:, [AGE, THALLIUM]] = np.nan
    same = check(rows, scores, reference)

    assert drifted(known) == ["age", "thallium"]
    assert known.features["age"].summary.startswith(
        "age missing in 0 % of the last 40 patients, 100 %"
    )
    assert not same.drifted
    assert Reference.from_json(reference.to_json()) == reference


def test_any_window_of_any_floats_has_finite_findings(reference: Reference) -> None:
    random = np.random.default_rng(0)
    odd = np.array([np.nan, np.inf, -np.inf, -0.0, 1e-40, 3.4e38, 0, 1, 2, 3, 50, 150])

    for number in random.integers(20, 500, size=50):
        rows = random.choice(odd, size=(number, len(NAMES))).astype(np.float32)
        report = check(rows, rows[:, 0], reference)
        assert all(np.isfinite([f.ratio, f.score, f.limit]).all() for f in report.features.values())


@pytest.mark.parametrize(("rows", "scores"), [((20, 12), 20), ((20, 13), 19), ((13,), 13)])
def test_tables_of_other_shapes_are_rejected(
    rows: tuple[int, ...], scores: int, reference: Reference
) -> None:
    with pytest.raises(ValueError, match=r"expected \(n, 13\) and \(n,\)"):
        check(np.zeros(rows, np.float32), np.zeros(scores, np.float32), reference)


def test_too_few_training_patients_are_rejected(draw_patients: Draw) -> None:
    with pytest.raises(ValueError, match="10 training patients, expected at least 11"):
        fit(*draw_patients(10), SMALL)


# Counts


def test_counts_add_up(
    reference: Reference, draw_patients: Draw, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, scores = draw_patients(500)
    rows[::7, THALLIUM] = np.nan
    whole = count(rows, scores, reference)

    monkeypatch.setattr(drift, "CHUNK", 64)

    parts = [count(rows[i:j], scores[i:j], reference) for i, j in ((0, 1), (1, 300), (300, 500))]
    assert np.array_equal(np.sum(parts, axis=0), whole)
    assert whole.sum() == 500 * len(COLUMNS)


def test_the_reference_holds_counts_of_its_rows(sample: Sample, reference: Reference) -> None:
    rows = len(sample.rows)

    assert reference.rows == rows
    for position, (column, m) in enumerate(zip(reference.columns, MEASUREMENTS, strict=False)):
        values = sample.rows[:, position]
        assert column.missing == np.isnan(values).sum()
        if m.choices:
            assert column.counts == (*((values == c).sum() for c in range(len(m.choices))), 0)
        else:
            # Values at the steps of the schema are on the same side of an edge as their decimal text.
            above = [(values > np.float32(edge)).sum() for edge in column.edges]
            assert above == list(np.cumsum(column.counts[::-1])[::-1][1:])
            assert column.counts[0] == column.counts[-1] == 0


def test_a_policy_of_another_size_has_other_limits(sample: Sample) -> None:
    strict = replace(SMALL, false_alarms=0.001)
    smaller = fit(sample.rows[:100], sample.scores[:100], SMALL)
    usual, stricter = (fit(sample.rows, sample.scores, policy) for policy in (SMALL, strict))

    limits = [reference.columns[AGE].limits.shift for reference in (usual, stricter, smaller)]

    assert (np.array(limits[1]) > limits[0]).all()
    assert limits[2] != limits[0]
