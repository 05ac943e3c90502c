"""Sampling as plainly as possible: one row at a time, by sorting, in Python's own integers and
float64. Only z is in float32, as the definition says, for equal z are kept or dropped together."""

from __future__ import annotations

import numpy as np

_MASK = (1 << 64) - 1


def splitmix64(state: int) -> int:
    """The published generator's first output."""
    z = (state + 0x9E3779B97F4A7C15) & _MASK
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _MASK
    return z ^ (z >> 31)


def uniform(seed: int, draw: int) -> float:
    """The number in [0, 1) of a request's draw."""
    state = splitmix64(seed & _MASK) + draw * 0x9E3779B97F4A7C15
    return (splitmix64(state & _MASK) >> 40) / 2.0**24


def possible(logits: np.ndarray) -> np.ndarray:
    """float32 logits with NaN as -inf; where there is +inf, the others as -inf."""
    x = np.where(np.isnan(logits), -np.inf, logits).astype(np.float32)
    return np.where(x == np.inf, 0, -np.inf).astype(np.float32) if (x == np.inf).any() else x


def distribution(
    logits: np.ndarray,
    temperature: float = 1.0,
    top_k: int = 0,
    top_p: float = 1.0,
    min_p: float = 0.0,
) -> np.ndarray:
    """What a row is drawn from, float64 [vocab]; zeros where nothing can be drawn."""
    x = possible(logits)
    if x.max() == -np.inf:
        return np.zeros(len(x))
    with np.errstate(invalid="ignore", over="ignore"):
        z = (x.max() - x) * (np.float32(1) / np.float32(temperature))
    z[x == -np.inf] = np.inf
    z[x == x.max()] = 0
    weights = np.exp(-z.astype(np.float64))
    kept = np.ones(len(z), bool)
    if 0 < top_k < len(z):
        kept &= z <= np.sort(z)[top_k - 1]
    if top_p < 1:
        order = np.argsort(z, kind="stable")
        order = order[kept[order]]
        mass = np.cumsum(weights[order])
        # Of tokens with equal z, the first decides for all.
        first = np.searchsorted(z[order], z[order], side="left")
        before = np.where(first > 0, mass[first - 1], 0.0)
        nucleus = before < np.float64(np.float32(top_p)) * mass[-1]
        kept = np.zeros(len(z), bool)
        kept[order[nucleus]] = True
    kept &= weights >= np.float64(np.float32(min_p))
    weights = np.where(kept, weights, 0.0)
    return weights / weights.sum()


def sample(logits: np.ndarray, temperature: float, seed: int, draw: int, **truncation) -> int:
    """The token of one row."""
    x = possible(logits)
    if temperature == 0 or x.max() == -np.inf:
        return int(np.argmax(x))
    ends = np.cumsum(distribution(logits, temperature, **truncation))
    return int(np.searchsorted(ends, uniform(seed, draw) * ends[-1], side="right"))
