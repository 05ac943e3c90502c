"""SHA256SUMS, as ``sha256sum --check`` reads it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from ci.scratch import write_atomically


def write(listing: Path, paths: Sequence[Path]) -> None:
    """Writes the hashes of `paths`, which lie beside the listing, sorted by name."""
    lines = [
        f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n"
        for path in sorted(paths, key=lambda path: path.name)
    ]
    write_atomically(listing, "".join(lines).encode())
