"""Weights, from safetensors files into a model."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any, Dict, Iterator, Set

import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from vllm.config import ModelConfig, ModelError, read_json
from vllm.layers.linear import MergedLinear
from vllm.models.decoder import DecoderLM
from vllm.models.registry import find_architecture

INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"

_DTYPES = (torch.float32, torch.float16, torch.bfloat16, torch.float64)

# Tensors that old checkpoints carry and no model reads: tables that are computed here.
_IGNORED_SUFFIXES = (".rotary_emb.inv_freq",)


def load_model(
    folder: Path,
    config: ModelConfig,
    *,
    dtype: torch.dtype,
    device: torch.device,
    max_model_len: int,
) -> DecoderLM:
    """The model of a folder, with its weights converted to dtype.

    Files are memory-mapped and read tensor by tensor: beside the model itself, no more than one
    tensor is in memory. Raises ModelError naming the architecture, file or tensor at fault.
    """
    architecture = find_architecture(config.architecture)
    with default_dtype(dtype), device:
        model = architecture(config, max_model_len)
    load_weights(model, folder)
    return model.eval()


def load_weights(model: nn.Module, folder: Path) -> None:
    """Fills every parameter of a model, and makes sure that nothing in the files is left over."""
    targets = checkpoint_tensors(model)
    loaded: Set[str] = set()
    for shard in find_shards(folder):
        loaded |= _load_shard(shard, targets, tied=getattr(model, "lm_head", None) is None)
    missing = sorted(targets.keys() - loaded)
    if missing:
        raise ModelError(
            f"{folder}: {len(missing)} of {len(targets)} tensors are in no safetensors file: "
            f"{_some(missing)}"
        )


def checkpoint_tensors(model: nn.Module) -> Dict[str, torch.Tensor]:
    """Where each tensor of a checkpoint goes: its name, to a parameter or rows of a merged one."""
    targets: Dict[str, torch.Tensor] = {}
    for path, module in model.named_modules():
        for name, parameter in module.named_parameters(recurse=False):
            if isinstance(module, MergedLinear):
                parent = path.rpartition(".")[0]
                for part, rows in module.split(parameter):
                    targets[f"{parent}.{part}.{name}"] = rows
            else:
                targets[f"{path}.{name}"] = parameter
    return targets


def find_shards(folder: Path) -> list[Path]:
    """The safetensors files of a model folder, all of which exist. Raises ModelError."""
    index = folder / INDEX
    if index.exists():
        weight_map = read_json(index).get("weight_map")
        if not isinstance(weight_map, dict) or not weight_map:
            raise ModelError(f"{index}: weight_map is missing or empty")
        strange = [name for name in weight_map.values() if not _is_file_name(name)]
        if strange:
            raise ModelError(f"{index}: weight_map must name files beside it, got {strange[0]!r}")
        shards = [folder / name for name in sorted(set(weight_map.values()))]
    elif (folder / SINGLE).exists():
        shards = [folder / SINGLE]
    else:
        shards = sorted(folder.glob("*.safetensors"))
    if not shards:
        raise ModelError(
            f"{folder} has no safetensors file; weights in other formats must be converted first, "
            f"for example by save_pretrained of transformers"
        )
    absent = [shard.name for shard in shards if not shard.exists()]
    if absent:
        raise ModelError(f"{folder}: {INDEX} names files that are not there: {_some(absent)}")
    return shards


def _load_shard(shard: Path, targets: Dict[str, torch.Tensor], *, tied: bool) -> Set[str]:
    loaded = set()
    try:
        with safe_open(str(shard), framework="pt", device="cpu") as file:
            for name in list(file.keys()):
                if name.endswith(_IGNORED_SUFFIXES) or (tied and name == "lm_head.weight"):
                    continue
                if name not in targets:
                    raise ModelError(f"{shard}: {name} has no place in this architecture")
                _copy(targets[name], file, name, shard)
                loaded.add(name)
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{shard} cannot be read, it may be truncated: {error}") from error
    return loaded


def _copy(target: torch.Tensor, file: Any, name: str, shard: Path) -> None:
    found = tuple(file.get_slice(name).get_shape())
    if found != tuple(target.shape):
        raise ModelError(
            f"{shard}: {name} has shape {found}, config.json makes it {tuple(target.shape)}"
        )
    tensor = file.get_tensor(name)
    if tensor.dtype not in _DTYPES:
        raise ModelError(f"{shard}: {name} is {tensor.dtype}; quantized weights are not supported")
    target.data.copy_(tensor)


@contextlib.contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    """Makes parameters that do not say otherwise of this dtype."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def _is_file_name(name: object) -> bool:
    return isinstance(name, str) and name == Path(name).name != ""


def _some(names: list[str], limit: int = 5) -> str:
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more
