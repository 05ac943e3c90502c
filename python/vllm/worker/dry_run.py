"""How much memory of a GPU steps take beside weights and cache: measured, before there is a cache.

The largest step that the engine may ask for is computed once, over a cache of a single block in
which all tokens lie on top of each other. What comes out is nobody's. It readies kernels and
libraries as well, which the first step would otherwise have to wait for.
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
from vllm.worker.graphs import MOST_GRAPHS
from vllm.worker.local import LocalExecutor
from vllm.worker.model_runner import ModelRunner

# Everything that takes memory beside the logits.
_SAMPLED = {"temperature": 0.8, "top_k": 50, "top_p": 0.9, "repetition_penalty": 1.1}
_TOLD = {"logprobs": 20}
_PROMPT = {"prompt_logprobs": 20}  # as many rows at a time as a step of 256 sequences samples

# CUDA keeps so much of each graph beside its pool (H200).
_GRAPH_BYTES = 2 << 20

# torch's allocator keeps pieces that fit nothing else when steps of many sizes follow one another:
# a quarter more than one step of the largest takes.
_PIECES = 4


def step_bytes(
    model: DecoderLM,
    args: EngineArgs,
    device: torch.device,
    dtype: torch.dtype,
    max_model_len: int,
    token_budget: int,
) -> int:
    """Bytes that steps take on a GPU at most, graphs included. All ranks have to call it.

    token_budget: tokens of a step at most.
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
        torch.cuda.synchronize(device)  # what it gave is not looked at
        return torch.cuda.max_memory_allocated(device) - idle

    count, width = args.max_num_seqs, -(-max_model_len // args.block_size)
    lengths, rest = [1] * count, token_budget - count
    for index in range(count):
        more = min(max_model_len - 1, rest)
        lengths[index], rest = 1 + more, rest - more
    told = {**_TOLD, **(_PROMPT if count < 256 else {})}
    compute(_chunks(lengths, width, {**_SAMPLED, **told}))
    needed = torch.cuda.max_memory_reserved(device) - before
    needed += needed // _PIECES
    if not args.enforce_eager:
        needed += compute(_chunks([1] * count, width, _SAMPLED)) + MOST_GRAPHS * _GRAPH_BYTES
    return needed


def _chunks(lengths: List[int], width: int, params: Mapping[str, Any]) -> List[Chunk]:
    """Sequences of so many tokens, whose blocks are all the first one; `width` of them."""
    chunks = []
    for index, length in enumerate(lengths):
        seq = Sequence(index, [0] * length, SamplingParams(**params), max_tokens=1)
        seq.block_table = array("i", [0]) * width
        seq.counter = index
        chunks.append(Chunk(seq, 0, length, 1))
    return chunks
