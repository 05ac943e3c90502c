"""Errors that belong to no single part of the library."""

from __future__ import annotations


class NativeCodeError(ImportError):
    """The compiled part of vllm, ``vllm._C``, is not there or cannot be loaded."""


class RankError(RuntimeError):
    """A process that holds a part of the model has died, stalls or has raised: it says which.

    All others have ended by then, and the engine with them.
    """


class EngineError(RuntimeError):
    """An error in the process of an engine. kind: the name of its class there."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(text)
        self.kind = kind


def kind_of(error: BaseException) -> str:
    """The name of an error's class, wherever it was raised."""
    return error.kind if isinstance(error, EngineError) else type(error).__name__
