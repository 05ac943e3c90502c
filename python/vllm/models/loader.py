"""Loads the weights of a checkpoint into a model: each rank reads its part."""

from __future__ import annotations

import contextlib
import threading
from pathlib import Path
from typing import Callable, Dict, Iterator, List, Optional

import torch
from tqdm import tqdm

from vllm.config import ModelConfig, ModelError
from vllm.layers.embedding import Embedding
from vllm.layers.linear import Linear
from vllm.layers.weights import Target, WeightFormat, choose_format
from vllm.models.checkpoint import find_tensors, open_shard, some
from vllm.models.decoder import DecoderLM
from vllm.models.registry import find_architecture
from vllm.models.upload import upload
from vllm.parallel.group import Group, SingleGroup

_HEAD, _EMBEDDING = "lm_head.weight", "model.embed_tokens.weight"

_default_dtype = threading.RLock()

# In a terminal, show the progress of a load that takes longer than this, in seconds.
_SHOWN_AFTER = 1.0

# Compare two weights this many elements at a time.
_COMPARED = 1 << 24


def load_model(
    folder: Path,
    config: ModelConfig,
    *,
    dtype: torch.dtype,
    device: torch.device,
    max_model_len: int,
    group: Optional[Group] = None,
    weights: Optional[WeightFormat] = None,
    note: Callable[[str], None] = lambda phase: None,
) -> DecoderLM:
    """Loads a model from a folder, ready to run, with its weights converted to dtype.

    group: the ranks that the model is divided among; by default this process alone.
    weights: the storage format of linear layers; by default the fastest on the device.
    note: called with the name of each phase that has ended, to measure how long each takes.

    Files are memory-mapped and tensors are read part by part, so that little memory is needed
    beside the model; 128 MiB on the host of a GPU. Raises ModelError naming the faulty
    architecture, file or tensor.
    """
    architecture = find_architecture(config.architecture)
    with default_dtype(dtype), device:
        model = architecture(
            config, max_model_len, weights or choose_format(device), group or SingleGroup()
        )
    note("empty model")
    with torch.device("cpu"):  # of tensors in files, whatever the caller's default device is
        load_weights(model, folder)
    model.finish()
    note("weights")
    return model.eval()


def load_weights(model: DecoderLM, folder: Path) -> None:
    """Fills every parameter of a model. Raises ModelError if a tensor is missing or left over."""
    places = find_tensors(folder)
    targets = checkpoint_targets(model)
    if model.tied and _HEAD in places:
        if _EMBEDDING not in places:  # the shared weight, stored under the head's name
            targets[_HEAD] = targets.pop(_EMBEDDING)
        elif _is_copy(targets[_EMBEDDING], places):
            del places[_HEAD]
        else:  # the files contradict config.json: use both weights, as transformers does
            model.untie()
            targets = checkpoint_targets(model)
    missing = sorted(targets.keys() - places.keys())
    if missing:
        raise ModelError(
            f"{folder}: {len(missing)} of {len(targets)} tensors are missing: {some(missing)}"
        )
    strange = sorted(places.keys() - targets.keys())
    if strange:
        raise ModelError(
            f"{places[strange[0]]}: {some(strange)} does not belong to this model: neither its "
            f"architecture nor its config.json has such a tensor"
        )
    device = next(model.parameters()).device
    if device.type == "cuda":
        with contextlib.ExitStack() as stack:
            shards = {path: stack.enter_context(open_shard(path)) for path in set(places.values())}
            upload([(shards[path], name, targets[name]) for name, path in places.items()], device)
        return
    by_file: Dict[Path, List[str]] = {}
    for name, path in places.items():
        by_file.setdefault(path, []).append(name)
    with tqdm(
        total=len(places),
        desc="weights",
        unit="tensor",
        leave=False,
        delay=_SHOWN_AFTER,
        disable=None,  # unless the standard error is a terminal
    ) as progress:
        for path, names in by_file.items():  # one after another: mapped files count as memory
            with open_shard(path) as stored:
                for name in names:
                    target = targets[name]
                    target.tensor.data.copy_(stored.read(name, target.shape, target.index))
                    progress.update()


def checkpoint_targets(model: DecoderLM) -> Dict[str, Target]:
    """The targets of a checkpoint's tensors, by name.

    For a tied head, only the embedding's name is included.
    """
    targets: Dict[str, Target] = {}
    for path, module in model.named_modules():
        if isinstance(module, (Linear, Embedding)):
            parent = path.rpartition(".")[0]
            for part, name, target in module.targets():
                targets[f"{parent}.{part}.{name}" if part else f"{path}.{name}"] = target
        else:
            for name, parameter in module.named_parameters(recurse=False):
                targets[f"{path}.{name}"] = Target.whole(parameter)
    if model.tied:
        del targets[_HEAD]
    return targets


def _is_copy(embedding: Target, places: Dict[str, Path]) -> bool:
    """Whether a stored head equals the stored embedding, in this rank's part."""
    with open_shard(places[_EMBEDDING]) as one, open_shard(places[_HEAD]) as other:
        rows, columns = embedding.index
        step = max(1, _COMPARED // embedding.shape[1])
        for start in range(rows.start, rows.stop, step):
            index = (slice(start, min(start + step, rows.stop)), columns)
            parts = [
                stored.read(name, embedding.shape, index)
                for stored, name in ((one, _EMBEDDING), (other, _HEAD))
            ]
            if not torch.equal(*parts):
                return False
    return True


@contextlib.contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    """Sets torch's default dtype. It is global to the process: a lock admits one thread at a
    time."""
    with _default_dtype:
        before = torch.get_default_dtype()
        torch.set_default_dtype(dtype)
        try:
            yield
        finally:
            torch.set_default_dtype(before)
