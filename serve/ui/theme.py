"""Colors and fonts."""

from typing import Any

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


def theme() -> Any:
    import gradio as gr

    # System fonts: none is loaded.
    fonts: dict[str, Any] = {
        "font": ["system-ui", "sans-serif"],
        "font_mono": ["ui-monospace", "monospace"],
    }
    return gr.themes.Base(primary_hue="teal", neutral_hue="slate", **fonts).set(**THEME)
