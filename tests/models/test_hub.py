"""From a name to a folder, with the hub's cache as it lies on disk and no network."""

from __future__ import annotations

import pytest
from huggingface_hub import constants
from huggingface_hub.utils import filter_repo_objects

from vllm.config import ModelError
from vllm.models.hub import _NEVER, _PATTERNS, find_folder

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """The hub's cache, offline, with one model in it."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    model = tmp_path / "models--some--model"
    (model / "refs").mkdir(parents=True)
    (model / "refs/main").write_text(COMMIT)
    snapshot = model / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text("{}")
    return snapshot


def test_a_folder_is_itself(tmp_path):
    assert find_folder(str(tmp_path)) == tmp_path


def test_a_hub_id_is_found_in_the_cache(cache):
    assert find_folder("some/model") == cache
    assert find_folder("some/model", COMMIT) == cache


def test_offline_and_not_in_the_cache(cache):
    with pytest.raises(
        ModelError, match="'some/other' cannot be downloaded: HF_HUB_OFFLINE is set"
    ):
        find_folder("some/other")
    with pytest.raises(ModelError, match="'some/model' at revision 'v2' cannot be downloaded"):
        find_folder("some/model", "v2")


def test_only_what_the_engine_reads_is_downloaded():
    files = [
        "config.json",
        "model-00001-of-00002.safetensors",
        "chat_template.jinja",
        "consolidated.safetensors",  # Mistral's repositories: every weight once more
        "consolidated-00001.safetensors",
        "original/params.json",
        "onnx/model.safetensors",
        "pytorch_model.bin",
    ]
    wanted = filter_repo_objects(files, allow_patterns=_PATTERNS, ignore_patterns=_NEVER)
    assert list(wanted) == files[:3]


@pytest.mark.parametrize("name", ["/no/such/folder", "./gone", "~/gone", "a/b/c", "plain"])
def test_neither_a_folder_nor_a_hub_id(name):
    with pytest.raises(ModelError, match="is neither a folder nor a hub id"):
        find_folder(name)
