from dataclasses import replace

import numpy as np
import pytest

from heart.drift.baseline import Reference
from heart.drift.detector import check, count
from heart.drift.simulation import Sample, counted, delays, first_alarm, memberships
from heart.schema import NAMES
from tests.fixtures.drift import SMALL

THALLIUM = NAMES.index("thallium")


def without_thallium(sample: Sample, share: float) -> Sample:
    blind = sample.rows.copy()
    blind[:, THALLIUM] = np.nan
    weights = np.repeat([1 - share, share], len(sample.rows))
    return Sample(np.vstack([sample.rows, blind]), np.tile(sample.scores, 2), weights)


@pytest.mark.parametrize(("share", "start"), [(0.25, 0), (0.15, 500)])
def test_a_simulated_stream_alarms_where_the_check_does(
    share: float, start: int, sample: Sample, reference: Reference
) -> None:
    mixed = without_thallium(sample, share)
    random = np.random.default_rng(3)
    drawn = random.choice(len(mixed.rows), size=700, p=mixed.weights / mixed.weights.sum())  # type: ignore[union-attr]
    drawn[:start] %= len(sample.rows)
    blocks = np.zeros((70, len(mixed.rows)), dtype=np.float32)
    np.add.at(blocks, (np.arange(700) // 10, drawn), 1)

    simulated = first_alarm(reference, blocks @ memberships(mixed, reference), start)

    looks = [
        came
        for came in range(start + 10, 701, 10)
        if check(mixed.rows[drawn[:came]], mixed.scores[drawn[:came]], reference).drifted
    ]
    assert simulated == looks[0] < 700


def test_streams_without_drift_seldom_alarm_and_those_with_it_do(sample: Sample) -> None:
    quiet = delays(sample, sample, 242, SMALL, SMALL.stream, 40, seed=0)
    loud = delays(sample, without_thallium(sample, 0.5), 242, SMALL, 200, 40, seed=0)
    later = delays(sample, without_thallium(sample, 0.5), 242, SMALL, 200, 40, seed=0, start=400)

    assert np.isfinite(quiet).sum() <= 2
    assert np.median(loud) == 20
    assert 10 <= np.median(later) <= 30


def test_the_same_seed_gives_the_same_streams(sample: Sample) -> None:
    once, again, other = (
        delays(sample, without_thallium(sample, 0.3), 242, SMALL, 100, 10, seed=seed)
        for seed in (1, 1, 2)
    )

    assert (once == again).all()
    assert (once != other).any()


def test_a_stream_is_counted_between_two_looks(sample: Sample, reference: Reference) -> None:
    stream = sample.draw(np.random.default_rng(0), 30)

    found = counted(stream, reference)

    for snapshot, counts in enumerate(found):
        own = slice(10 * snapshot, 10 * snapshot + 10)
        assert counts.tolist() == count(stream.rows[own], stream.scores[own], reference).tolist()


def test_weights_are_how_likely_a_patient_is(sample: Sample) -> None:
    weights = np.zeros(len(sample.rows))
    weights[[3, 5]] = 1, 3

    drawn = replace(sample, weights=weights).draw(np.random.default_rng(0), 1000)

    rows = [row.tobytes() for row in drawn.rows]
    third, fifth = (rows.count(sample.rows[i].tobytes()) for i in (3, 5))
    assert third + fifth == len(drawn.scores) == 1000
    assert fifth == pytest.approx(750, abs=60)
