"""build.json."""

from __future__ import annotations

import json
from dataclasses import asdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ci.wheel import build_info
from ci.wheel.build_info import BuildInfo

records = st.builds(
    BuildInfo,
    commit=st.none() | st.from_regex(r"[0-9a-f]{40}", fullmatch=True),
    cuda=st.none() | st.sampled_from(["11.8", "12.1"]),
    dirty=st.booleans(),
    native_digest=st.none() | st.from_regex(r"sha256:[0-9a-f]{64}", fullmatch=True),
    variant=st.sampled_from(["cu118", "cu121", "cpu", "empty"]),
)
GOOD = BuildInfo("a" * 40, "12.1", False, "sha256:" + "b" * 64, "cu121")


@given(records)
def test_a_record_survives(info: BuildInfo) -> None:
    assert build_info.parse(info.render()) == info


def test_the_form_is_the_documented_one() -> None:
    assert GOOD.render().decode().splitlines() == [
        "{",
        f' "commit": "{"a" * 40}",',
        ' "cuda": "12.1",',
        ' "dirty": false,',
        f' "native_digest": "sha256:{"b" * 64}",',
        ' "variant": "cu121"',
        "}",
    ]


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("commit", "main", "commit is 'main'"),
        ("commit", 3, "commit is 3"),
        ("cuda", "twelve", "cuda is 'twelve'"),
        ("dirty", "no", "dirty is 'no'"),
        ("native_digest", "sha256:0", "native_digest is 'sha256:0'"),
        ("variant", None, "variant is None"),
        ("variant", "../x", r"variant is '\.\./x'"),
    ],
)
def test_a_wrong_value_is_named(key: str, value: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build_info.parse(json.dumps({**asdict(GOOD), key: value}).encode())


def test_an_unknown_value_does_not_hide_a_wrong_one() -> None:
    given = {**asdict(GOOD), "commit": None, "cuda": None, "native_digest": "x"}
    with pytest.raises(ValueError, match="native_digest is 'x'"):
        build_info.parse(json.dumps(given).encode())


@pytest.mark.parametrize(
    "text", [json.dumps(sorted(asdict(GOOD))), "[]", "{}", '{"commit": null}', "not json"]
)
def test_another_document_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"keys commit, cuda, dirty|Expecting value"):
        build_info.parse(text.encode())
