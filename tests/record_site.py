"""Builds the documentation as a site, and takes docs/images/site-*.png of its first page.

python -m tests.record_site
"""

from __future__ import annotations

import base64
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from selenium import webdriver

ROOT = Path(__file__).parents[1]
SIZES = {"desk": (1280, 720), "phone": (390, 780)}


def main() -> None:
    options = webdriver.ChromeOptions()
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"):
        options.add_argument(argument)
    service = webdriver.ChromeService(shutil.which("chromedriver"))
    with tempfile.TemporaryDirectory() as folder:
        words = ["-W", "-q", "-b", "html", str(ROOT / "docs"), folder]
        subprocess.run([sys.executable, "-m", "sphinx", *words], check=True)
        browser = webdriver.Chrome(options=options, service=service)
        try:
            for name, (width, height) in SIZES.items():
                metrics = {"width": width, "height": height, "deviceScaleFactor": 1}
                browser.execute_cdp_cmd(
                    "Emulation.setDeviceMetricsOverride", {**metrics, "mobile": width < 500}
                )
                browser.get((Path(folder) / "index.html").as_uri())
                shot = browser.execute_cdp_cmd("Page.captureScreenshot", {"format": "png"})
                path = ROOT / f"docs/images/site-{name}.png"
                path.write_bytes(base64.b64decode(shot["data"]))
        finally:
            browser.quit()


if __name__ == "__main__":
    main()
