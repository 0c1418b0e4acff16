"""The tabs, and the switch of their language."""

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from heart.dataset.codings import AUTO
from heart.dataset.codings import NAMES as CODINGS
from heart.http.tokens import Tokens
from heart.locale.catalog import DEFAULT
from heart.locale.language import LANGUAGE_NAMES, LANGUAGE_TAGS, form_texts, language_of
from heart.predictions.tables import SOURCES
from heart.schema import OUTCOME
from serve.service import Service
from serve.ui.callbacks import OUTCOME_INPUTS, Callbacks
from serve.ui.components import PLAIN, browser_text, heading, static, translations
from serve.ui.form import RANGES, number_fields, patient_tab
from serve.ui.scores import table_help_html
from serve.ui.templates import page_html
from serve.ui.units import MMOL_L
from serve.ui.uploads import MAX_FILE_BYTES

if TYPE_CHECKING:
    import gradio as gr

# The tabs in their order, by their names in the page's address.
TABS = ("patient", "table", "outcome", "drift", "about")
FILE_CHOSEN = "element.addEventListener('change', () => trigger('upload'))"


@dataclass
class Parts:
    """The components of the page that events read or write."""

    language: Any
    translated: dict[str, Any]  # by the key of their text
    fields: list[Any]
    state: Any
    answer: Any
    help: Any
    about: Any
    note: Any
    drift: list[Any]  # the verdict, and the comparison of a feature


def create_page(service: Service, tokens: Tokens | None = None) -> "gr.Blocks":
    """The page. Imports Gradio, which takes seconds."""
    import gradio as gr

    handlers = Callbacks(service, tokens or Tokens())
    blocks: gr.Blocks
    with gr.Blocks(title="Heart disease", analytics_enabled=False) as blocks:
        translated: dict[str, Any] = {}
        with gr.Row(elem_id="top"):
            translated["title"] = gr.HTML(heading("title", DEFAULT, 1), elem_id="title")
            language = gr.Radio(
                [(name, code) for code, name in LANGUAGE_NAMES.items()],
                value=DEFAULT, label=browser_text("language"), elem_id="language", interactive=True,
            )  # fmt: skip
            translated["language"] = language
        with gr.Tabs(overflow_behavior="wrap"):
            fields, state, answer = patient_tab(handlers, translated, language)
            help_text = _table_tab(handlers, translated, language)
            _outcome_tab(handlers, translated, language)
            drift = _drift_tab(handlers, translated, language)
            about = _about_tab(translated)
        note = gr.HTML(elem_id="note")
        parts = Parts(language, translated, fields, state, answer, help_text, about, note, drift)
        _connect_language(blocks, handlers, parts)
    return blocks


def _table_tab(handlers: Callbacks, translated: dict[str, Any], language: Any) -> Any:
    import gradio as gr

    with gr.Tab(browser_text("tab_table")) as translated["tab_table"]:
        help_text = gr.HTML()
        translated["upload"] = gr.HTML(
            form_texts(DEFAULT)["upload"],
            # Not Gradio's own file field, which would upload the file to a folder of the server.
            html_template=page_html("file_field", DEFAULT, limit=MAX_FILE_BYTES),
            js_on_load=FILE_CHOSEN,
            elem_id="upload",
        )
        translated["scoring"] = gr.HTML(
            form_texts(DEFAULT)["scoring"],
            html_template=page_html("progress", DEFAULT),
            elem_id="scoring",
        )
        codings = [(browser_text("coding_auto"), AUTO), *((name, name) for name in CODINGS)]
        translated["coding"] = gr.Dropdown(
            codings, value=AUTO, label=browser_text("coding"), filterable=False,
            elem_id="coding", interactive=True,
        )  # fmt: skip
        scored = gr.HTML(elem_id="scored", min_height=80)
    inputs = [translated["upload"], language, translated["coding"]]
    answered = translated["upload"].upload(
        handlers.score, inputs, [scored], preprocess=False,
        js=static("read_file.js"), show_progress="hidden", **PLAIN,
    )  # fmt: skip
    answered.then(None, js=static("end_scoring.js"), **PLAIN)
    return help_text


def _outcome_tab(handlers: Callbacks, translated: dict[str, Any], language: Any) -> None:
    import gradio as gr

    outcomes = [(browser_text(f"{OUTCOME.name}_{c.name}"), c.name) for c in OUTCOME.choices]
    sources = [(browser_text(f"source_{source}"), source) for source in SOURCES]
    with gr.Tab(browser_text("tab_outcome")) as translated["tab_outcome"]:
        translated["outcome_intro"] = gr.HTML(elem_classes="hint")
        with gr.Group():
            translated["prediction_id"] = gr.Textbox(
                label=browser_text("prediction_id"), info=browser_text("prediction_id_info"),
                max_lines=1, max_length=64, elem_id="prediction_id",
            )  # fmt: skip
            translated["outcome"] = gr.Radio(
                outcomes, label=browser_text("outcome"), elem_id="outcome"
            )
            translated["source"] = gr.Radio(sources, label=browser_text("source"), elem_id="source")
            translated["replace"] = gr.Checkbox(label=browser_text("replace"), elem_id="replace")
        translated["record"] = gr.Button(
            browser_text("record"), variant="primary", elem_id="record"
        )
        recorded = gr.HTML(elem_id="recorded")
    inputs = [translated[key] for key in OUTCOME_INPUTS]

    async def record(request: gr.Request, *values: Any) -> str:
        prediction_id, outcome, source, replace, language = values
        user = request.username
        return await handlers.record(prediction_id, outcome, source, replace, language, user)

    gr.on(
        [translated["record"].click, translated["prediction_id"].submit],
        record, [*inputs, language], [recorded], preprocess=False,
        show_progress="minimal", **PLAIN,
    )  # fmt: skip


def _drift_tab(handlers: Callbacks, translated: dict[str, Any], language: Any) -> list[Any]:
    """The verdict beside the comparison of a measurement, of the last drift check."""
    import gradio as gr

    tab = gr.Tab(browser_text("tab_drift"))
    with tab as translated["tab_drift"], gr.Row():
        with gr.Column(scale=5, min_width=320):
            verdict = gr.HTML(elem_id="drift")
        with gr.Column(scale=5, min_width=320):
            with gr.Row(elem_id="drift_controls"):
                feature = gr.Dropdown(
                    [("", "")], value="", label=browser_text("drift_feature"), filterable=False,
                    elem_id="drift_feature", interactive=True, scale=3,
                )  # fmt: skip
                translated["refresh"] = gr.Button(
                    browser_text("refresh"), scale=1, min_width=110, elem_id="refresh"
                )
            comparison = gr.HTML(elem_id="comparison")
    translated["drift_feature"] = feature
    gr.on(
        [tab.select, translated["refresh"].click, feature.input],
        handlers.drift, [language, feature], [verdict, comparison], preprocess=False,
        show_progress="hidden", **PLAIN,
    )  # fmt: skip
    return [verdict, comparison]


def _about_tab(translated: dict[str, Any]) -> Any:
    import gradio as gr

    with gr.Tab(browser_text("tab_about")) as translated["tab_about"]:
        return gr.HTML()


def _connect_language(blocks: Any, handlers: Callbacks, parts: Parts) -> None:
    """Write the server's texts in the browser's language, and all texts in that of the switch."""
    html = [parts.answer, parts.help, parts.about, parts.note, *parts.drift]
    feature = parts.translated["drift_feature"]
    components = list(parts.translated.values())
    numbers = number_fields(parts.fields)

    async def write(language: Any, state: Any = None, feature: Any = "") -> list[Any]:
        chosen = language_of(language)
        about, note = handlers.about(chosen)
        answer = await handlers.rewrite(chosen, state)
        texts = translations(parts.translated, chosen)
        drift = await asyncio.to_thread(handlers.drift, chosen, feature)
        return [answer, table_help_html(chosen), about, note, *drift, *texts]

    async def begin(language: Any) -> list[Any]:
        # Gradio shows an empty number as 0 at first, which would be a valid measurement.
        return [*await write(language), *[None] * len(numbers)]

    common = {"preprocess": False, "show_progress": "hidden"} | PLAIN
    loaded = blocks.load(
        begin, [parts.language], [*html, *components, *numbers],
        js=static("browser_language.js", tags=dict(LANGUAGE_TAGS), default=DEFAULT), **common,
    )  # fmt: skip
    loaded.success(None, js=static("compare_inputs.js"), **PLAIN)
    loaded.success(None, js=static("answer_buttons.js", tab=TABS.index("outcome")), **PLAIN)
    loaded.success(None, js=static("unit_range.js", ranges=RANGES, mmol=MMOL_L), **PLAIN)
    loaded.success(None, js=static("name_choices.js"), **PLAIN)
    loaded.success(None, js=static("keep_tab.js", tabs=TABS), **PLAIN)
    parts.language.input(
        write, [parts.language, parts.state, feature], [*html, *components],
        js=static("set_language.js"), **common,
    )  # fmt: skip
