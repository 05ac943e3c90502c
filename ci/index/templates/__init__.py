"""The templates of pages, rendered by Jinja with autoescaping."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from ci.index.simple import relative

_HERE = Path(__file__).parent


def render(name: str, **values: Any) -> bytes:
    """Renders the template `name` with `values`."""
    return _environment().get_template(name).render(values).encode("utf-8")


def verbatim(name: str) -> Markup:
    """A file beside the templates, inserted without escaping: style or script."""
    return Markup((_HERE / name).read_text(encoding="utf-8"))


@functools.cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.globals["relative"] = relative
    environment.globals["verbatim"] = functools.cache(verbatim)
    return environment
