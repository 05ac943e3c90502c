"""From what a user calls a model to a folder on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import List, Optional

from vllm.config import ModelError

# What the engine reads; a repository's other formats of the same weights stay where they are.
_PATTERNS = ["*.json", "*.safetensors", "*.jinja"]
# Folders hold other formats; Mistral's repositories have all weights a second time in one file.
_NEVER = ["*/*", "consolidated*.safetensors"]


def find_folder(model: str, revision: Optional[str] = None, *, weights: bool = True) -> Path:
    """The folder of a model: itself a folder, or the hub's, downloaded once into its cache.

    weights: False leaves them out of what is downloaded.
    `HF_HOME`, `HF_HUB_OFFLINE`, `HF_TOKEN` and the hub's other settings hold. Raises ModelError.
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
    except (OSError, ValueError) as error:  # every error of the hub's is one of these
        at = f" at revision {revision!r}" if revision else ""
        advice = (
            "HF_HUB_OFFLINE is set and it is not in the cache: unset it, or download it before"
            if constants.HF_HUB_OFFLINE
            else "check the id, the network and, for a gated model, HF_TOKEN"
        )
        raise ModelError(f"model {hub_id!r}{at} cannot be had: {advice} ({error})") from error
