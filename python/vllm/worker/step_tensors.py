"""The arrays of a step as tensors."""

from __future__ import annotations

from typing import Dict, Mapping, Optional

import torch

from vllm import ops
from vllm.engine.step_input import StepInput, StepLayout
from vllm.layers.attention import AttentionMetadata
from vllm.layers.sampler import FreshCounters, LogitChanges, Penalties, SamplingTensors

_DTYPES = {"q": torch.int64, "i": torch.int32, "f": torch.float32}


class StepTensors:
    """Views of a step's buffer, on the host or on the device.

    memory: uint8, at least `layout.nbytes`.
    room: int32, the executor's own data after the arrays; see `Executor.room`.

    The arrays have the capacity of the size class; methods take the length that a step uses.
    """

    def __init__(self, layout: StepLayout, memory: torch.Tensor) -> None:
        self.size = layout.size
        self._arrays: Dict[str, torch.Tensor] = {}
        for name, (typecode, offset, length) in layout.fields.items():
            dtype = _DTYPES[typecode]
            nbytes = length * torch.empty(0, dtype=dtype, device="cpu").element_size()
            self._arrays[name] = memory[offset : offset + nbytes].view(dtype)
        self.room = memory[layout.room_offset : layout.nbytes].view(torch.int32)

    def sources(self, num_tokens: int) -> torch.Tensor:
        """int64 [tokens], where to load each token id from; see `StepInput.sources`."""
        return self._arrays["sources"][:num_tokens]

    @property
    def due(self) -> torch.Tensor:
        """int64 [1], the number of the step's masks."""
        return self._arrays["due"]

    def positions(self, num_tokens: int) -> torch.Tensor:
        """int64 [tokens]"""
        return self._arrays["positions"][:num_tokens]

    def rows(self, num_rows: int) -> torch.Tensor:
        """int64 [rows], the indices of the tokens whose logits are sampled."""
        return self._arrays["rows"][:num_rows]

    def context_lens(self, num_sequences: int) -> torch.Tensor:
        """int32 [sequences]"""
        return self._arrays["context_lens"][:num_sequences]

    def query_starts(self, num_sequences: int) -> torch.Tensor:
        """int32 [sequences + 1]"""
        return self._arrays["query_starts"][: num_sequences + 1]

    def block_tables(self, num_sequences: int) -> torch.Tensor:
        """int32 [sequences, blocks]"""
        tables = self._arrays["block_tables"][: num_sequences * self.size.blocks]
        return tables.view(num_sequences, self.size.blocks)

    def metadata(
        self, num_tokens: int, num_sequences: int, plans: Mapping[int, ops.AttentionPlan]
    ) -> AttentionMetadata:
        return AttentionMetadata(
            self._arrays["slots"][:num_tokens],
            self.block_tables(num_sequences),
            self.context_lens(num_sequences),
            self.query_starts(num_sequences),
            plans,
        )

    def sampling(self, step: StepInput, num_rows: int, num_changes: int) -> SamplingTensors:
        """The sampling parameters that `step` uses, for `num_rows` rows and `num_changes` logit
        changes."""

        def array(name: str, wanted: bool) -> Optional[torch.Tensor]:
            return self._arrays[name][:num_rows] if wanted else None

        changes = None
        if num_changes:
            names = ("rows", "tokens", "amounts", "after")
            changes = LogitChanges(
                *[self._arrays[f"change_{name}"][:num_changes] for name in names]
            )
        return SamplingTensors(
            temperatures=array("temperatures", step.uses_temperatures),
            top_k=array("top_k", step.uses_top_k),
            top_p=array("top_p", step.uses_top_p),
            min_p=array("min_p", step.uses_min_p),
            seeds=array("seeds", step.uses_temperatures),
            draws=array("draws", step.uses_temperatures),
            penalties=self._penalties(step, num_rows) if step.uses_penalties else None,
            changes=changes,
        )

    def _penalties(self, step: StepInput, num_rows: int) -> Penalties:
        arrays, fresh = self._arrays, None
        if step.num_fresh:
            num_counted = step.fresh_starts[step.num_fresh]
            fresh = FreshCounters(
                arrays["fresh_counters"][: step.num_fresh],
                arrays["fresh_starts"][: step.num_fresh + 1],
                arrays["fresh_tokens"][:num_counted],
                arrays["fresh_counts"][:num_counted],
            )
        names = ("counters", "counts", "repetition", "presence", "frequency")
        return Penalties(fresh, *[arrays[name][:num_rows] for name in names])
