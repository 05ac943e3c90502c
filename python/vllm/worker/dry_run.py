"""Measures the GPU memory that steps need beside weights and KV cache, before the cache exists.

It computes the largest step that the engine can submit once, with a cache of a single KV block that
all tokens share; the results are discarded. This also loads kernels and initialises libraries,
which the first step would otherwise wait for.
"""

from __future__ import annotations

from array import array
from typing import Any, List, Mapping

import torch

from vllm.engine.describe import StepWriter
from vllm.engine.scheduler import Chunk
from vllm.engine.sequence import Sequence
from vllm.engine_args import EngineArgs
from vllm.models.decoder import DecoderLM
from vllm.sampling_params import SamplingParams
from vllm.worker import kv_cache
from vllm.worker.budget import graph_tokens
from vllm.worker.graphs import MOST_GRAPHS
from vllm.worker.local import LocalExecutor
from vllm.worker.model_runner import ModelRunner

# Sampling parameters that need the most memory beside the logits.
_SAMPLED = {"temperature": 0.8, "top_k": 50, "top_p": 0.9, "repetition_penalty": 1.1}
_LOGPROBS = {"logprobs": 20}
_PROMPT_LOGPROBS = {"prompt_logprobs": 20}  # computed for 256 rows at a time

# Memory that CUDA holds for each graph outside its pool (measured on an H200).
_GRAPH_BYTES = 2 << 20

# Steps of many sizes fragment the memory of torch's allocator: reserve 1 / 4 more than the largest
# step takes.
_FRAGMENTATION = 4


def step_bytes(
    model: DecoderLM,
    args: EngineArgs,
    device: torch.device,
    dtype: torch.dtype,
    max_model_len: int,
    token_budget: int,
) -> int:
    """The most bytes that steps take on a GPU, CUDA graphs included. All ranks must call it.

    token_budget: the most tokens of a step.
    """
    torch.cuda.empty_cache()
    before = torch.cuda.memory_reserved(device)
    caches = kv_cache.allocate(model.config, 1, args.block_size, dtype, device, model.group)
    runner = ModelRunner(model, caches, device=device, max_num_seqs=args.max_num_seqs)
    executor = LocalExecutor(runner, num_blocks=1, block_size=args.block_size)
    writer = StepWriter(executor, model.config.vocab_size)

    def compute(chunks: List[Chunk]) -> int:
        torch.cuda.reset_peak_memory_stats(device)
        idle = torch.cuda.memory_allocated(device)
        executor.submit(writer.write(chunks))
        torch.cuda.synchronize(device)  # the result is not collected
        return torch.cuda.max_memory_allocated(device) - idle

    count, width = args.max_num_seqs, -(-max_model_len // args.block_size)
    logprobs = {**_LOGPROBS, **(_PROMPT_LOGPROBS if count < 256 else {})}
    lengths = _lengths(token_budget, count, max_model_len)
    compute(_chunks(lengths, width, {**_SAMPLED, **logprobs}))
    needed = torch.cuda.max_memory_reserved(device) - before
    needed += needed // _FRAGMENTATION
    if not args.enforce_eager:
        tokens = min(token_budget, graph_tokens(model.config, device, model.group.size))
        lengths = _lengths(max(tokens, count), count, max_model_len)
        needed += compute(_chunks(lengths, width, _SAMPLED)) + MOST_GRAPHS * _GRAPH_BYTES
    return needed


def _lengths(tokens: int, count: int, longest: int) -> List[int]:
    """The lengths of `count` sequences of `tokens` tokens together."""
    lengths, rest = [1] * count, tokens - count
    for index in range(count):
        more = min(longest - 1, rest)
        lengths[index], rest = 1 + more, rest - more
    return lengths


def _chunks(lengths: List[int], width: int, params: Mapping[str, Any]) -> List[Chunk]:
    """A chunk for each length. `width` entries of each block table all point to block 0."""
    chunks = []
    for index, length in enumerate(lengths):
        seq = Sequence(index, [0] * length, SamplingParams(**params), max_tokens=1)
        seq.block_table = array("i", [0]) * width
        seq.counter = index
        chunks.append(Chunk(seq, 0, length, 1))
    return chunks
