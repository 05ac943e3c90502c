"""Keeps long-lived objects out of garbage collections."""

from __future__ import annotations

import gc


def freeze_heap() -> None:
    """Excludes all objects that exist now from later collections.

    A burst of requests allocates enough to start full collections. Each of them would visit all
    that imports and loading have left behind, while no request or step makes progress.
    """
    gc.collect()
    gc.freeze()
