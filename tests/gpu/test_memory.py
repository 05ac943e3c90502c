"""The KV cache uses the memory that steps leave free, and steps of all sizes have enough."""

from __future__ import annotations

import random

import pytest

torch = pytest.importorskip("torch")

from tests.gpu.random_checkpoint import write_checkpoint  # noqa: E402
from vllm import LLM, SamplingParams  # noqa: E402

MAX_LEN = 4096
CONFIG = {  # large logits, and so much cache for each token that it would take all there is
    "architectures": ["Qwen3ForCausalLM"],
    "model_type": "qwen3",
    "hidden_act": "silu",
    "vocab_size": 151936,
    "hidden_size": 512,
    "intermediate_size": 2048,
    "num_hidden_layers": 24,
    "num_attention_heads": 32,
    "num_key_value_heads": 32,
    "head_dim": 128,
    "max_position_embeddings": MAX_LEN,
    "rms_norm_eps": 1e-6,
    "rope_theta": 1e6,
    "tie_word_embeddings": True,
    "torch_dtype": "bfloat16",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_checkpoint(tmp_path_factory.mktemp("model"), CONFIG, 0.02)


def requests(rng, count):
    """Prompts from a token to the longest, and everything that takes memory in sampling."""
    for _ in range(count):
        length = rng.choice([1, 7, 100, 500, 1500, MAX_LEN - 1])
        prompt = [rng.randrange(CONFIG["vocab_size"]) for _ in range(length)]
        yield (
            prompt,
            SamplingParams(
                temperature=rng.choice([0.0, 0.8]),
                top_p=rng.choice([1.0, 0.9]),
                repetition_penalty=rng.choice([1.0, 1.2]),
                logprobs=rng.choice([None, None, 20]),
                prompt_logprobs=rng.choice([None, None, None, 5]),
                max_tokens=min(rng.choice([1, 5, 40]), MAX_LEN - length),
                ignore_eos=True,
                seed=0,
            ),
        )


@pytest.mark.parametrize("enforce_eager", [False, True])
def test_steps_of_all_sizes_find_the_memory_they_need(folder, enforce_eager):
    utilization = 0.9
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    llm = LLM(
        folder,
        skip_tokenizer_init=True,
        gpu_memory_utilization=utilization,
        max_num_seqs=200,
        enforce_eager=enforce_eager,
    )
    free, total = torch.cuda.mem_get_info()
    outside = total - free - torch.cuda.memory_reserved()  # the context, kernels, other processes
    torch.cuda.set_per_process_memory_fraction(utilization - outside / total)
    try:
        rng = random.Random(0)
        for count in (1, 200, 30, 600, 3):
            prompts, params = zip(*requests(rng, count))
            outputs = llm.generate(list(prompts), list(params))
            assert [len(o.outputs[0].token_ids) for o in outputs] == [p.max_tokens for p in params]
        assert torch.cuda.memory_stats()["num_alloc_retries"] == 0
        used = torch.cuda.max_memory_reserved() + outside
        print(f"at most {used / total:.3f} of the memory was used, {utilization} were allowed")
        assert used <= utilization * total
        blocks = llm.engine.executor.num_blocks
        if blocks < 200 * MAX_LEN // llm.engine.args.block_size:  # memory, not use, limited it
            assert used >= (utilization - 0.03) * total
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
