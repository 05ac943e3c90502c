"""``vllm bench serve``: benchmarks a server under load, with vLLM's options and report."""

from __future__ import annotations

import argparse
import asyncio
import datetime
import json
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, List, Sequence

from vllm.entrypoints.bench import serve_options
from vllm.entrypoints.bench.arrivals import arrivals
from vllm.entrypoints.bench.client import Endpoint, Result
from vllm.entrypoints.bench.datasets import SampleRequest, make_samples
from vllm.entrypoints.bench.figures import report, summarize

if TYPE_CHECKING:
    import httpx

HELP = "benchmark a server under load: throughput and latencies"

# Seconds between attempts to reach a server that is still starting.
_RETRY = 1.0


def configure(parser: argparse.ArgumentParser) -> None:
    serve_options.add_options(parser)
    parser.set_defaults(bench=run)


def run(args: argparse.Namespace) -> int:
    metrics, percentiles, goodput = serve_options.check(args)
    httpx = _import_httpx()
    _say(f"connecting to {serve_options.base_url(args)}")
    results, seconds, about = asyncio.run(_measure(args, httpx))
    figures = summarize(results, seconds, percentiles=percentiles, goodput=goodput)
    shown: Dict[str, Any] = dict(figures)
    if args.max_concurrency is not None:
        shown["max_concurrency"] = args.max_concurrency
    if args.request_rate != float("inf"):
        shown["request_rate"] = args.request_rate
    failures = sorted({result.error for result in results if result.error is not None})
    for failure in failures[:10]:
        _say(f"a request failed: {failure}")
    print(report(shown, metrics))
    if args.save_result or args.append_result:
        _save(args, {**about, **figures}, results)
    return 1 if failures else 0


async def _measure(args: argparse.Namespace, httpx: Any) -> Any:
    """The results, the duration in seconds, and a description of the run."""
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
    headers = dict(serve_options.pair("--header", each, "=") for each in args.header)
    if "OPENAI_API_KEY" in os.environ:
        headers.setdefault("Authorization", f"Bearer {os.environ['OPENAI_API_KEY']}")
    base = serve_options.base_url(args)
    async with httpx.AsyncClient(
        base_url=base, headers=headers, limits=limits, timeout=None
    ) as client:
        card = await _model(client, httpx, args)
        samples = _samples(args, card)
        path = args.endpoint or serve_options.PATHS[args.backend]
        is_chat = args.backend == "openai-chat"
        endpoint = Endpoint(
            client,
            path,
            is_chat=is_chat,
            fields=serve_options.fields(args, card["id"]),
            id_prefix=args.request_id_prefix,
        )
        await _try(endpoint, samples[0], args.num_warmups)
        started = time.perf_counter()
        results = await send(endpoint, samples, args)
        seconds = time.perf_counter() - started
    about = {
        "date": datetime.datetime.now().strftime("%Y%m%d-%H%M%S"),
        "backend": args.backend,
        "label": args.label or args.backend,
        "model_id": card["id"],
        "num_prompts": len(samples),
        "request_rate": "inf" if args.request_rate == float("inf") else args.request_rate,
        "burstiness": args.burstiness,
        **{
            name: value
            for name, value in vars(args).items()
            if name.startswith("ramp_up") and value
        },
        "max_concurrency": args.max_concurrency,
        **dict(serve_options.pair("--metadata", each, "=") for each in args.metadata),
    }
    return results, seconds, about


async def send(
    endpoint: Endpoint, samples: Sequence[SampleRequest], args: argparse.Namespace
) -> List[Result]:
    """Sends each request at its time, and waits for all answers."""
    from tqdm import tqdm

    room = asyncio.Semaphore(args.max_concurrency or len(samples))
    is_hidden = args.disable_tqdm or not sys.stderr.isatty()
    with tqdm(total=len(samples), unit="request", disable=is_hidden) as progress:

        async def ask(sample: SampleRequest) -> Result:
            async with room:
                result = await endpoint.ask(sample)
            progress.update()
            return result

        started = time.perf_counter()
        asking = []
        for sample, due in zip(samples, arrivals(args, len(samples))):
            left = started + due - time.perf_counter()
            if left > 0:
                await asyncio.sleep(left)
            asking.append(asyncio.ensure_future(ask(sample)))
        return list(await asyncio.gather(*asking))


async def _model(client: httpx.AsyncClient, httpx: Any, args: argparse.Namespace) -> Dict[str, Any]:
    """The model's entry in /v1/models, once the server is ready. Raises ValueError."""
    deadline = time.monotonic() + args.ready_check_timeout_sec
    while True:
        try:
            answer = await client.get("/v1/models")
            break
        except httpx.TransportError as error:
            if time.monotonic() > deadline:
                raise ValueError(f"{client.base_url} cannot be reached: {error}") from error
            await asyncio.sleep(_RETRY)
    if answer.status_code != 200:
        raise ValueError(f"{client.base_url} answered {answer.status_code}: {answer.text[:500]}")
    cards: List[Dict[str, Any]] = answer.json()["data"]
    found = [card for card in cards if args.model in (None, card["id"])]
    if not found:
        raise ValueError(
            f"--model: {args.model!r} is not served at {client.base_url}; "
            f"{', '.join(card['id'] for card in cards)} is"
        )
    return found[0]


def _samples(args: argparse.Namespace, card: Dict[str, Any]) -> List[SampleRequest]:
    from vllm.models.hub import find_folder
    from vllm.text.tokenizer import Tokenizer

    named = args.tokenizer or card.get("root") or card["id"]
    tokenizer = Tokenizer(find_folder(named, weights=False))
    return make_samples(args, tokenizer, as_text=args.backend == "openai-chat")


async def _try(endpoint: Endpoint, sample: SampleRequest, num_warmups: int) -> None:
    """Sends a test request, then those for warm-up. Raises ValueError if one fails."""
    results = [await endpoint.ask(sample)]
    results += await asyncio.gather(*(endpoint.ask(sample) for _ in range(num_warmups)))
    for result in results:
        if result.error is not None:
            raise ValueError(f"a request before the benchmark failed: {result.error}")


def _save(args: argparse.Namespace, found: Dict[str, Any], results: Sequence[Result]) -> None:
    if args.save_detailed:
        found["input_lens"] = [result.prompt_len for result in results]
        found["output_lens"] = [result.output_len for result in results]
        found["ttfts"] = [result.first for result in results]
        found["itls"] = [result.between for result in results]
        found["generated_texts"] = [result.text for result in results]
        found["errors"] = [result.error or "" for result in results]
    name = args.result_filename or f"{found['label']}-{found['date']}.json"
    args.result_dir.mkdir(parents=True, exist_ok=True)
    path: Path = args.result_dir / name
    text = json.dumps(found) + "\n"
    with path.open("a" if args.append_result else "w", encoding="utf-8") as file:
        file.write(text)
    _say(f"wrote {path}")


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _import_httpx() -> Any:
    try:
        import httpx
    except ImportError:
        raise ImportError(
            "bench serve needs httpx, which this Python does not have: pip install 'vllm[bench]'"
        ) from None
    return httpx
