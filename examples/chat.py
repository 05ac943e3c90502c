"""Answers two conversations, by the chat template that comes with the model.

python examples/chat.py MODEL
"""

import sys

from vllm import LLM, SamplingParams

CONVERSATIONS = [
    [{"role": "user", "content": "Who are you?"}],
    [
        {"role": "system", "content": "Answer in one word."},
        {"role": "user", "content": "What is the capital of France?"},
    ],
]


def main(model: str) -> None:
    llm = LLM(model)
    params = SamplingParams(temperature=0, max_tokens=32)
    for messages, output in zip(CONVERSATIONS, llm.chat(CONVERSATIONS, params)):
        print(f"{messages[-1]['content']}\n  {output.outputs[0].text}")


if __name__ == "__main__":
    main(sys.argv[1])
