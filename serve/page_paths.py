"""The paths to which the page sends requests that are not safe, with the content types of each."""

CALL = "/gradio_api/run/predict"
LOGIN = "/login"
POSTED = {
    CALL: ("application/json",),
    LOGIN: ("application/x-www-form-urlencoded", "multipart/form-data"),
}
