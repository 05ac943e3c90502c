"""How many bytes of a checkpoint each rank reads.

    python -m benchmarks.bytes_read [--shape 0.6B] [--ranks 1 2 4 8] [--record FOLDER]

Writes a checkpoint of random weights, loads the model of every rank, one after another in this
process, and counts the bytes of the slices that are read from its files. Writes bytes_read.json in
this folder.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any, Dict, List, Optional

import torch

from benchmarks import random_model
from benchmarks.conditions import commit, machine
from vllm.config import ModelConfig
from vllm.layers.weights import Dense
from vllm.models.checkpoint import Stored
from vllm.models.loader import load_model
from vllm.parallel.group import Group


class LoadingGroup(Group):
    """A rank that only loads: nothing is exchanged."""

    def all_reduce(self, tensor: torch.Tensor) -> torch.Tensor:
        raise NotImplementedError

    def broadcast(self, tensor: torch.Tensor) -> None:
        raise NotImplementedError

    def gather(self, tensor: torch.Tensor) -> Optional[torch.Tensor]:
        raise NotImplementedError


def bytes_by_rank(folder: Path, num_ranks: int) -> List[int]:
    """What each of the ranks reads."""
    config, read, counts = ModelConfig.read(folder), Stored.read, []

    def counting(self: Stored, *args: Any) -> torch.Tensor:
        part = read(self, *args)
        counts[-1] += part.nbytes
        return part

    Stored.read = counting  # type: ignore[method-assign]
    try:
        for rank in range(num_ranks):
            counts.append(0)
            load_model(
                folder,
                config,
                dtype=getattr(torch, config.dtype),
                device=torch.device("cpu"),
                max_model_len=64,
                group=LoadingGroup(rank, num_ranks),
                weights=Dense(),
            )
    finally:
        Stored.read = read  # type: ignore[method-assign]
    return counts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--shape", choices=sorted(random_model.SHAPES), default="0.6B")
    parser.add_argument("--ranks", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--record", type=Path, default=Path(__file__).parent)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made, args.shape)
        random_model.write_model(args.shape, folder)
        files = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
        found: Dict[str, List[int]] = {}
        for num_ranks in args.ranks:
            found[str(num_ranks)] = bytes_by_rank(folder, num_ranks)
            print(num_ranks, "ranks:", found[str(num_ranks)], flush=True)
    record = {"commit": commit(), "machine": machine(), "shape": args.shape}
    record.update(file_bytes=files, bytes_by_rank=found)
    (args.record / "bytes_read.json").write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
