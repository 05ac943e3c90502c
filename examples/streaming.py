"""Prints a text as it comes, and how fast it came.

python examples/streaming.py MODEL
"""

import sys

from vllm import LLM, SamplingParams
from vllm.sampling_params import RequestOutputKind


def main(model: str) -> None:
    llm = LLM(model)
    # DELTA: each output holds what is new.
    params = SamplingParams(max_tokens=48, temperature=0, output_kind=RequestOutputKind.DELTA)
    num_tokens = 0
    for output in llm.stream("Continuous batching", params):
        print(output.outputs[0].text, end="", flush=True)
        num_tokens += len(output.outputs[0].token_ids)
    times = output.metrics
    first = times.first_token_time - times.arrival_time
    whole = times.finished_time - times.arrival_time
    print(f"\n{num_tokens} tokens in {whole:.2f} s, the first after {first:.2f} s")


if __name__ == "__main__":
    main(sys.argv[1])
