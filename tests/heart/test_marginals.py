"""Synthetic patients with differential privacy (heart/synthesis/marginals.py)."""

import math

import numpy as np
import pandas as pd
import pytest

from heart import files
from heart.registry.publishing import fictional_rows
from heart.schema import MEASUREMENTS, NAMES, OUTCOME, encode
from heart.synthesis import marginals


def patients(rows: int) -> pd.DataFrame:
    codes = fictional_rows(rows, 0)
    table = pd.DataFrame(
        {
            m.name: [m.text(round(float(v), 3)) for v in codes[:, i]]
            for i, m in enumerate(MEASUREMENTS)
        }
    )
    ill = codes[:, NAMES.index("st_depression")] > 4
    table[OUTCOME.name] = np.where(ill, "presence", "absence")
    table["patient_id"] = [f"p{row}" for row in range(rows)]
    return table


def difference(left: pd.DataFrame, right: pd.DataFrame) -> float:
    """The L2 norm of the difference of all counts."""
    pairs = zip(marginals.counts(left), marginals.counts(right), strict=True)
    return math.sqrt(sum(float(((a - b) ** 2).sum()) for a, b in pairs))


def test_one_patient_changes_the_counts_by_what_the_noise_is_for() -> None:
    table = patients(30)

    for row in range(5):
        assert difference(table, table.drop(index=row)) == pytest.approx(
            math.sqrt(len(MEASUREMENTS))
        )


def test_a_second_row_of_a_patient_does_not_count() -> None:
    table = patients(30)
    again = table.iloc[[3, 4]].assign(patient_id="p7", age="80")

    assert difference(table, pd.concat([table, again], ignore_index=True)) == 0


def test_every_value_that_the_schema_allows_has_a_public_bin() -> None:
    rows = [
        {
            m.name: m.choices[-1].name if m.choices else m.text(getattr(m, end))
            for m in (*MEASUREMENTS, OUTCOME)
        }
        for end in ("low", "high")
    ]
    rows.append({m.name: rows[0][m.name] if m.required else "" for m in (*MEASUREMENTS, OUTCOME)})

    counted = marginals.counts(pd.DataFrame(rows))

    assert [int(table.sum()) for table in counted] == [3] * len(MEASUREMENTS)


def test_the_noise_has_the_scale_that_is_stated() -> None:
    table, privacy = patients(40), marginals.privacy_of(1.0, 1e-5)
    exact = np.concatenate([counted.ravel() for counted in marginals.counts(table)])

    errors = np.concatenate([marginals.noisy(table, privacy.scale) - exact for _ in range(20)])

    assert errors.std() == pytest.approx(privacy.scale, rel=0.15)
    # Of a Gaussian mechanism with the same rho, epsilon would be at most rho + 2 sqrt(rho ln(1 / delta)).
    assert privacy.rho == pytest.approx(len(MEASUREMENTS) / (2 * privacy.scale**2))
    assert privacy.rho + 2 * math.sqrt(privacy.rho * math.log(1e5)) >= 1.0


def test_less_epsilon_is_more_noise_and_generators_add_up() -> None:
    scales = [marginals.privacy_of(epsilon, 1e-5).scale for epsilon in (0.5, 1, 3, 10)]
    privacy = marginals.privacy_of(1.0, 1e-5)

    assert scales == sorted(scales, reverse=True)
    assert marginals.composed_epsilon(privacy, 1) == pytest.approx(1.0, rel=1e-6)
    assert 1.5 < marginals.composed_epsilon(privacy, 5) < 5


def test_two_fits_differ_and_take_no_seed() -> None:
    table, privacy = patients(40), marginals.privacy_of(1.0, 1e-5)

    first, second = (marginals.fit(table, privacy) for _ in range(2))

    assert any(not np.array_equal(a, b) for a, b in zip(first.shares, second.shares, strict=True))


def test_patients_are_valid_and_follow_the_real_ones_where_there_is_hardly_noise() -> None:
    table = patients(400)
    drawn = marginals.fit(table, marginals.privacy_of(100.0, 1e-5)).sample(
        2000, np.random.default_rng(0)
    )

    encode({name: drawn[name].tolist() for name in NAMES})
    assert set(drawn[OUTCOME.name]) == {"absence", "presence"}
    x, y = files.encoded(drawn)
    depression = x[:, NAMES.index("st_depression")]
    assert np.nanmean(depression[y == 1]) > np.nanmean(depression[y == 0]) + 1
    for name in NAMES:
        assert (drawn[name] == "").mean() == pytest.approx((table[name] == "").mean(), abs=0.08)


def test_nobody_at_all_still_gives_patients() -> None:
    table = patients(1).head(0)

    drawn = marginals.fit(table, marginals.privacy_of(1.0, 1e-5)).sample(
        50, np.random.default_rng(0)
    )

    assert len(drawn) == 50
    encode({name: drawn[name].tolist() for name in NAMES})
