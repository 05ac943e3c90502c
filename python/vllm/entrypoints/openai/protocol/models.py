"""/v1/models, /version"""

from __future__ import annotations

from typing import List

from vllm.entrypoints.openai.protocol.base import Answer


class ModelCard(Answer):
    """A name under which the model is served. root: the folder or hub id that it was read from."""

    id: str
    object: str = "model"
    created: int
    owned_by: str = "vllm"
    root: str
    max_model_len: int


class ModelList(Answer):
    """All names; they are of one model."""

    object: str = "list"
    data: List[ModelCard]


class VersionAnswer(Answer):
    """The version of vllm."""

    version: str
