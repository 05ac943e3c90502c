"""What is changed in logits before sampling, in float64."""

from __future__ import annotations

from typing import Dict, List

import numpy as np


def penalize(logits, uses: List[Dict[int, int]], repetition, presence, frequency) -> np.ndarray:
    """uses: of each row, how often the output has each token of its sequence."""
    changed = logits.astype(np.float64)
    for row, counts in enumerate(uses):
        for token, count in counts.items():
            x = changed[row, token]
            x = x / repetition[row] if x > 0 else x * repetition[row]
            changed[row, token] = x - (presence[row] + frequency[row] * count if count else 0)
    return changed


def bias_logits(logits, rows, tokens, amounts, after, inputs) -> np.ndarray:
    changed = logits.astype(np.float64)
    for row, token, amount, behind in zip(rows, tokens, amounts, after):
        if row >= 0 and behind in (-1, inputs[row]):
            changed[row, token] += amount
    return changed


def mask_logits(logits, rows, allowed) -> np.ndarray:
    """allowed: bool [masks, vocab]."""
    changed = logits.astype(np.float64)
    for row, may_be_drawn in zip(rows, allowed):
        if row >= 0:
            changed[row][~may_be_drawn] = -np.inf
    return changed
