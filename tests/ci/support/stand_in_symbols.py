"""Debug symbols for wheels that tests pack by themselves."""

from __future__ import annotations

from pathlib import Path

from ci.wheel import symbols


def place_symbols(wheel: Path, library: bytes) -> None:
    """Puts a wheel's library itself where its debug symbols lie: it has their build-id."""
    build_id = symbols.build_id(library)
    if build_id is not None:
        symbols.place(library, build_id, wheel.parent)
