"""Errors that belong to no single part of the library."""

from __future__ import annotations


class NativeCodeError(ImportError):
    """The compiled part of vllm, ``vllm._C``, is not there or cannot be loaded."""


class RankError(RuntimeError):
    """A process that holds a part of the model has died, stalls or has raised: it says which.

    All others have ended by then, and the engine with them.
    """
