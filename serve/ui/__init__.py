"""The page: a form made from the schema, tables, outcomes, and the model's figures, in Gradio.

Gradio takes seconds to import, so nothing here imports it before the service runs: `LazyPage` answers
at once and builds the page behind. Every event goes without Gradio's queue and nothing is kept on the
server between two events, so that any replica can answer.
"""

from serve.ui.mounting import LazyPage, mount

__all__ = ["LazyPage", "mount"]
