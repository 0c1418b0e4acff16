"""What happens on the page, without Gradio: raw values of the browser in, texts for it out."""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from anyio import CapacityLimiter

from heart.locale.language import Language, language_of, translate
from heart.predictions.log import LogUnavailable, OutcomeConflict, UnknownPrediction
from heart.predictions.tables import SOURCES
from heart.registry.model_version import Model
from heart.schema import NAMES, OUTCOME
from heart.web.drift import by_ratio, compared_html, drift_html
from heart.web.markup import answer_to, message_html, note_html
from serve.api.models import Feedback
from serve.explain import assess
from serve.service import DriftUnavailable, NoModel, Service
from serve.ui.about import about_html
from serve.ui.answer import answer_html
from serve.ui.scores import problems_html, scored_html, table_problems_html
from serve.ui.table import Problem, read_form, read_table
from serve.ui.uploads import TooLong, file_bytes

# Tables in work at once, each with tens of megabytes, and those that may wait for them.
TABLES, WAITING_TABLES = 2, 8
MAX_HELD = 10_000  # characters of an answer that a browser holds: it has some hundreds
NOT_MEASURED = "not_measured"
FIELDS = ("patient", "prediction_id", "model_version")
ENTRIES = ("prediction_id", "outcome", "source", "replace")  # of an outcome, by their elements


@dataclass(frozen=True)
class Callbacks:
    """The handlers of the page's events, for one service."""

    service: Service
    tables: CapacityLimiter = field(default_factory=lambda: CapacityLimiter(TABLES))

    async def predict(self, language: Any, *values: Any) -> tuple[str, str | None]:
        """The answer for a form, and what is needed to write it again in another language."""
        language = language_of(language)
        measured = [None if value == NOT_MEASURED else value for value in values]
        patient, problems = read_form(measured, language)
        inputs, note = dict(zip(NAMES, measured, strict=True)), translate("stale", language)
        if problems:
            self._count(problems)
            return answer_to(inputs, problems_html(problems, language), note, language), None
        try:
            (answer,) = await self.service.predict([patient])
        except (NoModel, LogUnavailable):
            message = message_html(translate("unavailable", language), language, "bad")
            return answer_to(inputs, message, note, language), None
        held = json.dumps(
            dict(
                zip(
                    FIELDS, (patient, answer["prediction_id"], answer["model_version"]), strict=True
                )
            )
        )
        return await self.rewrite(language, held), held

    def _count(self, problems: Sequence[Problem]) -> None:
        """Tell the metrics which measurements had a value that the schema does not allow."""
        patients: dict[int, list[str]] = {}
        for problem in problems:
            if problem.refused:
                patients.setdefault(problem.line, []).append(problem.name)
        self.service.metrics.patients.count_rejected_values(patients.values())

    async def rewrite(self, language: Language, held: Any) -> str:
        """The answer that a browser holds as JSON, in a language; it is not logged again."""
        held = _object(held)
        if set(held) != set(FIELDS):
            return message_html(translate("empty", language), language)
        values = held["patient"] if isinstance(held["patient"], dict) else {}
        patient, problems = read_form([values.get(name) for name in NAMES], language)
        model = self._model_of(held["model_version"])
        if problems or model is None:
            return message_html(translate("changed", language), language)
        # A full patient takes the model 8192 rows: not on the loop that answers the API.
        found = await asyncio.to_thread(assess, model, patient)
        answer = answer_html(found, str(held["prediction_id"])[:32], language)
        return answer_to(patient, answer, translate("stale", language), language)

    def _model_of(self, version: Any) -> Model | None:
        """The model of a version: the current one, or the one before if it was just replaced."""
        champion = self.service.champion
        models = (champion.current, champion.previous)
        return next((model for model in models if model and model.version == version), None)

    def about(self, language: Language) -> tuple[str, str]:
        """The tab about the model, and the note."""
        try:
            model = self.service.model()
        except NoModel:
            return message_html(translate("no_model", language), language), note_html(
                None, language
            )
        return about_html(model, language), note_html(model.version, language)

    def drift(self, language: Any, feature: Any) -> tuple[str, str]:
        """The tab about drift: the verdict, and a feature compared; the most drifted for none."""
        language = language_of(language)
        try:
            snapshot = self.service.drift()
        except DriftUnavailable:
            return drift_html(None, language), ""
        names = by_ratio(snapshot)
        name = feature if feature in names else next(iter(names), "")
        return drift_html(snapshot, language), compared_html(snapshot, name, language)

    async def score(self, content: Any, language: Any) -> str:
        """The scores of a CSV file, given in base64, or what is wrong with it; None is no file."""
        language = language_of(language)
        if content is None:
            return ""
        if self.tables.statistics().tasks_waiting >= WAITING_TABLES:
            return message_html(translate("unavailable", language), language, "bad")
        async with self.tables:
            return await self._score(content, language)

    async def _score(self, content: Any, language: Language) -> str:
        try:
            data = await asyncio.to_thread(file_bytes, content)
        except TooLong:
            return message_html(translate("too_large", language), language, "bad")
        except (TypeError, ValueError):
            return message_html(translate("not_text", language), language, "bad")
        table, problems = await asyncio.to_thread(read_table, data, language)
        if problems:
            self._count(problems)
            return table_problems_html(problems, language)
        try:
            answers = await self.service.predict(table.patients)
        except (NoModel, LogUnavailable):
            return message_html(translate("unavailable", language), language, "bad")
        return await asyncio.to_thread(scored_html, table, answers, language)

    async def record(
        self, prediction_id: Any, outcome: Any, source: Any, replace: Any, language: Any
    ) -> str:
        """Keep an outcome and say what came of it."""
        language = language_of(language)
        key, kind = await asyncio.to_thread(
            self._record, str(prediction_id or "").strip(), outcome, source, replace is True
        )
        inputs = dict(zip(ENTRIES, (prediction_id or "", outcome, source, replace), strict=True))
        message = message_html(translate(key, language), language, kind)
        return answer_to(inputs, message, translate("stale_outcome", language), language)

    def _record(
        self, prediction_id: str, outcome: Any, source: Any, replace: bool
    ) -> tuple[str, str]:
        if outcome not in [choice.name for choice in OUTCOME.choices] or source not in SOURCES:
            return "choose", "bad"
        try:
            Feedback(prediction_id=prediction_id, outcome=outcome, source=source)
        except ValueError:
            return "bad_id", "bad"
        try:
            done = self.service.record_outcome(prediction_id, outcome, source, replace)
        except UnknownPrediction:
            return "unknown_id", "bad"
        except OutcomeConflict:
            return "conflict", "bad"
        except LogUnavailable:
            return "unavailable", "bad"
        return done, "good"


def _object(text: Any) -> dict[str, Any]:
    """A JSON object that a browser sent as a text; an empty one for anything else."""
    if not isinstance(text, str) or len(text) > MAX_HELD:
        return {}
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
