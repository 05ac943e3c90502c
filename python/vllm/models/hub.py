"""Finds the folder of a model: a local one, or a download from the Hugging Face hub."""

from __future__ import annotations

from pathlib import Path
from typing import List, Optional

from vllm.config import ModelError

# The files that the engine reads; the same weights in other formats are not downloaded.
_PATTERNS = ["*.json", "*.safetensors", "*.jinja"]
# Subfolders have other formats; Mistral's repositories have all weights again in one file.
_NEVER = ["*/*", "consolidated*.safetensors"]


def find_folder(model: str, revision: Optional[str] = None, *, weights: bool = True) -> Path:
    """The folder of a model: a local folder, or a hub id, which is downloaded into the hub's cache.

    weights: False does not download the weights.

    `HF_HOME`, `HF_HUB_OFFLINE`, `HF_TOKEN` and the hub's other settings apply. Raises ModelError.
    """
    folder = Path(model).expanduser()
    if folder.is_dir():
        return folder
    if folder.is_absolute() or model.startswith((".", "~")) or model.count("/") != 1:
        raise ModelError(
            f"{model!r} is neither a folder nor a hub id: it does not exist here, and a hub id has "
            f"the form organisation/name"
        )
    patterns = [each for each in _PATTERNS if weights or not each.endswith(".safetensors")]
    return _download(model, revision, patterns)


def _download(hub_id: str, revision: Optional[str], patterns: List[str]) -> Path:
    from huggingface_hub import constants, snapshot_download

    try:
        return Path(
            snapshot_download(
                hub_id, revision=revision, allow_patterns=patterns, ignore_patterns=_NEVER
            )
        )
    except (OSError, ValueError) as error:  # all of the hub's errors derive from these
        at = f" at revision {revision!r}" if revision else ""
        advice = (
            "HF_HUB_OFFLINE is set and the model is not in the cache: unset it, or download the "
            "model first"
            if constants.HF_HUB_OFFLINE
            else "check the id, the network and, for a gated model, HF_TOKEN"
        )
        raise ModelError(
            f"model {hub_id!r}{at} cannot be downloaded: {advice} ({error})"
        ) from error
