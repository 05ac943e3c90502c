"""Which products are ours is what the record of their times says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Optional, Tuple

import pytest

torch = pytest.importorskip("torch")

from vllm.layers.weights.choice import most_rows  # noqa: E402

RECORD = Path(__file__).parents[2] / "benchmarks" / "cuda_few_rows.h200.json"
# How much longer than the other one the chosen may have taken: two runs differ by as much.
NOISE = 1.02


def times(row) -> Tuple[Optional[float], float]:
    """Of ours, None where it takes no so many rows, and of cuBLAS: as a layer has them."""
    us = row["us"]
    if row["product"] == "head":
        return us.get("ours"), us["cublas"]
    return us.get("ours in a layer"), us["cublas in a layer"]


def test_the_faster_one_is_chosen():
    slower = {}
    for row in json.loads(RECORD.read_text())["records"]:
        ours, cublas = times(row)
        if ours is None:
            continue
        is_ours = row["rows"] <= most_rows(row["outputs"], row["inputs"])
        chosen, other = (ours, cublas) if is_ours else (cublas, ours)
        if chosen > NOISE * other:
            slower[row["model"], row["product"], row["rows"]] = (is_ours, ours, cublas)
    assert not slower


def test_the_record_has_every_class_at_every_boundary():
    """Without times on both sides of where the choice changes, nothing would be compared."""
    rows = json.loads(RECORD.read_text())["records"]
    for shape in {(row["outputs"], row["inputs"]) for row in rows}:
        measured = {row["rows"] for row in rows if (row["outputs"], row["inputs"]) == shape}
        assert {1, 4, 8, 16} <= measured, shape
