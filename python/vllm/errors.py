"""Errors that belong to no single part of the library."""

from __future__ import annotations


class NativeCodeError(ImportError):
    """The compiled part of vllm, ``vllm._C``, is not there or cannot be loaded."""
