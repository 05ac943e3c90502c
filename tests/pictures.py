"""Pictures of pages for docs/images: NAME-WIDTH-SCHEME.png, at two widths, light and dark."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any, ContextManager

from tests import chromium

IMAGES = Path(__file__).parents[1] / "docs/images"
SIZES = {"desk": (1280, 900), "phone": (390, 844)}
SCHEMES = ("light", "dark")


def browser() -> ContextManager[Any]:
    return chromium.browser("--hide-scrollbars")


def resize(browser: Any, size: str) -> None:
    """Emulates a screen of `SIZES`."""
    width, height = SIZES[size]
    metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)


def take(browser: Any, name: str, size: str) -> None:
    """Writes a picture of the page as it is now, in each scheme."""
    for scheme in SCHEMES:
        media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
        shot = browser.execute_cdp_cmd("Page.captureScreenshot", {"format": "png"})
        path = IMAGES / f"{name}-{size}-{scheme}.png"
        path.write_bytes(base64.b64decode(shot["data"]))


def take_all(browser: Any, url: str, name: str) -> None:
    """Writes the pictures of a page: each width and scheme."""
    for size in SIZES:
        resize(browser, size)
        browser.get(url)
        take(browser, name, size)
