"""``vllm.__version__`` and ``vllm.__commit__`` are those of the installed build."""

from __future__ import annotations

import json
import sys
from importlib import metadata

import pytest

import vllm
from vllm import version

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """A function that makes `tmp_path` the only place where vllm may be installed."""
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    version.build.cache_clear()

    def install(number, info):
        folder = tmp_path / f"vllm-{number}.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: vllm\nVersion: {number}\n")
        if info is not None:
            (folder / "build.json").write_text(json.dumps(info))

    yield install
    version.build.cache_clear()


def test_the_build_is_read_from_dist_info(installed):
    info = {
        "commit": COMMIT,
        "cuda": "11.8",
        "dirty": True,
        "native_digest": "sha256:00",
        "variant": "cu118",
    }
    installed("0.5.4+cu118", info)
    assert version.build() == version.Build(
        "0.5.4+cu118", COMMIT, "11.8", True, "sha256:00", "cu118"
    )


def test_a_build_of_another_builder_has_a_version_only(installed):
    installed("0.5.4", None)
    assert version.build() == version.Build("0.5.4", None, None, False, None, None)


def test_a_source_tree_has_a_version_that_no_release_has(installed):
    assert version.build() is version.NOT_INSTALLED


def test_the_names_are_those_of_this_installation():
    try:
        expected = metadata.version("vllm")
    except metadata.PackageNotFoundError:
        expected = version.NOT_INSTALLED.version
    assert vllm.__version__ == expected
    assert vllm.__commit__ == version.build().commit
