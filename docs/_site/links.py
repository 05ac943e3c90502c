"""Links to files of the repository that are no pages of the site."""

from __future__ import annotations

import re

REPOSITORY = "https://github.com/vllm-project/vllm/blob/main/"


def to_repository(text: str) -> str:
    """Links that leave docs/, such as ../benchmarks/x.json, lead to the repository instead."""
    return re.sub(r"\]\(\.\./(?!\.\.)([^)\s]+)\)", rf"]({REPOSITORY}\1)", text)


def of_root(text: str) -> str:
    """The same for a page of the root, whose links are to docs/ or leave the site."""
    return re.sub(r"\]\((?!docs/|https?:|#)([^)\s]+)\)", rf"]({REPOSITORY}\1)", text)
