"""Builds the documentation as a site, and takes docs/images/site-*.png: its first page.

python -m tests.record_site
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from tests import pictures

ROOT = Path(__file__).parents[1]


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        words = ["-W", "-q", "-b", "html", str(ROOT / "docs"), folder]
        subprocess.run([sys.executable, "-m", "sphinx", *words], check=True)
        with pictures.browser() as browser:
            pictures.take_all(browser, (Path(folder) / "index.html").as_uri(), "site")


if __name__ == "__main__":
    main()
