"""Errors that several parts of the library raise."""

from __future__ import annotations


class NativeCodeError(ImportError):
    """The compiled part of vllm, ``vllm._C``, is missing or cannot be loaded."""


class RankError(RuntimeError):
    """A rank has died, stalls or has raised an error; the message says which rank.

    All other ranks have ended by then, and so has the engine.
    """


class ContextLengthError(ValueError):
    """A prompt has more tokens than the model's context."""


class ReplicaError(RuntimeError):
    """The replica that computed a request has ended; others go on, and take the request if it is
    made again."""


class EngineError(RuntimeError):
    """An error raised in an engine's process. kind: the name of its class there."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(text)
        self.kind = kind


def kind_of(error: BaseException) -> str:
    """The name of an error's class, wherever it was raised."""
    return error.kind if isinstance(error, EngineError) else type(error).__name__
