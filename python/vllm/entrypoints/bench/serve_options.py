"""The options of `vllm bench serve`, with vLLM's names."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any, Dict, List, Tuple

from vllm.entrypoints.bench.arrivals import add_arrival_options, check_arrivals
from vllm.entrypoints.bench.datasets import add_dataset_options, check_dataset
from vllm.entrypoints.bench.figures import METRICS
from vllm.entrypoints.bench.foreign import SERVE
from vllm.entrypoints.foreign_options import add_foreign_options, check_foreign

PATHS = {
    "vllm": "/v1/completions",
    "openai": "/v1/completions",
    "openai-chat": "/v1/chat/completions",
}
_PENALTIES = ("repetition", "presence", "frequency")


def add_options(parser: argparse.ArgumentParser) -> None:
    _add_server(parser.add_argument_group("server"))
    _add_load(parser.add_argument_group("load"))
    add_dataset_options(parser)
    _add_answers(parser.add_argument_group("answers"))
    _add_figures(parser.add_argument_group("figures"))
    add_foreign_options(parser, SERVE)


def check(args: argparse.Namespace) -> Tuple[List[str], List[float], Dict[str, float]]:
    """Metrics to show, percentiles and bounds. Raises ValueError."""
    check_foreign(args, "vllm bench serve", SERVE)
    check_dataset(args)
    if args.max_concurrency is not None and args.max_concurrency <= 0:
        raise ValueError(f"--max-concurrency must be above 0, got {args.max_concurrency}")
    check_arrivals(args)
    if args.served_model_name is not None:
        if args.model not in (None, args.served_model_name):
            raise ValueError("--served-model-name and --model are the same: use only one of them")
        args.model = args.served_model_name
    metrics = args.percentile_metrics.split(",")
    bounds = dict(pair("--goodput", each, ":") for each in args.goodput)
    for option, names in (("--percentile-metrics", metrics), ("--goodput", bounds)):
        for name in names:
            if name not in METRICS or (option == "--goodput" and name == "itl"):
                raise ValueError(f"{option}: {name!r} is not one of {', '.join(METRICS)}")
    percentiles = [_number("--metric-percentiles", p) for p in args.metric_percentiles.split(",")]
    if not all(0 <= p <= 100 for p in percentiles):
        raise ValueError("--metric-percentiles must be in [0, 100]")
    for each in args.header + args.metadata:
        pair("--header or --metadata", each, "=")
    return metrics, percentiles, {name: _number("--goodput", bounds[name]) for name in bounds}


def fields(args: argparse.Namespace, model: str) -> Dict[str, Any]:
    """The fields of each request's body, except the prompt and its length."""
    penalties = (f"{kind}_penalty" for kind in _PENALTIES)
    names = ("temperature", "top_p", "min_p", "top_k", "logprobs", *penalties)
    given = {name: getattr(args, name) for name in names if getattr(args, name) is not None}
    if args.backend == "openai-chat" and "logprobs" in given:
        given.update(top_logprobs=given["logprobs"], logprobs=True)
    if args.ignore_eos:
        given["ignore_eos"] = True
    return {"model": model, **given, **args.extra_body}


def base_url(args: argparse.Namespace) -> str:
    return str(args.base_url or f"http://{args.host}:{args.port}").rstrip("/")


def pair(option: str, text: str, separator: str) -> Tuple[str, str]:
    """The two parts of an option's NAME=VALUE. Raises ValueError."""
    name, found, value = text.partition(separator)
    if not name or not found:
        raise ValueError(f"{option}: {text!r} is not NAME{separator}VALUE")
    return name, value


def _add_server(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--backend",
        "--endpoint-type",
        choices=sorted(PATHS),
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


def _add_load(group: argparse._ArgumentGroup) -> None:
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


def _add_answers(group: argparse._ArgumentGroup) -> None:
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


def _add_figures(group: argparse._ArgumentGroup) -> None:
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


def _number(option: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"{option}: {text!r} is not a number") from None
