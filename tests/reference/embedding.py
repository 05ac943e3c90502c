"""The rows of a table that token ids name."""

from __future__ import annotations

import numpy as np


def embedding(ids: np.ndarray, table: np.ndarray) -> np.ndarray:
    """ids: [tokens], each in [0, rows); table: [rows, width]; result: [tokens, width]."""
    return np.stack([table[i] for i in ids]) if len(ids) else table[:0]
