"""Continues several prompts in one batch.

python examples/offline.py MODEL
"""

import sys

from vllm import LLM, SamplingParams

PROMPTS = ["The capital of France is", "A paged cache", "To be or"]


def main(model: str) -> None:
    llm = LLM(model)
    params = SamplingParams(temperature=0.8, top_p=0.95, max_tokens=24, seed=1)
    for output in llm.generate(PROMPTS, params):
        print(f"{output.prompt!r} -> {output.outputs[0].text!r}")


if __name__ == "__main__":
    main(sys.argv[1])
