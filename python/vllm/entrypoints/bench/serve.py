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

from vllm.entrypoints.bench.arrivals import add_arrival_options, arrivals, check_arrivals
from vllm.entrypoints.bench.client import Endpoint, Result
from vllm.entrypoints.bench.datasets import (
    SampleRequest,
    add_dataset_options,
    check_dataset,
    make_samples,
)
from vllm.entrypoints.bench.figures import METRICS, report, summarize
from vllm.entrypoints.bench.foreign import SERVE
from vllm.entrypoints.foreign_options import add_foreign_options, check_foreign

if TYPE_CHECKING:
    import httpx

HELP = "benchmark a server under load: throughput and latencies"

_PATHS = {
    "vllm": "/v1/completions",
    "openai": "/v1/completions",
    "openai-chat": "/v1/chat/completions",
}
_PENALTIES = ("repetition", "presence", "frequency")
# Seconds between attempts to reach a server that is still starting.
_RETRY = 1.0


def configure(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("server")
    group.add_argument(
        "--backend",
        "--endpoint-type",
        choices=sorted(_PATHS),
        default="vllm",
        help="API of the requests: completions (vllm, openai), or chat completions (openai-chat)",
    )
    group.add_argument("--base-url", metavar="URL", help="base URL, instead of host and port")
    group.add_argument("--host", default="127.0.0.1", help="the server's address (127.0.0.1)")
    group.add_argument("--port", type=int, default=8000, help="the server's port (8000)")
    group.add_argument("--endpoint", metavar="PATH", help="path of requests (the backend's)")
    group.add_argument(
        "--header",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a header of each request; may be given several times",
    )
    group.add_argument("--model", help="the model's name (the first that the server lists)")
    group.add_argument("--served-model-name", metavar="NAME", help="the same as --model")
    group.add_argument(
        "--tokenizer", help="folder or hub id (the model's, as reported by the server)"
    )
    group.add_argument(
        "--ready-check-timeout-sec",
        type=int,
        default=600,
        metavar="SECONDS",
        help="how long to wait for the server (600)",
    )
    group = parser.add_argument_group("load")
    add_arrival_options(group)
    group.add_argument("--max-concurrency", type=int, help="maximum number of concurrent requests")
    group.add_argument(
        "--request-id-prefix",
        metavar="TEXT",
        help="prefix of each X-Request-Id (not sent)",
    )
    group.add_argument(
        "--num-warmups", type=int, default=0, help="requests before, for warm-up (0)"
    )
    add_dataset_options(parser)
    group = parser.add_argument_group("answers")
    group.add_argument("--ignore-eos", action="store_true", help="generate up to the full length")
    for name in (*("temperature", "top-p", "min-p"), *(f"{kind}-penalty" for kind in _PENALTIES)):
        group.add_argument(
            f"--{name}", type=float, help="sampling parameter (the server's default)"
        )
    group.add_argument("--top-k", type=int, help="sampling parameter (the server's default)")
    group.add_argument("--logprobs", type=int, help="log-probabilities per token (none)")
    group.add_argument(
        "--extra-body",
        type=json.loads,
        default={},
        metavar="JSON",
        help="other fields of each request, as an object",
    )
    group = parser.add_argument_group("figures")
    group.add_argument(
        "--percentile-metrics",
        default="ttft,tpot,itl",
        metavar="NAMES",
        help="metrics to report: of ttft, tpot, itl and e2el (ttft,tpot,itl)",
    )
    group.add_argument(
        "--metric-percentiles",
        default="99",
        metavar="NUMBERS",
        help="percentiles to report, separated by commas (99)",
    )
    group.add_argument(
        "--goodput",
        nargs="+",
        default=[],
        metavar="NAME:MS",
        help="milliseconds of ttft, tpot or e2el within which a request counts as good",
    )
    group.add_argument("--label", help="label of this run in its result (the backend)")
    group.add_argument("--save-result", action="store_true", help="write the metrics to a file")
    group.add_argument(
        "--save-detailed", action="store_true", help="also write those of each request"
    )
    group.add_argument("--append-result", action="store_true", help="append to an existing file")
    group.add_argument(
        "--result-dir", type=Path, default=Path(), help="folder of that file (the current one)"
    )
    group.add_argument("--result-filename", metavar="NAME", help="its name (derived from the run)")
    group.add_argument(
        "--metadata",
        nargs="*",
        default=[],
        metavar="NAME=VALUE",
        help="further fields of the result",
    )
    group.add_argument("--disable-tqdm", action="store_true", help="show no progress")
    add_foreign_options(parser, SERVE)
    parser.set_defaults(bench=run)


def run(args: argparse.Namespace) -> int:
    check_foreign(args, "vllm bench serve", SERVE)
    metrics, percentiles, goodput = _check(args)
    httpx = _import_httpx()
    _say(f"connecting to {_base_url(args)}")
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
    headers = dict(_pair("--header", each, "=") for each in args.header)
    if "OPENAI_API_KEY" in os.environ:
        headers.setdefault("Authorization", f"Bearer {os.environ['OPENAI_API_KEY']}")
    base = _base_url(args)
    async with httpx.AsyncClient(
        base_url=base, headers=headers, limits=limits, timeout=None
    ) as client:
        card = await _model(client, httpx, args)
        samples = _samples(args, card)
        path = args.endpoint or _PATHS[args.backend]
        is_chat = args.backend == "openai-chat"
        endpoint = Endpoint(
            client,
            path,
            is_chat=is_chat,
            fields=_fields(args, card["id"]),
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
        **dict(_pair("--metadata", each, "=") for each in args.metadata),
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


def _fields(args: argparse.Namespace, model: str) -> Dict[str, Any]:
    penalties = (f"{kind}_penalty" for kind in _PENALTIES)
    names = ("temperature", "top_p", "min_p", "top_k", "logprobs", *penalties)
    given = {name: getattr(args, name) for name in names if getattr(args, name) is not None}
    if args.backend == "openai-chat" and "logprobs" in given:
        given.update(top_logprobs=given["logprobs"], logprobs=True)
    if args.ignore_eos:
        given["ignore_eos"] = True
    return {"model": model, **given, **args.extra_body}


def _check(args: argparse.Namespace) -> Any:
    """Metrics to show, percentiles and bounds. Raises ValueError."""
    check_dataset(args)
    if args.max_concurrency is not None and args.max_concurrency <= 0:
        raise ValueError(f"--max-concurrency must be above 0, got {args.max_concurrency}")
    check_arrivals(args)
    if args.served_model_name is not None:
        if args.model not in (None, args.served_model_name):
            raise ValueError("--served-model-name and --model are the same: use only one of them")
        args.model = args.served_model_name
    metrics = args.percentile_metrics.split(",")
    bounds = dict(_pair("--goodput", each, ":") for each in args.goodput)
    for option, names in (("--percentile-metrics", metrics), ("--goodput", bounds)):
        for name in names:
            if name not in METRICS or (option == "--goodput" and name == "itl"):
                raise ValueError(f"{option}: {name!r} is not one of {', '.join(METRICS)}")
    percentiles = [_number("--metric-percentiles", p) for p in args.metric_percentiles.split(",")]
    if not all(0 <= p <= 100 for p in percentiles):
        raise ValueError("--metric-percentiles must be in [0, 100]")
    for each in args.header + args.metadata:
        _pair("--header or --metadata", each, "=")
    return metrics, percentiles, {name: _number("--goodput", bounds[name]) for name in bounds}


def _number(option: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"{option}: {text!r} is not a number") from None


def _pair(option: str, text: str, separator: str) -> Any:
    name, found, value = text.partition(separator)
    if not name or not found:
        raise ValueError(f"{option}: {text!r} is not NAME{separator}VALUE")
    return name, value


def _base_url(args: argparse.Namespace) -> str:
    return str(args.base_url or f"http://{args.host}:{args.port}").rstrip("/")


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
