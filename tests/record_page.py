"""Talks with a small model on the page of `vllm serve`, and takes docs/images/chat-*.png.

    python -m tests.record_page

The model is the one of `tests.models.taught`.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from tests import pictures
from tests.entrypoints.openai.support import running
from tests.entrypoints.openai.test_page import ENTER, Page
from tests.models.taught import make_model


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        make_model(Path(folder))
        with pictures.browser() as browser, running(folder, names=["tiny"]) as server:
            for size in pictures.SIZES:
                pictures.resize(browser, size)
                talk(Page(browser, server))
                if size == "desk":
                    browser.find_element("css selector", "#parameters summary").click()
                pictures.take(browser, "chat", size)


def talk(page: Page) -> None:
    page.set("temperature", "0")
    for number, said in enumerate(("Who are you?", "Which?"), 1):
        page.type(said + ENTER)
        page.until(lambda number=number: len(page.all(".answer")) == number)
        page.ended()


if __name__ == "__main__":
    main()
