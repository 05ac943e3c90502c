"""Finds the commit since which a model continues a prompt in another way.

BASE=https://vllm-wheels.s3.us-west-2.amazonaws.com
python examples/nightly_bisect.py GOOD_COMMIT BAD_COMMIT MODEL 'The capital of France is' ' Paris'

Published wheels of the commits between are tried, each in an environment of its own that sees this
one's packages: nothing is compiled, and what is installed here stays. In `judge`, ask for what
broke for you.
"""

import os
import subprocess
import sys
from pathlib import Path

BASE = os.environ.get("BASE", "https://vllm-wheels.s3.us-west-2.amazonaws.com")
GOOD, BAD = 0, 1  # a status of 125 would say that this commit cannot be judged


def judge(model: str, prompt: str, expected: str) -> int:
    """What the vllm of this environment makes of the prompt."""
    from vllm import LLM, SamplingParams

    params = SamplingParams(temperature=0, max_tokens=16)
    (output,) = LLM(model).generate(prompt, params)
    text = output.outputs[0].text
    print(f"{os.environ['VLLM_BISECT_COMMIT'][:12]} continues with {text!r}", flush=True)
    return GOOD if text.startswith(expected) else BAD


def search(good: str, bad: str, *case: str) -> int:
    """Runs the script that was published with the bad commit, and lets it run this file."""
    script = ["uv", "run", "--quiet", f"{BASE}/{bad}/bisect.py", "--python", sys.executable]
    command = ["python", str(Path(__file__).resolve()), "--judge", *case]
    return subprocess.call([*script, "--good", good, "--bad", bad, "--", *command])


if __name__ == "__main__":
    words = sys.argv[1:]
    sys.exit(judge(*words[1:]) if words[0] == "--judge" else search(*words))
