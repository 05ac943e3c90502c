"""The scripts as published beside a commit's wheels, with their address filled in."""

from __future__ import annotations

import functools
import re
from pathlib import Path

from ci import names

NAMES = ("bisect.py", "install.py")


def published(commit: str) -> dict[str, bytes]:
    """File name → content, for the folder of `commit`."""
    return {name: _source(name).replace(b'COMMIT = ""', _line("COMMIT", commit)) for name in NAMES}


def at(base: str, script: bytes) -> bytes:
    """A published file with `base` instead of `names.BASE`."""
    return script.replace(names.BASE.encode(), base.encode())


def names_its_address(name: str) -> bool:
    """Whether a published file of that name contains its address: scripts and lock files do."""
    return name in NAMES or re.fullmatch(r"pylock\.(?:[^.]+\.)?toml", name) is not None


@functools.cache
def _source(name: str) -> bytes:
    return Path(__file__).with_name(name).read_bytes()


def _line(name: str, value: str) -> bytes:
    return f'{name} = "{value}"'.encode()
