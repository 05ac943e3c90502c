"""From the host to the device, in one copy a step."""

from __future__ import annotations

from typing import List
from typing import Sequence as SequenceOf

import torch

_ALIGNMENT = 16  # bytes: enough for every dtype, and for kernels that load 16 at a time


def to_device(tensors: SequenceOf[torch.Tensor], device: torch.device) -> List[torch.Tensor]:
    """The same tensors of the host on a device; on the CPU, themselves.

    A copy costs more in its launch than in its bytes, and waits for the device unless the memory
    that it comes from is pinned. So all of them go as one, from pinned memory. That memory may be
    forgotten here: torch reuses it only once the copy is over.
    """
    if device.type == "cpu":
        return list(tensors)
    packed = pack(tensors, pinned=device.type == "cuda")
    return unpack(packed.to(device, non_blocking=True), tensors)


def pack(tensors: SequenceOf[torch.Tensor], *, pinned: bool) -> torch.Tensor:
    """uint8: the contents of the tensors one after the other, each begun at `_ALIGNMENT`."""
    size = sum(_room(tensor) for tensor in tensors)
    packed = torch.empty(size, dtype=torch.uint8, pin_memory=pinned)
    for part, tensor in zip(unpack(packed, tensors), tensors):
        part.copy_(tensor)
    return packed


def unpack(packed: torch.Tensor, like: SequenceOf[torch.Tensor]) -> List[torch.Tensor]:
    """Views of what `pack` made of tensors of these shapes and dtypes."""
    views, offset = [], 0
    for tensor in like:
        part = packed[offset : offset + tensor.numel() * tensor.element_size()]
        views.append(part.view(tensor.dtype).view(tensor.shape))
        offset += _room(tensor)
    return views


def _room(tensor: torch.Tensor) -> int:
    return -(-tensor.numel() * tensor.element_size() // _ALIGNMENT) * _ALIGNMENT
