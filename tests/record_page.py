"""Talks with a small model on the page of `vllm serve`, and takes docs/images/chat-*.png.

    python -m tests.record_page

The model is the one of `tests.models.taught`.
"""

from __future__ import annotations

import base64
import shutil
import tempfile
from pathlib import Path

from selenium import webdriver

from tests.entrypoints.openai.support import running
from tests.entrypoints.openai.test_page import ENTER, Page
from tests.models.taught import make_model

IMAGES = Path(__file__).parents[1] / "docs/images"
SIZES = {"desk": (1280, 720), "phone": (390, 780)}


def main() -> None:
    options = webdriver.ChromeOptions()
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"):
        options.add_argument(argument)
    service = webdriver.ChromeService(shutil.which("chromedriver"))
    with tempfile.TemporaryDirectory() as folder:
        make_model(Path(folder))
        browser = webdriver.Chrome(options=options, service=service)
        try:
            with running(folder, names=["tiny"]) as server:
                for name, size in SIZES.items():
                    take(Page(browser, server), name, *size)
        finally:
            browser.quit()


def take(page: Page, name: str, width: int, height: int) -> None:
    metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
    page.browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    page.set("temperature", "0")
    for number, said in enumerate(("Who are you?", "Which?"), 1):
        page.type(said + ENTER)
        page.until(lambda number=number: len(page.all(".answer")) == number)
        page.ended()
    if name == "desk":
        page.find("#parameters summary").click()
    shot = page.browser.execute_cdp_cmd("Page.captureScreenshot", {"format": "png"})
    (IMAGES / f"chat-{name}.png").write_bytes(base64.b64decode(shot["data"]))


if __name__ == "__main__":
    main()
