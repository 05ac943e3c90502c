"""OpenAI's client for Node."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from tests.waiting import PATIENCE
from vllm import SamplingParams


def test_the_client_for_node(server, llm, node_package):
    command = ["node", str(Path(__file__).with_name("client.mjs")), str(node_package)]
    done = subprocess.run(
        [*command, f"{server.url}/v1"], capture_output=True, text=True, timeout=PATIENCE
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    params = SamplingParams(temperature=0, ignore_eos=True, max_tokens=8)
    answer = llm.chat([{"role": "user", "content": "the cat"}], params)[0].outputs[0].text
    call = told.pop("call")
    assert call["name"] == "turn"
    assert json.loads(call["arguments"])["side"] in ("left", "right")
    assert told == {
        "models": ["tiny"],
        "completion": llm.generate("the cat", params)[0].outputs[0].text,
        "whole": answer,
        "streamed": answer,
        "tokens": 8,
        "refused": {
            "status": 400,
            "param": "suffix",
            "code": "unsupported_parameter",
            "kind": "BadRequestError",
        },
    }
    assert not any(server.settled().values())
