"""The page: a form made from the schema, tables, outcomes, and the model's figures, in Gradio.

Gradio takes seconds to import, so nothing here imports it before the service runs: `LazyPage` answers
at once and builds the page behind. Every event but the scoring of a table goes without Gradio's queue
and nothing that matters is kept on the server between two events, so that any replica can answer.
Uploaded tables are the exception: behind a proxy one visitor must stay with one replica.
"""

import asyncio
import contextlib
import hmac
import logging
import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI
from starlette.datastructures import Headers
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.types import Receive, Scope, Send

from schema import MEASUREMENTS, NAMES, OUTCOME, Measurement
from serve.assessment import (
    about_html,
    answer_html,
    assess,
    message_html,
    note_html,
    problems_html,
    read_form,
    read_table,
    scored_html,
    table_help_html,
    table_problems_html,
)
from serve.champion import Model
from serve.log import LogUnavailable, OutcomeConflict, UnknownPrediction
from serve.log_tables import SOURCES
from serve.patients import EXAMPLE, Feedback
from serve.service import NoChampion, Service
from serve.settings import Settings
from serve.texts import (
    FORM,
    LANGUAGE_NAMES,
    LANGUAGES,
    Language,
    for_browser,
    label,
    language_of,
    of,
    preferred,
    say,
)

if TYPE_CHECKING:
    import gradio as gr

logger = logging.getLogger(__name__)

MAX_FILE_BYTES = 2 * 1024 * 1024
MAX_BODY_BYTES = MAX_FILE_BYTES + 64 * 1024  # a file and what a form wraps around it
DELETE_SECONDS = (60, 300)  # look so often for files of patients, and keep none longer than that
RETRY_SECONDS = 2
NOT_MEASURED = "not_measured"
GROUPS = ("patient", "blood", "ecg", "second_exam")
FIELDS = ("patient", "prediction_id", "model_version")

# What the page asks of Gradio's API. The rest takes files of any size, shows them, or is a stream
# that holds up the end of the service for as long as a tab is open.
GRADIO_API = "/gradio_api/"
ASKED = ("run/", "queue/", "upload", "startup-events", "app_id", "login_check")

EXAMPLES: dict[str, dict[str, Any]] = {
    "example_low": {
        "age": 45,
        "sex": "female",
        "chest_pain_type": "non_anginal_pain",
        "resting_bp": 118,
        "cholesterol": 205,
        "fasting_blood_sugar_over_120": "no",
        "resting_ecg": "normal",
        "max_heart_rate": 172,
        "exercise_angina": "no",
        "st_depression": 0.0,
        "st_slope": "upsloping",
        "major_vessels": 0,
        "thallium": "normal",
    },
    "example_middle": EXAMPLE,
    "example_high": {
        "age": 67,
        "sex": "male",
        "chest_pain_type": "asymptomatic",
        "resting_bp": 160,
        "cholesterol": 286,
        "fasting_blood_sugar_over_120": "no",
        "resting_ecg": "left_ventricular_hypertrophy",
        "max_heart_rate": 108,
        "exercise_angina": "yes",
        "st_depression": 1.5,
        "st_slope": "flat",
        "major_vessels": 3,
        "thallium": "reversible_defect",
    },
    "example_little": {
        "age": 62,
        "sex": "female",
        "chest_pain_type": "atypical_angina",
        "resting_bp": 138,
    },
}

BROWSER_LANGUAGE = """() => {
  const wanted = (navigator.language || "en").toLowerCase();
  const language = /^(id|in)\\b/.test(wanted) ? "id" : "en";
  document.documentElement.lang = language;
  for (const part of ["answer", "scored", "recorded"])
    document.getElementById(part)?.setAttribute("aria-live", "polite");
  return [language];
}"""
# Gradio gives each choice of a radio a name of its own, so that arrow keys do not move between them,
# and its fieldsets no name at all. The form is hidden until this has run: see `begin`.
NAME_CHOICES = """() => {
  const name = () => {
    for (const group of document.querySelectorAll("fieldset[id]")) {
      const label = group.querySelector("[data-testid=block-info]")?.innerText ?? "";
      if (group.getAttribute("aria-label") !== label) group.setAttribute("aria-label", label);
      for (const choice of group.querySelectorAll("input[type=radio]"))
        if (choice.name !== group.id) choice.name = group.id;
    }
  };
  name();
  const names = { subtree: true, childList: true, attributes: true, attributeFilter: ["name"] };
  new MutationObserver(name).observe(document.body, names);
  document.documentElement.dataset.ready = "";
}"""
# On a phone the answer is below the form.
SHOW_ANSWER = """() => {
  const answer = document.getElementById("answer");
  const top = answer.getBoundingClientRect().top;
  if (top < 0 || top > innerHeight / 2) answer.scrollIntoView({ block: "start" });
}"""
SAY_LANGUAGE = """(language, held) => {
  document.documentElement.lang = language;
  return [language, held];
}"""

# Dark enough for text: WCAG asks for a contrast of 4.5.
THEME = {
    "body_text_color_subdued": "*neutral_600",
    "body_text_color_subdued_dark": "*neutral_300",
    "block_label_text_color": "*neutral_700",
    "block_title_text_color": "*neutral_700",
    "block_title_text_color_dark": "*neutral_200",
    "button_primary_background_fill": "*primary_700",
    "button_primary_background_fill_dark": "*primary_700",
    "button_primary_background_fill_hover": "*primary_800",
    "button_primary_background_fill_hover_dark": "*primary_800",
    "color_accent": "*primary_700",
    "checkbox_background_color_selected": "*primary_700",
    "checkbox_background_color_selected_dark": "*primary_600",
    "checkbox_border_color_selected": "*primary_700",
    "input_background_fill": "white",
    "input_background_fill_dark": "*neutral_800",
    "input_border_width": "1px",
    "checkbox_label_background_fill": "*neutral_50",
    "checkbox_label_background_fill_dark": "*neutral_800",
    "checkbox_label_border_width": "1px",
    "checkbox_label_border_color": "*neutral_300",
    "checkbox_label_border_color_dark": "*neutral_600",
    "checkbox_label_background_fill_selected": "*primary_50",
    "checkbox_label_background_fill_selected_dark": "*primary_900",
    "checkbox_label_border_color_selected": "*primary_700",
    "checkbox_border_color": "*neutral_400",
    "checkbox_border_color_dark": "*neutral_400",
    "input_border_color_dark": "*neutral_500",
    "input_border_color": "*neutral_400",
}

CSS = """
.gradio-container { max-width: 1180px !important; margin: 0 auto !important; width: 100%; }
.gradio-container .main, .gradio-container .wrap, .gradio-container .contain { min-width: 0; }
.gradio-container .main, .gradio-container .main > .wrap, .gradio-container .contain,
.gradio-container .tabs, .gradio-container .tabitem { width: 100%; }
#top { align-items: center; flex-wrap: wrap; gap: .5rem 2rem; }
#top > * { flex: 0 1 auto !important; min-width: 0 !important; }
#top > #title { flex: 1 1 18rem !important; }
#title .html-container, #note .html-container { padding: 0; }
#examples { display: grid; grid-template-columns: 1fr 1fr; gap: .5rem; }
#patient { gap: 1.6rem; }
html:not([data-ready]) #patient { visibility: hidden; }
#top .form { border: 0; background: none; }
#language { padding: 0 !important; border: 0 !important; }
#language > span { display: none; }
#title h1 { font-size: 1.45rem; margin: .2rem 0; font-weight: 650; }
.block.group-title, .block.hint { padding: 0; margin: .2rem 0 -.5rem; }
.block.group-title .html-container, .block.hint .html-container { padding: 0; }
.group-title h2 { font-size: 1rem; font-weight: 650; margin: 0; }
.block:has(> label > input[type=number]) { padding: .45rem .8rem !important; }
label:has(> input[type=number]) { display: flex !important; align-items: center;
  justify-content: space-between; gap: .3rem 1rem; }
label > input[type=number] { max-width: 8.5rem; text-align: right; }
label:has(> input[type=number]) > span, fieldset > span { margin-bottom: 0 !important; }
fieldset.block { padding: .55rem .8rem .6rem !important; }
fieldset.block > span { display: block; margin-bottom: .3rem !important; }
fieldset .wrap > label { padding: .28rem .7rem !important; }
.dark .tabs button.selected { color: #5eead4; }
#answer-side { position: sticky; top: .5rem; align-self: flex-start; }
#answer-side .html-container { padding: 0; }
.card { border: 1px solid var(--border-color-primary); border-radius: 10px; padding: 1.1rem 1.25rem;
  background: var(--background-fill-primary); }
.card h2 { font-size: 1.15rem; margin: 0 0 .5rem; font-weight: 650; }
.card h3 { font-size: 1rem; margin: 1.2rem 0 .3rem; font-weight: 650; }
.card p { margin: .35rem 0; line-height: 1.5; }
.over, .small { color: var(--body-text-color-subdued); font-size: .875rem; }
.headline { display: flex; align-items: center; gap: 1rem; flex-wrap: wrap; }
.risk { font-size: 3.4rem; line-height: 1; font-weight: 650; font-variant-numeric: tabular-nums; }
.around { line-height: 1.45; }
.sentence { font-size: 1.02rem; }
.gauge, .icons { width: 100%; display: block; margin: .4rem 0; }
.icons { max-width: 26rem; }
.plot { width: 100%; max-width: 26rem; font-size: 11px; }
.plot text { fill: var(--body-text-color-subdued); }
.track, .well { fill: var(--border-color-primary); }
.fill { fill: #0f766e; opacity: .45; }
.band { fill: #0f766e; opacity: .28; }
.dot, .sick { fill: #0f766e; }
.mean { fill: var(--body-text-color-subdued); }
.cut { stroke: var(--body-text-color); stroke-width: 1.5; stroke-dasharray: 3 2; }
.grid { stroke: var(--border-color-primary); stroke-width: 1; }
.ideal { stroke: var(--body-text-color-subdued); stroke-dasharray: 4 3; }
.legend { display: flex; flex-wrap: wrap; gap: .2rem 1.1rem; font-size: .875rem; }
.legend span { display: inline-flex; align-items: center; gap: .35rem; }
ul.bars { list-style: none; margin: .4rem 0; padding: 0; }
ul.bars li { display: grid; grid-template-columns: minmax(0, 1.5fr) minmax(0, 1fr) 3.4rem;
  gap: .7rem; align-items: center; padding: .22rem 0; margin: 0; font-size: .9rem; line-height: 1.3; }
ul.bars.wide li { grid-template-columns: minmax(0, 1.4fr) minmax(0, 1fr) 7.8rem; }
.points { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
.lane { position: relative; height: 12px; border-radius: 3px;
  background: var(--background-fill-secondary);
  background-image: linear-gradient(var(--body-text-color-subdued), var(--body-text-color-subdued));
  background-size: 1px 100%; background-position: 50% 0; background-repeat: no-repeat; }
.wide .lane { background-image: none; }
.lane i { position: absolute; top: 1px; bottom: 1px; border-radius: 2px; }
.lane b { position: absolute; top: -1px; bottom: -1px; width: 2px; background: var(--body-text-color); }
.raises { background: #b45309; } .lowers { background: #0f766e; } .span { background: #64748b; }
.message { border-left: 4px solid #64748b; background: var(--background-fill-secondary);
  padding: .65rem .9rem !important; border-radius: 4px; margin: .4rem 0 !important; }
.message.good { border-color: #0f766e; } .message.bad { border-color: #b91c1c; }
.message.warn { border-color: #b45309; }
.message ul { margin: .3rem 0 0 1.1rem; list-style: disc; }
.scroll { overflow-x: auto; } .scroll:focus-visible { outline: 2px solid #0f766e; }
.scroll table { border-collapse: collapse; width: 100%; font-size: .9rem; margin: .4rem 0; }
.scroll table, .scroll thead, .scroll tbody, .scroll tr { border: 0 !important; background: none; }
.scroll th, .scroll td { text-align: left; padding: .35rem .7rem .35rem 0; vertical-align: top;
  border: 0 !important; border-bottom: 1px solid var(--border-color-primary) !important;
  font-variant-numeric: tabular-nums; }
.scroll td + td.short { white-space: nowrap; }
.card dl { display: grid; grid-template-columns: max-content minmax(0, 1fr); gap: .2rem 1rem;
  font-size: .9rem; margin: .6rem 0; }
.card dt { color: var(--body-text-color-subdued); } .card dd { margin: 0; overflow-wrap: anywhere; }
.prediction-id { overflow-wrap: anywhere; user-select: all; }
a.download { display: inline-block; background: #0f766e; color: #fff !important; padding: .55rem 1rem;
  border-radius: 6px; text-decoration: none; font-weight: 600; }
.note { border-top: 1px solid var(--border-color-primary); padding-top: .7rem !important;
  color: var(--body-text-color-subdued); font-size: .9rem; }
.help p { max-width: 75ch; } .help summary { cursor: pointer; }
.unseen { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%);
  white-space: nowrap; }
:focus-visible { outline: 2px solid #0f766e; outline-offset: 1px; }
@media (max-width: 760px) {
  #answer-side { position: static; }
  .gradio-container .main { padding: .6rem .9rem !important; }
  .risk { font-size: 2.8rem; }
  ul.bars li, ul.bars.wide li { grid-template-columns: minmax(0, 1fr) max-content; gap: .1rem .7rem; }
  ul.bars .lane { grid-column: 1 / -1; grid-row: 2; }
}
"""


# --- what happens --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Handlers:
    """What the page does, without Gradio: raw values of the browser in, texts for it out."""

    service: Service

    async def predict(self, language: Any, *values: Any) -> tuple[str, dict[str, Any] | None]:
        """The answer for a form, and what is needed to write it again in another language."""
        language = language_of(language)
        measured = [None if value == NOT_MEASURED else value for value in values]
        patient, problems = read_form(measured, language)
        if problems:
            return problems_html(problems, language), None
        try:
            (answer,) = await self.service.predict([patient])
        except (NoChampion, LogUnavailable):
            return message_html(say("unavailable", language), language, "bad"), None
        held = dict(
            zip(FIELDS, (patient, answer["prediction_id"], answer["model_version"]), strict=True)
        )
        return await self.rewrite(language, held), held

    async def rewrite(self, language: Language, held: Any) -> str:
        """The answer that a browser holds, in a language; it is not logged again."""
        if not isinstance(held, dict) or set(held) != set(FIELDS):
            return message_html(say("empty", language), language)
        values = held["patient"] if isinstance(held["patient"], dict) else {}
        patient, problems = read_form([values.get(name) for name in NAMES], language)
        model = self._model_of(held["model_version"])
        if problems or model is None:
            return message_html(say("changed", language), language)
        # A full patient takes the model 8192 rows: not on the loop that answers the API.
        found = await asyncio.to_thread(assess, model, patient)
        return answer_html(found, str(held["prediction_id"])[:32], language)

    def _model_of(self, version: Any) -> Model | None:
        """The model of a version: the current one, or the one before if it was just replaced."""
        champion = self.service.champion
        models = (champion.current, champion.previous)
        return next((model for model in models if model and model.version == version), None)

    def about(self, language: Language) -> tuple[str, str]:
        """The tab about the model, and the note."""
        try:
            model = self.service.model()
        except NoChampion:
            return message_html(say("no_model", language), language), note_html(None, language)
        return about_html(model, language), note_html(model.version, language)

    async def score(self, path: Path, language: Any, progress: Callable[[float, str], None]) -> str:
        """The scores of a CSV file, or what is wrong with it. The file is gone afterwards."""
        language = language_of(language)
        progress(0.1, say("reading", language))
        data = await asyncio.to_thread(_take, path)
        if len(data) > MAX_FILE_BYTES:
            return message_html(say("too_large", language), language, "bad")
        table, problems = await asyncio.to_thread(read_table, data, language)
        if problems:
            return table_problems_html(problems, language)
        progress(0.6, say("scoring", language))
        try:
            answers = await self.service.predict(table.patients)
        except (NoChampion, LogUnavailable):
            return message_html(say("unavailable", language), language, "bad")
        progress(0.9, say("scoring", language))
        return await asyncio.to_thread(scored_html, table, answers, language)

    async def record(
        self, prediction_id: Any, outcome: Any, source: Any, replace: Any, language: Any
    ) -> str:
        """Keep an outcome and say what came of it."""
        language = language_of(language)
        key, kind = await asyncio.to_thread(
            self._record, str(prediction_id or "").strip(), outcome, source, replace is True
        )
        return message_html(say(key, language), language, kind)

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


def _uploaded(file: Any, folder: Path) -> Path | None:
    """The file that a browser says it uploaded, None unless it lies in the folder for uploads.

    Gradio would check it too, and print what it was sent where that is no file.
    """
    claimed = file.get("path") if isinstance(file, dict) else None
    if not isinstance(claimed, str) or "\0" in claimed:
        return None
    path = Path(claimed).resolve()
    return path if path.is_relative_to(folder.resolve()) and path.is_file() else None


def _take(path: Path) -> bytes:
    """The content of an uploaded file, which is deleted: it holds patients."""
    data = path.read_bytes()
    path.unlink()
    with contextlib.suppress(OSError):
        path.parent.rmdir()
    return data


# --- what is seen --------------------------------------------------------------------------------


@dataclass
class Parts:
    """The components of the page that events read or write."""

    language: Any
    translated: dict[str, Any]  # by the key of their text
    fields: list[Any]
    held: Any
    answer: Any
    help: Any
    scored: Any
    about: Any
    note: Any


def create_page(service: Service) -> "gr.Blocks":
    """The page. Imports Gradio, which takes seconds."""
    import gradio as gr

    handlers = Handlers(service)
    blocks: gr.Blocks
    with gr.Blocks(
        title="Heart disease", analytics_enabled=False, delete_cache=DELETE_SECONDS
    ) as blocks:
        translated: dict[str, Any] = {}
        with gr.Row(elem_id="top"):
            translated["title"] = gr.HTML(_heading("title", "en", 1), elem_id="title")
            language = gr.Radio(
                [(name, code) for code, name in LANGUAGE_NAMES.items()],
                value="en", label=_key("language"), elem_id="language", interactive=True,
            )  # fmt: skip
            translated["language"] = language
        with gr.Tabs(overflow_behavior="wrap"):
            fields, held, answer = _patient_tab(handlers, translated, language)
            help_text, scored = _table_tab(handlers, translated, language)
            _outcome_tab(handlers, translated, language)
            with gr.Tab(_key("tab_about")) as translated["tab_about"]:
                about = gr.HTML()
        note = gr.HTML(elem_id="note")
        parts = Parts(language, translated, fields, held, answer, help_text, scored, about, note)
        _connect_language(blocks, handlers, parts)
    return blocks


def _patient_tab(
    handlers: Handlers, translated: dict[str, Any], language: Any
) -> tuple[list[Any], Any, Any]:
    import gradio as gr

    with gr.Tab(_key("tab_patient")) as translated["tab_patient"], gr.Row(elem_id="patient"):
        with gr.Column(scale=6, min_width=320):
            examples = _example_buttons(translated)
            fields = [field for group in GROUPS for field in _group(group, translated)]
            with gr.Row():
                translated["predict"] = gr.Button(
                    _key("predict"), variant="primary", scale=2, elem_id="predict"
                )
                translated["clear"] = gr.Button(_key("clear"), scale=1)
        with gr.Column(scale=5, min_width=320, elem_id="answer-side"):
            answer = gr.HTML(elem_id="answer")
            held = gr.JSON(visible=False)
    submits = [field.submit for field in _numbers(fields)]
    answered = gr.on(
        [translated["predict"].click, *submits],
        handlers.predict, [language, *fields], [answer, held], preprocess=False,
        show_progress="minimal", **_plain(),
    )  # fmt: skip
    answered.then(None, js=SHOW_ANSWER, **_plain())
    for name, button in examples.items():
        _fill_on(button, EXAMPLES[name], fields)
    _fill_on(translated["clear"], {}, fields)
    return fields, held, answer


def _numbers(fields: Sequence[Any]) -> list[Any]:
    return [f for f, m in zip(fields, MEASUREMENTS, strict=True) if not m.choices]


def _example_buttons(translated: dict[str, Any]) -> dict[str, Any]:
    import gradio as gr

    translated["examples"] = gr.HTML(_heading("examples", "en", 2), elem_classes="group-title")
    with gr.Row(elem_id="examples"):
        for name in EXAMPLES:
            translated[name] = gr.Button(_key(name), size="sm", min_width=100)
    return {name: translated[name] for name in EXAMPLES}


def _group(group: str, translated: dict[str, Any]) -> list[Any]:
    """The heading and the fields of a group of measurements."""
    import gradio as gr

    key = f"group_{group}"
    translated[key] = gr.HTML(_heading(key, "en", 2), elem_classes="group-title")
    with gr.Group():
        found = {m.name: _field(m) for m in MEASUREMENTS if m.group == group}
    translated |= found
    return list(found.values())


def _field(measurement: Measurement) -> Any:
    import gradio as gr

    name = _key(measurement.name)
    if not measurement.choices:
        # Bounds are checked by the schema, which says in the visitor's language what is expected.
        return gr.Number(
            label=name, step=measurement.step, elem_id=measurement.name, interactive=True
        )
    choices = [(_key(f"{measurement.name}_{c.name}"), c.name) for c in measurement.choices]
    if not measurement.required:
        choices.append((_key("not_measured"), NOT_MEASURED))
    value = None if measurement.required else NOT_MEASURED
    return gr.Radio(choices, value=value, label=name, elem_id=measurement.name, interactive=True)


def _fill_on(button: Any, patient: dict[str, Any], fields: Sequence[Any]) -> None:
    values = [
        patient.get(m.name) if not m.choices or m.required else patient.get(m.name) or NOT_MEASURED
        for m in MEASUREMENTS
    ]
    button.click(lambda: values, None, list(fields), show_progress="hidden", **_plain())


def _table_tab(handlers: Handlers, translated: dict[str, Any], language: Any) -> tuple[Any, Any]:
    import gradio as gr
    from gradio.utils import get_upload_folder

    with gr.Tab(_key("tab_table")) as translated["tab_table"]:
        help_text = gr.HTML()
        translated["upload"] = gr.File(
            label=_key("upload"), file_types=[".csv"], elem_id="upload", height=140
        )
        scored = gr.HTML(elem_id="scored", min_height=80)

    async def score(
        file: Any,
        language: Any,
        progress: Any = gr.Progress(),  # noqa: B008
    ) -> tuple[str, None]:
        path = _uploaded(file, Path(get_upload_folder()))
        if path is None:
            return "", None
        return await handlers.score(path, language, progress), None

    translated["upload"].upload(
        score, [translated["upload"], language], [scored, translated["upload"]],
        preprocess=False, api_visibility="private", concurrency_limit=2, show_progress_on=scored,
    )  # fmt: skip
    return help_text, scored


def _outcome_tab(handlers: Handlers, translated: dict[str, Any], language: Any) -> None:
    import gradio as gr

    outcomes = [(_key(f"{OUTCOME.name}_{c.name}"), c.name) for c in OUTCOME.choices]
    sources = [(_key(f"source_{source}"), source) for source in SOURCES]
    with gr.Tab(_key("tab_outcome")) as translated["tab_outcome"]:
        translated["outcome_intro"] = gr.HTML(elem_classes="hint")
        with gr.Group():
            translated["prediction_id"] = gr.Textbox(
                label=_key("prediction_id"), info=_key("prediction_id_info"), max_lines=1,
                max_length=64, elem_id="prediction_id",
            )  # fmt: skip
            translated["outcome"] = gr.Radio(outcomes, label=_key("outcome"), elem_id="outcome")
            translated["source"] = gr.Radio(sources, label=_key("source"), elem_id="source")
            translated["replace"] = gr.Checkbox(label=_key("replace"), elem_id="replace")
        translated["record"] = gr.Button(_key("record"), variant="primary", elem_id="record")
        recorded = gr.HTML(elem_id="recorded")
    asked = [translated[key] for key in ("prediction_id", "outcome", "source", "replace")]
    gr.on(
        [translated["record"].click, translated["prediction_id"].submit],
        handlers.record, [*asked, language], [recorded], preprocess=False,
        show_progress="minimal", **_plain(),
    )  # fmt: skip


def _connect_language(blocks: Any, handlers: Handlers, parts: Parts) -> None:
    """Write what is made on the server in the browser's language, and all in that of the switch."""
    made = [parts.answer, parts.help, parts.about, parts.note]
    shown = list(parts.translated.values())
    numbers = _numbers(parts.fields)

    async def write(language: Any, held: Any = None) -> list[Any]:
        chosen = language_of(language)
        about, note = handlers.about(chosen)
        answer = await handlers.rewrite(chosen, held)
        return [answer, table_help_html(chosen), about, note, *_translations(parts, chosen)]

    async def begin(language: Any) -> list[Any]:
        # Gradio shows an empty number as 0 at first, and 0 is a measurement.
        return [*await write(language), *[None] * len(numbers)]

    common = {"preprocess": False, "show_progress": "hidden"} | _plain()
    loaded = blocks.load(
        begin, [parts.language], [*made, *shown, *numbers], js=BROWSER_LANGUAGE, **common
    )
    loaded.success(None, js=NAME_CHOICES, **_plain())
    parts.language.input(
        write, [parts.language, parts.held], [*made, *shown], js=SAY_LANGUAGE, **common
    )


def _translations(parts: Parts, language: Language) -> list[Any]:
    """An update for each translated component, in their order."""
    import gradio as gr

    by_name = {measurement.name: measurement for measurement in MEASUREMENTS}
    found: list[Any] = []
    for key, component in parts.translated.items():
        if key in by_name:
            found.append(gr.update(**_field_texts(by_name[key], language)))
        elif isinstance(component, gr.HTML):
            found.append(_title(key, language))
        elif isinstance(component, gr.Button):
            found.append(gr.update(value=say(key, language)))
        else:
            found.append(gr.update(label=say(key, language), **_more(key, language)))
    return found


def _title(key: str, language: Language) -> str:
    if key in FORM:
        return _heading(key, language, 1 if key == "title" else 2)
    return f'<p lang="{language}">{say(key, language)}</p>'


def _field_texts(measurement: Measurement, language: Language) -> dict[str, Any]:
    texts: dict[str, Any] = {"label": label(measurement, language)}
    if measurement.choices:
        texts["choices"] = [(of(c.label, language), c.name) for c in measurement.choices]
        if not measurement.required:
            texts["choices"].append((say("not_measured", language), NOT_MEASURED))
    return texts


def _more(key: str, language: Language) -> dict[str, Any]:
    """What a component of the tab for outcomes says beside its label."""
    if key == "language":
        return {"value": language}
    if key == "prediction_id":
        return {"info": say("prediction_id_info", language)}
    if key == "outcome":
        return {"choices": [(of(c.label, language), c.name) for c in OUTCOME.choices]}
    if key == "source":
        return {"choices": [(say(f"source_{source}", language), source) for source in SOURCES]}
    return {}


def _heading(key: str, language: Language, level: int) -> str:
    return f'<h{level} lang="{language}">{say(key, language)}</h{level}>'


def _key(name: str) -> Any:
    """A text that the browser chooses by its language."""
    from gradio.i18n import I18nData

    return I18nData(f"heart_{name}")


def _plain() -> dict[str, Any]:
    """For an event: without the queue, whose state is one process's, and not in the API."""
    return {"queue": False, "api_visibility": "private"}


# --- how it is served ----------------------------------------------------------------------------


class LazyPage:
    """An ASGI application that is there at once, and is the page some seconds later.

    `start` and `stop` belong into the lifespan of the application that it is mounted in.
    """

    def __init__(self, build: Callable[[Path], FastAPI]) -> None:
        """`build` makes the page's application, given a folder for uploads that is its own."""
        self._build = build
        self._app: FastAPI | None = None
        self._broken = False
        self._task: asyncio.Task[None] | None = None
        self._stopping = asyncio.Event()
        self._built = asyncio.Event()

    async def start(self) -> None:
        """Begin to build the page, in a thread."""
        self._task = asyncio.create_task(self._run())

    async def ready(self) -> bool:
        """Wait until the page is built; False if that failed."""
        await self._built.wait()
        return not self._broken

    async def stop(self) -> None:
        """Leave the page's lifespan and delete its files."""
        self._stopping.set()
        if self._task is not None:
            await self._task

    async def _run(self) -> None:
        # One task enters and leaves the page's lifespan, as its contexts demand.
        with tempfile.TemporaryDirectory(prefix="heart-page-") as folder:
            try:
                app = await asyncio.to_thread(_with_loop, self._build, Path(folder))
                async with app.router.lifespan_context(app):
                    self._app = app
                    self._built.set()
                    await self._stopping.wait()
            except Exception:
                # Whatever keeps the page from being built must not take the API with it.
                logger.exception("the page cannot be served")
                self._broken = True
            finally:
                self._app = None
                self._built.set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self._http(scope, receive, send)
        elif scope["type"] == "websocket":
            # The page has none: its streams are server-sent events.
            await receive()
            await send({"type": "websocket.close", "code": 1000})

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        refusal = _refusal(scope)
        if refusal is not None:
            await refusal(scope, receive, send)
        elif self._app is None:
            await _waiting(scope, broken=self._broken)(scope, receive, send)
        else:
            await self._app(scope, receive, send)


def _with_loop(build: Callable[[Path], FastAPI], folder: Path) -> FastAPI:
    """Build inside a running event loop: without one Gradio makes some, and leaves them open."""

    async def inside() -> FastAPI:
        return build(folder)

    return asyncio.run(inside())


def _refusal(scope: Scope) -> Response | None:
    """Why a request does not reach Gradio: not what the page asks for, or too long."""
    # The path of the scope is what Gradio's routes match; that of `request.url` can be forged.
    _, found, rest = scope["path"].partition(GRADIO_API)
    if found and not rest.startswith(ASKED):
        return PlainTextResponse("not found", 404)
    if scope["method"] in ("GET", "HEAD", "OPTIONS"):
        return None
    length = Headers(scope=scope).get("content-length", "")
    if not length.isdigit():
        return PlainTextResponse("a length is needed", 411)
    if int(length) > MAX_BODY_BYTES:
        return PlainTextResponse("too long", 413)
    return None


def _waiting(scope: Scope, *, broken: bool) -> Response:
    """A page that opens itself again, until the real one is there."""
    language = preferred(Headers(scope=scope).get("accept-language", ""))
    keys = ("broken",) if broken else ("waiting", "waiting_how")
    lines = "".join(f"<p>{say(key, language)}</p>" for key in keys)
    again = "" if broken else f'<meta http-equiv="refresh" content="{RETRY_SECONDS}">'
    html = f"""<!doctype html><html lang="{language}"><head><meta charset="utf-8">{again}
<meta name="viewport" content="width=device-width, initial-scale=1"><title>Heart disease</title>
<style>body {{ font-family: system-ui, sans-serif; margin: 20vh auto; max-width: 32rem;
padding: 0 1rem; color: #334155; }}</style></head><body role="status">{lines}</body></html>"""
    headers = {"Retry-After": str(RETRY_SECONDS), "Vary": "Accept-Language"}
    return HTMLResponse(html, 503, headers)


def mount(app: FastAPI, service: Service, settings: Settings) -> LazyPage:
    """Mount the page at "/", behind the routes that are there; the caller starts and stops it."""
    token = settings.api_token.get_secret_value() if settings.api_token else None
    page = LazyPage(lambda folder: build(service, token, folder))
    app.mount("/", page, name="page")
    return page


def build(service: Service, token: str | None, folder: Path) -> FastAPI:
    """The page's own application, with Gradio in it; `folder` is for uploads."""
    os.environ["GRADIO_TEMP_DIR"] = str(folder)
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    import gradio as gr

    app = FastAPI(openapi_url=None)
    gr.mount_gradio_app(
        app,
        create_page(service),
        path="/",
        footer_links=[],
        run_history=False,
        auth=None if token is None else _password(token),
        auth_message=" / ".join(say("password", language) for language in LANGUAGES),
        show_error=False,
        max_file_size=MAX_FILE_BYTES,
        ssr_mode=False,
        enable_monitoring=False,
        mcp_server=False,
        pwa=False,
        i18n=gr.I18n(**{language: for_browser(language) for language in LANGUAGES}),
        theme=_theme(),
        css=CSS,
    )
    return app


def _theme() -> Any:
    import gradio as gr

    # Fonts of the visitor's system: none is fetched.
    fonts: dict[str, Any] = {
        "font": ["system-ui", "sans-serif"],
        "font_mono": ["ui-monospace", "monospace"],
    }
    return gr.themes.Base(primary_hue="teal", neutral_hue="slate", **fonts).set(**THEME)


def _password(token: str) -> Callable[[str, str], bool]:
    def right(_user: str, password: str) -> bool:
        return hmac.compare_digest(password.encode(), token.encode())

    return right
