"""The page at `/` in a real browser: its commands install; without JavaScript it is a listing."""

from __future__ import annotations

import shlex
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import urljoin
from xml.etree import ElementTree

import httpx
import pytest

from ci import names
from ci.git import Commit
from ci.publish import care, fail, publish
from ci.serve import running
from ci.store import FolderStore
from tests.ci.clients.conftest import Host, Tool, make_tool
from tests.ci.support.wheels import Factory


@pytest.fixture(scope="module")
def commits(factory: Factory) -> list[Commit]:
    return [factory.commit(number) for number in (1, 2, 3, 4)]


@pytest.fixture(scope="module")
def bucket(
    tmp_path_factory: pytest.TempPathFactory, factory: Factory, commits: list[Commit]
) -> FolderStore:
    """A release, two nightlies, a yanked commit and one that failed."""
    store = FolderStore(tmp_path_factory.mktemp("page") / "bucket", durable=False)
    released = factory.commit(0)
    publish(store, factory.release(released), released, factory.matrix, release=True)
    for commit in commits[:3]:
        publish(store, factory.wheels(commit), commit, factory.matrix)
    care.yank(store, commits[1].sha, "wrong <b>results</b>")
    fail(store, commits[3], 'nvrtc said "<script>no</script>"')
    return store


@pytest.fixture(params=["served", "static"])
def pair(request: pytest.FixtureRequest) -> tuple[str, str]:
    return "pip", request.param


def choose(browser: Any, **chosen: str) -> str:
    """Selects in the order given, as a person does; returns the command that is then shown."""
    for field, value in chosen.items():
        select = browser.find_element("id", field)
        browser.execute_script(
            "arguments[0].value = arguments[1];"
            "arguments[0].dispatchEvent(new Event('change', {bubbles: true}))",
            select,
            value,
        )
        assert select.get_property("value") == value, f"{field} offers no {value}"
    return str(browser.find_element("id", "command").text)


def test_the_form_gives_the_documented_command(
    browser: Any, host: Host, bucket: FolderStore, commits: list[Commit]
) -> None:
    plus = "vllm-0.5.4+cu118-cp38-abi3-manylinux1_x86_64.whl"
    with host(bucket) as base:
        browser.get(f"{base}/")
        assert choose(browser, channel="nightly", cuda="cu121", python="any", client="pip") == (
            f"pip install {base}/nightly/vllm-0.5.4-cp38-abi3-manylinux1_x86_64.whl"
        )
        torch = "--extra-index-url https://download.pytorch.org/whl/cu118"
        assert choose(browser, cuda="cu118") == f"pip install {base}/nightly/{plus} {torch}"
        assert choose(browser, channel="commit", commit=commits[0].sha, client="uv") == (
            f"uv pip install {base}/{commits[0].sha}/{plus} {torch}"
        )
        update = browser.find_element("id", "update").text
        assert update == f"uv pip install --reinstall {base}/{commits[0].sha}/{plus}"
        assert choose(browser, channel="release", cuda="cu121", python="3.10", client="pip") == (
            f"pip install {base}/releases/download/v0.5.4/"
            "vllm-0.5.4-cp310-cp310-manylinux1_x86_64.whl"
        )
        assert [entry["message"] for entry in browser.get_log("browser")] == []


def test_the_shown_command_installs(
    browser: Any,
    host: Host,
    bucket: FolderStore,
    commits: list[Commit],
    tools: Path,
    tmp_path: Path,
) -> None:
    tool: Tool = make_tool("pip", tools, tmp_path)
    environment = tool.environment(tmp_path / "env")
    with host(bucket) as base:
        browser.get(f"{base}/")
        shown = choose(browser, channel="commit", commit=commits[0].sha, cuda="cu121")
        pip, install, *arguments = shlex.split(shown)
        assert (pip, install) == ("pip", "install")
        environment.install(*arguments)
        assert environment.vllm() == ("0.5.4", commits[0].sha)
        choose(browser, channel="nightly", cuda="cu121", client="pip")
        update = shlex.split(browser.find_element("id", "update").text)
        environment.install(*update[2:])
        assert environment.vllm() == ("0.5.4", commits[2].sha)


def test_it_works_with_a_keyboard_and_a_screen_reader(
    browser: Any, host: Host, bucket: FolderStore
) -> None:
    with host(bucket) as base:
        browser.get(f"{base}/")
        names = browser.execute_script(
            "return [...document.querySelectorAll('select')].map(s => s.labels[0].textContent)"
        )
        assert names == ["Channel", "Commit", "CUDA", "Python", "Client"]
        reached = []
        for _ in range(6):
            browser.switch_to.active_element.send_keys("\ue004")  # Tab
            focused = browser.switch_to.active_element
            reached.append(focused.get_attribute("id") or focused.text)
        assert reached == ["channel", "cuda", "python", "client", "Copy", "Copy"]
        # What changes is announced, and every column has a heading.
        assert browser.find_element("css selector", "[aria-live=polite] #command")
        assert browser.execute_script("return document.documentElement.lang") == "en"
        headings = browser.find_elements("css selector", "thead th[scope=col]")
        assert len(headings) >= 4


@pytest.mark.parametrize("width", [360, 1280])
def test_it_fits_a_phone_and_a_desk(
    browser: Any, host: Host, bucket: FolderStore, width: int
) -> None:
    with host(bucket) as base:
        browser.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride",
            {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 500},
        )
        browser.get(f"{base}/")
        browser.execute_script("document.querySelectorAll('details').forEach(d => d.open = true)")
        page = browser.execute_script("return document.documentElement.scrollWidth")
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    assert page <= width


class Links(HTMLParser):
    """The links and the elements of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.hrefs: list[str] = []
        self.scripts = 0
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.scripts += tag == "script"
        if tag == "a":
            self.hrefs.append(dict(attrs)["href"] or "")


def test_without_javascript_it_lists_every_wheel(
    host: Host, bucket: FolderStore, factory: Factory, commits: list[Commit]
) -> None:
    with host(bucket) as base:
        text = httpx.get(f"{base}/").text
        found = Links(text)
        for href in found.hrefs:
            assert httpx.get(f"{base}/{href}").status_code == 200, href
    for commit in commits[:3]:
        for wheel in factory.wheels(commit):
            assert f"{commit.sha}/{wheel.path.name.replace('+', '%2B')}" in found.hrefs
            assert wheel.sha256 in text
    assert "wrong &lt;b&gt;results" in text
    assert "nvrtc said &#34;&lt;script&gt;no" in text
    assert found.scripts == 2  # the choices and the script itself


def test_commits_are_found_by_words_or_a_prefix_of_the_hash(
    browser: Any, host: Host, bucket: FolderStore, commits: list[Commit]
) -> None:
    def shown(text: str) -> list[str]:
        field = browser.find_element("id", "search")
        field.clear()
        field.send_keys(text)
        rows = browser.find_elements("css selector", "tr[data-search]")
        return [row.find_element("tag name", "code").text for row in rows if row.is_displayed()]

    with host(bucket) as base:
        browser.get(f"{base}/")
        all_of_them = [commit.sha[:9] for commit in reversed(commits)]
        assert shown(commits[0].sha[:6]) == [commits[0].sha[:9]]
        assert browser.find_element("id", "found").text == "1 of 4 commits"
        assert shown(commits[0].sha[1:7]) == []
        assert shown("change NUMBER") == all_of_them
        assert shown("number 3") == [commits[2].sha[:9]]
        assert shown("failed") == [commits[3].sha[:9]]
        assert shown(" ") == all_of_them


def test_a_commit_has_a_page_with_changes_and_commands(
    browser: Any, host: Host, bucket: FolderStore, factory: Factory, commits: list[Commit]
) -> None:
    commit = commits[0]
    wheel = "vllm-0.5.4-cp38-abi3-manylinux1_x86_64.whl"
    with host(bucket) as base:
        for page in (f"{base}/{commit.sha}/", f"{base}/{commit.sha}/index.html"):
            browser.get(page)
            text = browser.find_element("tag name", "main").text
            assert commit.subject in text
            assert "2 files differ from the commit before" in text
            assert "csrc/kernels/norm.cu" in text
            for command in (
                f"pip install {base}/{commit.sha}/{wheel}",
                f"uv pip install --reinstall {base}/{commit.sha}/{wheel}",
                f"uv run {base}/{commit.sha}/install.py",
                f"uv run {base}/{commit.sha}/bisect.py --good COMMIT -- python test.py",
                f"python -m ci verify {base}/{commit.sha}/",
            ):
                assert command in text
            for file in factory.wheels(commit):
                assert file.sha256 in text
        assert [entry["message"] for entry in browser.get_log("browser")] == []
        browser.get(f"{base}/releases/download/v0.5.4/index.html")
        release = f"pip install {base}/releases/download/v0.5.4/{wheel}"
        assert release in browser.find_element("tag name", "main").text
        plain = httpx.get(f"{base}/{commit.sha}/index.html").text
    assert f"pip install {names.BASE}/{commit.sha}/{wheel}" in plain


PAGES = ["", "COMMIT/index.html", "nightly/index.html", "releases/download/v0.5.4/index.html"]


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize("width", [360, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_page_fits_and_can_be_read_in_both_schemes(
    browser: Any, bucket: FolderStore, commits: list[Commit], page: str, width: int, scheme: str
) -> None:
    metrics = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 500}
    feature = [{"name": "prefers-color-scheme", "value": scheme}]
    with running(bucket) as base:
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": feature})
        try:
            browser.get(f"{base}/{page.replace('COMMIT', commits[1].sha)}")
            browser.execute_script(
                "document.querySelectorAll('details').forEach(d => d.open = true)"
            )
            assert browser.execute_script("return document.documentElement.scrollWidth") <= width
            ratios = browser.execute_script(CONTRASTS)
        finally:
            browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
            browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    assert len(ratios) > 5
    assert {text: ratio for text, ratio in ratios if ratio < 4.5} == {}  # WCAG 2, 1.4.3


# The contrast of each text with the canvas behind it, as WCAG 2 computes it.
CONTRASTS = """
const canvas = document.createElement('div');
canvas.style.background = 'Canvas';
document.body.append(canvas);
const numbers = (color) => {
  const context = document.createElement('canvas').getContext('2d');
  context.fillStyle = color;
  context.fillRect(0, 0, 1, 1);
  return [...context.getImageData(0, 0, 1, 1).data].slice(0, 3);
};
const luminance = (color) => numbers(color)
  .map((n) => n / 255)
  .map((n) => (n <= 0.04045 ? n / 12.92 : ((n + 0.055) / 1.055) ** 2.4))
  .reduce((sum, n, i) => sum + n * [0.2126, 0.7152, 0.0722][i], 0);
const behind = luminance(getComputedStyle(canvas).backgroundColor);
canvas.remove();
const shown = document.querySelectorAll('h1, p, a, code, summary, th, td, dt, .badge');
return [...shown].filter((e) => e.textContent.trim()).map((e) => {
  const own = luminance(getComputedStyle(e).color);
  const [dark, light] = [own, behind].sort((a, b) => a - b);
  return [e.textContent.slice(0, 30), (light + 0.05) / (dark + 0.05)];
});
"""


@pytest.mark.parametrize("page", PAGES)
def test_the_accessibility_tree_names_every_control(
    browser: Any, bucket: FolderStore, commits: list[Commit], page: str
) -> None:
    with running(bucket) as base:
        browser.get(f"{base}/{page.replace('COMMIT', commits[0].sha)}")
        tree = browser.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
    nodes = [node for node in tree if not node["ignored"]]

    def of(*roles: str) -> list[dict[str, Any]]:
        return [node for node in nodes if node["role"]["value"] in roles]

    controls = of("link", "button", "combobox", "searchbox", "textbox")
    assert controls
    assert [node for node in controls if not node["name"]["value"].strip()] == []
    levels = [
        prop["value"]["value"]
        for node in of("heading")
        for prop in node["properties"]
        if prop["name"] == "level"
    ]
    assert levels[0] == 1
    assert all(after - before <= 1 for before, after in zip(levels, levels[1:]))
    assert len(of("main")) == 1
    assert of("columnheader")
    assert of("rowheader")


def test_the_feed_and_the_badges_say_what_is_there(
    browser: Any, host: Host, bucket: FolderStore, commits: list[Commit]
) -> None:
    atom = "{http://www.w3.org/2005/Atom}"
    with host(bucket) as base:
        feed = ElementTree.fromstring(httpx.get(f"{base}/nightly/feed.xml").content)
        entries = feed.findall(f"{atom}entry")
        titles = [entry.findtext(f"{atom}title") for entry in entries]
        assert titles == [
            f"{commits[2].sha[:9]} (number 3) {commits[2].subject}",
            f"{commits[1].sha[:9]} (number 2) {commits[1].subject}, yanked: wrong <b>results</b>",
            f"{commits[0].sha[:9]} (number 1) {commits[0].subject}",
        ]
        for entry in entries:
            href = entry.find(f"{atom}link").get("href")  # type: ignore[union-attr]
            assert httpx.get(urljoin(f"{base}/nightly/feed.xml", href)).status_code == 200
        for variant, cuda in (("cu118", "11.8"), ("cu121", "12.1")):
            answer = httpx.get(f"{base}/nightly/{variant}.svg")
            assert answer.headers["content-type"] == "image/svg+xml"
            badge = ElementTree.fromstring(answer.content)
            assert badge.get("aria-label") == f"vllm, CUDA {cuda}: 0.5.5.dev3"
            browser.get(f"{base}/nightly/{variant}.svg")
            boxes = browser.execute_script(
                "const b = (e) => e.getBoundingClientRect();"
                "const [left, right] = [...document.querySelectorAll('text')].map(b);"
                "const whole = b(document.documentElement);"
                "return [left.right <= right.left, right.right <= whole.right]"
            )
            assert boxes == [True, True]
