"""The scripts as they lie beside the wheels of a commit: each names where it lies."""

from __future__ import annotations

import functools
from pathlib import Path

from ci import names

NAMES = ("bisect.py", "install.py")


def published(commit: str) -> dict[str, bytes]:
    """File name → content, for the folder of `commit`."""
    return {name: _source(name).replace(b'COMMIT = ""', _line("COMMIT", commit)) for name in NAMES}


def at(base: str, script: bytes) -> bytes:
    """A published script that is served from `base` instead of from `names.BASE`."""
    return script.replace(_line("BASE", names.BASE), _line("BASE", base), 1)


@functools.cache
def _source(name: str) -> bytes:
    return Path(__file__).with_name(name).read_bytes()


def _line(name: str, value: str) -> bytes:
    return f'{name} = "{value}"'.encode()
