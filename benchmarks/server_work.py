"""The work of the server's own process for a streamed request, without sockets and without a model.

    python -m benchmarks.server_work [--before FOLDER]

`--streams` requests come through uvicorn's protocol at once; tokens come to their readers as from
an engine's process, one for each stream at a time. For each part of a request (until it is in the
engine, its first event, each further event, its end) it counts the calls of functions, as cProfile
does, which do not depend on what else a machine does, and the processor time of the thread: the
least of `--rounds`. System calls on sockets are not included.

FOLDER has the Python files of another build (`git archive COMMIT python`), with its `_C.abi3.so`,
which is measured in turns with this one. Writes server_work.json in this folder.
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import gc
import json
import os
import pstats
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

CHAT = [
    {"role": "system", "content": "You are a helpful assistant."},
    {"role": "user", "content": "the cat sat on the mat and looked at the dog"},
]
REQUESTS: Dict[str, Tuple[str, Dict[str, Any]]] = {
    "completion": ("/v1/completions", {"prompt": list(range(300, 380))}),
    "chat": ("/v1/chat/completions", {"messages": CHAT}),
}
TEMPLATE = "{% for each in messages %}{{ each['role'] }}: {{ each['content'] }}\n{% endfor %}"
PARTS = ("to the engine", "first event", "event", "end")
FIRST_TOKEN = 300  # from here on they are words, not single bytes


class Connection(asyncio.Transport):
    """Counts what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.num_writes = 0
        self.is_closed = False

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return ("127.0.0.1", 1) if name in ("peername", "sockname") else default

    def write(self, data: Any) -> None:
        self.num_writes += 1

    def is_closing(self) -> bool:
        return self.is_closed

    def close(self) -> None:
        self.is_closed = True

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass


def message(kind: str, tokens: int) -> bytes:
    path, body = REQUESTS[kind]
    sent = {**body, "max_tokens": tokens, "temperature": 0, "ignore_eos": True, "stream": True}
    content = json.dumps(sent).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
    head += f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
    return head.encode() + content


class Meter:
    """Calls of functions, or seconds of the thread's processor time, for each part of a round."""

    def __init__(self, counts_calls: bool) -> None:
        self.counts_calls = counts_calls
        self.found: Dict[str, float] = {}

    def __call__(self, part: str) -> Meter:
        self._part = part
        return self

    def __enter__(self) -> None:
        if self.counts_calls:
            self._profile = cProfile.Profile()
            self._profile.enable()
        else:
            self._started = time.thread_time()

    def __exit__(self, *exc_info: object) -> None:
        if self.counts_calls:
            self._profile.disable()
            self.found[self._part] = float(pstats.Stats(self._profile).total_calls)  # type: ignore[attr-defined]
        else:
            self.found[self._part] = time.thread_time() - self._started


async def measure(folder: Path, kind: str, streams: int, tokens: int, rounds: int) -> Any:
    """Part → calls, and microseconds, of one request or event."""
    import uvicorn

    from benchmarks.server_front import NoModel
    from vllm import EngineArgs
    from vllm.config import GenerationDefaults, ModelConfig
    from vllm.engine.request_maker import RequestMaker
    from vllm.engine_process.messages import SequenceNews
    from vllm.engine_process.reader import RequestReader
    from vllm.entrypoints.openai.app import build_app
    from vllm.entrypoints.openai.options import ServerOptions
    from vllm.entrypoints.openai.server import uvicorn_config
    from vllm.text.template_sandbox import SANDBOX
    from vllm.text.tokenizer import Tokenizer

    readers: Dict[int, RequestReader] = {}

    class Engine(NoModel):
        def _add(self, request: Any) -> RequestReader:
            reader = RequestReader(request, lambda ids: None)
            readers.update(dict.fromkeys(reader.unfinished_ids, reader))
            return reader

    config, defaults = ModelConfig.read(folder), GenerationDefaults.read(folder)
    maker = RequestMaker(config, defaults, Tokenizer(folder), config.max_position_embeddings)
    SANDBOX.start()
    options = ServerOptions(names=["a"], access_log=False)
    engine = Engine(EngineArgs(str(folder)), maker, streams)
    served = uvicorn_config(build_app(engine, options), options)
    served.load()
    server = uvicorn.Server(served)
    content = message(kind, tokens)

    async def until_written(connections: List[Connection], before: List[int]) -> None:
        while any(each.num_writes == count for each, count in zip(connections, before)):
            await asyncio.sleep(0)
        for _ in range(3):
            await asyncio.sleep(0)

    async def run(meter: Meter) -> Dict[str, float]:
        protocols, connections = [], [Connection() for _ in range(streams)]
        with meter("to the engine"):
            for connection in connections:
                protocol: Any = served.http_protocol_class
                made = protocol(config=served, server_state=server.server_state, app_state={})
                protocols.append(made)
                made.connection_made(connection)
                made.data_received(content)
            while len(readers) < streams:
                await asyncio.sleep(0)
        now = time.monotonic()
        with meter("first event"):
            for seq_id, reader in readers.items():
                reader.take_news(SequenceNews(seq_id, [FIRST_TOKEN], times=(now, now)))
            await until_written(connections, [0] * streams)
        with meter("event"):
            for token in range(FIRST_TOKEN + 1, FIRST_TOKEN + tokens - 1):
                before = [each.num_writes for each in connections]
                for seq_id, reader in readers.items():
                    reader.take(seq_id, token)
                await until_written(connections, before)
        with meter("end"):
            for seq_id, reader in readers.items():
                news = SequenceNews(seq_id, [FIRST_TOKEN], times=(now, now), finish_reason="length")
                reader.take_news(news)
            readers.clear()
            while not all(each.is_closed for each in connections):
                await asyncio.sleep(0)
            for _ in range(5):
                await asyncio.sleep(0)
        for protocol in protocols:
            protocol.connection_lost(None)
        counts = dict.fromkeys(PARTS, streams)
        counts["event"] = streams * (tokens - 2)
        return {part: value / counts[part] for part, value in meter.found.items()}

    await run(Meter(False))
    gc.collect()
    gc.freeze()
    calls = await run(Meter(True))
    times = [await run(Meter(False)) for _ in range(rounds)]
    return {
        part: {
            "calls": round(calls[part], 1),
            "us": round(min(each[part] for each in times) * 1e6, 1),
        }
        for part in PARTS
    }


def write_folder(folder: Path) -> None:
    """A model's folder without weights."""
    from benchmarks import random_model

    config = random_model.SHAPES["small"]
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": TEMPLATE}))
    random_model.write_tokenizer(config["vocab_size"], folder)


def in_own_process(args: argparse.Namespace, folder: str, kind: str, build: Optional[Path]) -> Any:
    """`measure` by this build, or by another one."""
    words = ["--of", kind, "--folder", folder, "--streams", str(args.streams)]
    words += ["--tokens", str(args.tokens), "--rounds", str(args.rounds)]
    start = "import runpy, sys; "
    if build is not None:  # an editable installation would go before the folder
        start += "sys.meta_path[:] = [f for f in sys.meta_path if 'skbc' not in type(f).__module__]"
        start += f"; sys.path.insert(0, {str(build / 'python')!r}); "
    start += "runpy.run_module('benchmarks.server_work', None, '__main__')"
    done = subprocess.run(
        [sys.executable, "-c", start, *words], check=True, stdout=subprocess.PIPE, text=True
    )
    return json.loads(done.stdout)


def least(runs: List[Any]) -> Any:
    return {
        part: {name: min(run[part][name] for run in runs) for name in ("calls", "us")}
        for part in PARTS
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--before", type=Path, help="folder of another build")
    parser.add_argument("--before-commit", help="its commit, for the record")
    parser.add_argument("--streams", type=int, default=64)
    parser.add_argument("--tokens", type=int, default=34)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--turns", type=int, default=2)
    parser.add_argument("--of", choices=sorted(REQUESTS), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.of:
        sizes = (args.streams, args.tokens, args.rounds)
        print(json.dumps(asyncio.run(measure(args.folder, args.of, *sizes))))
        return
    from benchmarks import cpu_machine

    record: Dict[str, Any] = {**cpu_machine.describe(), "streams": args.streams}
    builds = {"now": None, **({"before": args.before} if args.before else {})}
    if args.before:
        record["before_commit"] = args.before_commit
    runs: Dict[str, Dict[str, List[Any]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        write_folder(Path(folder))
        for _ in range(args.turns):
            for name, build in builds.items():
                for kind in REQUESTS:
                    found = in_own_process(args, folder, kind, build)
                    runs.setdefault(name, {}).setdefault(kind, []).append(found)
    for name, kinds in runs.items():
        record[name] = {kind: least(found) for kind, found in kinds.items()}
        print(name, json.dumps(record[name]), flush=True)
    Path(__file__).with_suffix(".json").write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
