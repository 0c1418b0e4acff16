"""The handlers of the page's events, without Gradio: from values that the browser sent to HTML."""

import asyncio
import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from anyio import CapacityLimiter
from markupsafe import Markup

from heart.dataset.codings import AUTO
from heart.dataset.codings import NAMES as CODINGS
from heart.errors import UserError
from heart.http.rate import RateExceeded
from heart.http.tokens import Token, Tokens
from heart.locale.language import Language, language_of, translate
from heart.predictions.log import (
    LogUnavailable,
    OutcomeConflict,
    OutcomeOfAnother,
    UnknownPrediction,
)
from heart.predictions.tables import SOURCES
from heart.registry.errors import ScoringFailed
from heart.registry.model_version import Model
from heart.schema import OUTCOME
from heart.web.drift import by_ratio, comparison_html, drift_html
from heart.web.markup import answer_to, message_html, note_html, plain
from serve.api.models import Feedback
from serve.explain import ALL, Assessment, assess, assessment
from serve.service import DriftUnavailable, NoModel, Service
from serve.ui.about import about_html
from serve.ui.answer import answer_html
from serve.ui.performance import performance_html
from serve.ui.scores import (
    problems_html,
    scored_html,
    table_problems_html,
    unreadable_table_html,
)
from serve.ui.table import INPUTS, Problem, read_form, read_table
from serve.ui.uploads import TooLong, file_bytes

# Tables scored at once, each with tens of megabytes, and tables that may wait.
TABLES, WAITING_TABLES = 2, 8
MAX_STATE = 10_000  # characters of a result's state; a valid one has some hundreds
NOT_MEASURED = "not_measured"
STATE_KEYS = ("inputs", "prediction_id", "model_version")
OUTCOME_INPUTS = ("prediction_id", "outcome", "source", "replace")  # ids of their elements

# What the log did with an outcome, and the message that says so.
OUTCOME_MESSAGES = {
    "created": "outcome.created",
    "same": "outcome.same",
    "replaced": "outcome.replaced",
}
REJECTIONS: dict[type[Exception], str] = {
    UnknownPrediction: "outcome.unknown_id",
    OutcomeOfAnother: "outcome.of_another",
    OutcomeConflict: "outcome.conflict",
    RateExceeded: "outcome.too_many",
}


@dataclass(frozen=True)
class Callbacks:
    """The handlers of the page's events, for one service."""

    service: Service
    tokens: Tokens = field(default_factory=Tokens)
    tables: CapacityLimiter = field(default_factory=lambda: CapacityLimiter(TABLES))

    async def predict(self, language: Any, *fields: Any) -> tuple[str, str | None]:
        """The result for a form, and its state, from which `rewrite` writes it in another language.

        `fields` are in the order of INPUTS.
        """
        language = language_of(language)
        contents = [None if value == NOT_MEASURED else value for value in fields]
        inputs = plain(dict(zip(INPUTS, contents, strict=True)))
        patient, problems = read_form(contents, language)
        if problems:
            self._count(problems)
            return self._answer(inputs, problems_html(problems, language), language), None
        try:
            (answer,) = await self.service.predict([patient], ALL)
        except (NoModel, LogUnavailable, ScoringFailed):
            message = message_html(translate("page.unavailable", language), language, "bad")
            return self._answer(inputs, message, language), None
        values = (inputs, answer["prediction_id"], answer["model_version"])
        state = dict(zip(STATE_KEYS, values, strict=True))
        model = self.service.model_of(answer["model_version"])
        if model is None:  # it was replaced twice meanwhile
            return message_html(translate("answer.model_changed", language), language), json.dumps(
                state
            )
        result = assessment(model, patient, answer)
        return self._written(result, inputs, state, model, language, new=True), json.dumps(state)

    def _answer(
        self, inputs: Mapping[str, Any], answer: str, language: Language, *, new: bool = True
    ) -> str:
        """An answer to the form; the browser brings a new one into view."""
        # Of two equal answers, Gradio would write only the first.
        token = secrets.token_hex(4) if new else ""
        return answer_to(inputs, answer, translate("answer.stale", language), language, token)

    def _count(self, problems: Sequence[Problem]) -> None:
        """Count the measurements with a value that the schema does not allow, by patient."""
        patients: dict[int, list[str]] = {}
        for problem in problems:
            if problem.invalid:
                patients.setdefault(problem.line, []).append(problem.name)
        self.service.metrics.patients.count_rejected_values(patients.values())

    async def rewrite(self, language: Language, state: Any) -> str:
        """The result with a state that the browser sent, in a language; it is not logged again."""
        content = _object(state)
        if set(content) != set(STATE_KEYS):
            return message_html(translate("answer.empty", language), language)
        values = content["inputs"] if isinstance(content["inputs"], dict) else {}
        inputs = {name: values.get(name) for name in INPUTS}
        patient, problems = read_form(list(inputs.values()), language)
        model = self.service.model_of(content["model_version"])
        if problems or model is None:
            return message_html(translate("answer.model_changed", language), language)
        # With all measurements, the contributions need thousands of predictions: not on the API's event loop.
        result = await asyncio.to_thread(assess, model, patient)
        return self._written(result, inputs, content, model, language, new=False)

    def _written(
        self,
        result: Assessment,
        inputs: Mapping[str, Any],
        state: Mapping[str, Any],
        model: Model,
        language: Language,
        *,
        new: bool,
    ) -> str:
        """An assessment as HTML; the values of the state may come from a browser."""
        answer = answer_html(result, str(state["prediction_id"])[:32], language, model)
        return self._answer(inputs, answer, language, new=new)

    def about(self, language: Language) -> tuple[str, str]:
        """The tab about the model, and the note."""
        try:
            model = self.service.model()
        except NoModel:
            return message_html(translate("page.no_model", language), language), note_html(
                None, language
            )
        return about_html(model, language), note_html(model.version, language)

    def drift(self, language: Any, feature: Any) -> tuple[str, str]:
        """The drift tab: the verdict, and a feature's comparison; the one with the largest ratio by default.

        It may wait for the database.
        """
        language = language_of(language)
        try:
            snapshot = self.service.drift()
        except DriftUnavailable:
            return drift_html(None, language), ""
        names = by_ratio(snapshot)
        name = feature if feature in names else next(iter(names), "")
        points = self.service.monitor.trend() if self.service.monitor else []
        verdict = drift_html(snapshot, language, points) + self._performance(language)
        return verdict, comparison_html(snapshot, name, language)

    def _performance(self, language: Language) -> Markup:
        try:
            labeled, check = self.service.labeled_scores(), self.service.estimate_check()
        except LogUnavailable:
            labeled = check = None
        return performance_html(self.service.estimate(), labeled, check, language)

    async def score(self, content: Any, language: Any, coding: Any) -> str:
        """The scores of a CSV file in base64, or its errors; empty without a file."""
        language = language_of(language)
        if content is None:
            return ""
        if self.tables.statistics().tasks_waiting >= WAITING_TABLES:
            return message_html(translate("page.unavailable", language), language, "bad")
        async with self.tables:
            return await self._score(content, language, coding if coding in CODINGS else AUTO)

    async def _score(self, content: Any, language: Language, coding: str) -> str:
        try:
            data = await asyncio.to_thread(file_bytes, content)
        except TooLong:
            return message_html(translate("table.too_large", language), language, "bad")
        except (TypeError, ValueError):
            return message_html(translate("table.not_text", language), language, "bad")
        try:
            table, problems = await asyncio.to_thread(read_table, data, coding, language)
        except UserError as error:
            return unreadable_table_html(str(error), language)
        if problems:
            self._count(problems)
            return table_problems_html(problems, language)
        try:
            answers = await self.service.predict(table.patients)
        except (NoModel, LogUnavailable, ScoringFailed):
            return message_html(translate("page.unavailable", language), language, "bad")
        return await asyncio.to_thread(scored_html, table, answers, language)

    async def record(
        self,
        prediction_id: Any,
        outcome: Any,
        source: Any,
        replace: Any,
        language: Any,
        user: str | None = None,
    ) -> str:
        """Record an outcome, sent by a user's token; returns the message about it."""
        language = language_of(language)
        key, kind = await asyncio.to_thread(
            self._record,
            str(prediction_id or "").strip(),
            outcome,
            source,
            replace is True,
            self.tokens.sender(user),
        )
        inputs = dict(
            zip(OUTCOME_INPUTS, (prediction_id or "", outcome, source, replace), strict=True)
        )
        message = message_html(translate(key, language), language, kind)
        return answer_to(inputs, message, translate("outcome.stale", language), language)

    def _record(
        self, prediction_id: str, outcome: Any, source: Any, replace: bool, token: Token
    ) -> tuple[str, str]:
        if outcome not in [choice.name for choice in OUTCOME.choices] or source not in SOURCES:
            return "outcome.incomplete", "bad"
        try:
            Feedback(prediction_id=prediction_id, outcome=outcome, source=source)
        except ValueError:
            return "outcome.invalid_id", "bad"
        try:
            result = self.service.record_outcome(prediction_id, outcome, source, replace, token)
        except tuple(REJECTIONS) as error:
            return REJECTIONS[type(error)], "bad"
        except LogUnavailable:
            return "page.unavailable", "bad"
        return OUTCOME_MESSAGES[result], "good"


def _object(text: Any) -> dict[str, Any]:
    """A JSON object that a browser sent as a text; an empty one for anything else."""
    if not isinstance(text, str) or len(text) > MAX_STATE:
        return {}
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}
