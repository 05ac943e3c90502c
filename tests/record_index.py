"""Takes docs/images/wheels-*.png: the page of a bucket, in two widths and both color schemes.

python -m ci reindex --bucket FOLDER && python -m tests.record_index FOLDER
"""

from __future__ import annotations

import base64
import shutil
import sys
from pathlib import Path
from typing import Any

from selenium import webdriver

from ci.index import records
from ci.publish import access
from ci.serve import running
from ci.store import FolderStore

IMAGES = Path(__file__).parents[1] / "docs/images"
SIZES = {"desk": (1280, 900), "phone": (390, 844)}


def main() -> None:
    options = webdriver.ChromeOptions()
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"):
        options.add_argument(argument)
    service = webdriver.ChromeService(shutil.which("chromedriver"))
    store = FolderStore(Path(sys.argv[1]))
    newest = access.read(store, records.NIGHTLY).unit
    assert newest is not None, "this bucket has no nightly"
    browser = webdriver.Chrome(options=options, service=service)
    try:
        with running(store) as base:
            for size in SIZES:
                for scheme in ("light", "dark"):
                    take(browser, f"{base}/", f"wheels-{size}-{scheme}", size, scheme)
            take(browser, f"{base}/{newest.name}/", "wheels-commit", "desk", "light")
    finally:
        browser.quit()


def take(browser: Any, url: str, name: str, size: str, scheme: str) -> None:
    width, height = SIZES[size]
    metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    browser.get(url)
    shot = browser.execute_cdp_cmd("Page.captureScreenshot", {"format": "png"})
    (IMAGES / f"{name}.png").write_bytes(base64.b64decode(shot["data"]))


if __name__ == "__main__":
    main()
