"""Serves several requests of one event loop; one is left before its end, which cancels it.

python examples/async_engine.py MODEL
"""

import asyncio
import sys

from vllm import AsyncLLMEngine, EngineArgs, SamplingParams


async def read_all(engine: AsyncLLMEngine, prompt: str) -> str:
    params = SamplingParams(temperature=0, max_tokens=16)
    text = ""
    async for output in engine.generate(prompt, params):
        text = output.outputs[0].text  # all of it so far
    return text


async def read_some(engine: AsyncLLMEngine, prompt: str, num_tokens: int) -> int:
    """Leaves the iteration early: the request's memory is free before the next step."""
    params = SamplingParams(temperature=0, max_tokens=100, ignore_eos=True)
    outputs = engine.generate(prompt, params)
    async for output in outputs:
        if len(output.outputs[0].token_ids) >= num_tokens:
            break
    await outputs.aclose()
    return len(output.outputs[0].token_ids)


async def main(model: str) -> None:
    async with AsyncLLMEngine(EngineArgs(model)) as engine:
        prompts = ["The cat", "The dog", "The mat"]
        *texts, count = await asyncio.gather(
            *(read_all(engine, prompt) for prompt in prompts), read_some(engine, "And so", 5)
        )
    for prompt, text in zip(prompts, texts):
        print(f"{prompt!r} -> {text!r}")
    print(f"left after {count} tokens")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
