"""The documentation site: no warnings, no dead links, nothing external, fits any screen."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import urllib.parse
from html.parser import HTMLParser
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# The reference is made of docstrings: importing the engine needs torch.
MISSING = [name for name in ("torch", "myst_parser", "furo") if not importlib.util.find_spec(name)]
pytestmark = pytest.mark.skipif(bool(MISSING), reason=f"there is no {', '.join(MISSING)}")


class Page(HTMLParser):
    """What a page points to, and what may point into it."""

    def __init__(self, path):
        super().__init__()
        self.links, self.loaded, self.ids = [], [], set()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        if "id" in found:
            self.ids.add(found["id"])
        if tag == "a" and found.get("href"):
            self.links.append(found["href"])
        elif tag in ("script", "img", "iframe", "source") and found.get("src"):
            self.loaded.append(found["src"])
        elif tag == "link" and found.get("href"):
            self.loaded.append(found["href"])


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The folder."""
    folder = tmp_path_factory.mktemp("site")
    words = ["-W", "--keep-going", "-q", "-b", "html", "-d", folder / "state"]
    done = subprocess.run(
        [sys.executable, "-m", "sphinx", *words, ROOT / "docs", folder / "html"],
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return folder / "html"


@pytest.fixture(scope="module")
def pages(site):
    return {path.relative_to(site).as_posix(): Page(path) for path in sorted(site.rglob("*.html"))}


def test_every_document_is_a_page(pages):
    documents = {
        path.relative_to(ROOT / "docs").with_suffix(".html").as_posix()
        for path in (ROOT / "docs").rglob("*.md")
    }
    assert documents - set(pages) == set()
    assert len(documents) > 20


def test_every_link_leads_somewhere(site, pages):
    broken = []
    for name, page in pages.items():
        for href in page.links:
            url = urllib.parse.urlparse(href)
            if url.scheme:
                continue
            path = (
                (site / name).parent / urllib.parse.unquote(url.path) if url.path else site / name
            )
            target = path.resolve()
            anchor = urllib.parse.unquote(url.fragment)
            if not target.is_file():
                broken.append(f"{name}: {href}")
            elif anchor and target.suffix == ".html":
                other = pages[target.relative_to(site).as_posix()]
                if anchor not in other.ids:
                    broken.append(f"{name}: {href}")
    assert broken == []


def test_links_to_the_repository_are_to_files_of_it(pages):
    start = "https://github.com/vllm-project/vllm/blob/main/"
    linked = {href for page in pages.values() for href in page.links if href.startswith(start)}
    assert linked
    missing = [
        href for href in linked if not (ROOT / href[len(start) :].partition("#")[0]).exists()
    ]
    assert missing == []


def test_nothing_is_loaded_from_elsewhere(site, pages):
    for name, page in pages.items():
        for address in page.loaded:
            assert not urllib.parse.urlparse(address).netloc, f"{name} loads {address}"
    for style in site.rglob("*.css"):
        assert "url(http" not in style.read_text(encoding="utf-8").replace('"', "").replace("'", "")


def test_the_reference_has_every_public_name(pages):
    import vllm
    from vllm import ops

    described = pages["api.html"].ids
    missing = [
        name
        for name in vllm.__all__
        if not name.startswith("__") and not {f"vllm.{name}", f"vllm.outputs.{name}"} & described
    ]
    functions = [name for name in ops.__all__ if callable(getattr(ops, name))]
    missing += [name for name in functions if f"vllm.ops.{name}" not in described]
    assert missing == []


@pytest.mark.parametrize("width", [360, 1280])
def test_every_page_fits_a_phone_and_a_desk(browser, site, pages, width):
    too_wide = []
    metrics = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    try:
        for name in pages:
            browser.get((site / name).as_uri())
            found = browser.execute_script("return document.documentElement.scrollWidth")
            if found > width:
                too_wide.append((name, found))
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    assert too_wide == []
