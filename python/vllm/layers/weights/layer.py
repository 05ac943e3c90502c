"""A linear layer as its weight format knows it."""

from __future__ import annotations

from typing import Dict, Iterator, Mapping, Optional, Tuple, Union

import torch
from torch import nn

from vllm.parallel.shard import Shard


class WeightedLayer(nn.Module):
    """The sizes of a linear layer, and the attributes in which a format stores its weight.

    inputs: this rank's part of the input.
    parts: this rank's part of each merged output, by its name in checkpoints; "" if it is the only
        one.
    num_outputs: the rows of this rank's weight, those of all parts.
    """

    weight: nn.Parameter  # None if the format has replaced it
    packed: Optional[torch.Tensor]  # set by `OneDNN` only

    def __init__(self, inputs: Shard, outputs: Union[Shard, Mapping[str, Shard]]) -> None:
        super().__init__()
        self.inputs = inputs
        self.parts: Dict[str, Shard] = (
            {"": outputs} if isinstance(outputs, Shard) else dict(outputs)
        )
        self.num_outputs = sum(part.size for part in self.parts.values())

    def split(self, merged: torch.Tensor) -> Iterator[Tuple[str, torch.Tensor]]:
        """Splits a tensor's rows among the merged outputs: (name, view)."""
        sizes = [part.size for part in self.parts.values()]
        return zip(self.parts, torch.split(merged, sizes))
