"""The tab for one patient: a form made from the schema, and the answer beside it."""

import json
from collections.abc import Sequence
from typing import Any

from heart.locale.catalog import DEFAULT
from heart.locale.language import form_texts
from heart.schema import MEASUREMENTS, Measurement
from serve.ui.callbacks import NOT_MEASURED, Callbacks
from serve.ui.components import PLAIN, browser_text, heading, static
from serve.ui.examples import EXAMPLES
from serve.ui.units import CHOLESTEROL, MG_DL, MG_DL_PER_MMOL_L, MMOL_L, UNIT

GROUPS = tuple(dict.fromkeys(m.group for m in MEASUREMENTS))
RANGES = {unit: (m.low, m.high) for unit, m in CHOLESTEROL.items()}


def patient_tab(
    handlers: Callbacks, translated: dict[str, Any], language: Any
) -> tuple[list[Any], Any, Any]:
    """The fields in the schema's order, the state of the result, and the result."""
    import gradio as gr

    tab = gr.Tab(browser_text("tab_patient"))
    with tab as translated["tab_patient"], gr.Row(elem_id="patient"):
        with gr.Column(scale=6, min_width=320, elem_id="form-side"):
            examples = _example_buttons(translated)
            for group in GROUPS:
                _group(group, translated)
            fields = [translated[m.name] for m in MEASUREMENTS]
            _submit_bar(translated)
        with gr.Column(scale=5, min_width=320, elem_id="answer-side"):
            answer = gr.HTML(elem_id="answer")
            state = gr.Textbox(visible=False)  # text: see serve.ui.calls
    unit = translated[UNIT]
    gr.on(
        [translated["predict"].click, *(field.submit for field in number_fields(fields))],
        handlers.predict, [language, *fields, unit], [answer, state], preprocess=False,
        show_progress="minimal", **PLAIN,
    )  # fmt: skip
    # The browser has no event for values that Gradio fills in.
    changes = [field.change for field in (*fields, unit)]
    gr.on(changes, None, js=static("notify_inputs.js"), **PLAIN)
    _connect_unit(unit, translated["cholesterol"])
    for name, button in examples.items():
        # Examples are in the schema's units.
        _fill_on(button, [*_values(EXAMPLES[name]), MG_DL], [*fields, unit])
    _fill_on(translated["clear"], _values({}), fields)
    return fields, state, answer


def number_fields(fields: Sequence[Any]) -> list[Any]:
    """Those of the form's fields that take a number."""
    return [f for f, m in zip(fields, MEASUREMENTS, strict=True) if not m.choices]


def _example_buttons(translated: dict[str, Any]) -> dict[str, Any]:
    import gradio as gr

    with gr.Row(elem_id="examples"):
        translated["examples"] = gr.HTML(
            heading("examples", DEFAULT, 2), elem_classes="group-title", min_width=60
        )
        for name in EXAMPLES:
            translated[name] = gr.Button(browser_text(name), size="sm", min_width=60)
    return {name: translated[name] for name in EXAMPLES}


def _submit_bar(translated: dict[str, Any]) -> None:
    """The buttons, which stay in the window while the form is longer than it."""
    import gradio as gr

    with gr.Column(elem_id="submit"):
        # Shown while the answer is stale: see compare_inputs.js.
        translated["changed"] = gr.HTML(form_texts(DEFAULT)["changed"], elem_id="changed")
        with gr.Row():
            translated["predict"] = gr.Button(
                browser_text("predict"),
                variant="primary",
                scale=2,
                min_width=120,
                elem_id="predict",
            )
            translated["clear"] = gr.Button(browser_text("clear"), scale=1, min_width=100)


def _group(group: str, translated: dict[str, Any]) -> None:
    """The heading and the fields of a group of measurements."""
    import gradio as gr

    key = f"group_{group}"
    translated[key] = gr.HTML(heading(key, DEFAULT, 2), elem_classes="group-title")
    with gr.Group():
        for measurement in MEASUREMENTS:
            if measurement.group == group:
                translated[measurement.name] = _field(measurement)
            if measurement.group == group and measurement.name == "cholesterol":
                translated[UNIT] = _unit_switch()


def _field(measurement: Measurement) -> Any:
    import gradio as gr

    name = browser_text(measurement.name)
    if not measurement.choices:
        # The schema checks the bounds; its message is in the visitor's language.
        return gr.Number(
            label=name, step=measurement.step, minimum=measurement.low, maximum=measurement.high,
            elem_id=measurement.name, interactive=True,
        )  # fmt: skip
    choices = [(browser_text(f"{measurement.name}_{c.name}"), c.name) for c in measurement.choices]
    if not measurement.required:
        choices.append((browser_text("not_measured"), NOT_MEASURED))
    value = None if measurement.required else NOT_MEASURED
    return gr.Radio(choices, value=value, label=name, elem_id=measurement.name, interactive=True)


def _unit_switch() -> Any:
    import gradio as gr

    return gr.Radio(
        list(CHOLESTEROL), value=MG_DL, label=browser_text(UNIT), elem_id=UNIT, interactive=True
    )


def _connect_unit(unit: Any, cholesterol: Any) -> None:
    """Convert the number that is in the field if another unit is chosen, in the browser."""
    script = static("convert_unit.js", ranges=RANGES, mmol=MMOL_L, factor=MG_DL_PER_MMOL_L)
    unit.input(None, [unit, cholesterol], [cholesterol], js=script, **PLAIN)


def _values(patient: dict[str, Any]) -> list[Any]:
    """The values of the fields for a patient."""
    return [
        patient.get(m.name) if not m.choices or m.required else patient.get(m.name) or NOT_MEASURED
        for m in MEASUREMENTS
    ]


def _fill_on(button: Any, values: Sequence[Any], fields: Sequence[Any]) -> None:
    # In the browser: the form is filled, and an earlier result marked as stale, without a request.
    button.click(None, None, list(fields), js=f"() => {json.dumps(values)}", **PLAIN)
