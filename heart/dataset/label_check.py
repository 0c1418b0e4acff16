"""Whether the outcome can be right: both classes, the right way round, the same for the same patient."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import betaln, rel_entr

from heart.errors import UserError
from heart.schema import BY_NAME, NAMES, OUTCOME

# Disease goes with each of these (Detrano et al. 1989): the column, and the value to count or, for
# a number, the sign of its association.
DIRECTIONS: tuple[tuple[str, str | int], ...] = (
    ("exercise_angina", "yes"),
    ("st_depression", +1),
    ("major_vessels", +1),
    ("thallium", "reversible_defect"),
    ("chest_pain_type", "asymptomatic"),
    ("max_heart_rate", -1),
    ("sex", "male"),
    ("st_slope", "flat"),
)

# Eight signs without any association, in eleven different tests, would be refused once in 900 tables; at
# each of the four UCI hospitals all go with disease or hardly differ (the lowest z value is -0.8).
CONTRADICTION_P = 1e-4
CONFLICT_P = 1e-4
IDENTIFYING = ("age", "resting_bp", "cholesterol", "max_heart_rate")
MAX_CONFLICTS = 0.02  # share of the patients of whom these are known
SHOWN_CONFLICTS = 20


def associations(table: pd.DataFrame) -> tuple[dict[str, float], float]:
    """How strongly the outcome goes with each clinical sign, and with all of them together.

    As z values, r sqrt(n - 1) of the correlation r with the outcome; positive is as expected. All
    together is the sum of the standardised signs: they are correlated, so their z values do not add
    up. A sign that does not vary has none; without any, all together is 0.
    """
    positive = (table[OUTCOME.name] == "presence").to_numpy().astype(float)
    z_values, total = {}, np.zeros(len(table))
    for column, sign in DIRECTIONS:
        values = _numbers(pd.Categorical(table[column]), sign)
        given = ~np.isnan(values)
        z = _association(values[given], positive[given])
        if z is not None:
            z_values[column] = z
            deviation = (values - values[given].mean()) / values[given].std()
            total += np.nan_to_num(deviation, nan=0.0)
    return z_values, _association(total, positive) or 0.0


def _association(values: "np.ndarray[Any, Any]", positive: "np.ndarray[Any, Any]") -> float | None:
    if len(values) < 2 or values.std() == 0 or positive.std() == 0:
        return None
    return float(np.corrcoef(values, positive)[0, 1] * np.sqrt(len(values) - 1))


def _numbers(cells: "pd.Categorical[str]", sign: str | int) -> "np.ndarray[Any, Any]":
    """A sign as a number [n]: whether a cell is the category, or its value; NaN where it is missing."""
    distinct = []
    for text in cells.categories:
        value = float(text == sign) if isinstance(sign, str) else sign * float(text or "nan")
        distinct.append(value if text else float("nan"))
    return np.asarray(np.array(distinct)[cells.codes])


def contradictions(table: pd.DataFrame) -> dict[str, float]:
    """The signs that contradict the outcome significantly, and the probability of that by chance.

    A sign does if it goes with absence, or if the first category, which is the best one, goes with
    presence. By Fisher's exact test, one-sided, a number being high if it is above the median: the
    z values above are far from normal where few patients have a sign, or an outcome. Copies of a
    row count once.
    """
    table = table.drop_duplicates([*NAMES, OUTCOME.name])
    positive = (table[OUTCOME.name] == "presence").to_numpy()
    result = {}
    for column, sign in DIRECTIONS:
        cells = pd.Categorical(table[column])
        values = _numbers(cells, sign)
        given = ~np.isnan(values)
        if given.any():
            p = probability_of_so_few(_is_high(values[given]), positive[given])
            if isinstance(sign, str):
                others = _numbers(cells, _first_category(column)) == 0
                p = min(p, probability_of_so_few(others[given], positive[given]))
            if p < CONTRADICTION_P:
                result[column] = p
    return result


def _first_category(column: str) -> str:
    return BY_NAME[column].choices[0].name


def _is_high(values: "np.ndarray[Any, Any]") -> "np.ndarray[Any, Any]":
    """Which values [n] are above their median, or at it if none is above."""
    median = np.median(values)
    high = values > median
    return np.asarray(high if high.any() else values >= median)


def probability_of_so_few(high: "np.ndarray[Any, Any]", positive: "np.ndarray[Any, Any]") -> float:
    """The probability that no more patients have both, if one has nothing to do with the other.

    It is hypergeometric. (The import of scipy.stats would take longer than the rest of the stage.)
    """
    rows, first, second = len(high), int(high.sum()), int(positive.sum())
    both = np.arange(max(0, first + second - rows), int((high & positive).sum()) + 1)
    ways = _log_choose(second, both) + _log_choose(rows - second, first - both)
    return float(np.exp(ways - _log_choose(rows, first)).sum())


def _log_choose(n: Any, k: Any) -> Any:
    return -np.log(n + 1) - betaln(n - k + 1, k + 1)


def check_direction(table: pd.DataFrame, path: Path, remedy: str) -> dict[str, float]:
    """The associations with each sign. Raises UserError if one or all are the wrong way round.

    The label is when the signs together speak against it by more than three standard errors; a
    single sign is when it contradicts the outcome significantly.
    """
    z_values, together = associations(table)
    if together > -3:
        _check_signs(table, z_values, path)
        return z_values
    against = sorted((z, column) for column, z in z_values.items() if z < 0)
    evidence = "\n".join(f"  {column}: z = {z:.1f}, expected above 0" for z, column in against)
    raise UserError(
        f"{path}: the label looks inverted: {len(against)} of {len(z_values)} clinical signs go with "
        f"absence of disease, all together z = {together:.1f}\n{evidence}\n{remedy}"
    )


def _check_signs(table: pd.DataFrame, z_values: dict[str, float], path: Path) -> None:
    """Raises UserError for signs that go with absence of disease."""
    against = contradictions(table)
    if not against:
        return
    evidence = "\n".join(
        f"  {column}: {_expectation(column, dict(DIRECTIONS)[column])}, but the opposite is the "
        f"case (p = {p:.1g})"
        for column, p in against.items()
    )
    raise UserError(
        f"{path}: {len(against)} of {len(z_values)} clinical signs contradict the outcome\n{evidence}\n"
        f"correct the codes or numbers of {', '.join(against)} in this file, or leave the column "
        "empty if its meaning is not known"
    )


def _expectation(column: str, sign: str | int) -> str:
    if isinstance(sign, str):
        return f"{sign} should go with disease, {_first_category(column)} without"
    return f"{'high' if sign > 0 else 'low'} values should go with disease"


def check_both_outcomes(table: pd.DataFrame, labels: Iterable[str], path: Path) -> None:
    """Raises UserError if all patients have one outcome; `labels` are the cells that gave it."""
    outcomes = sorted(set(table[OUTCOME.name]))
    if len(outcomes) == 1:
        raise UserError(
            f"{path}: {OUTCOME.name} is {outcomes[0]} in all {len(table)} rows (label "
            f"{', '.join(sorted(labels))}), expected both outcomes. UCI's label is 0 for absence, 1 "
            "to 4 for presence; Statlog's, read if it is all there is, 1 for absence, 2 for "
            "presence. Add the other patients, or write absence and presence"
        )


def check_conflicts(
    hashes: "np.ndarray[Any, Any]", table: pd.DataFrame, paths: Sequence[Path]
) -> None:
    """Raises UserError if too many sets of rows with the same measurements have both outcomes.

    Two patients do not have all of IDENTIFYING in common: such a set is one patient with two
    outcomes, and more than MAX_CONFLICTS of the patients is no slip. Patients of whom less is known
    may well be alike; for them see `_by_chance`.
    """
    sets, _ = pd.factorize(hashes)
    sizes = np.bincount(sets)
    positive = np.bincount(sets, weights=(table[OUTCOME.name] == "presence").to_numpy())
    conflicting = (positive > 0) & (positive < sizes)
    whole = np.bincount(sets, weights=(table[list(IDENTIFYING)] != "").all(axis=1)) > 0
    conflicts, patients = int((conflicting & whole).sum()), int(whole.sum())
    if conflicts > max(1, MAX_CONFLICTS * patients):
        expected = f"expected at most {MAX_CONFLICTS:.0%} of {patients} patients"
    elif (chance := _by_chance(conflicting, sizes)) is not None:
        conflicts, expected = int(conflicting.sum()), f"by chance it would be at most {chance:.0f}"
    else:
        return
    raise UserError(
        f"{' and '.join(map(str, paths))}: {conflicts} sets of rows with the same measurements have "
        f"both outcomes, {expected}\n{_conflicting_lines(table, sets, conflicting)}\n"
        "files with opposite labels may have been put together: remove or invert the rows of one "
        "of them"
    )


def _by_chance(conflicting: "np.ndarray[Any, Any]", sizes: "np.ndarray[Any, Any]") -> float | None:
    """The expected number of conflicting sets, if there are significantly more.

    If the outcomes of different patients are independent, k of them have both with a probability of
    at most 1 - 2^(1 - k): half of the pairs. That as many sets have both as observed, then, has at
    most the probability exp(-sets KL(observed share, expected share)), Chernoff's bound.
    """
    repeated = sizes > 1
    if not repeated.any():
        return None
    number = np.count_nonzero(repeated)
    observed = float(np.mean(conflicting, where=repeated))
    expected = float(np.mean(1 - 2.0 ** (1 - sizes), where=repeated))
    divergence = rel_entr(observed, expected) + rel_entr(1 - observed, 1 - expected)
    significant = observed > expected and np.exp(-number * divergence) < CONFLICT_P
    return expected * number if significant else None


def _conflicting_lines(
    table: pd.DataFrame, sets: "np.ndarray[Any, Any]", conflicting: "np.ndarray[Any, Any]"
) -> str:
    """The lines of the first conflicting sets, such as "  lines 7 and 62"."""
    rows = table[["line", "source"]].assign(set=sets)[conflicting[sets]]
    several = len(set(rows["source"])) > 1
    texts = []
    for _, own in rows.groupby("set", sort=False):
        places = [f"{r.line} ({r.source})" if several else str(r.line) for r in own.itertuples()]
        texts.append(f"  lines {', '.join(places[:5])}{' and more' if len(places) > 5 else ''}")
    more = [f"  and {len(texts) - SHOWN_CONFLICTS} more"] if len(texts) > SHOWN_CONFLICTS else []
    return "\n".join(texts[:SHOWN_CONFLICTS] + more)
