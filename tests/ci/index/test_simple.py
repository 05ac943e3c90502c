"""The simple pages: what the standards require, in both forms, with everything escaped."""

from __future__ import annotations

import dataclasses
import json
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ci.index import fields, simple_html, simple_json
from ci.index.manifest import Unit
from ci.index.records import Yanked
from ci.index.simple import ProjectPage, project_page, relative
from ci.matrix import Matrix
from tests.ci.index.conftest import make_unit

FOLDER = "whl/nightly/cu118/vllm/"


class Anchors(HTMLParser):
    """Reads a page as a client does."""

    def __init__(self, page: bytes) -> None:
        super().__init__()
        self.metas: dict[str, str | None] = {}
        self.anchors: list[dict[str, str | None]] = []
        self.tags: set[str] = set()
        self.texts: list[str] = []
        self.feed(page.decode("utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        found = dict(attrs)
        if tag == "meta" and "name" in found:
            self.metas[found["name"] or ""] = found["content"]
        if tag == "a":
            self.anchors.append(found)

    def handle_data(self, data: str) -> None:
        if self.lasttag == "a" and data.strip():
            self.texts.append(data)


@pytest.fixture
def page(unit: Unit) -> ProjectPage:
    return project_page(FOLDER, "cu118", "cu121", [unit], Yanked(), 1, development_only=True)


def test_the_html_page_says_what_503_592_629_658_714_and_792_ask_for(
    page: ProjectPage, unit: Unit
) -> None:
    found = Anchors(simple_html.project(page))
    (file,) = (f for f in unit.files if ".dev" in f.version and f.variant == "cu118")
    assert found.metas["pypi:repository-version"] == "1.4"
    assert found.metas["pypi:project-status"] == "active"
    assert found.texts == [file.name]
    (anchor,) = found.anchors
    quoted = file.name.replace("+", "%2B")
    assert anchor == {
        "href": f"../../../../{unit.commit}/{quoted}#sha256={file.sha256}",
        "data-requires-python": ">=3.8",
        "data-core-metadata": f"sha256={file.metadata_sha256}",
        "data-dist-info-metadata": f"sha256={file.metadata_sha256}",
    }


def test_the_json_page_says_what_691_700_714_and_792_ask_for(page: ProjectPage, unit: Unit) -> None:
    (file,) = (f for f in unit.files if ".dev" in f.version and f.variant == "cu118")
    assert json.loads(simple_json.project(page)) == {
        "meta": {"api-version": "1.4", "_last-serial": 1},
        "name": "vllm",
        "project-status": {"status": "active"},
        "versions": [file.version],
        "files": [
            {
                "filename": file.name,
                "url": f"../../../../{unit.commit}/{file.name.replace('+', '%2B')}",
                "hashes": {"sha256": file.sha256},
                "requires-python": ">=3.8",
                "core-metadata": {"sha256": file.metadata_sha256},
                "size": 12_345_678,
                "upload-time": "2026-11-05T12:00:00Z",
                "yanked": False,
            }
        ],
    }


def test_the_roots_link_to_the_project() -> None:
    assert Anchors(simple_html.root("vllm")).anchors == [{"href": "vllm/"}]
    assert json.loads(simple_json.root("vllm"))["projects"] == [{"name": "vllm"}]


@pytest.mark.parametrize(
    ("folder", "key", "link"),
    [
        (FOLDER, "c/w+x.whl", "../../../../c/w%2Bx.whl"),
        ("c/cu118/vllm/", "c/w.whl", "../../w.whl"),
        ("nightly/", "nightly/w.whl", "w.whl"),
        ("", "c/w.whl", "c/w.whl"),
    ],
)
def test_links_are_relative_and_plus_is_quoted(folder: str, key: str, link: str) -> None:
    assert relative(folder, key) == link


def test_a_page_is_the_same_bytes_whenever_it_is_made(page: ProjectPage) -> None:
    assert simple_html.project(page) == simple_html.project(page)
    assert b"2026" not in simple_html.project(page)  # and holds no time of its making


def test_commits_are_in_order_and_a_yank_changes_the_serial(the_matrix: Matrix) -> None:
    units = [make_unit(the_matrix, number) for number in (3, 2)]
    yanked = Yanked().saying(units[1].name, "bad")
    page = project_page(FOLDER, "cu121", "cu121", units, yanked, 5, development_only=True)
    assert [link.file.version.partition("+")[0] for link in page.links] == [
        "0.5.5.dev3",
        "0.5.5.dev2",
    ]
    assert page.serial == 6
    assert [link.yanked for link in page.links] == [None, "bad"]


@given(reason=st.text().filter(lambda text: fields.LINE.fullmatch(text)))
def test_a_reason_is_shown_and_is_never_markup(unit: Unit, reason: str) -> None:
    yanked = Yanked().saying(unit.name, reason)
    page = project_page(FOLDER, "cu118", "cu121", [unit], yanked, 1)
    found = Anchors(simple_html.project(page))
    assert found.tags == {"html", "head", "meta", "title", "body", "h1", "a", "br"}
    assert [anchor["data-yanked"] for anchor in found.anchors] == [reason, reason]
    said = json.loads(simple_json.project(page))["files"][0]["yanked"]
    assert said == (reason or True)


def test_a_file_without_metadata_says_nothing_of_it(unit: Unit) -> None:
    files = tuple(
        dataclasses.replace(file, metadata_sha256=None, requires_python="") for file in unit.files
    )
    bare = dataclasses.replace(unit, files=files)
    page = project_page(FOLDER, "cu118", "cu121", [bare], Yanked(), 1)
    assert set(Anchors(simple_html.project(page)).anchors[0]) == {"href"}
    assert "core-metadata" not in json.loads(simple_json.project(page))["files"][0]
