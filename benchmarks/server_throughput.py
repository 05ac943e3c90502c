"""Tokens per second through the server, beside the library's own, and what a client waits for.

    python -m benchmarks.server_throughput
    python -m benchmarks.server_throughput --model FOLDER --streams 1 16 64 256 1000

The workload is `--requests` requests, or as many as there are streams if that is more, of prompts
of 32 to 128 tokens and outputs of 32 to 128, greedy, all known beforehand. `LLM.generate` runs it,
as many sequences at a time as there are streams; then the server, in a process of its own, gets it
by that many streams. A client that only counts reads the events, since it shares the processors:
HTTP by hand, and no JSON but for the last event, which has the number of tokens.

Both run `--rounds` times in turns; compared are the medians. Without a model, one of 4 layers of
512 is made, with random weights. Writes server_throughput_NAME.json beside this file.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Dict, List, Tuple

from benchmarks import cpu_machine
from vllm import LLM, SamplingParams

Request = Tuple[List[int], int]  # prompt, tokens to generate


def make_model(folder: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, LlamaConfig

    from tests.models.support import VOCAB_SIZE, write_tokenizer

    config = LlamaConfig(
        vocab_size=VOCAB_SIZE,
        hidden_size=512,
        intermediate_size=1376,
        num_hidden_layers=4,
        num_attention_heads=8,
        num_key_value_heads=8,
        max_position_embeddings=2048,
        eos_token_id=None,
        bos_token_id=None,
    )
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config, dtype=torch.float32).save_pretrained(folder)
    write_tokenizer(folder)


def make_workload(vocab_size: int, count: int) -> List[Request]:
    generator = random.Random(0)

    def request() -> Request:
        length = generator.randint(32, 128)
        prompt = [generator.randrange(vocab_size) for _ in range(length)]
        return prompt, generator.randint(32, 128)

    return [request() for _ in range(count)]


def run_offline(folder: str, count: int, num_seqs: int) -> Tuple[List[Request], float]:
    """The workload, and its output tokens per second."""
    llm = LLM(folder, enable_prefix_caching=False, max_num_seqs=num_seqs)
    workload = make_workload(llm.engine.model_config.vocab_size, count)
    params = [SamplingParams(temperature=0, max_tokens=n, ignore_eos=True) for _, n in workload]
    llm.generate(workload[0][0], params[0])
    started = time.perf_counter()
    outputs = llm.generate([prompt for prompt, _ in workload], params)
    seconds = time.perf_counter() - started
    return workload, sum(len(output.outputs[0].token_ids) for output in outputs) / seconds


def run_served(folder: str, workload: List[Request], num_streams: int) -> Dict[str, float]:
    """Output tokens per second of the whole, and times of the streams."""
    words = ["-m", "vllm", "serve", folder, "--port", "0", "--no-enable-prefix-caching"]
    words += ["--disable-uvicorn-access-log"]
    with subprocess.Popen([sys.executable, *words], stderr=subprocess.PIPE, text=True) as server:
        assert server.stderr is not None
        try:
            ready = next(line for line in server.stderr if "ready in" in line)
            address = ready.partition("http://")[2].partition("/")[0]
            host, _, port = address.rpartition(":")
            asyncio.run(ask(host, int(port), workload[0], []))
            return asyncio.run(ask_all(host, int(port), workload, num_streams))
        finally:
            server.terminate()


async def ask_all(
    host: str, port: int, workload: List[Request], num_streams: int
) -> Dict[str, float]:
    waiting = list(reversed(workload))
    times: List[List[float]] = []

    async def stream() -> int:
        num_tokens = 0
        while waiting:
            of_events: List[float] = []
            num_tokens += await ask(host, port, waiting.pop(), of_events)
            times.append(of_events)
        return num_tokens

    started = time.perf_counter()
    counts = await asyncio.gather(*(stream() for _ in range(num_streams)))
    seconds = time.perf_counter() - started
    first = sorted(each[1] - each[0] for each in times)
    between = sorted(b - a for each in times for a, b in zip(each[1:], each[2:]))
    return {
        "output_tokens_per_second": sum(counts) / seconds,
        **{f"first_token_ms_p{p}": 1000 * first[len(first) * p // 100] for p in (50, 90, 99)},
        **{
            f"between_events_ms_p{p}": 1000 * between[len(between) * p // 100] for p in (50, 90, 99)
        },
    }


def _percentiles(name: str, seconds: List[float]) -> Dict[str, float]:
    return {f"{name}_p{p}": 1000 * seconds[len(seconds) * p // 100] for p in (50, 90, 99)}


async def ask(host: str, port: int, request: Request, times: List[float]) -> int:
    """One request: when it was sent and each event came; returns the tokens of its output."""
    prompt, count = request
    body = json.dumps(
        {
            "prompt": prompt,
            "max_tokens": count,
            "temperature": 0,
            "ignore_eos": True,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
    ).encode()
    reader, writer = await asyncio.open_connection(host, port)
    head = f"POST /v1/completions HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n"
    head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    times.append(time.perf_counter())
    writer.write(head.encode() + body)
    last = b""
    while True:
        line = await reader.readline()
        if line.startswith(b"data: {"):
            times.append(time.perf_counter())
            last = line
        elif line.startswith(b"data: [DONE]"):
            break
        elif not line:
            raise RuntimeError(f"the stream ended early, behind {last!r}")
    writer.close()
    times.pop()  # the event that has the usage
    tokens: int = json.loads(last[len(b"data: ") :])["usage"]["completion_tokens"]
    return tokens


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model", help="a model folder")
    parser.add_argument("--requests", type=int, default=64)
    parser.add_argument("--streams", type=int, nargs="+", default=[1, 16, 64])
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as made:
        folder = args.model or made
        if args.model is None:
            make_model(Path(made))
        name = Path(args.model).name if args.model else "small"
        figures: Dict[str, Any] = {**cpu_machine.describe(), "model": name, "streams": {}}
        for num_streams in args.streams:
            count = max(args.requests, num_streams)
            if num_streams == 1:
                count = max(4, count // 8)
            offline, served = [], []
            for _ in range(args.rounds):
                workload, rate = run_offline(folder, count, num_streams)
                offline.append(rate)
                served.append(run_served(folder, workload, num_streams))
            medians = {key: statistics.median(each[key] for each in served) for key in served[0]}
            figures["streams"][num_streams] = {
                "requests": count,
                "offline_tokens_per_second": statistics.median(offline),
                **medians,
            }
            print(num_streams, figures["streams"][num_streams], flush=True)
            path = Path(__file__).with_name(f"server_throughput_{name}.json")
            path.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
