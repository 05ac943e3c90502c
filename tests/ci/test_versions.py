"""Versions of a commit's wheels, judged by the packaging library."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.version import Version

from ci import versions

SHA = "0123abcdef" * 4
shas = st.from_regex(r"[0-9a-f]{40}", fullmatch=True)
locals_ = st.sampled_from([None, "cu118", "cu130"])


@pytest.mark.parametrize(
    ("local", "dirty", "expected"),
    [
        (None, False, "0.5.4"),
        ("cu118", False, "0.5.4+cu118"),
        (None, True, "0.5.4+dirty"),
        ("cu118", True, "0.5.4+cu118.dirty"),
    ],
)
def test_the_documented_version(local: str, dirty: bool, expected: str) -> None:
    assert versions.public("0.5.4", local, dirty=dirty) == expected


@pytest.mark.parametrize(
    ("local", "dirty", "expected"),
    [
        (None, False, "0.5.5.dev12+g0123abcde"),
        ("cu118", False, "0.5.5.dev12+g0123abcde.cu118"),
        ("cu118", True, "0.5.5.dev12+g0123abcde.cu118.dirty"),
    ],
)
def test_the_development_version(local: str, dirty: bool, expected: str) -> None:
    assert versions.development("0.5.4", 12, SHA, local, dirty=dirty) == expected


@given(shas, shas, st.integers(0, 9999), st.integers(1, 9999), locals_)
def test_development_versions_rise_with_the_number(
    one: str, two: str, number: int, more: int, local: str
) -> None:
    lower = Version(versions.development("0.5.4", number, one, local))
    higher = Version(versions.development("0.5.4", number + more, two, local))
    assert Version("0.5.4") < lower < higher < Version("0.5.5")


@given(shas, st.integers(0, 9999), locals_, st.booleans())
def test_versions_are_normalized(sha: str, number: int, local: str, dirty: bool) -> None:
    text = versions.development("0.5.4", number, sha, local, dirty=dirty)
    assert str(Version(text)) == text
    # A digest that is all digits must not lose its leading zeros to normalization.
    assert f"g{sha[: versions.SHA_DIGITS]}" in text
