"""The page at `/` in a real browser: what is chosen there installs; without a script it lists."""

from __future__ import annotations

import shlex
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import httpx
import pytest

from ci.git import Commit
from ci.publish import care, fail, publish
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


def test_what_is_chosen_is_the_documented_command(
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


def test_the_command_that_is_shown_installs(
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


def test_it_can_be_used_by_keyboard_and_read_aloud(
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


def test_without_a_script_it_lists_every_wheel(
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
