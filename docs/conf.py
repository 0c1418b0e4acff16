"""Sphinx: the documentation site, built by `make docs`."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]

project = "Heart disease"
version = re.findall(r'^version = "(.*)"', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)[0]
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.autosummary"]
exclude_patterns = ["_build"]
templates_path = ["_templates"]

html_theme = "furo"
html_title = f"Heart disease {version}"
html_copy_source = False
html_show_sphinx = False
html_show_copyright = False
html_static_path = ["_static"]
html_css_files = ["site.css"]

myst_heading_anchors = 3

autodoc_default_options = {
    "members": True,
    "show-inheritance": True,
    "exclude-members": "set_fit_request, set_score_request",  # scikit-learn adds them
}
autodoc_inherit_docstrings = False
autodoc_member_order = "bysource"
autodoc_typehints = "description"
default_role = "code"

# The library's own names are checked. Names of others would need their inventories, from the network.
nitpick_ignore_regex = [(r"py:.*", r"(?!heart\.).*"), (r"py:class", r"heart\..*\.T")]

linkcheck_ignore = [r"http://(127\.0\.0\.1|localhost).*"]
