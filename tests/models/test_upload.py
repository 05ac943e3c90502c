"""Weights in pieces, as threads take them to a GPU."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from safetensors.torch import save_file

from vllm.layers.weights import Target
from vllm.models.checkpoint import open_shard
from vllm.models.upload import divide
from vllm.parallel.shard import Shard

ROWS, COLUMNS = 37, 12


@pytest.fixture
def stored(tmp_path):
    generator = torch.Generator().manual_seed(0)
    tensors = {
        "matrix": torch.randn(ROWS, COLUMNS, generator=generator),
        "vector": torch.randn(ROWS, generator=generator),
    }
    save_file(tensors, tmp_path / "weights.safetensors")
    with open_shard(tmp_path / "weights.safetensors") as stored:
        yield stored, tensors


@pytest.mark.parametrize("piece_bytes", [1, 4, 100, 500, 10**6])
@pytest.mark.parametrize("rows", [(0, ROWS), (5, 20), (36, 1)])
def test_pieces_make_the_whole_and_nothing_twice(stored, rows, piece_bytes):
    file, tensors = stored
    part = Shard(rows[0], sum(rows), ROWS)
    matrix, vector = torch.zeros(rows[1], 4), torch.zeros(rows[1])
    targets = {
        "matrix": Target(matrix, (part, Shard(2, 6, COLUMNS))),
        "vector": Target(vector, (part,)),
    }
    pieces = [p for name, each in targets.items() for p in divide(file, name, each, piece_bytes)]
    with ThreadPoolExecutor(4) as pool:  # a file may be read by several threads at once
        list(pool.map(lambda p: p.target.add_(p.stored.read(p.name, p.shape, p.part)), pieces))
    assert torch.equal(matrix, tensors["matrix"][rows[0] : sum(rows), 2:6])
    assert torch.equal(vector, tensors["vector"][rows[0] : sum(rows)])
    assert all(p.target.nbytes <= max(piece_bytes, 16) for p in pieces)
