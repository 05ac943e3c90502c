"""CPU time per request of the server's own process, without sockets and without a model.

    python -m benchmarks.server_front

`--requests` streamed completions arrive at once, `--rounds` times: the application reads the body,
validates it, creates the request and writes events of two tokens. A fake engine returns the tokens
immediately. The figure is the CPU time of the thread per request, the median of the rounds, with
a frozen heap, as in `vllm serve`, and without. Writes server_front.json in this folder.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, List

from vllm import EngineArgs
from vllm.config import GenerationDefaults, ModelConfig
from vllm.engine.async_engine import AsyncEngine, OutputReader
from vllm.engine.llm_engine import EngineLoad
from vllm.engine.request import Request
from vllm.engine.request_maker import RequestMaker
from vllm.engine_process.heap import freeze_heap
from vllm.entrypoints.openai.app import build_app
from vllm.entrypoints.openai.options import ServerOptions
from vllm.outputs import RequestOutput
from vllm.text.tokenizer import Tokenizer


class AtOnce:
    """Two tokens of a request, as one output."""

    def __init__(self, request: Request) -> None:
        self.finished = False
        self._request = request

    async def get(self) -> RequestOutput:
        self.finished = True
        for token in (5, 6):
            self._request.seqs[0].append(token)
        output = self._request.output()
        assert output is not None
        return output


class NoModel(AsyncEngine):
    """Answers every request without computing anything."""

    load = EngineLoad(0, 0, 0.0)
    dead_error = None

    async def wait_until_dead(self) -> None:
        await asyncio.Event().wait()

    async def shutdown(self) -> None:
        pass

    def _add(self, request: Request) -> OutputReader:
        return AtOnce(request)

    def _abort(self, request_id: str) -> None:
        pass


async def ask(app: Any, body: bytes) -> None:
    """One request, as the HTTP server hands it over."""
    parts = [{"type": "http.request", "body": body, "more_body": False}]
    statuses: List[int] = []

    async def receive() -> Any:
        if not parts:
            await asyncio.Event().wait()
        return parts.pop()

    async def send(message: Any) -> None:
        if "status" in message:
            statuses.append(message["status"])

    headers = [(b"content-type", b"application/json")]
    path = "/v1/completions"
    scope = {"type": "http", "method": "POST", "path": path, "headers": headers}
    await app(
        {**scope, "http_version": "1.1", "query_string": b"", "scheme": "http"}, receive, send
    )
    assert statuses == [200]


async def measure(folder: Path, requests: int, rounds: int) -> float:
    """Microseconds of CPU time for each request."""
    config = ModelConfig.read(folder)
    defaults = GenerationDefaults.read(folder)
    maker = RequestMaker(config, defaults, Tokenizer(folder), config.max_model_len)
    engine = NoModel(EngineArgs(str(folder)), maker, requests)
    app = build_app(engine, ServerOptions(names=["tiny"], access_log=False))
    draw = random.Random(0).randrange
    bodies = [
        json.dumps(
            {"prompt": [draw(300) for _ in range(120)], "max_tokens": 2, "stream": True}
        ).encode()
        for _ in range(requests)
    ]
    await asyncio.gather(*(ask(app, body) for body in bodies))
    if "--frozen" in sys.argv:
        freeze_heap()
    found = []
    for _ in range(rounds):
        started = time.thread_time()
        await asyncio.gather(*(ask(app, body) for body in bodies))
        found.append((time.thread_time() - started) / requests * 1e6)
    gc.unfreeze()
    return statistics.median(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--frozen", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.folder is not None:
        print(asyncio.run(measure(args.folder, args.requests, args.rounds)))
        return
    figures = {"requests": args.requests, "rounds": args.rounds}
    with tempfile.TemporaryDirectory() as folder:
        made = "from tests.models.support import *; from pathlib import Path; import sys\n"
        made += "folder = Path(sys.argv[1]); write_model(folder, 'qwen3'); write_tokenizer(folder)"
        subprocess.run([sys.executable, "-c", made, folder], check=True)
        words = ["--folder", folder, "--requests", str(args.requests)]
        words += ["--rounds", str(args.rounds)]
        for name, more in (("cpu_us_unfrozen", []), ("cpu_us_frozen", ["--frozen"])):
            command = [sys.executable, "-m", "benchmarks.server_front", *words, *more]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            figures[name] = round(float(done.stdout))
    print(json.dumps(figures))
    target = Path(__file__).with_suffix(".json")
    target.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
