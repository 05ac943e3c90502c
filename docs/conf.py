"""The documentation as a site: `make site`.

The pages are those that are read in the repository too, so they are plain Markdown: what a site
needs beyond that is added here.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, List

_DOCS = Path(__file__).parent
sys.path[:0] = [str(_DOCS), str(_DOCS.parent / "python")]  # this tree's, compiled or not
from _site import docstrings, links, mermaid  # noqa: E402 (the folder has just been named)

project = "vllm"
copyright = "the vllm authors"
extensions = ["myst_parser", "sphinx.ext.autodoc"]
exclude_patterns = ["_site"]
root_doc = "index"

# Warnings are errors in `make site`: a page that is in no table of contents, a link to no heading.
myst_heading_anchors = 4
myst_enable_extensions = ["colon_fence"]

autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True}
default_role = "code"  # `name` in a docstring is code, as it is in Markdown
python_use_unqualified_type_names = True

html_theme = "furo"
html_title = "vllm"
html_static_path = ["_site/static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sphinx = False
# Fonts of the reader's own, and no address but the site's.
html_theme_options = {
    "light_css_variables": {"font-stack": "system-ui, sans-serif"},
    "footer_icons": [],
}
# Both have at least 4.5 : 1 between text and background (a test computes it).
pygments_style = "default"
pygments_dark_style = "monokai"


def setup(app: Any) -> None:
    app.connect("source-read", _adapt)
    app.connect("include-read", _adapt_included)
    app.connect("autodoc-process-docstring", docstrings.as_lists)


def _adapt(app: Any, name: str, content: List[str]) -> None:
    content[0] = links.to_repository(mermaid.as_lists(content[0]))


def _adapt_included(app: Any, path: Path, name: str, content: List[str]) -> None:
    folder = "".join(f"{part}/" for part in path.parts[:-1] if part != "..")
    content[0] = links.of_included(content[0], folder)
