"""The measurements of a patient from FHIR resources: what is absent is missing, what is in doubt is reported.

Of several values the latest by effective time decides, even if it cannot be used: an older one in its
place would be a guess. So would be an order of two times of which one is incomplete. Nothing that the client sent is in a problem's text except short codes.
"""

import math
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, NamedTuple

from fhir.resources.R4B.observation import Observation
from fhir.resources.R4B.patient import Patient
from pydantic import ValidationError

from heart.locale.catalog import DEFAULT
from heart.locale.language import label
from heart.schema import BY_NAME, Measurement, SchemaError
from serve.fhir.codes import ENTRIES, EXERCISE_TEST, UCUM, Entry

MAX_RESOURCES = 500
# Values of JSON in all Observations, and in the Patient: to check one takes up to 25 microseconds, and a body has
# room for 350,000. A megabyte of usual Observations has fewer than 40,000.
MAX_VALUES, MAX_PATIENT_VALUES = 40_000, 5_000
VALID = ("final", "amended", "corrected")
IGNORED = ("entered-in-error", "cancelled")
VALUES = (
    "Quantity",
    "CodeableConcept",
    "Boolean",
    "Integer",
    "String",
    "DateTime",
    "Period",
    "Range",
    "Ratio",
    "SampledData",
    "Time",
)
INVALID, LARGE = "are not valid FHIR R4", "are too large to be read"
GLUCOSE = (10, 2000)  # mg/dl; the schema has only whether it is above the threshold
CLOCK_SKEW = timedelta(days=1)  # a time further ahead is an error
UNSAFE = re.compile(r"[^A-Za-z0-9 .:/%#{}\[\]_-]")
# By the measurement's name: the codes of its values, and those of the Observations that may have it within.
KEYS = {
    name: (frozenset(c.key for c in entry.codes), frozenset(c.key for c in entry.within))
    for name, entry in ENTRIES.items()
}
EXERCISE = frozenset(code.key for code in EXERCISE_TEST)


@dataclass
class Reading:
    """What was read: valid values by the measurement's name, when they were measured, and problems."""

    values: dict[str, Any] = field(default_factory=dict)
    times: dict[str, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    deceased: bool = False


class Moment(NamedTuple):
    """A time, which is between two in UTC if it is a day, a month or a year; and its date as the record has it."""

    first: datetime
    last: datetime
    date: str


class Candidate(NamedTuple):
    """A value of a measurement: the Observation's or a component's."""

    moment: Moment | None
    holder: Any


def read(
    patient: Any, resources: Sequence[Any], patient_id: str, now: datetime | None = None
) -> Reading:
    """The measurements of a Patient and of resources, those of other types and patients ignored.

    Raises ValidationError if the Patient is not valid.
    """
    now = now or datetime.now(UTC)
    reading = Reading()
    person = Patient.model_validate(patient)
    if not _are_texts(patient.get("birthDate")):
        person.birthDate = None
    _read_patient(person, now.date(), reading)
    if len(resources) > MAX_RESOURCES:
        reading.problems.append(f"Only the first {MAX_RESOURCES:,} resources were read.")
    candidates: dict[str, list[Candidate]] = {name: [] for name in ENTRIES}
    for observation in _valid(resources[:MAX_RESOURCES], patient_id, reading):
        for name, candidate in _candidates(observation):
            candidates[name].append(candidate)
    for name, entry in ENTRIES.items():
        try:
            chosen = _latest(candidates[name], BY_NAME[name], entry, now, reading.problems)
        except SchemaError as error:
            reading.problems.append(f"{label(BY_NAME[name], DEFAULT)}: {error}.")
            continue
        if chosen is not None:
            reading.values[name], moment = chosen
            reading.times[name] = moment.date if moment else "without a date"
    return reading


def shown(text: Any) -> str:
    """A short text of the client as code in Markdown; what could be markup is left out."""
    return f"`{UNSAFE.sub('', str(text))[:40]}`"


def count_values(content: Any, limit: int) -> int:
    """The number of values of JSON in others; a number above the limit if there are more."""
    count, others = 0, [content]
    while others and count <= limit:
        other = others.pop()
        if isinstance(other, dict | list):
            others += other.values() if isinstance(other, dict) else other
            count += len(other)
    return count


def _read_patient(patient: Patient, today: date, reading: Reading) -> None:
    reading.deceased = bool(patient.deceasedBoolean or patient.deceasedDateTime)
    if patient.gender in ("female", "male"):
        reading.values["sex"] = patient.gender
    else:
        reading.problems.append(
            f"Sex: the gender is {shown(patient.gender or 'absent')}; the model knows female and male."
        )
    if patient.birthDate is None:
        reading.problems.append("Age: the date of birth is absent.")
        return
    ages = {_age(born, today) for born in _possible_dates(patient.birthDate)}
    if len(ages) > 1:
        low, high = min(ages), max(ages)
        reading.problems.append(f"Age: {low} or {high}, since the date of birth is incomplete.")
        return
    try:
        reading.values["age"] = BY_NAME["age"].check(ages.pop())
    except SchemaError as error:
        reading.problems.append(f"Age: {error}.")


def _age(born: date, today: date) -> int:
    return today.year - born.year - ((today.month, today.day) < (born.month, born.day))


def _possible_dates(value: date | str) -> tuple[date, date]:
    """The first and the last day that a date of FHIR may mean, which may be a year or a month."""
    if isinstance(value, date):
        return value, value
    year, month = (int(part) for part in f"{value}-0".split("-")[:2])
    year = min(max(year, date.min.year), date.max.year - 1)
    first = date(year, month or 1, 1)
    after = date(year + (month in (0, 12)), month % 12 + 1 if month else 1, 1)
    return first, after - timedelta(days=1)


def _valid(resources: Iterable[Any], patient_id: str, reading: Reading) -> Iterator[Observation]:
    """The valid Observations of the patient; a problem for each kind of other one."""
    counts = dict.fromkeys((INVALID, LARGE, "are of another patient"), 0)
    left = MAX_VALUES
    statuses: dict[str, int] = {}
    for resource in resources:
        kind = resource.get("resourceType") if isinstance(resource, dict) else None
        if kind == "OperationOutcome":
            reading.problems.append("The client reports an error while it fetched the data.")
        if kind != "Observation":
            continue
        size = count_values(resource, left)
        if size > left:
            counts[LARGE] += 1
            continue
        left -= size
        observation = _validated(resource)
        if observation is None:
            counts[INVALID] += 1
        elif not _is_of(observation, patient_id):
            counts["are of another patient"] += 1
        elif observation.status in VALID:
            yield observation
        elif observation.status not in IGNORED:
            statuses[observation.status] = statuses.get(observation.status, 0) + 1
    counts |= {f"have the status {shown(status)}": count for status, count in statuses.items()}
    reading.problems += [f"{count} Observations {why}." for why, count in counts.items() if count]


def _validated(resource: dict[str, Any]) -> Observation | None:
    """A resource as an Observation; None if it is not valid."""
    try:
        observation = Observation.model_validate(resource)
    except ValidationError:
        return None
    period = resource.get("effectivePeriod") or {}
    times = [resource.get(name) for name in ("effectiveDateTime", "effectiveInstant")]
    return observation if _are_texts(*times, period.get("start"), period.get("end")) else None


def _are_texts(*times: Any) -> bool:
    """Whether times are as FHIR has them: the models would read a number as seconds since 1970."""
    return all(time is None or isinstance(time, str) for time in times)


def _is_of(observation: Observation, patient_id: str) -> bool:
    """Whether it is the patient's; one without a subject is, since the client asked for the patient's."""
    reference = observation.subject and observation.subject.reference
    return not reference or f"/{reference}".endswith(f"/Patient/{patient_id}")


def _candidates(observation: Observation) -> Iterator[tuple[str, Candidate]]:
    """The values of an Observation and of its components, each with the measurement's name."""
    moment = _moment(observation)
    own = _keys(observation.code)
    context = own | _keys(observation.method)
    components = [(_keys(part.code), part) for part in observation.component or ()]
    for name, (codes, within) in KEYS.items():
        if context & EXERCISE and not within & EXERCISE:
            continue  # a value under stress is none at rest
        if own & codes and (ENTRIES[name].alone or context & within):
            yield name, Candidate(moment, observation)
        if context & within:
            for keys, component in components:
                if keys & codes:
                    yield name, Candidate(moment, component)


def _keys(concept: Any) -> frozenset[tuple[Any, Any]]:
    codings = getattr(concept, "coding", None) or ()
    return frozenset((coding.system, coding.code) for coding in codings)


def _moment(observation: Observation) -> Moment | None:
    period = observation.effectivePeriod
    value = observation.effectiveDateTime or observation.effectiveInstant
    value = value or (period and (period.end or period.start))
    if value is None:
        return None
    if isinstance(value, datetime):
        return Moment(value, value, value.date().isoformat())
    first, last = _possible_dates(value)
    return Moment(
        datetime.combine(first, time.min, UTC), datetime.combine(last, time.max, UTC), str(value)
    )


def _latest(
    candidates: Sequence[Candidate],
    measurement: Measurement,
    entry: Entry,
    now: datetime,
    problems: list[str],
) -> tuple[Any, Moment | None] | None:
    """The latest value and its time; None without one. Raises SchemaError if it is not certain which that is."""
    candidates = [candidate for candidate in candidates if _value(candidate.holder) is not None]
    past = [c for c in candidates if c.moment is None or c.moment.first <= now + CLOCK_SKEW]
    if len(past) < len(candidates):
        problems.append(f"{label(measurement, DEFAULT)}: a value with a time to come is ignored.")
    if not past:
        return None
    moments = [c.moment for c in past if c.moment is not None]
    if moments and len(moments) < len(past):
        problems.append(f"{label(measurement, DEFAULT)}: a value without a time is ignored.")
    last = max(moments, default=None)  # by the first time that it may mean
    values = {
        _converted(c.holder, measurement, entry)
        for c in past
        if c.moment == last or (c.moment and last and c.moment.last >= last.first)
    }
    if len(values) > 1:
        raise SchemaError("several values differ, and none is certainly the latest")
    return values.pop(), last


def _value(holder: Any) -> tuple[str, Any] | None:
    """The type and the value of an Observation or a component; None without a value."""
    for kind in VALUES:
        value = getattr(holder, f"value{kind}", None)
        if value is not None:
            return kind, value
    return None


def _converted(holder: Any, measurement: Measurement, entry: Entry) -> Any:
    """A value in the form of the schema. Raises SchemaError."""
    kind, value = _value(holder) or ("", None)
    if entry.units:
        return _number(kind, value, measurement, entry)
    if kind == "Boolean" and {"yes", "no"} == {choice.name for choice in measurement.choices}:
        return "yes" if value else "no"
    if kind != "CodeableConcept":
        raise SchemaError(f"the value is a {kind}, expected a CodeableConcept")
    keys = _keys(value)
    categories = {category for code, category in entry.answers if code.key in keys}
    if len(categories) != 1:
        codes = ", ".join(shown(code) for _, code in sorted(keys, key=str)[:3]) or "no code"
        raise SchemaError(f"{codes} means {len(categories)} of the model's categories, expected 1")
    return categories.pop()


def _number(kind: str, value: Any, measurement: Measurement, entry: Entry) -> Any:
    if kind == "Integer" and "1" in entry.units:
        return measurement.check(value)
    if kind != "Quantity":
        raise SchemaError(f"the value is a {kind}, expected a Quantity")
    if value.comparator is not None or value.value is None:
        raise SchemaError("the value is a bound or absent, expected a number")
    factor = entry.units.get(value.code or "") if value.system == UCUM else None
    if factor is None:
        unit = shown(value.code or value.unit or "absent")
        known = ", ".join(f"`{name}`" for name in entry.units)
        raise SchemaError(f"the unit {unit} cannot be converted, expected one of UCUM's {known}")
    number = float(value.value) * factor
    if not math.isfinite(number):
        raise SchemaError("the number is too large")
    if entry.yes_above is not None:
        if not GLUCOSE[0] <= number <= GLUCOSE[1]:
            raise SchemaError(f"{number:.4g} mg/dl is implausible")
        return "yes" if number > entry.yes_above else "no"
    if "1" in entry.units:  # a count
        return measurement.check(number)
    return measurement.check(round(round(number / measurement.step) * measurement.step, 6))
