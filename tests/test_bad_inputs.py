"""The page of bad inputs shows the actual messages."""

from __future__ import annotations


def test_every_bad_input_is_told_what_is_documented():
    from tests.bad_inputs import DOCUMENT, page

    documented = DOCUMENT.read_text(encoding="utf-8")
    assert page() == documented, "docs/bad-inputs.md: python -m tests.bad_inputs"
