from dataclasses import replace

import numpy as np
import pytest

from heart.drift.baseline import Reference
from heart.drift.detector import check, count
from heart.drift.simulation import Sample, count_steps, delays, first_alarm, memberships
from heart.schema import NAMES
from tests.fixtures.drift import SMALL

THALLIUM = NAMES.index("thallium")


def without_thallium(sample: Sample, share: float) -> Sample:
    rows = sample.rows.copy()
    rows[:, THALLIUM] = np.nan
    weights = np.repeat([1 - share, share], len(sample.rows))
    return Sample(np.vstack([sample.rows, rows]), np.tile(sample.scores, 2), weights)


@pytest.mark.parametrize(("share", "start"), [(0.25, 0), (0.15, 500)])
def test_a_simulated_stream_alarms_when_the_check_does(
    share: float, start: int, sample: Sample, reference: Reference
) -> None:
    mixed = without_thallium(sample, share)
    random = np.random.default_rng(3)
    indices = random.choice(len(mixed.rows), size=700, p=mixed.weights / mixed.weights.sum())  # type: ignore[union-attr]
    indices[:start] %= len(sample.rows)
    blocks = np.zeros((70, len(mixed.rows)), dtype=np.float32)
    np.add.at(blocks, (np.arange(700) // 10, indices), 1)

    simulated = first_alarm(reference, blocks @ memberships(mixed, reference), start)

    alarms = [
        n
        for n in range(start + 10, 701, 10)
        if check(mixed.rows[indices[:n]], mixed.scores[indices[:n]], reference).drifted
    ]
    assert simulated == alarms[0] < 700


def test_streams_without_drift_rarely_alarm_and_those_with_drift_do(sample: Sample) -> None:
    unchanged = delays(sample, sample, 242, SMALL, SMALL.stream, 40, seed=0)
    changed = delays(sample, without_thallium(sample, 0.5), 242, SMALL, 200, 40, seed=0)
    later = delays(sample, without_thallium(sample, 0.5), 242, SMALL, 200, 40, seed=0, start=400)

    assert np.isfinite(unchanged).sum() <= 2
    assert np.median(changed) == 20
    assert 10 <= np.median(later) <= 30


def test_the_same_seed_gives_the_same_streams(sample: Sample) -> None:
    once, again, other = (
        delays(sample, without_thallium(sample, 0.3), 242, SMALL, 100, 10, seed=seed)
        for seed in (1, 1, 2)
    )

    assert (once == again).all()
    assert (once != other).any()


def test_a_stream_is_counted_between_two_checks(sample: Sample, reference: Reference) -> None:
    stream = sample.draw(np.random.default_rng(0), 30)

    by_step = count_steps(stream, reference)

    for step, counts in enumerate(by_step):
        own = slice(10 * step, 10 * step + 10)
        assert counts.tolist() == count(stream.rows[own], stream.scores[own], reference).tolist()


def test_patients_are_drawn_in_proportion_to_their_weights(sample: Sample) -> None:
    weights = np.zeros(len(sample.rows))
    weights[[3, 5]] = 1, 3

    patients = replace(sample, weights=weights).draw(np.random.default_rng(0), 1000)

    rows = [row.tobytes() for row in patients.rows]
    third, fifth = (rows.count(sample.rows[i].tobytes()) for i in (3, 5))
    assert third + fifth == len(patients.scores) == 1000
    assert fifth == pytest.approx(750, abs=60)


def test_the_delays_are_the_same_for_any_number_of_processes(sample: Sample) -> None:
    changed = without_thallium(sample, 0.3)
    one, two = (delays(sample, changed, 242, SMALL, 100, 10, seed=1, workers=n) for n in (1, 2))

    assert (one == two).all()
