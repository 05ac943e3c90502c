"""Reads a model's safetensors files."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any, Dict, Iterator, List, Tuple

import torch
from safetensors import SafetensorError, safe_open

from vllm.config import ModelError, hint, is_present, read_json

INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"

# Tensors in old checkpoints that are not loaded: tables that are computed instead.
_IGNORED_SUFFIXES = (".rotary_emb.inv_freq",)

_DTYPES = ("F64", "F32", "F16", "BF16")


class Stored:
    """The tensors of a memory-mapped file; only the parts that are used are read."""

    def __init__(self, path: Path, file: Any) -> None:
        self.path = path
        self._file = file

    @property
    def names(self) -> List[str]:
        """The tensor names, in the order of the file."""
        names = list(self._file.keys())
        return [name for name in names if not name.endswith(_IGNORED_SUFFIXES)]

    def read(self, name: str, shape: Tuple[int, ...], index: Tuple[slice, ...]) -> torch.Tensor:
        """Reads a part of a tensor, as a view of the file if possible. Thread-safe.

        shape: the expected shape of the whole tensor.

        Raises ModelError for another shape, for a dtype of quantized weights, and for a broken
        file.
        """
        try:
            return self._read(name, shape, index)
        except (SafetensorError, OSError) as error:
            raise _broken(self.path, error) from error

    def _read(self, name: str, shape: Tuple[int, ...], index: Tuple[slice, ...]) -> torch.Tensor:
        stored = self._file.get_slice(name)
        found = tuple(stored.get_shape())
        if found != shape:
            raise ModelError(
                f"{self.path}: {name} has shape {found}, but config.json requires {shape}"
            )
        if stored.get_dtype() not in _DTYPES:
            raise ModelError(
                f"{self.path}: {name} is {stored.get_dtype()}; quantized weights are not supported"
            )
        part: torch.Tensor = stored[index]
        return part


@contextlib.contextmanager
def open_shard(path: Path) -> Iterator[Stored]:
    """Opens a safetensors file. Raises ModelError for a broken one."""
    try:
        with safe_open(str(path), framework="pt", device="cpu") as file:
            yield Stored(path, file)
    except (SafetensorError, OSError) as error:
        raise _broken(path, error) from error


def _broken(path: Path, error: Exception) -> ModelError:
    why = hint(path)
    guess = "" if why else ", it may be truncated"
    return ModelError(f"{path} cannot be read{guess}: {error}{why}")


def find_tensors(folder: Path) -> Dict[str, Path]:
    """The file of each tensor in a model folder. Raises ModelError if one is in two files."""
    places: Dict[str, Path] = {}
    for path in find_shards(folder):
        with open_shard(path) as stored:
            for name in stored.names:
                if name in places:
                    raise ModelError(f"{folder}: {name} is in {places[name].name} and {path.name}")
                places[name] = path
    return places


def find_shards(folder: Path) -> List[Path]:
    """The safetensors files of a model folder. Raises ModelError if one is missing."""
    index = folder / INDEX
    if is_present(index):
        weight_map = read_json(index).get("weight_map")
        if not isinstance(weight_map, dict) or not weight_map:
            raise ModelError(f"{index}: weight_map is missing or empty")
        strange = [name for name in weight_map.values() if not _is_file_name(name)]
        if strange:
            raise ModelError(f"{index}: weight_map must name files beside it, got {strange[0]!r}")
        shards = [folder / name for name in sorted(set(weight_map.values()))]
    elif is_present(folder / SINGLE):
        shards = [folder / SINGLE]
    else:
        shards = sorted(folder.glob("*.safetensors"))
    if not shards:
        raise ModelError(
            f"{folder} has no safetensors file; weights in other formats must be converted first, "
            f"for example by save_pretrained of transformers"
        )
    absent = [shard.name for shard in shards if not shard.exists()]
    if absent and not is_present(index):
        raise ModelError(f"{folder / absent[0]} cannot be read{hint(folder / absent[0])}")
    if absent:
        raise ModelError(f"{folder}: {INDEX} lists files that do not exist: {some(absent)}")
    return shards


def _is_file_name(name: object) -> bool:
    return isinstance(name, str) and name == Path(name).name != ""


def some(names: List[str], limit: int = 5) -> str:
    """The first of many names, for an error message."""
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more
