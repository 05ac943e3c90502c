"""Links to files of the repository that are not pages of the site."""

from __future__ import annotations

import re

REPOSITORY = "https://github.com/vllm-project/vllm/blob/main/"


def to_repository(text: str) -> str:
    """Redirects links that leave docs/, such as ../benchmarks/x.json, to the repository."""
    return re.sub(r"\]\(\.\./(?!\.\.)([^)\s]+)\)", rf"]({REPOSITORY}\1)", text)


def of_included(text: str, folder: str) -> str:
    """The same for a page outside of docs/, in `folder` ("" or "examples/") of the repository."""
    return re.sub(r"\]\((?!docs/|https?:|#)([^)\s]+)\)", rf"]({REPOSITORY}{folder}\1)", text)
