"""The tab for one patient: a form made from the schema, and the answer beside it."""

import json
from collections.abc import Sequence
from typing import Any

from heart.locale.catalog import DEFAULT
from heart.schema import MEASUREMENTS, Measurement
from serve.ui.callbacks import NOT_MEASURED, Callbacks
from serve.ui.components import PLAIN, browser_text, heading, static
from serve.ui.examples import EXAMPLES

GROUPS = ("patient", "blood", "ecg", "second_exam")


def patient_tab(
    handlers: Callbacks, translated: dict[str, Any], language: Any
) -> tuple[list[Any], Any, Any]:
    """The fields in the schema's order, the state of the result, and the result."""
    import gradio as gr

    tab = gr.Tab(browser_text("tab_patient"))
    with tab as translated["tab_patient"], gr.Row(elem_id="patient"):
        with gr.Column(scale=6, min_width=320):
            examples = _example_buttons(translated)
            fields = [field for group in GROUPS for field in _group(group, translated)]
            with gr.Row():
                translated["predict"] = gr.Button(
                    browser_text("predict"), variant="primary", scale=2, elem_id="predict"
                )
                translated["clear"] = gr.Button(browser_text("clear"), scale=1)
        with gr.Column(scale=5, min_width=320, elem_id="answer-side"):
            answer = gr.HTML(elem_id="answer")
            state = gr.Textbox(visible=False)  # text: see serve.ui.calls
    submits = [field.submit for field in number_fields(fields)]
    answered = gr.on(
        [translated["predict"].click, *submits],
        handlers.predict, [language, *fields], [answer, state], preprocess=False,
        show_progress="minimal", **PLAIN,
    )  # fmt: skip
    answered.then(None, js=static("show_answer.js"), **PLAIN)
    # The browser has no event for values that Gradio fills in.
    gr.on([field.change for field in fields], None, js=static("notify_inputs.js"), **PLAIN)
    for name, button in examples.items():
        _fill_on(button, EXAMPLES[name], fields)
    _fill_on(translated["clear"], {}, fields)
    return fields, state, answer


def number_fields(fields: Sequence[Any]) -> list[Any]:
    """Those of the form's fields that take a number."""
    return [f for f, m in zip(fields, MEASUREMENTS, strict=True) if not m.choices]


def _example_buttons(translated: dict[str, Any]) -> dict[str, Any]:
    import gradio as gr

    translated["examples"] = gr.HTML(heading("examples", DEFAULT, 2), elem_classes="group-title")
    with gr.Row(elem_id="examples"):
        for name in EXAMPLES:
            translated[name] = gr.Button(browser_text(name), size="sm", min_width=100)
    return {name: translated[name] for name in EXAMPLES}


def _group(group: str, translated: dict[str, Any]) -> list[Any]:
    """The heading and the fields of a group of measurements."""
    import gradio as gr

    key = f"group_{group}"
    translated[key] = gr.HTML(heading(key, DEFAULT, 2), elem_classes="group-title")
    with gr.Group():
        fields = {m.name: _field(m) for m in MEASUREMENTS if m.group == group}
    translated |= fields
    return list(fields.values())


def _field(measurement: Measurement) -> Any:
    import gradio as gr

    name = browser_text(measurement.name)
    if not measurement.choices:
        # The schema checks the bounds; its message is in the visitor's language.
        return gr.Number(
            label=name, step=measurement.step, elem_id=measurement.name, interactive=True
        )
    choices = [(browser_text(f"{measurement.name}_{c.name}"), c.name) for c in measurement.choices]
    if not measurement.required:
        choices.append((browser_text("not_measured"), NOT_MEASURED))
    value = None if measurement.required else NOT_MEASURED
    return gr.Radio(choices, value=value, label=name, elem_id=measurement.name, interactive=True)


def _fill_on(button: Any, patient: dict[str, Any], fields: Sequence[Any]) -> None:
    values = [
        patient.get(m.name) if not m.choices or m.required else patient.get(m.name) or NOT_MEASURED
        for m in MEASUREMENTS
    ]
    # In the browser: the form is filled, and an earlier result marked as stale, without a request.
    button.click(None, None, list(fields), js=f"() => {json.dumps(values)}", **PLAIN)
