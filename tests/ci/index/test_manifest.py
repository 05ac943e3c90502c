"""A manifest survives writing and reading; an edited one is refused, with the field's name."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ci.index import manifest as manifests
from ci.index.fields import BadRecord
from ci.index.manifest import Attachment, Change, Manifest, prefix_of
from ci.matrix import Matrix
from tests.ci.index.conftest import make_unit

WHERE = "COMMIT/manifest.json in bucket"


def test_a_manifest_comes_back_as_it_was_written(manifest: Manifest) -> None:
    data = manifests.dump(manifest)
    assert manifests.parse(data, WHERE) == manifest
    assert manifests.dump(manifests.parse(data, WHERE)) == data


def test_attachments_come_back(manifest: Manifest) -> None:
    beside = (Attachment("SHA256SUMS", "0" * 64, 7),)
    whole = dataclasses.replace(
        manifest, unit=dataclasses.replace(manifest.unit, attachments=beside)
    )
    assert manifests.parse(manifests.dump(whole), WHERE) == whole


def test_two_that_differ_in_time_only_are_the_same(manifest: Manifest, the_matrix: Matrix) -> None:
    later = dataclasses.replace(manifest.unit, published="2027-01-01T00:00:00Z")
    assert manifests.same_but_for_time(manifest, dataclasses.replace(manifest, unit=later))
    other = manifests.of_matrix(make_unit(the_matrix, 8), the_matrix)
    assert not manifests.same_but_for_time(manifest, other)


def test_a_manifest_from_before_a_field_was_added_is_valid(manifest: Manifest) -> None:
    record = json.loads(manifests.dump(manifest))
    del record["change"]
    old = manifests.parse(json.dumps(record).encode(), WHERE)
    assert old == manifest
    assert json.loads(manifests.dump(old)) == {**record, "change": None}


def test_what_a_commit_did_comes_back(manifest: Manifest) -> None:
    change = Change("Say <b>why</b>", "a" * 40, 9, 2, ("csrc/a.cu", "csrc/b.cu"))
    unit = dataclasses.replace(manifest.unit, change=change)
    whole = dataclasses.replace(manifest, unit=unit)
    assert manifests.parse(manifests.dump(whole), WHERE) == whole
    for edited in (
        {"native": 1},  # of which two are named
        {"files": 1},
        {"parent": "main"},
        {"subject": "two\nlines"},
        {"more": 1},
    ):
        record = json.loads(manifests.dump(whole))
        record["change"].update(edited)
        with pytest.raises(BadRecord, match="change"):
            manifests.parse(json.dumps(record).encode(), WHERE)


HOSTILE_NAMES = [
    "../../etc/passwd",
    "..",
    "a/b.whl",
    "a%2fb.whl",
    "vllm-0.5.4-cp38-abi3-manylinux1_x86_64.whl\n",
    "vllm-0.5.4-cp38-abi3-manylinux1_x86_64.whl\0",
    '"><script>alert(1)</script>',
    "vⅼⅼm-0.5.4-cp38-abi3-manylinux1_x86_64.whl",  # small Roman numerals fifty
    "evil-0.5.4-cp38-abi3-manylinux1_x86_64.whl",
    "vllm-0.5.5-cp38-abi3-manylinux1_x86_64.whl",
    "vllm-0.5.4-cp39-abi3-manylinux1_x86_64.whl",
    "vllm-0.5.4.whl",
    "vllm-0.5.4-1-cp38-abi3-manylinux1_x86_64.egg",
    "",
]


@pytest.mark.parametrize("name", HOSTILE_NAMES)
def test_a_hostile_file_name_is_refused(manifest: Manifest, name: str) -> None:
    record = json.loads(manifests.dump(manifest))
    record["files"][1]["name"] = name
    with pytest.raises(BadRecord, match=r"files\[1\]: field 'name'"):
        manifests.parse(json.dumps(record).encode(), WHERE)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("commit",), "0" * 39),
        (("commit",), "../" + "0" * 37),
        (("number",), -1),
        (("number",), True),
        (("number",), 8),  # then the files' .dev7 are not of it
        (("time",), "yesterday"),
        (("published",), "2026-13-01T00:00:00Z"),
        (("published",), "2026-02-30T00:00:00Z"),
        (("time",), "0000-01-01T00:00:00Z"),
        (("version",), "9" * 5000),
        (("published",), "2026-11-05T12:00:00Z<script>"),
        (("version",), "0.5.4+cu118"),
        (("version",), "0.5.3"),
        (("release",), "yes"),
        (("files",), []),
        (("files",), {}),
        (("files", 0, "sha256"), "0" * 63),
        (("files", 0, "sha256"), ("0" * 64).replace("0", "٠")),  # digits, but not these
        (("files", 0, "size"), 1.5),
        (("files", 0, "size"), "12"),
        (("files", 0, "variant"), None),
        (("files", 0, "variant"), "cu999"),
        (("files", 0, "variant"), '"><b>'),
        (("files", 0, "tags"), ["cp38-abi3-win_amd64"]),
        (("files", 0, "requires_python"), '>=3.8" onclick="alert(1)'),
        (("files", 0, "metadata_sha256"), "x"),
        (("files", 0, "native_digest"), "md5:00"),
        (("files", 0, "reused_from"), "main"),
        (("attachments",), [{"name": "../x", "sha256": "0" * 64, "size": 1}]),
        (("variants", "cu118", "default"), True),
        (("variants", "cu118", "torch"), "<script>"),
        (("pythons",), ["3.8", 3.9]),
        (("platform",), "../x"),
        (("schema",), 2),
    ],
)
def test_an_edited_manifest_is_refused(
    manifest: Manifest, path: tuple[Any, ...], value: object
) -> None:
    record = json.loads(manifests.dump(manifest))
    inner = record
    for step in path[:-1]:
        inner = inner[step]
    inner[path[-1]] = value
    with pytest.raises(BadRecord) as caught:
        manifests.parse(json.dumps(record).encode(), WHERE)
    assert WHERE in caught.value.what


def test_unknown_missing_and_double_fields_are_refused(manifest: Manifest) -> None:
    record = json.loads(manifests.dump(manifest))
    with pytest.raises(BadRecord, match="unknown field 'more'"):
        manifests.parse(json.dumps({**record, "more": 1}).encode(), WHERE)
    record["files"][0]["more"] = 1
    with pytest.raises(BadRecord, match=r"files\[0\]: unknown field 'more'"):
        manifests.parse(json.dumps(record).encode(), WHERE)
    del record["files"][0]["more"], record["time"]
    with pytest.raises(BadRecord, match="field 'time' is missing"):
        manifests.parse(json.dumps(record).encode(), WHERE)
    with pytest.raises(BadRecord, match="key 'schema' appears twice"):
        manifests.parse(b'{"schema": 1, "schema": 1}', WHERE)


@pytest.mark.parametrize(
    "data", [b"", b"[]", b"null", b"{", b"\xff\xfe", b"[" * 100_000, b'{"schema": NaN}', b"<html>"]
)
def test_an_invalid_record_is_refused(data: bytes) -> None:
    with pytest.raises(BadRecord):
        manifests.parse(data, WHERE)


def paths_of(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value)
    found = []
    for key, item in inner:
        found.append((*path, key))
        if isinstance(item, (dict, list)):
            found += paths_of(item, (*path, key))
    return found


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(), inner, max_size=2),
    max_leaves=3,
)


@given(data=st.data(), value=ANYTHING)
def test_any_value_in_any_field_is_read_back_or_refused(
    manifest: Manifest, data: st.DataObject, value: object
) -> None:
    record = json.loads(manifests.dump(manifest))
    path = data.draw(st.sampled_from(paths_of(record)))
    inner = record
    for step in path[:-1]:
        inner = inner[step]
    inner[path[-1]] = value
    text = json.dumps(record).encode()
    try:
        found = manifests.parse(text, WHERE)
    except BadRecord:
        return
    assert json.loads(manifests.dump(found)) == record


@pytest.mark.parametrize("name", ["", "main", "0" * 41, "v", "v1/..", "v1.0+cu118", "V1", "v1\n"])
def test_an_invalid_name_of_a_unit_is_refused(name: str) -> None:
    with pytest.raises(BadRecord, match="names neither a commit nor a release"):
        prefix_of(name)
