"""The statistics compared with scipy's, and the limits with directly simulated streams."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import chi2_contingency, mannwhitneyu

from heart.drift.baseline import Reference
from heart.drift.detector import count, fit
from heart.drift.simulation import Sample
from heart.drift.statistics import SHIFT, all_tests, signed_root
from heart.drift.thresholds import limits
from heart.schema import NAMES
from tests.fixtures.drift import SMALL


@pytest.mark.parametrize(
    ("hits", "known", "before", "known_before"),
    [(9, 30, 2, 242), (160, 320, 165, 242), (0, 50, 3, 230)],
)
def test_the_signed_root_is_that_of_the_likelihood_ratio(
    hits: int, known: int, before: int, known_before: int
) -> None:
    table = [[hits, known - hits], [before, known_before - before]]
    statistic = chi2_contingency(table, correction=False, lambda_="log-likelihood").statistic

    root = signed_root(*(np.array([float(n)]) for n in (hits, known, before, known_before)))

    assert root[0] ** 2 == pytest.approx(statistic)
    assert np.sign(root[0]) == np.sign(hits / known - before / known_before)


def test_the_statistic_of_an_absent_event_is_zero() -> None:
    zero, total = np.zeros(1), np.array([200.0])

    assert signed_root(zero, total, zero, total)[0] == 0
    assert signed_root(zero, zero, zero, total)[0] == 0
    assert signed_root(zero, zero, zero, zero)[0] == 0


def test_the_mean_ridit_is_the_statistic_of_mann_and_whitney(
    sample: Sample, reference: Reference
) -> None:
    vessels = NAMES.index("major_vessels")  # with a bucket for each value nothing is lost
    rows = np.array(sample.rows[:100])
    tests = all_tests(reference)
    which = next(i for i, t in enumerate(tests.tests) if t.column == vessels and t.kind == SHIFT)

    counts = count(rows, sample.scores[:100], reference)
    statistic = tests.statistics(counts @ tests.projection)[which]

    window, training = (
        v[~np.isnan(v)].astype(float) for v in (rows[:, vessels], sample.rows[:, vessels])
    )
    u = mannwhitneyu(window, training, method="asymptotic").statistic / len(window) / len(training)
    ridits = [(training < v).mean() + (training == v).mean() / 2 for v in training]
    error = np.std(ridits) * np.sqrt(1 / len(window) + 1 / len(training))
    assert statistic == pytest.approx((u - 0.5) / error)


def test_statistics_of_float32_counts_are_nearly_the_same(
    sample: Sample, reference: Reference
) -> None:
    tests = all_tests(reference)
    projected = count(sample.rows[:200], sample.scores[:200], reference) @ tests.projection

    assert tests.statistics(projected.astype(np.float32)).dtype == np.float32
    exact, fast = tests.statistics(projected), tests.statistics(projected.astype(np.float32))
    large = np.abs(exact) > 0.5
    assert large.sum() > 10
    assert fast[large] == pytest.approx(exact[large], abs=1e-3)
    assert np.abs(fast[~large]).max() < 0.51


def simulated_rate(
    rows: int, streams: int, limit: tuple[float, ...], windows: tuple[int, ...]
) -> float:
    """The share of streams of normal measurements with an alarm, by a direct simulation."""
    random = np.random.default_rng(99)
    alarms = 0
    for _ in range(streams):
        mean = random.standard_normal(rows).mean()
        stream = random.standard_normal(SMALL.stream)
        raised = False
        for end in range(10, SMALL.stream + 1, 10):
            views = [(n, c) for n, c in zip(windows, limit, strict=False) if n <= end]
            if windows[0] <= end < windows[-1]:
                views.append((end, limit[len(windows)]))
            for n, c in views:
                z = (stream[end - n : end].mean() - mean) / np.sqrt(1 / n + 1 / rows)
                raised = raised or abs(z) > c
            for n, c in zip(windows, limit[len(windows) + 1 :], strict=True):
                before = stream[max(0, end - n - SMALL.earlier) : max(0, end - n)]
                if len(before):
                    known = rows + len(before)
                    reference = (rows * mean + before.sum()) / known
                    z = (stream[end - n : end].mean() - reference) / np.sqrt(1 / n + 1 / known)
                    raised = raised or abs(z) > c
        alarms += raised
    return alarms / streams


def test_the_limits_keep_their_rate_on_directly_simulated_streams() -> None:
    limit = limits(100, replace(SMALL, simulations=20_000), 0.2, 0.15)

    rate = simulated_rate(100, 400, limit, SMALL.windows)

    assert rate == pytest.approx(0.2, abs=0.05)  # 2.5 standard errors


def test_the_extrapolated_tail_agrees_with_more_simulations() -> None:
    short, long = (replace(SMALL, simulations=n) for n in (20_000, 200_000))

    [extrapolated], [simulated] = (
        limits(242, policy, 2e-4, 0.15)[5:6] for policy in (short, replace(long, seed=1))
    )

    assert extrapolated == pytest.approx(simulated, abs=0.1)


def test_rarer_alarms_have_higher_limits() -> None:
    rising = [limits(242, SMALL, rate, 0.0)[0] for rate in (0.1, 1e-2, 1e-3, 1e-5, 1e-12)]

    assert rising == sorted(set(rising))
    assert rising[-1] < 12


def test_every_test_has_a_threshold_for_every_window(reference: Reference) -> None:
    tests = all_tests(reference)

    assert tests.limits.shape == (2 * len(SMALL.windows) + 1, len(tests.tests))
    assert (tests.limits > 3).all()


def test_the_rates_of_all_tests_add_up_to_at_most_the_rate_of_the_policy(
    sample: Sample, monkeypatch: pytest.MonkeyPatch
) -> None:
    rates: list[float] = []

    def spy(rows: int, policy: object, rate: float, exponent: float) -> tuple[float, ...]:  # noqa: ARG001
        rates.append(rate)
        return (float(len(rates) - 1),) * 13

    monkeypatch.setattr("heart.drift.detector.limits", spy)
    reference = fit(sample.rows, sample.scores, SMALL)

    # The value of a limit is the index of its rate.
    total = sum(rates[int(limit)] for limit in all_tests(reference).limits[0])
    assert 0.5 * SMALL.false_alarms < total <= SMALL.false_alarms
