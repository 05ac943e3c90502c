"""How often a trained model says something that its grammar does not allow.

    python -m tests.models.smollm2 FOLDER
    python -m benchmarks.grammar_refusals FOLDER

A chat model is asked for a JSON object of a schema, and its outputs, sampled greedily, are
constrained to that schema. A token that is not the model's most likely one has been refused: had
the row been sampled without its mask, it would have to be sampled again. Counts; written to
grammar_refusals.json in this folder.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from benchmarks import cpu_machine
from benchmarks.structured_outputs import ITEM
from vllm import LLM, SamplingParams

SUBJECTS = (
    "a doctor from Lisbon",
    "a young painter",
    "a retired pilot",
    "a student of chemistry",
    "a cook in Naples",
    "a violinist",
    "a farmer in Kenya",
    "a chess player",
)
ASKED = (
    "Describe {} as a JSON object with the keys name (a string), age (an integer), tags (a list of "
    "red, green or blue) and score (a number). Answer with the JSON object only."
)
FIRST = 3  # tokens in which a model finds its way


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("model", type=Path)
    args = parser.parse_args()
    machine = cpu_machine.describe()
    llm = LLM(str(args.model), max_model_len=512, max_num_seqs=len(SUBJECTS), num_kv_blocks=400)
    params = SamplingParams(
        temperature=0, max_tokens=64, logprobs=1, structured_outputs={"json": ITEM}
    )
    messages = [[{"role": "user", "content": ASKED.format(subject)}] for subject in SUBJECTS]
    tokens = refused = late = 0
    for output in llm.chat(messages, params):
        said = output.outputs[0]
        assert said.logprobs is not None
        for place, (token, entry) in enumerate(zip(said.token_ids, said.logprobs)):
            tokens += 1
            if entry[token].rank > 1:
                refused += 1
                late += place >= FIRST
    record = {
        **machine,
        "model": "SmolLM2-135M-Instruct",
        "outputs": len(SUBJECTS),
        "tokens": tokens,
        "refused": refused,
        f"of these behind the first {FIRST} of an output": late,
    }
    text = json.dumps(record, indent=1, ensure_ascii=False)
    print(text)
    Path(__file__).with_suffix(".json").write_text(text + "\n")


if __name__ == "__main__":
    main()
