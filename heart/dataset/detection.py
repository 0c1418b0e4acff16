"""Which coding the categories of a table are in, from codes, frequencies and associations.

Files with one heading, and even with the same codes, are in different codings: chest pain 3 is
"asymptomatic" in one and "typical angina" in another. Words tell their category themselves. A column
of numbers is read by every coding, and each reading gets a log likelihood from

1. the codes: one that a coding does not have is an error in the file, of probability ERROR_RATE;
2. the frequencies: the number of patients in each category is Dirichlet-multinomial, that is
   multinomial with shares that vary from hospital to hospital;
3. the associations: the mean severity of the patients of each category is normal around what is
   expected of it. Severity is a sum of measurements that all codings write alike, such as the ST
   depression.

The columns of a file are mostly in one coding. So the prior probability of each is equal for the
file as a whole, a heading that is known from one coding counts HEADING_RATIO for it, and a column
is in another coding than the rest with probability COLUMN_ERROR_RATE. A reading of a column is
accepted if its posterior odds against all others are REQUIRED_RATIO, and if no other reading, nor
any coding of which nothing is known, makes the column CONTRADICTION_RATIO times as likely (of fewer
than SMALL patients, SMALL_CONTRADICTION_RATIO times).

If a coding follows from frequencies and associations, not from the codes alone, the readings together must
be TYPICAL_RATIO times as likely as unknown ones: random numbers have neither the frequencies nor the
associations of patients.

For example, of ten patients seven have chest pain 3, one has 0, and those with 3 have the highest
ST depression: as "asymptomatic", 3 is as frequent and as severe as it should be, as "typical
angina" it is neither.

The outcome is not used: it may be inverted, and a table to score has none. Copies of a row count
once, because they are no further evidence.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from heart.dataset import codings, words
from heart.dataset.codings import DECIDING, NUMBERED, WORDS, Coding, plain_code
from heart.dataset.likelihood import (
    ERROR_RATE,
    EXPECTED,
    KNOWN,
    Cells,
    Columns,
    Tallies,
    distinct_rows,
    fit,
    severities,
    tally,
    unknown_fit,
)
from heart.schema import SchemaError

REQUIRED_RATIO = 10_000
CONTRADICTION_RATIO = 30
TYPICAL_RATIO = 30
SMALL_CONTRADICTION_RATIO, SMALL = 1_000, 30  # two unusual patients contradict nothing
HEADING_RATIO = 10
COLUMN_ERROR_RATE = 1e-6
# Headings, in plain form, of files that are known in one coding.
HEADINGS = {"exng": "heart_csv", "caa": "heart_csv", "condition": "uci_from_0"}


@dataclass(frozen=True)
class Settings:
    """What a user has set, and with what.

    `format` is the coding of the table, or "auto"; `columns` are those of single columns. They are set
    with `name`, and with `column`, which takes any number of `pair`, unless it is empty.
    """

    format: str = codings.AUTO
    columns: Mapping[str, str] = field(default_factory=dict)
    name: str = "prepare.format"
    column: str = "prepare.codings: {{{}}}"
    pair: str = "{}: {}"

    def remedy(self, columns: Sequence[str], names: Sequence[str]) -> str:
        """What to set so that these columns are read in one of these codings."""
        choice = f"set {self.name} to one of {', '.join(names)}"
        if len(columns) > 2 or not self.column:
            return choice
        single = ", ".join(self.pair.format(column, names[0]) for column in columns)
        return f"{choice}, or for {' and '.join(columns)} alone {self.column.format(single)}"


@dataclass(frozen=True)
class Detected:
    """The coding of a table, and the evidence: of each column the log10 odds against other readings.

    A column that all codings read alike has none.
    """

    coding: Coding
    evidence: Mapping[str, float]


def detect(
    columns: Columns, settings: Settings | None = None, headings: Collection[str] = ()
) -> Detected:
    """The coding of a table. `headings` are those of its file in plain form.

    Raises SchemaError if it is in doubt; the message has the setting that decides.
    """
    settings = settings or Settings()
    columns = distinct_rows(columns)
    _check_known(columns, settings)
    severity = severities(columns)
    numbered = [c for c in DECIDING if c in columns and not _is_in_words(c, columns[c])]
    tallies = {column: tally(column, columns[column], severity) for column in numbered}
    tallies = {column: codes for column, codes in tallies.items() if codes}
    readings = {c: _readings(c, codes, settings.columns.get(c)) for c, codes in tallies.items()}
    totals = _posterior(readings, tallies, _prior(headings), settings.columns)
    free = {c: own for c, own in readings.items() if c not in settings.columns}
    _check_doubt(free, tallies, totals, len(severity), settings)
    chosen = {column: max(own, key=lambda r: r.odds) for column, own in free.items()}
    for column, reading in chosen.items():
        _check_contradiction(column, reading, free[column], tallies[column], settings)
    decided = {c: reading for c, reading in chosen.items() if len(readings[c]) > 1}
    best = max(totals, key=totals.__getitem__) if decided else WORDS
    if best != WORDS and best not in settings.columns.values():
        typical = sum(
            r.log_likelihood - unknown_fit(c, tallies[c])
            for c, r in chosen.items()
            if c in EXPECTED
        )
        if not _codes_decide(best, tallies) and typical < math.log(TYPICAL_RATIO):
            raise SchemaError(_untypical(best, tallies, settings))
    names = {column: WORDS for column in DECIDING if column in columns and column not in tallies}
    names |= {
        c: r.names[0] if c in decided and best not in r.names else best for c, r in chosen.items()
    }
    names |= settings.columns
    evidence = {c: round(r.odds / math.log(10), 1) for c, r in decided.items()}
    return Detected(codings.named(WORDS, names), evidence)


def _check_known(columns: Columns, settings: Settings) -> None:
    """Raises SchemaError if no cell of a category is a code or a word that is known."""
    binary = codings.named(WORDS).codes
    for column in (*codings.BINARY, *DECIDING):
        if column in columns:
            codes, known_words = (
                KNOWN.get(column, binary.get(column, ())),
                words.WORDS.get(column, ()),
            )
            for text, _ in columns[column].counts():
                if plain_code(text) in codes or words.plain(text) in known_words:
                    return
    raise SchemaError(
        "no cell is a code or a word that any coding has, so nothing tells the coding: "
        f"set {settings.name} to one of {', '.join(codings.NAMES)}"
    )


def _codes_decide(name: str, tallies: Mapping[str, Tallies]) -> bool:
    """Whether each other coding lacks codes of the table, so many that they cannot be errors."""

    def errors(other: str) -> int:
        return sum(
            codes.patients
            for column, given in tallies.items()
            for code, codes in given.items()
            if code not in NUMBERED[other][column]
        )

    least = round(math.log(REQUIRED_RATIO) / -math.log(ERROR_RATE), 6)
    return all(errors(other) - errors(name) >= least for other in NUMBERED if other != name)


def _untypical(name: str, tallies: Mapping[str, Tallies], settings: Settings) -> str:
    others = [other for other in NUMBERED if other != name]
    return (
        f"cannot tell the coding: {name} fits best, but {', '.join(tallies)} have neither the "
        "frequencies nor the associations of real patients. "
        f"If it is right, set {settings.name} to {name}; others are {', '.join(others)}"
    )


def _is_in_words(column: str, cells: Cells) -> bool:
    """Whether a column has more words for categories than codes."""
    known_words, known_codes = words.WORDS.get(column, {}), KNOWN[column]
    count = sum(
        n * ((words.plain(text) in known_words) - (plain_code(text) in known_codes))
        for text, n in cells.counts()
    )
    return count > 0


@dataclass
class _Reading:
    """What the codes of a column mean in some codings, which read them alike.

    `log_likelihood` is of the column, `odds` the logarithm of the posterior odds against all other
    readings.
    """

    names: tuple[str, ...]
    log_likelihood: float
    odds: float = field(default=math.inf)


def _prior(headings: Collection[str]) -> dict[str, float]:
    """The log prior of each coding of the file as a whole."""
    favored = {HEADINGS[heading] for heading in headings if heading in HEADINGS}
    return {name: math.log(HEADING_RATIO) * (name in favored) for name in NUMBERED}


def _readings(column: str, tallies: Tallies, setting: str | None) -> list[_Reading]:
    """The different readings of a column; if its coding is set, the others are impossible."""
    names: dict[tuple[str | None, ...], list[str]] = {}
    for name, coding in NUMBERED.items():
        names.setdefault(tuple(coding[column].get(code) for code in tallies), []).append(name)
    readings = []
    for alike in names.values():
        likelihood = fit(column, tallies, NUMBERED[alike[0]][column])
        if setting is not None:
            likelihood = 0.0 if setting in alike else -math.inf
        readings.append(_Reading(tuple(alike), likelihood))
    return readings


def _posterior(
    readings: Mapping[str, list[_Reading]],
    tallies: Mapping[str, Tallies],
    prior: Mapping[str, float],
    settings: Collection[str],
) -> dict[str, float]:
    """Put the odds into the readings of each column; the log likelihood of each coding as a whole.

    If the table is in coding b, a column is read by b with probability 1 - e, and by another reading
    or an unknown one with probability e. `fits` has the log likelihood of column c given b.
    """
    terms: dict[tuple[str, str], list[float]] = {}
    for column, own in readings.items():
        unknown = -math.inf if column in settings else unknown_fit(column, tallies[column])
        for name in NUMBERED:
            known = [r.log_likelihood + _log_prior(name in r.names, len(own)) for r in own]
            terms[name, column] = [*known, unknown + math.log(COLUMN_ERROR_RATE)]
    fits = {key: _log_sum(values) for key, values in terms.items()}
    totals = {name: prior[name] + sum(fits[name, c] for c in readings) for name in NUMBERED}
    for column, own in readings.items():
        rest = {name: totals[name] - fits[name, column] for name in NUMBERED}
        masses = [
            _log_sum([rest[name] + terms[name, column][i] for name in NUMBERED])
            for i in range(len(own) + 1)
        ]
        for i, reading in enumerate(own):
            reading.odds = masses[i] - _log_sum([*masses[:i], *masses[i + 1 :]])
    return totals


def _log_sum(logarithms: Sequence[float]) -> float:
    """The logarithm of the sum of numbers that are given by their logarithms."""
    return float(np.logaddexp.reduce(logarithms))


def _log_prior(is_own: bool, readings: int) -> float:
    return math.log(1 - COLUMN_ERROR_RATE if is_own else COLUMN_ERROR_RATE / readings)


def _check_doubt(
    readings: Mapping[str, list[_Reading]],
    tallies: Mapping[str, Tallies],
    totals: Mapping[str, float],
    rows: int,
    settings: Settings,
) -> None:
    """Raises SchemaError for columns of which several readings are probable."""
    doubt = {}
    for column, own in readings.items():
        probable = [r for r in own if r.odds > -math.log(REQUIRED_RATIO)]
        if len(probable) > 1:
            doubt[column] = probable
    if not doubt:
        return
    least = max(totals.values()) - math.log(REQUIRED_RATIO)
    names = [name for name in NUMBERED if totals[name] > least]
    if len(names) == 1:  # a single column in another coding than the rest
        names = [n for n in NUMBERED if any(n in r.names for own in doubt.values() for r in own)]
    lines = [
        f"  {_meanings(column, reading.names, names, tallies[column])}"
        for column, own in doubt.items()
        for reading in own
        if {*reading.names} & {*names}
    ]
    raise SchemaError(
        f"cannot tell the coding: {', '.join(names)} fit; they differ in {', '.join(doubt)}, and the "
        f"rows ({rows} different) do not decide\n" + "\n".join(lines) + "\n"
        f"{settings.remedy(list(doubt), names)}"
    )


def _meanings(column: str, alike: Sequence[str], names: Sequence[str], tallies: Tallies) -> str:
    """What the codes of a column mean, such as "st_slope in uci_from_0: 0 upsloping, 1 flat"."""
    codes = NUMBERED[alike[0]][column]
    meanings = [f"{code} {codes.get(code, 'unknown') or 'missing'}" for code in sorted(tallies)]
    shown = " and ".join(name for name in alike if name in names)
    return f"{column} in {shown}: {', '.join(meanings)}"


def _check_contradiction(
    column: str, reading: _Reading, readings: list[_Reading], tallies: Tallies, settings: Settings
) -> None:
    """Raises SchemaError if a column speaks against the reading that the table as a whole gives it."""
    best = max(*(r.log_likelihood for r in readings), unknown_fit(column, tallies))
    rows = sum(codes.patients for codes in tallies.values())
    ratio = SMALL_CONTRADICTION_RATIO if rows < SMALL else CONTRADICTION_RATIO
    if column not in EXPECTED or best - reading.log_likelihood <= math.log(ratio):
        return
    name = reading.names[0]
    given = ", ".join(f"{code} ({codes.patients} rows)" for code, codes in sorted(tallies.items()))
    expected = ", ".join(f"{k} {v or 'missing'}" for k, v in NUMBERED[name][column].items())
    raise SchemaError(
        f"the table is in coding {name} but for {column}, which has {given}; expected {expected}, "
        "with their usual frequencies and severities. Write it in that coding or leave it empty; if "
        f"it is right, {settings.remedy([column], codings.NAMES[1:])}"
    )
