"""Holds answers to a JSON schema, to a regular expression and to a choice.

pip install 'vllm[structured-outputs]'
python examples/structured_output.py MODEL
"""

import json
import sys

from vllm import LLM, SamplingParams
from vllm.sampling_params import StructuredOutputsParams

SCHEMA = {
    "type": "object",
    "properties": {"name": {"enum": ["Ada", "Alan"]}, "born": {"enum": [1815, 1912]}},
    "required": ["name", "born"],
    "additionalProperties": False,
}
# A model would put space where JSON allows it; here it may not, so that an answer ends soon.
NO_SPACE = [" ", "\n", "\t", "\r"]


def main(model: str) -> None:
    llm = LLM(model)
    for wanted in (
        StructuredOutputsParams(json=SCHEMA),
        StructuredOutputsParams(regex="[0-9]{4}-[0-9]{2}-[0-9]{2}"),
        StructuredOutputsParams(choice=["yes", "no"]),
    ):
        params = SamplingParams(
            temperature=0, max_tokens=100, structured_outputs=wanted, bad_words=NO_SPACE
        )
        text = llm.generate("Who wrote the first program?", params)[0].outputs[0].text
        print(json.loads(text) if wanted.json else text)


if __name__ == "__main__":
    main(sys.argv[1])
