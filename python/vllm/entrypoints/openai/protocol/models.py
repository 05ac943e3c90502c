"""/v1/models, /version"""

from __future__ import annotations

from typing import List

from vllm.entrypoints.openai.protocol.base import Answer


class ModelCard(Answer):
    """A name under which the model is served. root: the model's folder or hub id."""

    id: str
    object: str = "model"
    created: int
    owned_by: str = "vllm"
    root: str
    max_model_len: int


class ModelList(Answer):
    """All names of the one model."""

    object: str = "list"
    data: List[ModelCard]


class VersionAnswer(Answer):
    """The version of vllm."""

    version: str
