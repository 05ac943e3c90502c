"""Arguments of an engine. This module does not import torch."""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass
from typing import Any, Optional

from vllm.config import DTYPES
from vllm.foreign import ENGINE, takes_foreign
from vllm.numbers import as_integer, as_real

SCHEDULING_POLICIES = ("fcfs", "priority")
# Other names of `config.DTYPES`.
_DTYPE_NAMES = {"half": "float16", "float": "float32"}
BACKENDS = ("mp", "ray", "uni")


@takes_foreign(ENGINE)
@dataclass(frozen=True)
class EngineArgs:
    """A model, and how to run it. Raises ValueError naming the field and its range.

    None selects a field's default. vLLM's other arguments are accepted with values that need no
    missing feature (`vllm.foreign`).

    model: a folder in Hugging Face's layout, or a hub id (`organisation/name`), with `revision`.
    tokenizer: a folder or hub id of a tokenizer that replaces the model's own.
    skip_tokenizer_init: load no tokenizer; prompts and outputs are token ids.
    dtype: a name, or torch's dtype; "auto" is the one in the model's config.json.
    device: "auto" is "cuda" if torch finds a CUDA device, else "cpu".
    max_model_len: maximum number of tokens of prompt and output together; None is the model's
        own limit, or what the KV cache can hold if that is less.
    max_num_seqs: maximum number of running sequences; further ones wait.
    max_num_batched_tokens: maximum number of tokens of a step. A higher one computes prompts
        faster; with a lower one, decoding sequences wait less for the prompts of others. None is
        2048 to 8192, by model and device and whether sequences decode in the step, or more if
        `max_num_seqs` or, without chunked prefill, `max_model_len` is larger.
    block_size: tokens per KV block.
    kv_cache_memory_bytes: size of the KV cache in each rank; None is what
        `gpu_memory_utilization` leaves.
    num_kv_blocks: size of the KV cache in blocks; overrides `kv_cache_memory_bytes`.
    gpu_memory_utilization: on CUDA, the fraction of the device's memory that this engine may
        use; on the CPU, the fraction of the memory free at the start that the KV cache may use.
    enable_prefix_caching: let prompts with a common prefix share its KV blocks.
    enable_chunked_prefill: split long prompts over several steps, batched with decoding sequences.
    scheduling_policy: "fcfs" serves requests in the order of their arrival, "priority" those of the
        lowest `priority` first.
    async_scheduling: prepare and launch the next step while one is computed; None enables it on
        CUDA, where the device computes asynchronously. Tokens are the same.
    enforce_eager: on CUDA, launch each kernel separately instead of replaying CUDA graphs of decode
        steps. Tokens are the same.
    seed: the seed from which requests without one derive theirs.
    tensor_parallel_size: number of ranks, each a process, that the model is divided among.
    distributed_executor_backend: who starts the ranks: "mp", the default, is this process, or
        torchrun if it started this process; "ray" is a Ray cluster (`pip install vllm[ray]`).
        "uni" means "mp".
    """

    model: str
    tokenizer: Optional[str] = None
    revision: Optional[str] = None
    skip_tokenizer_init: bool = False
    dtype: str = "auto"
    device: str = "auto"
    max_model_len: Optional[int] = None
    max_num_seqs: int = 256
    max_num_batched_tokens: Optional[int] = None
    block_size: int = 16
    kv_cache_memory_bytes: Optional[int] = None
    num_kv_blocks: Optional[int] = None
    gpu_memory_utilization: float = 0.9
    enable_prefix_caching: bool = True
    enable_chunked_prefill: bool = True
    scheduling_policy: str = "fcfs"
    async_scheduling: Optional[bool] = None
    enforce_eager: bool = False
    seed: int = 0
    tensor_parallel_size: int = 1
    distributed_executor_backend: str = "mp"

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            if getattr(self, field.name) is None and field.default is not dataclasses.MISSING:
                object.__setattr__(self, field.name, field.default)
        for name in ("model", "tokenizer"):
            self._check_path(name)
        for name in ("max_num_seqs", "block_size", "tensor_parallel_size"):
            self._check_positive(name)
        for name in (
            "max_model_len",
            "max_num_batched_tokens",
            "kv_cache_memory_bytes",
            "num_kv_blocks",
        ):
            if getattr(self, name) is not None:
                self._check_positive(name)
        for name in (
            "skip_tokenizer_init",
            "enable_prefix_caching",
            "enable_chunked_prefill",
            "enforce_eager",
        ):
            if not isinstance(getattr(self, name), bool):
                raise self._wrong(name, "True or False")
        if self.scheduling_policy not in SCHEDULING_POLICIES:
            raise self._wrong("scheduling_policy", f"one of {', '.join(SCHEDULING_POLICIES)}")
        if not isinstance(self.async_scheduling, (bool, type(None))):
            raise self._wrong("async_scheduling", "True, False or None")
        seed = as_integer(self.seed)
        if seed is None:
            raise self._wrong("seed", "an integer")
        object.__setattr__(self, "seed", seed)
        fraction = as_real(self.gpu_memory_utilization)
        if fraction is None or not 0 < fraction <= 1:
            raise self._wrong("gpu_memory_utilization", "a number in (0, 1]")
        object.__setattr__(self, "gpu_memory_utilization", fraction)
        dtype = str(self.dtype).replace("torch.", "")
        object.__setattr__(self, "dtype", _DTYPE_NAMES.get(dtype, dtype))
        if self.dtype not in ("auto", *DTYPES):
            raise self._wrong("dtype", f"one of auto, {', '.join(DTYPES)}")
        if self.distributed_executor_backend not in BACKENDS:
            raise self._wrong("distributed_executor_backend", f"one of {', '.join(BACKENDS)}")
        if self.distributed_executor_backend == "uni":
            object.__setattr__(self, "distributed_executor_backend", "mp")
        budget = self.max_num_batched_tokens
        if budget is not None and budget < self.max_num_seqs:
            raise ValueError(
                f"max_num_batched_tokens must be at least max_num_seqs ({self.max_num_seqs}), "
                f"got {budget}: every running sequence computes a token in each step"
            )

    def token_budget(self, max_model_len: int, advised: int = 2048) -> int:
        """`max_num_batched_tokens`, or its default. Raises ValueError if no prompt could run.

        advised: the recommended value for the model and the device.
        """
        if self.max_num_batched_tokens is None:
            needed = 0 if self.enable_chunked_prefill else max_model_len
            return max(advised, self.max_num_seqs, needed)
        if not self.enable_chunked_prefill and self.max_num_batched_tokens < max_model_len:
            raise ValueError(
                f"max_num_batched_tokens must be at least max_model_len ({max_model_len}) without "
                f"chunked prefill, got {self.max_num_batched_tokens}"
            )
        return self.max_num_batched_tokens

    def _check_path(self, name: str) -> None:
        """Also accepts a `pathlib.Path`, which becomes text."""
        value: Any = getattr(self, name)
        if isinstance(value, os.PathLike):
            object.__setattr__(self, name, os.fspath(value))
        elif not (isinstance(value, str) and value) and (value is not None or name == "model"):
            raise self._wrong(name, "a folder or a hub id (organisation/name)")

    def _check_positive(self, name: str) -> None:
        value = as_integer(getattr(self, name))
        if value is None or value < 1:
            raise self._wrong(name, "an integer, at least 1")
        object.__setattr__(self, name, value)

    def _wrong(self, name: str, expected: str) -> ValueError:
        return ValueError(f"{name} must be {expected}, got {getattr(self, name)!r}")


class AsyncEngineArgs(EngineArgs):
    """The same: vLLM's name for the arguments of an `AsyncLLMEngine`."""
