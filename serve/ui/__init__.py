"""The web page, in Gradio: a form from the schema, tables, outcomes, drift, and the model's figures.

Importing Gradio takes seconds, so it is imported only once the service runs: `LazyPage` answers with a
placeholder and builds the page in the background. Events do not use Gradio's queue, and the server
keeps nothing between two events, so that any replica can handle them.
"""

from serve.ui.mounting import LazyPage, mount

__all__ = ["LazyPage", "mount"]
